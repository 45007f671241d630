"""Rows of codes: which part of the face each one shapes, and how they spread over layers.

A code has ``base_layers`` rows of coarse structure that all classes share, then a row of shape and
one of texture per class. Local generators read one row per layer, so a code is spread before it is
drawn (``seasonSH/SemanticStyleGAN``, ``naranjuelo/GC-GAN``: ``models/semantic_stylegan.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NAMES = ("background", "face", "eye", "eyebrow", "nose", "iris", "mouth")
"""Classes by number, as rows of codes are called by."""


@dataclass(frozen=True)
class Layout:
    """Rows of the codes of a generator.

    Attributes:
        seg_dim: classes.
        local_layers: layers of a local generator.
        base_layers: of them those that read coarse structure, but for the background's.
        depth_layers: of them those before the pseudo-depth, which read shape.

    Raises:
        ValueError: the numbers do not fit each other.
    """

    seg_dim: int
    local_layers: int
    base_layers: int
    depth_layers: int

    def __post_init__(self):
        if not self.base_layers <= self.depth_layers <= self.local_layers:
            raise ValueError(
                "base_layers, depth_layers, local_layers: expected each at least the one before, "
                f"found {self.base_layers}, {self.depth_layers}, {self.local_layers}"
            )

    @property
    def rows(self) -> int:
        """Rows of a code."""
        return self.base_layers + 2 * self.seg_dim

    @property
    def spread_rows(self) -> int:
        """Rows of a code that is spread."""
        return self.seg_dim * self.local_layers

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every row, ``coarse_1``, ... and ``<class>_shape``, ``<class>_texture``."""
        coarse = [f"coarse_{number + 1}" for number in range(self.base_layers)]
        known = [*NAMES[: self.seg_dim], *(f"class{n}" for n in range(len(NAMES), self.seg_dim))]
        return (*coarse, *(f"{one}_{what}" for one in known for what in ("shape", "texture")))

    def spread_map(self) -> list[int]:
        """Row of the code for every layer of every class, class by class."""
        found = []
        for number in range(self.seg_dim):
            coarse = self.base_layers if number else 0
            row = self.base_layers + 2 * number
            found += range(coarse)
            found += [row] * (self.depth_layers - coarse)
            found += [row + 1] * (self.local_layers - self.depth_layers)
        return found

    def whole(self, codes: Tensor) -> Tensor:
        """Codes (B, rows, D) of codes (B, D), which then all rows share, or of whole ones.

        Raises:
            ValueError: another number of rows; spread codes are not folded back.
        """
        if codes.ndim == 2:
            return codes[:, None].expand(-1, self.rows, -1)
        if codes.ndim != 3 or codes.shape[1] != self.rows:
            raise ValueError(
                f"codes: expected (B, D) or (B, {self.rows}, D), found {tuple(codes.shape)}"
            )
        return codes

    def spread(self, codes: Tensor) -> Tensor:
        """Codes (B, spread_rows, D) of codes (B, D), (B, rows, D), or of spread ones.

        Raises:
            ValueError: another number of rows.
        """
        if codes.ndim == 3 and codes.shape[1] == self.spread_rows:
            return codes
        if codes.ndim == 3 and codes.shape[1] != self.rows:
            raise ValueError(
                f"codes: expected 1, {self.rows} or {self.spread_rows} rows, found {codes.shape[1]}"
            )
        return self.whole(codes)[:, self.spread_map()]

    def mixed(self, first: Tensor, second: Tensor, draws: Tensor) -> Tensor:
        """Codes (B, rows, D) whose classes are of one code or of another, both (B, D).

        Args:
            first, second: codes; coarse structure is the first's.
            draws: (seg_dim, B) numbers: 0 takes the class from the first, 1 its texture from the
                second, 2 both shape and texture.
        """
        taken = torch.stack([draws >= 2, draws >= 1], 1).flatten(0, 1).T
        coarse = taken.new_zeros(len(first), self.base_layers)
        chosen = torch.cat([coarse, taken], 1)[..., None]
        return torch.where(chosen, self.whole(second), self.whole(first))


def truncated(codes: Tensor, centre: Tensor, psi: float) -> Tensor:
    """Codes moved towards a centre, which is broadcast: ``centre + psi (codes - centre)``."""
    return centre + psi * (codes - centre) if psi < 1 else codes
