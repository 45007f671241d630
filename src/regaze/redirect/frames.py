"""How a model or an estimator sees a face of a photo, by the view that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regaze.normalise.camera import undistort_points
from regaze.normalise.ffhq import Square, framed, placed, require_shown, square_of
from regaze.normalise.geometry import Normalisation, Variant, normalise
from regaze.normalise.warp import transform_points
from regaze.redirect.paste import View
from regaze.views import is_ffhq

STORED = 128
"""Side of the patches that models are trained on, in pixels, before they are reduced."""


@dataclass(frozen=True, eq=False)
class AlignedView(View):
    """A square of the photo itself, of framing ``ffhq``.

    Its homography takes pixels of the photo as it was taken, without a lens in between.

    Attributes:
        square: where it lies.
    """

    square: Square

    def take(self, photo: np.ndarray) -> np.ndarray:
        """The patch (h, w, 3) uint8 of a photo (H, W, 3) uint8, as the recipe samples it."""
        return framed(photo, self.square, self.patch_size[0])[0]


@dataclass(frozen=True, eq=False)
class Face:
    """A face of a photo with a known pose.

    Attributes:
        photo_size: width, height.
        landmarks: (68, 2) pixels of the photo.
        camera: (4,) fx, fy, cx, cy in pixels.
        distortion: (14,) padded lens coefficients.
        pose: (6,) rotation vector and translation in mm of ``face_model``.
        face_model: its name.
    """

    photo_size: tuple[int, int]
    landmarks: np.ndarray
    camera: np.ndarray
    distortion: np.ndarray
    pose: np.ndarray
    face_model: str

    def normalised(self, view: Mapping[str, Any] | None, size_px: int) -> Normalisation:
        """The geometry of a view's virtual camera; that of ``sted`` where the view has none."""
        variant = camera_of(None if is_ffhq(view) else view, size_px)
        return normalise(self.camera[None], self.pose[None], None, variant, self.face_model)

    def seen(self, view: Mapping[str, Any] | None, size_px: int) -> View:
        """How a view shows the face, in patches of at least ``size_px`` pixels.

        Raises:
            NotFramed: framing ``ffhq`` cannot show it.
        """
        if is_ffhq(view):
            side = max(view["patch_size"][0], size_px)
            square = square_of(self.landmarks)
            require_shown(self.landmarks, square, self.photo_size)
            return aligned_view(square, self.photo_size, side)
        made, size = self.normalised(view, size_px), camera_of(view, size_px).size
        return View(made.homography[0], self.camera, self.distortion, size)

    def landmarks_in(self, view: View) -> np.ndarray:
        """The landmarks (68, 2) in pixels of a view's patch."""
        camera, lens = view.camera[None], view.distortion[None]
        straight = undistort_points(self.landmarks[None], camera, lens)[0]
        return transform_points(view.homography, straight * view.camera[:2] + view.camera[2:])


def aligned_view(square: Square, photo_size: tuple[int, int], size: int) -> AlignedView:
    """The view of a square of a photo, in patches of ``size`` pixels."""
    matrix = placed(square, photo_size, size)
    camera = np.array([1.0, 1.0, 0.0, 0.0])
    return AlignedView(matrix, camera, np.zeros(14), (size, size), square)


def camera_of(view: Mapping[str, Any] | None, size_px: int) -> Variant:
    """The virtual camera of a view, with patches of at least ``size_px`` pixels."""
    if view is None:
        return Variant.named("sted", max(STORED, size_px))
    width = view["patch_size"][0]
    side = max(width, size_px)
    focal = view["focal"] * side / width
    return Variant.named("custom", side, focal, view["distance"])
