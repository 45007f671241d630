"""Faces of the synthetic set with other expressions, for encoders to learn from.

A capture shows each person with one expression, unless it is asked for more, and an encoder that
sees it with one shape alone takes it for a part of that: it recognises the person and knows the
expression. Here photos are moved along with the known head's surface as another expression moves
it, so that every expression comes with every shape. Wrinkles and shades stay where they were.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regaze.face3d.encoders import CODE
from regaze.face3d.flame import Flame
from regaze.face3d.ground_truth import GroundTruth, face_part, part_of
from regaze.face3d.model import FlameModel
from regaze.rotations import rodrigues

KEPT = 0.2
"""Share of photos that stay as they are."""

_COARSE = 4
"""Pixels of a view to one in which displacements run on around the face."""

_TURNS = 2
"""Rounds in which the place that came to a pixel is looked for: displacements are smooth."""


class Expressions:
    """Draws other expressions for rows, and moves patches and landmarks along.

    Args:
        known: the rows; every code of an expression is drawn from those of all rows, by itself.
        model: the head model.
        reach: expressions are so many times as far from the mean as the capture's. Those are
            faint: they move landmarks by a third of a pixel of a small encoder's crop and shapes by
            ten times as much, and the best guess of what is faint beside what is not is nothing.
    """

    def __init__(self, known: GroundTruth, model: FlameModel, reach: float = 1.0):
        self.exp = known.exp
        self.wide = known.exp.mean(0) + reach * (known.exp - known.exp.mean(0))
        first = CODE["shape"]
        marks = Flame(part_of(model), first, CODE["exp"])
        face = Flame(face_part(model), first, CODE["exp"])
        self.face = face.directions[first:]
        points = marks.directions[first:].unflatten(1, (-1, 3))[:, marks.full_corners[0]]
        self.marks = torch.einsum("lk,nlkd->nld", marks.full_bary[0], points).flatten(1)

    def draw(self, place: int, rng: np.random.Generator) -> Tensor:
        """By how much the codes (50,) of a row change."""
        own = self.exp[place]
        if rng.random() < KEPT:
            return torch.zeros_like(own)
        rows = torch.from_numpy(rng.integers(len(self.exp), size=len(own)))
        return self.wide[rows, torch.arange(len(own))] - own

    def moves(self, change: Tensor, root: Tensor, of: Tensor) -> Tensor:
        """How far points go (B, P, 2) in a picture of a metre per unit, x right and y down.

        Args:
            change: (B, 50) of the codes.
            root: (B, 3) axis-angles of the heads.
            of: (50, 3 P) directions of the points.
        """
        rest = (change @ of.to(change)).unflatten(1, (-1, 3))
        turned = rest @ rodrigues(root[:, None])[:, 0].transpose(1, 2)
        return turned[..., :2] * turned.new_tensor([1.0, -1.0])

    def moved(self, images: Tensor, moves: Tensor, seen: Tensor) -> Tensor:
        """Patches (B, H, W, 3) uint8 with faces moved along.

        Args:
            images: of the rows.
            moves: (B, V, 2) of the face's vertices in pixels.
            seen: (B, S, S) the vertex that each pixel of the view sees, -1 off the face.
        """
        height, width = images.shape[1:3]
        flat = seen.flatten(1).clamp(min=0).long()[..., None].expand(-1, -1, 2)
        field = moves.gather(1, flat).transpose(1, 2).unflatten(2, seen.shape[1:])
        field = field * field.new_tensor([2 / width, 2 / height])[:, None, None]
        field = _spread(field, (seen >= 0).float()[:, None])
        found = field
        for _ in range(_TURNS - 1):
            found = _read(field, -found)
        found = F.interpolate(found, size=(height, width), mode="bilinear", align_corners=False)
        pictures = _read(images.permute(0, 3, 1, 2).float(), -found)
        return pictures.round().to(torch.uint8).permute(0, 2, 3, 1)


def _read(pictures: Tensor, by: Tensor) -> Tensor:
    """Pictures (B, C, H, W) read at pixels moved by (B, 2, H, W), sides being 2 long."""
    own = torch.eye(2, 3, device=by.device, dtype=by.dtype).expand(len(by), -1, -1)
    grid = F.affine_grid(own, [len(by), 1, *by.shape[2:]], align_corners=False)
    grid = grid + by.permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _spread(field: Tensor, seen: Tensor) -> Tensor:
    """Displacements that go on around the face and fade."""
    coarse = F.avg_pool2d(torch.cat([field * seen, seen], 1), _COARSE)
    moved, share = F.avg_pool2d(coarse, 3, 1, 1).split([2, 1], 1)
    around = moved / share.clamp_min(1e-6) * (2 * share).clamp(max=1)
    around = F.interpolate(around, size=seen.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(around, field, seen)
