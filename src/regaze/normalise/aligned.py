"""Rows of a data set in FFHQ's framing: their patches, and what their labels mean in them.

Labels of all framings are those of the virtual camera that looks at the face
(:mod:`regaze.normalise.geometry`): gaze and head relative to the line of sight, the head's roll
taken out by the head's own axis. The frame takes the roll out by eyes and mouth in the photo, so
that what is left between the two is a turn about the line of sight, :func:`rolls`, a few degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from regaze.angles import angles_from_vector, vector_from_angles
from regaze.normalise.camera import project
from regaze.normalise.ffhq import NotFramed, framed, require_shown, square_of, through
from regaze.normalise.geometry import Normalisation
from regaze.normalise.warp import transform_points
from regaze.sources.records import PersonRecords

_STEP = 1.0
"""Millimetres at the face along which directions are carried into the photo."""


def landmark_problem(records: PersonRecords, row: int) -> tuple[str, str]:
    """Why a row has no frame before its photo is opened: reason and detail, or two blanks."""
    if records.landmarks is None:
        return "no_landmarks", "expected 68 landmarks of the photo, found none of the person"
    try:
        square_of(records.landmarks[row])
    except NotFramed as problem:
        return problem.reason, str(problem)
    return "", ""


def align_row(
    photo: np.ndarray,
    landmarks: np.ndarray,
    size: int,
    turned: bool = False,
    resampling: str = "one_step",
) -> tuple[np.ndarray, np.ndarray]:
    """The patch (size, size, 3) of a photo (H, W, 3) uint8 and its matrix (3, 3).

    Args:
        photo: channels in any order.
        landmarks: (68, 2) pixels of the photo.
        size: side of the patch.
        turned: landmarks are of the photo turned by 180 degrees about (w/2, h/2).
        resampling: ``one_step``, or ``two_step``, see :func:`regaze.normalise.ffhq.through`.

    Returns:
        See :func:`regaze.normalise.ffhq.framed`.

    Raises:
        NotFramed: the photo's edge cuts the face, or ``two_step`` finds it too small.
    """
    if turned:
        # As in `make_patch`: pixel (x, y) is pixel (w - x, h - y), whose first row and column are
        # none of the photo's.
        upright = np.zeros_like(photo)
        upright[1:, 1:] = photo[:0:-1, :0:-1]
        photo = upright
    square = square_of(landmarks)
    require_shown(landmarks, square, (photo.shape[1], photo.shape[0]))
    return (through if resampling == "two_step" else framed)(photo, square, size)


def place_columns(
    records: PersonRecords,
    geometry: Normalisation,
    distortion: np.ndarray,
    rows: Sequence[int],
    matrices: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Columns of a faces file that tell where aligned patches lie.

    Args:
        records: of a person.
        geometry: of all of their photos.
        distortion: (N, 14) padded coefficients of all.
        rows: numbers of n photos.
        matrices: n matrices of :func:`align_row`.

    Returns:
        Arguments of :meth:`regaze.faces.FacesWriter.add_person`.
    """
    rows = list(rows)
    alignment = np.array(matrices).reshape(-1, 3, 3)
    camera, lens = records.camera_parameters[rows], distortion[rows]
    known = np.zeros((0, 68, 2)) if records.landmarks is None else records.landmarks[rows]
    return {
        "landmarks": transform_points(alignment, known).astype(np.float32),
        "alignment": alignment,
        "camera": camera,
        "distortion": lens,
        "roll": rolls(alignment, geometry.rotation[rows], geometry.origin[rows], camera, lens),
    }


def rolls(
    alignment: np.ndarray,
    rotation: np.ndarray,
    origin: np.ndarray,
    camera: np.ndarray,
    distortion: np.ndarray,
) -> np.ndarray:
    """How far the virtual camera's x axis is turned in aligned patches, (N,) radians, clockwise.

    Args:
        alignment: (N, 3, 3) pixels of photos to pixels of patches.
        rotation: (N, 3, 3) photo camera to virtual camera.
        origin: (N, 3) mm, the point of the face that the virtual camera looks at.
        camera: (N, 4) fx, fy, cx, cy of the photos.
        distortion: (N, 14) padded coefficients.
    """
    points = np.stack([origin - _STEP * rotation[:, 0], origin + _STEP * rotation[:, 0]], axis=1)
    places = transform_points(alignment, project(points, camera, distortion))
    right = places[:, 1] - places[:, 0]
    return np.arctan2(right[:, 1], right[:, 0])


def in_frame(angles: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Directions of labels as they point in aligned patches; ``-roll`` is the way back.

    Args:
        angles: (N, 2) pitch, yaw in radians.
        roll: (N,) radians, see :func:`rolls`.

    Returns:
        (N, 2) pitch, yaw in radians, the patch's x axis taken as horizontal.
    """
    x, y, z = np.moveaxis(vector_from_angles(np.asarray(angles, np.float64)), -1, 0)
    # Yaw is positive towards image left and pitch up: both axes of the picture reversed.
    cos, sin = np.cos(roll), np.sin(roll)
    return angles_from_vector(np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1))
