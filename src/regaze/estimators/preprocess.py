"""From stored patches to what an estimator reads, the same way in training and in measuring."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from regaze.images import equalise, reduce_patches, to_uint8

PREPROCESSES = ("equalise", "none")


def prepare(
    pixels: np.ndarray | Tensor, size_px: int | tuple[int, int] | None, preprocess: str
) -> Tensor:
    """Reduce (N,H,W,3) uint8 RGB patches to ``size_px`` and return (N,3,h,w) float32 in [-1,1].

    A tensor's result lies on the tensor's device (equalisation itself runs on the CPU).

    ``preprocess="equalise"`` equalises the luminance after the reduction: pictures that a model
    made at ``size_px`` and true pictures that are stored larger are then treated alike. At the
    stored size this is exactly the reader of ST-ED (zhengyuf/STED-gaze ``dataset.py``).

    Raises:
        ValueError: a size that does not divide the patch.
    """
    reduced = reduce_patches(pixels, size_px)
    if preprocess == "none":
        return reduced
    unchanged = tuple(reduced.shape[-2:]) == tuple(pixels.shape[1:3])
    return reduce_patches(equalise(pixels if unchanged else to_uint8(reduced))).to(reduced.device)
