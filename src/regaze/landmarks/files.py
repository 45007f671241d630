"""The landmarks file of a shard: a group per person, rows aligned across its datasets.

``file_name`` (N,) text; ``landmarks`` (N, 68, 2) float32 pixels of the photo, NaN when not found;
``score`` (N,) float32 mean landmark confidence; ``box`` (N, 4) float32 left, top, right, bottom;
``box_score`` (N,) float32; ``irises`` (N, 2, 5, 2) float32 pixels, the person's right and left,
centres first, NaN where the detector knows none; ``faces_found`` (N,) int32; ``status`` (N,) text,
"" or why there are no landmarks. Attributes of the file name the detector, its version and weights.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from regaze.faces import COMPRESSION
from regaze.landmarks.base import LANDMARKS
from regaze.outputs import replacing
from regaze.sources.hdf5 import opened
from regaze.sources.records import SourceError, losing, printable, safe_name
from regaze.sources.supplementary import file_names, number_rows, person_group, text_rows

log = logging.getLogger(__name__)

_COLUMNS = {"landmarks": (LANDMARKS, 2), "score": ()}


def usable_group(name: str) -> bool:
    """Return whether a person's name can be the name of an HDF5 group."""
    bad = name in ("", ".", "..") or "/" in name or "\0" in name
    return not bad and name == printable(name)


def usable_persons(persons: Iterable[str]) -> Iterator[str]:
    """Yield the persons in order; the log tells whose name cannot be that of a group.

    Normalisation refuses such a person by name, so that its rows are counted there.
    """
    for person in sorted(persons):
        if usable_group(person):
            yield person
        else:
            log.warning("person %r left out: no name for an HDF5 group", person)


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
    with opened(path) as file:
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
    where, names = f"{path}: person {person}", tuple(names)
    with losing(names), opened(path, where) as file:
        if not usable_group(person):
            raise SourceError(f"{where}: expected a group, found none", "missing_person")
        _, group = person_group(path, file, person)
        found = file_names(where, group)
        if found != tuple(printable(name) for name in names):
            raise SourceError(
                f"{where}: file_name: expected the {len(names)} photos of the data set, found "
                f"{len(found)} names that differ; make the landmarks again",
                "stale_landmarks",
            )
        status = text_rows(where, group, "status", len(names))
        values = {
            key: number_rows(where, group, key, (shape,), len(names))
            for key, shape in _COLUMNS.items()
        }
    return values["landmarks"], values["score"], list(status)
