"""Walks through the factors of a face, one after the other, as frames."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from regaze.images import to_uint8
from regaze.redirectors.sted.redirector import StedRedirector

STEPS = 40
"""Frames of one way; each walk also goes back (zhengyuf/STED-gaze ``utils.py``)."""

_SWEEP = 0.45 * math.pi
_CIRCLE = 0.6


@torch.no_grad()
def walks(
    redirector: StedRedirector, image: Tensor, other: Tensor
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a name and frames (80, S, S, 3) uint8 per factor, forwards and back.

    Appearance blends (1-j) a + j b for j from -1 to 1; a factor of one angle sweeps +-0.45 pi; one
    of two runs (pitch, yaw) = 0.6 (sin, cos) of a full circle. All else is the first picture's.

    Args:
        redirector: a trained model, in evaluation mode.
        image: (1,3,S,S) in [-1,1], the face that is shown.
        other: (1,3,S,S) in [-1,1], a second face for the appearance walk.
    """
    angles, embeddings = redirector.encode(torch.cat([image, other]))
    factors = redirector.net.factors
    parts = torch.linspace(-1, 1, STEPS, device=image.device)[:, None]
    own, rows = angles[:1].expand(STEPS, -1), embeddings[:1].expand(STEPS, -1)
    start = 0
    for place, (dof, columns) in enumerate(factors.shapes):
        width = (dof + 1) * columns
        if dof == 0:
            moved, here = rows.clone(), slice(start, start + width)
            moved[:, here] = (1 - parts) * rows[:, here] + parts * embeddings[1:, here]
        else:
            turn = math.pi * (parts + 1)
            to = own.clone()
            path = _SWEEP * parts if dof == 1 else _CIRCLE * torch.cat([turn.sin(), turn.cos()], 1)
            to[:, factors.angles_of(place)] = path
            moved = factors.moved(rows, own, to)
        start += width
        frames = to_uint8(redirector.decode(moved))
        yield factors.names[place], np.concatenate([frames, frames[::-1]])
