"""Faces that are normalised already, in upstream's layout: ``GazeCapture.h5``, ``MPIIGaze.h5``.

A group per person with ``pixels`` and ``labels`` (``swook/faze_preprocess``); the faces of this
project have the same layout and more columns. Files that were published with B,G,R pixels, such as
``zhengyuf/STED-gaze`` reads for Columbia and EYEDIAP, do not say so: set ``channel_order``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from pydantic import Field

from regaze.sources.files import PersonFiles
from regaze.sources.hdf5 import (
    add_persons,
    by_file,
    files_of,
    has,
    last_stored,
    losing_rows,
    member,
    names_in,
    numbers,
    opened,
    rows_dataset,
    text_of,
)
from regaze.sources.options import ReleasedOptions
from regaze.sources.records import NormalisedRows, SourceError
from regaze.views import is_ffhq

_COLUMNS = {"source_index": (), "rotation": (3, 3), "gaze_origin": (3,), "landmarks": (68, 2)}
_VARIANTS = {"sted": (500.0 / 128.0, 600.0), "faze": (1300.0 / 64.0, 600.0)}
"""Focal length per pixel of the patch's height, and distance (mm)."""
_WORDS = {"channel_order": ("rgb", "bgr"), "gaze": ("known", "absent")}
_SIZES = {(128, 128): "sted", (256, 64): "faze"}
"""(width, height) of the published files."""


class Options(ReleasedOptions):
    """An entry of ``datasets`` for a file of normalised faces."""

    source: Literal["faces_hdf5"] = Field(
        description="an HDF5 of normalised faces, or a folder of such files that is one data set"
    )
    channel_order: Literal["auto", "rgb", "bgr"] = Field(
        "auto", description="of the pixels; auto: what the file says, else rgb"
    )
    variant: Literal["sted", "faze", "custom"] | None = Field(
        None, description="normalisation; default what the file says, or by the size of the patches"
    )
    focal: float | None = Field(None, gt=0, description="of the virtual camera in px")
    distance: float | None = Field(None, gt=0, description="of the virtual camera in mm")


def open_source(options: Options, supplementary=None) -> FacesFile:
    """Open a file, or folder of files, of normalised faces.

    Raises:
        SourceError: there is none, it cannot be used, or its virtual camera is not known.
    """
    if supplementary is not None:
        raise SourceError(f"{options.root}: source 'faces_hdf5' takes no supplementary file")
    return FacesFile(options)


class FacesFile(PersonFiles):
    """One data set of normalised faces; ``persons`` are its groups, sorted.

    ``attributes`` come from the options, from the files, or from the size of the patches, in this
    order.

    Raises:
        SourceError: there is no such file, a person is in two, the files differ in how they were
            made, or the virtual camera is not known.
    """

    kind = "faces_hdf5"

    def __init__(self, options: Options):
        self.root = Path(options.root)
        paths = sorted(self.root.glob("*.h5")) if self.root.is_dir() else [self.root]
        if not paths:
            raise SourceError(f"{self.root}: expected HDF5 files (*.h5), found none")
        self._home: dict[str, Path] = {}
        said: dict | None = None
        for path in paths:
            with opened(path) as file:
                persons = names_in(path, file)
                found = _said(path, file, persons)
            add_persons(self._home, path, persons)
            if persons and said is not None and found != said:
                other = next(key for key in found if found[key] != said[key])
                raise SourceError(
                    f"{path}: {other}: expected {said[other]!r} as in the other files, "
                    f"found {found[other]!r}"
                )
            said = found if persons else said
        self.persons = sorted(self._home)
        if said is None:
            raise SourceError(f"{self.root}: expected a group per person, found none")
        if options.channel_order != "auto":
            said["channel_order"] = options.channel_order
        given = options.model_dump(include={"variant", "focal", "distance"})
        self.attributes = _attributes(self.root, said, given)

    def present(self, persons: Collection[str]) -> set[str]:
        """Return those who have a group."""
        return self._home.keys() & set(persons)

    def known_rows(self, person: str) -> int | None:
        """Return None: what can be known of a person's rows is known when they are read."""
        return None

    def reads(self, persons: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield each person with the files that hold its rows, file by file."""
        for path, here in by_file(self._home, persons).items():
            if path is not None:
                pixels = {person: f"{person}/pixels" for person in here}
                yield from files_of(path, self.root, pixels).items()

    def read_faces(self, person: str) -> NormalisedRows:
        """Return the rows of ``person``; four labels per row become eight, the last four NaN.

        Raises:
            SourceError: the person or a dataset is missing, or has an unexpected form.
        """
        path = self._home.get(person)
        if path is None:
            raise SourceError(
                f"{self.root}: person {person}: expected a group, found none", "missing_person"
            )
        with opened(path) as file:
            where = f"{path}: person {person}"
            group = member(where, file, person)
            if not isinstance(group, h5py.Group):
                raise SourceError(f"{where}: expected a group, found another", "missing_key")
            with losing_rows(group, ("labels", "pixels")):
                rows = _rows(where, group)
                labels = numbers(where, group, "labels", ((8,), (4,)), rows)
                rows_dataset(where, group, "pixels", 3)
                columns = {
                    name: numbers(where, group, name, (shape,), rows)
                    for name, shape in _COLUMNS.items()
                    if has(group, name)
                }
                names = _file_names(where, group, rows)
        if "source_index" in columns:
            columns["source_index"] = np.nan_to_num(columns["source_index"], nan=-1).astype(int)
        table = np.full((rows, 8), np.nan, np.float32)
        with np.errstate(over="ignore"):
            table[:, : labels.shape[1]] = labels
        return NormalisedRows(path, person, f"{person}/pixels", table, columns, names)


def _rows(where: str, group: h5py.Group) -> int:
    """Return the number of labels, or of pixels where there are no labels, that were written."""
    name = "labels" if has(group, "labels") or not has(group, "pixels") else "pixels"
    item = rows_dataset(where, group, name, 1 if name == "labels" else 3)
    return len(item) if item.is_virtual else last_stored(item)


def _file_names(where: str, group: h5py.Group, rows: int) -> tuple[str, ...]:
    item = member(where, group, "file_name")
    if item is None:
        return ()
    text = isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is not None
    if not text or item.shape != (rows,) or item.is_virtual:
        told = f"file_name: expected {rows} strings, found {item!r}"
        raise SourceError(f"{where}: {told}", "bad_shape")
    return tuple(text_of(one) for one in item[()])


def _said(path: Path, file: h5py.File, persons: list[str]) -> dict:
    """Return what a file tells of its patches, their size by looking at the first person."""
    said: dict[str, Any] = {}
    if is_ffhq(file.attrs):
        raise SourceError(
            f"{path}: framing: expected patches of a virtual camera, found ffhq; name the photos "
            "they were cut from as the data set, and the framing in a view"
        )
    for key in ("variant", "focal", "distance", "frame_check", "channel_order", "gaze"):
        value = file.attrs.get(key)
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        value = said[key] = value.item() if isinstance(value, np.generic) else value
        if value is None:
            continue
        wanted = ""
        if key in ("focal", "distance"):
            if not isinstance(value, int | float) or not 0.0 < value < math.inf:
                wanted = "a number above 0"
        elif not isinstance(value, str):
            wanted = "a text"
        elif value not in _WORDS.get(key, (value,)):
            wanted = " or ".join(_WORDS[key])
        if wanted:
            raise SourceError(f"{path}: {key}: expected {wanted}, found {value!r:.80}")
    for person in persons:
        try:
            group = member(str(path), file, person)
            found = isinstance(group, h5py.Group)
            pixels = member(str(path), group, "pixels") if found else None
        except SourceError:
            continue  # this person is rejected when it is read
        if not isinstance(pixels, h5py.Dataset) or pixels.dtype != np.uint8:
            continue
        if pixels.ndim == 4 and pixels.shape[3] == 3:
            said["patch_size"] = (int(pixels.shape[2]), int(pixels.shape[1]))
            return said
    if persons:
        raise SourceError(f"{path}: pixels: expected (N,H,W,3) of some person, found none")
    return said


def _attributes(root: Path, said: dict, given: dict):
    """Return the :class:`regaze.faces.FacesAttributes` of the data set."""
    from regaze.faces import FacesAttributes

    known = {key: value if value is not None else said[key] for key, value in given.items()}
    size = said["patch_size"]
    if given["variant"] not in (None, said["variant"]):
        # A variant other than the file's comes with its own camera.
        known |= {"focal": given["focal"], "distance": given["distance"]}
    variant = known["variant"] or _SIZES.get(size)
    if variant in _VARIANTS:
        per_pixel, distance = _VARIANTS[variant]
        known["focal"] = known["focal"] or per_pixel * size[1]
        known["distance"] = known["distance"] or distance
    if variant is None and None not in (known["focal"], known["distance"]):
        variant = "custom"
    if variant is None or known["focal"] is None or known["distance"] is None:
        raise SourceError(
            f"{root}: patches of {size[0]} x {size[1]} px: their virtual camera is not known; give "
            "variant, or focal and distance, in the data set's configuration"
        )
    return FacesAttributes(
        variant=str(variant),
        patch_size=size,
        focal=float(known["focal"]),
        distance=float(known["distance"]),
        frame_check=str(said["frame_check"] or "unknown"),
        source="faces_hdf5",
        channel_order=said["channel_order"] or "rgb",
        gaze=said["gaze"] or "known",
    )
