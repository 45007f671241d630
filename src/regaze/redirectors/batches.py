"""The one builder of batches: for training, validation, sampling, perturbing and single photos.

What a method is given of pictures is decided here alone; see
:data:`regaze.redirectors.base.Batch`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from regaze.faces import FacesReader
from regaze.factors import factors_of
from regaze.images import reduce_patches
from regaze.redirectors.base import Batch, State, selected
from regaze.redirectors.declaration import Declaration
from regaze.redirectors.inputs import FaceInput

_MIRRORED = (1.0, -1.0)
_PICTURES = ("source", "target", "sources", "unlabelled")


class BatchBuilder:
    """Builds batches from rows of a data set.

    Args:
        size_px: side of the pictures that the method works on.
        declaration: of the method.
        inputs: its opened inputs by kind.
        patches: (n,) rows to (n, H, W, 3) uint8.
    """

    def __init__(
        self,
        size_px: int,
        declaration: Declaration,
        inputs: Mapping[str, FaceInput],
        patches: Callable[[np.ndarray], np.ndarray | Tensor],
    ):
        self.size_px, self.declaration, self.inputs = size_px, declaration, inputs
        self._patches = patches
        self._finish = {name: one for one in inputs.values() for name in one.columns}

    def load(
        self, side: str, rows: np.ndarray, labels: np.ndarray | None = None, *, picture: bool = True
    ) -> dict[str, Tensor]:
        """Columns of one side as they are stored, for :meth:`finish`.

        Args:
            side: ``source``, ``target``, ``unlabelled``, or ``sources`` for several pictures of
                each source.
            rows: (B,) rows of the data set, (B, K) of ``sources``; -1 where there is none.
            labels: (B, 4) or (B, K, 4) radians: gaze, head; None where there are none.
            picture: whether the pictures themselves are wanted.
        """
        found = {}
        if labels is not None:
            values = torch.from_numpy(np.ascontiguousarray(labels))
            found = {f"{side}_gaze": values[..., :2], f"{side}_head": values[..., 2:4]}
        found[f"{side}_row"] = torch.from_numpy(rows)
        flat = rows.ravel()
        if picture:
            # Files are read in their own order, every picture once.
            known, places = np.unique(flat, return_inverse=True)
            pictures = torch.as_tensor(self._patches(known))[torch.from_numpy(places)]
            found[side] = pictures.unflatten(0, rows.shape)
        for one in self.declaration.inputs:
            if side in ("target", "unlabelled") and side not in one.sides:
                continue
            given = self.inputs[one.kind]
            there = (flat >= 0) & given.known[flat]
            found[f"{side}_{one.kind}_known"] = torch.from_numpy(there.reshape(rows.shape))
            for name, column in given.read(np.where(flat < 0, 0, flat)).items():
                found[f"{side}_{name}"] = column.unflatten(0, rows.shape)
        return found

    def finish(self, batch: Batch, flip: Tensor | None = None) -> dict[str, Tensor]:
        """Turn loaded columns, already on their device, into what methods take.

        ``flip`` (B,) bool: rows that are mirrored, yaw changing its sign; None: none.
        """
        done = {}
        for name, value in batch.items():
            side, _, column = name.partition("_")
            rows = value.shape[: 2 if side == "sources" else 1]
            flat = value.flatten(0, len(rows) - 1)
            if name == side and side in _PICTURES:
                flat = reduce_patches(flat, self.size_px)
                if flip is not None:
                    flat = torch.where(flip[:, None, None, None], flat.flip(-1), flat)
            elif column in ("gaze", "head") and flip is not None:
                flat = torch.where(flip[:, None], flat * flat.new_tensor(_MIRRORED), flat)
            elif column in self._finish:
                flat = self._finish[column].finish(flat, self.size_px, flip)
            done[name] = flat.unflatten(0, rows)
        return done

    def requests(
        self, reader: FacesReader, table: pd.DataFrame, *, count: int = 1, seed: int = 0
    ) -> Requests:
        """The requests of rows of a pairs table; every source is loaded once.

        Args:
            reader: the data set's faces.
            table: with the columns of :data:`regaze.pairs.SCHEMA`, ``kind`` apart.
            count: pictures of the person that a source is shown by, for methods that can see them.
            seed: of their choice.
        """
        count = count if self.declaration.several_sources else 1
        rows = source_rows(reader, table, count, seed)
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        # Sources in the order of their first requests.
        order = np.argsort(first)
        index = np.argsort(order)[inverse.reshape(-1)]
        first = first[order]
        labels = {
            side: np.concatenate(
                [np.stack(table[f"{side}_{name}"].to_list()) for name in ("gaze", "head")], 1
            )
            for side in ("source", "target")
        }
        source = self.load("source", np.ascontiguousarray(rows[first, 0]), labels["source"][first])
        if count > 1:
            source |= self.load("sources", rows[first], reader.labels[rows[first], :4])
        wanted = rows_of(reader, table, "target")
        target = self.load("target", wanted, labels["target"], picture=False)
        for name in factors_of(table.columns):
            # Directions are labels, loaded above.
            if f"target_{name}" not in target and f"target_{name}" in table:
                values = np.stack(table[f"target_{name}"].to_list())
                target[f"target_{name}"] = torch.from_numpy(values)
        target["pair"] = torch.from_numpy(table["pair"].to_numpy().copy())
        return Requests(self, source, target, torch.from_numpy(index))


class Requests:
    """Sources and what is asked of them, as they are stored.

    Attributes:
        source: loaded columns of S sources.
        target: loaded columns of R requests.
        source_of: (R,) int64, the source of each request.
    """

    def __init__(self, builder: BatchBuilder, source: dict, target: dict, source_of: Tensor):
        self._builder = builder
        self.source, self.target, self.source_of = source, target, source_of

    def to(self, device: str | torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Sources and targets as methods take them, on a device."""
        source, target = (
            self._builder.finish({name: value.to(device) for name, value in side.items()})
            for side in (self.source, self.target)
        )
        return source, target

    def of_requests(self, state: State) -> State:
        """A state of the sources as :meth:`regaze.redirectors.base.Redirector.edit` takes it."""
        sources = len(self.source["source_row"])
        # Sources stand in the order of their requests, so as many are the same.
        if sources in (1, len(self.source_of)):
            return state
        return selected(state, self.source_of)


def source_rows(reader: FacesReader, table: pd.DataFrame, count: int, seed: int) -> np.ndarray:
    """Rows (P, count) of the data set that show the person of each pair, its source first.

    The others are drawn for (seed, pair): never the pair's target, and none twice unless the
    person has too few pictures, which are then repeated. A larger ``count`` only adds to them.
    """
    rows = rows_of(reader, table, "source")[:, None].repeat(count, 1)
    if count > 1:
        columns = ("pair", "person", "source_index", "target_index")
        values = zip(*(table[column] for column in columns), strict=True)
        for row, (pair, person, source, target) in zip(rows, values, strict=True):
            others = np.setdiff1d(np.arange(reader.count(person)), [source, target])
            rng = np.random.default_rng([seed, int(pair), zlib.crc32(b"sources")])
            chosen = np.resize([source, *rng.permutation(others)], count)
            row[:] = [reader.global_index(person, int(index)) for index in chosen]
    return rows


def rows_of(reader: FacesReader, table: pd.DataFrame, side: str) -> np.ndarray:
    """(P,) rows of the data set of one side of pairs, -1 where there is no picture."""
    named = zip(table["person"], table[f"{side}_index"], strict=True)
    return np.array([reader.global_index(*one) if one[1] >= 0 else -1 for one in named], np.int64)
