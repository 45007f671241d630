"""The head's pose from landmarks: a perspective-n-point problem on a mean face.

The order of the solvers decides what is found for noisy landmarks, so it is that of the systems
whose data sets are read: for ``sfm14`` that of ``NVlabs/few_shot_gaze`` (undistorted points,
RANSAC around EPnP for a start, then least squares on all points); for the six-point models that
of ``xucong-zhang/ETH-XGaze`` (EPnP with the distortion, then least squares). EPnP: Lepetit,
Moreno-Noguer, Fua (IJCV 2009).
"""

from __future__ import annotations

import cv2
import numpy as np

from regaze.angles import rotation_from_vector
from regaze.normalise.camera import (
    intrinsic_matrix,
    pad_distortion,
    project,
    undistort_points,
)
from regaze.normalise.face_model import FaceModel, face_model

MOST_ROLL = 60.0
"""Degrees by which heads are seldom rolled, while landmarks of photos that lie on their side
show heads rolled by 90."""

_SEED = 1
_MOST_MISFIT = 0.15
"""Root mean square distance between landmarks and model over the landmarks' extent. Heads of any
shape and expression give up to 0.07, with 5 % of noise 0.1; eyes exchanged 0.13 to 0.29, points
numbered from another start 0.2 to 0.37."""
_LEAST_SPAN = 1.0
"""Pixels. Points on one spot would be a head at any great distance."""


class HeadPoseError(ValueError):
    """No head pose can be found for one photo's landmarks; the message says why."""

    reason = "pose_failed"


def estimate_head_pose(
    landmarks: np.ndarray,
    camera: np.ndarray,
    distortion: np.ndarray | None = None,
    model: str | FaceModel = "sfm14",
) -> tuple[np.ndarray, float]:
    """Return the head pose that explains the landmarks of one photo best, and how well it does.

    Args:
        landmarks: (68, 2) pixels of the photo in iBUG order, of which the model's own are used;
            or those alone, (M, 2) in the order of the model's ``landmark_numbers``.
        camera: (4,) fx, fy, cx, cy in pixels.
        distortion: (k,) OpenCV coefficients, k in 4, 5, 8, 12, 14; None for none.
        model: face model or its name. ``sfm14`` uses 13 points, ``xgaze6`` and ``mpii6`` six.

    Returns:
        (6,) float64: rotation vector (rad) and translation (mm), model -> camera; and the root
        mean square distance in pixels of the photo between landmarks and projected points.
        The result depends on the arguments alone, not on earlier calls.

    Raises:
        HeadPoseError: numbers that are not finite, landmarks that no head explains, or a head
            that would lie at or behind the camera.
        ValueError: wrong shapes, or an unknown face model.
    """
    model = face_model(model)
    points = np.ascontiguousarray(model.fitted_points)
    seen = _chosen(landmarks, model)
    camera = np.asarray(camera, np.float64).reshape(4)
    lens = pad_distortion(np.zeros(4) if distortion is None else distortion).reshape(14)
    for name, values in (("landmarks", seen), ("camera", camera), ("distortion", lens)):
        if not np.isfinite(values).all():
            raise HeadPoseError(f"{name}: expected finite numbers, found {values[_worst(values)]}")
    if not (camera[:2] > 0).all():
        raise HeadPoseError(f"camera: expected positive focal lengths, found {camera[:2]}")
    span = np.ptp(seen, axis=0).max()
    if span < _LEAST_SPAN:
        raise HeadPoseError(f"landmarks: expected a face, found all within {span:.3g} pixels")
    bent = lens if lens.any() else None
    solve = _solve_fourteen if model.name == "sfm14" else _solve_six
    try:
        vector, translation = solve(points, seen, camera, lens, bent)
    except cv2.error as error:
        what = getattr(error, "err", error)
        raise HeadPoseError(f"no head pose explains the landmarks: {what}") from error
    pose = np.concatenate([vector.ravel(), translation.ravel()])
    if not np.isfinite(pose).all():
        raise HeadPoseError(f"no head pose explains the landmarks: found {pose.tolist()}")
    placed = points @ rotation_from_vector(pose[:3]).T + pose[3:]
    if not (placed[:, 2] > 0.0).all():
        raise HeadPoseError(
            f"expected a head before the camera, found depths {placed[:, 2].min():.6g} to "
            f"{placed[:, 2].max():.6g} mm"
        )
    with np.errstate(invalid="ignore", over="ignore"):
        missed = project(placed[None], camera[None], lens[None])[0] - seen
        error = float(np.sqrt((missed**2).sum(axis=1).mean()))
    if not np.isfinite(error):
        raise HeadPoseError(f"no head pose explains the landmarks: found them {error} pixels off")
    return pose, error


def require_fit(landmarks: np.ndarray, error: float, model: str | FaceModel = "sfm14") -> None:
    """Refuse landmarks that the pose found for them explains so badly that they are no face's.

    Args:
        landmarks, model: as for :func:`estimate_head_pose`.
        error: what it returned.

    Raises:
        HeadPoseError: the error is out of proportion to the face.
    """
    misfit = error / np.ptp(_chosen(landmarks, face_model(model)), axis=0).max()
    if misfit > _MOST_MISFIT:
        raise HeadPoseError(
            "landmarks: expected points of a face in iBUG-68 order, found them "
            f"{100 * misfit:.0f} % of the face's size off a mean face"
        )


def roll_doubt(landmarks: np.ndarray) -> str:
    """Return what is odd about a head's roll in the photo, "" when nothing is.

    Args:
        landmarks: (68, 2) pixels in iBUG order; the outer corners of the eyes are looked at.
    """
    right, down = landmarks[45] - landmarks[36]
    roll = np.degrees(np.arctan2(down, right))
    if not abs(roll) > MOST_ROLL:
        return ""
    return (
        f"landmarks of a head that is rolled by {roll:.0f} degrees: expected at most "
        f"{MOST_ROLL:.0f}, in points of the photo as it is shown, turned as its EXIF data say"
    )


def _chosen(landmarks: np.ndarray, model: FaceModel) -> np.ndarray:
    landmarks = np.asarray(landmarks, np.float64)
    numbers = model.landmark_numbers
    if landmarks.shape == (68, 2):
        landmarks = landmarks[np.array(numbers) - 1]
    if landmarks.shape != (len(numbers), 2):
        raise ValueError(
            f"landmarks: expected (68, 2) or ({len(numbers)}, 2), found {landmarks.shape}"
        )
    return np.ascontiguousarray(landmarks)


def _worst(values: np.ndarray) -> tuple:
    """Return the index of the first entry that is not finite."""
    return tuple(np.argwhere(~np.isfinite(values))[0])


def _solve_fourteen(points, seen, camera, lens, bent) -> tuple[np.ndarray, np.ndarray]:
    if bent is not None:
        straight = undistort_points(seen[None], camera[None], lens[None])[0]
        seen = straight * camera[:2] + camera[2:]
    matrix = intrinsic_matrix(camera)
    # RANSAC draws from the thread's generator, whose state is that of the calls before.
    cv2.setRNGSeed(_SEED)
    try:
        found, vector, translation, _ = cv2.solvePnPRansac(
            points, seen, matrix, None, flags=cv2.SOLVEPNP_EPNP
        )
    except cv2.error:
        found = False
    if not found:
        # Its tolerance of 8 pixels is less than a face's own shape is worth in a large photo. The
        # start hardly matters, since what follows uses every point.
        vector, translation = _epnp(points, seen, matrix, None)
    return _refine(points, seen, matrix, None, vector, translation)


def _solve_six(points, seen, camera, lens, bent) -> tuple[np.ndarray, np.ndarray]:
    matrix = intrinsic_matrix(camera)
    return _refine(points, seen, matrix, bent, *_epnp(points, seen, matrix, bent))


def _epnp(points, seen, matrix, lens) -> tuple[np.ndarray, np.ndarray]:
    # EPnP and least squares give a pose or raise, never "none found"; it may be of NaN.
    _, vector, translation = cv2.solvePnP(points, seen, matrix, lens, flags=cv2.SOLVEPNP_EPNP)
    return vector, translation


def _refine(points, seen, matrix, lens, vector, translation) -> tuple[np.ndarray, np.ndarray]:
    _, vector, translation = cv2.solvePnP(
        points, seen, matrix, lens, vector, translation, True, cv2.SOLVEPNP_ITERATIVE
    )
    return vector, translation
