"""Masks of face patches: what is head, what is eye, and which part every pixel belongs to.

A masks HDF5 goes with a faces file: a group per person whose rows are those of the faces.

=============== ================= ==========================================================
``segmentation`` (N, H, W) uint8   number of the part, see :data:`NAMES`
``head``         (N, H, W) bool    any part of the head: :data:`HEAD`
``eyes``         (N, H, W) bool    the visible eyeballs: :data:`EYES`
``valid``        (N,) bool         False where the face was not found; the masks are blank then
=============== ================= ==========================================================

File attributes: ``names`` (JSON list, the name of every number), ``told_apart`` (JSON list, the
parts that the method knows; what it does not know counts to the part around it), ``method``
(``exact``, ``released``, ``mesh`` or ``parsing``), ``method_version`` (what it was made with),
``patch_size``.
Left and right are the subject's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

import h5py
import numpy as np

from regaze.faces import COMPRESSION, FacesReader
from regaze.hdf5 import ShardWriter, hdf5_file, open_hdf5
from regaze.outputs import several

NAMES = (
    "background", "skin", "hair", "left_eye", "right_eye", "clothes", "glasses", "lips", "neck",
    "ears", "mouth", "brows", "nose", "hat",
)  # fmt: skip
"""Parts by number. The first seven are those of the rendered photos; ``mouth`` is the inside of
an open one."""

NUMBER = {name: number for number, name in enumerate(NAMES)}

EYES = ("left_eye", "right_eye")

HEAD = ("skin", "hair", *EYES, "glasses", "lips", "ears", "mouth", "brows", "nose")
"""Parts of the head, as ``xcatliu/GazeNeRF`` and HeadNeRF cut it out: without neck, clothes, hat.
Where a method cannot tell the neck from the skin, the visible neck is in the head."""


# Datasets of pictures and the types of their pixels.
_KINDS = {"segmentation": np.uint8, "head": bool, "eyes": bool}


class MasksError(ValueError):
    """Masks that cannot be made or used; the message names the file and what was expected."""


def _lookup(names: Sequence[str]) -> np.ndarray:
    table = np.zeros(256, bool)
    table[[NUMBER[name] for name in names]] = True
    return table


_IS_HEAD, _IS_EYE = _lookup(HEAD), _lookup(EYES)


def derive(segmentation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head and eyes, bool of the same shape, of part numbers (uint8)."""
    return _IS_HEAD[segmentation], _IS_EYE[segmentation]


class MasksWriter(ShardWriter):
    """Write one shard of masks.

    Args:
        path: the HDF5 file.
        method: ``exact``, ``released``, ``mesh`` or ``parsing``.
        version: what the masks were made with: a checkpoint's or an encoder's SHA-256, or a word.
        told_apart: names of the parts that the method knows.
        patch_size: (width, height) of the patches.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        method: str,
        version: str,
        told_apart: Sequence[str],
        patch_size: tuple[int, int],
    ):
        self.patch_size = tuple(patch_size)
        attributes = {
            "names": json.dumps(NAMES),
            "told_apart": json.dumps([name for name in NAMES if name in told_apart]),
            "method": method,
            "method_version": version,
            "patch_size": self.patch_size,
        }
        super().__init__(path, attributes)

    def start_person(self, person: str, count: int) -> None:
        """Make room for ``count`` rows of a person; :meth:`add` fills them in order."""
        width, height = self.patch_size
        group = self._file.create_group(person)
        # HDF5 has no chunks larger than their data
        options = {"chunks": (1, height, width), **COMPRESSION} if count else {}
        for name, kind in _KINDS.items():
            group.create_dataset(name, (count, height, width), kind, **options)
        group.create_dataset("valid", (count,), bool)
        self._group, self._next = group, 0

    def parts(self, faces: FacesReader, most: int) -> Iterator[np.ndarray]:
        """Start every person of ``faces`` in turn and yield its row numbers, ``most`` at a time.

        The masks of what was yielded are to be added before the next.
        """
        for person in faces.persons:
            rows = faces.rows([person])
            self.start_person(person, len(rows))
            for start in range(0, len(rows), most):
                yield rows[start : start + most]

    def add(self, segmentation: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Write the next rows (n, H, W) uint8 of the person; ``valid`` (n,), by default all."""
        rows = slice(self._next, self._next + len(segmentation))
        head, eyes = derive(segmentation)
        for name, values in (("segmentation", segmentation), ("head", head), ("eyes", eyes)):
            self._group[name][rows] = values
        self._group["valid"][rows] = True if valid is None else valid
        self._next = rows.stop


class MasksReader:
    """Masks of a data set under the row numbers of its faces; read on demand.

    The object pickles without its open files, and a forked process opens its own.

    Args:
        paths: the shards, or one file.
        faces: the faces that the masks belong to.

    Attributes:
        attributes: those of the first file.
        valid: (N,) bool.

    Raises:
        FileNotFoundError: a path does not exist.
        MasksError: a file is no HDF5 or has other parts, a person lacks a dataset or is in two
            files, or persons, rows or patch size differ from the faces.
    """

    def __init__(self, paths: str | os.PathLike | Sequence[str | os.PathLike], faces: FacesReader):
        self.paths = [str(path) for path in several(paths)]
        self.faces = faces
        self.attributes: dict = {}
        self._close()
        self._home: dict[str, str] = {}
        valid: dict[str, np.ndarray] = {}
        for path in self.paths:
            with _open(path) as file:
                self.attributes = self.attributes or _attributes(path, file)
                for person in file:
                    if person in self._home:
                        other = self._home[person]
                        raise MasksError(f"{path}: person {person} is already in {other}")
                    self._home[person] = path
                    valid[person] = _checked(path, person, file[person], faces)
        persons = [person for person in faces.persons if faces.count(person)]
        for person in persons:
            if person not in valid:
                raise MasksError(
                    f"{', '.join(self.paths)}: person {person}: expected masks, found none"
                )
        self.valid = np.concatenate([np.zeros(0, bool), *(valid[person] for person in persons)])

    def __len__(self) -> int:
        return len(self.valid)

    def __getstate__(self):
        return {**self.__dict__, "_files": {}, "_process": None}

    def read(self, rows, names: Sequence[str] = tuple(_KINDS)) -> dict[str, np.ndarray]:
        """Masks (n, H, W) of global rows of the faces, in the order asked for.

        Raises:
            OSError: a file cannot be read any more.
        """
        if self._process != os.getpid():
            self._close()
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        width, height = self.faces.patch_size or (0, 0)
        out = {n: np.zeros((len(rows), height, width), _KINDS[n]) for n in names}
        for place, row in enumerate(rows.tolist()):
            person = self.faces.persons[self.faces.person_of[row]]
            path = self._home[person]
            if path not in self._files:
                self._files[path] = hdf5_file(path, rdcc_nbytes=0)
            group = self._files[path][person]
            for name in names:
                out[name][place] = group[name][int(self.faces.row_of[row])]
        return out

    def _close(self) -> None:
        self._process = os.getpid()
        self._files: dict[str, h5py.File] = {}


def _open(path: str) -> h5py.File:
    words = {"missing": "no such masks file", "kind": MasksError}
    return open_hdf5(path, "expected an HDF5 file of masks", **words)


def _attributes(path: str, file: h5py.File) -> Mapping[str, object]:
    found = {name: file.attrs[name] for name in file.attrs}
    if found.get("names") != json.dumps(NAMES):
        raise MasksError(f"{path}: names: expected {json.dumps(NAMES)}, found {found.get('names')}")
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in found.items()}


def _checked(path: str, person: str, group, faces: FacesReader) -> np.ndarray:
    """Check one group and return its ``valid``."""
    width, height = faces.patch_size or (0, 0)
    count = faces.count(person)
    for name, kind in {**_KINDS, "valid": bool}.items():
        shape = (count,) if name == "valid" else (count, height, width)
        item = group.get(name) if isinstance(group, h5py.Group) else None
        if not isinstance(item, h5py.Dataset) or item.shape != shape or item.dtype != kind:
            found = "none" if item is None else f"{item.shape} {item.dtype}"
            raise MasksError(
                f"{path}: {person}/{name}: expected {shape} {np.dtype(kind)} as the faces have "
                f"rows, found {found}"
            )
    return group["valid"][:]
