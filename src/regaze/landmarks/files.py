"""The landmarks file of a shard: a group per person, rows aligned across its datasets.

``file_name`` (N,) text; ``landmarks`` (N, 68, 2) float32 pixels of the photo, NaN when not found;
``score`` (N,) float32 mean landmark confidence; ``box`` (N, 4) float32 left, top, right, bottom;
``box_score`` (N,) float32; ``faces_found`` (N,) int32; ``status`` (N,) text, "" or why there are
no landmarks. Attributes of the file name the detector, its version and its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from regaze.faces import COMPRESSION
from regaze.jobs import replacing
from regaze.landmarks.base import LANDMARKS
from regaze.normalise.photo import printable
from regaze.sources.records import SourceError, safe_name

_COLUMNS = {"landmarks": (LANDMARKS, 2), "score": ()}


def usable_group(name: str) -> bool:
    """Return whether a person's name can be the name of an HDF5 group."""
    bad = name in ("", ".", "..") or "/" in name or "\0" in name
    return not bad and name == printable(name)


def name_problem(file_name: str) -> str:
    """Return ``bad_file_name`` for names that leave the data set's root or are not UTF-8."""
    return "" if safe_name(file_name) and file_name == printable(file_name) else "bad_file_name"


@contextmanager
def new_file(path: str | Path, attributes: Mapping[str, object]) -> Iterator[h5py.File]:
    """Yield an HDF5 file for writing that gets its name only when the block ends well."""
    with replacing(path) as part, h5py.File(part, "w") as file:
        for key, value in sorted(attributes.items()):
            file.attrs[key] = value
        yield file


def write_person(file: h5py.File, person: str, columns: Mapping[str, object]) -> h5py.Group:
    """Write rows of one person; sequences of text become UTF-8, arrays keep their type."""
    group = file.create_group(person)
    for key, values in columns.items():
        if isinstance(values, np.ndarray):
            options = COMPRESSION if values.size else {}
            group.create_dataset(key, data=values, **options)
        else:
            texts = [printable(str(value)).encode() for value in values]
            group.create_dataset(key, data=np.array(texts, dtype=h5py.string_dtype()))
    return group


def read_attributes(path: str | Path) -> dict[str, object]:
    """Return the attributes of a landmarks file."""
    with _opened(path) as file:
        return dict(file.attrs)


def read_landmarks(
    path: str | Path, person: str, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return landmarks (N, 68, 2) float64, scores (N,) float64 and status words of one person.

    Args:
        path: the landmarks file.
        person: the person's name.
        names: the file names that the data set has now, which the file must have been made from.

    Raises:
        SourceError: the person or a dataset is missing or has another shape, or the file was made
            from other photos.
    """
    where = f"{path}: person {person}"
    with _opened(path) as file:
        if not usable_group(person) or not isinstance(group := file.get(person), h5py.Group):
            raise SourceError(f"{where}: expected a group, found none", "missing_person", names)
        texts = {key: _texts(where, group, key, names) for key in ("file_name", "status")}
        if texts["file_name"] != [printable(name) for name in names]:
            raise SourceError(
                f"{where}: file_name: expected the {len(names)} photos of the data set, found "
                f"{len(texts['file_name'])} names that differ; make the landmarks again",
                "stale_landmarks",
                names,
            )
        values = {}
        for key, shape in _COLUMNS.items():
            item = group.get(key)
            if not isinstance(item, h5py.Dataset) or item.shape != (len(names), *shape):
                found = getattr(item, "shape", "none")
                raise SourceError(
                    f"{where}: {key}: expected shape {(len(names), *shape)}, found {found}",
                    "bad_shape",
                    names,
                )
            values[key] = item[()].astype(np.float64)
    return values["landmarks"], values["score"], texts["status"]


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SourceError(f"{path}: expected a landmarks file, found another ({error})") from error
    with file:
        yield file


def _texts(where: str, group: h5py.Group, key: str, names: Sequence[str]) -> list[str]:
    item = group.get(key)
    if not isinstance(item, h5py.Dataset) or h5py.check_string_dtype(item.dtype) is None:
        raise SourceError(f"{where}: {key}: expected text, found none", "missing_key", names)
    return [value.decode("utf-8", "backslashreplace") for value in item[()]]
