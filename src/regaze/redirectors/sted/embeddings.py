"""Factors of a face: their angles, their embeddings, and how the ones turn the others.

A factor of ``dof`` degrees of freedom has ``dof`` angles and an embedding of ``dof + 1`` rows. The
last factor is gaze and the one before it head orientation; factors of 0 degrees are appearance.
Angles and embeddings of all factors lie side by side in one row per picture, in factor order. The
turns are those of zhengyuf/STED-gaze ``models/st_ed.py``: Ry(yaw) Rx(pitch), whose pitch has the
other sign than that of a label's own rotation (:func:`regaze.angles.rotation_from_angles`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regaze.angles import rotation_x, rotation_y


def turn(angles: Tensor) -> Tensor:
    """Rotation matrices (B, dof+1, dof+1) of angles (B, dof) radians, dof 1 or 2.

    Raises:
        ValueError: another number of angles.
    """
    if angles.shape[-1] == 1:
        return rotation_x(angles[:, 0])[:, 1:, 1:]
    if angles.shape[-1] == 2:
        return rotation_y(angles[:, 1]) @ rotation_x(angles[:, 0])
    raise ValueError(f"angles: expected 1 or 2 per factor, found {angles.shape[-1]}")


@dataclass(frozen=True)
class Factors:
    """The factors of a model.

    Attributes:
        shapes: ``(dof, n)`` per factor: its angles, and the columns of its embedding.
    """

    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        *,
        size_0d_unit: int,
        num_1d_units: int,
        size_1d_unit: int,
        num_2d_units: int,
        size_2d_unit: int,
    ) -> Factors:
        """Appearance, then factors of one angle, then those of two; names are ST-ED's own."""
        appearance = ((0, size_0d_unit),) if size_0d_unit > 0 else ()
        ones = ((1, size_1d_unit),) * num_1d_units
        return cls(appearance + ones + ((2, size_2d_unit),) * num_2d_units)

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def angles(self) -> int:
        """Number of angles of all factors."""
        return sum(dof for dof, _ in self.shapes)

    @property
    def size(self) -> int:
        """Number of embedding values of all factors."""
        return sum((dof + 1) * columns for dof, columns in self.shapes)

    @property
    def names(self) -> tuple[str, ...]:
        """A name per factor: ``appearance``, ``one_1``, ..., ``two_1``, ..., ``head``, ``gaze``."""
        found, counts = [], {0: 0, 1: 0, 2: 0}
        for dof, _ in self.shapes[:-2]:
            counts[dof] += 1
            found.append(("appearance", f"one_{counts[1]}", f"two_{counts[2]}")[dof])
        return (*found, "head", "gaze")

    def place(self, name: str) -> int:
        """Number of the factor of this name."""
        return self.names.index(name)

    def angles_of(self, factor: int | str) -> slice:
        """Where the angles of a factor (number, negative from the end, or name) lie in a row."""
        place = self.place(factor) if isinstance(factor, str) else factor % len(self)
        start = sum(dof for dof, _ in self.shapes[:place])
        return slice(start, start + self.shapes[place][0])

    def mixed_angles(self, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
        """Angles (B, angles): the second's of factors where ``mask`` (B, factors) is 1."""
        dofs = torch.tensor([dof for dof, _ in self.shapes], device=mask.device)
        wide = mask.repeat_interleave(dofs, dim=1).to(first.dtype)
        return wide * second + (1 - wide) * first

    def rotate(
        self,
        embeddings: Tensor,
        angles: Tensor,
        mask: Tensor | None = None,
        *,
        inverse: bool = False,
    ) -> Tensor:
        """Turn embeddings (B, size) by angles (B, angles) in radians.

        Args:
            embeddings: rows of all factors; appearance stays as it is.
            angles: of every factor.
            mask: (B, factors) of 0 and 1; factors of 0 stay as they are. None turns all.
            inverse: turn back.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings, angles = embeddings.float(), angles.float()
            turned, start, first = [], 0, 0
            for place, (dof, columns) in enumerate(self.shapes):
                width = (dof + 1) * columns
                flat = embeddings[:, start : start + width]
                start += width
                if dof == 0:
                    turned.append(flat)
                    continue
                rotation = turn(angles[:, first : first + dof])
                first += dof
                moved = (rotation.mT if inverse else rotation) @ flat.unflatten(1, (dof + 1, -1))
                moved = moved.flatten(1)
                if mask is not None:
                    keep = mask[:, place, None].to(moved.dtype)
                    moved = keep * moved + (1 - keep) * flat
                turned.append(moved)
            return torch.cat(turned, 1)

    def canonical(self, embeddings: Tensor, angles: Tensor) -> Tensor:
        """Embeddings (B, size) turned back by their own angles (B, angles)."""
        return self.rotate(embeddings, angles, inverse=True)

    def moved(
        self, embeddings: Tensor, own: Tensor, to: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Embeddings (B, size) of angles ``own`` turned to ``to``, both (B, angles)."""
        return self.rotate(self.rotate(embeddings, own, mask, inverse=True), to, mask)

    def with_angles(self, angles: Tensor, **new: Tensor | None) -> Tensor:
        """A copy of angles (B, angles) with those of named factors replaced; None keeps them."""
        done = angles.clone()
        for name, values in new.items():
            if values is not None:
                done[:, self.angles_of(name)] = values.to(done.dtype)
        return done


def similarity_loss(first: Tensor, second: Tensor) -> Tensor:
    """One minus the mean cosine similarity of rows (B, N), in float32: a scalar in [0, 2]."""
    similarity = torch.nn.functional.cosine_similarity(first.float(), second.float(), dim=-1)
    return 1.0 - similarity.mean()
