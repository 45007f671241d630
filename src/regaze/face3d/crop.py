"""The encoder's input crop and its camera: boxes, similarity transforms, projection and back.

As in ``yfeng95/DECA`` (``decalib/datasets``, ``decalib/utils``): a square around the face is
mapped onto 224 x 224 pixels and seen by a scaled orthographic camera (s, tx, ty). Pixel centres
are integers, x right and y down. Transforms are (3, 3) matrices for column vectors that take a
pixel of the photo to a pixel of the crop.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
import torch
import torch.nn.functional as F
from torch import Tensor

from regaze.filetypes import file_type, unreadable

CROP_SIZE = 224
CROP_SCALE = 1.25
LANDMARK_FACTOR = 1.1
BOX_SHIFT = 0.12


@dataclass(frozen=True)
class CropBox:
    """Square(s) of a photo around a face.

    Attributes:
        centre: (..., 2) x, y in pixels.
        extent: (...,) size of the face in pixels, before the crop's scale.
        size: (...,) side of the square in whole pixels.
    """

    centre: np.ndarray
    extent: np.ndarray
    size: np.ndarray

    def transform(self, crop_size: int = CROP_SIZE) -> np.ndarray:
        """Transforms (..., 3, 3) float64 onto crops of ``crop_size`` pixels."""
        scale = (crop_size - 1) / np.asarray(self.size, np.float64)
        corner = self.centre - np.asarray(self.size, np.float64)[..., None] / 2
        matrix = np.zeros((*scale.shape, 3, 3))
        matrix[..., 0, 0] = matrix[..., 1, 1] = scale
        matrix[..., :2, 2] = -scale[..., None] * corner
        matrix[..., 2, 2] = 1.0
        return matrix


def crop_box(bounds, kind: str = "landmarks", scale: float = CROP_SCALE) -> CropBox:
    """The square around a face's bounds.

    Args:
        bounds: (..., 4) left, right, top, bottom in pixels.
        kind: what the bounds are those of: 68 (or MediaPipe's) ``landmarks``, or the box of a
            face ``detector``, which reaches less far down.
        scale: side of the square over the size of the face.
    """
    left, right, top, bottom = np.moveaxis(np.asarray(bounds, np.float64), -1, 0)
    extent = (right - left + bottom - top) / 2
    centre = np.stack([(left + right) / 2, (top + bottom) / 2], -1)
    if kind == "landmarks":
        extent = extent * LANDMARK_FACTOR
    else:
        centre[..., 1] += BOX_SHIFT * extent
    return CropBox(centre, extent, (extent * scale).astype(np.int64))


def landmark_bounds(points: np.ndarray) -> np.ndarray:
    """Left, right, top, bottom (..., 4) of landmarks (..., N, 2 or more)."""
    points = np.asarray(points, np.float64)[..., :2]
    low, high = points.min(-2), points.max(-2)
    return np.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1]], -1)


def undetected_bounds(width: int, height: int) -> np.ndarray:
    """Bounds (4,) of a photo in which no face was found: all of it.

    Rows made from these carry ``detected = false``. (The reference swaps width and height here.)
    """
    return np.array([0.0, width - 1, 0.0, height - 1])


def warp(image: np.ndarray, transform: np.ndarray, size: int = CROP_SIZE) -> Tensor:
    """Crop one photo (H, W, 3) uint8 RGB by (3, 3), bilinear with float32 weights.

    Returns:
        (3, size, size) float32 in [0, 1], black outside the photo.
    """
    back = np.linalg.inv(np.asarray(transform, np.float64))
    across, down = np.arange(size, dtype=np.float64)[None, :], np.arange(size)[:, None]
    straight = back[0, 1] == 0 == back[1, 0]
    x = back[0, 0] * across + (0 if straight else back[0, 1] * down) + back[0, 2]
    y = back[1, 1] * down + (0 if straight else back[1, 0] * across) + back[1, 2]
    left, top = np.floor(x), np.floor(y)
    # Only the part of the photo that the crop sees is converted; a black rim stands for outside.
    height, width = image.shape[:2]
    x0, x1 = (int(np.clip(v, 0, width)) for v in (left.min(), left.max() + 2))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (top.min(), top.max() + 2))
    part = np.zeros((y1 - y0 + 4, x1 - x0 + 4, 3), np.float32)
    part[2:-2, 2:-2] = image[y0:y1, x0:x1]
    column = np.clip(left - x0 + 2, 0, part.shape[1] - 2).astype(np.int64)
    row = np.clip(top - y0 + 2, 0, part.shape[0] - 2).astype(np.int64)
    fx, fy = ((v - low).astype(np.float32)[..., None] for v, low in ((x, left), (y, top)))
    if straight:
        # Without a rotation, rows and columns are interpolated one after the other.
        column, fx, row = column[0], fx[0], row[:, 0]
        between = part[row] * (1 - fy) + part[row + 1] * fy
        crop = between[:, column] * (1 - fx) + between[:, column + 1] * fx
    else:
        flat, index = part.reshape(-1, 3), row * part.shape[1] + column
        upper = flat[index] * (1 - fx) + flat[index + 1] * fx
        index = index + part.shape[1]
        crop = upper * (1 - fy) + (flat[index] * (1 - fx) + flat[index + 1] * fx) * fy
    crop /= np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


def warp_tensor(images: Tensor, transforms: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Crop photos (B, C, H, W) of one size by (B, 3, 3); differentiable, runs on their device.

    Bilinear, zero outside, pixel centres at integers; equal to :func:`warp` within 1e-5.
    """
    height, width = images.shape[2:]
    back = torch.linalg.inv(transforms.double()).to(images)
    axis = torch.arange(size, device=images.device, dtype=images.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1)
    source = torch.einsum("bij,hwj->bhwi", back[:, :2], pixels)
    scale = source.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    return F.grid_sample(images, source * scale - 1, mode="bilinear", align_corners=True)


def project(points: Tensor, cam: Tensor) -> Tensor:
    """Scaled orthography before the flips: (s (x + tx), s (y + ty), s z).

    Args:
        points: (B, N, 3) world frame, metres.
        cam: (B, 3) s, tx, ty; the shift comes before the scale.
    """
    shift = F.pad(cam[:, None, 1:], (0, 1))
    return cam[:, None, :1] * (points + shift)


def to_image_space(points: Tensor, cam: Tensor) -> Tensor:
    """World points (B, N, 3) as image points: x right, y down, [-1, 1] over the crop, z away."""
    return project(points, cam) * points.new_tensor([1.0, -1.0, -1.0])


def to_crop_pixels(points: Tensor, crop_size: int = CROP_SIZE) -> Tensor:
    """Image points in [-1, 1] (..., 2 or 3) as pixels of the crop; z, if there, unchanged."""
    pixels = (points[..., :2] * 0.5 + 0.5) * crop_size
    return torch.cat([pixels, points[..., 2:]], -1)


def to_photo(
    points: Tensor, transforms: Tensor, width: int, height: int, crop_size: int = CROP_SIZE
) -> Tensor:
    """Image points of a crop as points in [-1, 1] over the whole photo; z unchanged.

    Args:
        points: (B, N, 2 or 3).
        transforms: (B, 3, 3) photo pixel to crop pixel.
        width, height: of the photo.

    The reference crops with ``crop_size - 1`` and comes back with ``crop_size``, a shift of half
    a pixel at most, which is kept.
    """
    pixels = to_crop_pixels(points, crop_size)
    back = torch.linalg.inv(transforms.double()).to(points)
    flat = torch.cat([pixels[..., :2], torch.ones_like(pixels[..., :1])], -1)
    flat = flat @ back.transpose(1, 2)
    flat = flat[..., :2] * 2 / points.new_tensor([width, height]) - 1
    return torch.cat([flat, points[..., 2:]], -1)


def read_landmarks(path: str | os.PathLike) -> np.ndarray:
    """Landmarks (N, 2) float64 in pixels from a ``.txt`` table or a ``.mat`` with ``pt3d_68``.

    Raises:
        ValueError: another kind of file, a missing key, fewer than two columns, not finite.
    """
    path = Path(path)
    if path.suffix == ".mat":
        # opened here: of a file that is not there, SciPy's own error does not tell the name
        with open(path, "rb") as stream:
            try:
                content = scipy.io.loadmat(stream)
            except Exception as error:  # SciPy's reader has no common class for broken files
                told = unreadable(path, "not a readable MAT file", ("mat", "binary"), error)
                raise ValueError(told) from None
        if "pt3d_68" not in content:
            names = sorted(name for name in content if not name.startswith("__"))
            raise ValueError(f"{path}: expected the key pt3d_68, found {names}")
        table = np.asarray(content["pt3d_68"], np.float64).T
    elif path.suffix == ".txt":
        try:
            table = np.loadtxt(path, ndmin=2, dtype=np.float64)
        except ValueError as error:
            if file_type(path).kind == "text":
                raise ValueError(f"{path}: not a table of numbers ({error})") from error
            raise ValueError(unreadable(path, "not a table of numbers", ())) from None
    else:
        raise ValueError(f"{path}: expected landmarks in a .txt or .mat file")
    if table.ndim != 2 or table.shape[1] < 2 or not len(table) or not np.isfinite(table).all():
        raise ValueError(f"{path}: expected N rows of x, y, found {table.shape}")
    return table[:, :2].copy()
