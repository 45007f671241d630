"""The check of photos: redirect each of them to fixed directions and measure what came out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from regaze.face3d.photo_faces import NoFace, PhotoFace, list_photos, stem
from regaze.identity.base import FaceRecogniser
from regaze.landmarks.mesh import Face, MeshDetector
from regaze.normalise.photo import read_photo
from regaze.photo_check.irises import move_irises, offset_of
from regaze.photo_check.measures import Judge, Read, eye_sharpness, identity_distances
from regaze.redirect.angles import Request
from regaze.redirect.looks import Looks, around, mesh_there
from regaze.redirect.place import STORED, Lens, Place, face_place
from regaze.redirect.run import Redirection
from regaze.redirectors.patches import TrainedPatches

log = logging.getLogger(__name__)

REACH = (10.0, 15.0)
"""Half axes of the directions in degrees, pitch and yaw."""
KINDS = ("redirected", "moved irises")
"""What is measured: the model's photos, and the control."""
DIRECTIONS = 8
_AROUND_FACE = 1.0
"""How much of a photo around a face is worked on, in the face's size."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One photo of one direction, measured.

    Attributes:
        kind: one of :data:`KINDS`.
        wanted: (2,) change of gaze that was asked for, radians.
        target: (2,) gaze that was asked for, radians.
        gaze: by judge the change that it reads, (2,) radians.
        iris: (2,) change of gaze that irises and lids tell, radians; NaN where they tell none.
        identity: distance from the photo as it was; NaN without a recogniser.
        sharpness: of the eyes, over that of the photo as it was.
        picture: (h, w, 3) uint8, the eyes.
    """

    kind: str
    wanted: np.ndarray
    target: np.ndarray
    gaze: dict[str, np.ndarray]
    iris: np.ndarray
    identity: float
    sharpness: float
    picture: np.ndarray


@dataclass(frozen=True, eq=False)
class Checked:
    """A photo with its readings, of each kind one per direction.

    Attributes:
        source: the photo's name.
        gaze: (2,) of the photo as it was, radians, as the model was told.
        judged: by judge what it reads in the photo as it was.
        eyes: (h, w, 3) uint8 of the photo as it was.
        readings: all of them.
        facts: of the redirection, for records.
    """

    source: str
    gaze: np.ndarray
    judged: dict[str, np.ndarray]
    eyes: np.ndarray
    readings: list[Reading]
    facts: dict


def directions(
    gaze: np.ndarray,
    trained: TrainedPatches | None,
    reach: tuple[float, float] = REACH,
) -> np.ndarray:
    """Eight gazes (8, 2) in radians on an ellipse, starting up and going to the picture's right.

    Its middle is the face's own gaze, or the nearest place where all of it lies within what the
    model was trained on; where that is narrower than the ellipse, the ellipse is as wide as it.

    Args:
        gaze: (2,) of the face, radians.
        trained: of the model; None where nothing is known of it.
        reach: half axes in degrees, pitch and yaw.
    """
    middle, axes = np.array(gaze, np.float64), np.radians(reach)
    if trained is not None and trained.gaze is not None:
        low, high = np.radians(np.array([trained.gaze.pitch, trained.gaze.yaw]).T)
        axes = np.minimum(axes, (high - low) / 2.0)
        middle = np.clip(middle, low + axes, high - axes)
    turn = 2.0 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return middle + axes * np.stack([np.cos(turn), -np.sin(turn)], -1)


def listed(places: Sequence[str | os.PathLike]) -> list[Path]:
    """The photos of photos and folders.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: none are named, a folder has none, or two have one name.
    """
    photos = [one for place in places for one in list_photos(place)]
    if not photos:
        raise ValueError("expected photos or folders of photos, found none")
    known: dict[str, Path] = {}
    for one in photos:
        other = known.setdefault(stem(one), one)
        if other is not one:
            raise ValueError(f"{other} and {one}: expected photos of different names")
    return photos


class PhotoCheck:
    """What photos are checked with.

    Args:
        engine: the model; its estimator tells where a photo looks before.
        judges: what reads the photos.
        recogniser: the workflow's identity network, or None.
        reach: see :func:`directions`.

    Raises:
        ValueError: two judges of one name.
    """

    def __init__(
        self,
        engine: Redirection,
        judges: Sequence[Judge],
        recogniser: FaceRecogniser | None = None,
        reach: tuple[float, float] = REACH,
    ):
        names = [judge.name for judge in judges]
        if len(set(names)) < len(names):
            raise ValueError(f"judges: expected different names, found {', '.join(names)}")
        self.engine, self.judges, self.recogniser = engine, list(judges), recogniser
        self.reach, self.detector, self.looks = reach, MeshDetector(), Looks()

    def all(self, photos: Sequence[str | os.PathLike]) -> Iterator[Checked | dict]:
        """Each photo checked, or the ``source`` and ``reason`` of one that cannot be."""
        for path in photos:
            try:
                yield self.photo(path)
            except (ValueError, OSError) as error:
                yield {"source": Path(path).name, "reason": str(error)}

    def photo(self, path: str | os.PathLike) -> Checked:
        """Check the largest face of a photo.

        Raises:
            ValueError: no face, one that cannot be normalised, or a file that cannot be read.
        """
        picture = cv2.cvtColor(read_photo(path), cv2.COLOR_BGR2RGB)
        found = self.detector.faces(picture)
        if not found:
            raise NoFace(f"{path}: no face found")
        return self.face(path, picture, found[0])

    def face(self, path: str | os.PathLike, picture: np.ndarray, mesh: Face) -> Checked:
        """Check a face of a photo (H, W, 3) uint8 R,G,B.

        Raises:
            ValueError: it cannot be normalised.
        """
        left, top, right, bottom = around(mesh.extent, picture, _AROUND_FACE)
        camera, _, _ = Lens().camera(picture.shape[1::-1])
        lens = Lens(intrinsics=camera - [0.0, 0.0, left, top])
        photo = np.ascontiguousarray(picture[top:bottom, left:right])
        landmarks = mesh.landmarks - [left, top]
        face = PhotoFace(stem(path), 0, photo, landmarks, Path(path).name)
        engine = self.engine
        options = {"size_px": engine.size_px, "trained_on": engine.view, "lens": lens}
        place = face_place(path, face, **options, adjust=engine.adjust)
        readers = {
            judge.name: judge.of_face(path, face, lens, engine.adjust.trained, engine.view)
            for judge in self.judges
        }
        gaze, gaze_from = self._gaze(place, readers)
        targets = directions(gaze, engine.adjust.trained, self.reach)
        requests = [Request((float(p), float(y))) for p, y in np.degrees(targets)]
        results, facts = engine.redirect(place, requests, source_gaze=np.degrees(gaze))
        facts["source_gaze_from"] = gaze_from
        again = mesh_there(self.detector, photo, landmarks)
        if again is None:
            raise NoFace(f"{path}: the face mesh does not find this face again")
        moves = offset_of(targets) - offset_of(gaze)
        made = [one.pasted for one in results] + [move_irises(photo, again, one) for one in moves]
        photos = [photo, *made]
        read = {name: reader(photos) for name, reader in readers.items()}
        identity = np.full(len(made), np.nan)
        if self.recogniser is not None:
            upright = face_place(path, face, size_px=STORED, lens=lens)
            identity = identity_distances(self.recogniser, upright, made)
        sharp = np.array([eye_sharpness(one, landmarks) for one in photos])
        irises = self.looks.gazes(place, photos)
        box = _eyes_box(landmarks, photo)
        readings = [
            Reading(
                kind=KINDS[number // DIRECTIONS],
                wanted=targets[number % DIRECTIONS] - gaze,
                target=targets[number % DIRECTIONS],
                gaze={name: angles[1 + number] - angles[0] for name, angles in read.items()},
                iris=irises[1 + number] - irises[0],
                identity=float(identity[number]),
                sharpness=float(sharp[1 + number] / max(sharp[0], 1e-9)),
                picture=_part(one, box),
            )
            for number, one in enumerate(made)
        ]
        judged = {name: angles[0] for name, angles in read.items()}
        return Checked(Path(path).name, gaze, judged, _part(photo, box), readings, facts)

    def _gaze(self, place: Place, readers: Mapping[str, Read]) -> tuple[np.ndarray, str]:
        """Where a face looks, (2,) radians, as when it is redirected, else by the first judge; and
        who told it.

        Raises:
            ValueError: nothing tells.
        """
        try:
            return self.engine.source_gaze(place, None)
        except ValueError:
            if not readers:
                raise
            name, read = next(iter(readers.items()))
            return read([place.photo])[0], f"estimated by {name}"


def _eyes_box(landmarks: np.ndarray, photo: np.ndarray) -> tuple[int, int, int, int]:
    """The box of both eyes, twice as wide as high."""
    middle, width = landmarks[36:48].mean(axis=0), np.ptp(landmarks[36:48, 0])
    half = np.array([0.68, 0.34]) * width
    return around(np.concatenate([middle - half, middle + half]), photo, 0.0)


def _part(photo: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    return photo[top:bottom, left:right].copy()
