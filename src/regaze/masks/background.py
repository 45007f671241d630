"""Faces whose background is replaced by one colour, as seen through their head masks."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np

from regaze.faces import FacesReader
from regaze.masks import MasksReader

log = logging.getLogger("regaze.masks")


class WithoutBackground(FacesReader):
    """Faces read as :class:`regaze.faces.FacesReader` does, with a plain background.

    A pixel inside the head mask is what is stored, every other one is the colour; nothing is
    feathered, so the change can be undone nowhere and mixed with nothing. Rows without a mask
    (``valid`` false) keep their background: a blank mask would blank the face.

    Args:
        paths: shards of the faces, or one file.
        masks: shards of their masks.
        colour: R, G, B from 0 to 255. Black is what normalisation puts where a photo ends.

    Attributes:
        unmasked: number of rows that keep their background.

    Raises:
        FileNotFoundError, ValueError: as the readers of faces and masks.
    """

    def __init__(
        self,
        paths: str | os.PathLike | Sequence[str | os.PathLike],
        masks: str | os.PathLike | Sequence[str | os.PathLike],
        colour: Sequence[int] = (0, 0, 0),
    ):
        super().__init__(paths)
        self._colour = np.asarray(colour, np.uint8)
        self._masks = MasksReader(masks, FacesReader(paths))
        self.unmasked = int((~self._masks.valid).sum())
        if self.unmasked:
            total = len(self._masks)
            log.warning("%d of %d rows have no mask: background kept", self.unmasked, total)

    def pixels(self, rows) -> np.ndarray:
        """Pixels (n, H, W, 3) uint8 RGB of global rows, their background replaced."""
        stored = super().pixels(rows)
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        head = self._masks.read(rows, ["head"])["head"]
        keep = head | ~self._masks.valid[rows][:, None, None]
        return np.where(keep[..., None], stored, self._colour)


def faces_reader(
    faces: str | os.PathLike | Sequence[str | os.PathLike],
    masks: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    colour: Sequence[int] = (0, 0, 0),
) -> FacesReader:
    """Faces as they are stored, or with a plain background where masks are given."""
    return FacesReader(faces) if not masks else WithoutBackground(faces, masks, colour)
