"""The normalising rotation, the homography and the labels, for N photos at once in float64.

Zhang, Sugano, Bulling, "Revisiting data normalization for appearance-based gaze estimation"
(ETRA 2018), in the form of ``swook/faze_preprocess``. OpenCV camera axes (x right, y down,
z into the scene), millimetres, radians; labels are (pitch, yaw) of :mod:`regaze.angles`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regaze.angles import angles_from_rotation, angles_from_vector, rotation_from_vector
from regaze.normalise.camera import intrinsic_matrix
from regaze.normalise.face_model import ORIGINS, FaceModel, face_model

_SMALL = 1e-9
_HUGE = 1e9


@dataclass(frozen=True)
class Variant:
    """A virtual camera and the point of the face that it looks at.

    ``size`` (width, height) pixels, ``focal`` pixels, ``distance`` mm; ``origin``, from where the
    gaze is measured, is ``face_centre`` or ``inner_corners``: which points of the face that means
    is up to the face model.

    Raises:
        ValueError: another origin.
    """

    name: str
    size: tuple[int, int]
    focal: float
    distance: float
    origin: str = "face_centre"

    def __post_init__(self):
        if self.origin not in ORIGINS:
            raise ValueError(f"origin: expected one of {ORIGINS}, found {self.origin!r}")

    @classmethod
    def named(
        cls,
        name: str,
        size: int | tuple[int, int] | None = None,
        focal: float | None = None,
        distance: float | None = None,
    ) -> Variant:
        """Return ``sted`` (full face, 128 x 128, f 500), ``faze`` (eye strip, 256 x 64, f 1300)
        or ``custom`` (the face centre as sted, everything else given).

        ``size`` is in pixels, one number for a square. Without ``focal`` (pixels) the field of
        view is kept: the focal length scales with the width, for ``sted`` F = 500 * size / 128.
        ``distance`` is in mm.

        Raises:
            ValueError: another name; a number that is not positive; a size that changes the
                proportions without a focal length; ``custom`` without all three.
        """
        if name not in (*VARIANTS, "custom"):
            raise ValueError(f"variant: expected {sorted(VARIANTS)} or 'custom', found {name!r}")
        given = {"patch_size": size, "focal": focal, "distance": distance}
        for key, value in given.items():
            if value is None and name == "custom":
                raise ValueError(f"{key}: expected a number for variant 'custom', found none")
            if value is not None and not np.all(np.asarray(value) > 0):
                raise ValueError(f"{key}: expected positive numbers, found {value}")
        base = VARIANTS.get(name, VARIANTS["sted"])
        size = base.size if size is None else size
        width, height = np.broadcast_to(np.asarray(size, int), 2).tolist()
        if focal is None:
            if width * base.size[1] != height * base.size[0]:
                raise ValueError(
                    f"patch_size: expected the proportions of {name} ({base.size[0]} x "
                    f"{base.size[1]}) or a focal length as well, found {width} x {height}"
                )
            focal = base.focal * width / base.size[0]
        distance = base.distance if distance is None else distance
        return cls(name, (width, height), float(focal), float(distance), base.origin)

    @property
    def camera(self) -> np.ndarray:
        """(3, 3) float64: the virtual camera's matrix, principal point in the patch's middle."""
        width, height = self.size
        return intrinsic_matrix(np.array([self.focal, self.focal, width / 2.0, height / 2.0]))


VARIANTS = {
    "sted": Variant("sted", (128, 128), 500.0, 600.0, "face_centre"),
    "faze": Variant("faze", (256, 64), 1300.0, 600.0, "inner_corners"),
}


@dataclass(frozen=True)
class Normalisation:
    """What :func:`normalise` returns; rows with a ``problem`` hold NaN, as does an unknown gaze.

    ``rotation`` (N, 3, 3) photo camera -> virtual camera; ``homography`` (N, 3, 3) undistorted
    photo pixel -> patch pixel; ``origin`` (N, 3) mm and ``gaze_vector`` (N, 3) unit, both in the
    photo's camera; ``gaze``, ``gaze_left``, ``gaze_right`` (eye at the left, right of the image),
    ``head``, ``head_unnormalised`` (N, 2) pitch, yaw in radians; ``problem`` (N,) str, "" = none.
    """

    rotation: np.ndarray
    homography: np.ndarray
    origin: np.ndarray
    gaze_vector: np.ndarray
    gaze: np.ndarray
    gaze_left: np.ndarray
    gaze_right: np.ndarray
    head: np.ndarray
    head_unnormalised: np.ndarray
    problem: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """(N, 8) float32: gaze, head, left-eye gaze, right-eye gaze."""
        columns = (self.gaze, self.head, self.gaze_left, self.gaze_right)
        return np.concatenate(columns, axis=1).astype(np.float32)


def _unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length = np.linalg.norm(vectors, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return vectors / length[..., None], length


def virtual_view(
    origin: np.ndarray, head: np.ndarray, camera: np.ndarray, variant: Variant
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn N cameras to look straight at a point, without the roll of the head.

    Args:
        origin: (N, 3) mm, the point in the photo's camera.
        head: (N, 3, 3) rotation of the head, model -> camera.
        camera: (N, 4) fx, fy, cx, cy in pixels.
        variant: the virtual camera; its ``origin`` plays no part here.

    Returns rotation (N, 3, 3), photo camera -> virtual camera; homography (N, 3, 3), undistorted
    photo pixel -> patch pixel; and (N,) the sine of the angle between the line of sight and the
    head's x axis: where it is 0 the roll is unknown and the row holds NaN.
    """
    forward, distance = _unit(origin)
    down, sine = _unit(np.cross(forward, head[:, :, 0]))
    right, _ = _unit(np.cross(down, forward))
    rotation = np.stack([right, down, forward], axis=1)
    scale = np.zeros_like(rotation)
    scale[:, 0, 0] = scale[:, 1, 1] = 1.0
    with np.errstate(divide="ignore"):
        scale[:, 2, 2] = variant.distance / distance
    with np.errstate(invalid="ignore", over="ignore"):
        homography = variant.camera @ scale @ rotation @ np.linalg.inv(intrinsic_matrix(camera))
    return rotation, homography, sine


def normalise(
    camera: np.ndarray,
    head_pose: np.ndarray,
    gaze_target: np.ndarray | None,
    variant: Variant,
    model: str | FaceModel = "sfm14",
) -> Normalisation:
    """Return rotation, homography and labels of N photos.

    Args:
        camera: (N, 4) fx, fy, cx, cy in pixels.
        head_pose: (N, 6) rotation vector (rad) and translation (mm), face model -> camera.
        gaze_target: (N, 3) mm in camera coordinates; None when nothing is known of the gaze, which
            leaves the gaze columns NaN without being a problem.
        variant: the virtual camera.
        model: the face model that ``head_pose`` refers to, or its name.

    Nothing is raised for bad rows; their ``problem`` is ``non_finite_label`` (NaN, infinity or
    a number beyond 1e9 in an input), ``bad_camera`` (focal length not positive),
    ``behind_camera`` (gaze origin at depth <= 0), ``degenerate_pose`` (the head's x axis along
    the line of sight) or ``degenerate_gaze`` (target at a gaze origin).

    Raises:
        ValueError: an unknown face model.
    """
    camera = np.asarray(camera, np.float64).reshape(-1, 4)
    head_pose = np.asarray(head_pose, np.float64).reshape(-1, 6)
    known = gaze_target is not None
    gaze_target = np.asarray(gaze_target if known else np.zeros((len(camera), 3)), np.float64)
    gaze_target = gaze_target.reshape(-1, 3)
    model = face_model(model)
    problem = np.zeros(len(camera), "<U16")

    def mark(rows: np.ndarray, reason: str) -> None:
        problem[rows & (problem == "")] = reason

    # NaN compares false as well; numbers of that size are no millimetres and would overflow.
    finite = (np.abs(np.concatenate([camera, head_pose, gaze_target], axis=1)) < _HUGE).all(axis=1)
    mark(~finite, "non_finite_label")
    mark(finite & ~(camera[:, :2] > _SMALL).all(axis=1), "bad_camera")
    # Bad rows are computed with harmless numbers and blanked at the end, so that one of them
    # neither warns nor disturbs the others.
    good = (problem == "")[:, None]
    camera = np.where(good, camera, (1.0, 1.0, 0.0, 0.0))
    head_pose = np.where(good, head_pose, (0.0, 0.0, 0.0, 0.0, 0.0, 600.0))
    gaze_target = np.where(good, gaze_target, 0.0)

    head = rotation_from_vector(head_pose[:, :3])
    points = model.points @ head.transpose(0, 2, 1) + head_pose[:, None, 3:]
    origin = (points * model.weights(variant.origin)[:, None]).sum(axis=1)
    mark(~(origin[:, 2] > 0.0), "behind_camera")
    rotation, homography, sine = virtual_view(origin, head, camera, variant)
    mark(~(sine > _SMALL), "degenerate_pose")

    def gaze_from(start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not known:
            return np.full_like(start, np.nan), np.full((len(start), 2), np.nan)
        direction, reach = _unit(gaze_target - start)
        mark(~(reach > _SMALL), "degenerate_gaze")
        # A label is the direction from the target to the face, so that looking into the camera
        # is (0, 0) and a positive pitch looks up.
        return direction, _angles(-np.einsum("nij,nj->ni", rotation, direction))

    def _angles(vectors: np.ndarray) -> np.ndarray:
        return angles_from_vector(np.nan_to_num(vectors, nan=1.0))

    gaze_vector, gaze = gaze_from(origin)
    _, gaze_left = gaze_from(points[:, list(model.left_eye)].mean(axis=1))
    _, gaze_right = gaze_from(points[:, list(model.right_eye)].mean(axis=1))
    head_angles = angles_from_rotation(np.nan_to_num(rotation @ head, nan=1.0))
    head_unnormalised = angles_from_rotation(head)
    columns = {
        "rotation": rotation,
        "homography": homography,
        "origin": origin,
        "gaze_vector": gaze_vector,
        "gaze": gaze,
        "gaze_left": gaze_left,
        "gaze_right": gaze_right,
        "head": head_angles,
        "head_unnormalised": head_unnormalised,
    }
    bad = problem != ""
    for values in columns.values():
        values[bad] = np.nan
    return Normalisation(**columns, problem=problem)
