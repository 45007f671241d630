"""One measurement for every redirector: samples, pairs, faces and an estimator in, numbers out.

Pictures are read in chunks of a fixed size, so memory is bounded by the chunk and the result does
not depend on how the samples were made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.store import load_estimator
from regaze.faces import FacesReader
from regaze.factors import FACTORS, LISTED, RECONSTRUCTION, Factor, factors_of, pair_kinds
from regaze.identity.align import why_not_sted_view
from regaze.images import eye_boxes, reduce_patches
from regaze.landmarks.base import FindFaces
from regaze.landmarks.detectors import open_detector
from regaze.masks.background import WithoutBackground, faces_reader
from regaze.metrics import optional
from regaze.metrics.coded import CodeReader
from regaze.metrics.columns import both_by_factor, columns, errors_by_factor, write_per_pair
from regaze.metrics.entries import by_angle, column_entry, mean_entry, null, sted_protocol
from regaze.metrics.frechet import Moments, bias_warning, frechet_distance
from regaze.metrics.induced import INDUCED, induced_values, read_perturbed
from regaze.metrics.protocols import facts, not_detected, paper_entry
from regaze.metrics.redirection import Reading, factor_errors, read_pictures
from regaze.metrics.similarity import SIMILARITY
from regaze.metrics.sweeps import sweep_entries
from regaze.outputs import several, write_json
from regaze.pairs import read_pairs
from regaze.samples import Samples

log = logging.getLogger("regaze.metrics")

PERTURBED = "perturbed"
"""Where the induced errors of random turns stand beside the kinds of pairs."""
STED_NAMES = {
    "gaze_redirection": "gaze_error_deg",
    "head_redirection": "head_error_deg",
    "l1": "l1",
    "lpips": "lpips",
}
"""ST-ED's names of metrics that are columns here."""

_CHUNK = 64
_NO_TRUTH = "these pairs have no true image"


def measure_samples(
    samples_path: str | os.PathLike,
    pairs_path: str | os.PathLike,
    faces_paths: Sequence[str | os.PathLike],
    estimator_folder: str | os.PathLike,
    *,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    device: str = "cpu",
    masks: Sequence[str | os.PathLike] | None = None,
    background: Sequence[int] = (0, 0, 0),
    identity: str | os.PathLike | None = None,
    assets: Mapping[str, Mapping] | None = None,
    perturbed: str | os.PathLike | None = None,
    inversions: FacesReader | None = None,
    encoder: Mapping[str, Any] | None = None,
    find: FindFaces | None = None,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measure the samples of one model.

    Eyes are compared inside fixed boxes, which hold for the field of view of the ``sted``
    normalisation; for other faces ``eye_psnr`` is null with that reason. Landmarks are not needed.

    Args:
        samples_path: samples HDF5, ``pixels`` (P,H,W,3) uint8 RGB and ``pair`` (P,).
        pairs_path: pairs parquet; gives targets, persons and kinds.
        faces_paths: shards of the faces the pairs were drawn from; give the true pictures.
        estimator_folder: model folder of the evaluation estimator.
        kinds: kinds of pair to measure; others in the file are passed over. None: all.
        seed, resamples, level: of the bootstrap by person.
        device: where the estimator runs.
        masks: masks of the faces; given, the true pictures' background is replaced by
            ``background``, as that of the sources was when they were redirected.
        background: R, G, B from 0 to 255.
        identity: model folder of the recogniser, for ``identity_similarity``.
        assets: files of LPIPS' and FID's networks, see :func:`regaze.metrics.optional.gather`.
        perturbed: ``perturbed.parquet`` of the model, for the induced errors of random turns.
        inversions: of the faces, as :class:`regaze.metrics.inverted.InvertedFaces` reads them;
            given, they stand in the place of the true pictures, and of the sources for identity.
        encoder: of the pairs' factors that are read from codes, as
            :func:`regaze.face3d.encode.open_encoder` takes it.
        find: detector of faces, for pairs of ``gazenerf_paper``; default MediaPipe's.

    Returns:
        The content of ``metrics.json`` and the table of ``per_pair.parquet`` (:func:`columns`), in
        order of ``pair``. True faces larger than the samples are reduced by the mean over blocks
        (:func:`regaze.images.reduce_patches`) and compared unrounded.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an unknown pair, a pair sampled twice, sizes that do not fit, or pairs with
            factors that are read from codes and no encoder.
    """
    pairs = read_pairs(pairs_path).set_index("pair", drop=False)
    factors = factors_of(pairs.columns)
    coded = [name for name, factor in factors.items() if factor.code]
    if coded and encoder is None:
        raise ValueError(f"{pairs_path}: {coded[0]} is read from codes; expected their encoder")
    kinds = tuple(pair_kinds(factors)) if kinds is None else kinds
    network = load_estimator(estimator_folder).to(device)
    reader = inversions
    if reader is None:
        reader = faces_reader(list(faces_paths), masks, background)
    extras = optional.gather(reader, identity, assets, device)
    samples = Samples(samples_path)
    numbers = samples.numbers
    size = _common_size(samples.size, network.size_px)
    no_boxes = _why_no_eye_boxes(reader, size)
    _check(samples_path, numbers, pairs, pairs_path)
    wanted = np.sort(numbers[pairs.loc[numbers, "kind"].isin(list(kinds)).to_numpy()])
    log.info("measuring %d of %d samples of %s", len(wanted), len(numbers), samples_path)

    # Running moments of our pictures and of the true ones, in the features of each network.
    sums = {
        kind: {
            "estimator": (Moments(network.embedding_size), Moments(network.embedding_size)),
            "inception": (extras.moments(), extras.moments()),
        }
        for kind in kinds
    }
    coder = open_coder(encoder, device) if coded else None
    judge = _Judge(network, extras, reader, pairs, size, factors, coder, boxes=not no_boxes)
    tables = [
        judge.measure(chunk, samples.read(chunk), sums)
        for chunk in np.split(wanted, range(_CHUNK, len(wanted), _CHUNK))
        if len(chunk)
    ]
    empty = columns(factors).empty_table().to_pandas()
    table = pd.concat(tables or [empty], ignore_index=True)
    judges = dict.fromkeys(FACTORS, _judged(network))
    if coded:
        judges |= dict.fromkeys(coded, {"encoder": coder.identity["encoder"]})

    options = {"seed": seed, "resamples": resamples, "level": level}
    metrics: dict[str, Any] = {"kinds": {}, "by_angle": {}, "sted_protocol": {}}
    for kind in kinds:
        rows = table[table["kind"] == kind]
        if kind == RECONSTRUCTION and not len(rows):
            continue
        entry: dict[str, Any] = {"pairs": len(rows), "persons": int(rows["person"].nunique())}
        for factor, name in errors_by_factor(factors).items():
            unknown = f"the {factor} asked for is not known of these pairs"
            entry[name] = column_entry(rows, name, options, unknown) | judges[factor]
        for factor, name in both_by_factor(factors).items():
            entry[name] = column_entry(rows, name, options, _NO_TRUTH) | judges[factor]
        for name in SIMILARITY:
            reason = no_boxes if no_boxes and name == "eye_psnr" else _NO_TRUTH
            entry[name] = column_entry(rows, name, options, reason)
        for name in optional.COLUMNS:
            if name in extras.reasons:
                entry[name] = null(extras.reasons[name])
            else:
                entry[name] = column_entry(rows, name, options, _NO_TRUTH) | extras.about[name]
        entry["frechet_estimator"] = _frechet(*sums[kind]["estimator"]) | _judged(network)
        if reason := extras.reasons.get(optional.FID):
            entry[optional.FID] = null(reason)
        else:
            entry[optional.FID] = _frechet(*sums[kind]["inception"]) | extras.about[optional.FID]
        if kind == LISTED:
            if not len(rows):
                continue
            lost = _lost(samples, rows["pair"].to_list(), find)
            metrics["kinds"][kind] = paper_entry(rows, lost, entry, options)
            metrics["protocols"] = {LISTED: facts(reader.attributes, samples.attributes)}
            continue
        metrics["kinds"][kind] = entry
        metrics["by_angle"][kind] = by_angle(rows, options)
        metrics["sted_protocol"][kind] = sted_protocol(rows, STED_NAMES)
    swept = table[table["kind"] == "sweep"]
    asked = pairs.loc[swept["pair"], "target_gaze"].to_list()
    metrics["sweeps"] = sweep_entries(swept, np.array(asked).reshape(-1, 2), options)
    metrics["kinds"][PERTURBED] = _induced(perturbed, network, options)
    metrics["samples"] = samples.attributes
    metrics["estimator"] = {
        "name": network.record.get("name"),
        "fingerprint": network.fingerprint,
        "config": network.config(),
        "held_out": network.record.get("held_out"),
    }
    if coded:
        metrics["encoder"] = coder.identity
    metrics["pixels"] = {
        "size": list(size),
        "sampled": list(samples.size),
        "range": "0 to 1, R,G,B",
        "truth": "mean over blocks of the stored patch, unrounded"
        if inversions is None
        else "inversions of the stored patches",
        "eye_boxes": None if no_boxes else [list(box) for box in eye_boxes(size[0])],
    }
    if isinstance(reader, WithoutBackground):
        metrics["background"] = {"colour": list(background), "rows_kept": reader.unmasked}
    metrics["bootstrap"] = {"by": "person", **options}
    return metrics, table


def measure_files(
    samples: str | os.PathLike | Sequence[str | os.PathLike],
    *data: Any,
    metrics: str | os.PathLike | Sequence[str | os.PathLike],
    per_pair: str | os.PathLike | Sequence[str | os.PathLike],
    **options: Any,
) -> None:
    """Measure one samples file, or several, and write a ``metrics`` and ``per_pair`` file for each.

    ``data`` and ``options`` are those of :func:`measure_samples`. Raises ValueError when the lists
    of files differ in length.
    """
    outputs = zip(several(samples), several(metrics), several(per_pair), strict=True)
    for made, summary, rows in outputs:
        found, table = measure_samples(made, *data, **options)
        write_json(summary, found)
        write_per_pair(rows, table)


def _lost(samples: Samples, numbers: Sequence[int], find: FindFaces | None) -> set[int]:
    """Pairs in whose pictures no face is found; the detector is opened where there are pairs."""
    if not numbers:
        return set()
    return not_detected(samples, numbers, find or open_detector("mediapipe").all_faces)


def open_coder(encoder: Mapping[str, Any], device: str) -> CodeReader:
    """What reads codes from pictures; see :class:`regaze.metrics.coded.CodeReader`."""
    return CodeReader(encoder, device)


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


@dataclass(frozen=True)
class _Judge:
    """Measures chunks of samples; what it needs for that, and no sums."""

    network: GazeHeadEstimator
    extras: optional.OptionalNetworks
    reader: FacesReader
    pairs: pd.DataFrame
    size: tuple[int, int]
    factors: Mapping[str, Factor]
    coder: Any
    boxes: bool

    def measure(self, chunk: np.ndarray, pixels: np.ndarray, sums: Mapping[str, Mapping]):
        """Return the rows of one chunk, and add its embeddings to the ``sums`` of its kinds."""
        rows = self.pairs.loc[chunk]
        source, target = (
            {
                name: np.stack(rows[f"{side}_{name}"].to_list()).astype(np.float64)
                for name in self.factors
            }
            for side in ("source", "target")
        )
        keys = ["pair", "person", "kind", "source_index", "target_index"]
        table = rows[keys].reset_index(drop=True)
        reading = self._read(table, pixels)
        numbers = columns(self.factors).names[len(keys) :]
        for name in numbers:
            table[name] = np.nan
        for name, factor in self.factors.items():
            table[factor.moved] = factor.difference(source[name], target[name])
            if not factor.code:
                table[list(factor.readings)] = factor.reading(reading)
        errors = errors_by_factor(self.factors)
        for name, values in factor_errors(reading, target).items():
            table[errors[name]] = values
        if self.extras.identity is not None:
            source = reduce_patches(self._stored(table, "source_index"), self.size)
            ours = reduce_patches(pixels, self.size)
            for name, values in self.extras.measure(ours, source).items():
                table[name] = values
        known = np.flatnonzero(table["target_index"] >= 0)
        if len(known):
            self._compare(table, known, pixels[known], reading, sums)
        return table.astype(dict.fromkeys(numbers, np.float32))

    def _read(self, table: pd.DataFrame, pixels: np.ndarray) -> Reading:
        """The estimator's reading, and the encoder's where there is one."""
        reading = read_pictures(self.network, pixels)
        if self.coder is None:
            return reading
        shown = table["target_index"].where(table["target_index"] >= 0, table["source_index"])
        rows = self._rows(table, shown)
        landmarks = np.full((len(rows), 68, 2), np.nan)
        if self.reader.has("landmarks"):
            landmarks = self.reader.dataset("landmarks", rows)
        codes = self.coder.read(pixels, landmarks, self.reader.patch_size)
        return replace(reading, codes=codes)

    def _rows(self, table: pd.DataFrame, index: pd.Series) -> np.ndarray:
        places = zip(table["person"], index, strict=True)
        return np.array([self.reader.global_index(person, int(index)) for person, index in places])

    def _stored(self, table: pd.DataFrame, column: str) -> np.ndarray:
        return self.reader.pixels(self._rows(table, table[column]))

    def _compare(self, table, known, pixels, reading, sums) -> None:
        stored = self._stored(table.iloc[known], "target_index")
        ours, wanted = (reduce_patches(images, self.size) for images in (pixels, stored))
        for name, measure in SIMILARITY.items():
            if name != "eye_psnr" or self.boxes:
                table.loc[known, name] = measure(ours, wanted)
        for name, values in self.extras.compare(ours, wanted).items():
            table.loc[known, name] = values
        truth, both = self._read(table.iloc[known], stored), both_by_factor(self.factors)
        ours_read = {name: factor.reading(reading[known]) for name, factor in self.factors.items()}
        for name, values in factor_errors(truth, ours_read).items():
            table.loc[known, both[name]] = values
        kinds = table["kind"].to_numpy()[known]
        features = {"estimator": (reading.embedding[known], truth.embedding)}
        if self.extras.inception is not None:
            features["inception"] = tuple(map(self.extras.features, (ours, wanted)))
        for kind in np.unique(kinds):
            for name, both in features.items():
                for moments, values in zip(sums[kind][name], both, strict=True):
                    moments.add(values[kinds == kind])


def _common_size(sampled: tuple[int, int], size_px: int) -> tuple[int, int]:
    """The size (width, height) that pictures are compared at.

    Larger ones are averaged down to the estimator's, so that methods of several sizes can be
    compared: a difference of small pictures is not one of large ones.
    """
    width, height = sampled
    if width == height > size_px and width % size_px == 0:
        return size_px, size_px
    return sampled


def _why_no_eye_boxes(reader: FacesReader, size: tuple[int, int]) -> str:
    """Return why the eyes' places in these faces are not known, empty when they are.

    The boxes belong to the virtual camera of the sted normalisation.
    """
    if size[0] != size[1]:
        return f"eye boxes are known for square faces only, these have {size[0]}x{size[1]} pixels"
    if other := why_not_sted_view(reader):
        return (
            f"eye boxes are known for the sted field of view only; these faces ({other}) have "
            "another"
        )
    return ""


def _induced(path, network: GazeHeadEstimator, options: dict[str, Any]) -> dict[str, Any]:
    """Return the section of the induced errors, all null without a file of readings."""
    if path is None:
        reason = "no picture was perturbed: a pseudo-model, or evaluation.perturbed is 0"
        return {"pairs": 0, "persons": 0} | {name: null(reason) for name in INDUCED}
    table, told = read_perturbed(path)
    if told["estimator"] != network.fingerprint:
        raise ValueError(
            f"{path}: read by estimator {told['estimator']}, expected {network.fingerprint}"
        )
    values = induced_values(table)
    section: dict[str, Any] = {
        "pairs": int(table["sample"].nunique()),
        "persons": int(table["person"].nunique()),
    }
    for name in INDUCED:
        if name in values:
            found = mean_entry(values[name]["value"], values[name]["person"], options)
        elif (table["protocol"] == "factors").any():
            found = null("this method has no factors besides gaze and head")
        else:
            found = null("this method does not describe faces by factors that can be turned")
        section[name] = found | _judged(network) | {"turns_deg": told["limit_deg"]}
    return section


def _judged(network: GazeHeadEstimator) -> dict[str, str]:
    return {"estimator": network.fingerprint, "preprocess": network.preprocess}


def _frechet(found: Moments, true: Moments) -> dict[str, Any]:
    if found.count < 2:
        return null("fewer than two pairs with a true image")
    entry = {
        "mean": frechet_distance(found, true),
        "standard_error": None,
        "interval": None,
        "interval_reason": "one number for the whole set",
        "n": found.count,
        "dimensions": len(found.mean),
    }
    warning = bias_warning(found.count, len(found.mean))
    return entry if warning is None else entry | {"warning": warning}
