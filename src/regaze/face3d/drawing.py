"""Where an encoder's head lies in other pictures than the encoder's crop, and PNG files of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from regaze.outputs import replacing


def to_drawing(
    points: Tensor, transforms: np.ndarray, crop_size: int, size: tuple[int, int]
) -> Tensor:
    """Image points over the crop (B, N, 3) as points of a drawing of another picture; z unchanged.

    Pixel i of a crop of S is the image point 2 i / S - 1: landmarks are turned into image points
    in this way when encoders are trained. In drawings the middle of pixel i is (2 i + 1) / S - 1.

    Args:
        points: x right, y down, in [-1, 1] over the crop.
        transforms: (B, 3, 3) pixel of the picture to pixel of the crop, pixel centres at integers.
        crop_size: side of the crop in pixels.
        size: (width, height) of the picture.
    """
    flat = (to_pixels(points, transforms, crop_size) + 0.5) * 2 / points.new_tensor(size) - 1
    return torch.cat([flat, points[..., 2:]], -1)


def to_pixels(points: Tensor, transforms: np.ndarray, crop_size: int) -> Tensor:
    """Image points over the crop (B, N, 2 or 3) as pixels (B, N, 2) of the picture it came from.

    ``transforms`` and ``crop_size`` are those of :func:`to_drawing`; pixel centres are integers.
    """
    pixels = (points[..., :2] + 1) * (crop_size / 2)
    back = torch.as_tensor(np.linalg.inv(transforms)).to(points)
    return pixels @ back[:, :2, :2].transpose(1, 2) + back[:, None, :2, 2]


def to_uint8(image: Tensor | np.ndarray) -> np.ndarray:
    """Pictures (3 or 1, H, W) of 0..1 as (H, W, 3) uint8 RGB: times 255, cut off, truncated."""
    array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image, np.float64)
    if array.shape[0] == 1:
        array = np.repeat(array, 3, 0)
    return np.clip(array * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the picture cannot be encoded.
    """
    done, content = cv2.imencode(".png", np.ascontiguousarray(picture[:, :, ::-1]))
    if not done:
        raise ValueError(f"{path}: cannot be written as PNG")
    with replacing(path) as part:
        part.write_bytes(content.tobytes())
