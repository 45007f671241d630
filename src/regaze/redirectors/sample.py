"""Run a redirector, or a pseudo-model, over the evaluation pairs and store the pictures."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from regaze.animation import gif as animate
from regaze.animation import tiled
from regaze.damage import read_record, read_weights
from regaze.faces import COMPRESSION, FacesReader
from regaze.images import reduce_patches, to_uint8
from regaze.jobs import replacing, several, write_json
from regaze.masks.background import faces_reader
from regaze.pairs import read_pairs
from regaze.provenance import fingerprint
from regaze.redirectors.base import Redirector, build_redirector
from regaze.redirectors.face_codes import PairCodes
from regaze.weights import load_strictly

GIF_PAIRS = 8
"""Pairs whose pictures are animated."""
_FRAME_MS, _HOLD_MS = 120, 1500
_CHUNK, _LARGEST_ON_CPU, _LARGEST = 50, 32, 1024


def load_redirector(folder: str | Path, sampling: Mapping | None = None) -> tuple[Redirector, dict]:
    """Load a trained redirector.

    Args:
        folder: model folder with ``model.safetensors`` and ``model.json``.
        sampling: the ``sampling:`` section.

    Returns:
        ``(redirector, record)`` in evaluation mode; ``record`` is ``model.json``.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder holds no redirector, or weights that do not fit its configuration.
    """
    folder = Path(folder)
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: no such file; is the model trained?")
    record = read_record(folder / "model.json")
    if record.get("kind") != "redirector":
        raise ValueError(f"{folder}/model.json: kind is {record.get('kind')!r}, not 'redirector'")
    redirector = build_redirector(record["config"], sampling)
    weights = read_weights(folder / "model.safetensors")
    try:
        load_strictly(redirector.network, weights)
    except ValueError as error:
        raise ValueError(f"{folder}/model.safetensors: {error}") from error
    return redirector.eval(), record


def sample_redirector(
    folder: str | Path,
    *,
    faces: Sequence[str],
    pairs: str | Path,
    sampling: Mapping,
    samples: str | Path | Sequence[str | Path] | None,
    speed: str | Path | Sequence[str | Path] | None,
    latents: Sequence[str] = (),
    masks: Sequence[str] | None = None,
    background: Sequence[int] = (0, 0, 0),
    kind: str | None = None,
    first: int | None = None,
    weights: Sequence[float] | None = None,
    gif: str | Path | None = None,
) -> None:
    """Redirect the evaluation pairs with a trained model.

    Args:
        folder: model folder.
        faces: shards of the data set.
        pairs: pairs parquet.
        sampling: the ``sampling:`` section; ``seed``, ``batch``, ``memory_mb``, ``sources`` and
            ``threads`` are used here, the rest by the method.
        samples: samples HDF5 to write, one per weight; None writes ``gif`` alone.
        speed: JSON to write: seconds per image and the threads it took, one per weight. It is a
            file of its own because everything else is byte-identical between runs.
        latents: shards of the faces' 3-D codes, for models that are told them.
        masks: masks of the faces; given, the sources' background is replaced by ``background``.
        background: R, G, B from 0 to 255.
        kind: pairs of this kind only.
        first: the first so many pairs (of that kind) only.
        weights: guidance weights, all sampled in one pass, in place of that of ``sampling``.
        gif: animation to write of how the pictures of the first pairs lose their noise, below
            their sources.
    """
    torch.set_num_threads(sampling["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    redirector, record = load_redirector(folder, sampling)
    redirector.to(device)
    for module in redirector.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    reader, table = faces_reader(faces, masks, background), read_pairs(pairs)
    table = table[table["kind"] == kind] if kind else table
    table = table.iloc[:first]
    size = record["config"]["size_px"]
    codes = PairCodes(redirector, record, latents, reader) if redirector.needs.latents else None
    count = sampling.get("sources", 1)

    def batch_of(chunk) -> dict[str, torch.Tensor]:
        rows = source_rows(reader, chunk, count, sampling["seed"])
        batch = pair_batch(reader, chunk, size, rows)
        if codes:
            batch |= codes.batch(chunk, batch)
            batch |= {"sources_code": codes.of_sources(rows)} if count > 1 else {}
        return {key: value.to(device) for key, value in batch.items()}

    if gif is not None:
        with torch.no_grad():
            batch = batch_of(table.iloc[:GIF_PAIRS])
            path = redirector.record_path(batch, seed=sampling["seed"])
        write_path(gif, batch["source"], path)
    if samples is None:
        return
    images: list[list[np.ndarray]] = [[] for _ in weights or [None]]
    seconds = []
    step = chunk_size(redirector, sampling, len(images))
    for start in range(0, len(table), step):
        chunk = table.iloc[start : start + step]
        batch = batch_of(chunk)
        began = time.perf_counter()
        with torch.no_grad():
            if weights is None:
                made = redirector.redirect(batch, seed=sampling["seed"])[None]
            else:
                made = redirector.redirect(batch, seed=sampling["seed"], weights=list(weights))
        for found, one in zip(images, made, strict=True):
            found.append(to_uint8(one))
        # The first chunk also pays for lazy initialisation unless it is the only one.
        seconds.append((time.perf_counter() - began) / (len(chunk) * len(made)))
    attributes = {
        "model": record["name"],
        "fingerprint": fingerprint(Path(folder) / "model.safetensors"),
        "seed": sampling["seed"],
        **(codes.describe() if codes else {}),
    }
    content = {
        "seconds_per_image": float(np.median(seconds[1:] or seconds)),
        "images": len(table),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    changes = [{}] if weights is None else [{"guidance": weight} for weight in weights]
    outputs = zip(several(samples), several(speed), strict=True)
    for found, change, (pictures, times) in zip(images, changes, outputs, strict=True):
        told = build_redirector(record["config"], {**sampling, **change}) if change else redirector
        described = {
            **attributes,
            "evaluations_per_image": told.evaluations_per_image(),
            **told.describe_sampling(),
        }
        write_samples(pictures, np.concatenate(found), table["pair"].to_numpy(), described)
        write_json(times, content)


def chunk_size(redirector: Redirector, sampling: Mapping, weights: int = 1) -> int:
    """Return how many pictures are made at a time; no picture depends on it.

    Args:
        redirector: on the device where it will run.
        sampling: ``batch``, a number or ``auto``: as many as ``memory_mb`` holds, on a CPU not
            more than its caches profit from.
        weights: guidance weights that are sampled side by side.
    """
    if sampling["batch"] != "auto":
        return sampling["batch"]
    each = redirector.bytes_per_image(weights)
    if each is None:
        return _CHUNK
    on_cpu = next(redirector.network.parameters()).device.type == "cpu"
    most = _LARGEST_ON_CPU if on_cpu else _LARGEST
    return int(np.clip(sampling.get("memory_mb", 1000) * 2**20 // each, 1, most))


def write_path(path: str | Path, source: torch.Tensor, way: torch.Tensor) -> None:
    """Write a GIF of pictures on their way, (T, B, 3, H, W) in [-1, 1], below their sources."""
    above = to_uint8(source)
    scale = max(1, 128 // above.shape[1])
    frames = [
        tiled(np.concatenate([above, to_uint8(one)]), len(above), scale) for one in way.clamp(-1, 1)
    ]
    with replacing(path) as part:
        part.write_bytes(animate(frames, _FRAME_MS, _HOLD_MS))


def sample_variants(
    folder: str | Path,
    variants: Mapping[str, Mapping],
    *,
    sampling: Mapping,
    samples: Sequence[str | Path],
    speed: Sequence[str | Path],
    first: int | None = None,
    **files,
) -> None:
    """Redirect the same pairs in several ways; all guidance weights are sampled in one pass.

    Args:
        folder: model folder.
        variants: by name, what differs from ``sampling``; ``pairs`` among it bounds ``first``.
        sampling: the ``sampling:`` section.
        samples, speed: files to write, in the order of ``variants``.
        first: the first so many pairs only.
        files: the rest of :func:`sample_redirector`'s arguments.
    """
    outputs = dict(zip(variants, zip(samples, speed, strict=True), strict=True))
    guided = {name: one["guidance"] for name, one in variants.items() if set(one) == {"guidance"}}
    if guided:
        paths = {
            "samples": [outputs[name][0] for name in guided],
            "speed": [outputs[name][1] for name in guided],
        }
        common = {"sampling": sampling, "first": first, **files}
        sample_redirector(folder, weights=list(guided.values()), **common, **paths)
    for name in [name for name in variants if name not in guided]:
        changes = dict(variants[name])
        most = min((n for n in (changes.pop("pairs", None), first) if n), default=None)
        paths = dict(zip(("samples", "speed"), outputs[name], strict=True))
        sample_redirector(folder, sampling={**sampling, **changes}, first=most, **paths, **files)


def sample_pseudo_model(
    name: str,
    *,
    faces: Sequence[str],
    pairs: str | Path,
    size_px: int,
    samples: str | Path,
    speed: str | Path,
    masks: Sequence[str] | None = None,
    background: Sequence[int] = (0, 0, 0),
) -> None:
    """Write what ``copy`` (the source) or ``truth`` (the true target) would be as samples.

    Sweep pairs have no true target; ``truth`` shows their source. Backgrounds are replaced as in
    :func:`sample_redirector`.

    Raises:
        ValueError: another name.
    """
    if name not in ("copy", "truth"):
        raise ValueError(f"unknown pseudo-model {name!r}; expected copy or truth")
    reader, table = faces_reader(faces, masks, background), read_pairs(pairs)
    index = table["source_index"].to_numpy()
    if name == "truth":
        index = np.where(table["target_index"] >= 0, table["target_index"], index)
    rows = [reader.global_index(p, i) for p, i in zip(table["person"], index, strict=True)]
    images = [
        to_uint8(reduce_patches(reader.pixels(rows[start : start + 256]), size_px))
        for start in range(0, len(rows), 256)
    ]
    attributes = {
        "model": name,
        "fingerprint": "",
        "evaluations_per_image": 0,
        "seed": 0,
        "sampler": "none",
        "guidance": 0.0,
    }
    write_samples(samples, np.concatenate(images), table["pair"].to_numpy(), attributes)
    write_json(speed, {"seconds_per_image": 0.0, "images": len(rows), "threads": 1})


def source_rows(reader: FacesReader, table, count: int, seed: int) -> np.ndarray:
    """Rows (P, count) of the data set that show the person of each pair, its source first.

    The others are drawn for (seed, pair): never the pair's target, and none twice unless the
    person has too few pictures, which are then repeated. A larger ``count`` only adds to them.
    """
    sources = zip(table["person"], table["source_index"], strict=True)
    rows = np.array([[reader.global_index(*one)] for one in sources], np.int64).reshape(-1, 1)
    rows = rows.repeat(count, 1)
    if count > 1:
        columns = ("pair", "person", "source_index", "target_index")
        values = zip(*(table[column] for column in columns), strict=True)
        for row, (pair, person, source, target) in zip(rows, values, strict=True):
            others = np.setdiff1d(np.arange(reader.count(person)), [source, target])
            rng = np.random.default_rng([seed, int(pair), zlib.crc32(b"sources")])
            chosen = np.resize([source, *rng.permutation(others)], count)
            row[:] = [reader.global_index(person, int(index)) for index in chosen]
    return rows


def pair_batch(
    reader: FacesReader, table, size_px: int, rows: np.ndarray | None = None
) -> dict[str, torch.Tensor]:
    """Turn rows of a pairs table into a batch for :meth:`Redirector.redirect`.

    ``rows``: pictures of the source, of :func:`source_rows`; None takes the source alone.
    """
    rows = source_rows(reader, table, 1, 0) if rows is None else rows
    batch = {
        key: torch.from_numpy(np.stack(table[key].to_list()))
        for key in ("source_gaze", "target_gaze", "source_head", "target_head")
    }
    # Files are read in their own order, every picture once.
    known, places = np.unique(rows, return_inverse=True)
    pictures = reduce_patches(reader.pixels(known), size_px)[places.reshape(rows.shape)]
    batch["source"] = pictures[:, 0].contiguous()
    if rows.shape[1] > 1:
        labels = torch.from_numpy(reader.labels[rows])
        batch["sources"] = pictures
        batch["sources_gaze"], batch["sources_head"] = labels[..., :2], labels[..., 2:4]
    batch["pair"] = torch.from_numpy(table["pair"].to_numpy().copy())
    return batch


def write_samples(
    path: str | Path, pixels: np.ndarray, pair: np.ndarray, attributes: Mapping
) -> None:
    """Write samples HDF5: ``pixels`` (P,H,W,3) uint8, ``pair`` (P,) int64, attributes."""
    with replacing(path) as part, h5py.File(part, "w") as file:
        shape = (1, *pixels.shape[1:])
        file.create_dataset("pixels", data=pixels, chunks=shape, **COMPRESSION)
        file.create_dataset("pair", data=pair.astype(np.int64))
        for key in sorted(attributes):
            file.attrs[key] = attributes[key]
