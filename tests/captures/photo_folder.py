"""A folder of photos with what its owner knows of them in tables, or without any."""

from functools import cache

import numpy as np

from captures.files import write_csv, write_landmark_table, write_photo
from captures.studio import Cast, photograph
from captures.truth import turn

_LENSES = (
    # size, fx, fy, cx, cy, k1, k2, p1, p2, k3
    ((320, 240), (404.0, 401.0, 164.0, 117.0), (-0.12, 0.06, 8e-4, -5e-4, 0.01)),
    ((240, 320), (338.0, 340.0, 118.0, 163.0), (0.05, -0.04, -6e-4, 3e-4, 0.0)),
)
_TAKEN = {
    # person: look, and per photo: file, lens, target (mm), head pitch, yaw, roll, face centre (mm)
    "anna": (3, [
        ("office/one.jpg", 0, (120, 60, 30), (5, -8, 4), (12, -10, 570)),
        ("two.jpeg", 1, (-100, 140, -20), (-6, 10, -3), (-8, 6, 460)),
    ]),
    "bert": (22, [("face 1.jpg", 0, (-40, -90, 0), (7, 3, -6), (-16, 12, 540))]),
}  # fmt: skip


@cache
def photos(assumed=False):
    """Person -> list of (name below the person's folder, shot).

    ``assumed``: taken by the lens that is assumed of a camera of which nothing is known, which is
    as long as the photo's longer side and does not bend.
    """
    everybody = {}
    for person, (look, rows) in _TAKEN.items():
        out = []
        for name, lens, target, head, centre in rows:
            size, parameters, bend = _LENSES[lens]
            if assumed:
                width, height = size
                focal = max(size)
                parameters, bend = (focal, focal, width / 2, height / 2), np.zeros(5)
                # a shorter lens: come nearer, so that the face stays as large
                centre = np.array(centre) * [0.8, 0.8, 0.75]
            shot = photograph(Cast(look), size, parameters, bend, turn(*head), centre, target)
            out.append((name, shot))
        everybody[person] = out
    return everybody


def photo_folder(folder, people=None, *, landmarks=True, intrinsics=True, gaze="target"):
    """Write photos into ``folder`` and tables beside it.

    Args:
        folder: a path that does not exist yet; a folder per person is made in it.
        people: as :func:`photos`, the default.
        landmarks, intrinsics: whether there are such tables.
        gaze: ``target``, ``angles`` or None for no table.

    Returns (person, file name) -> shot, and the options of the data set.
    """
    truth = {}
    for person, rows in (people or photos()).items():
        for name, shot in rows:
            write_photo(folder / person / name, shot.pixels)
            truth[person, f"{person}/{name}"] = shot
    named = [(name, shot) for (_, name), shot in truth.items()]
    options = {"source": "folder", "root": str(folder)}

    def table(kind):
        path = folder.parent / f"{folder.name}-{kind}.csv"
        options[kind] = str(path)
        return path

    if landmarks:
        write_landmark_table(table("landmarks"), truth)
    if intrinsics:
        header = ["file_name", "fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3"]
        lenses = [[name, *shot.camera_parameters, *shot.distortion] for name, shot in named]
        write_csv(table("intrinsics"), lenses, header)
    if gaze == "target":
        header = ["file_name", "target_x", "target_y", "target_z"]
        write_csv(table("gaze"), [[name, *shot.target] for name, shot in named], header)
    elif gaze == "angles":
        rows = [[name, *shot.off_the_line_of_sight()] for name, shot in named]
        write_csv(table("gaze"), rows, ["file_name", "pitch", "yaw"])
    return truth, options
