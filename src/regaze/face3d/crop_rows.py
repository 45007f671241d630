"""Where the squares lie that codes are read from: an input of methods that render heads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from regaze.face3d.crop import CROP_SIZE
from regaze.face3d.encode import usable_landmarks
from regaze.face3d.patches import crop_transforms
from regaze.faces import FacesAttributes, FacesReader, FacesWriter

_BLOCK = 4096


def place_of_crops(landmarks: np.ndarray, size: tuple[int, int]) -> tuple[Tensor, np.ndarray]:
    """Matrices (N, 3, 3) float32 from patches in [-1, 1] to pixels of crops of 224 px.

    Args:
        landmarks: (N, 68, 2) pixels of the patch, NaN where unknown.
        size: (width, height) of the patches.

    Returns:
        The matrices, and which rows (N,) have a face; others have that of the whole patch.
    """
    known = usable_landmarks(landmarks, size)
    points = np.where(known[:, None, None], landmarks, np.nan)
    transforms, _ = crop_transforms(points, size, CROP_SIZE)
    width, height = size
    pixels = [[width / 2, 0, (width - 1) / 2], [0, height / 2, (height - 1) / 2], [0, 0, 1]]
    return torch.from_numpy(transforms @ np.array(pixels)).float(), known


class CropRows:
    """Places of crops of a data set's faces; see :mod:`regaze.redirectors.inputs`.

    Args:
        options: none.
        files: shards of faces with landmarks.
        faces: the same, whose rows are numbered.
        expect: nothing can be expected of landmarks.

    Raises:
        ValueError: the faces are without landmarks.
    """

    columns, in_memory = ("crop",), True

    def __init__(
        self,
        options: Mapping,
        files: Sequence[str | PathLike],
        faces: FacesReader,
        expect: Mapping[str, str] | None = None,
    ):
        reader = FacesReader(files)
        if len(reader) != len(faces):
            raise ValueError(
                f"{reader.paths[0]}: expected {len(faces)} rows as the faces have, "
                f"found {len(reader)}"
            )
        if not reader.has("landmarks") or reader.patch_size is None:
            raise ValueError(
                f"{reader.paths[0]}: expected 68 landmarks of patches of one size, found none"
            )
        found = [
            place_of_crops(
                reader.dataset("landmarks", np.arange(at, min(at + _BLOCK, len(reader)))),
                reader.patch_size,
            )
            for at in range(0, len(reader), _BLOCK)
        ]
        self._places = torch.cat([one[0] for one in found])
        self.known = np.concatenate([one[1] for one in found])
        self.identity: dict[str, str] = {}

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``crop`` (n, 3, 3) of rows."""
        return {"crop": self._places[torch.from_numpy(np.asarray(rows, np.int64))]}

    def fingerprint(self) -> str:
        """16 hex digits over all places."""
        digest = hashlib.sha256(self.known.tobytes())
        digest.update(self._places.numpy())
        return digest.hexdigest()[:16]

    @staticmethod
    def write_example(
        path: str | PathLike, options: Mapping, faces: FacesReader, known: np.ndarray
    ) -> None:
        """Write faces with landmarks all over them."""
        size = faces.patch_size
        rng = np.random.default_rng(0)
        marks = np.array(size) * rng.uniform(0.15, 0.85, (len(faces), 68, 2))
        marks[~known] = np.nan
        with FacesWriter(path, FacesAttributes("sted", size, 125.0, 600.0, "none", "x")) as writer:
            for code, person in enumerate(faces.persons):
                rows = np.flatnonzero(faces.person_of == code)
                given = faces.pixels(rows), np.zeros((len(rows), 8), np.float32)
                writer.add_person(person, *given, landmarks=marks[rows].astype(np.float32))

    @staticmethod
    def finish(values: Tensor, size_px: int, flip: Tensor | None) -> Tensor:
        """Places as they are; those of mirrored faces are not known, as their codes are not."""
        return values
