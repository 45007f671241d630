"""Inversions of a data set's faces as an input of trainings, which then invert nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike

import h5py
import numpy as np
import torch
from torch import Tensor

from regaze.faces import FacesReader
from regaze.hdf5 import hdf5_file, open_hdf5
from regaze.images import reduce_patches
from regaze.outputs import several
from regaze.provenance import fingerprint
from regaze.redirectors.inversion.shards import InversionsWriter

CODES_OF = ("picture", "inversion")
"""Whose code ``offsets`` are, in the order of the files."""
_HELD_BYTES = 512 << 20


class InversionsError(ValueError):
    """Inversions that cannot be used; the message names the file and what was expected."""


class InversionRows:
    """Inversions of the faces of a data set; an input, see :mod:`regaze.redirectors.inputs`.

    The object pickles without its open files, and a forked process opens its own.

    Args:
        options: ``size_px`` and ``code``, which the files have to have, and ``of``, one of
            :data:`CODES_OF`.
        files: shards of the data set's inversions.
        faces: its faces; rows are numbered as there.
        expect: the ``inverter`` that they must be of; None takes any.

    Attributes:
        known: (N,) bool, rows that were inverted.
        identity: ``inverter``, the fingerprint of its weights.
        in_memory: whether they are few enough to be held by trainings.

    Raises:
        FileNotFoundError: a path does not exist.
        InversionsError: a file is something else, is of another inverter or of other sizes, or has
            other rows than the faces.
    """

    columns = ("inverted", "offsets")

    def __init__(
        self,
        options: Mapping,
        files: Sequence[str | PathLike],
        faces: FacesReader,
        expect: Mapping[str, str] | None = None,
    ):
        self._files, self._faces = [str(path) for path in several(files)], faces
        self._size, self._code = options["size_px"], options["code"]
        self._of = CODES_OF.index(options["of"])
        self._home: dict[str, str] = {}
        found = {path: self._scanned(path) for path in self._files}
        self.identity = {"inverter": next(iter(found.values()))}
        for path, inverter in found.items():
            wanted = self.identity if expect is None else dict(expect)
            if {"inverter": inverter} != wanted:
                raise InversionsError(
                    f"{path}: inverter: expected {wanted['inverter']}, found {inverter}"
                )
        there = np.array([person in self._home for person in faces.persons], bool)
        self.known = there[faces.person_of] if len(faces) else np.zeros(0, bool)
        row = 2 * (3 * self._size**2 + 4 * self._code)
        self.in_memory = bool(self.known.sum() * row <= _HELD_BYTES)
        self._close()

    def __getstate__(self):
        return {**self.__dict__, "_open": {}, "_process": None}

    def _scanned(self, path: str) -> str:
        words = {"missing": "no such inversions file", "kind": InversionsError}
        with open_hdf5(path, "expected an HDF5 file of inversions", **words) as file:
            told = dict(file.attrs)
            wanted = {"size_px": self._size, "code": self._code}
            for name, value in {"inverter": None, **wanted}.items():
                if name not in told or value not in (None, told[name]):
                    raise InversionsError(
                        f"{path}: {name}: expected {value or 'a fingerprint'}, found "
                        f"{told.get(name, 'none')}"
                    )
            for person, group in file.items():
                self._check(path, person, group)
                self._home[person] = path
            return str(told["inverter"])

    def _check(self, path: str, person: str, group) -> None:
        if person in self._home:
            raise InversionsError(f"{path}: person {person} is already in {self._home[person]}")
        count = self._faces.count(person)
        shapes = {
            "pictures": (count, 2, self._size, self._size, 3),
            "codes": (count, 2, 2, self._code),
        }
        for name, shape in shapes.items():
            item = group.get(name) if isinstance(group, h5py.Group) else None
            if not isinstance(item, h5py.Dataset) or item.shape != shape:
                found = "none" if item is None else getattr(item, "shape", "a group")
                raise InversionsError(
                    f"{path}: {person}/{name}: expected {shape} as the faces have rows, found "
                    f"{found}"
                )

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``inverted`` (n, 2, S, S, 3) uint8 and ``offsets`` (n, 2, code) float32 of rows.

        Axis 1 is the face as it is and mirrored. Zeros for rows that were not inverted.
        """
        if self._process != os.getpid():
            self._close()
        rows = np.asarray(rows, np.int64)
        pictures = np.zeros((len(rows), 2, self._size, self._size, 3), np.uint8)
        codes = np.zeros((len(rows), 2, self._code), np.float32)
        for place, row in enumerate(rows.tolist()):
            person = self._faces.persons[self._faces.person_of[row]]
            if person not in self._home:
                continue
            path, own = self._home[person], int(self._faces.row_of[row])
            if path not in self._open:
                self._open[path] = hdf5_file(path)
            group = self._open[path][person]
            pictures[place] = group["pictures"][own]
            codes[place] = group["codes"][own, :, self._of]
        return {"inverted": torch.from_numpy(pictures), "offsets": torch.from_numpy(codes)}

    def _close(self) -> None:
        self._process = os.getpid()
        self._open: dict[str, h5py.File] = {}

    def fingerprint(self) -> str:
        """Return 16 hex digits over the files."""
        return fingerprint(*self._files)

    @staticmethod
    def write_example(
        path: str | PathLike, options: Mapping, faces: FacesReader, known: np.ndarray
    ) -> None:
        """Write noise of all rows of the persons with a known one, the mirrored as its mirror.

        See :class:`regaze.redirectors.inputs.FaceInput`; files know persons whole or not at all.
        """
        rng = np.random.default_rng(0)
        size, code = options["size_px"], options["code"]
        persons = [one for one in faces.persons if known[faces.rows([one])].any()]
        with InversionsWriter(path, inverter="example", size_px=size, code=code) as writer:
            for rows in writer.parts(faces, persons, len(faces)):
                pictures = rng.integers(0, 256, (len(rows), 2, size, size, 3), np.uint8)
                pictures[:, 1] = pictures[:, 0, :, ::-1]
                codes = 0.3 * rng.standard_normal((len(rows), 2, 2, code))
                codes[:, 1] = codes[:, 0]
                writer.add(pictures, codes.astype(np.float32))

    @staticmethod
    def finish(values: Tensor, size_px: int, flip: Tensor | None) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] or codes (B, code) of (B, 2, ...).

        ``flip`` (B,) bool says of which the mirrored face is taken; None: of none.
        """
        chosen = values[:, 0]
        if flip is not None:
            wide = flip.reshape(-1, *[1] * (values.ndim - 2))
            chosen = torch.where(wide, values[:, 1], chosen)
        return reduce_patches(chosen, size_px) if values.dtype == torch.uint8 else chosen
