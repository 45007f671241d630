"""Between a photo and its normalised patch: taking the patch out and putting a changed one back.

Positions are pixel centres at integers. A *patch* is what normalisation stores (128 x 128 as a
rule); a *model picture* is its area average over ``patch / model`` pixels, so that model pixel m
has its centre at patch position ``(m + 1/2) * ratio - 1/2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from regaze.normalise.camera import distort, undistort_points
from regaze.normalise.warp import make_patch, patch_map, transform_points

MODES = ("difference", "full")

_BROWS = slice(17, 27)
_FOREHEAD = 0.3
"""How far the forehead is taken to reach above the brows, in heights from chin to brows."""

_FACE_FEATHER = 0.16
"""Width of the soft rim of a face, of the face's width."""

_WINDOW_FEATHER = (0.12, 0.22)
"""Width of the soft rim of a whole patch, of its sides, at left and right and at top and bottom.
Narrow where the outline of a turned head crosses it, wide over the neck and the forehead."""

_SAME, _OTHER = 10.0, 32.0
"""Grey levels of change up to which the photo's own detail is kept, and from which it is gone."""

_EYE_SAME, _EYE_OTHER = 2.0, 10.0
"""The same between the lids, where detail is the iris' own and a trace of the old one shows."""

_EYES = (slice(36, 42), slice(42, 48))

_MOST_DETAIL = 16
"""Most samples per patch pixel and side when a patch is taken from a large photo."""

_STRIP = 1 << 20
"""Photo pixels at a time: bounds the memory that a large photo takes."""

_STILL = 0.02
"""Model pixels by which a pixel is not worth moving."""

_FAR = 1e4
"""A patch position that is outside every patch."""

_LENS_TOLERANCE = 0.05
"""Pixels by which a pixel may miss itself after the lens was inverted; beyond, it has no place."""


@dataclass(frozen=True, eq=False)
class View:
    """How the virtual camera sees a photo.

    Attributes:
        homography: (3, 3) undistorted photo pixel -> patch pixel.
        camera: (4,) fx, fy, cx, cy of the photo in pixels.
        distortion: (14,) padded lens coefficients.
        patch_size: (width, height) pixels.
    """

    homography: np.ndarray
    camera: np.ndarray
    distortion: np.ndarray
    patch_size: tuple[int, int]

    def to_patch(self, pixels: np.ndarray) -> np.ndarray:
        """Patch positions (N, 2) float64 of photo pixels (N, 2).

        NaN for what the virtual camera cannot see, and where the lens model has no inverse.
        """
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        straight = undistort_points(pixels[None], self.camera[None], self.distortion[None], 6)[0]
        with np.errstate(all="ignore"):
            again = np.stack(distort(straight[:, 0], straight[:, 1], self.distortion), -1)
            focal, middle = self.camera[:2], self.camera[2:]
            lost = ~(np.abs(again * focal + middle - pixels) < _LENS_TOLERANCE).all(axis=1)
            ideal = straight * focal + middle
            found = transform_points(self.homography, ideal)
            lost |= ~(ideal @ self.homography[2, :2] + self.homography[2, 2] > 0.0)
        found[lost] = np.nan
        return found

    def to_photo(self, places: np.ndarray) -> np.ndarray:
        """Photo pixels (N, 2) float64 of patch positions (N, 2): what :meth:`to_patch` inverts."""
        ideal = transform_points(np.linalg.inv(self.homography), np.asarray(places, np.float64))
        focal, middle = self.camera[:2], self.camera[2:]
        straight = (ideal - middle) / focal
        seen = np.stack(distort(straight[:, 0], straight[:, 1], self.distortion), -1)
        return seen * focal + middle

    def box(self, photo_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (the latter two excluded) of the patch in the photo.

        Raises:
            ValueError: the patch lies outside the photo.
        """
        points = self._map(photo_size, 1).reshape(-1, 2)
        within = (points > -1.0) & (points < np.asarray(photo_size))
        inside = within[:, 0] & within[:, 1]
        if not inside.any():
            raise ValueError("expected a face inside the photo, found its patch outside")
        points = points[inside]
        low = np.maximum(np.floor(points.min(axis=0)) - 1, 0).astype(int)
        high = np.minimum(np.ceil(points.max(axis=0)) + 2, photo_size).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def detail(self, photo_size: tuple[int, int]) -> float:
        """Photo pixels per patch pixel along a side, at the patch's middle."""
        points = self._map(photo_size, 1)
        row, column = points.shape[0] // 2, points.shape[1] // 2
        across = points[row, column] - points[row, column - 1]
        down = points[row, column] - points[row - 1, column]
        return float(np.sqrt(abs(across[0] * down[1] - across[1] * down[0])))

    def _map(self, photo_size, times: int) -> np.ndarray:
        matrix, size = self._finer(times)
        return patch_map(matrix, self.camera, self.distortion, photo_size, size)

    def _finer(self, times: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Homography and size of a patch with ``times`` pixels in each, centred on it."""
        shift = (times - 1) / 2.0
        scale = np.array([[times, 0.0, shift], [0.0, times, shift], [0.0, 0.0, 1.0]])
        size = (self.patch_size[0] * times, self.patch_size[1] * times)
        return scale @ self.homography, size

    def take(self, photo: np.ndarray) -> np.ndarray:
        """The patch (h, w, 3) uint8 of a photo (H, W, 3) uint8, both RGB.

        Bilinear as normalisation does it; where a photo has several pixels for one of the patch,
        their mean instead of one of them, which would alias.
        """
        size = (photo.shape[1], photo.shape[0])
        times = int(np.clip(round(self.detail(size)), 1, _MOST_DETAIL))
        matrix, fine = self._finer(times)
        bgr = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
        patch = make_patch(bgr, matrix, self.camera, self.distortion, fine)
        if times == 1:
            return patch
        return cv2.resize(patch, self.patch_size, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True, eq=False)
class Motion:
    """How a model moved the pixels of its source.

    Attributes:
        flow: (S, S, 2) float32 pixels x, y of the model's picture from a pixel to where it was
            taken from.
        share: (S, S) float32, how much of the photo's detail goes with it.
    """

    flow: np.ndarray
    share: np.ndarray


def _soft(values: np.ndarray) -> np.ndarray:
    """Smoothstep: 0 below 0, 1 above 1, without a corner in between."""
    values = np.clip(values, 0.0, 1.0)
    return values * values * (3.0 - 2.0 * values)


def window_mask(
    patch_size: tuple[int, int], feather: tuple[float, float] = _WINDOW_FEATHER
) -> np.ndarray:
    """Weights (h, w) float32 of the whole patch: 0 on its rim, rising over a share of its sides."""
    down, across = (
        _soft(np.minimum(np.arange(side), np.arange(side)[::-1]) / (share * side))
        for side, share in zip(patch_size[::-1], feather[::-1], strict=True)
    )
    return (down[:, None] * across).astype(np.float32)


def face_mask(
    landmarks: np.ndarray, patch_size: tuple[int, int], feather: float = _FACE_FEATHER
) -> np.ndarray:
    """Weights (h, w) float32 of the face: 1 inside, falling to exactly 0 on its outline.

    Args:
        landmarks: (68, 2) patch positions. Their hull is extended above the brows by a forehead.
        patch_size: (width, height).
        feather: width of the soft rim, of the face's width.
    """
    points = np.asarray(landmarks, np.float64)
    up = _FOREHEAD * (points[_BROWS].mean(axis=0) - points[8])
    # The rim is laid around the outline rather than inside it, else the mouth's and the brows'
    # ends, which lie close to it, would be redirected by half.
    middle = points.mean(axis=0)
    hull = np.concatenate([points, points[_BROWS] + up])
    hull = middle + (hull - middle) * (1.0 + feather / 2.0)
    outline = cv2.convexHull(np.rint(hull * 16).astype(np.int32))
    inside = np.zeros((patch_size[1], patch_size[0]), np.uint8)
    cv2.fillConvexPoly(inside, outline, 255, cv2.LINE_8, shift=4)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    reach = feather * max(np.ptp(points[:, 0]), 1.0)
    mask = _soft((distance - 1.0) / reach).astype(np.float32)
    return mask * window_mask(patch_size, (0.06, 0.06))


def eye_mask(landmarks: np.ndarray, patch_size: tuple[int, int]) -> np.ndarray:
    """Weights (h, w) float32 of what lies between the lids; arguments as :func:`face_mask`'s."""
    fine = 4
    mask = np.zeros((patch_size[1] * fine, patch_size[0] * fine), np.uint8)
    for eye in _EYES:
        points = (np.asarray(landmarks, np.float64)[eye] + 0.5) * fine - 0.5
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points * 16).astype(np.int32)), 255, 8, 4)
    mask = cv2.resize(mask.astype(np.float32) / 255.0, patch_size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(mask, (0, 0), 0.7)


def paste(
    photo: np.ndarray,
    view: View,
    source: np.ndarray,
    redirected: np.ndarray,
    mask: np.ndarray,
    mode: str = "difference",
    eyes: np.ndarray | None = None,
    motion: Motion | None = None,
) -> np.ndarray:
    """Put a redirected face back into its photo.

    For every photo pixel around the face its patch position is computed (undistorted, then
    through the homography) and the model pictures are interpolated there, bicubically. A photo
    has more resolution than the 64 pixels of a model, and a patch pasted as it is (``full``)
    leaves a blurred face. ``difference`` therefore adds what the model *changed*, redirected
    minus source, both at the model's resolution, to the photo: where it changed nothing the photo
    stays as it is, pores and all. Where it changed much, the photo's fine detail is that of
    something no longer there (the rim of the old iris): there the detail, photo minus source, is
    faded out (between :data:`_SAME` and :data:`_OTHER` grey levels of change, and between the
    lids, where it is known to move, between :data:`_EYE_SAME` and :data:`_EYE_OTHER`).
    Of a model that tells how it moved pixels, the detail is taken from where they came from and
    goes along: an iris keeps its own.

    Args:
        photo: (H, W, 3) uint8 RGB.
        view: where the patch lies in it.
        source: (S, S, 3) float32 grey levels, the model's input.
        redirected: (S, S, 3) float32 grey levels.
        mask: (h, w) float32 weights in patch pixels, see :func:`face_mask`.
        mode: one of :data:`MODES`.
        eyes: (h, w) float32 weights in patch pixels, see :func:`eye_mask`; None if unknown.
        motion: of a model that moves pixels, for ``difference``; ``eyes`` are not asked for then.

    Returns:
        (H, W, 3) uint8. Pixels of weight 0 are those of the photo.

    Raises:
        ValueError: an unknown mode, pictures of other shapes, or a face outside the photo.
    """
    if mode not in MODES:
        raise ValueError(f"paste: expected one of {', '.join(MODES)}, found {mode!r}")
    if source.shape != redirected.shape or source.ndim != 3 or source.shape[2] != 3:
        raise ValueError(
            f"paste: expected two pictures (S, S, 3), found {source.shape}, {redirected.shape}"
        )
    for name, weights in (("mask", mask), ("eyes", mask if eyes is None else eyes)):
        if weights.shape != view.patch_size[::-1]:
            raise ValueError(f"{name}: expected {view.patch_size[::-1]}, found {weights.shape}")
    size = (photo.shape[1], photo.shape[0])
    left, top, right, bottom = _touched(view, mask, size)
    ratio = np.array(view.patch_size, np.float32) / np.array(source.shape[1::-1], np.float32)
    # A photo with fewer pixels than the model would pick single ones of them.
    coarse = 1.0 / (view.detail(size) * float(ratio.mean()))

    def ready(picture: np.ndarray) -> np.ndarray:
        picture = np.ascontiguousarray(picture, np.float32)
        return cv2.GaussianBlur(picture, (0, 0), 0.5 * coarse) if coarse > 1.0 else picture

    delta = redirected.astype(np.float32) - source
    amount = ready(cv2.GaussianBlur(np.abs(delta).max(axis=2), (0, 0), 0.8))
    carried = None if motion is None else ready(_carried(source, motion.flow))
    delta, source, redirected = ready(delta), ready(source), ready(redirected)
    result = photo.copy()
    step = max(1, _STRIP // max(right - left, 1))
    for first in range(top, bottom, step):
        last = min(first + step, bottom)
        grid = np.stack(np.meshgrid(np.arange(left, right), np.arange(first, last)), -1)
        places = view.to_patch(grid.reshape(-1, 2)).reshape(grid.shape)
        places = np.clip(np.nan_to_num(places, nan=-_FAR), -_FAR, _FAR).astype(np.float32)
        inner = (places + np.float32(0.5)) / ratio - np.float32(0.5)
        weight = _sampled(mask, places)
        here = result[first:last, left:right].astype(np.float32)
        if mode == "full":
            change = _smooth(redirected, inner) - here
        elif motion is not None:
            away = _smooth(motion.flow, inner)
            there = inner + away
            origin = view.to_photo(((there + 0.5) * ratio - 0.5).reshape(-1, 2))
            origin = origin.reshape(places.shape).astype(np.float32)
            # What lies outside of the patch has no place, and no weight.
            still = (np.abs(away).max(axis=2) < _STILL) | (weight <= 0.0)
            detail = np.where(still[..., None], here, _smooth(photo, origin))
            # Of the model's own pixels, as it moved them: taken finer, they would not be what the
            # model's picture has of them, and what lies between would be lost from the photo.
            detail -= _smooth(carried, inner)
            share = _smooth(motion.share, inner)[..., None]
            change = _smooth(redirected, inner) + share * detail - here
        else:
            change, much = _smooth(delta, inner), _smooth(amount, inner)
            gone = _soft((much - _SAME) / (_OTHER - _SAME))
            if eyes is not None:
                moved = _soft((much - _EYE_SAME) / (_EYE_OTHER - _EYE_SAME))
                gone = np.maximum(gone, _sampled(eyes, places) * moved)
            change -= gone[..., None] * (here - _smooth(source, inner))
        made = np.clip(np.rint(here + weight[..., None] * change), 0, 255).astype(np.uint8)
        touched = weight > 0.0
        result[first:last, left:right][touched] = made[touched]
    return result


def _touched(view: View, mask: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of the patch's box in the photo that has weights, as :meth:`View.box`."""
    box = view.box(size)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return box[0], box[1], box[0], box[1]
    # Weights are interpolated, so that they reach one pixel further.
    x = np.linspace(columns[0] - 1.0, columns[-1] + 1.0, 33)
    y = np.linspace(rows[0] - 1.0, rows[-1] + 1.0, 33)
    edges = [(x, np.full(33, y[0])), (x, np.full(33, y[-1])), (np.full(33, x[0]), y)]
    edges.append((np.full(33, x[-1]), y))
    found = view.to_photo(np.concatenate([np.stack(edge, -1) for edge in edges]))
    if not np.isfinite(found).all():
        return box
    low = np.maximum(np.floor(found.min(axis=0)) - 1, box[:2])
    high = np.maximum(np.minimum(np.ceil(found.max(axis=0)) + 2, box[2:]), low)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _carried(source: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A model picture (S, S, 3) moved by its flow, as models that move pixels do it: bilinear."""
    height, width = source.shape[:2]
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + flow
    return cv2.remap(
        np.ascontiguousarray(source, np.float32), places.astype(np.float32), None,
        cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _sampled(weights: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(weights, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _smooth(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
