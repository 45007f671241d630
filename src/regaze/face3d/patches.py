"""From normalised face patches to the encoder's crops; training and encoding share this.

The square around the 68 landmarks is that of :mod:`regaze.face3d.crop` for every size of crop.
Where a crop has fewer pixels than the patch, a pixel is the mean of several samples, so that
small crops do not alias. What lies outside the patch is black.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regaze.face3d.crop import crop_box, landmark_bounds, undetected_bounds, warp_tensor

LEAST_EXTENT = 4
"""Least width plus height in pixels that landmarks of a face span: their square would be empty."""

_ROWS = 64
"""Patches at a time: bounds the memory of the samples."""


class Crops(NamedTuple):
    """Crops of N patches.

    Attributes:
        images: (N, 3, S, S) float32 RGB in [0, 1].
        transforms: (N, 3, 3) float64, patch pixel to crop pixel.
        detected: (N,) bool, False where landmarks are unknown; the crop is then the whole patch.
    """

    images: Tensor
    transforms: np.ndarray
    detected: np.ndarray


def crop_transforms(
    landmarks: np.ndarray, patch_size: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Transforms (N, 3, 3) float64 from patch to crop pixels, and which rows have a face (N,).

    Args:
        landmarks: (N, 68, 2) patch pixels, NaN where unknown.
        patch_size: (width, height) of the patches.
        size: side of the crops in pixels.
    """
    landmarks = np.asarray(landmarks, np.float64)
    detected = np.isfinite(landmarks).all((1, 2))
    extent = np.ptp(np.where(detected[:, None, None], landmarks, 0.0), axis=1).sum(1)
    detected &= extent >= LEAST_EXTENT
    bounds = np.tile(undetected_bounds(*patch_size), (len(landmarks), 1))
    bounds[detected] = landmark_bounds(landmarks[detected])
    return crop_box(bounds).transform(size), detected


def oversampling(transforms: np.ndarray) -> int:
    """Samples per pixel and axis that crops of patches need: 1 where nothing is reduced."""
    if not len(transforms):
        return 1
    return max(1, round(1 / max(float(np.median(transforms[:, 0, 0])), 0.05)))


def sample_crops(pixels: Tensor, transforms: Tensor, size: int, samples: int = 1) -> Tensor:
    """Sample crops (N, 3, size, size) float32 in [0, 1] on the device of the patches.

    Args:
        pixels: (N, H, W, 3) uint8 RGB.
        transforms: (N, 3, 3) patch pixel to crop pixel.
        size: side of the crops in pixels.
        samples: per pixel and axis; their mean is taken.
    """
    images = pixels.permute(0, 3, 1, 2).float() / 255
    if samples == 1:
        return warp_tensor(images, transforms, size)
    # pixel i is the mean of the fine pixels samples * i ... samples * i + samples - 1
    finer = transforms.new_tensor(
        [[samples, 0, (samples - 1) / 2], [0, samples, (samples - 1) / 2], [0, 0, 1]]
    )
    return F.avg_pool2d(warp_tensor(images, finer @ transforms, samples * size), samples)


def crop_patches(pixels: np.ndarray, landmarks: np.ndarray, size: int) -> Crops:
    """Crop patches around their faces; a row's crop depends on that row alone.

    Args:
        pixels: (N, H, W, 3) uint8 RGB, as a faces file holds them.
        landmarks: (N, 68, 2) patch pixels, NaN where unknown.
        size: side of the crops in pixels: the encoder's.
    """
    height, width = pixels.shape[1:3]
    transforms, detected = crop_transforms(landmarks, (width, height), size)
    images = torch.empty(len(pixels), 3, size, size)
    # The number of samples follows from the row, not from the rows it comes with.
    counts = np.array([oversampling(one[None]) for one in transforms], int)
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            there = torch.from_numpy(transforms[part])
            chosen = torch.from_numpy(np.ascontiguousarray(pixels[part]))
            images[part] = sample_crops(chosen, there, size, int(count))
    return Crops(images, transforms, detected)
