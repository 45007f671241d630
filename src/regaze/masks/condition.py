"""Masks as a condition of redirectors: shares of pixels that belong to parts of the face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from regaze.faces import FacesReader
from regaze.images import reduce_patches
from regaze.masks import EYES, NUMBER, MasksError, MasksReader, MasksWriter
from regaze.provenance import fingerprint


class MaskRows:
    """Masks of the faces of a data set; an input, see :mod:`regaze.redirectors.inputs`.

    Args:
        options: ``names``, some of ``head`` and ``eyes``.
        files: shards of the data set's masks.
        faces: its faces; rows are numbered as there.
        expect: ``method`` and ``method_version`` that they must be of; None takes any.

    Attributes:
        known: (N,) bool, rows whose face was found.
        identity: ``method`` and ``method_version``.

    Raises:
        FileNotFoundError, regaze.masks.MasksError: masks that cannot be used.
    """

    columns, in_memory = ("masks",), False

    def __init__(
        self,
        options: Mapping,
        files: Sequence[str | PathLike],
        faces: FacesReader,
        expect: Mapping[str, str] | None = None,
    ):
        self._names, self._files = tuple(options["names"]), list(files)
        self._reader = MasksReader(files, faces)
        self.known = self._reader.valid
        said = self._reader.attributes
        self.identity = {name: str(said[name]) for name in ("method", "method_version")}
        if expect is not None and dict(expect) != self.identity:
            raise MasksError(f"{files[0]}: expected masks of {dict(expect)}, found {self.identity}")

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``masks`` (n, names, H, W) uint8 of 0 and 255 at the patches' size."""
        found = self._reader.read(rows, self._names)
        return {"masks": torch.from_numpy(np.stack(list(found.values()), 1)).to(torch.uint8) * 255}

    def fingerprint(self) -> str:
        """Return 16 hex digits over the files."""
        return fingerprint(*self._files)

    @staticmethod
    def write_example(
        path: str | PathLike, options: Mapping, faces: FacesReader, known: np.ndarray
    ) -> None:
        """Write oval heads with eyes; see :class:`regaze.redirectors.inputs.FaceInput`."""
        width, height = faces.patch_size or (0, 0)
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        parts = np.where((x - 0.1) ** 2 / 0.5 + y**2 / 0.8 < 1, NUMBER["skin"], 0)
        for side, name in ((-0.3, EYES[0]), (0.4, EYES[-1])):
            parts[(x - side) ** 2 + (y + 0.2) ** 2 < 0.02] = NUMBER[name]
        size = {"patch_size": (width, height), "told_apart": ["skin", EYES[0], EYES[-1]]}
        with MasksWriter(path, method="exact", version="example", **size) as writer:
            for rows in writer.parts(faces, len(faces)):
                segmentation = np.where(known[rows, None, None], parts, 0).astype(np.uint8)
                writer.add(segmentation, known[rows])

    @staticmethod
    def finish(values: Tensor, size_px: int, flip: Tensor | None) -> Tensor:
        """Shares (B, names, h, w) in [0, 1]; see :meth:`FaceInput.finish`."""
        masks = values.flatten(0, 1)
        # Three at a time, as the colours of a picture.
        short = masks.new_zeros(-len(masks) % 3, *masks.shape[1:])
        pictures = torch.cat([masks, short]).unflatten(0, (-1, 3)).permute(0, 2, 3, 1)
        shares = (reduce_patches(pictures, size_px).flatten(0, 1)[: len(masks)] + 1) / 2
        shares = shares.unflatten(0, values.shape[:2])
        if flip is None:
            return shares
        return torch.where(flip[:, None, None, None], shares.flip(-1), shares)
