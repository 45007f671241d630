"""One shard of persons: capture records in, a faces file and a table of rejected rows out."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from regaze.faces import FacesAttributes, FacesWriter
from regaze.normalise.aligned import align_row, landmark_problem, place_columns
from regaze.normalise.camera import COEFFICIENT_COUNTS, pad_distortion, undistort_points
from regaze.normalise.face_model import FACE_MODELS
from regaze.normalise.ffhq import NotFramed
from regaze.normalise.frame_check import FrameCheck, make_frame_check
from regaze.normalise.geometry import Normalisation, Variant, normalise
from regaze.normalise.photo import UnreadableImage, quiet_decoders, read_photo
from regaze.normalise.rejections import Rejection, RowCounts, write_rejected
from regaze.normalise.warp import make_patch, transform_points, undistorted_camera
from regaze.sources.records import (
    PersonRecords,
    Source,
    SourceError,
    losing,
    lost_rows,
    printable,
    safe_name,
)
from regaze.views import FFHQ

log = logging.getLogger(__name__)

_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 32 << 20
_BYTES_IN_MEMORY = 64 << 20
_OPTIONAL = ("landmarks", "turned", "status", "detail")
_ROW_SHAPES = {
    "camera_parameters": [(4,)],
    "distortion": [(count,) for count in COEFFICIENT_COUNTS],
    "head_pose": [(6,)],
    "gaze_target": [(3,)],
    "landmarks": [(68, 2)],
} | dict.fromkeys(_OPTIONAL[1:], [()])


@dataclass(frozen=True)
class FacesRecipe:
    """How patches are made; see :func:`normalise_shard` for the fields."""

    variant: Variant
    check: FrameCheck
    undistort_camera: str = "same"
    resampling: str = "one_step"
    framing: str = "normalised"

    @property
    def aligned(self) -> bool:
        """Whether landmarks frame the faces, and no virtual camera."""
        return self.framing == FFHQ

    def attributes(self, source: str, gaze_known: bool = True) -> FacesAttributes:
        """Return the attributes of a faces file made by this recipe from a ``source`` kind."""
        return FacesAttributes(
            variant=self.variant.name,
            patch_size=self.variant.size,
            focal=None if self.aligned else self.variant.focal,
            distance=None if self.aligned else self.variant.distance,
            frame_check=self.check.name,
            source=source,
            undistort_camera=self.undistort_camera,
            gaze="known" if gaze_known else "absent",
            framing=self.framing,
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
    framing: str = "normalised",
    threads: int = 1,
) -> RowCounts:
    """Normalise every photo of ``persons`` and write the shard's two files.

    Every row of the raw data ends in one of them: kept in ``out_faces``, or in ``out_rejected``
    with its reason (``missing_person``, ``missing_key``, ``bad_shape``, ``bad_person_name``,
    ``bad_face_model``, ``bad_file_name``, ``non_finite_label``, ``bad_camera``,
    ``behind_camera``, ``degenerate_pose``, ``degenerate_gaze``, ``unreadable_image``,
    ``out_of_frame``, or the records' own ``status``). Rows depend on the person's data alone, so
    neither the dealing of persons to shards nor ``threads`` changes a pixel or a label. Memory
    holds one person's labels, 64 MiB of patches and ``threads`` photos, however many persons
    there are. Where the source has an attribute ``gaze_known`` that is False, the file says that
    the gaze is absent and records without a gaze target are kept, their gaze labels NaN.

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
        framing: ``normalised``, or ``ffhq``: squares of the photos by their landmarks
            (:mod:`regaze.normalise.ffhq`), with the labels of the variant. Rows without landmarks
            are rejected then (``no_landmarks``), as are faces that the photo's edge cuts
            (``out_of_frame``).
        threads: photos decoded and warped at a time.

    Raises:
        ValueError: an unknown option.
        SourceError: the raw data set itself cannot be read, or a person is listed twice.
    """
    if isinstance(variant, str):
        variant = Variant.named(variant, patch_size, focal, distance)
    check = make_frame_check(frame_check, sfm_mesh)
    recipe = FacesRecipe(variant, check, undistort_camera, resampling, framing)
    for first, second in pairwise(sorted(persons)):
        if first == second:
            raise SourceError(f"person {first}: expected once in the shard, found twice")
    gaze_known = getattr(source, "gaze_known", True)
    rejections: list[Rejection] = []
    kept = dict.fromkeys(map(printable, persons), 0)
    with (
        _mapper(threads) as run,
        FacesWriter(out_faces, recipe.attributes(source.kind, gaze_known)) as writer,
    ):
        for person in sorted(persons):
            try:
                records = _checked(source.read(person), gaze_known)
            except SourceError as error:
                rejections += reject_person(source, person, error)
                continue
            count = _add_person(writer, records, recipe, run, rejections, Path(out_faces).parent)
            kept[person] = count
            log.info("person %s: %d of %d rows kept", person, count, len(records))
    return write_rejected(out_rejected, rejections, sum(kept.values()), kept)


def _checked(records: PersonRecords, gaze_known: bool) -> PersonRecords:
    """Return the records, or raise a SourceError when no row of theirs can be used."""
    with losing(records.file_name):
        _check(records)
    # A file that claims to know the gaze of every row has no place for one that is unknown.
    return replace(records, gaze_known=True) if gaze_known else records


def _check(records: PersonRecords) -> None:
    person, count = records.person, len(records)
    if person in ("", ".") or "/" in person or "\0" in person or person != printable(person):
        raise SourceError(
            f"person {person!r}: expected a name that can be an HDF5 group: not empty or '.', "
            "without '/', UTF-8",
            "bad_person_name",
        )
    if records.face_model not in FACE_MODELS:
        raise SourceError(
            f"person {person}: face_model: expected one of {sorted(FACE_MODELS)}, "
            f"found {records.face_model!r}",
            "bad_face_model",
        )
    for column, allowed in _ROW_SHAPES.items():
        values = getattr(records, column)
        if values is None and column in _OPTIONAL:
            continue
        if np.shape(values)[:1] != (count,) or np.shape(values)[1:] not in allowed:
            raise SourceError(
                f"person {person}: {column}: expected {count} rows of shape "
                f"{' or '.join(map(str, allowed))}, found {np.shape(values)}",
                "bad_shape",
            )


def reject_person(source, person: str, error: SourceError) -> list[Rejection]:
    """Return the rows that are lost with a person; the log tells why."""
    log.warning("person %s left out: %s", printable(person), printable(str(error)))
    return [
        _rejection(person, row, name, error.reason, str(error))
        for row, name in lost_rows(source, person, error)
    ]


def _rejection(person: str, row: int, file_name: str, reason: str, detail: str) -> Rejection:
    who, name, told = (printable(str(text)) for text in (person, file_name, detail))
    return Rejection(who, row, name, reason, told)


@contextmanager
def _mapper(threads: int) -> Iterator[Callable]:
    """Yield a ``map`` over ``threads`` threads; OpenCV itself is held to one thread meanwhile.

    Decoding and warping release the interpreter's lock, so whole photos in parallel use the
    cores better than OpenCV's split of one small warp.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with quiet_decoders():
            if threads <= 1:
                yield map
            else:
                with ThreadPoolExecutor(threads) as pool:
                    yield pool.map
    finally:
        cv2.setNumThreads(before)


@dataclass
class _Row:
    """What became of one photo: a patch with the photo's size or its own place, or a reason."""

    patch: np.ndarray | None = None
    size: tuple[int, int] = (0, 0)
    alignment: np.ndarray | None = None
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
    model = records.face_model
    target = records.gaze_target if records.gaze_known else None
    geometry = normalise(
        records.camera_parameters, records.head_pose, target, recipe.variant, model
    )
    distortion = pad_distortion(records.distortion)
    boxes = recipe.check.extents(records.camera_parameters, distortion, records.head_pose, model)
    early = [_early_problem(records, geometry, distortion, row) for row in range(len(records))]
    if recipe.aligned:
        early = [known if known[0] else landmark_problem(records, row)
                 for row, known in enumerate(early)]  # fmt: skip
    candidates = [row for row, problem in enumerate(early) if not problem[0]]

    def work(row: int) -> _Row:
        return _warp_row(records, geometry, distortion[row], boxes[row], row, recipe)

    def reject(row: int, reason: str, detail: str) -> None:
        name = records.file_name[row]
        rejections.append(_rejection(records.person, row, name, reason, detail))

    for row, (reason, detail) in enumerate(early):
        if reason:
            reject(row, reason, detail)
    kept: list[int] = []
    results: list[_Row] = []
    width, height = recipe.variant.size
    shape = (len(candidates), height, width, 3)
    with pixel_buffer(shape, folder, _BYTES_IN_MEMORY) as pixels:
        step = max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // (width * height * 3)))
        for start in range(0, len(candidates), step):
            block = candidates[start : start + step]
            for row, result in zip(block, run(work, block), strict=True):
                if result.patch is None:
                    reject(row, result.reason, result.detail)
                    continue
                pixels[len(kept)] = result.patch
                kept.append(row)
                results.append(replace(result, patch=None))
        writer.add_person(
            records.person,
            pixels[: len(kept)],
            geometry.labels[kept],
            file_name=[records.file_name[row] for row in kept],
            source_index=np.array(kept, np.int32),
            rotation=geometry.rotation[kept],
            gaze_origin=geometry.origin[kept],
            **_places(records, geometry, distortion, kept, results, recipe),
        )
    return len(kept)


def _places(records, geometry, distortion, kept, results, recipe) -> dict[str, np.ndarray]:
    if recipe.aligned:
        matrices = [one.alignment for one in results]
        return place_columns(records, geometry, distortion, kept, matrices)
    sizes = [one.size for one in results]
    return {"landmarks": _patch_landmarks(records, geometry, distortion, kept, sizes, recipe)}


@contextmanager
def pixel_buffer(shape: tuple[int, ...], folder: Path, most: int) -> Iterator[np.ndarray]:
    """Yield room for patches; beyond ``most`` bytes it is a file in ``folder``, not memory."""
    if math.prod(shape) <= most:
        yield np.empty(shape, np.uint8)
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        yield np.memmap(file, np.uint8, "w+", shape=shape)


def _early_problem(
    records: PersonRecords, geometry: Normalisation, distortion: np.ndarray, row: int
) -> tuple[str, str]:
    """Return reason and detail of what is wrong before the photo is opened, or two blanks."""
    if records.status is not None and records.status[row]:
        told = records.detail[row] if records.detail is not None else ""
        return records.status[row], told or "given up by an earlier step"
    name = records.file_name[row]
    if not safe_name(name):
        return "bad_file_name", "expected a path below the data set's root"
    if name != printable(name):
        return "bad_file_name", "expected UTF-8"
    if not np.isfinite(distortion[row]).all():
        return "non_finite_label", "distortion_parameters"
    reason = str(geometry.problem[row])
    if not reason:
        return "", ""
    if reason == "non_finite_label":
        columns = {"camera_parameters": records.camera_parameters, "head_pose": records.head_pose}
        if records.gaze_known:
            columns["3d_gaze_target"] = records.gaze_target
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
        photo = read_photo(records.root / records.file_name[row], records.root)
    except UnreadableImage as error:
        return _Row(reason="unreadable_image", detail=error.what)
    size = (photo.shape[1], photo.shape[0])
    if not recipe.check.accepts(box[None], np.array([size]))[0]:
        x0, y0, x1, y1 = (f"{value:.1f}" if abs(value) < 1e9 else f"{value:.1e}" for value in box)
        span = f"head spans x {x0} to {x1}, y {y0} to {y1}"
        return _Row(reason="out_of_frame", detail=f"{span} in {size[0]} x {size[1]} pixels")
    turned = records.turned is not None and bool(records.turned[row])
    if recipe.aligned:
        try:
            marks, size_px = records.landmarks[row], recipe.variant.size[0]
            patch, matrix = align_row(photo, marks, size_px, turned, recipe.resampling)
        except NotFramed as problem:
            return _Row(reason=problem.reason, detail=str(problem))
        return _Row(patch=cv2.cvtColor(patch, cv2.COLOR_BGR2RGB), size=size, alignment=matrix)
    patch = make_patch(
        photo,
        geometry.homography[row],
        records.camera_parameters[row],
        distortion,
        recipe.variant.size,
        undistort_camera=recipe.undistort_camera,
        resampling=recipe.resampling,
        turned=turned,
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
    mode = recipe.undistort_camera
    frames = zip(camera, sizes, strict=True)
    ideal = np.stack([undistorted_camera(one, size, mode) for one, size in frames])[:, None, :]
    points = points * ideal[..., :2] + ideal[..., 2:]
    return transform_points(geometry.homography[rows], points).astype(np.float32)
