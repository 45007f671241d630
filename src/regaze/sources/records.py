"""What raw data sets hand on: capture records, bare photos, or faces normalised already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np


class SourceError(ValueError):
    """A raw data set, or one person of it, that cannot be read.

    The message names file, person, dataset, what was found and what was expected.
    ``reason`` is the word for the table of rejected rows (``missing_key``, ``bad_shape``,
    ``missing_person``); ``file_names`` are the person's rows as far as they are known.
    """

    def __init__(self, message: str, reason: str = "bad_source", file_names: tuple = ()):
        super().__init__(message)
        self.reason = reason
        self.file_names = tuple(file_names)


@contextmanager
def losing(names: Sequence[str]) -> Iterator[None]:
    """Tell a SourceError of the block, unless it has names, that these rows are lost with it."""
    try:
        yield
    except SourceError as error:
        if not any(error.file_names):
            error.file_names = tuple(names)
        raise


def safe_name(name: str) -> bool:
    """Return whether a file name of a label file stays below the data set's root."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def printable(name: str) -> str:
    """Return a name that can be stored: bytes that are not UTF-8, or zero, become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def some(names: Iterable[str], most: int = 10) -> str:
    """Return names for a message, of many only the first."""
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(map(str, listed[:most])) + more


def lost_rows(source, person: str, error: SourceError) -> list[tuple[int, str]]:
    """Return numbers and names of the rows that are lost with a person, as far as they are known.

    Where the error does not tell them, ``source.known_rows(person)`` may tell how many there are,
    by what lies beside. Where nobody knows it is one row with the number -1.
    """
    names: Sequence[str] = error.file_names
    if not names and hasattr(source, "known_rows") and safe_name(person):
        try:
            names = ("",) * (source.known_rows(person) or 0)
        except (OSError, SourceError):
            names = ()
    return list(enumerate(names)) or [(-1, "")]


@dataclass(frozen=True)
class _Rows:
    """Photos of one person as columns; OpenCV camera axes, millimetres, float64."""

    root: Path
    person: str
    file_name: tuple[str, ...]
    camera_parameters: np.ndarray
    distortion: np.ndarray
    gaze_target: np.ndarray
    gaze_known: bool = field(default=True, kw_only=True)
    landmarks: np.ndarray | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.file_name)


@dataclass(frozen=True)
class PersonRecords(_Rows):
    """The capture records of one person as columns; OpenCV camera axes, millimetres, float64.

    ``file_name`` N names below ``root``, with forward slashes; ``camera_parameters`` (N, 4) fx, fy,
    cx, cy in pixels; ``distortion`` (N, k) OpenCV coefficients, k in 4, 5, 8, 12, 14;
    ``head_pose`` (N, 6) rotation vector (rad) and translation (mm), face model -> camera;
    ``gaze_target`` (N, 3) mm, NaN where it is not known; ``landmarks`` (N, 68, 2) pixels of the
    photo as taken (lens distortion included), or None.

    ``face_model`` names the points that ``head_pose`` refers to, a key of
    :data:`regaze.normalise.face_model.FACE_MODELS`. ``turned`` (N,) bool marks photos of cameras
    that hang upside down: they are turned by 180 degrees about (w/2, h/2) before their labels
    apply; None means none. ``gaze_known`` is False for photos without any gaze label, whose
    ``gaze_target`` is NaN throughout and whose rows are kept all the same. ``status`` N words:
    "" or why an earlier step gave the row up (``no_face``, ``low_score``, ``pose_failed``), which
    becomes the reason of its rejection, and ``detail`` what is said of it there; None when there
    was no such step.
    """

    head_pose: np.ndarray
    face_model: str = "sfm14"
    turned: np.ndarray | None = None
    status: tuple[str, ...] | None = None
    detail: tuple[str, ...] | None = None


@dataclass(frozen=True)
class PersonPhotos(_Rows):
    """The photos of one person before anybody has looked for the face in them.

    ``file_name`` N names; ``camera_parameters`` (N, 4) fx, fy, cx, cy pixels and ``distortion``
    (N, k), known or assumed; ``face_box`` (N, 4) x, y, width, height in pixels of the subject's
    face as annotated, NaN where nothing is. Of the gaze either ``gaze_target`` (N, 3) mm in the
    camera is known, or ``gaze_angles`` (N, 2) pitch, yaw in radians relative to the line of sight
    of a camera held level; the other is NaN, and both are when ``gaze_known`` is False.
    ``landmarks`` (N, 68, 2) pixels when the data set has them, so that none are looked for. Pixels
    are those of the photo as it is shown, turned as its EXIF data say.
    """

    face_box: np.ndarray
    gaze_angles: np.ndarray


@dataclass(frozen=True)
class NormalisedRows:
    """One person of a data set that comes as patches.

    ``pixels`` is the path of a (n, H, W, 3) uint8 dataset inside the HDF5 file ``path``;
    ``labels`` (n, 8) float32 as in :mod:`regaze.faces`, columns 4-7 NaN where the release has
    none; ``columns`` holds further datasets of n rows under the names of the faces file;
    ``file_name`` n names, empty when the release tells none.
    """

    path: Path
    person: str
    pixels: str
    labels: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    file_name: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


class Source(Protocol):
    """A raw data set. ``kind`` is its name in the configuration and in the faces files.

    What all sources may have besides is in :class:`regaze.sources.files.PersonFiles`.
    """

    kind: str
    persons: list[str]

    def read(self, person: str) -> PersonRecords:
        """Return the records of one person.

        Raises:
            SourceError: the person is unknown or its data cannot be used.
        """
        ...


class PhotoSource(Protocol):
    """A raw data set whose head poses have to be found from the photos."""

    kind: str
    persons: list[str]

    def photos(self, person: str) -> PersonPhotos:
        """Return the photos of one person.

        Raises:
            SourceError: the person is unknown or its data cannot be used.
        """
        ...


class NormalisedSource(Protocol):
    """A data set that was released as normalised patches; ``attributes`` say how they were made,
    as :class:`regaze.faces.FacesAttributes`."""

    kind: str
    persons: list[str]
    attributes: object

    def read_faces(self, person: str) -> NormalisedRows:
        """Return the rows of one person.

        Raises:
            SourceError: the person is unknown or its data cannot be used.
        """
        ...
