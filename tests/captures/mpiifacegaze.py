"""MPIIFaceGaze (Zhang et al. 2017): laptops, with a calibrated lens and an annotation per photo."""

from functools import cache

import numpy as np
from scipy.io import savemat

from captures.files import write_photo
from captures.models import MPII6_LANDMARKS
from captures.studio import Cast, photograph
from captures.truth import turn

SCREEN = {"mm": (331.0, 207.0), "pixels": (1280, 800), "left": -165.5, "below": 12.0}
"""A screen in the plane of the lens, which sits above the middle of its top edge."""

_TAKEN = {
    # person: look, and per photo: day, number, target (mm right of, below the lens, image axes),
    # head pitch, yaw, roll (degrees), face centre (mm)
    "p00": (5, [
        ("day01", 5, (90, 40), (4, -9, 3), (-20, -14, 560)),
        ("day01", 31, (-120, 150), (-7, 12, -4), (22, 8, 590)),
        ("day03", 2, (15, 90), (1, 1, 1), (6, 10, 520)),
    ]),
    "p07": (15, [
        ("day02", 88, (-60, 25), (8, -4, -6), (14, -16, 540)),
        ("day11", 140, (140, 180), (-9, -14, 5), (-25, 4, 575)),
    ]),
}  # fmt: skip
_LENS = {
    "p00": ((402.5, 404.1, 163.2, 117.1), (-0.16, 0.11, 1.2e-3, -8e-4, 0.0)),
    "p07": ((391.0, 390.2, 157.9, 122.4), (0.08, -0.12, -9e-4, 1.1e-3, 0.03)),
}


@cache
def photos():
    """Person -> list of (path below the person's folder, shot)."""
    everybody = {}
    for person, (look, rows) in _TAKEN.items():
        lens, bend = _LENS[person]
        everybody[person] = [
            (
                f"{day}/{number:04d}.jpg",
                photograph(Cast(look), (320, 240), lens, bend, turn(*head), centre, (*spot, 0.0)),
            )
            for day, number, spot, head, centre in rows
        ]
    return everybody


def _line(name, shot, eye):
    x, y = shot.target[:2] - [SCREEN["left"], SCREEN["below"]]
    width, height = SCREEN["mm"]
    # the camera looks back from the screen: image left is the user's right
    on_screen = [(width - x) / width * SCREEN["pixels"][0], y / height * SCREEN["pixels"][1]]
    numbers = np.concatenate(
        [
            np.round(on_screen),
            shot.landmarks[MPII6_LANDMARKS].ravel(),
            shot.head_pose("mpii6"),
            shot.face_centre,
            shot.target,
        ]
    )
    assert len(numbers) == 26
    return " ".join([name, *(repr(float(number)) for number in numbers), eye])


def mpiifacegaze(folder, people=None):
    """Write MPIIFaceGaze into ``folder``; returns (person, file name) -> shot, rows in order.

    Args:
        folder: a path that does not exist yet.
        people: as :func:`photos`, the default.
    """
    truth = {}
    for person, rows in (people or photos()).items():
        lines = []
        for index, (name, shot) in enumerate(rows):
            write_photo(folder / person / name, shot.pixels)
            truth[person, f"{person}/{name}"] = shot
            lines.append(_line(name, shot, ("left", "right")[index % 2]))
        (folder / person / f"{person}.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
        shot = rows[0][1]
        calibration = folder / person / "Calibration"
        calibration.mkdir()
        savemat(
            calibration / "Camera.mat",
            {"cameraMatrix": shot.camera, "distCoeffs": shot.distortion[None]},
        )
        width, height = SCREEN["pixels"]
        size = {"width_pixel": width, "height_pixel": height}
        size |= {"width_mm": SCREEN["mm"][0], "height_mm": SCREEN["mm"][1]}
        savemat(calibration / "screenSize.mat", size)
    return truth
