"""Faces as an inverter draws them: what edits of its codes are compared with besides the truth."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from regaze.faces import FacesReader
from regaze.images import reduce_patches, to_uint8
from regaze.masks.background import faces_reader
from regaze.redirectors.inversion.redirector import Inversion
from regaze.redirectors.networks import load_redirector

_AT_A_TIME = 32


class InvertedFaces(FacesReader):
    """Faces read as :class:`regaze.faces.FacesReader` does, each drawn from its own code.

    Args:
        paths: shards of the faces, or one file.
        inverter: model folder of class ``inversion``.
        masks, background: of faces whose background is removed before they are inverted.
        device: where the inverter works.

    Raises:
        FileNotFoundError, ValueError: as readers of faces and masks, or no inverter.
    """

    def __init__(
        self,
        paths: str | os.PathLike | Sequence[str | os.PathLike],
        inverter: str | os.PathLike,
        masks: Sequence[str | os.PathLike] | None = None,
        background: Sequence[int] = (0, 0, 0),
        device: str = "cpu",
    ):
        super().__init__(paths)
        self._seen, self._device = faces_reader(paths, masks, background), device
        self._inverter, record = load_redirector(inverter, device=device)
        if not isinstance(self._inverter, Inversion):
            found = record["config"]["class"]
            raise ValueError(f"{inverter}: class: expected inversion, found {found!r}")
        self._size = record["config"]["size_px"]

    def pixels(self, rows) -> np.ndarray:
        """Pictures (n, S, S, 3) uint8 RGB of global rows, at the inverter's size."""
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        made = [np.zeros((0, self._size, self._size, 3), np.uint8)]
        for start in range(0, len(rows), _AT_A_TIME):
            stored = torch.as_tensor(self._seen.pixels(rows[start : start + _AT_A_TIME]))
            images = reduce_patches(stored.to(self._device), self._size)
            made.append(to_uint8(self._inverter.inverted(images)))
        return np.concatenate(made)

    def originals(self, rows) -> np.ndarray:
        """The faces themselves (n, S, S, 3) uint8 at that size."""
        return to_uint8(reduce_patches(self._seen.pixels(rows), self._size))

    def chance(self, count: int, seed: int) -> np.ndarray:
        """As many pictures of chance (n, S, S, 3) uint8 as the generator draws of random codes."""
        drawn = torch.Generator().manual_seed(seed)
        decoder = self._inverter.saved.decoder
        z = torch.randn(count, decoder.style_dim, generator=drawn).to(self._device)
        with torch.no_grad():
            codes = decoder.codes(decoder.mapping(z)) - self._inverter.saved.latent_avg
            return to_uint8(self._inverter.pictures(codes))
