"""Labels in upstream's supplementary HDF5: head poses, targets and cameras of photos.

The layout is the one that ``swook/faze_preprocess`` reads: a group per person with rows that are
aligned across datasets. The pose step of this project writes the same layout, with ``landmarks``,
``status`` and ``detail`` beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from regaze.filetypes import damage
from regaze.outputs import several
from regaze.sources.files import PersonFiles, any_photo
from regaze.sources.hdf5 import (
    MAX_ROWS,
    add_persons,
    by_file,
    chunk_bytes,
    has,
    largest_chunk,
    member,
    names_in,
    opened,
    require_filters,
)
from regaze.sources.records import PersonRecords, SourceError, losing, printable, safe_name

SUPPLEMENTARY_NAMES = ("supplementary.h5", "GazeCapture_supplementary.h5")
"""Names under which a data set's root is searched for its labels."""

_MAX_TEXT, _MAX_CHUNK = 1024, 1 << 30
_COLUMNS = {
    "camera_parameters": ((4,),),
    "distortion_parameters": ((4,), (5,), (8,), (12,), (14,)),
    "head_pose": ((6,),),
    "3d_gaze_target": ((3,),),
}
_TARGET, _LANDMARKS, _NAMES = "3d_gaze_target", "landmarks", "file_name"
_FIRST = 20
_GAZE_ATTRIBUTE, _ABSENT = "gaze", "absent"


class Supplemented(PersonFiles):
    """Photos below ``root`` with the labels of supplementary files.

    ``persons`` is the sorted list of the files' groups; opening costs one listing of each file.
    Rows are read one person at a time and keep their order. Links out of a file are never
    followed, and nothing is allocated that a damaged header merely claims.

    Args:
        root: folder that the rows' ``file_name`` is relative to.
        kind: name of the data set's kind, recorded in the faces files.
        paths: supplementary HDF5, or several that share no person. An attribute ``gaze`` with the
            value ``absent``, on a file or a person, tells that there is no target on purpose.
        parameters: HDF5 with ``<person>/landmarks`` (N, 68, 2) in photo pixels, for persons whose
            supplementary group has none.
        gaze_known: False for a data set without any gaze label; it is too when every file says
            that gaze is absent.

    Attributes:
        gaze_known: whether the data set as a whole has gaze labels.

    Raises:
        SourceError: a file is missing or not HDF5, holds no person, or two hold the same one.
    """

    def __init__(
        self,
        root: str | Path,
        kind: str,
        paths: str | Path | Sequence[str | Path],
        parameters: str | Path | None = None,
        gaze_known: bool = True,
    ):
        self.root = Path(root)
        self.kind = kind
        self.paths = tuple(map(Path, several(paths)))
        self.parameters = None if parameters is None else Path(parameters)
        if self.parameters is not None and not self.parameters.is_file():
            raise SourceError(f"{self.parameters}: no such parameters file")
        self._home: dict[str, Path] = {}
        absent = []
        for path in self.paths:
            with opened(path) as file:
                add_persons(self._home, path, names_in(path, file))
                absent.append(_gaze_attribute(file) == _ABSENT)
        if not self._home:
            where = ", ".join(map(str, self.paths)) or str(self.root)
            raise SourceError(f"{where}: expected a group per person, found none")
        self.persons = sorted(self._home)
        self.gaze_known = gaze_known and not all(absent)

    def present(self, persons: Collection[str]) -> set[str]:
        """Return those who have a folder, or of whose first photos one is there."""
        found = {person for person in persons if person in self._folders}
        for person, names in self._listed(set(persons) - found, _FIRST):
            if any((self.root / name).is_file() for name in names):
                found.add(person)
        return found

    def unlabelled(self) -> list[str]:
        """Return the folders with photos whose names are no persons of the labels."""
        strangers = (name for name in self._folders if name not in self._home)
        return sorted(
            printable(name)
            for name in strangers
            if not name.startswith(".") and any_photo(self.root / name)
        )

    @cached_property
    def _folders(self) -> set[str]:
        try:
            with os.scandir(self.root) as entries:
                return {entry.name for entry in entries if entry.is_dir()}
        except OSError:
            return set()

    def reads(self, persons: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield each person with the photos that its labels name, file by file.

        The labels themselves are files that the data set's options name.
        """
        return self._listed(persons)

    def _listed(
        self, persons: Iterable[str], most: int | None = None
    ) -> Iterator[tuple[str, list[str]]]:
        """Yield persons with their photos' names, or the first of them, file by file."""
        wanted = by_file(self._home, persons)
        yield from ((person, []) for person in wanted.pop(None, ()))
        for path, here in wanted.items():
            with opened(path) as file:
                for person in here:
                    try:
                        where, group = person_group(path, file, person)
                        names = file_names(where, group, most)
                    except SourceError as error:
                        names = error.file_names
                    yield person, _safe(names)

    def read(self, person: str) -> PersonRecords:
        """Return the records of ``person``; rows keep the supplementary file's order.

        Raises:
            SourceError: the person has no group, a dataset is missing, has another number of rows
                or columns than expected, is not numeric, is a link, or cannot be read; the
                message names it.
        """
        if person not in self._home:
            where = ", ".join(map(str, self.paths))
            raise SourceError(
                f"{where}: person {person}: expected a group, found none", "missing_person"
            )
        path = self._home[person]
        with opened(path, f"{path}: person {person}") as file:
            where, group = person_group(path, file, person)
            if "error" in group.attrs:
                # An earlier step could not read the person at all.
                reason = str(group.attrs.get("reason", "bad_source"))
                raise SourceError(str(group.attrs["error"]), reason)
            names = file_names(where, group)
            # Rows beyond the names are rows too, and are counted as rejected with the others.
            with losing(names + ("",) * (_rows(group) - len(names))):
                return self._records(where, group, person, names)

    def _records(self, where, group: h5py.Group, person: str, names: tuple) -> PersonRecords:
        known = (_gaze_attribute(group) or _gaze_attribute(group.file)) != _ABSENT
        columns = {
            key: number_rows(where, group, key, shapes, len(names))
            for key, shapes in _COLUMNS.items()
            if known or key != _TARGET or has(group, _TARGET)
        }
        target = columns.get(_TARGET, np.full((len(names), 3), np.nan))
        if not known and not np.isnan(target).all():
            raise SourceError(
                f"{where}: {_TARGET}: expected NaN throughout, since the attribute "
                f"{_GAZE_ATTRIBUTE!r} is {_ABSENT!r}, found numbers",
                "bad_shape",
            )
        texts = {
            key: text_rows(where, group, key, len(names)) if has(group, key) else None
            for key in ("status", "detail")
        }
        return PersonRecords(
            root=self.root,
            person=person,
            file_name=names,
            camera_parameters=columns["camera_parameters"],
            distortion=columns["distortion_parameters"],
            head_pose=columns["head_pose"],
            gaze_target=target,
            landmarks=self._landmarks(where, group, person, len(names)),
            gaze_known=known,
            **texts,
        )

    def _landmarks(self, where: str, group: h5py.Group, person: str, rows: int):
        """Landmarks (N, 68, 2) of the person's own group, else of the file of parameters."""
        if has(group, _LANDMARKS):
            return number_rows(where, group, _LANDMARKS, ((68, 2),), rows)
        if self.parameters is None:
            return None
        with opened(self.parameters, f"{self.parameters}: person {person}") as file:
            if not has(file, person):
                return None
            where, group = person_group(self.parameters, file, person)
            found = has(group, _LANDMARKS)
            return number_rows(where, group, _LANDMARKS, ((68, 2),), rows) if found else None


def _safe(names: Iterable[str]) -> list[str]:
    """Return the names that stay below the root; of a million photos the folders are few."""
    folders: dict[str, bool] = {}
    found = []
    for name in dict.fromkeys(names):
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = safe_name(folder or "root")
        if folders[folder] and base and base != ".." and "\\" not in base:
            found.append(name)
    return found


def person_group(path: str | Path, file: h5py.File, person: str) -> tuple[str, h5py.Group]:
    """Return what messages about a person begin with, and its group, in the file itself.

    Raises:
        SourceError: there is none.
    """
    where = f"{path}: person {person}"
    group = member(where, file, person)
    if not isinstance(group, h5py.Group):
        found = "none" if group is None else f"a {type(group).__name__.lower()}"
        raise SourceError(f"{where}: expected a group, found {found}", "missing_person")
    return where, group


def _gaze_attribute(place: h5py.File | h5py.Group) -> str:
    value = place.attrs.get(_GAZE_ATTRIBUTE, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _dataset(where: str, group: h5py.Group, key: str, rows: int | None) -> h5py.Dataset:
    """Return a dataset of rows whose every value is stored in this file."""
    item = member(where, group, key)
    where = f"{where}: {key}"
    if not isinstance(item, h5py.Dataset):
        raise SourceError(f"{where}: expected a dataset, found only {sorted(group)}", "missing_key")
    wanted = ""
    if not item.shape:
        wanted = "rows"
    elif rows is not None and item.shape[0] != rows:
        wanted = f"{rows} rows as in {_NAMES}"
    elif item.shape[0] > MAX_ROWS:
        wanted = f"at most {MAX_ROWS} rows"
    if wanted:
        raise SourceError(f"{where}: expected {wanted}, found shape {item.shape}", "bad_shape")
    return item


def _require_stored(where: str, item: h5py.Dataset) -> None:
    """Refuse data of other files, and shapes that are claimed but were never written."""
    if item.is_virtual or item.external:
        raise SourceError(f"{where}: expected data in the file itself, found data of another file")
    require_filters(where, item)
    if item.chunks:
        if chunk_bytes(item) > _MAX_CHUNK:
            raise SourceError(
                f"{where}: expected chunks of at most {_MAX_CHUNK} bytes, "
                f"found chunks of shape {item.chunks}",
                "bad_shape",
            )
        sides = zip(item.shape, item.chunks, strict=True)
        wanted = math.prod(-(-side // chunk) for side, chunk in sides)
        found, unit = item.id.get_num_chunks(), "chunks"
        sizes = [0]
        item.id.chunk_iter(lambda info: sizes.append(info.size))
        if max(sizes) > largest_chunk(item):
            raise SourceError(
                f"{where}: expected stored chunks of at most {largest_chunk(item)} bytes "
                f"for chunks of shape {item.chunks}, found {max(sizes)}"
            )
    else:
        wanted, found, unit = item.size * item.dtype.itemsize, item.id.get_storage_size(), "bytes"
    if found < wanted:
        raise SourceError(
            f"{where}: expected {wanted} {unit} for shape {item.shape}, found {found}", "bad_shape"
        )


def _stored(where: str, item: h5py.Dataset, most: int | None = None) -> np.ndarray:
    """Return the values of a dataset of which every one is stored in this file."""
    _require_stored(where, item)
    try:
        return item[()] if most is None else item[:most]
    except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        told = f"expected readable data, found damage ({damage(error)})"
        raise SourceError(f"{where}: {told}") from None


def _rows(group: h5py.Group) -> int:
    """Return how many rows a person without usable file names has, as far as one can tell."""
    counts = [0]
    for key in _COLUMNS:
        hard = has(group, key) and isinstance(group.get(key, getlink=True), h5py.HardLink)
        item = group[key] if hard else None
        if isinstance(item, h5py.Dataset) and item.shape and item.shape[0] <= MAX_ROWS:
            counts.append(item.shape[0])
    return max(counts)


def file_names(where: str, group: h5py.Group, most: int | None = None) -> tuple[str, ...]:
    """Return the names of a person's photos, or the first ``most``.

    A name that is no UTF-8 is rejected for its row alone, by what comes after.

    Raises:
        SourceError: there are none; it knows how many rows are lost.
    """
    with losing(("",) * _rows(group)):
        item = _dataset(where, group, _NAMES, None)
    with losing(("",) * len(item)):
        values = _texts(f"{where}: {_NAMES}", item, most)
    if item.dtype.kind == "S":
        text = b"\0".join(values).decode("utf-8", "surrogateescape").split("\0")
        # Unless a name has such a byte within; a million names are quicker decoded as one.
        if len(text) == len(values):
            return tuple(text)
    return tuple(one.decode("utf-8", "surrogateescape") for one in values)


def text_rows(where: str, group: h5py.Group, key: str, rows: int) -> tuple[str, ...]:
    """Return a dataset of ``rows`` strings.

    Raises:
        SourceError: it is something else, or not stored in the file.
    """
    where, item = f"{where}: {key}", _dataset(where, group, key, rows)
    try:
        return tuple(one.decode("utf-8") for one in _texts(where, item))
    except UnicodeDecodeError as error:
        told = f"expected UTF-8, found {error.object!r:.200}"
        raise SourceError(f"{where}: {told}", "bad_shape") from error


def _texts(where: str, item: h5py.Dataset, most: int | None = None) -> list[bytes]:
    if item.ndim != 1:
        raise SourceError(f"{where}: expected shape (N,), found {item.shape}", "bad_shape")
    fixed = item.dtype.kind == "S" and item.dtype.itemsize <= _MAX_TEXT
    if not fixed and (item.dtype.kind != "O" or h5py.check_string_dtype(item.dtype) is None):
        raise SourceError(f"{where}: expected strings, found type {item.dtype}", "bad_shape")
    values = _stored(where, item, most).tolist()
    return [one if isinstance(one, bytes) else str(one).encode("utf-8") for one in values]


def number_rows(
    where: str, group: h5py.Group, key: str, shapes: tuple[tuple[int, ...], ...], rows: int
) -> np.ndarray:
    """Return a dataset of numbers as float64: ``rows`` rows that have one of ``shapes``.

    Raises:
        SourceError: it is something else, or not stored in the file.
    """
    where, item = f"{where}: {key}", _dataset(where, group, key, rows)
    if item.dtype.kind not in "fiu":
        raise SourceError(f"{where}: expected numbers, found type {item.dtype}", "bad_shape")
    if item.shape[1:] not in shapes:
        if len(shapes[0]) != 1:
            wanted = f"shape {shapes[0]}"
        else:
            wanted = f"{' or '.join(str(width) for (width,) in shapes)} numbers"
        found = f"rows of shape {item.shape[1:]}"
        raise SourceError(f"{where}: expected rows of {wanted}, found {found}", "bad_shape")
    return _stored(where, item).astype(np.float64)
