"""Pictures at rest (uint8 RGB, height-width-channel) and in networks (float32 NCHW in [-1,1]).

Every part that turns stored patches into network input, or network output into pictures, goes
through this module, so that training, sampling and measuring see the same numbers.
"""

from __future__ import annotations

import math

import numpy as np
import torch


def as_width_height(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return ``(width, height)`` in pixels of ``size``, an int standing for a square.

    Raises ValueError when a side is below one pixel.
    """
    width, height = (size, size) if isinstance(size, int | np.integer) else size
    if width < 1 or height < 1:
        raise ValueError(f"size: expected sides of at least 1 pixel, found {width}x{height}")
    return int(width), int(height)


def _require_patches(pixels: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
    tensor = (
        torch.from_numpy(np.ascontiguousarray(pixels)) if isinstance(pixels, np.ndarray) else pixels
    )
    if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[-1] != 3:
        raise ValueError(
            f"{name}: expected uint8 pictures of shape (N,H,W,3), "
            f"found {tensor.dtype} {tuple(tensor.shape)}"
        )
    return tensor


def reduce_patches(
    pixels: np.ndarray | torch.Tensor, size: int | tuple[int, int] | None = None
) -> torch.Tensor:
    """Reduce stored patches by averaging over areas and return network input.

    ``pixels`` is (N,H,W,3) uint8 RGB (array or tensor, any device); ``size`` is the wanted side,
    ``(width, height)``, or None to keep the size. The result is (N,3,height,width) float32 in
    [-1,1], ``2 v / 255 - 1`` of the mean v over the part of the picture that becomes one pixel; a
    stored pixel that lies in two such parts counts in each by its share. The mean is taken in
    exact integers-in-float arithmetic, hence independent of batch size and device.

    Raises ValueError when the input is not uint8 (N,H,W,3) or when ``size`` is larger than the
    patch or of another shape.
    """
    tensor = _require_patches(pixels, "pixels")
    _, height, width, _ = tensor.shape
    to_width, to_height = as_width_height((width, height) if size is None else size)
    if to_width > width or to_width * height != to_height * width:
        raise ValueError(
            f"size: expected {width}x{height} or a smaller size of this shape, "
            f"found {to_width}x{to_height}"
        )
    if width % to_width or height % to_height:
        values = _area_means(tensor.permute(0, 3, 1, 2), to_height, to_width)
    else:
        values = _block_means(tensor, width // to_width).permute(0, 3, 1, 2)
    return (values * (2.0 / 255.0) - 1.0).contiguous()


def _block_means(values: torch.Tensor, factor: int) -> torch.Tensor:
    """Return the (N,H/f,W/f,C) float32 means of blocks of (N,H,W,C) bytes, quicker than pooling."""
    if factor == 1:
        return values.to(torch.float32)
    sums = values.to(torch.int32)
    for side in (1, 2):
        sums = sum(sums.unflatten(side, (-1, factor)).unbind(side + 1))
    return sums.to(torch.float32) / factor**2


def _area_means(values: torch.Tensor, to_height: int, to_width: int) -> torch.Tensor:
    """Return the (N,C,to_height,to_width) float32 means of (N,C,H,W) integers.

    All sums are of whole numbers below 2^53, so float64 holds them exactly in any order.
    """
    down, rows = _shares(values.shape[2], to_height)
    across, columns = _shares(values.shape[3], to_width)
    down, across = down.to(values.device), across.to(values.device)
    sums = down @ (values.to(torch.float64) @ across.T)
    return (sums / (rows * columns)).to(torch.float32)


def _shares(side: int, to_side: int) -> tuple[torch.Tensor, int]:
    """Return whole weights (to_side, side) float64 of an averaging and the sum of each row."""
    common = math.gcd(side, to_side)
    step, stretch = side // common, to_side // common
    # In units of 1/stretch stored pixels, pixel j is [j * stretch, (j + 1) * stretch) and part i
    # is [i * step, (i + 1) * step).
    pixel = torch.arange(side)[None, :] * stretch
    part = torch.arange(to_side)[:, None] * step
    overlap = torch.minimum(pixel + stretch, part + step) - torch.maximum(pixel, part)
    return overlap.clamp(min=0).to(torch.float64), step


def to_uint8(images: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return (N,3,H,W) float images in [-1,1] as (N,H,W,3) uint8, clipped and rounded.

    Halves round to even, as numpy's ``rint``. Raises ValueError for another shape or when a value
    is not finite (a network that diverged must not become a grey picture).
    """
    values = (
        images.detach().to(torch.float32).cpu().numpy()
        if isinstance(images, torch.Tensor)
        else np.asarray(images, np.float32)
    )
    if values.ndim != 4 or values.shape[1] != 3:
        raise ValueError(f"images: expected shape (N,3,H,W), found {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("images: expected finite values, found NaN or infinity")
    levels = np.clip(np.rint((values + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))


def equalise(pixels: np.ndarray | torch.Tensor, channel_order: str = "rgb") -> np.ndarray:
    """Equalise the luminance histogram of every patch, as the FAZE and ST-ED readers do.

    ``pixels`` is (N,H,W,3) uint8 in ``channel_order`` ("rgb" or "bgr"); the result has the same
    shape and is always RGB. The Y channel of YCrCb is equalised over the whole patch
    (zhengyuf/STED-gaze ``dataset.py``). Raises ValueError for another dtype, shape or order.
    """
    import cv2

    codes = {"rgb": cv2.COLOR_RGB2YCrCb, "bgr": cv2.COLOR_BGR2YCrCb}
    if channel_order not in codes:
        raise ValueError(f"channel_order: expected 'rgb' or 'bgr', found {channel_order!r}")
    patches = _require_patches(pixels, "pixels").cpu().numpy()
    result = np.empty_like(patches)
    for source, target in zip(patches, result, strict=True):
        luma = cv2.cvtColor(source, codes[channel_order])
        luma[:, :, 0] = cv2.equalizeHist(np.ascontiguousarray(luma[:, :, 0]))
        target[...] = cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)
    return result


EYE_BOXES_64 = ((12, 16, 28, 27), (36, 16, 52, 27))
"""Left, top, right, bottom of the two eye regions in a 64 px patch of the sted normalisation.

Normalisation holds the eyes in place (within about 2 px over all head poses), so fixed boxes do
without landmarks.
"""


def eye_boxes(size: int) -> list[tuple[int, int, int, int]]:
    """Return the two eye boxes (left, top, right, bottom; right and bottom excluded) in pixels.

    ``size`` is the side of a square patch of the sted field of view.
    """
    return [tuple(int(round(edge * size / 64)) for edge in box) for box in EYE_BOXES_64]
