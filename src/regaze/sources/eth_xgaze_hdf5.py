"""ETH-XGaze as released patches: ``train/subjectSSSS.h5``, 224 or 448 pixels, B,G,R.

Facts of the layout: ``xucong-zhang/ETH-XGaze``. A file holds ``face_patch`` (N, S, S, 3) uint8,
``face_gaze`` and ``face_head_pose`` (N, 2) pitch, yaw, ``face_mat_norm`` (N, 3, 3), the rotation
from camera to virtual camera, ``facial_landmarks`` (N, 68, 2) in pixels of the patch,
``frame_index`` and ``cam_index`` (N, 1). Files that the release's own script makes are longer than
their data; rows at the end that were never written do not count.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Literal

import h5py
import numpy as np
from pydantic import Field

from regaze.hdf5 import MAX_ROWS, cut_off, shapes_left
from regaze.sources.eth_xgaze import released_split
from regaze.sources.files import PersonFiles, data_folder
from regaze.sources.hdf5 import (
    files_of,
    has,
    last_stored,
    likely_rows,
    losing_rows,
    numbers,
    opened,
    rows_dataset,
)
from regaze.sources.options import ReleasedOptions
from regaze.sources.records import NormalisedRows, SourceError

log = logging.getLogger(__name__)

_PIXELS, _GAZE, _HEAD = "face_patch", "face_gaze", "face_head_pose"
_COLUMNS = {
    "face_mat_norm": ("rotation", ((3, 3),)),
    "facial_landmarks": ("landmarks", ((68, 2),)),
}
_DISTANCES = {224: 600.0, 448: 300.0}
_FOCAL = 960.0


class Options(ReleasedOptions):
    """An entry of ``datasets`` for the released patches of ETH-XGaze."""

    deserted: ClassVar[tuple[str, ...]] = ("val",)

    source: Literal["eth_xgaze_hdf5"] = Field(
        description="folder of ETH-XGaze's released subjectSSSS.h5, or the folder above it that "
        "holds train and train_test_split.json"
    )
    channel_order: Literal["rgb", "bgr"] = Field(
        "bgr", description="of the pixels; bgr as released"
    )


def open_source(options: Options, supplementary=None) -> ETHXGazePatches:
    """Open the released patches of ETH-XGaze.

    Raises:
        SourceError: the folder is missing or holds no file of patches with labels.
    """
    if supplementary is not None:
        raise SourceError(f"{options.root}: source 'eth_xgaze_hdf5' takes no supplementary file")
    return ETHXGazePatches(options)


class ETHXGazePatches(PersonFiles):
    """The files ``train/*.h5`` below ``root``, or ``*.h5`` in it; ``persons`` are their names.

    ``attributes`` say how the patches were made: focal length 960, at 600 mm for 224 pixels and at
    300 mm for 448.

    Raises:
        SourceError: there are no such files, or the first has no patches of a known size or no
            labels, as the release's test files.
    """

    kind = "eth_xgaze_hdf5"
    person_names = r"subject\d{4}"

    def __init__(self, options: Options):
        from regaze.faces import FacesAttributes

        self.root = data_folder(options.root)
        self._folder = self.root / "train" if (self.root / "train").is_dir() else self.root
        # What is no file is a person too, who is rejected, rather than lost unnoticed.
        self.persons = sorted(path.stem for path in self._folder.glob("*.h5"))
        if not self.persons:
            raise SourceError(f"{self._folder}: expected subject0000.h5 and so on, found none")
        side = self._first_side()
        self.attributes = FacesAttributes(
            variant="xgaze",
            patch_size=(side, side),
            focal=_FOCAL,
            distance=_DISTANCES[side],
            frame_check="none",
            source=self.kind,
            channel_order=options.channel_order,
        )

    def _first_side(self) -> int:
        """Return the side of the patches of the first file that can be read."""
        fault: SourceError | None = None
        for person in self.persons:
            path = self._folder / f"{person}.h5"
            try:
                with opened(path) as file:
                    shape = rows_dataset(str(path), file, _PIXELS, 3).shape
                    _require_labels(path, file)
            except SourceError as error:
                fault = fault or error
                continue
            if shape[1] != shape[2] or shape[1] not in _DISTANCES:
                raise SourceError(
                    f"{path}: {_PIXELS}: expected patches of 224 x 224 or 448 x 448 px, "
                    f"found shape {shape}",
                    "bad_shape",
                )
            return int(shape[1])
        assert fault is not None
        raise fault

    @property
    def place(self) -> Path:
        """The folder of the subjects' files."""
        return self._folder

    def present(self, persons: Collection[str]) -> set[str]:
        """Return those who have a file, be it a link to nothing."""
        return {one for one in persons if os.path.lexists(self._folder / f"{one}.h5")}

    def known_rows(self, person: str) -> int | None:
        """Return how many rows a file had that was cut off, by what is left of it."""
        path, found = self._folder / f"{person}.h5", 0
        try:
            with cut_off(path) as file:
                found = likely_rows(file, (_PIXELS, _GAZE, _HEAD))
        except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
            log.debug("%s: no names are left: %s", path, error)
        rows = [shape[0] for shape in shapes_left(path) if shape[0] <= MAX_ROWS]
        return found or max(rows, default=0) or None

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        path = self._folder / f"{person}.h5"
        return files_of(path, self.root, {person: _PIXELS})[person]

    def split(self) -> dict[str, list[str]]:
        """Return the release's split; see :func:`regaze.sources.eth_xgaze.released_split`."""
        return released_split(self.root, self.persons)

    def read_faces(self, person: str) -> NormalisedRows:
        """Return the rows of ``person``; there are no labels of single eyes.

        Raises:
            SourceError: the file or a dataset is missing, or has an unexpected form.
        """
        path = self._folder / f"{person}.h5"
        if person not in self.persons:
            raise SourceError(f"{path}: person {person}: no such file", "missing_person")
        where = str(path)
        with opened(path) as file, losing_rows(file, (_PIXELS, _GAZE, _HEAD)):
            pixels = rows_dataset(where, file, _PIXELS, 3)
            _require_labels(path, file)
            gaze = rows_dataset(where, file, _GAZE, 1)
            if len(pixels) != len(gaze):
                raise SourceError(
                    f"{where}: {_GAZE}: expected {len(pixels)} rows as in {_PIXELS}, "
                    f"found shape {gaze.shape}",
                    "bad_shape",
                )
            rows = last_stored(pixels)
            if rows == 0:
                told = f"{_PIXELS}: expected rows, found none written in the file"
                raise SourceError(f"{where}: {told}", "bad_shape")
            labels = np.full((rows, 8), np.nan, np.float32)
            with np.errstate(over="ignore"):
                labels[:, :2] = numbers(where, file, _GAZE, ((2,),), rows)
                labels[:, 2:4] = numbers(where, file, _HEAD, ((2,),), rows)
            columns = {
                ours: numbers(where, file, theirs, shapes, rows)
                for theirs, (ours, shapes) in _COLUMNS.items()
                if has(file, theirs)
            }
            names = _names(where, file, person, rows)
        return NormalisedRows(path, person, _PIXELS, labels, columns, names)


def _require_labels(path: Path, file: h5py.File) -> None:
    for name in (_GAZE, _HEAD):
        if not has(file, name):
            found = sorted(map(str, file))
            raise SourceError(
                f"{path}: {name}: expected a dataset, found only {found}; the test files of the "
                "release come without labels, use the folder of train",
                "missing_key",
            )


def _names(where: str, file: h5py.File, person: str, rows: int) -> tuple[str, ...]:
    """Return the names of the raw photos, as far as frame and camera tell them."""
    if not (has(file, "frame_index") and has(file, "cam_index")):
        return ()
    shapes = ((1,),)
    frame = numbers(where, file, "frame_index", shapes, rows)[:, 0]
    camera = numbers(where, file, "cam_index", shapes, rows)[:, 0]
    return tuple(
        f"data/train/{person}/frame{int(f):04d}/cam{int(c):02d}.JPG" if f >= 0 and c >= 0 else ""
        for f, c in zip(frame, camera, strict=True)
    )
