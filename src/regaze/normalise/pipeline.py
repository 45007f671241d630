"""One shard of persons: capture records in, a faces file and a table of rejected rows out."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from regaze.faces import FacesAttributes, FacesWriter
from regaze.normalise.camera import pad_distortion, undistort_points
from regaze.normalise.frame_check import FrameCheck, make_frame_check
from regaze.normalise.geometry import Normalisation, Variant, normalise
from regaze.normalise.rejections import Rejection, RowCounts, write_rejected
from regaze.normalise.warp import (
    RESAMPLINGS,
    UNDISTORT_CAMERAS,
    UnreadableImage,
    make_patch,
    read_photo,
    undistorted_camera,
)
from regaze.sources.gazecapture import safe_name
from regaze.sources.records import PersonRecords, Source, SourceError

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 64
_BYTES_IN_MEMORY = 256 << 20


@dataclass(frozen=True)
class FacesRecipe:
    """How patches are made; see :func:`normalise_shard` for the fields."""

    variant: Variant
    check: FrameCheck
    undistort_camera: str = "same"
    resampling: str = "one_step"

    def attributes(self, source: str) -> FacesAttributes:
        """Return the attributes of a faces file made by this recipe from ``source``."""
        return FacesAttributes(
            variant=self.variant.name,
            patch_size=self.variant.size,
            focal=self.variant.focal,
            distance=self.variant.distance,
            frame_check=self.check.name,
            source=source,
            undistort_camera=self.undistort_camera,
        )


def normalise_shard(
    source: Source,
    persons: Sequence[str],
    out_faces: str | Path,
    out_rejected: str | Path,
    *,
    variant: Variant | str = "sted",
    patch_size: int | tuple[int, int] | None = None,
    focal: float | None = None,
    distance: float | None = None,
    frame_check: str = "sfm-upstream",
    sfm_mesh: str | Path | None = None,
    undistort_camera: str = "same",
    resampling: str = "one_step",
    threads: int = 1,
) -> RowCounts:
    """Normalise every photo of ``persons`` and write the shard's two files.

    Every row of the raw data ends in one of them: kept in ``out_faces``, or in ``out_rejected``
    with its reason (``missing_person``, ``missing_key``, ``bad_shape``, ``bad_file_name``,
    ``non_finite_label``, ``bad_camera``, ``behind_camera``, ``degenerate_pose``,
    ``degenerate_gaze``, ``unreadable_image``, ``out_of_frame``). Rows depend on the person's data
    alone, so neither the dealing of persons to shards nor ``threads`` changes a pixel or a label.

    Args:
        source: the opened raw data set.
        persons: persons of the shard.
        out_faces: the faces HDF5.
        out_rejected: the parquet table of rejected rows.
        variant: ``sted``, ``faze``, ``custom`` or a :class:`Variant`.
        patch_size, focal, distance: changes to a named variant; see :meth:`Variant.named`.
        frame_check: see :func:`regaze.normalise.frame_check.make_frame_check`.
        sfm_mesh: dense face mesh for it.
        undistort_camera: ``same`` or ``centred``.
        resampling: ``one_step``, or ``two_step`` for the reference's order.
        threads: photos decoded and warped at a time.

    Raises:
        ValueError: an unknown option.
        SourceError: the raw data set itself cannot be read.
    """
    if undistort_camera not in UNDISTORT_CAMERAS:
        raise ValueError(
            f"undistort_camera: expected one of {UNDISTORT_CAMERAS}, found {undistort_camera!r}"
        )
    if resampling not in RESAMPLINGS:
        raise ValueError(f"resampling: expected one of {RESAMPLINGS}, found {resampling!r}")
    if isinstance(variant, str):
        variant = Variant.named(variant, patch_size, focal, distance)
    check = make_frame_check(frame_check, sfm_mesh)
    recipe = FacesRecipe(variant, check, undistort_camera, resampling)
    rejections: list[Rejection] = []
    rows_out = 0
    with (
        _mapper(threads) as run,
        FacesWriter(out_faces, recipe.attributes(source.kind)) as writer,
    ):
        for person in sorted(persons):
            try:
                records = source.read(person)
            except SourceError as error:
                rejections += _reject_person(person, error)
                continue
            kept = _add_person(writer, records, recipe, run, rejections, Path(out_faces).parent)
            rows_out += kept
            log.info("person %s: %d of %d rows kept", person, kept, len(records))
    write_rejected(out_rejected, rejections, rows_out)
    return RowCounts(rows_out + len(rejections), rows_out)


def _reject_person(person: str, error: SourceError) -> list[Rejection]:
    log.warning("person %s left out: %s", person, error)
    names = list(enumerate(error.file_names)) or [(-1, "")]
    return [Rejection(person, row, name, error.reason, str(error)) for row, name in names]


@contextmanager
def _mapper(threads: int) -> Iterator[Callable]:
    """Yield a ``map`` over ``threads`` threads; OpenCV itself is held to one thread meanwhile.

    Decoding and warping release the interpreter's lock, so whole photos in parallel use the
    cores better than OpenCV's split of one small warp.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        if threads <= 1:
            yield map
        else:
            with ThreadPoolExecutor(threads) as pool:
                yield pool.map
    finally:
        cv2.setNumThreads(before)


@dataclass
class _Row:
    """What became of one photo: a patch and the photo's size, or a reason."""

    patch: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    reason: str = ""
    detail: str = ""


def _add_person(
    writer: FacesWriter,
    records: PersonRecords,
    recipe: FacesRecipe,
    run: Callable,
    rejections: list[Rejection],
    folder: Path,
) -> int:
    """Write the good rows of one person, note the bad ones, return the number of good ones."""
    geometry = normalise(
        records.camera_parameters, records.head_pose, records.gaze_target, recipe.variant
    )
    distortion = pad_distortion(records.distortion)
    boxes = recipe.check.extents(records.camera_parameters, distortion, records.head_pose)
    early = [_early_problem(records, geometry, distortion, row) for row in range(len(records))]
    candidates = [row for row, problem in enumerate(early) if not problem[0]]

    def work(row: int) -> _Row:
        return _warp_row(records, geometry, distortion[row], boxes[row], row, recipe)

    def reject(row: int, reason: str, detail: str) -> None:
        name = records.file_name[row]
        rejections.append(Rejection(records.person, row, name, reason, detail))

    for row, (reason, detail) in enumerate(early):
        if reason:
            reject(row, reason, detail)
    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    with _pixel_buffer(len(candidates), recipe.variant.size, folder) as pixels:
        for start in range(0, len(candidates), _ROWS_AT_ONCE):
            block = candidates[start : start + _ROWS_AT_ONCE]
            for row, result in zip(block, run(work, block), strict=True):
                if result.patch is None:
                    reject(row, result.reason, result.detail)
                    continue
                pixels[len(kept)] = result.patch
                kept.append(row)
                sizes.append(result.size)
        writer.add_person(
            records.person,
            pixels[: len(kept)],
            geometry.labels[kept],
            file_name=[records.file_name[row] for row in kept],
            source_index=np.array(kept, np.int32),
            rotation=geometry.rotation[kept],
            gaze_origin=geometry.origin[kept],
            landmarks=_patch_landmarks(records, geometry, distortion, kept, sizes, recipe),
        )
    return len(kept)


@contextmanager
def _pixel_buffer(rows: int, size: tuple[int, int], folder: Path) -> Iterator[np.ndarray]:
    """Yield room for the patches of one person; beyond a limit it is a file, not memory."""
    shape = (rows, size[1], size[0], 3)
    if int(np.prod(shape)) <= _BYTES_IN_MEMORY:
        yield np.empty(shape, np.uint8)
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        yield np.memmap(file, np.uint8, "w+", shape=shape)


def _early_problem(
    records: PersonRecords, geometry: Normalisation, distortion: np.ndarray, row: int
) -> tuple[str, str]:
    """Return reason and detail of what is wrong before the photo is opened, or two blanks."""
    if not safe_name(records.file_name[row]):
        return "bad_file_name", "expected a path below the data set's root"
    if not np.isfinite(distortion[row]).all():
        return "non_finite_label", "distortion_parameters"
    reason = str(geometry.problem[row])
    if not reason:
        return "", ""
    if reason == "non_finite_label":
        columns = {
            "camera_parameters": records.camera_parameters,
            "head_pose": records.head_pose,
            "3d_gaze_target": records.gaze_target,
        }
        bad = [name for name, values in columns.items() if not np.isfinite(values[row]).all()]
        return reason, ", ".join(bad) or "numbers too large"
    if reason == "bad_camera":
        fx, fy = records.camera_parameters[row, :2]
        return reason, f"focal lengths {fx:.6g}, {fy:.6g}"
    translation = ", ".join(f"{value:.6g}" for value in records.head_pose[row, 3:])
    return reason, f"head at ({translation}) mm"


def _warp_row(
    records: PersonRecords,
    geometry: Normalisation,
    distortion: np.ndarray,
    box: np.ndarray,
    row: int,
    recipe: FacesRecipe,
) -> _Row:
    try:
        photo = read_photo(records.root / records.file_name[row])
    except UnreadableImage as error:
        return _Row(reason="unreadable_image", detail=error.what)
    size = (photo.shape[1], photo.shape[0])
    if not recipe.check.accepts(box[None], np.array([size]))[0]:
        x0, y0, x1, y1 = (f"{value:.1f}" for value in box)
        span = f"head spans x {x0} to {x1}, y {y0} to {y1}"
        return _Row(reason="out_of_frame", detail=f"{span} in {size[0]} x {size[1]} pixels")
    patch = make_patch(
        photo,
        geometry.homography[row],
        records.camera_parameters[row],
        distortion,
        recipe.variant.size,
        undistort_camera=recipe.undistort_camera,
        resampling=recipe.resampling,
    )
    return _Row(patch=patch, size=size)


def _patch_landmarks(
    records: PersonRecords,
    geometry: Normalisation,
    distortion: np.ndarray,
    rows: list[int],
    sizes: Iterable[tuple[int, int]],
    recipe: FacesRecipe,
) -> np.ndarray:
    """Return the photo's landmarks in patch pixels, (n, 68, 2) float32; NaN when not known."""
    if records.landmarks is None or not rows:
        return np.full((len(rows), 68, 2), np.nan, np.float32)
    camera = records.camera_parameters[rows]
    points = undistort_points(records.landmarks[rows], camera, distortion[rows])
    ideal = np.stack(
        [
            undistorted_camera(one, size, recipe.undistort_camera)
            for one, size in zip(camera, sizes, strict=True)
        ]
    )[:, None, :]
    points = points * ideal[..., :2] + ideal[..., 2:]
    ones = np.ones((*points.shape[:2], 1))
    mapped = np.concatenate([points, ones], -1) @ geometry.homography[rows].transpose(0, 2, 1)
    return (mapped[..., :2] / mapped[..., 2:]).astype(np.float32)
