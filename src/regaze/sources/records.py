"""What a raw data set hands to the normalisation: capture records, person by person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class CaptureRecord:
    """One photo with what is known of it; OpenCV camera axes, millimetres.

    Attributes:
        path: the picture file.
        file_name: its name below the data set's root, with forward slashes.
        person: the person's name.
        index: row in the person's numbering of the raw data set.
        camera_parameters: (4,) fx, fy, cx, cy in pixels.
        distortion: (k,) OpenCV coefficients, k in 4, 5, 8, 12, 14.
        head_pose: (6,) rotation vector (rad) and translation (mm), face model -> camera.
        gaze_target: (3,) mm, camera coordinates.
        landmarks: (68, 2) pixels of the photo as taken (lens distortion included), or None.
    """

    path: Path
    file_name: str
    person: str
    index: int
    camera_parameters: np.ndarray
    distortion: np.ndarray
    head_pose: np.ndarray
    gaze_target: np.ndarray
    landmarks: np.ndarray | None = None


@dataclass(frozen=True)
class PersonRecords:
    """The records of one person as columns; row i is ``records[i]``, a :class:`CaptureRecord`.

    ``file_name`` N names; ``camera_parameters`` (N, 4), ``distortion`` (N, k), ``head_pose``
    (N, 6), ``gaze_target`` (N, 3) float64; ``landmarks`` (N, 68, 2) float64 or None.
    """

    root: Path
    person: str
    file_name: tuple[str, ...]
    camera_parameters: np.ndarray
    distortion: np.ndarray
    head_pose: np.ndarray
    gaze_target: np.ndarray
    landmarks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.file_name)

    def __getitem__(self, row: int) -> CaptureRecord:
        return CaptureRecord(
            path=self.root / self.file_name[row],
            file_name=self.file_name[row],
            person=self.person,
            index=int(row),
            camera_parameters=self.camera_parameters[row],
            distortion=self.distortion[row],
            head_pose=self.head_pose[row],
            gaze_target=self.gaze_target[row],
            landmarks=None if self.landmarks is None else self.landmarks[row],
        )

    def __iter__(self) -> Iterator[CaptureRecord]:
        return (self[row] for row in range(len(self)))


class Source(Protocol):
    """A raw data set. ``kind`` is its name in the configuration and in the faces files."""

    kind: str
    persons: list[str]

    def read(self, person: str) -> PersonRecords:
        """Return the records of one person.

        Raises:
            SourceError: the person is unknown or its data cannot be used.
        """
        ...
