"""Faces to be acquired: photos with their landmarks, or rows of a faces file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from regaze.face3d.crop import read_landmarks
from regaze.faces import open_row
from regaze.filetypes import read_npz
from regaze.landmarks.base import FindFaces
from regaze.normalise.head_pose import roll_doubt
from regaze.normalise.photo import read_photo
from regaze.sources.photo_header import left_out, photo_endings, photo_header
from regaze.sources.tables import LANDMARKS, Table

log = logging.getLogger(__name__)

_LANDMARK_FILES = (".npz", ".txt", ".mat", ".csv")


class NoFace(ValueError):
    """A picture in which there is no face to acquire; the message names it."""


@dataclass(frozen=True)
class PhotoFace:
    """A face in a picture.

    Attributes:
        name: of the picture: its stem up to the first dot, or ``<person>_<row>_``.
        index: number of the face in the picture.
        picture: (H, W, 3) uint8 RGB.
        landmarks: (68, 2) pixels, pixel centres at integers.
        source: what to call the picture in records.
        faces_found: faces in the picture.
        gaze: (2,) pitch, yaw in radians relative to the picture's camera, or None.
    """

    name: str
    index: int
    picture: np.ndarray
    landmarks: np.ndarray
    source: str
    faces_found: int = 1
    gaze: np.ndarray | None = None

    @property
    def folder(self) -> str:
        """Name of the face's folder."""
        return f"{self.name}{self.index:02d}"


def stem(path: str | os.PathLike) -> str:
    """Name of a photo up to the first dot that is not its first character."""
    name = Path(path).name
    return name[:1] + name[1:].split(".", 1)[0]


def list_photos(path: str | os.PathLike) -> list[Path]:
    """The photo, or the photos of a folder in the order of their names, hidden ones left out.

    The log tells how many other files there are.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: a folder without photos, or two that would get one name.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: expected a photo or a folder of photos, found none")
    endings = photo_endings()
    files = sorted(one for one in path.iterdir() if one.name[0] != "." and one.is_file())
    found = [one for one in files if one.suffix.lower() in endings]
    known = (*endings, *_LANDMARK_FILES)
    others = left_out(one.name for one in files if one.suffix.lower() not in known)
    if not found:
        there = f"none but {others}" if others else "none"
        raise ValueError(f"{path}: expected photos ({', '.join(endings)}), found {there}")
    if others:
        log.warning("%s: %d photos; other files are left out: %s", path, len(found), others)
    names: dict[str, Path] = {}
    for one in found:
        other = names.setdefault(stem(one), one)
        if other is not one:
            raise ValueError(
                f"{path}: {other.name} and {one.name} would both be called {stem(one)}"
            )
    return found


def landmarks_of(photo: Path, landmarks: str | os.PathLike) -> list[np.ndarray]:
    """Landmarks (68, 2) of the faces of a photo from a user's file.

    Args:
        photo: the photo; landmarks are points of it as it is shown.
        landmarks: a ``.csv`` of ``file_name, x0, y0, ..., x67, y67``; an ``.npz`` with
            ``landmarks`` (68, 2) or (faces, 68, 2); a ``.txt`` table or ``.mat`` file as DECA
            takes them; or a folder of such files, each named as its photo.

    Raises:
        FileNotFoundError: no such file.
        NoFace: there are no landmarks for this photo.
        ValueError: the file does not hold 68 points.
    """
    path = Path(landmarks)
    if path.is_dir():
        here = [path / f"{photo.stem}{kind}" for kind in _LANDMARK_FILES]
        found = [one for one in here if one.is_file()]
        if not found:
            raise NoFace(f"{photo}: no landmarks in {path}: expected {here[0].name}")
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such landmarks")
    if path.suffix == ".csv":
        values = Table(path, [LANDMARKS], person="photos").read("photos").get(photo.name)
        if values is None or not np.isfinite(values).all():
            raise NoFace(f"{photo}: no landmarks in {path}")
        return [values.reshape(68, 2)]
    if path.suffix == ".npz":
        stored = read_npz(path, "expected an .npz with landmarks", ["landmarks"])
        if "landmarks" not in stored or stored["landmarks"].dtype.kind not in "fiu":
            raise ValueError(f"{path}: expected an .npz with landmarks, found no such numbers")
        points = np.asarray(stored["landmarks"], np.float64)
    else:
        points = read_landmarks(path)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1] != 68 or points.shape[2] < 2:
        raise ValueError(f"{path}: expected 68 points of x, y, found {points.shape}")
    faces = [one[:, :2] for one in points if np.isfinite(one[:, :2]).all()]
    if not faces:
        raise NoFace(f"{photo}: no face has finite landmarks in {path}")
    return faces


def faces_of_photo(
    photo: str | os.PathLike,
    *,
    landmarks: str | os.PathLike | None = None,
    find: FindFaces | None = None,
) -> list[PhotoFace]:
    """All faces of a photo.

    Args:
        photo: the file; turned as its EXIF orientation says.
        landmarks: see :func:`landmarks_of`; comes before ``find``.
        find: a detector of faces.

    Raises:
        NoFace: there is none, or landmarks of a photo that is turned to be shown are points of
            the photo as stored, by the look of the head on its side.
        ValueError: neither landmarks nor a detector, or a file that cannot be read.
    """
    photo = Path(photo)
    picture = cv2.cvtColor(read_photo(photo), cv2.COLOR_BGR2RGB)
    if landmarks is not None:
        found = landmarks_of(photo, landmarks)
        for points in found:
            _require_inside(photo, points, picture)
    elif find is not None:
        found = find(picture)
        if not found:
            raise NoFace(f"{photo}: no face found")
    else:
        raise ValueError(f"{photo}: expected landmarks, or a face detector; found neither")
    for doubt in filter(None, map(roll_doubt, found)):
        header = photo_header(photo)
        if landmarks is not None and header is not None and header.orientation != 1:
            raise NoFace(f"{photo}: {doubt}")
        log.warning("%s: %s", photo, doubt)
    return [
        PhotoFace(stem(photo), index, picture, np.asarray(points), photo.name, len(found))
        for index, points in enumerate(found)
    ]


def _require_inside(photo: Path, points: np.ndarray, picture: np.ndarray) -> None:
    """Refuse landmarks most of which lie outside the photo: they are of a larger one."""
    size = np.array(picture.shape[1::-1])
    if ((points < -0.5) | (points > size - 0.5)).any(axis=1).mean() > 0.5:
        low, high = points.min(axis=0), points.max(axis=0)
        raise NoFace(
            f"{photo}: landmarks: expected points of this photo, {size[0]} x {size[1]} pixels, "
            f"found them from {low[0]:.0f}, {low[1]:.0f} to {high[0]:.0f}, {high[1]:.0f}; are they "
            "of a photo of another size?"
        )


def face_of_row(place: str) -> PhotoFace:
    """The face of ``FACES.h5:person/index``, its gaze that of the labels.

    Raises:
        NoFace: the row has no landmarks.
        ValueError: the text has another form, or there is no such row.
    """
    reader, number = open_row(place)
    path, _, row = place.rpartition(":")
    person, _, index = row.rpartition("/")
    known = reader.has("landmarks")
    points = reader.dataset("landmarks", [number])[0] if known else np.full((68, 2), np.nan)
    if not np.isfinite(points).all():
        raise NoFace(f"{place}: this row has no landmarks")
    gaze = reader.labels[number, :2].astype(np.float64)
    return PhotoFace(
        name=f"{person}_{index}_",
        index=0,
        picture=reader.pixels([number])[0],
        landmarks=points.astype(np.float64),
        source=f"{Path(path).name}:{row}",
        gaze=gaze if np.isfinite(gaze).all() else None,
    )


def is_row(place: str) -> bool:
    """Whether a text means a row of a faces file and not a photo."""
    path, colon, row = place.rpartition(":")
    return bool(colon) and "/" in row and not Path(place).exists() and Path(path).is_file()
