"""How far eyes move in photos of people, and what each adjustment of the photo is worth.

    python benchmarks/photos.py table results/models --model regression
    python benchmarks/photos.py sheet results/models --model regression --out sheet.png

``table`` renders photos of people of the part ``test``, whom no model has seen, and redirects them
as a user would: landmarks by the detector, the camera assumed, the source's gaze read. Targets
are gazes in which the same person was rendered in the same head pose, so that the true photo is
known; ``all exact`` has the renderer's landmarks, head pose, camera and gaze of the source. Slopes
are of measured over requested change, pitch and yaw; R2 is of that line. The estimator reads photos
normalised by exact head poses and cameras. ``irises`` is the gaze that irises and lids tell by
geometry (:mod:`regaze.landmarks.gaze`), with landmarks and pose as a user has them. Sharpness is
gradient energy around the eyes over that of the true photos, as ``regaze photo-check`` has it.
``sheet`` checks the portrait of scikit-image (NASA, public domain), or ``--photo``, under every
step as ``regaze photo-check`` does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

from regaze.capture.head import build_head
from regaze.capture.writer import CaptureConfig, deal, render_person
from regaze.face3d.photo_faces import PhotoFace
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.camera import pad_distortion
from regaze.normalise.geometry import Variant, normalise
from regaze.photo_check.check import PhotoCheck
from regaze.photo_check.measures import Judge, eye_sharpness, slopes, told
from regaze.photo_check.results import rows_of, summary
from regaze.photo_check.results import table as table_of
from regaze.photo_check.sheet import draw_sheet, write_sheet
from regaze.redirect.angles import Request
from regaze.redirect.looks import Looks
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
    return told(*slopes(wanted, found))


def table(models: Path, name: str, persons: int, heads: int, gazes: int) -> None:
    made, estimator = engines(models, name)
    first = next(iter(made.values()))
    detector = MeshDetector()
    steps = ("all exact", *made)
    looks = Looks()
    wanted, missed, sharp = [], {step: [] for step in steps}, {step: [] for step in steps}
    seen = {step: ([], []) for step in (*steps, "true photo")}
    lost = 0
    for photos, labels, exact in cases(persons, heads, gazes):
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
        found = place_of(first, photos[0], faces[0].landmarks)

        def read(pictures, exact=exact, found=found):
            angles = first.measure(np.stack([exact.view.take(one) for one in pictures]))[:, :2]
            return angles.astype(float), looks.gazes(found, pictures)

        results["all exact"] = first.redirect(exact, requests)[0]
        angles, places = read(photos)
        wanted += (labels[1:] - labels[0]).tolist()
        seen["true photo"][0].extend(angles[1:] - angles[0])
        seen["true photo"][1].extend(places[1:] - places[0])
        for step, several in results.items():
            again, moved = read([one.pasted for one in several])
            seen[step][0].extend(again - angles[0])
            seen[step][1].extend(moved - places[0])
            own = [eye_sharpness(one, faces[0].landmarks) for one in photos]
            ours = [eye_sharpness(one.pasted, faces[0].landmarks) for one in several]
            sharp[step] += (np.array(ours) / np.mean(own)).tolist()
            missed[step] += np.linalg.norm(np.degrees(again - labels[1:]), axis=1).tolist()
    wanted = np.array(wanted)
    print(f"{name}: {len(wanted)} redirections of {persons} people; {lost} faces lost")
    label = estimator.record["name"]
    print(
        f"| | {label}, pitch / yaw (R2) | irises, pitch / yaw (R2) | {label} off by, degrees | "
        "sharpness of eyes |"
    )
    print("|---|---|---|---|---|")
    for step, (angles, places) in seen.items():
        off = " | 1.00"
        if step in missed:
            off = f"{np.mean(missed[step]):.1f} | {np.mean(sharp[step]):.2f}"
        columns = fitted(wanted, np.array(angles)), fitted(wanted, np.array(places))
        print(f"| {step} | {columns[0]} | {columns[1]} | {off} |")


def sheet(models: Path, name: str, photo: Path | None, out: Path) -> None:
    """The portrait checked under every step, and the sheet of all of them."""
    picture = data.astronaut() if photo is None else np.asarray(Image.open(photo).convert("RGB"))
    made, estimator = engines(models, name)
    judge, mesh, checked = Judge.of(estimator), MeshDetector().faces(picture)[0], []
    for step, engine in made.items():
        one = PhotoCheck(engine, [judge], reach=REACH).face(step, picture, mesh)
        checked.append(one)
        print(f"{step}: {one.facts['aligned']}; {one.facts['colours']}")
    for line in table_of(summary(rows_of(checked), [judge.name]), [judge.name]):
        print(line)
    write_sheet(out, draw_sheet(checked, [judge.name], name))


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
    given = parser.parse_args()
    if given.what == "sheet":
        return sheet(given.models, given.model, given.photo, given.out)
    table(given.models, given.model, given.persons, given.heads, given.gazes)


if __name__ == "__main__":
    main()
