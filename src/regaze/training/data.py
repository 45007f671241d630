"""Training batches that depend on (seed, step) alone, so that training resumes exactly.

Processes take consecutive parts of each batch: their union is the batch of a single process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from regaze.estimators.preprocess import prepare
from regaze.faces import FacesReader
from regaze.images import reduce_patches
from regaze.jobs import asked_memory, replacing
from regaze.provenance import content_hash
from regaze.redirectors.face_codes import FaceCodes
from regaze.resources import patches_fault

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
            ValueError: none of the persons has rows, or the patches are to be held in memory and
                are more than the job asks for.
        """
        self.reader, self.size, self.batch = reader, size, batch
        self.seed, self.rank, self.world = seed, rank, world
        self.rows = reader.rows(persons)
        if len(self.rows) == 0:
            paths = ", ".join(reader.paths)
            raise ValueError(f"{paths}: no rows for the {len(persons)} persons asked for")
        if chosen is not None:
            self.rows = self.rows[chosen]
        asked = asked_memory() if cache == "memory" else None
        if fault := patches_fault(len(self.rows), reader.patch_size or (0, 0), asked):
            raise ValueError(fault)
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

    def _labels(self, places: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self._table[places])


class ImageBatches(_Rows):
    """Single images with their labels, for estimators."""

    def __init__(self, *args, preprocess: str = "none", **kwargs):
        """Bind the rows; see :class:`_Rows`. ``preprocess`` is the estimator's."""
        super().__init__(*args, **kwargs)
        self.preprocess = preprocess

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step``: ``image`` (B,H,W,3) uint8, ``label`` (B,4) radians."""
        places = np.array([self._visited(p) for p in self._positions(step)])
        return {"image": self._patches(places), "label": self._labels(places)}

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
        codes: FaceCodes | None = None,
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
            codes: 3-D codes of ``reader``, for methods that are told them. Pictures without a code
                are never drawn. Those of all rows are held in memory, 624 bytes per row with the
                usual parts.

        Raises:
            ValueError: no person has two labelled pictures, and targets have to be labelled; no
                picture that could be a source has a code; or codes and ``flip`` go together, which
                they do not, since codes of mirrored faces are not known.
        """
        pseudo = labels is not None
        chosen = None
        if labelled is not None and not pseudo and targets == "labelled":
            chosen = _paired(reader, persons, labelled)
        super().__init__(reader, persons, chosen=chosen, **kwargs)
        self.same_head_fraction, self.flip = same_head_fraction, flip
        self._known = np.ones(len(self.rows), bool)
        if labelled is not None and chosen is None:
            self._known = np.isin(np.arange(len(self.rows)), labelled)
        if pseudo:
            self._table = np.asarray(labels, np.float32)
        elif not self._known.all():
            self._table = np.where(self._known[:, None], self._table, np.float32(0))
            self._visits = np.flatnonzero(self._known)
            self.same_head_fraction = 0.0
        people = self.reader.person_of[self.rows]
        # Rows come person by person, so each person is one run of places.
        starts = np.flatnonzero(np.diff(people, prepend=-1))
        ends = np.append(starts[1:], len(people))
        run = np.repeat(np.arange(len(starts)), ends - starts)
        self._first, self._end = starts[run], ends[run]
        # Estimates of one pose differ, labels of a held pose do not.
        self._same_head = np.deg2rad(_SAME_ESTIMATE if pseudo else _SAME_LABEL)
        self._coded = self._codes = None
        if codes is not None:
            self._tell(codes)

    def _tell(self, codes: FaceCodes) -> None:
        """Hold the codes of the rows, and pass over rows without one."""
        if self.flip:
            raise ValueError("flip: codes of mirrored faces are not known; expected false")
        self._coded = codes.detected[self.rows]
        self._visits = self._visits[self._coded[self._visits]]
        if not len(self._visits):
            paths = ", ".join(self.reader.paths)
            raise ValueError(f"{paths}: no face has a 3-D code to train with")
        self._codes = codes.read(self.rows)

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step``.

        Returns:
            ``source`` and ``target`` (B,H,W,3) uint8; ``source_label`` and ``target_label`` (B,4)
            radians; ``target_labelled`` and ``flip`` (B,) bool. A person with one picture is paired
            with itself. With codes also ``source_code`` and ``target_code`` (B,Dc) float32.
        """
        sources, targets, flips = [], [], []
        for position in self._positions(step):
            rng = np.random.default_rng([self.seed, 2, int(position)])
            source = self._visited(position)
            sources.append(source)
            targets.append(self._partner(source, rng))
            flips.append(self.flip and rng.random() < 0.5)
        return self._pictures(np.array(sources), np.array(targets), flips)

    def _pictures(
        self, sources: np.ndarray, targets: np.ndarray, flips: list[bool]
    ) -> dict[str, torch.Tensor]:
        told = {}
        if self._codes is not None:
            for side, places in (("source", sources), ("target", targets)):
                told[f"{side}_code"] = torch.from_numpy(self._codes[places])
        return told | {
            "source": self._patches(sources),
            "target": self._patches(targets),
            "source_label": self._labels(sources),
            "target_label": self._labels(targets),
            "target_labelled": torch.from_numpy(self._known[targets]),
            "flip": torch.tensor(flips),
        }

    def _partner(self, source: int, rng: np.random.Generator) -> int:
        others = np.arange(self._first[source], self._end[source])
        others = others[others != source]
        if self._coded is not None:
            others = others[self._coded[others]]
        if rng.random() < self.same_head_fraction:
            apart = np.abs(self._table[others, 2:4] - self._table[source, 2:4])
            same = (apart < self._same_head).all(1)
            others = others[same] if same.any() else others
        return int(others[rng.integers(len(others))]) if len(others) else source

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turn a loaded batch, already on its device, into what redirectors take."""
        flip = batch["flip"]
        whole = ("target_labelled", "source_code", "target_code")
        done = {name: batch[name] for name in whole if name in batch}
        for side in ("source", "target"):
            image = reduce_patches(batch[side], self.size)
            label = batch[f"{side}_label"]
            if self.flip:
                image = torch.where(flip[:, None, None, None], image.flip(-1), image)
                mirrored = label * label.new_tensor([1, -1, 1, -1])
                label = torch.where(flip[:, None], mirrored, label)
            done[side] = image
            done[f"{side}_gaze"], done[f"{side}_head"] = label[:, :2], label[:, 2:4]
        return done


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
