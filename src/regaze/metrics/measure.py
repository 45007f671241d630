"""One measurement for every redirector: samples, pairs, faces and an estimator in, numbers out.

Pictures are read in chunks of a fixed size, so memory is bounded by the chunk and the result does
not depend on how the samples were made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.angles import angular_error
from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.store import load_estimator
from regaze.faces import FacesReader
from regaze.images import eye_boxes, reduce_patches
from regaze.jobs import replacing, write_json
from regaze.masks.background import WithoutBackground, faces_reader
from regaze.metrics.bootstrap import bootstrap_mean
from regaze.metrics.frechet import Moments, frechet_distance
from regaze.metrics.redirection import read_pictures, redirection_error
from regaze.metrics.similarity import eye_psnr, psnr, ssim
from regaze.pairs import KINDS, read_pairs

log = logging.getLogger("regaze.metrics")

READ = ("gaze_error_deg", "head_error_deg")
"""Metrics that the estimator reads from the redirected picture."""
COMPARED = ("psnr", "ssim", "eye_psnr")
"""Metrics that compare the redirected picture with the true one."""
WITHOUT_WEIGHTS = ("lpips", "fid")
"""Metrics that need a downloaded network; null with a reason until one is configured."""

_CHUNK = 64
_STED_PER_MM = 500 / (600 * 128)
"""Widths of the patch per millimetre at the face in the sted normalisation."""
_ESTIMATES = ("read_gaze_pitch", "read_gaze_yaw", "read_head_pitch", "read_head_yaw")
COLUMNS = pa.schema(
    [
        ("pair", pa.int64()),
        ("person", pa.string()),
        ("kind", pa.string()),
        ("source_index", pa.int64()),
        ("target_index", pa.int64()),
        *((name, pa.float32()) for name in ("angle_deg", "head_angle_deg")),
        *((name, pa.float32()) for name in READ + COMPARED + _ESTIMATES),
    ]
)
"""Columns of ``per_pair.parquet``. ``angle_deg`` and ``head_angle_deg`` say how far gaze and head
were to turn (degrees), ``read_*`` what the estimator reads (radians); null where undefined."""


def measure_samples(
    samples_path: str | os.PathLike,
    pairs_path: str | os.PathLike,
    faces_paths: Sequence[str | os.PathLike],
    estimator_folder: str | os.PathLike,
    *,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    device: str = "cpu",
    masks: Sequence[str | os.PathLike] | None = None,
    background: Sequence[int] = (0, 0, 0),
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measure the samples of one model.

    Eyes are compared inside fixed boxes, which hold for the field of view of the ``sted``
    normalisation; for other faces ``eye_psnr`` is null with that reason. Landmarks are not needed.

    Args:
        samples_path: samples HDF5, ``pixels`` (P,H,W,3) uint8 RGB and ``pair`` (P,).
        pairs_path: pairs parquet; gives targets, persons and kinds.
        faces_paths: shards of the faces the pairs were drawn from; give the true pictures.
        estimator_folder: model folder of the evaluation estimator.
        kinds: kinds of pair to measure; others in the file are passed over.
        seed, resamples, level: of the bootstrap by person.
        device: where the estimator runs.
        masks: masks of the faces; given, the true pictures' background is replaced by
            ``background``, as that of the sources was when they were redirected.
        background: R, G, B from 0 to 255.

    Returns:
        The content of ``metrics.json`` and the table of ``per_pair.parquet`` (:data:`COLUMNS`), in
        order of ``pair``. True faces larger than the samples are reduced by the mean over blocks
        (:func:`regaze.images.reduce_patches`) and compared unrounded.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an unknown kind or pair, a pair sampled twice, or sizes that do not fit.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"kinds: expected some of {', '.join(KINDS)}, found {unknown}")
    pairs = read_pairs(pairs_path).set_index("pair", drop=False)
    network = load_estimator(estimator_folder).to(device)
    reader = faces_reader(list(faces_paths), masks, background)
    attributes, numbers, size = _describe(samples_path)
    no_boxes = _why_no_eye_boxes(reader, size)
    _check(samples_path, numbers, pairs, pairs_path)
    wanted = np.sort(numbers[pairs.loc[numbers, "kind"].isin(list(kinds)).to_numpy()])
    log.info("measuring %d of %d samples of %s", len(wanted), len(numbers), samples_path)

    found = {kind: Moments(network.embedding_size) for kind in kinds}
    true = {kind: Moments(network.embedding_size) for kind in kinds}
    tables = []
    for chunk, pixels in _chunks(samples_path, numbers, wanted):
        tables.append(
            _measure_chunk(
                chunk, pixels, pairs, reader, network, size, found, true, boxes=not no_boxes
            )
        )
    table = pd.concat(tables, ignore_index=True) if tables else _empty()

    options = {"seed": seed, "resamples": resamples, "level": level}
    metrics: dict[str, Any] = {"kinds": {}}
    for kind in kinds:
        rows = table[table["kind"] == kind]
        entry: dict[str, Any] = {"pairs": len(rows), "persons": int(rows["person"].nunique())}
        for name in READ:
            unknown = f"the {name.split('_')[0]} asked for is not known of these pairs"
            entry[name] = _mean(rows, name, options, unknown) | _judged(network)
        for name in COMPARED:
            reason = "these pairs have no true image"
            if no_boxes and name == "eye_psnr":
                reason = no_boxes
            entry[name] = _mean(rows, name, options, reason)
        entry["frechet_estimator"] = _frechet(found[kind], true[kind]) | _judged(network)
        for name in WITHOUT_WEIGHTS:
            entry[name] = _null("no weights configured")
        metrics["kinds"][kind] = entry
    metrics["samples"] = attributes
    metrics["estimator"] = {
        "name": network.record.get("name"),
        "fingerprint": network.fingerprint,
        "config": network.config(),
        "held_out": network.record.get("held_out"),
    }
    metrics["pixels"] = {
        "size": list(size),
        "range": "0 to 1, R,G,B",
        "truth": "mean over blocks of the stored patch, unrounded",
        "eye_boxes": None if no_boxes else [list(box) for box in eye_boxes(size[0])],
    }
    if isinstance(reader, WithoutBackground):
        metrics["background"] = {"colour": list(background), "rows_kept": reader.unmasked}
    metrics["bootstrap"] = {"by": "person", **options}
    return metrics, table


def write_metrics(path: str | os.PathLike, metrics: dict[str, Any]) -> None:
    """Write ``metrics.json``: sorted keys, six significant digits, atomic.

    Raises ValueError for NaN or infinity, which must be null with a reason.
    """
    write_json(path, metrics)


def write_per_pair(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write ``per_pair.parquet`` with the columns :data:`COLUMNS`; NaN becomes null; atomic."""
    content = pa.Table.from_pandas(table[COLUMNS.names], schema=COLUMNS, preserve_index=False)
    # pandas' own metadata names library versions; the bytes should depend on the numbers alone.
    with replacing(path) as part:
        pq.write_table(content.replace_schema_metadata(None), part, compression="zstd")


def _describe(path: str | os.PathLike) -> tuple[dict[str, Any], np.ndarray, tuple[int, int]]:
    """Return attributes, pair numbers and picture size (width, height) of a samples file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a samples file, found none")
    with h5py.File(path, "r") as file:
        for name in ("pixels", "pair"):
            if name not in file:
                raise ValueError(f"{path}: expected a data set {name!r}, found {sorted(file)}")
        shape, dtype = file["pixels"].shape, file["pixels"].dtype
        numbers = file["pair"][:].astype(np.int64)
        if len(shape) != 4 or shape[-1] != 3 or dtype != np.uint8 or shape[0] != len(numbers):
            raise ValueError(
                f"{path}: pixels: expected ({len(numbers)},H,W,3) uint8, found {shape} {dtype}"
            )
        attributes = {key: _plain(value) for key, value in file.attrs.items()}
    return attributes, numbers, (shape[2], shape[1])


def _plain(value: Any) -> Any:
    if isinstance(value, h5py.Empty):
        return None
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _check(samples_path, numbers: np.ndarray, pairs: pd.DataFrame, pairs_path) -> None:
    strange = numbers[~np.isin(numbers, pairs.index.to_numpy())]
    if len(strange):
        raise ValueError(
            f"{samples_path}: pair: {strange[0]} is not in {pairs_path}; "
            f"expected numbers between {pairs.index.min()} and {pairs.index.max()}"
        )
    values, counts = np.unique(numbers, return_counts=True)
    if (counts > 1).any():
        twice = values[counts > 1][0]
        raise ValueError(f"{samples_path}: pair: expected each once, found {twice} twice")


def _chunks(path, numbers: np.ndarray, wanted: np.ndarray) -> Iterator[tuple]:
    """Yield (pair numbers, pictures) of at most ``_CHUNK`` samples, in order of pair."""
    place = {int(number): row for row, number in enumerate(numbers)}
    with h5py.File(path, "r") as file:
        pixels = file["pixels"]
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            rows = np.array([place[int(number)] for number in chunk])
            order = np.argsort(rows)  # h5py reads rows in rising order only
            pictures = np.empty((len(chunk), *pixels.shape[1:]), np.uint8)
            pictures[order] = pixels[rows[order]]
            yield chunk, pictures


def _measure_chunk(
    chunk: np.ndarray,
    pixels: np.ndarray,
    pairs: pd.DataFrame,
    reader: FacesReader,
    network: GazeHeadEstimator,
    size: tuple[int, int],
    found: dict[str, Moments],
    true: dict[str, Moments],
    boxes: bool,
) -> pd.DataFrame:
    rows = pairs.loc[chunk]
    labels = {
        name: np.stack(rows[name].to_list()).astype(np.float64)
        for name in ("source_gaze", "target_gaze", "source_head", "target_head")
    }
    reading = read_pictures(network, pixels)
    columns = ["pair", "person", "kind", "source_index", "target_index"]
    table = rows[columns].reset_index(drop=True)
    table["angle_deg"] = angular_error(labels["source_gaze"], labels["target_gaze"])
    table["head_angle_deg"] = angular_error(labels["source_head"], labels["target_head"])
    errors = redirection_error(reading, labels["target_gaze"], labels["target_head"])
    for name, values in zip(READ, errors, strict=True):
        table[name] = values
    for name in COMPARED:
        table[name] = np.nan
    for column, name in enumerate(_ESTIMATES):
        table[name] = reading.angles[:, column]

    known = np.flatnonzero(table["target_index"] >= 0)
    if len(known):
        indices = [
            reader.global_index(table["person"][row], int(table["target_index"][row]))
            for row in known
        ]
        stored = reader.pixels(indices)
        ours, wanted = reduce_patches(pixels[known]), reduce_patches(stored, size)
        for name, measure in zip(COMPARED, (psnr, ssim, eye_psnr), strict=True):
            if name != "eye_psnr" or boxes:
                table.loc[known, name] = measure(ours, wanted)
        truth = read_pictures(network, stored)
        for kind in table["kind"].unique():
            here = (table["kind"] == kind).to_numpy()[known]
            found[kind].add(reading.embedding[known[here]])
            true[kind].add(truth.embedding[here])
    return table.astype({name: np.float32 for name in COLUMNS.names[5:]})


def _empty() -> pd.DataFrame:
    return COLUMNS.empty_table().to_pandas()


def _null(reason: str) -> dict[str, Any]:
    return {"mean": None, "standard_error": None, "interval": None, "n": 0, "reason": reason}


def _why_no_eye_boxes(reader: FacesReader, size: tuple[int, int]) -> str:
    """Return why the eyes' places in these faces are not known, empty when they are.

    The boxes belong to a virtual camera of the sted field of view; files without attributes are
    upstream's own, whose square patches are of that camera.
    """
    if size[0] != size[1]:
        return f"eye boxes are known for square faces only, these have {size[0]}x{size[1]} pixels"
    told = reader.attributes
    if not {"focal", "distance", "patch_size"} <= set(told):
        return ""
    per_mm = float(told["focal"]) / (float(told["distance"]) * float(told["patch_size"][0]))
    if abs(per_mm / _STED_PER_MM - 1) > 0.02:
        return (
            "eye boxes are known for the sted field of view only; these faces "
            f"({told.get('variant', 'another normalisation')}) have another"
        )
    return ""


def _mean(rows: pd.DataFrame, name: str, options: dict[str, Any], unknown: str) -> dict[str, Any]:
    """Return the mean with its interval, or null; ``unknown`` says why when all are NaN."""
    if not len(rows):
        return _null("no pairs of this kind were sampled")
    if rows[name].isna().all():
        return _null(unknown)
    result = bootstrap_mean(rows[name].to_numpy(), rows["person"].to_numpy(str), **options)
    entry = {
        "mean": result.mean,
        "standard_error": result.standard_error,
        "interval": None if result.low is None else [result.low, result.high],
        "n": result.n,
        "persons": result.persons,
    }
    if result.low is None:
        entry["interval_reason"] = "all pairs are of one person"
    return entry


def _judged(network: GazeHeadEstimator) -> dict[str, str]:
    return {"estimator": network.fingerprint, "preprocess": network.preprocess}


def _frechet(found: Moments, true: Moments) -> dict[str, Any]:
    if found.count < 2:
        return _null("fewer than two pairs with a true image")
    return {
        "mean": frechet_distance(found, true),
        "standard_error": None,
        "interval": None,
        "interval_reason": "one number for the whole set",
        "n": found.count,
        "dimensions": len(found.mean),
    }
