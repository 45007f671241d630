"""GazeCapture (Krafka et al. 2016): phones and tablets held in four ways.

The dot lies on the screen, the screen in the plane of the lens, and where the lens is on the
device follows from how the device is held; see :func:`lens_on_screen`.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from captures.files import write_json, write_photo, write_supplementary
from captures.studio import Cast, photograph
from captures.truth import turn


@dataclass(frozen=True)
class Device:
    """Lens from the screen's top left corner: ``right``, ``above``; size in mm and in points."""

    name: str
    right: float
    above: float
    width: float
    height: float
    points: tuple


PHONE = Device("iPhone 6s", 18.61, 8.04, 58.49, 104.05, (375, 667))
TABLET = Device("iPad Air 2", 76.86, 7.37, 153.71, 203.11, (768, 1024))
OLD_PHONE = Device("iPhone 5s", 25.85, 10.65, 51.7, 90.39, (320, 568))
"""Measures of the data set's own table of devices, held upright."""


def screen(device, orientation):
    """Width and height of the screen as it is held: mm (2,), points (2,)."""
    size, points = np.array([device.width, device.height]), np.array(device.points)
    return (size, points) if orientation in (1, 2) else (size[::-1], points[::-1])


def lens_on_screen(device, orientation):
    """Where the lens is: mm to the right of and below the top left corner of the screen as held.

    Upright it is above the top edge; turned by half, below the bottom edge; with the home button
    at the right the device's top points left, and with the button at the left it points right.
    """
    x, y = device.right, -device.above
    return np.array(
        {
            1: (x, y),
            2: (device.width - x, device.height - y),
            3: (y, device.width - x),
            4: (device.height - y, x),
        }[orientation]
    )


@dataclass(frozen=True)
class Frame:
    """A photo with the dot: ``dot`` (2,) mm right of and below the screen's top left corner."""

    shot: object
    device: Device
    orientation: int
    dot: np.ndarray

    @property
    def centimetres(self):
        """XCam, YCam: the dot to the user's right of and above the lens."""
        right, below = self.dot - lens_on_screen(self.device, self.orientation)
        return np.array([right, -below]) / 10

    @property
    def points(self):
        """XPts, YPts: the dot in points."""
        size, points = screen(self.device, self.orientation)
        return self.dot / size * points


_TAKEN = {
    # person: look, device, part, and per frame: orientation, dot as shares of the screen,
    # head pitch, yaw, roll (degrees), face centre (mm)
    "00002": (2, PHONE, "train", [
        (1, (0.2, 0.3), (-2, 8, 3), (6, -12, 390)),
        (2, (0.7, 0.6), (6, -10, -4), (-10, 8, 410)),
        (3, (0.6, 0.4), (3, 5, 2), (12, 5, 400)),
        (4, (0.3, 0.7), (-6, -9, 5), (-14, -6, 420)),
    ]),
    "00517": (17, TABLET, "test", [
        (1, (0.8, 0.4), (-6, -7, -2), (-8, -10, 430)),
        (2, (0.3, 0.5), (7, 6, 4), (9, 12, 440)),
        (3, (0.4, 0.2), (4, 12, -3), (5, 4, 435)),
        (4, (0.5, 0.9), (-4, -14, 2), (-6, -9, 425)),
    ]),
    "01203": (22, OLD_PHONE, "val", [
        (1, (0.5, 0.9), (-3, 2, -5), (4, -8, 380)),
        (4, (0.9, 0.1), (2, -3, 3), (-9, 10, 395)),
    ]),
}  # fmt: skip


@cache
def frames():
    """The frames of everybody: person -> list of :class:`Frame`."""
    everybody = {}
    for number, (person, (look, device, _, rows)) in enumerate(_TAKEN.items()):
        out = []
        for orientation, share, head, centre in rows:
            size = (240, 320) if orientation in (1, 2) else (320, 240)
            dot = np.array(share) * screen(device, orientation)[0]
            right, below = dot - lens_on_screen(device, orientation)
            # the camera sees the user from the front: the user's right is image left
            target = np.array([-right, below, 0.0])
            focal = 296.0 + 3 * number
            lens = (focal, focal + 1, size[0] / 2 + 1.5, size[1] / 2 - 2)
            bend = (0.04 - 0.03 * number, -0.05, 4e-4, -6e-4, 0.0)
            shot = photograph(Cast(look), size, lens, bend, turn(*head), centre, target)
            out.append(Frame(shot, device, orientation, dot))
        everybody[person] = out
    return everybody


def _json_files(person, rows, camera_centimetres):
    count, ones = len(rows), [1] * len(rows)
    boxes = {"Face": [], "LeftEye": [], "RightEye": []}
    grid = []
    for frame in rows:
        marks, (width, height) = frame.shot.landmarks, frame.shot.size

        def square(points, scale):
            size = np.ptp(points, 0).max() * scale
            return np.r_[points.mean(0) - size / 2, size, size]

        face = square(marks[17:], 1.7)
        boxes["Face"].append(face)
        for name, first in (("LeftEye", 42), ("RightEye", 36)):
            eye = square(marks[first : first + 6], 1.6)
            boxes[name].append(eye - np.r_[face[:2], 0, 0])
        cell = face * [25 / width, 25 / height, 25 / width, 25 / height]
        grid.append(np.r_[cell[:2] + 1, cell[2:]].round().clip(1, 25))

    def columns(table):
        table = np.array(table).T
        return dict(zip("XYWH", table.tolist(), strict=True)) | {"IsValid": ones}

    points = np.array([frame.points for frame in rows])
    dots = {"DotNum": list(range(count)), "XPts": points[:, 0].tolist()}
    dots |= {"YPts": points[:, 1].tolist()}
    if camera_centimetres:
        centimetres = np.array([frame.centimetres for frame in rows])
        dots |= {"XCam": centimetres[:, 0].tolist(), "YCam": centimetres[:, 1].tolist()}
    dots["Time"] = [0.5 * index for index in range(count)]
    sizes = [screen(frame.device, frame.orientation)[1].tolist() for frame in rows]
    return {
        **{f"apple{name}": columns(table) for name, table in boxes.items()},
        "dotInfo": dots,
        "faceGrid": columns(np.array(grid).astype(int)),
        "frames": [f"{index:05d}.jpg" for index in range(count)],
        "info": {
            "TotalFrames": count,
            "NumFaceDetections": count,
            "NumEyeDetections": count,
            "Dataset": _TAKEN[person][2],
            "DeviceName": rows[0].device.name,
        },
        "motion": [],
        "screen": {
            "H": [height for _, height in sizes],
            "W": [width for width, _ in sizes],
            "Orientation": [frame.orientation for frame in rows],
        },
    }


def gazecapture(folder, people=None, *, supplementary=True, camera_centimetres=True):
    """Write GazeCapture into ``folder``.

    Args:
        folder: a path that does not exist yet.
        people: as :func:`frames`, the default.
        supplementary: whether ``GazeCapture_supplementary.h5`` lies there too.
        camera_centimetres: whether ``dotInfo.json`` has XCam and YCam beside the points.

    Returns the truth: (person, file name) -> :class:`captures.truth.Shot`, rows in order.
    """
    truth = {}
    for person, rows in (people or frames()).items():
        for index, frame in enumerate(rows):
            name = f"{person}/frames/{index:05d}.jpg"
            write_photo(folder / name, frame.shot.pixels)
            truth[person, name] = frame.shot
        for name, content in _json_files(person, rows, camera_centimetres).items():
            write_json(folder / person / f"{name}.json", content)
    if supplementary:
        write_supplementary(folder / "GazeCapture_supplementary.h5", truth)
    return truth
