"""Inversions of the faces that are learnt from: their files, and the stage that writes them.

An inversions HDF5 goes with a faces file. Persons of the lists that trainings read have a group
whose rows are those of the faces; of others there is nothing. Axis 1 is the face as it is and
mirrored, since encoders do not commute with mirrors.

============ ============================ =================================================
``pictures`` (N, 2, S, S, 3) uint8        the face as the generator draws its code
``codes``    (N, 2, 2, code) float32      flat codes: the face's, then its inversion's, both
                                          from the average code
============ ============================ =================================================

File attributes: ``inverter`` (fingerprint of its weights), ``size_px``, ``code``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from regaze.faces import COMPRESSION, FacesReader
from regaze.hdf5 import ShardWriter
from regaze.images import reduce_patches, to_uint8
from regaze.provenance import fingerprint
from regaze.redirectors.inversion.redirector import Inversion
from regaze.redirectors.networks import load_redirector
from regaze.training.labels import SHARED

LISTS = (SHARED, "val")
"""Lists of the split whose persons have inversions: those of trainings and their validation."""


class InversionsWriter(ShardWriter):
    """Write one shard of inversions.

    Args:
        path: the HDF5 file.
        inverter: fingerprint of the weights.
        size_px: side of the pictures.
        code: numbers of a code.
    """

    def __init__(self, path: str | os.PathLike, *, inverter: str, size_px: int, code: int):
        self._size, self._code = size_px, code
        super().__init__(path, {"inverter": inverter, "size_px": size_px, "code": code})

    def parts(self, faces: FacesReader, persons: Sequence[str], most: int) -> Iterator[np.ndarray]:
        """Start each of ``persons`` in turn and yield its rows of ``faces``, ``most`` at a time.

        The inversions of what was yielded are to be added before the next.
        """
        picture = (2, self._size, self._size, 3)
        for person in persons:
            rows = faces.rows([person])
            group = self._file.create_group(person)
            # HDF5 has no chunks larger than their data
            options = {"chunks": (1, *picture), **COMPRESSION} if len(rows) else {}
            group.create_dataset("pictures", (len(rows), *picture), np.uint8, **options)
            group.create_dataset("codes", (len(rows), 2, 2, self._code), np.float32)
            self._group, self._next = group, 0
            for start in range(0, len(rows), most):
                yield rows[start : start + most]

    def add(self, pictures: np.ndarray, codes: np.ndarray) -> None:
        """Write the next rows of the person: (n, 2, S, S, 3) uint8, (n, 2, 2, code) float32."""
        rows = slice(self._next, self._next + len(pictures))
        self._group["pictures"][rows], self._group["codes"][rows] = pictures, codes
        self._next = rows.stop


def invert_shard(
    faces: str | os.PathLike,
    split: str | os.PathLike,
    folder: str | os.PathLike,
    out: str | os.PathLike,
    *,
    batch: int = 16,
) -> int:
    """Write the inversions of the faces of one shard that are learnt from.

    Memory holds ``batch`` faces, twice, and what networks need for them.

    Args:
        faces: faces HDF5.
        split: split JSON; persons of :data:`LISTS` are inverted.
        folder: model folder of the inverter.
        out: the HDF5 file.
        batch: faces at a time; no influence on the result beyond rounding.

    Returns:
        How many rows have inversions.

    Raises:
        FileNotFoundError, ValueError: the inverter cannot be used.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inverter, record = load_redirector(folder, device=device)
    if not isinstance(inverter, Inversion):
        found = record["config"]["class"]
        raise ValueError(f"{folder}: class: expected inversion, found {found!r}")
    reader, lists = FacesReader(faces), json.loads(Path(split).read_text(encoding="utf-8"))
    known = {person for name in LISTS for person in lists.get(name, ())}
    persons = [person for person in reader.persons if person in known]
    size, code = record["config"]["size_px"], inverter.saved.latent_avg.numel()
    told = {"inverter": fingerprint(Path(folder) / "model.safetensors"), "code": code}
    with InversionsWriter(out, size_px=size, **told) as writer:
        for rows in writer.parts(reader, persons, batch):
            images = reduce_patches(torch.as_tensor(reader.pixels(rows)).to(device), size)
            # (n, 2, ...) flat: each face beside its mirror.
            both = torch.stack([images, images.flip(-1)], 1).flatten(0, 1)
            own = inverter.code(both)
            seen = inverter.inverted(both, own)
            codes = torch.stack([own, inverter.code(seen)], 1).unflatten(0, (-1, 2))
            pictures = to_uint8(seen).reshape(len(rows), 2, size, size, 3)
            writer.add(pictures, codes.cpu().numpy())
    return len(reader.rows(persons))
