"""Run a redirector, or a pseudo-model, over the evaluation pairs and store the pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from regaze.animation import gif as animate
from regaze.animation import tiled
from regaze.faces import COMPRESSION, FacesReader
from regaze.images import reduce_patches, to_uint8
from regaze.masks.background import faces_reader
from regaze.outputs import replacing, several, write_json
from regaze.pairs import read_pairs
from regaze.redirectors.base import Fitting, Redirector, State, build_redirector
from regaze.redirectors.batches import BatchBuilder, Requests, rows_of
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.inputs import open_inputs
from regaze.redirectors.networks import load_redirector
from regaze.redirectors.personal import entry_record, folder_of, weights_fingerprint
from regaze.redirectors.reframe import Reframing
from regaze.views import told_view, why_another

GIF_PAIRS = 8
"""Pairs whose pictures are animated."""
_FRAME_MS, _HOLD_MS = 120, 1500
_CHUNK, _LARGEST_ON_CPU, _LARGEST = 50, 32, 1024


def sample_redirector(
    folder: str | Path,
    *,
    faces: Sequence[str],
    pairs: str | Path,
    sampling: Mapping,
    samples: str | Path | Sequence[str | Path] | None,
    speed: str | Path | Sequence[str | Path] | None,
    inputs: Mapping[str, Sequence[str]] | None = None,
    view: Sequence[str] | None = None,
    view_masks: Sequence[str] | None = None,
    size_px: int | None = None,
    masks: Sequence[str] | None = None,
    background: Sequence[int] = (0, 0, 0),
    kind: str | None = None,
    first: int | None = None,
    weights: Sequence[float] | None = None,
    gif: str | Path | None = None,
) -> None:
    """Redirect the evaluation pairs with a trained model; every source is inverted once a chunk.

    Args:
        folder: model folder.
        faces: shards of the data set.
        pairs: pairs parquet.
        sampling: options of sampling, the workflow's and the entry's.
        samples: samples HDF5 to write, one per weight; None writes ``gif`` alone.
        speed: JSON to write, one per weight: seconds per source and per request, and the threads
            they took. It is a file of its own because everything else is byte-identical between
            runs.
        inputs: shards by kind of what the model reads of pictures besides pixels.
        view, view_masks: shards of the faces in the model's own view, and their masks; its pictures
            then are resampled into the view of ``faces``, see :mod:`regaze.redirectors.reframe`.
        size_px: least side of resampled pictures.
        masks: masks of the faces; given, the sources' background is replaced by ``background``.
        background: R, G, B from 0 to 255.
        kind: pairs of this kind only.
        first: the first so many pairs (of that kind) only.
        weights: guidance weights, all sampled in one pass, in place of the entry's.
        gif: animation to write of how the pictures of the first pairs lose their noise, below
            their sources.
    """
    torch.set_num_threads(sampling["threads"])
    own = faces_reader(view, view_masks, background) if view else None
    reader = faces_reader(faces, masks, background)
    engine = Engine(folder, sampling, reader, inputs or {}, own, size_px)
    table = read_pairs(pairs)
    table = table[table["kind"] == kind] if kind else table
    table = engine.ordered(table.iloc[:first])
    if gif is not None:
        shown = engine.requests(engine.alike(table.iloc[:GIF_PAIRS]))
        with torch.no_grad():
            state, target = engine.invert(shown)
            path = engine.redirector.record_path(state, target, seed=sampling["seed"])
        pictures = shown.to(engine.device)[0]["source"][shown.source_of.to(engine.device)]
        write_path(gif, pictures, path)
    if samples is None:
        return
    options = {} if weights is None else {"weights": list(weights)}
    made: list[list[np.ndarray]] = [[] for _ in weights or [None]]
    costs = []
    for chunk in engine.chunks(table, len(made)):
        requests = engine.requests(chunk)
        began = time.perf_counter()
        with torch.no_grad():
            state, target = engine.invert(requests)
            engine.wait()
            inverted = time.perf_counter()
            pictures = engine.redirector.edit(state, target, seed=sampling["seed"], **options)
        for found, one in zip(made, pictures if options else pictures[None], strict=True):
            found.append(to_uint8(engine.compared(one, chunk)))
        sources = len(requests.source["source_row"])
        edited = (time.perf_counter() - inverted) / (len(chunk) * len(made))
        costs.append(((inverted - began) / sources, edited))
    attributes = {
        "model": engine.record["name"],
        "fingerprint": weights_fingerprint(folder),
        "seed": sampling["seed"],
        **engine.describe(),
    }
    # The first chunk also pays for lazy initialisation unless it is the only one.
    per_source, per_request = np.median(costs[1:] or costs, axis=0).tolist()
    content = {
        "seconds_per_source": per_source,
        "seconds_per_request": per_request,
        "images": len(table),
        "threads": torch.get_num_threads(),
        "device": engine.device,
    }
    changes = [{}] if weights is None else [{"guidance": weight} for weight in weights]
    outputs = zip(several(samples), several(speed), strict=True)
    for found, change, (path, times) in zip(made, changes, outputs, strict=True):
        redirector = engine.redirector
        if change:
            redirector = build_redirector(engine.record["config"], {**sampling, **change})
        described = {
            **attributes,
            "evaluations_per_image": redirector.evaluations_per_image(),
            **redirector.describe_sampling(),
        }
        write_samples(path, np.concatenate(found), table["pair"].to_numpy(), described)
        write_json(times, content)


class Engine:
    """A trained redirector at work on the faces of a data set.

    Args:
        folder: model folder.
        sampling: options of sampling, the workflow's and the entry's.
        reader: the data set's faces, in the view in which pictures are compared.
        inputs: shards by kind of what the model reads of pictures besides pixels.
        own: the same faces in the model's view, where that is another.
        size_px: least side of pictures that are resampled from it.

    Attributes:
        redirector: on ``device``, see :func:`load_redirector`; where every person has a model of
            their own that of the chunk that was made last.
        record: ``model.json``.

    Raises:
        FileNotFoundError, ValueError: the model or an input cannot be used, or ``own`` is no view
            that the model was trained on.
    """

    def __init__(
        self,
        folder: str | Path,
        sampling: Mapping,
        reader: FacesReader,
        inputs: Mapping[str, Sequence[str]],
        own: FacesReader | None = None,
        size_px: int | None = None,
    ):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.folder, self.sampling, self.reader = Path(folder), sampling, reader
        self._person: str | None = None
        self.record = entry_record(folder)
        self._take(next(iter(self.record.get("albums", {})), None))
        declaration = declared_by(self.record["config"]).making()
        expect = {kind: about["identity"] for kind, about in self.record["inputs"].items()}
        self._seen = reader if own is None else own
        opened = open_inputs(declaration, inputs, self._seen, expect)
        side = self.record["config"]["size_px"]
        self._builder = BatchBuilder(side, declaration, opened, self._seen.pixels)
        self._reframing = None
        if own is not None:
            if fault := why_another(self.record.get("view"), told_view(own.attributes)):
                raise ValueError(f"{own.paths[0]}: {folder} was trained on another view: {fault}")
            self._reframing = Reframing(own, reader, side)
            self._side = self._reframing.size(size_px or side)
        self._unknown: dict[str, int] = {}
        self._absent = 0

    def _take(self, person: str | None) -> None:
        """Load the model of a person, None where there is one for all."""
        if person is not None and person == self._person:
            return
        folder = self.folder if person is None else folder_of(self.folder, self.record, person)
        self._person = person
        self.redirector, record = load_redirector(folder, self.sampling, self.device)
        self.record = self.record or record
        channels_last(self.redirector)

    def ordered(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of pairs in the order of :meth:`chunks`.

        By persons where each has a model; by sources where these are fitted, each in one chunk
        then.
        """
        by = [] if self._person is None else ["person"]
        if isinstance(self.redirector, Fitting):
            by = ["person", "source_index"]
        return table.sort_values(by, kind="stable") if by else table

    def alike(self, table: pd.DataFrame) -> pd.DataFrame:
        """Those rows of a table that are made with the model of the first, which is loaded."""
        if self._person is None or not len(table):
            return table
        self._take(table["person"].iloc[0])
        return table[table["person"] == self._person]

    def chunks(self, table: pd.DataFrame, weights: int = 1) -> Iterator[pd.DataFrame]:
        """A table of pairs in parts that are made at a time; no picture depends on it."""
        parts = [table]
        if self._person is not None:
            parts = [part for _, part in self.ordered(table).groupby("person", sort=False)]
        for part in map(self.alike, parts):
            step = chunk_size(self.redirector, self.sampling, weights)
            for start in range(0, len(part), step):
                yield part.iloc[start : start + step]

    def requests(self, table: pd.DataFrame) -> Requests:
        """The requests of rows of a pairs table; pictures that lack an input are counted."""
        found = self._builder.requests(
            self._seen, self._own(table), count=self.redirector.sources, seed=self.sampling["seed"]
        )
        for one in self._builder.declaration.inputs:
            for side, columns in (("source", found.source), ("target", found.target)):
                known = columns.get(f"{side}_{one.kind}_known")
                if known is not None:
                    name = f"{side}s_without_{one.kind}"
                    known = known[found.source_of] if side == "source" else known
                    self._unknown[name] = self._unknown.get(name, 0) + int((~known).sum())
        return found

    def invert(self, requests: Requests) -> tuple[State, dict[str, torch.Tensor]]:
        """The sources' state as the requests need it, and the requests."""
        source, target = requests.to(self.device)
        state = self.redirector.invert(source, seed=self.sampling["seed"])
        return requests.of_requests(state), target

    def compared(self, pictures: torch.Tensor, table: pd.DataFrame) -> torch.Tensor:
        """Pictures (B,3,S,S) of a table's requests as they are compared with those of others."""
        if self._reframing is None:
            return pictures
        return self._reframing(pictures, rows_of(self.reader, table, "source"), self._side)

    def _own(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of pairs with its rows numbered as in the model's view.

        A source that it does not have is one of those that it has: what is made of it is replaced
        by :meth:`compared`.
        """
        if self._reframing is None:
            return table
        own = {}
        for side in ("source", "target"):
            rows = rows_of(self.reader, table, side)
            own[side] = np.full(len(rows), -1, np.int64)
            own[side][rows >= 0] = self._reframing.rows(rows[rows >= 0])
        absent = own["source"] < 0
        self._absent += int(absent.sum())
        own["source"][absent], own["target"][absent] = 0, -1
        person = table["person"].to_numpy(copy=True)
        person[absent] = self._seen.persons[self._seen.person_of[0]]
        places = {
            f"{side}_index": np.where(rows < 0, -1, self._seen.row_of[rows])
            for side, rows in own.items()
        }
        return table.assign(person=person, **places)

    def shown(self, table: pd.DataFrame) -> pd.DataFrame:
        """Those rows of a table whose sources the model's view has."""
        if self._reframing is None:
            return table
        rows = rows_of(self.reader, table, "source")
        return table[self._reframing.rows(rows) >= 0]

    def wait(self) -> None:
        """Until the device has done what it was given, for clocks."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def describe(self) -> dict[str, int | float]:
        """How many pictures of the requests so far had to do without an input.

        And ``view_covers``: the mean share of the pictures that the model's own view shows;
        ``sources_not_in_view``: of how many it has not even the photo, where there are such.
        """
        if self._reframing is None:
            return dict(self._unknown)
        absent = {"sources_not_in_view": self._absent} if self._absent else {}
        return {**self._unknown, **absent, "view_covers": self._reframing.covered}


def channels_last(redirector: Redirector) -> None:
    """Lay weights out as it is quickest to convolve with them; no result depends on it."""
    for module in redirector.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)


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
        sampling: options of sampling, the workflow's and the entry's.
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
    costs = {"seconds_per_source": 0.0, "seconds_per_request": 0.0}
    write_json(speed, {**costs, "images": len(rows), "threads": 1})


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
