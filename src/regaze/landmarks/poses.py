"""From landmarks to the labels of a photo: head pose and gaze target, in upstream's layout.

The file is a supplementary HDF5 as ``swook/faze_preprocess`` reads it (``file_name``,
``camera_parameters``, ``distortion_parameters``, ``head_pose``, ``3d_gaze_target``) with
``landmarks``, ``score``, ``pose_error``, ``status`` and ``detail`` beside.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regaze.angles import rotation_from_vector, vector_from_angles
from regaze.landmarks.files import (
    name_problem,
    new_file,
    read_attributes,
    read_landmarks,
    usable_persons,
    write_person,
)
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.head_pose import HeadPoseError, estimate_head_pose, require_fit, roll_doubt
from regaze.sources.photo_header import photo_header
from regaze.sources.records import PersonPhotos, PhotoSource, SourceError, lost_rows

log = logging.getLogger(__name__)

_FARTHEST = 1e6

FACE_MODEL = "sfm14"
"""Model that the head poses refer to."""


def pose_shard(
    source: PhotoSource,
    persons: Sequence[str],
    landmarks: str | Path | None,
    out: str | Path,
    *,
    min_score: float = 0.5,
) -> dict[str, int]:
    """Write the supplementary file of ``persons``.

    Every photo gets its row, in the source's order. Where no head pose was found ``head_pose`` is
    NaN and ``status`` tells why: what the landmarks file says (``no_face``, ``other_face``,
    ``unreadable_image``), ``no_landmarks``, ``low_score``, ``pose_failed``, ``bad_file_name``, or
    the reason for which the person could not be read. Landmarks that the data set brings itself
    come before those of the file.

    Landmarks that are not those of a face are ``pose_failed``, and so are those that a data set
    brings for a photo that EXIF data turn if they show a head on its side: they are points of the
    photo as stored. Of other heads on their side the log tells.

    Args:
        source: the opened raw data set.
        persons: persons of the shard.
        landmarks: the shard's landmarks file; None when the data set brings its own.
        out: the file to write.
        min_score: mean confidence of the landmarks below which a photo is given up. Landmarks
            without a score are taken as they are.

    Returns:
        Number of rows per status, ``found`` for those with a head pose.

    Raises:
        SourceError: the landmarks file is damaged as a whole.
    """
    counts: Counter[str] = Counter()
    attributes = {} if landmarks is None else read_attributes(landmarks)
    attributes |= {"source": source.kind, "face_model": FACE_MODEL, "min_score": min_score}
    with new_file(out, attributes) as file:
        for person in usable_persons(persons):
            try:
                photos = source.photos(person)
                columns = _pose_person(photos, landmarks, min_score)
            except SourceError as error:
                log.warning("person %s left out: %s", person, error)
                rows = lost_rows(source, person, error)
                if rows[0][0] < 0:
                    # Nobody knows how many rows these were; the reason must not be lost.
                    file.create_group(person).attrs.update(reason=error.reason, error=str(error))
                    counts[error.reason] += 1
                    continue
                photos, columns = None, _given_up(error, [name for _, name in rows])
            group = write_person(file, person, columns)
            group.attrs["gaze"] = "known" if photos is None or photos.gaze_known else "absent"
            assumption = getattr(source, "camera_assumption", None)
            if assumption is not None and photos is not None:
                group.attrs["camera_assumption"] = str(assumption(person))
            here = Counter(status or "found" for status in columns["status"])
            counts += here
            log.info("person %s: %d of %d poses", person, here["found"], sum(here.values()))
    return dict(sorted(counts.items()))


def target_from_angles(origin: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Return a point that an eye at ``origin`` looks at, (3,) mm in the camera.

    The angles are relative to the line from the camera to the face, of a camera held level: its
    x axis is horizontal. In the frame of that line (z along it, x horizontal, y down) the gaze
    direction is minus :func:`regaze.angles.vector_from_angles`; how far away the target is does
    not change the direction, so it is taken to be as far as the camera.

    Args:
        origin: (3,) mm, centre of the face in the camera.
        angles: (2,) pitch, yaw in radians; (0, 0) looks into the camera.

    Raises:
        HeadPoseError: the face lies on the camera's x axis or in its centre.
    """
    distance = float(np.linalg.norm(origin))
    down = np.cross(origin, [1.0, 0.0, 0.0])
    if not np.isfinite(distance) or np.linalg.norm(down) <= 1e-9 * distance or distance == 0.0:
        raise HeadPoseError(f"origin: expected a point in front of the camera, found {origin}")
    forward = np.asarray(origin, np.float64) / distance
    down = down / np.linalg.norm(down)
    frame = np.stack([np.cross(down, forward), down, forward])
    return origin + distance * (frame.T @ -vector_from_angles(np.asarray(angles, np.float64)))


def face_centre(pose: np.ndarray) -> np.ndarray:
    """Return the face centre (3,) mm of a head pose (6,), in the camera."""
    model = FACE_MODELS[FACE_MODEL]
    return rotation_from_vector(pose[:3]) @ (model.centre @ model.points) + pose[3:]


def _pose_person(
    photos: PersonPhotos, landmarks: str | Path | None, min_score: float
) -> dict[str, object]:
    count = len(photos)
    points, score = np.full((count, 68, 2), np.nan), np.full(count, np.nan)
    status, detail = ["no_landmarks"] * count, [""] * count
    if landmarks is not None:
        points, score, status = read_landmarks(landmarks, photos.person, photos.file_name)
        with np.errstate(invalid="ignore"):
            low = score < min_score
        for row in np.flatnonzero(low).tolist():
            if not status[row]:
                status[row] = "low_score"
                detail[row] = (
                    f"landmarks: expected a score of {min_score:g}, found {score[row]:.3g}"
                )
    if photos.landmarks is not None:
        # NaN compares false as well; no photo has points that far out, nor has float32.
        given = (np.abs(photos.landmarks) < _FARTHEST).all(axis=(1, 2))
        points[given], score[given] = photos.landmarks[given], np.nan
        status = ["" if given[row] else word for row, word in enumerate(status)]
        detail = ["" if given[row] else text for row, text in enumerate(detail)]
    pose, error = np.full((count, 6), np.nan), np.full(count, np.nan)
    target = np.array(photos.gaze_target, np.float64).reshape(count, 3)
    if not photos.gaze_known:
        target[:] = np.nan
    rolled: dict[str, str] = {}
    for row, name in enumerate(photos.file_name):
        status[row] = name_problem(name) or status[row]
        if status[row]:
            continue
        try:
            pose[row], error[row] = estimate_head_pose(
                points[row], photos.camera_parameters[row], photos.distortion[row]
            )
            require_fit(points[row], error[row])
            if doubt := roll_doubt(points[row]):
                if photos.landmarks is not None and given[row] and _turned(photos.root / name):
                    raise HeadPoseError(doubt)
                rolled[name] = doubt
            angles = photos.gaze_angles[row]
            wanted = photos.gaze_known and not np.isfinite(target[row]).all()
            if wanted and np.isfinite(angles).all():
                target[row] = target_from_angles(face_centre(pose[row]), angles)
        except HeadPoseError as problem:
            log.warning("%s: %s", name, problem)
            pose[row], error[row], status[row] = np.nan, np.nan, problem.reason
            detail[row] = str(problem)
    if rolled:
        first, doubt = next(iter(rolled.items()))
        log.warning(
            "person %s: %d of %d heads lie on their side, the first that of %s: %s",
            *(photos.person, len(rolled), count, first, doubt),
        )
    return {
        "file_name": photos.file_name,
        "camera_parameters": np.asarray(photos.camera_parameters, np.float64),
        "distortion_parameters": np.asarray(photos.distortion, np.float64),
        "head_pose": pose,
        "3d_gaze_target": target,
        "landmarks": points.astype(np.float32),
        "score": score.astype(np.float32),
        "pose_error": error.astype(np.float32),
        "status": status,
        "detail": detail,
    }


def _turned(photo: Path) -> bool:
    header = photo_header(photo)
    return header is not None and header.orientation != 1


def _given_up(error: SourceError, names: Sequence[str]) -> dict[str, object]:
    """Rows for a person that cannot be read, so that each of them is counted as rejected."""
    count = len(names)

    def nothing(*shape: int) -> np.ndarray:
        return np.full((count, *shape), np.nan)

    return {
        "file_name": names,
        "camera_parameters": nothing(4),
        "distortion_parameters": nothing(4),
        "head_pose": nothing(6),
        "3d_gaze_target": nothing(3),
        "landmarks": nothing(68, 2).astype(np.float32),
        "score": nothing().astype(np.float32),
        "pose_error": nothing().astype(np.float32),
        "status": [error.reason] * count,
        "detail": [str(error)] * count,
    }
