"""How well gaze is read from irises, lids and head, and the fit of its weights.

    python benchmarks/gaze.py fit results/synthetic/capture results/people/capture
    python benchmarks/gaze.py check results/synthetic/capture results/people/capture
    python benchmarks/gaze.py check CAPTURE... --jitter 0.5     # landmarks moved, in mm
    python benchmarks/gaze.py portrait                          # scikit-image's, which looks about
                                                                # into the camera

Captures are rendered ones, plain and varied people (``config.yaml``, ``configs/photo.yaml``), so
that gazes are known. As for a user's photo landmarks are the detector's, the camera is assumed and
the head pose is from landmarks; truth is the rendered gaze in the frame that these give. Two in
three persons of ``train-redirector`` are for ``fit``; the third, and those of ``val`` and ``test``,
for ``check``. ``bias`` and ``sd`` are mean and standard deviation of read minus true, degrees;
``slope`` is of read over true, and ``true on read`` is 1 where a reading is as likely too far out
as too far in; ``expected`` is the root mean square of the errors that readings themselves expect.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import h5py
import numpy as np
from skimage import data

from regaze.angles import angles_from_vector, vector_from_angles
from regaze.capture.head import build_head
from regaze.capture.style import draw_style
from regaze.capture.subject import draw_look
from regaze.capture.writer import CaptureConfig
from regaze.capture_settings import shares
from regaze.landmarks.gaze import NAMES, TABLE, Unreadable, doubts, features, read_gaze, table
from regaze.landmarks.ibug import ibug
from regaze.landmarks.irises import find_irises
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.head_pose import estimate_head_pose
from regaze.redirect.place import Lens

RIDGE = 1e-6
VARIED = "people"
"""The data set of varied people, by the name of its folder."""


def persons(root: Path, what: str) -> list[str]:
    split = json.loads((root / "split.json").read_text(encoding="utf-8"))
    own = split["train-redirector"]
    held = own[2::3] + split["val"] + split["test"]
    return [one for one in own if one not in held] if what == "fit" else held


def posed(points: np.ndarray, size):
    """Head (2,), rotation (3, 3) and pixels per mm of a face with an assumed camera."""
    camera, lens, _ = Lens().camera(size)
    pose, _ = estimate_head_pose(ibug(points), camera, lens)
    made = normalise(camera[None], pose[None], None, Variant.named("sted"))
    return made.head[0], made.rotation[0], float(camera[0] / np.linalg.norm(made.origin[0]))


def seen(roots, what: str, photos: int, jitter: float = 0.0):
    """Rows of photo, mesh points, head, px per mm, true gaze (3,) in its frame, person, glasses."""
    cv2.setNumThreads(1)
    detector, random = MeshDetector(), np.random.default_rng(0)
    meta = build_head(CaptureConfig(persons={}).head).meta
    for root in roots:
        varied = root.parent.name == VARIED
        with (
            h5py.File(root / "parameters.h5") as known,
            h5py.File(root / "supplementary.h5") as labels,
        ):
            for person in persons(root, what):
                look = draw_look(0, int(person), meta)
                wanted = shares("varied" if varied else "plain", {})
                look, _ = draw_style(0, int(person), look, wanted)
                rows = random.permutation(len(known[person]["labels"]))[:photos]
                for row in np.sort(rows):
                    name = labels[person]["file_name"][row].decode()
                    picture = cv2.imread(str(root / name))[..., ::-1]
                    face = detector.filling(np.ascontiguousarray(picture))
                    if face is None:
                        continue
                    head, rotation, per_mm = posed(face.points, picture.shape[1::-1])
                    turn = known[person]["normalisation"][row].T
                    gaze = turn @ vector_from_angles(known[person]["labels"][row][:2])
                    points = face.points
                    points = points + random.normal(size=points.shape) * jitter * per_mm
                    kind = "varied" if varied else "plain"
                    yield (
                        *(picture, points, head, per_mm, rotation @ gaze),
                        *(kind + person, kind, bool(look.glasses)),
                    )


def fit(rows) -> None:
    irises = [find_irises(photo, points, per_mm) for photo, points, _, per_mm, *_ in rows]
    heads, true = [row[2] for row in rows], np.array([row[4] for row in rows])
    made = {}
    for name, axis in (("pitch", 1), ("yaw", 0)):
        values = [features(*one)[name] for one in zip(irises, heads, strict=True)]
        names, left = list(values[0]), np.array([list(one.values()) for one in values])
        weights = _solved(left, true[:, axis])
        missed = np.square(np.arcsin(left @ weights) - np.arcsin(true[:, axis]))
        about = [doubts(*one) for one in zip(irises, heads, strict=True)]
        spread = _solved(np.array([list(one.values()) for one in about]), missed)
        made[name] = dict(zip(names, weights.round(5).tolist(), strict=True))
        spread = np.maximum(spread, 0.0)
        spread *= missed.mean() / (np.array([list(one.values()) for one in about]) @ spread).mean()
        made[f"{name} error"] = dict(zip(about[0], spread.round(6).tolist(), strict=True))
    TABLE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _solved(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    hold = RIDGE * len(left) * np.diag([0.0] + [1.0] * (left.shape[1] - 1))
    return np.linalg.solve(left.T @ left + hold, left.T @ right)


def check(rows) -> None:
    found, groups, lost = [], [], 0
    for photo, points, head, per_mm, gaze, _, kind, glasses in rows:
        try:
            reading = read_gaze(photo, points, head, per_mm)
        except Unreadable:
            lost += 1
            continue
        found.append([angles_from_vector(gaze), reading.gaze, reading.error])
        open_ = "open" if reading.irises.opening > 0.22 else "narrow"
        turned = "turned" if abs(head[1]) > np.radians(15.0) else "ahead"
        groups.append([kind, "glasses" if glasses else "no glasses", open_, turned])
    found, groups = np.array(found), np.array(groups)
    print(f"{len(found)} read, {lost} not")
    print("| | pitch: bias, sd, slope, true on read, expected | yaw |")
    print("|---|---|---|")
    for kind in np.unique(groups[:, 0]):
        for part in ["", *np.unique(groups[:, 1:])]:
            rows = (groups[:, 0] == kind) & ((groups == part).any(axis=1) | (part == ""))
            if rows.sum() > 9:
                told = " | ".join(_told(found[rows][..., n]) for n in range(2))
                print(f"| {kind} {part} ({rows.sum()}) | {told} |")


def _told(found: np.ndarray) -> str:
    true, read, expected = found.T
    off = np.degrees(read - true)
    slope, back = np.polyfit(true, read, 1)[0], np.polyfit(read, true, 1)[0]
    expected = np.degrees(np.sqrt((expected**2).mean()))
    return f"{off.mean():+.1f}, {off.std():.1f}, {slope:.2f}, {back:.2f}, {expected:.1f}"


def portrait() -> None:
    photo = data.astronaut()
    face = MeshDetector().faces(photo)[0]
    head, _, per_mm = posed(face.points, photo.shape[1::-1])
    reading = read_gaze(photo, face.points, head, per_mm)
    for name, angle, error, turn in zip(NAMES, reading.gaze, reading.error, head, strict=True):
        told = [np.degrees(one) for one in (angle, error, turn)]
        print(f"{name} {told[0]:+.1f} +- {told[1]:.1f}, head {told[2]:+.1f}")
    print(reading.irises)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("fit", "check", "portrait"))
    parser.add_argument("captures", type=Path, nargs="*")
    parser.add_argument("--photos", type=int, help="of each person: 3 to fit, 4 to check")
    parser.add_argument("--jitter", type=float, default=0.0, help="of landmarks, mm")
    given = parser.parse_args()
    if given.what == "portrait":
        return portrait()
    photos = given.photos or {"fit": 3, "check": 4}[given.what]
    rows = list(seen(given.captures, given.what, photos, given.jitter))
    if given.what == "fit":
        fit(rows)
        table.cache_clear()
    check(rows)


if __name__ == "__main__":
    main()
