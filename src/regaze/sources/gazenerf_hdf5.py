"""Faces in the layouts that radiance fields of gaze are trained on: GazeNeRF's, and the seed's.

Facts of the layouts: ``AlessandroRuzzi/GazeNeRF`` (``xgaze_subject0000.h5`` and the like) and
``colincqian/GazeNeRF`` (``processed_subject0000`` and ``processed_test_subject0000``). Both hold
``face_patch`` (N,S,S,3) uint8, codes and cameras of a head model, and masks of head and eyes:

======== ==================================== ======================================
of       GazeNeRF                             seed
======== ==================================== ======================================
gaze     ``pitchyaw_head``, of the head's     ``face_gaze``, of the virtual camera's
         frame, pitch positive looking down   frame, pitch positive looking up
head     ``face_head_pose``                   what ``nl3dmm/w2c_Rmat`` says
codes    ``latent_codes``                     ``nl3dmm/code``
masks    ``head_mask``, ``left_eye_mask``,    ``mask``, ``eye_mask`` (grown)
         ``right_eye_mask`` by picture side
======== ==================================== ======================================

What these files do not say, and those of :mod:`regaze.exchange` do, is an attribute: ``person``,
``channel_order``, ``focal`` and ``distance``, and of codes ``code_type`` and ``code_sizes``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np
from pydantic import Field

from regaze.angles import angles_from_rotation, angles_from_vector, vector_from_angles
from regaze.angles import rotation_from_angles as turned_by
from regaze.paper_pairs import listed_split, published_name
from regaze.sources.files import PersonFiles, data_folder
from regaze.sources.hdf5 import (
    files_of,
    has,
    last_stored,
    losing_rows,
    member,
    numbers,
    opened,
    rows_dataset,
    text_of,
)
from regaze.sources.options import ReleasedOptions
from regaze.sources.records import NormalisedRows, SourceError

PIXELS = "face_patch"
MATRICES = ("w2c_Rmat", "c2w_Rmat", "inmat", "inv_inmat")
VECTORS = ("w2c_Tvec", "c2w_Tvec")
NL3DMM = {"shape": 100, "expression": 79, "texture": 100, "light": 27}
"""Numbers of the parts of codes where the file says nothing."""
TRAIN, TEST = "processed_", "processed_test_"
"""What names of the seed's files begin with."""

DOWN = np.array([-1.0, 1.0])
"""Between our pitch and that of GazeNeRF."""
FLIP = np.diag([1.0, -1.0, -1.0])
"""Between axes of cameras and of heads of the radiance fields."""
_GAZENERF, _SEED = "gazenerf", "seed"
_CAMERAS = {"mpii": (1400.0, 680.0), "gaze_capture": (1200.0, 680.0)}
_CAMERA, _SIDE = (1600.0, 680.0), 512
_SEED_CAMERA, _SEED_SIDE = (960.0, 600.0), 224
_KEYS = {_GAZENERF: ("head_mask", "latent_codes"), _SEED: ("mask", "nl3dmm")}
_MASKS = {
    _GAZENERF: ("head_mask", ("left_eye_mask", "right_eye_mask")),
    _SEED: ("mask", ("eye_mask",)),
}


class Options(ReleasedOptions):
    """An entry of ``datasets`` for files of GazeNeRF or of the system that it grew from."""

    deserted: ClassVar[tuple[str, ...]] = ("val",)

    source: Literal["gazenerf_hdf5"] = Field(
        description="folder of GazeNeRF's *.h5, or of processed_subject0000 and so on of the seed"
    )
    channel_order: Literal["auto", "rgb", "bgr"] = Field(
        "auto", description="of the pixels; auto: what the files say, else bgr"
    )
    part: Literal["train", "test"] = Field(
        "train", description="which of the seed's two files of a person"
    )
    focal: float | None = Field(
        None, gt=0, description="of the virtual camera in px; default what the files say, or theirs"
    )
    distance: float | None = Field(None, gt=0, description="of the virtual camera in mm")


@dataclass(frozen=True)
class HeadCodes:
    """Codes and cameras of the rows of a person.

    Attributes:
        kind: ``nl3dmm``, ``flame``, or what the file says.
        codes: (N,n) float64 by part: shape, expression, texture, light.
        known: (N,) bool, rows whose codes are finite and not marked as failed.
        cameras: (N,3,3) and (N,3) under their names in the file.
        identity: what the codes were computed with, where the file says it.
    """

    kind: str
    codes: dict[str, np.ndarray]
    known: np.ndarray
    cameras: dict[str, np.ndarray]
    identity: dict[str, str]


def open_source(options: Options, supplementary=None) -> GazeNerfPatches:
    """Open a folder of such files.

    Raises:
        SourceError: there are none, they cannot be used, or they differ in how they were made.
    """
    if supplementary is not None:
        raise SourceError(f"{options.root}: source 'gazenerf_hdf5' takes no supplementary file")
    return GazeNerfPatches(options)


class GazeNerfPatches(PersonFiles):
    """A file per person; ``persons`` are what the files say, or their names.

    Attributes:
        layout: ``gazenerf`` or ``seed``.
        attributes: how the patches were made.
    """

    kind = "gazenerf_hdf5"

    def __init__(self, options: Options):
        self.root = data_folder(options.root)
        self._home: dict[str, Path] = {}
        self._said: dict[str, dict] = {}
        fault: SourceError | None = None
        for path in self._files(options.part):
            person, said = _named(path), {}
            try:
                person, said = _read_head(path, options)
            except SourceError as error:
                # Rejected when it is read, with its reason.
                fault = fault or error
            if person in self._home:
                other = self._home[person]
                raise SourceError(f"{path}: person {person}: expected one file, found {other} too")
            self._home[person], self._said[person] = path, said
        if not self._home:
            raise SourceError(
                f"{self.root}: expected *.h5 of GazeNeRF or {TRAIN}subject0000 and so on, found "
                f"none (part: {options.part})"
            )
        self.persons = sorted(self._home)
        said = [one for one in self._said.values() if one]
        if not said and fault is not None:
            raise fault
        first = said[0]
        for person, one in self._said.items():
            for key, value in one.items():
                if value != first[key]:
                    raise SourceError(
                        f"{self._home[person]}: {key}: expected {first[key]!r} as in the other "
                        f"files, found {value!r}; give it in the data set's configuration, or take "
                        "the files apart"
                    )
        self.layout = first["layout"]
        self.attributes = _attributes(first)

    def _files(self, part: str) -> list[Path]:
        found = sorted(self.root.glob("*.h5"))
        if found:
            return found
        named = sorted(path for path in self.root.glob(f"{TRAIN}*") if path.is_file())
        tests = [path for path in named if path.name.startswith(TEST)]
        return tests if part == "test" else [path for path in named if path not in tests]

    def present(self, persons: Collection[str]) -> set[str]:
        """Return those who have a file."""
        return self._home.keys() & set(persons)

    def known_rows(self, person: str) -> int | None:
        """Return None: what can be known of a person's rows is known when they are read."""
        return None

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        return files_of(self._home[person], self.root, {person: PIXELS})[person]

    def split(self) -> dict[str, list[str]]:
        """Return GazeNeRF's split by the names of files; others are all trained on."""
        return listed_split(published_name(self.kind, self.persons), self.persons)

    def read_faces(self, person: str) -> NormalisedRows:
        """Return the rows of ``person``.

        Gaze and head are of the virtual camera's frame; rows of the seed whose head model was not
        fitted have no head label, and are rejected.

        Raises:
            SourceError: the file or a dataset is missing, or has an unexpected form.
        """
        path = self._path(person)
        where = str(path)
        with opened(path) as file, losing_rows(file, (PIXELS,)):
            layout = _layout(where, file)
            rows = last_stored(rows_dataset(where, file, PIXELS, 3))
            if rows == 0:
                told = f"{PIXELS}: expected rows, found none written in the file"
                raise SourceError(f"{where}: {told}", "bad_shape")
            labels = np.full((rows, 8), np.nan, np.float32)
            if layout == _GAZENERF:
                head = numbers(where, file, "face_head_pose", ((2,),), rows)
                gaze = numbers(where, file, "pitchyaw_head", ((2,),), rows) * DOWN
                looking = turned_by(head) @ vector_from_angles(gaze)[..., None]
                labels[:, :2] = angles_from_vector(looking[..., 0])
                marks = _landmarks(where, file, "facial_landmarks", ((68, 2),), rows)
            else:
                fitted = _group(where, file, "nl3dmm")
                rotation = numbers(f"{where}: nl3dmm", fitted, "w2c_Rmat", ((3, 3),), rows)
                head = angles_from_rotation(rotation @ FLIP)
                head[~_fitted(where, file, rows)] = np.nan
                if has(file, "face_gaze"):
                    labels[:, :2] = numbers(where, file, "face_gaze", ((2,),), rows)
                marks = _landmarks(where, file, "lm2d", ((136,),), rows)
            labels[:, 2:4] = head
            names = _names(where, file, rows)
        return NormalisedRows(path, person, PIXELS, labels, marks, names)

    def read_masks(self, person: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Head and eyes (n,S,S) bool of rows of a person, as they are in the file.

        Raises:
            SourceError: a mask is missing or has an unexpected form.
        """
        path = self._path(person)
        with opened(path) as file:
            layout = _layout(str(path), file)
            head, eyes = _MASKS[layout]
            shape = rows_dataset(str(path), file, PIXELS, 3).shape[:3]
            found = [_mask(str(path), file, name, shape, rows) for name in (head, *eyes)]
        return found[0], np.any(found[1:], axis=0) & found[0]

    def read_codes(self, person: str) -> HeadCodes:
        """Codes and cameras of all rows of a person.

        Raises:
            SourceError: there are none, or they have an unexpected form.
        """
        path = self._path(person)
        where = str(path)
        with opened(path) as file:
            layout = _layout(where, file)
            rows = last_stored(rows_dataset(where, file, PIXELS, 3))
            sizes = _code_sizes(where, file)
            seed = layout == _SEED
            place = _group(where, file, "nl3dmm") if seed else file
            inside = f"{where}: nl3dmm" if seed else where
            name = "code" if seed else "latent_codes"
            values = numbers(inside, place, name, ((sum(sizes.values()),),), rows)
            shapes = dict.fromkeys(MATRICES, (3, 3)) | dict.fromkeys(VECTORS, (3,))
            cameras = {
                one: numbers(inside, place, one, (shape,), rows) for one, shape in shapes.items()
            }
            known = np.isfinite(values).all(axis=1)
            if seed:
                known &= _fitted(where, file, rows)
            kind = text_of(file.attrs.get("code_type", "nl3dmm"))
            identity = {
                key.removeprefix("code_"): text_of(value)
                for key, value in file.attrs.items()
                if key in ("code_encoder", "code_checkpoint_sha256", "code_head_sha256")
            }
        parts = np.split(values, np.cumsum([*sizes.values()])[:-1], axis=1)
        codes = dict(zip(sizes, parts, strict=True))
        return HeadCodes(kind, codes, known, cameras, identity)

    def _path(self, person: str) -> Path:
        if person not in self._home:
            raise SourceError(f"{self.root}: person {person}: no such file", "missing_person")
        return self._home[person]


def _named(path: Path) -> str:
    return path.stem if path.suffix == ".h5" else path.name.removeprefix(TEST).removeprefix(TRAIN)


def _read_head(path: Path, options: Options) -> tuple[str, dict]:
    """Whose file it is, and what it says of how it was made."""
    with opened(path) as file:
        person = text_of(file.attrs.get("person", _named(path)))
        layout = _layout(str(path), file)
        shape = rows_dataset(str(path), file, PIXELS, 3).shape
        if shape[1] != shape[2] or shape[3] != 3:
            raise SourceError(f"{path}: {PIXELS}: expected (N,S,S,3), found {shape}")
        said = {key: _told(path, file, key) for key in ("focal", "distance")}
        order = text_of(file.attrs.get("channel_order", "bgr"))
        gaze = layout == _GAZENERF or has(file, "face_gaze")
    side = int(shape[1])
    if options.channel_order != "auto":
        order = options.channel_order
    if order not in ("rgb", "bgr"):
        raise SourceError(f"{path}: channel_order: expected rgb or bgr, found {order!r:.40}")
    if layout == _GAZENERF:
        kind = next((one for one in _CAMERAS if path.name.startswith(one)), "")
        (focal, distance), full = _CAMERAS.get(kind, _CAMERA), _SIDE
    else:
        (focal, distance), full = _SEED_CAMERA, _SEED_SIDE
    return person, {
        "layout": layout,
        "side": side,
        "channel_order": order,
        "focal": options.focal or said["focal"] or focal * side / full,
        "distance": options.distance or said["distance"] or distance,
        "gaze": "known" if gaze else "absent",
    }


def _told(path: Path, file: h5py.File, key: str) -> float | None:
    value = file.attrs.get(key)
    value = value.item() if isinstance(value, np.generic) else value
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise SourceError(f"{path}: {key}: expected a number above 0, found {value!r:.80}")
    return float(value)


def _layout(where: str, file: h5py.File) -> str:
    for layout, keys in _KEYS.items():
        if all(has(file, key) for key in keys):
            return layout
    raise _strange(where, file)


def _strange(where: str, file: h5py.File) -> SourceError:
    wanted = " or ".join(", ".join((PIXELS, *keys)) for keys in _KEYS.values())
    return SourceError(
        f"{where}: expected {wanted}, found {sorted(map(str, file))[:20]}", "missing_key"
    )


def _group(where: str, file: h5py.File, name: str) -> h5py.Group:
    found = member(where, file, name)
    if not isinstance(found, h5py.Group):
        raise SourceError(f"{where}: {name}: expected a group, found another", "missing_key")
    return found


def _fitted(where: str, file: h5py.File, rows: int) -> np.ndarray:
    if not has(file, "valid_mask"):
        return np.ones(rows, bool)
    item = member(where, file, "valid_mask")
    if not isinstance(item, h5py.Dataset) or item.shape != (rows,) or item.dtype.kind not in "biu":
        raise SourceError(f"{where}: valid_mask: expected ({rows},) bool, found {item!r}")
    return item[()].astype(bool)


def _landmarks(where, file, name, shapes, rows) -> dict[str, np.ndarray]:
    if not has(file, name):
        return {}
    return {"landmarks": numbers(where, file, name, shapes, rows).reshape(rows, 68, 2)}


def _names(where: str, file: h5py.File, rows: int) -> tuple[str, ...]:
    if not (has(file, "frame_index") and has(file, "cam_index")):
        return ()
    frame, camera = (
        numbers(where, file, name, ((1,), ()), rows).reshape(rows)
        for name in ("frame_index", "cam_index")
    )
    return tuple(
        f"frame{int(f):04d}/cam{int(c):02d}" if f >= 0 and c >= 0 else ""
        for f, c in zip(frame, camera, strict=True)
    )


def _mask(where: str, file: h5py.File, name: str, shape, rows: np.ndarray) -> np.ndarray:
    item = member(where, file, name)
    if not isinstance(item, h5py.Dataset) or item.shape != shape or item.dtype.kind not in "bu":
        found = "none" if item is None else f"{getattr(item, 'shape', item)}"
        raise SourceError(f"{where}: {name}: expected masks {shape}, found {found}", "bad_shape")
    # As published: every test of a mask is for at least a half of the raw number.
    return np.stack([item[int(row)] for row in rows]) >= 1 if len(rows) else np.zeros((0,), bool)


def _code_sizes(where: str, file: h5py.File) -> dict[str, int]:
    told: Any = file.attrs.get("code_sizes")
    if told is None:
        return dict(NL3DMM)
    try:
        sizes = {name: int(json.loads(text_of(told))[name]) for name in NL3DMM}
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(
            f"{where}: code_sizes: expected numbers of {', '.join(NL3DMM)}, found {told!r:.80}"
        ) from error
    if min(sizes.values()) < 1 or max(sizes.values()) > 1024:
        raise SourceError(f"{where}: code_sizes: expected 1 to 1024 numbers each, found {sizes}")
    return sizes


def _attributes(said: dict):
    from regaze.faces import FacesAttributes

    return FacesAttributes(
        variant="gazenerf" if said["layout"] == _GAZENERF else "gazenerf-seed",
        patch_size=(said["side"], said["side"]),
        focal=said["focal"],
        distance=said["distance"],
        frame_check="none",
        source=GazeNerfPatches.kind,
        channel_order=said["channel_order"],
        gaze=said["gaze"],
    )
