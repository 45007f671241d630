"""How far eyes move in photos of people, and what each adjustment of the photo is worth.

    python benchmarks/photos.py table results/models --model regression
    python benchmarks/photos.py sheet results/models --model regression --out sheet.png

``table`` renders photos of people of the part ``test``, whom no model has seen, and redirects them
as a user would: landmarks by the detector, the camera assumed, the source's gaze estimated. Targets
are gazes in which the same person was rendered in the same head pose, so that the true photo is
known; ``all exact`` has the renderer's landmarks, head pose, camera and gaze of the source. Slopes
are of measured over requested change, pitch and yaw; R2 is of that line. The estimator reads photos
normalised by exact head poses and cameras. ``iris`` is where the face mesh has the irises between
the eye corners; its change is compared with that in the true photo.
``sheet`` shows the portrait of scikit-image (NASA, public domain), or ``--photo``, in eight
directions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from regaze.capture.head import build_head
from regaze.capture.writer import CaptureConfig, deal, render_person
from regaze.face3d.photo_faces import PhotoFace
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.camera import pad_distortion
from regaze.normalise.geometry import Variant, normalise
from regaze.redirect.angles import Request
from regaze.redirect.models import model_folder, open_estimator
from regaze.redirect.paste import View
from regaze.redirect.place import Place, face_place
from regaze.redirect.run import Redirection
from regaze.redirectors.declaration import Sampling, sampling_defaults
from regaze.weights import read_record

STEPS = {
    "as it was": {"align": False, "match_colours": False, "beyond": "keep"},
    "eyes in place": {"align": True, "match_colours": False, "beyond": "keep"},
    "and targets in range": {"align": True, "match_colours": False, "beyond": "clip"},
    "and colours matched": {"align": True, "match_colours": True, "beyond": "clip"},
}
REACH = (12.0, 18.0)
"""Of the sheet's directions, degrees of pitch and yaw."""


def engines(models: Path, name: str):
    """The model under every step, and the estimator."""
    folder = model_folder(models, name)
    record = read_record(folder / "model.json")
    estimator = open_estimator(models, None, record.get("view"))
    sampling = Sampling().model_dump() | sampling_defaults(record["config"]["class"])
    made = {
        step: Redirection(folder, sampling, estimator, "cpu", **options)
        for step, options in STEPS.items()
    }
    return made, estimator


def place_of(engine: Redirection, photo: np.ndarray, points: np.ndarray):
    face = PhotoFace("photo", 0, photo, points, "photo")
    return face_place(
        "photo", face, size_px=engine.size_px, trained_on=engine.view, adjust=engine.adjust
    )


def iris(detector: MeshDetector, photo: np.ndarray) -> np.ndarray:
    """Pitch-wise and yaw-wise place of the irises between the corners, of the eyes' width."""
    faces = detector.faces(photo)
    if not faces:
        return np.full(2, np.nan)
    places = []
    for corners, middle in zip(([36, 39], [42, 45]), faces[0].irises[:, 0], strict=True):
        right, left = faces[0].landmarks[corners]
        across = left - right
        away = middle - (right + left) / 2.0
        along = away @ across / (across @ across)
        down = (away[1] * across[0] - away[0] * across[1]) / (across @ across)
        places.append([-down, -along])
    return np.mean(places, axis=0)


def cases(persons: int, heads: int, gazes: int):
    """Photos of a person in one head pose with their gazes (n, 2) in radians and exact places."""
    config = CaptureConfig(persons={"test": persons}, head_poses=heads, gazes=gazes)
    model = build_head(config.head)
    for name in deal(config.persons)["test"]:
        person = render_person(model, config, name)
        photos = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
                  for jpeg in person.jpegs]  # fmt: skip
        for head in range(heads):
            rows = np.flatnonzero(person.parameters["head_index"] == head)
            camera, first = person.camera[rows[0]], rows[0]
            made = normalise(
                camera[None], person.head_pose[first][None], None, Variant.named("sted")
            )
            lens = pad_distortion(person.distortion[first])
            view = View(made.homography[0], camera, lens, (128, 128))
            labels, photo = person.labels[rows], photos[first]
            place = Place(
                *("photo", "photo", view.take(photo), labels[0, 2:4], labels[0, :2], photo, view),
                landmarks=view.to_patch(person.landmarks[first].astype(float)),
            )
            yield [photos[row] for row in rows], labels[:, :2], place


def fitted(wanted: np.ndarray, found: np.ndarray) -> str:
    """Slopes and R2 of (n, 2) changes, pitch and yaw, as text."""
    known = np.isfinite(wanted).all(axis=1) & np.isfinite(found).all(axis=1)
    slopes, shares = [], []
    for axis in range(2):
        x, y = wanted[known, axis], found[known, axis]
        slopes.append(np.polyfit(x, y, 1)[0])
        shares.append(np.corrcoef(x, y)[0, 1] ** 2)
    return f"{slopes[0]:.2f} / {slopes[1]:.2f} ({shares[0]:.2f} / {shares[1]:.2f})"


def table(models: Path, name: str, persons: int, heads: int, gazes: int) -> None:
    made, estimator = engines(models, name)
    first = next(iter(made.values()))
    detector = MeshDetector()
    steps = ("all exact", *made)
    wanted, missed = [], {step: [] for step in steps}
    seen = {step: ([], []) for step in (*steps, "true photo")}
    lost = 0
    for photos, labels, exact in cases(persons, heads, gazes):

        def read(pictures, exact=exact):
            angles = first.measure(np.stack([exact.view.take(one) for one in pictures]))[:, :2]
            return angles.astype(float), np.array([iris(detector, one) for one in pictures])

        faces = detector.faces(photos[0])
        if not faces:
            lost += 1
            continue
        requests = [Request(tuple(np.degrees(one))) for one in labels[1:]]
        try:
            results = {
                step: engine.redirect(place_of(engine, photos[0], faces[0].landmarks), requests)[0]
                for step, engine in made.items()
            }
        except ValueError as problem:
            print(problem)
            lost += 1
            continue
        results["all exact"] = first.redirect(exact, requests)[0]
        angles, places = read(photos)
        wanted += (labels[1:] - labels[0]).tolist()
        seen["true photo"][0].extend(angles[1:] - angles[0])
        seen["true photo"][1].extend(places[1:] - places[0])
        for step, several in results.items():
            again, moved = read([one.pasted for one in several])
            seen[step][0].extend(again - angles[0])
            seen[step][1].extend(moved - places[0])
            missed[step] += np.linalg.norm(np.degrees(again - labels[1:]), axis=1).tolist()
    wanted, true = np.array(wanted), np.array(seen["true photo"][1])
    print(f"{name}: {len(wanted)} redirections of {persons} people; {lost} faces lost")
    label = estimator.record["name"]
    print(f"| | {label}, pitch / yaw (R2) | iris, pitch / yaw (R2) | {label} off by, degrees |")
    print("|---|---|---|---|")
    for step, (angles, places) in seen.items():
        off = f"{np.mean(missed[step]):.1f}" if step in missed else ""
        told = fitted(wanted, np.array(angles)), fitted(true, np.array(places))
        print(f"| {step} | {told[0]} | {told[1]} | {off} |")


def sheet(models: Path, name: str, photo: Path | None, out: Path) -> None:
    """The eyes of the photo; then two rows per step: eight directions, starting up, clockwise."""
    from skimage import data

    picture = data.astronaut() if photo is None else np.asarray(Image.open(photo).convert("RGB"))
    made, _ = engines(models, name)
    points = MeshDetector().all_faces(picture)[0]
    turn = np.radians(np.arange(0, 360, 45))
    pitch, yaw = REACH[0] * np.cos(turn), -REACH[1] * np.sin(turn)
    requests = [Request((float(p), float(y))) for p, y in zip(pitch, yaw, strict=True)]
    middle, reach = points[36:48].mean(axis=0), np.ptp(points[:, 0])
    low = np.maximum(middle - reach * np.array([0.44, 0.22]), 0).astype(int)
    high = (middle + reach * np.array([0.44, 0.22])).astype(int)
    # Whatever was done before, all are read in the view in which the estimator knows faces.
    known = place_of(list(made.values())[-1], picture, points)
    asked, rows = np.radians(np.stack([pitch, yaw], -1)), []
    for step, engine in made.items():
        results, about = engine.redirect(place_of(engine, picture, points), requests)
        photos = [picture, *(one.pasted for one in results)]
        read = engine.measure(np.stack([known.matched(known.view.take(one)) for one in photos]))
        moved = read[1:, :2].astype(float) - read[0, :2]
        told = {key: about[key] for key in ("source_gaze_deg", "aligned", "colours")}
        print(f"{step}: {fitted(asked, moved)}; {told}")
        cells = [one[low[1] : high[1], low[0] : high[0]] for one in photos]
        cells = [cv2.resize(one, (320, 160), interpolation=cv2.INTER_CUBIC) for one in cells]
        rows.append(np.vstack([np.hstack(cells[1:5]), np.hstack(cells[5:])]))
        if step == "as it was":
            rows.insert(0, np.hstack([cells[0], *[np.zeros_like(cells[0])] * 3]))
    Image.fromarray(np.vstack(rows)).save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("table", "sheet"))
    parser.add_argument("models", type=Path, help="folder of trained models")
    parser.add_argument("--model", default="regression")
    parser.add_argument("--persons", type=int, default=16)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--gazes", type=int, default=5)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    told = parser.parse_args()
    if told.what == "sheet":
        return sheet(told.models, told.model, told.photo, told.out)
    table(told.models, told.model, told.persons, told.heads, told.gazes)


if __name__ == "__main__":
    main()
