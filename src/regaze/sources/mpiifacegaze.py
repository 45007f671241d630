"""MPIIFaceGaze: ``pPP/dayDD/NNNN.jpg``, an annotation per person and a calibrated camera.

Zhang et al., "It's Written All Over Your Face" (CVPR Workshops 2017). A line of ``pPP/pPP.txt``
holds 28 fields: the photo, the point on the screen (2-3), six landmarks (4-15), the head pose
(16-21), the face centre (22-24), the gaze target (25-27) and the eye chosen for evaluation;
millimetres in the camera's coordinates.

These labels are of the photos. Labels of the *normalised* release of the same data set have pitch
and yaw of the opposite sign to the convention of this project; do not mix the two.
"""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from pydantic import Field

from regaze.filetypes import unreadable
from regaze.sources.annotation import AnnotatedRows, pinhole
from regaze.sources.files import PersonFiles, data_folder, file_content
from regaze.sources.options import PhotoOptions
from regaze.sources.records import PersonPhotos, PersonRecords, SourceError, losing, safe_name
from regaze.sources.regular import read_regular

_FIELDS = 28
_LANDMARKS, _HEAD_POSE, _TARGET = slice(3, 15), slice(15, 21), slice(24, 27)
_EYES = ("left", "right")
_LARGEST_CALIBRATION = 1 << 24
_LARGEST_ANNOTATION = 1 << 28
_LARGEST_VARIABLE = 1 << 20
_MI_COMPRESSED = 15
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.I)


class Options(PhotoOptions):
    """An entry of ``datasets`` for MPIIFaceGaze."""

    source: Literal["mpiifacegaze"] = Field(description="photos and annotation of MPIIFaceGaze")
    pose: Literal["annotation", "landmarks"] = Field(
        "annotation",
        description="head poses: annotation takes those of the release, landmarks fits the "
        "14-point model to detected landmarks, as the files of published redirectors were made",
    )
    supplementary: str | None = Field(
        None, description="MPIIFaceGaze_supplementary.h5, used instead of the annotation"
    )

    def needs_landmarks(self) -> bool:
        """Whether landmarks are asked for and no file brings the poses."""
        return self.pose == "landmarks" and self.supplementary is None

    def files(self) -> dict[str, str]:
        """The supplementary file, when there is one."""
        return {} if self.supplementary is None else {"supplementary": self.supplementary}


def open_source(options: Options, supplementary=None):
    """Open MPIIFaceGaze.

    With a supplementary file, from ``options`` or from the pose step (``supplementary``, a path or
    several), the result is :class:`regaze.sources.supplementary.Supplemented`.

    Raises:
        SourceError: the folder or a file is missing, or holds no person.
    """
    files = supplementary if supplementary is not None else options.supplementary
    if files is None:
        return MPIIFaceGaze(options.root)
    from regaze.sources.supplementary import Supplemented

    return Supplemented(Path(options.root), options.source, files)


class MPIIFaceGaze(PersonFiles):
    """The photos below ``root`` with the labels of the release.

    ``persons`` is the sorted list of folders ``X`` that hold ``X.txt`` or ``Calibration``.

    Raises:
        SourceError: there is no such folder, or nobody in it.
    """

    kind = "mpiifacegaze"
    person_names = r"p\d\d"

    def __init__(self, root: str | Path):
        self.root = data_folder(root)
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        # A person without an annotation is one all the same, so that it is not lost unnoticed.
        self.persons = [
            path.name
            for path in folders
            if (path / f"{path.name}.txt").is_file() or (path / "Calibration").is_dir()
        ]
        if not self.persons:
            raise SourceError(f"{self.root}: expected folders such as p00 with p00.txt, found none")

    def read(self, person: str) -> PersonRecords:
        """Return the records of ``person`` in the order of its annotation.

        A line that cannot be read is one row of NaN, which the normalisation rejects; the log
        tells the line and the field.

        Raises:
            SourceError: the annotation or the camera's calibration is missing or unusable.
        """
        values, common = self._photographed(person)
        return PersonRecords(
            **common,
            head_pose=values[:, _HEAD_POSE],
            gaze_target=values[:, _TARGET],
            face_model="mpii6",
        )

    def photos(self, person: str) -> PersonPhotos:
        """Return the photos of ``person`` without head poses.

        The face box is the box of the six annotated landmarks, which run from eye corner to eye
        corner and down to the mouth, grown by half its size on every side.

        Raises:
            SourceError: as :meth:`read`.
        """
        values, common = self._photographed(person)
        points = values[:, _LANDMARKS].reshape(-1, 6, 2)
        low, high = points.min(axis=1), points.max(axis=1)
        return PersonPhotos(
            **common,
            face_box=np.concatenate([low - (high - low) / 2, 2 * (high - low)], axis=1),
            gaze_target=values[:, _TARGET],
            gaze_angles=np.full((len(values), 2), np.nan),
        )

    def _photographed(self, person: str) -> tuple[np.ndarray, dict]:
        """Return (N, 28) numbers of the annotation, and what records and photos share."""
        names, values = self._annotation(person)
        with losing(names):
            camera = read_camera(self.root / person / "Calibration" / "Camera.mat")
        lens = (np.tile(one, (len(names), 1)) for one in camera)
        common = {"root": self.root, "person": person, "file_name": names}
        return values, common | dict(zip(("camera_parameters", "distortion"), lens, strict=True))

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        own = [f"{person}/{person}.txt", f"{person}/Calibration/Camera.mat"]
        try:
            lines = read_regular(self.root / own[0], _LARGEST_ANNOTATION).splitlines()
        except OSError:
            return own
        fields = (line.decode("utf-8", "replace").split(None, 1) for line in lines)
        return own + [f"{person}/{one[0]}" for one in fields if one and safe_name(one[0])]

    def _annotation(self, person: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Return N names and (N, 28) numbers, NaN in fields 1 and 28 and in lines that are bad."""
        path = self.root / person / f"{person}.txt"
        if person not in self.persons:
            raise SourceError(f"{path}: person {person}: no such file", "missing_person")
        content = file_content(path, "a line per photo", "missing_person", _LARGEST_ANNOTATION)
        rows = AnnotatedRows(path, f"{_FIELDS} fields")
        for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if not line.strip():
                continue
            name, *found = _parse(line)
            name = f"{person}/{name}" if name else f"{person}/{person}.txt line {number}"
            rows.add(number, name, *found)
        return rows.columns("a line per photo")


def _parse(line: bytes) -> tuple[str, list[float], str]:
    """Return the photo's name, 28 numbers and what is wrong with the line ("" when nothing is)."""
    bad = [math.nan] * _FIELDS
    try:
        fields = line.decode("utf-8").split()
    except UnicodeDecodeError:
        return "", bad, f"expected UTF-8, found {line[:80]!r}"
    name = fields[0] if fields and safe_name(fields[0]) else ""
    if len(fields) != _FIELDS:
        return name, bad, f"expected {_FIELDS} fields, found {len(fields)}"
    if not name:
        return name, bad, f"field 1: expected a path below the person's folder, found {fields[0]!r}"
    if fields[-1] not in _EYES:
        return name, bad, f"field 28: expected left or right, found {fields[-1]!r:.80}"
    values = list(bad)
    for index, field in enumerate(fields[1:-1], 1):
        if not _NUMBER.fullmatch(field):
            return name, bad, f"field {index + 1}: expected a number, found {field!r:.80}"
        values[index] = float(field)
    return name, values, ""


def read_camera(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (4,) fx, fy, cx, cy and (k,) distortion of a ``Camera.mat``.

    Both forms of the format are read: up to version 7 by scipy, which runs nothing that a file
    holds, and 7.3, which is HDF5, by h5py.

    Raises:
        SourceError: the file is missing or no such file, or ``cameraMatrix`` or ``distCoeffs`` is
            missing or no calibration.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(f"{path}: no such calibration file", "missing_key")
    if path.stat().st_size > _LARGEST_CALIBRATION:
        raise SourceError(
            f"{path}: expected at most {_LARGEST_CALIBRATION} bytes, found {path.stat().st_size}",
            "bad_shape",
        )
    found = _matlab_hdf5(path) if h5py.is_hdf5(path) else _matlab(path)
    for key in ("cameraMatrix", "distCoeffs"):
        if key not in found:
            raise SourceError(f"{path}: {key}: expected an array, found none", "missing_key")
    matrix, distortion = found["cameraMatrix"], found["distCoeffs"].reshape(-1)
    if matrix.shape != (3, 3) or distortion.size not in (4, 5, 8, 12, 14):
        raise SourceError(
            f"{path}: expected cameraMatrix (3, 3) and 4, 5, 8, 12 or 14 distCoeffs, "
            f"found {matrix.shape} and {distortion.size}",
            "bad_shape",
        )
    return pinhole(f"{path}: cameraMatrix", matrix), distortion


def _matlab(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    _require_small(path)
    try:
        found = loadmat(path, variable_names=["cameraMatrix", "distCoeffs"])
    except Exception as error:  # scipy's reader raises whatever a damaged file leads it to
        told = unreadable(path, "expected a MATLAB file, found another", ("mat", "binary"), error)
        raise SourceError(told, "bad_shape") from None
    return {name: _numeric(path, name, value) for name, value in found.items() if name[0] != "_"}


def _require_small(path: Path) -> None:
    """Refuse a file whose compressed variables expand beyond what a calibration can hold.

    From version 5 on a file is 128 bytes and then elements, each with a type and a size of 4 bytes
    before it; type 15 is a variable in zlib's format (MathWorks, "MAT-File Format"). scipy
    inflates whatever there is.
    """
    with path.open("rb") as file:
        head = file.read(128)
        order: Literal["little", "big"] = "big" if head[126:128] == b"MI" else "little"
        while len(tag := file.read(8)) == 8:
            kind, size = (int.from_bytes(part, order) for part in (tag[:4], tag[4:]))
            if kind >> 16:  # a small element, whose data is in the tag
                continue
            content = file.read(size)
            if kind != _MI_COMPRESSED:
                continue
            unpack = zlib.decompressobj()
            try:
                unpack.decompress(content, _LARGEST_VARIABLE)
            except zlib.error as error:
                raise SourceError(
                    f"{path}: expected a MATLAB file, found {error}", "bad_shape"
                ) from error
            if unpack.unconsumed_tail:
                raise SourceError(
                    f"{path}: expected variables of at most {_LARGEST_VARIABLE} bytes, "
                    "found a compressed one of more",
                    "bad_shape",
                )


def _matlab_hdf5(path: Path) -> dict[str, np.ndarray]:
    from regaze.sources.hdf5 import has, numbers, opened, rows_dataset

    found = {}
    with opened(path) as file:
        for name in ("cameraMatrix", "distCoeffs"):
            if not has(file, name):
                continue
            item = rows_dataset(str(path), file, name, 1)
            if item.size > 64:
                raise SourceError(
                    f"{path}: {name}: expected a calibration, found shape {item.shape}", "bad_shape"
                )
            # The file holds columns first.
            found[name] = numbers(str(path), file, name, (item.shape[1:],), len(item)).T
    return found


def _numeric(path: Path, name: str, value) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise SourceError(
            f"{path}: {name}: expected numbers, found type {array.dtype}", "bad_shape"
        )
    return array.astype(np.float64)
