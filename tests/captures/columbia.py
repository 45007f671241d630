"""Columbia Gaze (Smith et al. 2013): a far camera, and angles in the names of the files.

The angles are between where a person looks and the line of sight, the line between face and
camera; the camera stands level.
"""

from functools import cache

import numpy as np

from captures.files import write_landmark_table, write_photo
from captures.studio import Cast, photograph
from captures.truth import frame, turn

SIZE = (360, 240)
DISTANCE = 2000.0

_TAKEN = {
    # person: look, face centre's direction (image right, down; mm at 2 m), and per photo: head P,
    # vertical V and horizontal H gaze (degrees), roll of the head
    "0001": (3, (40, -25), [(0, 0, 0, 0), (-15, 10, -5, 3), (15, -10, 15, -2)]),
    "0013": (7, (-30, 35), [(0, 10, -15, 2), (-15, -10, 10, 0), (30, 0, 10, -3)]),
}
LEFT = -1
"""Sign of H (and P) that is towards image left."""
FOCAL = 360 * 19720 / 5184
"""Pixels: the lens that is assumed where EXIF tells nothing, on these small photos."""


def name_of(person, head, vertical, horizontal):
    """The file name below the root."""
    return f"{person}/{person}_2m_{head}P_{vertical}V_{horizontal}H.jpg"


@cache
def photos(focal=FOCAL, left=LEFT):
    """Person -> list of (P, V, H, shot), taken by a lens of ``focal`` pixels.

    ``left`` is the sign of horizontal angles towards image left.
    """
    everybody = {}
    for person, (look, aside, rows) in _TAKEN.items():
        out = []
        for head, vertical, horizontal, roll in rows:
            centre = np.array([*aside, DISTANCE])
            sight = frame(centre, (1, 0, 0))
            v, h = np.radians([vertical, left * horizontal])
            # in the axes of the line of sight: left, up, back towards the camera
            gaze = np.array([-np.cos(v) * np.sin(h), -np.sin(v), -np.cos(v) * np.cos(h)])
            lens = (focal, focal, SIZE[0] / 2, SIZE[1] / 2)
            shot = photograph(
                Cast(look),
                SIZE,
                lens,
                np.zeros(5),
                sight.T @ turn(0, left * head, roll),
                centre,
                centre + DISTANCE * sight.T @ gaze,
            )
            out.append((head, vertical, horizontal, shot))
        everybody[person] = out
    return everybody


def columbia(folder, people=None, *, landmarks=None):
    """Write the layout into ``folder``; returns (person, file name) -> shot.

    Args:
        folder: a path that does not exist yet.
        people: as :func:`photos`, the default.
        landmarks: path of a CSV to write of where the photos show the points of the pose model.
    """
    truth = {}
    for person, rows in (people or photos()).items():
        for head, vertical, horizontal, shot in rows:
            name = name_of(person, head, vertical, horizontal)
            write_photo(folder / name, shot.pixels)
            truth[person, name] = shot
    if landmarks is not None:
        write_landmark_table(landmarks, truth)
    return truth
