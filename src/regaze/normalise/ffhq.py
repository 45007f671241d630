"""FFHQ's framing: a square of the photo itself, upright by eyes and mouth.

The recipe of Karras et al. (CVPR 2019) in the form in which omertov/encoder4editing prepares faces
(``utils/alignment.py``): resampling, padding and warp are done in its order, with Pillow and SciPy
as there, so that published inverters see the pixels that they were trained on. Nothing is
undistorted, and no camera is needed: a patch is an affine picture of the photo as it was taken.

Positions are pixel centres at integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

EYES = (slice(36, 42), slice(42, 48))
"""Of the 68 landmarks: the person's right eye, which lies left in the photo, and the left one."""
MOUTH = (48, 54)
"""Its corners."""

ANCHORS = (*range(36, 48), *MOUTH)
"""Of the 68 landmarks: those that decide the square."""
SIZE = 256
"""Side of the patches that published inverters take, in pixels."""

WARPED = 4096
"""Side of the patches that FFHQ's own script warps to before it reduces them."""

_LEAST = 1.0
"""Half a side of the smallest square, in pixels of the photo."""
_CLOSEST = 0.25
"""Distance of the eyes over theirs to the mouth in a head turned by some 75 degrees, of which one
eye cannot be seen and no frame that published inverters know is left."""
_MOST_OUTSIDE = 0.5
"""Share of the square beyond the photo's edges from which most of a face would be made up."""


class NotFramed(ValueError):
    """A face that FFHQ's framing cannot show. ``reason`` is the word for the rejected rows."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class TooSmall(NotFramed):
    """A face that has fewer pixels in its photo than in its patch."""

    def __init__(self, size: int, found: tuple[int, int]):
        told = f"expected at least {size} pixels a side around the face, found {min(found)}"
        super().__init__("too_small", told)


@dataclass(frozen=True, eq=False)
class Square:
    """Where a patch lies in a photo.

    Attributes:
        corners: (4, 2) pixels of the photo: upper left, lower left, lower right, upper right.
    """

    corners: np.ndarray

    @property
    def side(self) -> float:
        """Length of a side in pixels of the photo."""
        return float(np.linalg.norm(self.corners[3] - self.corners[0]))

    def outside(self, photo_size: tuple[int, int]) -> float:
        """Share of the square, 0 to 1, that lies beyond the edges of a photo (width, height)."""
        steps = (np.arange(32) + 0.5) / 32
        down, across = (self.corners[index] - self.corners[0] for index in (1, 3))
        points = self.corners[0] + steps[:, None, None] * down + steps[None, :, None] * across
        inside = (points > -0.5) & (points < np.asarray(photo_size) - 0.5)
        return float(1 - inside.all(axis=-1).mean())


def square_of(landmarks: np.ndarray) -> Square:
    """The square that 68 landmarks (68, 2) in pixels of a photo frame.

    Its x axis is the mean of the line between the eyes and of the normal of the line from the eyes
    to the mouth.

    Raises:
        NotFramed: landmarks that are not finite (``no_landmarks``), eyes and mouth in one place
            (``degenerate_pose``), or eyes as close as in a ``profile``.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (68, 2) or not np.isfinite(points[[*ANCHORS]]).all():
        raise NotFramed("no_landmarks", "expected 68 landmarks, found none of eyes or mouth")
    right, left = (points[eye].mean(axis=0) for eye in EYES)
    eyes, between = (right + left) / 2, left - right
    down = points[[*MOUTH]].mean(axis=0) - eyes
    axis = between - np.array([-down[1], down[0]])
    length = np.hypot(*axis)
    reach = max(np.hypot(*between) * 2.0, np.hypot(*down) * 1.8)
    if not (length > 1e-9 and reach > _LEAST):
        raise NotFramed(
            "degenerate_pose", f"landmarks: eyes and mouth span {reach:.3g} pixels of the photo"
        )
    if np.hypot(*between) < _CLOSEST * np.hypot(*down):
        raise NotFramed(
            "profile",
            f"expected a face that is not a profile, found eyes {np.hypot(*between):.0f} pixels "
            f"apart and {np.hypot(*down):.0f} above the mouth",
        )
    x = axis * (reach / length)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * down
    return Square(np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y]))


def square_from(matrix: np.ndarray, size: int) -> Square:
    """The square of patches of ``size`` pixels that a matrix (3, 3) of :func:`framed` belongs to.

    Where a photo was shrunk it is off by a part of a pixel of the shrunk one.
    """
    ends = np.array([[0, 0], [0, size], [size, size], [size, 0]]) - 0.5
    back = np.linalg.inv(matrix)
    return Square(ends @ back[:2, :2].T + back[:2, 2])


def require_shown(landmarks: np.ndarray, square: Square, photo_size: tuple[int, int]) -> None:
    """Refuse a face that the photo's edge cuts.

    The recipe continues the photo by a blurred reflection, which is meant for hair and shoulders.
    Where it would have to make up an eye, the mouth or most of the patch, the face is refused.

    Raises:
        NotFramed: it is (``out_of_frame``).
    """
    width, height = photo_size
    points = np.asarray(landmarks, np.float64)[[*ANCHORS]]
    beyond = (points < -0.5) | (points > np.array(photo_size) - 0.5)
    if beyond.any():
        x, y = points[beyond.any(axis=1)][0]
        raise NotFramed(
            "out_of_frame",
            f"expected eyes and mouth within {width} x {height} pixels, found one at "
            f"{x:.1f}, {y:.1f}",
        )
    if (share := square.outside(photo_size)) > _MOST_OUTSIDE:
        raise NotFramed(
            "out_of_frame",
            f"expected at least {1 - _MOST_OUTSIDE:.0%} of the frame within {width} x {height} "
            f"pixels, found {1 - share:.0%}",
        )


def placed(square: Square, photo_size: tuple[int, int], size: int = SIZE) -> np.ndarray:
    """(3, 3): pixels of a photo (width, height) to pixels of its patch, as they are sampled."""
    plan = plan_of(square, photo_size, size)
    return np.linalg.inv(plan.back @ _patch_to(plan.quad, size))


def framed(photo: np.ndarray, square: Square, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """The patch (size, size, 3) uint8 of a photo (H, W, 3) uint8, and how it lies in it.

    Channels may be in any order, the patch has the same.

    Returns:
        The patch, and the matrix of :func:`placed`.
    """
    picture, quad = prepared(photo, square, size)
    patch = picture.transform(
        (size, size), Image.Transform.QUAD, (quad + 0.5).flatten(), Image.Resampling.BILINEAR
    )
    return np.array(patch), placed(square, (photo.shape[1], photo.shape[0]), size)


def through(
    photo: np.ndarray, square: Square, size: int = SIZE, side: int = WARPED
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`framed` by way of a larger patch, as FFHQ and the albums of DiffusionRig are made.

    The square is warped to ``side`` pixels, which are reduced to ``size`` by Lanczos' filter
    (``adobe-research/diffusion-rig``, scripts/align.py).

    Raises:
        TooSmall: the photo has less than ``size`` pixels of what is wanted.
    """
    picture, quad = prepared(photo, square, size)
    if min(picture.size) < size:
        raise TooSmall(size, picture.size)
    patch = picture.transform(
        (side, side), Image.Transform.QUAD, (quad + 0.5).flatten(), Image.Resampling.BILINEAR
    )
    if size < side:
        patch = patch.resize((size, size), Image.Resampling.LANCZOS)
    return np.array(patch), placed(square, (photo.shape[1], photo.shape[0]), size)


def prepared(photo: np.ndarray, square: Square, size: int) -> tuple[Image.Image, np.ndarray]:
    """The photo shrunk, cropped and continued as its square needs it, and its corners (4, 2)."""
    picture = Image.fromarray(photo)
    plan = plan_of(square, picture.size, size)
    if plan.shrunk != picture.size:
        picture = picture.resize(plan.shrunk, Image.Resampling.LANCZOS)
    if plan.crop is not None:
        picture = picture.crop(plan.crop)
    if plan.lacking is not None:
        picture = _continued(picture, plan.lacking, plan.length)
    return picture, plan.quad


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to a photo before it is warped.

    ``shrunk`` is its size then, ``crop`` the box that is kept of it, ``lacking`` the pixels that
    are added at left, top, right and bottom; ``quad`` (4, 2) and ``length`` are the square's
    corners and side in the result, ``back`` (3, 3) takes its pixels to the photo's.
    """

    shrunk: tuple[int, int]
    crop: tuple[int, int, int, int] | None
    lacking: np.ndarray | None
    quad: np.ndarray
    length: float
    back: np.ndarray


def plan_of(square: Square, photo_size: tuple[int, int], size: int) -> Plan:
    """What is done to a photo (width, height) for a patch of ``size`` pixels."""
    quad, length, back = square.corners, square.side, np.eye(3)
    full = shrunk = tuple(photo_size)
    shrink = int(np.floor(length / size * 0.5))
    if shrink > 1:
        shrunk = tuple(int(np.rint(side / shrink)) for side in full)
        quad, length = quad / shrink, length / shrink
        steps = np.array(full) / shrunk
        back = np.diag([*steps, 1.0])
        back[:2, 2] = (steps - 1) / 2
    border = max(int(np.rint(length * 0.1)), 3)
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    left, top = (max(int(edge) - border, 0) for edge in low)
    right, bottom = (min(int(edge) + border, side) for edge, side in zip(high, shrunk, strict=True))
    crop, here = None, shrunk
    if right - left < shrunk[0] or bottom - top < shrunk[1]:
        crop, here = (left, top, right, bottom), (right - left, bottom - top)
        quad, back = quad - (left, top), back @ _moved(left, top)
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    beyond, lacking = np.maximum([*(border - low), *(high - here + border)], 0), None
    if beyond.max() > border - 4:
        lacking = np.maximum(beyond, int(np.rint(length * 0.3)))
        quad, back = quad + lacking[:2], back @ _moved(-lacking[0], -lacking[1])
    return Plan(shrunk, crop, lacking, quad, length, back)


def _continued(picture: Image.Image, lacking: np.ndarray, length: float) -> Image.Image:
    """A picture with ``lacking`` (4,) pixels at left, top, right, bottom: blurred reflections."""
    left, top, right, bottom = (int(count) for count in lacking)
    pixels = np.asarray(picture, np.float32)
    pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    y, x, _ = np.ogrid[:height, :width, :1]
    mask = np.maximum(
        1.0 - np.minimum(np.float32(x) / left, np.float32(width - 1 - x) / right),
        1.0 - np.minimum(np.float32(y) / top, np.float32(height - 1 - y) / bottom),
    )
    blur = length * 0.02
    pixels += (gaussian_filter(pixels, [blur, blur, 0]) - pixels) * np.clip(
        mask * 3.0 + 1.0, 0.0, 1.0
    )
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(mask, 0.0, 1.0)
    return Image.fromarray(np.uint8(np.clip(np.rint(pixels), 0, 255)), "RGB")


def _patch_to(corners: np.ndarray, size: int) -> np.ndarray:
    """(3, 3): pixels of a patch of ``size`` pixels to those of the picture of its corners."""
    across, down = (corners[3] - corners[0]) / size, (corners[1] - corners[0]) / size
    matrix = np.eye(3)
    matrix[:2] = np.stack([across, down, corners[0] + (across + down) / 2], axis=1)
    return matrix


def _moved(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
