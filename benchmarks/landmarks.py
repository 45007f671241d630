"""How well landmarks of the face mesh give head poses, and the fit of their table.

    python benchmarks/landmarks.py check          # on persons that the table has not seen
    python benchmarks/landmarks.py fit            # writes src/regaze/landmarks/ibug_from_mesh.csv
    python benchmarks/landmarks.py speed          # milliseconds per photo

Photos are rendered, so that landmarks and head poses are known exactly: persons of the part
``train-redirector`` for ``fit``, of ``test`` or ``val`` for ``check``; eight photos of each. How to
fit was chosen with those of ``test`` in view; those of ``val`` were not looked at. Every landmark
is fitted, in units of the distance of the outer eye corners, as a weighted mean of the twelve mesh
points nearest to the one that has its meaning; left and right share their weights. The four points
of the nose ridge also take negative weights and 40 points spread over the face, for on rendered
heads the mesh turns up and down by half of what the head does, and they carry the pitch. Ridges
hold the weights at the point of that meaning.
"""

from __future__ import annotations

import argparse
import struct
import time
import zipfile

import cv2
import numpy as np
from scipy.optimize import nnls

from regaze.angles import angles_from_vector, rotation_from_vector
from regaze.capture.head import build_head
from regaze.capture.writer import CaptureConfig, deal, render_person
from regaze.landmarks.bundle import bundle_file
from regaze.landmarks.ibug import TABLE, weights
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.head_pose import estimate_head_pose

CANONICAL = "geometry_pipeline_metadata_landmarks.binarypb"
# Mesh points of the same meaning, by the order of iBUG.
MEANING = [
    127, 234, 93, 132, 172, 136, 149, 148, 152, 377, 378, 365, 397, 361, 323, 454, 356, 70, 63,
    105, 66, 107, 336, 296, 334, 293, 300, 168, 6, 195, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133,
    153, 144, 362, 385, 387, 263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
]  # fmt: skip
MIRRORED = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1),
    *range(64, 59, -1), *range(67, 64, -1),
]  # fmt: skip
RIDGE = range(27, 31)
NEAR, SPREAD = 12, 40
# Square roots of the ridges' weights: of nearest points, and for the nose ridge of near and spread.
HOLD, HOLD_NEAR, HOLD_SPREAD = 0.01, 0.003, 0.01
SUM_TO_ONE = 1e4


def photos(part: str, persons: int):
    """Pictures, exact landmarks (68, 2), head poses (6,), cameras (4,), distortions."""
    config = CaptureConfig(persons={part: persons}, head_poses=4, gazes=2)
    model = build_head(config.head)
    for name in deal(config.persons)[part]:
        person = render_person(model, config, name)
        for row, jpeg in enumerate(person.jpegs):
            photo = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
            facts = (person.landmarks, person.head_pose, person.camera, person.distortion)
            yield photo, *(column[row].astype(float) for column in facts)


def seen(part: str, persons: int):
    """Rows of :func:`photos` with mesh points (478, 2) for pictures, and how many have no face."""
    detector, rows, lost = MeshDetector(), [], 0
    for photo, *facts in photos(part, persons):
        faces = detector.faces(photo)
        lost += not faces
        rows += [(faces[0].points, *facts)] if faces else []
    return rows, lost


def canonical() -> np.ndarray:
    """The mesh (468, 3) of a mean face, cm, symmetric about x = 0."""
    with zipfile.ZipFile(bundle_file()) as bundle:
        content = bundle.read(CANONICAL)
    start, values = content.index(b"\x1d"), []
    while content[start : start + 1] == b"\x1d":
        values.append(struct.unpack_from("<f", content, start + 1)[0])
        start += 5
    return np.array(values).reshape(468, 5)[:, :3]


def fit(rows) -> np.ndarray:
    """The table (68, 478)."""
    mean = canonical()
    other = np.array([np.linalg.norm(mean - one * [-1, 1, 1], axis=1).argmin() for one in mean])
    spread = [1]
    while len(spread) < SPREAD:
        away = np.linalg.norm(mean[:, None] - mean[spread][None], axis=2).min(axis=1)
        new = int(away.argmax())
        spread += list(dict.fromkeys([new, int(other[new])]))
    mesh, marks = (np.array([row[n] for row in rows]) for n in (0, 1))
    middle = mesh[:, [33, 263]].mean(axis=1, keepdims=True)
    scale = np.linalg.norm(mesh[:, 33] - mesh[:, 263], axis=1)[:, None, None]
    mesh, marks = (mesh - middle) / scale, (marks - middle) / scale
    table = np.zeros((68, 478))
    for mark, twin in enumerate(MIRRORED):
        if twin < mark:
            continue
        own = {MEANING[mark]} | ({int(other[MEANING[mark]])} if twin == mark else set())
        near = np.linalg.norm(mean - mean[MEANING[mark]], axis=1).argsort(kind="stable")[:NEAR]
        if twin == mark:
            near = np.unique(np.concatenate([near, other[near]]))
        far = np.setdiff1d(spread, near) if mark in RIDGE else np.zeros(0, int)
        use = np.concatenate([near, far])
        hold = np.repeat([HOLD_NEAR, HOLD_SPREAD], [len(near), len(far)])
        hold = hold if mark in RIDGE else np.full(len(use), HOLD)
        sides = ((use, mark, 1), (other[use], twin, -1))
        left = [(mesh[:, ids] * [sign, 1]).swapaxes(1, 2) for ids, _, sign in sides]
        right = [marks[:, one] * [sign, 1] for _, one, sign in sides]
        left, right = np.concatenate(left).reshape(-1, len(use)), np.concatenate(right).ravel()
        hold = hold * np.sqrt(len(right))
        there = np.isin(use, list(own)) / len(own)
        left = np.concatenate([left, np.diag(hold), np.full((1, len(use)), SUM_TO_ONE)])
        right = np.concatenate([right, hold * there, [SUM_TO_ONE]])
        found = np.linalg.lstsq(left, right)[0] if mark in RIDGE else nnls(left, right)[0]
        table[mark, use] += found
        table[twin, other[use]] += found
    return table / table.sum(axis=1, keepdims=True)


def write(table: np.ndarray) -> None:
    """Weights to four digits."""
    lines = [
        f"{mark},{point},{table[mark, point]:.4f}"
        for mark, point in np.argwhere(np.abs(table) >= 5e-4).tolist()
    ]
    TABLE.write_text("\n".join(["landmark,point,weight", *lines]) + "\n", encoding="utf-8")


def report(rows, points) -> str:
    """Errors of head poses from (68, 2) landmarks against exact ones, in degrees."""
    turns, off = [], []
    for row, marks in zip(rows, points, strict=True):
        found = rotation_from_vector(estimate_head_pose(marks, *row[3:])[0][:3])
        exact = rotation_from_vector(row[2][:3])
        turns.append(np.degrees(np.linalg.norm(cv2.Rodrigues(exact.T @ found)[0])))
        ahead = np.stack([found, exact])[:, :, 2]
        off.append(np.degrees(np.subtract(*angles_from_vector(ahead))))
    pitch, yaw = np.median(off, axis=0)
    return (
        f"median {np.median(turns):.2f}, nine of ten below {np.percentile(turns, 90):.2f}; "
        f"median pitch {pitch:+.2f}, yaw {yaw:+.2f}"
    )


def speed() -> None:
    cv2.setNumThreads(1)
    detector = MeshDetector()
    photo = next(photos("test", 1))[0]
    for scale in (1, 8):
        large = cv2.resize(photo, None, fx=scale, fy=scale)
        for name, call in (
            ("subject", lambda p: detector.detect([p], np.full((1, 4), np.nan))),
            ("all faces", detector.faces),
        ):
            call(large)
            took = []
            for _ in range(15):
                start = time.process_time()
                call(large)
                took.append(time.process_time() - start)
            size = f"{large.shape[1]} x {large.shape[0]}"
            print(f"{size}, {name}: {1e3 * np.median(took):.0f} ms of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("check", "fit", "speed"))
    parser.add_argument("--persons", type=int, help="default: 80 to fit, 40 to check")
    parser.add_argument("--part", choices=("test", "val"), default="test", help="to check on")
    arguments = parser.parse_args()
    if arguments.what == "speed":
        return speed()
    part = arguments.part if arguments.what == "check" else "train-redirector"
    rows, lost = seen(part, arguments.persons or (40 if arguments.what == "check" else 80))
    if arguments.what == "fit":
        write(fit(rows))
        weights.cache_clear()
    by_meaning = np.eye(478)[MEANING]
    print(f"{part}: {len(rows)} faces found, {lost} not")
    print("exact landmarks:       ", report(rows, [row[1] for row in rows]))
    print("points of one meaning: ", report(rows, [by_meaning @ row[0] for row in rows]))
    print("the table:             ", report(rows, [weights() @ row[0] for row in rows]))


if __name__ == "__main__":
    main()
