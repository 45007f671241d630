"""Where eyes lie in normalised faces, for estimators that look at them more closely."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EYES = ((10 / 64, 14 / 64, 30 / 64, 30 / 64), (34 / 64, 14 / 64, 54 / 64, 30 / 64))
"""Fractions (left, top, right, bottom) of the patch that hold an eye in every normalised face: the
boxes of the metrics (x 12-28 and 36-52, y 16-27 of 64) with a margin of some pixels, and with sides
of 20 x 16 pixels of 64 so that two halvings stay whole."""
CELLS = (4, 5)
"""Rows and columns that the last map of an eye is read in."""


def eye_crops(images: Tensor) -> Tensor:
    """Both eyes (2B, C, h, w) of patches (B, C, H, W), the second half mirrored.

    Both are read by one trunk then, since a right eye is a mirrored left eye.
    """
    height, width = images.shape[-2:]
    crops = []
    for left, top, right, bottom in _EYES:
        rows = slice(round(top * height), round(bottom * height))
        crops.append(images[:, :, rows, round(left * width) : round(right * width)])
    return torch.cat([crops[0], crops[1].flip(3)])


def side_by_side(maps: Tensor) -> Tensor:
    """What a trunk made of :func:`eye_crops`, (2B, C, h, w), read by position: (B, 2 C 20)."""
    first, second = F.adaptive_avg_pool2d(maps, CELLS).flatten(1).chunk(2)
    return torch.cat([first, second], 1)
