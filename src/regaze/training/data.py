"""Training batches that depend on (seed, step) alone, so that training resumes exactly.

Processes take consecutive parts of each batch: their union is the batch of a single process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from regaze.estimators.preprocess import prepare
from regaze.faces import FacesReader
from regaze.jobs import replacing
from regaze.provenance import content_hash
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import Declaration
from regaze.redirectors.inputs import KINDS, FaceInput

_BLOCK = 256
"""Patches read at a time when they are written to a file."""

_SAME_LABEL, _SAME_ESTIMATE = 0.05, 2.0
"""Degrees of pitch and yaw within which two head poses of a person are the same."""


class _Rows:
    """Chosen rows of a faces data set with their patches, and the order they are visited in."""

    def __init__(
        self,
        reader: FacesReader,
        persons: Sequence[str],
        *,
        size: int,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        cache: str = "memory",
        chosen: np.ndarray | None = None,
    ):
        """Bind the rows of ``persons``.

        Args:
            reader: faces of the data set.
            persons: whose rows to use.
            size: side of the training images in pixels; patches are averaged down to it.
            batch: images per step of this process.
            seed: seed of order and pairing.
            rank: this process among ``world``.
            world: number of processes.
            cache: ``memory`` holds all patches as uint8, ``none`` reads them per batch; ``mmap``
                reads them per batch until :meth:`keep_in` is called.
            chosen: numbers of the rows to use among those of the persons; None means all.

        Raises:
            ValueError: none of the persons has rows.
        """
        self.reader, self.size, self.batch = reader, size, batch
        self.seed, self.rank, self.world = seed, rank, world
        self.rows = reader.rows(persons)
        if len(self.rows) == 0:
            paths = ", ".join(reader.paths)
            raise ValueError(f"{paths}: no rows for the {len(persons)} persons asked for")
        if chosen is not None:
            self.rows = self.rows[chosen]
        self._table = reader.labels[self.rows, :4]
        # Places in `rows` that are visited; others are partners only.
        self._visits = np.arange(len(self.rows))
        self._pixels = reader.pixels(self.rows) if cache == "memory" else None
        self._file: Path | None = None
        self._order: tuple[int, np.ndarray] | None = None

    def __getstate__(self):
        # A map would be pickled as its content; loader processes open their own.
        return {**self.__dict__, "_pixels": None} if self._file else self.__dict__

    def keep_in(self, folder: str | Path) -> None:
        """Hold the patches in a file of ``folder`` that is mapped, written unless it is there.

        The file is (N,H,W,3) uint8 without a header, in the order of the rows, about as large as
        the patches in memory; its name tells the content of the faces files and the rows, and files
        of other content are removed. Memory is bounded: blocks of rows are written, and mapped
        pages are the system's cache, one for all processes of a machine.
        """
        # Rows exist, so the patches have a size.
        width, height = self.reader.patch_size or (0, 0)
        shape = (len(self.rows), height, width, 3)
        key = content_hash([self.reader.fingerprint(), self.rows.tolist(), shape])
        path = Path(folder) / f"patches-{key}.u8"
        if not path.exists() or path.stat().st_size != np.prod(shape):
            with replacing(path) as part, open(part, "wb") as stream:
                for start in range(0, len(self.rows), _BLOCK):
                    block = self.reader.pixels(self.rows[start : start + _BLOCK])
                    stream.write(block.tobytes())
            for other in path.parent.glob("patches-*.u8"):
                if other != path:
                    other.unlink()
        self._file, self._shape, self._pixels = path, shape, None

    def _positions(self, step: int) -> np.ndarray:
        start = (step * self.world + self.rank) * self.batch
        return np.arange(start, start + self.batch)

    def _visited(self, position: int) -> int:
        """Index into ``rows`` of the ``position``-th image seen: a fresh shuffle every epoch."""
        epoch, place = divmod(int(position), len(self._visits))
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, epoch])
            self._order = (epoch, rng.permutation(len(self._visits)))
        return int(self._visits[self._order[1][place]])

    def _patches(self, places: np.ndarray) -> torch.Tensor:
        if self._file is not None and self._pixels is None:
            self._pixels = np.memmap(self._file, np.uint8, "r", shape=self._shape)
        if self._pixels is None:
            return torch.from_numpy(np.ascontiguousarray(self.reader.pixels(self.rows[places])))
        return torch.from_numpy(np.asarray(self._pixels[places]))


class ImageBatches(_Rows):
    """Single images with their labels, for estimators."""

    def __init__(self, *args, preprocess: str = "none", **kwargs):
        """Bind the rows; see :class:`_Rows`. ``preprocess`` is the estimator's."""
        super().__init__(*args, **kwargs)
        self.preprocess = preprocess

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step``: ``image`` (B,H,W,3) uint8, ``label`` (B,4) radians."""
        places = np.array([self._visited(p) for p in self._positions(step)])
        return {"image": self._patches(places), "label": torch.from_numpy(self._table[places])}

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turn a loaded batch, already on its device, into what networks take."""
        label = batch["label"]
        image = prepare(batch["image"], self.size, self.preprocess)
        return {"image": image, "gaze": label[:, :2], "head": label[:, 2:4]}


class PairBatches(_Rows):
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
        declaration: Declaration | None = None,
        inputs: Mapping[str, FaceInput] | None = None,
        **kwargs,
    ):
        """Bind the rows; see :class:`_Rows`.

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

        Raises:
            ValueError: no person has two labelled pictures, and targets have to be labelled; no
                picture that could be a source has all inputs; or an input and ``flip`` go
                together of which nothing is known for mirrored pictures.
        """
        pseudo = labels is not None
        chosen = None
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
        self._place = np.full(len(reader), -1, np.int32)
        self._place[self.rows] = np.arange(len(self.rows))
        self._whole = self._with_inputs(inputs or {})
        held = {
            kind: _Held(one, self.rows, self._place) if one.in_memory else one
            for kind, one in (inputs or {}).items()
        }
        self.builder = BatchBuilder(
            self.size,
            declaration or Declaration(),
            held,
            lambda rows: self._patches(self._place[rows]),
        )

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

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step`` as it is stored, for :meth:`finish`.

        A person with one picture is paired with itself.
        """
        sources, targets, flips = [], [], []
        for position in self._positions(step):
            rng = np.random.default_rng([self.seed, 2, int(position)])
            source = self._visited(position)
            sources.append(source)
            targets.append(self._partner(source, rng))
            flips.append(self.flip and rng.random() < 0.5)
        loaded = {}
        for side, places in (("source", np.array(sources)), ("target", np.array(targets))):
            loaded |= self.builder.load(side, self.rows[places], self._table[places])
        loaded["target_labelled"] = torch.from_numpy(self._labelled[np.array(targets)])
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
        return self.builder.finish({k: v for k, v in batch.items() if k != "flip"}, flip)


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
