"""Ways to damage HDF5 files and single datasets of them; used by the catalogues of the layouts."""

import os
import shutil
import zlib
from contextlib import contextmanager

import h5py
import numpy as np


@contextmanager
def _edited(path):
    with h5py.File(path, "r+") as file:
        yield file


def replaced(make):
    """A damage of one dataset: ``make(parent, name, values)`` writes another in its place."""

    def apply(path, key):
        with _edited(path) as file:
            values = file[key][()]
            parent, name = file[key].parent, key.rsplit("/", 1)[-1]
            del parent[name]
            make(parent, name, values)

    return apply


def valued(change):
    """A damage of one dataset: its values after ``change(values)``, which may return others."""

    def make(parent, name, values):
        values = np.array(values)
        changed = change(values)
        parent[name] = values if changed is None else changed

    return replaced(make)


def first(value, *place):
    """A damage of one dataset: ``value`` in its first row, at ``place`` of it or everywhere."""

    def change(values):
        values = values.astype(np.float64) if values.dtype.kind in "fiu" else values
        values[(0, *place)] = value
        return values

    return valued(change)


def _nothing(parent, name, values):
    pass


def _group(parent, name, values):
    parent.create_group(name)["values"] = values


def _soft(parent, name, values):
    parent[name + "-there"] = values
    parent[name] = h5py.SoftLink(f"{parent.name}/{name}-there")


def _soft_loop(parent, name, values):
    parent[name] = h5py.SoftLink(f"{parent.name}/{name}")


def _external(parent, name, values):
    other = parent.file.filename + ".other"
    with h5py.File(other, "w") as file:
        file["values"] = values
    parent[name] = h5py.ExternalLink(other, "values")


def _virtual(parent, name, values):
    other = parent.file.filename + ".other"
    with h5py.File(other, "w") as file:
        file["values"] = values
    layout = h5py.VirtualLayout(shape=values.shape, dtype=values.dtype)
    layout[...] = h5py.VirtualSource(other, "values", shape=values.shape)
    parent.create_virtual_dataset(name, layout)


def _elsewhere(parent, name, values):
    other = parent.file.filename + ".raw"
    with open(other, "wb") as file:
        file.write(bytes(values.nbytes))
    parent.create_dataset(
        name, values.shape, values.dtype, external=[(other, 0, h5py.h5f.UNLIMITED)]
    )


def _objects(parent, name, values):
    shape = (*values.shape[:1], *(min(side, 2) for side in values.shape[1:]))
    parent.create_dataset(name, shape, h5py.ref_dtype)[...] = parent.ref


def _variable(parent, name, values):
    data = parent.create_dataset(name, (len(values),), h5py.vlen_dtype(np.float64))
    for row in range(len(values)):
        data[row] = np.zeros(row + 1)


def _opaque(parent, name, values):
    parent.create_dataset(name, data=np.zeros(values.shape, "V16"))


def _compound(parent, name, values):
    parent.create_dataset(name, data=np.zeros(values.shape, [("x", "f8"), ("y", "f8")]))


def _chunked(parent, name, values, **how):
    return parent.create_dataset(
        name, values.shape, values.dtype, chunks=(1, *values.shape[1:]), **how
    )


def _chunk_missing(parent, name, values):
    _chunked(parent, name, values)[1:] = values[1:]


def _checksum(parent, name, values):
    data = _chunked(parent, name, values, fletcher32=True)
    data[...] = values
    row = (0,) * values.ndim
    _, stored = data.id.read_direct_chunk(row)
    spoiled = bytearray(stored)
    spoiled[0] ^= 0xFF
    data.id.write_direct_chunk(row, bytes(spoiled))


def _unknown_filter(parent, name, values):
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_chunk((1, *values.shape[1:]))
    # optional to the writer; a chunk that claims to have gone through it cannot be read
    create.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, ())
    space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
    data = h5py.Dataset(h5py.h5d.create(parent.id, name.encode(), kind, space, create))
    data[1:] = values[1:]
    data.id.write_direct_chunk((0,) * values.ndim, values[0].tobytes())


def _deflate_junk(parent, name, values):
    data = _chunked(parent, name, values, compression="gzip")
    data[1:] = values[1:]
    data.id.write_direct_chunk((0,) * values.ndim, b"\x78\x9cno deflated data")


def _bomb(parent, name, values):
    """A chunk of a megabyte that inflates to a gigabyte, where some bytes belong."""
    data = _chunked(parent, name, values, compression="gzip")
    data[1:] = values[1:]
    data.id.write_direct_chunk((0,) * values.ndim, gigabyte())


def gigabyte(megabytes=1024):
    """A gigabyte of zeros, deflated: a megabyte of them a thousand times over, and no checksum."""
    packer = zlib.compressobj(9)
    start = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + piece * megabytes


def _claims(rows):
    def make(parent, name, values):
        parent.create_dataset(name, (rows, *values.shape[1:]), values.dtype, chunks=True)

    return make


def _claims_flat(parent, name, values):
    parent.create_dataset(name, (10**9, *values.shape[1:]), values.dtype)


def _large_chunk(parent, name, values):
    side = (1 << 31) // max(values[0].nbytes, 1)
    parent.create_dataset(
        name,
        values.shape,
        values.dtype,
        maxshape=(None, *values.shape[1:]),
        chunks=(side, *values.shape[1:]),
        compression="gzip",
    ).id.write_direct_chunk((0,) * values.ndim, zlib.compress(values.tobytes()))


DATASETS = {
    "missing": replaced(_nothing),
    "a group": replaced(_group),
    "a soft link": replaced(_soft),
    "a soft link to itself": replaced(_soft_loop),
    "an external link": replaced(_external),
    "a virtual dataset": replaced(_virtual),
    "raw data of another file": replaced(_elsewhere),
    "object references": replaced(_objects),
    "variable length": replaced(_variable),
    "opaque": replaced(_opaque),
    "compound": replaced(_compound),
    "text": valued(lambda values: np.full(values.shape, b"1.0")),
    "booleans": valued(lambda values: np.zeros(values.shape, bool)),
    "complex": valued(lambda values: values.astype(complex)),
    "one row less": valued(lambda values: values[:-1]),
    "one row more": valued(lambda values: np.concatenate([values, values[:1]])),
    "no rows": valued(lambda values: values[:0]),
    "scalar": replaced(lambda parent, name, values: parent.create_dataset(name, data=1.0)),
    "null": replaced(lambda parent, name, values: parent.create_dataset(name, dtype="f8")),
    "one column less": valued(lambda values: values[..., :-1]),
    "no columns": valued(lambda values: values[..., :0]),
    "one axis more": valued(lambda values: values[..., None]),
    "a chunk missing": replaced(_chunk_missing),
    "a wrong checksum": replaced(_checksum),
    "an unknown filter": replaced(_unknown_filter),
    "junk for deflated data": replaced(_deflate_junk),
    "a chunk that inflates to 1 GB": replaced(_bomb),
    "claims 10^9 rows": replaced(_claims(10**9)),
    "claims 10^9 rows in one piece": replaced(_claims_flat),
    "chunks of 2 GiB": replaced(_large_chunk),
    "big endian": valued(lambda values: values.astype(values.dtype.newbyteorder(">"))),
}
"""name -> function of a file and the path of a dataset in it."""


def cut(share):
    """A damage of a file: only the first part is left."""

    def apply(path):
        with open(path, "r+b") as file:
            file.truncate(int(os.path.getsize(path) * share))

    return apply


def content(data):
    """A damage of a file: it holds ``data`` instead."""

    def apply(path):
        path.unlink()
        path.write_bytes(data)

    return apply


def userblock(path):
    """Harmless: 512 bytes of something else come first."""
    other = path.with_name("with-userblock")
    with h5py.File(path) as old, h5py.File(other, "w", userblock_size=512) as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    with other.open("r+b") as file:
        file.write(b"#!/bin/sh\n")
    shutil.move(other, path)


def as_folder(path):
    """A folder where the file should be."""
    path.unlink()
    path.mkdir()


def as_pipe(path):
    """A named pipe where the file should be, to which nobody writes."""
    path.unlink()
    os.mkfifo(path)


def spoiled(path):
    """Bytes in the middle of the file are others."""
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 3)
        file.write(np.random.default_rng([9]).bytes(os.path.getsize(path) // 3))


def superblock(path):
    """The file's end as its superblock states it lies far beyond it."""
    with open(path, "r+b") as file:
        file.seek(40)
        file.write((1 << 60).to_bytes(8, "little"))


FILES = {
    "cut in half": cut(0.5),
    "cut before the last byte": cut(0.999),
    "zero bytes": cut(0),
    "text": content(b"this is no HDF5\n" * 20),
    "only the signature": content(b"\x89HDF\r\n\x1a\n"),
    "bytes spoiled": spoiled,
    "another end": superblock,
    "a folder": as_folder,
    "a pipe": as_pipe,
    "missing": lambda path: path.unlink(),
}
"""name -> function of a file."""


def cycle(path, place="/", back="/"):
    """``back`` is found again below ``place``, as a hard link."""
    with _edited(path) as file:
        file[place]["again"] = file[back]
