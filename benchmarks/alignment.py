"""How far a patch of FFHQ's framing moves when its landmarks are wrong, and what that costs.

    python benchmarks/alignment.py results/synthetic/capture --people 20
    python benchmarks/alignment.py results/synthetic/capture --models results/models --model NAME

Landmarks of rendered photos are moved together by a share of the frame's side in a random
direction, turned about the frame's middle, or moved each by itself (normal, with that standard
deviation). ``px`` is how far the patch's corners and the eyes in it move, in pixels of 256. With a
model that was trained on such patches, photos are redirected to another gaze of the same person:
``off`` is the angle between the gaze asked for and what an estimator reads in the pasted photo,
normalised with exact head poses; ``against exact`` is its change with a bootstrap by persons.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from regaze.angles import angular_error
from regaze.landmarks.mesh import MeshDetector
from regaze.normalise.camera import pad_distortion
from regaze.normalise.ffhq import SIZE, NotFramed, placed, require_shown, square_of
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.photo import read_photo
from regaze.normalise.warp import transform_points
from regaze.redirect.angles import Request
from regaze.redirect.frames import Face
from regaze.redirect.models import model_folder, open_estimator
from regaze.redirect.place import Place
from regaze.redirect.run import Redirection
from regaze.redirectors.declaration import Sampling, sampling_defaults
from regaze.sources import open_source
from regaze.weights import read_record

CASES = {
    "exact": ("shift", 0.0),
    "shifted by 2 %": ("shift", 0.02),
    "shifted by 5 %": ("shift", 0.05),
    "shifted by 10 %": ("shift", 0.10),
    "turned by 5 degrees": ("turn", 5.0),
    "each by 1 %": ("each", 0.01),
    "each by 2 %": ("each", 0.02),
    "found by the detector": ("found", 0.0),
}
_DRAWS = 1000


def changed(landmarks: np.ndarray, case: str, random: np.random.Generator, photo) -> np.ndarray:
    """Landmarks (68, 2) as a detector that errs would have them; ``photo()`` gives their photo."""
    how, much = CASES[case]
    if how == "found":
        found = MeshDetector().detect([photo()], np.full((1, 4), np.nan))[0]
        return found.landmarks.astype(np.float64)
    square = square_of(landmarks)
    if how == "each":
        return landmarks + random.normal(size=landmarks.shape) * much * square.side
    if how == "shift":
        angle = random.uniform(0, 2 * np.pi)
        return landmarks + much * square.side * np.array([np.cos(angle), np.sin(angle)])
    angle = np.radians(much) * random.choice([-1, 1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = square.corners.mean(axis=0)
    return middle + (landmarks - middle) @ turn.T


def moved(landmarks: np.ndarray, wrong: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """How far corners and eyes of the patch move, mean pixels of 256."""
    right, other = (placed(square_of(one), size) for one in (landmarks, wrong))
    found = []
    for points in (square_of(landmarks).corners, landmarks[36:48]):
        ends = transform_points(other, points) - transform_points(right, points)
        found.append(float(np.linalg.norm(ends, axis=1).mean()))
    return found[0], found[1]


def photos(capture: Path, people: int):
    """Records of the last persons of a rendered capture, whom no model has seen."""
    source = open_source({"source": "synthetic", "root": str(capture)})
    for person in json.loads((capture / "split.json").read_text())["test"][:people]:
        yield source.read(person)


def photo_of(records, row: int) -> np.ndarray:
    return cv2.cvtColor(read_photo(records.root / records.file_name[row]), cv2.COLOR_BGR2RGB)


def engine_of(models: Path, name: str) -> Redirection:
    folder = model_folder(models, name)
    record = read_record(folder / "model.json")
    sampling = Sampling().model_dump() | sampling_defaults(record["config"]["class"])
    estimator = open_estimator(models, None, None)
    return Redirection(folder, sampling, estimator, "cpu", match_colours=False, beyond="keep")


def redirected(engine: Redirection, records, row: int, target: int, wrong, labels) -> float:
    """Degrees between the gaze of another row and what is read in the pasted photo."""
    name, photo = records.file_name[row], photo_of(records, row)
    lens = pad_distortion(records.distortion[row])
    size = (photo.shape[1], photo.shape[0])
    known = (records.camera_parameters[row], lens, records.head_pose[row], records.face_model)
    face = Face(size, wrong, *known)
    view = face.seen(engine.view, engine.size_px)
    gaze, head = labels[row, :2], labels[row, 2:4]
    place = Place(
        *("photo", name, view.take(photo), head, gaze, photo, view),
        landmarks=face.landmarks_in(view),
        reading=face.seen(engine.read_in, engine.size_px),
    )
    wanted = np.degrees(labels[target, :2])
    (result,), _ = engine.redirect(place, [Request(tuple(wanted))])
    read = np.radians(result.facts["measured_photo"]["gaze_deg"])
    return float(angular_error(read[None], labels[target, :2][None])[0])


def table(capture: Path, people: int, pairs: int, engine: Redirection | None, seed: int) -> None:
    """Print a row for each case."""
    known = list(photos(capture, people))
    exact = None
    print("| landmarks | corners px | eyes px | refused | off | against exact |")
    print("|---|---|---|---|---|---|")
    for case in CASES:
        far, refused, errors = [], 0, []
        for number, records in enumerate(known):
            random = np.random.default_rng([seed, number])
            geometry = normalise(
                *(records.camera_parameters, records.head_pose, records.gaze_target),
                *(Variant.named("sted"), records.face_model),
            )
            labels, of_person = geometry.labels.astype(np.float64), []
            for row in range(len(records)):
                landmarks = records.landmarks[row].astype(np.float64)
                wrong = changed(landmarks, case, random, partial(photo_of, records, row))
                width, height = 2 * records.camera_parameters[row, 2:]
                size = (round(float(width)), round(float(height)))
                try:
                    # A photo without a face found has landmarks of NaN.
                    require_shown(wrong, square_of(wrong), size)
                except NotFramed:
                    refused += 1
                    continue
                far.append(moved(landmarks, wrong, size))
                target = (row + 1) % len(records)
                if engine is not None and len(of_person) < pairs:
                    of_person.append(redirected(engine, records, row, target, wrong, labels))
            errors.append(np.mean(of_person) if of_person else np.nan)
        corners, eyes = np.mean(far, axis=0)
        errors = np.array(errors)
        exact = errors if exact is None else exact
        print(
            f"| {case} | {corners:.1f} | {eyes:.1f} | {refused} of {refused + len(far)} "
            f"| {told(errors)} | {against(errors - exact, seed)} |",
            flush=True,
        )


def told(errors: np.ndarray) -> str:
    return f"{np.nanmean(errors):.2f}" if np.isfinite(errors).any() else ""


def against(changes: np.ndarray, seed: int) -> str:
    """A mean change with its 95 % interval by persons."""
    changes = changes[np.isfinite(changes)]
    if not len(changes) or not changes.any():
        return ""
    random = np.random.default_rng(seed)
    drawn = random.choice(changes, (_DRAWS, len(changes))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{changes.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("capture", type=Path, help="a rendered capture")
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=4, help="redirected per person")
    parser.add_argument("--models", type=Path, default=None, help="folder of trained models")
    parser.add_argument("--model", default=None, help="one of framing ffhq")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    engine = None if given.model is None else engine_of(given.models, given.model)
    print(f"patches of {SIZE} px")
    table(given.capture, given.people, given.pairs, engine, given.seed)


if __name__ == "__main__":
    main()
