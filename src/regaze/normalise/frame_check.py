"""Is the whole head inside the photo? The rows that fail are left out of the data set.

``swook/faze_preprocess`` projects the dense mean mesh with the head pose, camera and distortion
and drops a photo when any point has x < 0, y < 0, x > width or y > height. Published pair lists
number the rows that are left, so the same mesh must be used where they are to apply.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regaze.angles import rotation_from_vector
from regaze.normalise.camera import pad_distortion, project
from regaze.normalise.face_model import (
    FACE_MODELS,
    FaceModel,
    dense_mesh,
    ellipsoid_mesh,
    face_model,
)

FRAME_CHECKS = ("sfm-upstream", "sfm", "ellipsoid", "none")
_POINTS_AT_ONCE = 20_000
"""Few enough for every intermediate array to stay in a core's cache."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameCheck:
    """A mesh (M, 3) mm in the axes of ``sfm14`` that must lie in the frame; M = 0 accepts every
    photo.

    ``name`` is what was really used, for the file attribute ``frame_check``.
    """

    name: str
    mesh: np.ndarray

    def extents(
        self,
        camera: np.ndarray,
        distortion: np.ndarray,
        head_pose: np.ndarray,
        model: str | FaceModel = "sfm14",
    ) -> np.ndarray:
        """Return the box of the projected mesh in each photo, (N, 4) x0, y0, x1, y1 in pixels.

        Args:
            camera: (N, 4) fx, fy, cx, cy.
            distortion: (N, k) coefficients, k in 4, 5, 8, 12, 14.
            head_pose: (N, 6) rotation vector (rad), translation (mm).
            model: the face model that ``head_pose`` refers to; the mesh is moved to where the
                middles of the four eye corners coincide.

        A row with a vertex at or behind the camera, or with NaN, gives NaN; without a mesh the
        boxes are empty points at the principal point.
        """
        camera = np.asarray(camera, np.float64)
        if not len(self.mesh):
            return np.concatenate([camera[:, 2:], camera[:, 2:]], axis=1)
        coefficients = pad_distortion(distortion)
        mesh = self.mesh + _shift(face_model(model))
        boxes = np.empty((len(camera), 4))
        step = max(1, _POINTS_AT_ONCE // len(mesh))
        for start in range(0, len(camera), step):
            rows = slice(start, start + step)
            # Rows that are rejected anyway come along with whatever numbers they have.
            with np.errstate(invalid="ignore", over="ignore"):
                head = rotation_from_vector(head_pose[rows, :3])
                points = mesh @ head.transpose(0, 2, 1) + head_pose[rows, None, 3:]
                pixels = project(points, camera[rows], coefficients[rows])
                boxes[rows, :2] = pixels.min(axis=1)
                boxes[rows, 2:] = pixels.max(axis=1)
        boxes[~np.isfinite(boxes).all(axis=1)] = np.nan
        return boxes

    def accepts(self, boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Return (N,) bool for boxes (N, 4) of :meth:`extents` and photo sizes (N, 2) w, h.

        A point exactly on the border (x = width) is inside, as upstream.
        """
        if not len(self.mesh):
            return np.ones(len(boxes), bool)
        return (boxes[:, :2] >= 0.0).all(axis=1) & (boxes[:, 2:] <= size).all(axis=1)


def _shift(model: FaceModel) -> np.ndarray:
    """Return (3,) mm from the mesh's place to where another model's eyes are; 0 for its own."""
    own = FACE_MODELS["sfm14"]
    return np.zeros(3) if model is own else model.eye_centre - own.eye_centre


def make_frame_check(name: str, sfm_mesh: str | Path | None = None) -> FrameCheck:
    """Return the check called ``name``.

    Args:
        name: ``sfm-upstream`` (dense mesh as upstream cuts and centres it), ``sfm`` (dense mesh
            centred on the eye corners), ``ellipsoid`` or ``none``.
        sfm_mesh: eos' ``sfm_shape_3448.bin`` for the first two; without it they warn and use
            the ellipsoid of the mesh's extent.

    Raises:
        ValueError: another name.
        FaceModelError: the mesh file is missing or wrong.
    """
    if name not in FRAME_CHECKS:
        raise ValueError(f"frame_check: expected one of {FRAME_CHECKS}, found {name!r}")
    if name == "none":
        return FrameCheck("none", np.zeros((0, 3)))
    if name != "ellipsoid" and sfm_mesh is not None:
        return FrameCheck(name, dense_mesh(sfm_mesh, upstream=name == "sfm-upstream"))
    if name != "ellipsoid":
        log.warning(
            "frame_check %s: no dense face mesh file given; using the ellipsoid of its extent, "
            "so the rows kept can differ from published lists",
            name,
        )
    return FrameCheck("ellipsoid", ellipsoid_mesh())
