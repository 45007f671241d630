"""Eye regions with their classes as an input of redirectors: painted when rows are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from regaze.faces import FacesReader
from regaze.masks import MasksReader
from regaze.masks.condition import MaskRows
from regaze.masks.painting import painted, parts_of_landmarks, place_of
from regaze.provenance import fingerprint

CROPS = ("eye_strip", "eyes", "face")
_HELD_BYTES = 512 << 20
_LARGEST = np.float32(np.pi)


class EyeRegionRows:
    """Classes and places of eye regions; an input, see :mod:`regaze.redirectors.inputs`.

    Brows, nose and mouth are painted from the landmarks of the faces, irises from landmarks and
    gaze; skin and eyes are those of the data set's masks, exact where these are the renderer's.

    Args:
        options: ``classes``, 6 or 7; ``crop``: ``eye_strip``, its shown half ``eyes``, or ``face``,
            which is the whole patch.
        files: shards of the data set's masks.
        faces: its faces, with landmarks.
        expect: ``method`` and ``method_version`` of the masks; None takes any.

    Attributes:
        known: (N,) bool, rows with masks and landmarks.
        identity: ``method`` and ``method_version`` of the masks.
        in_memory: whether they are few enough to be held by trainings.

    Raises:
        FileNotFoundError, regaze.masks.MasksError: masks that cannot be used.
        ValueError: the faces have no landmarks, or gazes that are no radians.
    """

    columns = ("parts", "place")

    def __init__(
        self,
        options: Mapping,
        files: Sequence[str | PathLike],
        faces: FacesReader,
        expect: Mapping[str, str] | None = None,
    ):
        self._files, self._faces = list(files), faces
        self._classes, self._crop = options["classes"], options["crop"]
        if not faces.has("landmarks"):
            raise ValueError(
                f"{faces.paths[0]}: landmarks: expected 68 points of every face, from which eye "
                "regions are painted; found none"
            )
        beyond = (np.abs(faces.labels[:, :2]) > _LARGEST).any(1)
        if beyond.any():
            row = int(np.flatnonzero(beyond)[0])
            raise ValueError(
                f"{faces.paths[0]}: labels: expected gazes in radians, up to pi, found "
                f"{faces.labels[row, :2].tolist()} in row {row}"
            )
        # The same file, opened and checked as masks are.
        own = MaskRows({"names": ["head"]}, files, faces, expect)
        self._masks, self.identity = MasksReader(files, faces), own.identity
        every = np.arange(len(faces))
        marks = faces.dataset("landmarks", every) if len(faces) else np.zeros((0, 68, 2))
        self.known = own.known & np.isfinite(marks).all((1, 2))
        width, height = faces.patch_size or (0, 0)
        self.in_memory = bool(self.known.sum() * width * height <= _HELD_BYTES)

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``parts`` (n,H,W) uint8 class numbers of the patches, ``place`` (n,4) float32.

        A place is left, top, right, bottom of what is shown, as shares of the patch's sides. Zeros
        for rows that are not known.
        """
        rows = np.asarray(rows, np.int64)
        size = self._faces.patch_size or (0, 0)
        made = np.zeros((len(rows), size[1], size[0]), np.uint8)
        places = np.tile(np.float32([0, 0, 1, 1]), (len(rows), 1))
        there = np.flatnonzero(self.known[rows])
        if len(there):
            wanted = rows[there]
            marks = self._faces.dataset("landmarks", wanted).astype(np.float64)
            segmentation = self._masks.read(wanted, ["segmentation"])["segmentation"]
            labels = self._faces.labels[wanted]
            for place, points, known, label in zip(there, marks, segmentation, labels, strict=True):
                parts = parts_of_landmarks(points, label[:2], label[2:4])
                made[place] = painted(parts, size, self._classes, known=known)
                places[place] = place_of(parts, size, self._crop)
        return {"parts": torch.from_numpy(made), "place": torch.from_numpy(places)}

    def fingerprint(self) -> str:
        """Return 16 hex digits over the files."""
        return fingerprint(*self._files)

    @staticmethod
    def write_example(
        path: str | PathLike, options: Mapping, faces: FacesReader, known: np.ndarray
    ) -> None:
        """Write masks of oval heads; see :class:`regaze.redirectors.inputs.FaceInput`."""
        MaskRows.write_example(path, options, faces, known)

    @staticmethod
    def finish(values: Tensor, size_px: int, flip: Tensor | None) -> Tensor:
        """Class numbers (B,H,W) and places (B,4), of mirrored faces where ``flip`` (B,) says so."""
        if flip is None:
            return values
        if values.dtype == torch.uint8:
            return torch.where(flip[:, None, None], values.flip(-1), values)
        left, top, right, bottom = values.unbind(1)
        mirrored = torch.stack([1 - right, top, 1 - left, bottom], 1)
        return torch.where(flip[:, None], mirrored, values)
