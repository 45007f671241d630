"""ETH-XGaze as photos: ``data/train/subjectSSSS/frameFFFF/camCC.JPG``, CSV labels, calibrations.

Zhang et al., "ETH-XGaze" (ECCV 2020); facts of the layout: ``xucong-zhang/ETH-XGaze``. A line of
``data/annotation_train/subjectSSSS.csv`` holds frame folder, photo, the point on the screen
(columns 2-3, from 0), the gaze target in that camera (4-6, mm), the head's rotation vector (7-9)
and translation (10-12, mm), and the 68 landmarks x, y (13-148). Cameras 3, 6 and 13 hang upside
down: their photos are turned by 180 degrees before labels, landmarks and calibration apply.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import Field, field_validator

from regaze.sources.annotation import AnnotatedRows, pinhole
from regaze.sources.files import PersonFiles, data_folder, file_content, photos_below
from regaze.sources.options import PhotoOptions
from regaze.sources.records import PersonRecords, SourceError, losing, safe_name
from regaze.sources.regular import open_regular, read_json

log = logging.getLogger(__name__)

TURNED = (3, 6, 13)
"""Cameras that hang upside down."""
SPLIT_FILE = "train_test_split.json"

_COLUMNS = 149
_TARGET, _HEAD_POSE, _LANDMARKS = slice(4, 7), slice(7, 13), slice(13, 149)
_PHOTO = re.compile(r"cam(\d{2})\.(jpe?g|png)", re.I)
_FRAME = re.compile(r"frame\d+")
_LARGEST_CALIBRATION = 1 << 17
_LARGEST_ANNOTATION = 1 << 30


class Options(PhotoOptions):
    """An entry of ``datasets`` for the photos of ETH-XGaze."""

    deserted: ClassVar[tuple[str, ...]] = ("val",)

    source: Literal["eth_xgaze"] = Field(description="photos and annotation of ETH-XGaze")
    distortion: Literal["ignored", "used"] = Field(
        "ignored", description="lens distortion; the release's own patches ignore it"
    )
    cameras: list[int] | None = Field(
        None, description="numbers of the cameras to use, 0 to 17; default all"
    )
    every: int = Field(1, ge=1, description="use every n-th frame of a person, all its cameras")

    def brings_landmarks(self) -> bool:
        """The annotation has them."""
        return True

    @field_validator("cameras")
    @classmethod
    def _numbers(cls, cameras):
        if cameras is None:
            return None
        if not cameras or min(cameras) < 0 or max(cameras) > 99:
            raise ValueError(f"expected numbers of cameras such as 0 to 17, found {cameras}")
        return sorted(set(cameras))


def open_source(options: Options, supplementary=None):
    """Open the photos of ETH-XGaze.

    With supplementary files (a path or several) the result is
    :class:`regaze.sources.supplementary.Supplemented`; photos of the cameras that hang upside
    down cannot be described by such a file.

    Raises:
        SourceError: the folder is missing or holds no annotation.
    """
    if supplementary is not None:
        raise SourceError(
            f"{options.root}: source 'eth_xgaze' has its own head poses and takes no "
            f"supplementary file, found {supplementary}"
        )
    return ETHXGaze(options)


class ETHXGaze(PersonFiles):
    """The photos below ``root`` with the labels of ``data/annotation_train``.

    ``persons`` are its CSV files and the folders of ``data/train``, sorted. Persons of the test
    sets have no labels in the release and do not appear.

    Raises:
        SourceError: there is no such folder, or no annotation in it.
    """

    kind = "eth_xgaze"
    person_names = r"subject\d{4}"

    def __init__(self, options: Options):
        self.root, self.options = data_folder(options.root), options
        self._folder = self.root / "data" / "annotation_train"
        # A person whose annotation is missing is one all the same, so as not to be lost unnoticed.
        photos = self.root / "data" / "train"
        found = {path.stem for path in self._folder.glob("*.csv") if path.is_file()}
        found |= {path.name for path in photos.glob("subject*") if path.is_dir()}
        self.persons = sorted(found) if self._folder.is_dir() else []
        if not self.persons:
            raise SourceError(f"{self._folder}: expected subject0000.csv and so on, found none")
        self._cameras: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def place(self) -> Path:
        """The folder of the subjects' folders."""
        return self.root / "data" / "train"

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        # Photos that lie there, not those of the annotation: 80 of those are 1.6 GB of text.
        names = [f"data/annotation_train/{person}.csv"]
        cameras = set()
        for name in photos_below(self.folder(person)):
            match = _PHOTO.fullmatch(name.rsplit("/", 1)[-1])
            if match and self._chosen(int(match[1])):
                cameras.add(match[1])
                names.append(f"data/train/{person}/{name}")
        return names + [f"calibration/cam_calibration/cam{one}.xml" for one in sorted(cameras)]

    def _chosen(self, camera: int) -> bool:
        return self.options.cameras is None or camera in self.options.cameras

    def known_rows(self, person: str) -> int | None:
        """Return how many photos of the chosen cameras lie in the person's folder."""
        return sum(name.startswith("data/train/") for name in self.person_files(person)) or None

    def split(self) -> dict[str, list[str]]:
        """Return the release's split; see :func:`released_split`."""
        return released_split(self.root, self.persons)

    def read(self, person: str) -> PersonRecords:
        """Return the records of ``person`` in the order of its annotation.

        A line that cannot be read is one row of NaN, which the normalisation rejects; the log
        tells the line and the column.

        Raises:
            SourceError: the annotation or a calibration is missing or unusable.
        """
        names, values, cameras = self._annotation(person)
        parameters = np.full((len(names), 4), np.nan)
        distortion = np.zeros((len(names), 5))
        for number in sorted(set(cameras.tolist()) - {-1}):
            with losing(names):
                lens, bend = self._calibration(number)
            rows = cameras == number
            parameters[rows] = lens
            if self.options.distortion == "used":
                distortion[rows] = bend
        return PersonRecords(
            root=self.root,
            person=person,
            file_name=names,
            camera_parameters=parameters,
            distortion=distortion,
            head_pose=values[:, _HEAD_POSE],
            gaze_target=values[:, _TARGET],
            landmarks=values[:, _LANDMARKS].reshape(-1, 68, 2),
            face_model="xgaze6",
            turned=np.isin(cameras, TURNED),
        )

    def _calibration(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        if number not in self._cameras:
            folder = self.root / "calibration" / "cam_calibration"
            self._cameras[number] = read_camera(folder / f"cam{number:02d}.xml")
        return self._cameras[number]

    def _annotation(self, person: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Return N names, (N, 149) numbers and (N,) cameras, -1 where unknown."""
        path = self._folder / f"{person}.csv"
        if person not in self.persons:
            raise SourceError(f"{path}: person {person}: no such file", "missing_person")
        rows, cameras = AnnotatedRows(path, f"{_COLUMNS} columns"), []
        frames: dict[str, int] = {}
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            fields = _fields(line)
            frame, camera, values, fault = _parse(fields)
            if camera >= 0:
                rank = frames.setdefault(frame, len(frames))
                if rank % self.options.every or not self._chosen(camera):
                    continue
            label = f"data/annotation_train/{person}.csv line {number}"
            photo = f"data/train/{person}/{frame}/{fields[1]}" if camera >= 0 else label
            rows.add(number, photo, values, fault)
            cameras.append(camera)
        return *rows.columns("lines of the chosen cameras"), np.array(cameras)


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of an annotation.

    Raises:
        SourceError: there is no such file, or it is too large.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_ANNOTATION:
                raise SourceError(
                    f"{path}: expected at most {_LARGEST_ANNOTATION} bytes, found {size}",
                    "bad_shape",
                )
            yield from io.TextIOWrapper(file, "utf-8-sig", "backslashreplace")
    except OSError as error:
        raise SourceError(
            f"{path}: expected a line per photo, found {error.strerror or error}", "missing_person"
        ) from error


def _fields(line: str) -> list[str]:
    """Return the fields of one line, which is one row whatever quotes are in it."""
    try:
        return next(csv.reader([line.rstrip("\r\n").replace("\0", "\\0")]))
    except csv.Error as error:
        log.debug("line taken as a single field: %s", error)
        return [line]


def _parse(fields: list[str]) -> tuple[str, int, list[float] | np.ndarray, str]:
    """Return frame, camera (-1 unknown), 149 numbers and what is wrong ("" when nothing is)."""
    bad = [math.nan] * _COLUMNS
    frame, photo = (fields[0].strip(), fields[1].strip()) if len(fields) > 1 else ("", "")
    match = _PHOTO.fullmatch(photo)
    known = match is not None and _FRAME.fullmatch(frame) is not None and safe_name(photo)
    camera = int(match.group(1)) if known else -1
    frame = frame if known else ""
    if len(fields) != _COLUMNS:
        return frame, camera, bad, f"expected {_COLUMNS} columns, found {len(fields)}"
    if not known:
        return (
            frame,
            camera,
            bad,
            f"columns 0 and 1: expected frame0000 and cam00.JPG, found {fields[0]!r:.60} and "
            f"{fields[1]!r:.60}",
        )
    fields[1] = photo
    values = list(bad)
    for column, field in enumerate(fields[2:], 2):
        try:
            values[column] = float(field)
        except ValueError:
            return frame, camera, bad, f"column {column}: expected a number, found {field!r:.80}"
    return frame, camera, values, ""


def released_split(root: str | Path, persons: list[str]) -> dict[str, list[str]]:
    """Return ``train``, ``val`` and ``test`` of ``train_test_split.json`` in ``root``.

    The file lists HDF5 names under ``train``, ``test`` and ``test_person_specific``. The release
    keeps the labels of both test sets to itself, so ``test`` holds those of ``test`` that are
    among ``persons``, nobody as a rule, and ``val`` nobody; a split of ``train`` by shares gives
    numbers. Without the file everybody is in ``train``.

    Raises:
        SourceError: the file is no JSON object of lists of names, or lacks ``train``.
    """
    path = Path(root) / SPLIT_FILE
    if not path.is_file():
        return {"train": list(persons), "val": [], "test": []}
    content = read_json(path, SourceError)
    if not isinstance(content, dict) or "train" not in content:
        raise SourceError(f"{path}: train: expected a list of file names, found none")
    known = set(persons)
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for part in ("train", "test"):
        names = content.get(part, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise SourceError(f"{path}: {part}: expected a list of file names, found {names!r:.80}")
        listed = [name.removesuffix(".h5") for name in names]
        found = split[part] = [person for person in listed if person in known]
        if len(found) < len(listed):
            told = (path, part, len(found), len(listed))
            log.info("%s: %s: %d of %d persons have labels here", *told)
    return split


def read_camera(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Return (4,) fx, fy, cx, cy and (5,) distortion of an OpenCV FileStorage XML.

    The nodes ``Camera_Matrix`` (3 x 3) and ``Distortion_Coefficients`` (five numbers) are read.
    A file with a document type or an entity is refused, since those can expand without bound.

    Raises:
        SourceError: the file is missing, larger than 128 KiB or no such XML, or a node is missing
            or no calibration.
    """
    path = Path(path)
    content = file_content(path, "a calibration", most=_LARGEST_CALIBRATION)
    try:
        text = content.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise SourceError(f"{path}: expected plain XML, found a document type", "bad_shape")
        root = ElementTree.fromstring(text)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: expected UTF-8, found {error}", "bad_shape") from error
    except ElementTree.ParseError as error:
        raise SourceError(f"{path}: expected XML, found {error}", "bad_shape") from error
    matrix = _matrix(path, root, "Camera_Matrix", 9).reshape(3, 3)
    distortion = _matrix(path, root, "Distortion_Coefficients", 5)
    return pinhole(f"{path}: Camera_Matrix", matrix), distortion


def _matrix(path: Path, root: ElementTree.Element, name: str, size: int) -> np.ndarray:
    node = root.find(name)
    text = None if node is None else node.findtext("data")
    where = f"{path}: {name}"
    if text is None:
        raise SourceError(f"{where}: expected a matrix, found none", "missing_key")
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError as error:
        raise SourceError(f"{where}: expected numbers, found {error}", "bad_shape") from error
    if values.size != size:
        raise SourceError(f"{where}: expected {size} numbers, found {values.size}", "bad_shape")
    return values
