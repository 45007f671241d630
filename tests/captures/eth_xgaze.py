"""ETH-XGaze (Zhang et al. 2020): many cameras around a person, three of them upside down.

Raw photos with their annotation and calibration, and the normalised HDF5 files of the release.
"""

from functools import cache

import cv2
import h5py
import numpy as np

from captures.files import write_csv, write_json, write_photo
from captures.studio import Cast, photograph
from captures.truth import turn

TURNED = (3, 6, 13)
"""Cameras that hang upside down."""
SIZE = (360, 240)
_LENS = (815.0, 812.0, 181.5, 118.0)

_CAMERAS = {
    # camera: pitch, yaw, roll (degrees) as seen from camera 0, and the lens's k1
    0: ((0, 0, 0), 0.0),
    3: ((14, 6, 3), 0.02),
    6: ((-12, 18, -4), -0.03),
    13: ((5, -22, 5), 0.01),
}
_CENTRE = np.array([4.0, -6.0, 980.0])
_TAKEN = {
    # subject: look, and per frame: head pitch, yaw, roll (degrees), target (mm), camera 0
    "subject0000": (11, [
        ("frame0000", (5, -6, 2), (150, -60, 80)),
        ("frame0003", (-8, 4, -3), (-220, 180, 120)),
    ]),
    "subject0004": (21, [("frame0001", (2, 9, 4), (-90, -150, 60))]),
}  # fmt: skip


def _camera(number):
    """Rotation (3, 3) and translation (3,): camera 0's coordinates to this camera's.

    Cameras that take no photo here are said to stand where camera 0 does.
    """
    rotation = turn(*_CAMERAS.get(number, _CAMERAS[0])[0]).T
    # every camera stands about as far from the head as camera 0 and looks at it
    return rotation, np.array([3.0, -2.0, 985.0]) - rotation @ _CENTRE


@cache
def photos(distorted=False):
    """Subject -> list of (frame, camera, upright shot); lenses bend if ``distorted``."""
    everybody = {}
    for subject, (look, rows) in _TAKEN.items():
        out = []
        for frame, head, target in rows:
            for number, (_, k1) in _CAMERAS.items():
                rotation, shift = _camera(number)
                shot = photograph(
                    Cast(look).after(rotation),
                    SIZE,
                    _LENS,
                    (k1 if distorted else 0.0, 0.0, 0.0, 0.0, 0.0),
                    rotation @ turn(*head),
                    rotation @ _CENTRE + shift,
                    rotation @ np.array(target) + shift,
                )
                out.append((frame, number, shot))
        everybody[subject] = out
    return everybody


def half_turn(pixels):
    """The photo turned by 180 degrees about (w/2, h/2): pixel (x, y) goes to (w - x, h - y).

    The first row and column have no source and repeat their neighbours.
    """
    turned = pixels[::-1, ::-1]
    return np.pad(turned, ((1, 0), (1, 0), (0, 0)), "edge")[:-1, :-1]


def _calibration(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    fx, fy, cx, cy = _LENS
    rotation, shift = _camera(number)
    file = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    file.write("Camera_Matrix", np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))
    k1 = _CAMERAS.get(number, _CAMERAS[0])[1]
    file.write("Distortion_Coefficients", np.array([[k1, 0.0, 0.0, 0.0, 0.0]]))
    file.write("cam_rotation", rotation)
    file.write("cam_translation", shift[:, None])
    file.release()


def eth_xgaze(folder, people=None):
    """Write the raw layout into ``folder``; returns (subject, file name) -> shot, rows in order.

    Photos of the cameras in :data:`TURNED` are stored upside down; everything that is written of
    them is true of the photo when it has been turned.

    Args:
        folder: a path that does not exist yet.
        people: as :func:`photos`, the default.
    """
    truth = {}
    for subject, rows in (people or photos()).items():
        lines = []
        for frame, number, shot in rows:
            image = f"cam{number:02d}.JPG"
            name = f"data/train/{subject}/{frame}/{image}"
            pixels = half_turn(shot.pixels) if number in TURNED else shot.pixels
            write_photo(folder / name, pixels)
            truth[subject, name] = shot
            numbers = [shot.target, shot.head_pose("xgaze6"), shot.landmarks.ravel()]
            lines.append([frame, image, 0, 0, *np.concatenate(numbers)])
        write_csv(folder / "data" / "annotation_train" / f"{subject}.csv", lines)
    for number in range(18):
        _calibration(folder / "calibration" / "cam_calibration" / f"cam{number:02d}.xml", number)
    names = [f"{subject}.h5" for subject in people or photos()]
    split = {"train": names[:1], "test": names[1:], "test_person_specific": []}
    write_json(folder / "train_test_split.json", split)
    return truth


def eth_xgaze_hdf5(folder, people=None, *, size=224):
    """Write the released normalised layout into ``folder``; returns subject -> list of shots.

    Args:
        folder: a path that does not exist yet.
        people: as :func:`photos`, the default.
        size: of the patches: 224 (600 mm) or 448 (300 mm), focal length 960 both times.
    """
    truth = {}
    (folder / "train").mkdir(parents=True)
    for subject, rows in (people or photos()).items():
        shots = [shot for _, _, shot in rows]
        how = (size, 960.0, 600.0 if size == 224 else 300.0)
        labels = np.radians([shot.labels() for shot in shots])
        columns = {
            "face_patch": np.stack([shot.patch(*how)[..., ::-1] for shot in shots]),
            "face_gaze": labels[:, :2],
            "face_head_pose": labels[:, 2:4],
            "face_mat_norm": np.stack([shot.view() for shot in shots]),
            "facial_landmarks": np.stack([shot.patch_landmarks(*how) for shot in shots]),
            "frame_index": np.array([[int(frame[5:])] for frame, _, _ in rows]),
            "cam_index": np.array([[number] for _, number, _ in rows]),
        }
        with h5py.File(folder / "train" / f"{subject}.h5", "w") as file:
            for name, values in columns.items():
                file.create_dataset(
                    name, data=values, chunks=(1, *values.shape[1:]), compression="lzf"
                )
        truth[subject] = shots
    names = [f"{subject}.h5" for subject in truth]
    split = {"train": names[:1], "test": names[1:], "test_person_specific": []}
    write_json(folder / "train_test_split.json", split)
    return truth
