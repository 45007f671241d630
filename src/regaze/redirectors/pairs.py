"""Training batches of redirectors: two pictures of one person with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from regaze.faces import FacesReader
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import Declaration
from regaze.redirectors.inputs import KINDS, FaceInput
from regaze.redirectors.jitter import PairJitter
from regaze.training.data import Rows
from regaze.training.settings import Jitter

_SAME_LABEL, _SAME_ESTIMATE = 0.05, 2.0
"""Degrees of pitch and yaw within which two head poses of a person are the same."""


class _Faces(Rows):
    """Rows whose pictures are read together with what the method declares besides."""

    def _read(self, declaration: Declaration | None, inputs: Mapping[str, FaceInput] | None):
        """Bind what is read besides; rows that lack some of it are never visited."""
        self._place = np.full(len(self.reader), -1, np.int32)
        self._place[self.rows] = np.arange(len(self.rows))
        self._whole = self._with_inputs(inputs or {})
        self._declaration = declaration or Declaration()
        self._inputs = {
            kind: _Held(one, self.rows, self._place) if one.in_memory else one
            for kind, one in (inputs or {}).items()
        }

    @property
    def builder(self) -> BatchBuilder:
        """What turns rows into batches; made anew, so that it and this do not hold each other."""
        return BatchBuilder(self.size, self._declaration, self._inputs, self._pictures)

    def _pictures(self, rows: np.ndarray):
        return self._patches(self._place[rows])

    def _with_inputs(self, inputs: Mapping[str, FaceInput]) -> np.ndarray | None:
        """Which rows have all inputs, None without any; others are passed over."""
        if not inputs:
            return None
        for kind in inputs:
            if self.flip and not KINDS[kind].mirrored:
                raise ValueError(f"flip: {kind} of mirrored faces are not known; expected false")
        whole = np.all([one.known[self.rows] for one in inputs.values()], axis=0)
        self._visits = self._visits[whole[self._visits]]
        if not len(self._visits):
            paths = ", ".join(self.reader.paths)
            raise ValueError(f"{paths}: no face has {' and '.join(inputs)} to train with")
        return whole


class PictureBatches(_Faces):
    """Pictures without labels, of a data set of their own: the columns ``unlabelled`` of batches.

    Picture k of a batch has nothing to do with pair k of it.
    """

    def __init__(
        self,
        reader: FacesReader,
        persons: Sequence[str],
        *,
        flip: bool = False,
        declaration: Declaration | None = None,
        inputs: Mapping[str, FaceInput] | None = None,
        **kwargs,
    ):
        """Bind the rows; see :class:`PairBatches` for the arguments.

        Raises:
            ValueError: no picture has all inputs, or some cannot be mirrored.
        """
        super().__init__(reader, persons, **kwargs)
        self.flip = flip
        self._read(declaration, inputs)

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step`` as it is stored, for :meth:`finish`."""
        positions = self._positions(step)
        places = np.array([self._visited(position) for position in positions])
        loaded = self.builder.load("unlabelled", self.rows[places])
        if self.flip:
            coins = [np.random.default_rng([self.seed, 3, int(p)]).random() for p in positions]
            loaded["unlabelled_flip"] = torch.tensor(coins) < 0.5
        return loaded

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turn a loaded batch, already on its device, into what redirectors take."""
        flip = batch.get("unlabelled_flip")
        return self.builder.finish({k: v for k, v in batch.items() if k != "unlabelled_flip"}, flip)


class PairBatches(_Faces):
    """Two pictures of one person with their labels, for redirectors."""

    def __init__(
        self,
        reader: FacesReader,
        persons: Sequence[str],
        *,
        same_head_fraction: float = 0.0,
        flip: bool = False,
        labelled: np.ndarray | None = None,
        targets: str = "labelled",
        labels: np.ndarray | None = None,
        chosen: np.ndarray | None = None,
        declaration: Declaration | None = None,
        inputs: Mapping[str, FaceInput] | None = None,
        unlabelled: PictureBatches | None = None,
        jitter: Jitter | None = None,
        **kwargs,
    ):
        """Bind the rows; see :class:`regaze.training.data.Rows`.

        Args:
            reader: faces of the data set.
            persons: whose rows to use.
            same_head_fraction: share of pairs whose two pictures have the same head pose, where
                the person has such pictures; the rest is drawn from all others of the person.
            flip: mirror both pictures of half of the pairs, yaw changing its sign.
            labelled: numbers among the rows of ``persons`` whose labels may be used, as
                :func:`regaze.training.labels.labelled_numbers` gives them; None means all.
            targets: what sources, which are labelled, are paired with: ``labelled`` pictures, or
                ``any`` of the person. Labels of unlabelled targets are zeros then, and no label
                decides which target a source gets.
            labels: (N,4) radians for all rows of ``persons``, of an estimator where unlabelled;
                all pictures are sources and targets then.
            declaration: of the method.
            inputs: what it reads besides, opened for ``reader``. Pictures without one of them are
                never drawn. Small ones are held in memory, codes with 624 bytes per row.
            unlabelled: pictures of another data set that batches have besides, as many as pairs.
            jitter: how pairs are changed.

        Raises:
            ValueError: no person has two labelled pictures, and targets have to be labelled; no
                picture that could be a source has all inputs; or an input and ``flip`` go
                together of which nothing is known for mirrored pictures.
        """
        pseudo = labels is not None
        if labelled is not None and not pseudo and targets == "labelled":
            chosen = _paired(reader, persons, labelled)
        super().__init__(reader, persons, chosen=chosen, **kwargs)
        self.same_head_fraction, self.flip = same_head_fraction, flip
        self._labelled = np.ones(len(self.rows), bool)
        if labelled is not None and chosen is None:
            self._labelled = np.isin(np.arange(len(self.rows)), labelled)
        if pseudo:
            self._table = np.asarray(labels, np.float32)
        elif not self._labelled.all():
            self._table = np.where(self._labelled[:, None], self._table, np.float32(0))
            self._visits = np.flatnonzero(self._labelled)
            self.same_head_fraction = 0.0
        people = self.reader.person_of[self.rows]
        # Rows come person by person, so each person is one run of places.
        starts = np.flatnonzero(np.diff(people, prepend=-1))
        ends = np.append(starts[1:], len(people))
        run = np.repeat(np.arange(len(starts)), ends - starts)
        self._first, self._end = starts[run], ends[run]
        # Estimates of one pose differ, labels of a held pose do not.
        self._same_head = np.deg2rad(_SAME_ESTIMATE if pseudo else _SAME_LABEL)
        self._read(declaration, inputs)
        self._unlabelled = unlabelled
        self._jitter = None if jitter is None else PairJitter(jitter, self.seed)

    def keep_in(self, folder: str | Path) -> None:
        """See :meth:`regaze.training.data.Rows.keep_in`."""
        super().keep_in(folder)
        if self._unlabelled is not None:
            self._unlabelled.keep_in(Path(folder) / "unlabelled")

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step`` as it is stored, for :meth:`finish`.

        A person with one picture is paired with itself.
        """
        sources, targets, flips = [], [], []
        positions = self._positions(step)
        for position in positions:
            rng = np.random.default_rng([self.seed, 2, int(position)])
            source = self._visited(position)
            sources.append(source)
            targets.append(self._partner(source, rng))
            flips.append(self.flip and rng.random() < 0.5)
        loaded, builder = {}, self.builder
        for side, places in (("source", np.array(sources)), ("target", np.array(targets))):
            loaded |= builder.load(side, self.rows[places], self._table[places])
        if self._jitter is not None:
            loaded = self._jitter(loaded, positions)
        loaded["target_labelled"] = torch.from_numpy(self._labelled[np.array(targets)])
        if self._unlabelled is not None:
            loaded |= self._unlabelled.load(step)
        return loaded | ({"flip": torch.tensor(flips)} if self.flip else {})

    def _partner(self, source: int, rng: np.random.Generator) -> int:
        others = np.arange(self._first[source], self._end[source])
        others = others[others != source]
        if self._whole is not None:
            others = others[self._whole[others]]
        if rng.random() < self.same_head_fraction:
            apart = np.abs(self._table[others, 2:4] - self._table[source, 2:4])
            same = (apart < self._same_head).all(1)
            others = others[same] if same.any() else others
        return int(others[rng.integers(len(others))]) if len(others) else source

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turn a loaded batch, already on its device, into what redirectors take."""
        flip = batch.get("flip")
        others = {k: v for k, v in batch.items() if k.startswith("unlabelled")}
        pairs = {k: v for k, v in batch.items() if k != "flip" and k not in others}
        finished = self.builder.finish(pairs, flip)
        return finished if self._unlabelled is None else finished | self._unlabelled.finish(others)


class _Held:
    """An input's values of the training's rows, held in memory."""

    def __init__(self, given: FaceInput, rows: np.ndarray, place: np.ndarray):
        self.columns, self.known, self.identity = given.columns, given.known, given.identity
        self.finish, self._place, self.values = given.finish, place, given.read(rows)

    def read(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        places = torch.from_numpy(self._place[rows].astype(np.int64))
        return {name: values[places] for name, values in self.values.items()}


def _paired(reader: FacesReader, persons: Sequence[str], labelled: np.ndarray) -> np.ndarray:
    """Those of the labelled numbers whose person has another labelled picture."""
    people = reader.person_of[reader.rows(persons)][labelled]
    _, codes, counts = np.unique(people, return_inverse=True, return_counts=True)
    chosen = labelled[counts[codes] > 1]
    if not len(chosen):
        raise ValueError(
            f"labels.count: {len(labelled)} labelled pictures of {len(counts)} persons, but this "
            "method learns from two labelled pictures of a person, and nobody has two; label more, "
            "or name an estimator that labels the others (labels.estimator)"
        )
    return chosen
