"""Folders of LMDB, as other projects keep their data in, for what is exchanged with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

_MAP_BYTES = 1 << 40


def new_folder(out: str | PathLike) -> Path:
    """A folder to write to, which is not made yet.

    Raises:
        ValueError: it has something in it.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a folder that is new or empty; choose another")
    return folder


@contextmanager
def writing_to(folder: Path) -> Iterator:
    """An environment of a folder, to write in transactions."""
    import lmdb

    with lmdb.open(str(folder), map_size=_MAP_BYTES) as env:
        yield env


@contextmanager
def reading_from(folder: Path) -> Iterator:
    """A transaction that reads.

    Raises:
        FileNotFoundError: there is no LMDB.
    """
    import lmdb

    if not (folder / "data.mdb").is_file():
        raise FileNotFoundError(f"{folder}: expected an LMDB with data.mdb, found none")
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as reading:
        yield reading
