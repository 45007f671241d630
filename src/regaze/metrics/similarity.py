"""How alike two pictures are: PSNR, SSIM, L1 and PSNR of the eyes, one value per picture.

All take (N,3,H,W) float images in [-1,1] and answer (N,) float64 arrays, so values do not depend
on how pictures are batched. Levels are compared on [0,1].
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regaze.images import eye_boxes

PSNR_LIMIT_DB = 100.0
"""Value of identical pictures, whose ratio is infinite; rounding to uint8 alone gives less."""

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def _unit(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    return (found.double() + 1) / 2, (wanted.double() + 1) / 2


def _decibels(squared_error: Tensor) -> np.ndarray:
    lowest = 10 ** (-PSNR_LIMIT_DB / 10)
    return (-10 * torch.log10(squared_error.clamp_min(lowest))).cpu().numpy()


def psnr(found: Tensor, wanted: Tensor) -> np.ndarray:
    """Return the peak signal-to-noise ratio (N,) in dB, at most :data:`PSNR_LIMIT_DB`."""
    found, wanted = _unit(found, wanted)
    return _decibels(((found - wanted) ** 2).mean(dim=(1, 2, 3)))


def eye_psnr(found: Tensor, wanted: Tensor) -> np.ndarray:
    """Return the PSNR (N,) in dB over both eye boxes (:func:`regaze.images.eye_boxes`) together."""
    found, wanted = _unit(found, wanted)
    height, width = found.shape[-2:]
    squared = (found - wanted) ** 2
    parts = [
        squared[:, :, top:bottom, left:right].flatten(1)
        for left, top, right, bottom in eye_boxes(width)
    ]
    return _decibels(torch.cat(parts, 1).mean(1))


def l1(found: Tensor, wanted: Tensor) -> np.ndarray:
    """Return the mean absolute difference (N,) of (N,3,H,W) in [-1,1], as ST-ED's ``l1``."""
    found, wanted = _unit(found, wanted)
    return 2 * (found - wanted).abs().mean(dim=(1, 2, 3)).cpu().numpy()


def colour_shift(found: Tensor, wanted: Tensor) -> np.ndarray:
    """Return how far the mean colours (N,) of the middle half of the pictures are apart.

    In grey levels of 0 to 255, the root mean square over the channels: what is left of differences
    that are of light or skin rather than of edges.
    """
    height, width = found.shape[-2:]
    middle = (..., slice(height // 4, -(height // 4)), slice(width // 4, -(width // 4)))
    apart = [255 * one[middle].mean((2, 3)) for one in _unit(found, wanted)]
    return (apart[0] - apart[1]).square().mean(1).sqrt().cpu().numpy()


LUMA = (0.299, 0.587, 0.114)
_GREY_WINDOW = 7


def ssim_grey(found: Tensor, wanted: Tensor, weights: tuple[float, ...] = LUMA) -> np.ndarray:
    """Return the structural similarity (N,) of grey levels with a uniform window of 7 x 7.

    The measure of the earlier NeRF gaze system that GazeNeRF grew from: pictures are rounded to
    levels, then to grey, and compared with sample variances on 0 to 255 over the positions where
    the window lies inside, as scikit-image's default. ``weights`` of R, G, B make the grey.
    Raises ValueError when a side is shorter than the window.
    """
    found, wanted = _unit(found, wanted)
    if min(found.shape[-2:]) < _GREY_WINDOW:
        raise ValueError(f"pictures: expected sides of at least {_GREY_WINDOW} pixels")
    mix = found.new_tensor(weights)[None, :, None, None]
    grey = [
        ((one * 255).round().clamp(0, 255) * mix).sum(1, keepdim=True).round()
        for one in (found, wanted)
    ]
    count = _GREY_WINDOW**2
    stack = torch.cat([*grey, grey[0] ** 2, grey[1] ** 2, grey[0] * grey[1]])
    smooth = torch.nn.functional.avg_pool2d(stack, _GREY_WINDOW, 1)
    mean_f, mean_w, square_f, square_w, product = smooth.split(len(found))
    unbiased = count / (count - 1)
    variance = unbiased * (square_f - mean_f**2 + square_w - mean_w**2)
    covariance = unbiased * (product - mean_f * mean_w)
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    index = ((2 * mean_f * mean_w + c1) * (2 * covariance + c2)) / (
        (mean_f**2 + mean_w**2 + c1) * (variance + c2)
    )
    return index.mean(dim=(1, 2, 3)).cpu().numpy()


def _smoother(size: int, like: Tensor) -> Tensor:
    """Matrix (size - window + 1, size) that smooths a line of pixels where the window fits."""
    offset = torch.arange(SSIM_WINDOW, dtype=like.dtype, device=like.device) - SSIM_WINDOW // 2
    weight = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    weight = weight / weight.sum()
    matrix = like.new_zeros(size - SSIM_WINDOW + 1, size)
    for row in range(len(matrix)):
        matrix[row, row : row + SSIM_WINDOW] = weight
    return matrix


def ssim(found: Tensor, wanted: Tensor) -> np.ndarray:
    """Return the structural similarity (N,) in [-1,1] (Wang et al., IEEE TIP 2004).

    Gaussian window of 11 x 11 with sigma 1.5, K 0.01 and 0.03, population variances, range 1; the
    mean over channels and over the positions where the window lies inside the picture, as
    scikit-image computes it with ``gaussian_weights`` (torchmetrics adds the padded border).
    Raises ValueError when a side is shorter than the window.
    """
    found, wanted = _unit(found, wanted)
    if min(found.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"pictures: SSIM needs sides of at least {SSIM_WINDOW} pixels, "
            f"found {tuple(found.shape[-2:])}"
        )
    # Two matrix products: grouped convolutions in float64 are 50 times slower on a CPU.
    down, along = (_smoother(side, found) for side in found.shape[-2:])
    stack = torch.cat([found, wanted, found * found, wanted * wanted, found * wanted])
    smooth = down @ stack @ along.mT
    mean_f, mean_w, square_f, square_w, product = smooth.split(len(found))
    variance_f, variance_w = square_f - mean_f**2, square_w - mean_w**2
    covariance = product - mean_f * mean_w
    c1, c2 = _K1**2, _K2**2
    index = ((2 * mean_f * mean_w + c1) * (2 * covariance + c2)) / (
        (mean_f**2 + mean_w**2 + c1) * (variance_f + variance_w + c2)
    )
    return index.mean(dim=(1, 2, 3)).cpu().numpy()


SIMILARITY = {
    "psnr": psnr,
    "ssim": ssim,
    "eye_psnr": eye_psnr,
    "l1": l1,
    "ssim_grey": ssim_grey,
    "colour_shift": colour_shift,
}
"""Metrics that compare the redirected picture with the true one."""
