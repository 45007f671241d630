"""GazeCapture's layout: ``<person>/frames/NNNNN.jpg``, JSON files, and a supplementary HDF5.

Krafka et al., "Eye Tracking for Everyone" (CVPR 2016), ``CSAILVision/GazeCapture``; the
supplementary file is the one that ``swook/faze_preprocess`` reads. Where there is none, the JSON
files give what it takes to make one: the photos, the subject's face and the target. The synthetic
capture writes the same layout, and beside it ``parameters.h5`` with the 68 landmarks of a photo.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from regaze.sources.devices import (
    SCREENS,
    assumed_camera,
    camera_to_target,
    canonical,
    focal_factor,
    photo_sizes,
    points_to_camera,
)
from regaze.sources.files import BarePhotos, PersonFiles, data_folder, file_content
from regaze.sources.hdf5 import MAX_ROWS
from regaze.sources.options import PhotoOptions
from regaze.sources.records import PersonPhotos, SourceError, losing, printable, safe_name
from regaze.sources.supplementary import SUPPLEMENTARY_NAMES, Supplemented

log = logging.getLogger(__name__)

_PERSON_MARKS = ("frames.json", "frames", "info.json")
_PARAMETERS = "parameters.h5"
_READ = ("frames", "appleFace", "dotInfo", "screen", "info")
"""JSON files that photos without a supplementary file are read with."""


class Options(PhotoOptions):
    """A copy of GazeCapture, as unpacked."""

    source: Literal["gazecapture"] = Field(description="GazeCapture's layout")
    supplementary: str | None = Field(
        None,
        description="HDF5 of head poses, targets and cameras; default <root>/supplementary.h5 or "
        "<root>/GazeCapture_supplementary.h5; without any it is made from photos and JSON files",
    )
    focal_factor: float | None = Field(
        None,
        gt=0,
        description="only without a supplementary file: focal length of every device over the "
        "longer side of its frames; default what is known of the device, else 1.0",
    )
    focal_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="the same by DeviceName, such as {iPad Air: 0.95}; comes before focal_factor",
    )

    def needs_landmarks(self) -> bool:
        """Whether there is no supplementary file, neither named nor in the root."""
        return self.supplementary is None and _supplementary(Path(self.root)) is None

    def brings_landmarks(self) -> bool:
        """Whether ``parameters.h5`` lies in the root, as it does of a rendered capture."""
        return not self.needs_landmarks() and (Path(self.root) / _PARAMETERS).is_file()

    def files(self) -> dict[str, str]:
        """The supplementary file, and ``parameters.h5`` in the root when there is one."""
        found = self.supplementary or _supplementary(Path(self.root))
        files = {} if found is None else {"supplementary": str(found)}
        if (Path(self.root) / _PARAMETERS).is_file():
            files["parameters"] = str(Path(self.root) / _PARAMETERS)
        return files


def open_source(options: Options, supplementary=None) -> LabelledFrames | GazeCapture:
    """Open the copy of GazeCapture that ``options`` describe.

    ``supplementary`` (a path, or several) comes before the options' own, and before
    ``supplementary.h5`` or ``GazeCapture_supplementary.h5`` in the root.

    Raises:
        SourceError: the folder or a file is missing or not HDF5, or holds no person.
    """
    labels = supplementary or options.supplementary or _supplementary(data_folder(options.root))
    if labels is None:
        return GazeCapture(options)
    return labelled(options.root, options.source, labels)


def labelled(root: str | Path, kind: str, labels) -> LabelledFrames:
    """Return photos with the labels of supplementary files, a path or several.

    Landmarks are those of ``parameters.h5`` (``<person>/landmarks`` (N, 68, 2) in photo pixels)
    where the root has it.

    Raises:
        SourceError: as :func:`open_source`.
    """
    parameters = data_folder(root) / _PARAMETERS
    return LabelledFrames(root, kind, labels, parameters if parameters.is_file() else None)


class Frames(PersonFiles):
    """Folders of persons as GazeCapture has them."""

    person_names = r"\d{5}"

    def known_rows(self, person: str) -> int | None:
        """Return how many frames ``frames.json`` lists, or else lie in the person's folder."""
        listed = self._frames(person)
        return min(len(listed), MAX_ROWS) if listed else super().known_rows(person)

    def _frames(self, person: str) -> list:
        """What ``frames.json`` lists, nothing where it cannot be used."""
        try:
            listed = _load(self.root / person / "frames.json")
        except SourceError:
            return []
        return listed if isinstance(listed, list) else []

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        frames = (f"{person}/frames/{one}" for one in self._frames(person) if isinstance(one, str))
        return [*(f"{person}/{name}.json" for name in _READ), *filter(safe_name, frames)]


class LabelledFrames(Frames, Supplemented):
    """GazeCapture's photos with the labels of their supplementary file."""


class GazeCapture(Frames, BarePhotos):
    """GazeCapture's photos without a supplementary file; ``persons`` are the folders of the root.

    Raises:
        SourceError: the folder is missing, or holds no person.
    """

    kind = "gazecapture"
    labels = " or ".join(SUPPLEMENTARY_NAMES)

    def __init__(self, options: Options):
        self.root, self._options = data_folder(options.root), options
        self.persons = _person_folders(self.root)
        if not self.persons:
            raise SourceError(
                f"{self.root}: expected {self.labels}, or folders of persons with frames.json, "
                "found neither"
            )

    def photos(self, person: str) -> PersonPhotos:
        """Return every frame that ``frames.json`` lists, with what the JSON files say of it.

        Frames without a valid face are listed too, with a box of NaN. A target is NaN where the
        dot is not finite, and the camera where the photo's header cannot be read; such rows are
        for later steps to reject, so that none is lost.

        Raises:
            SourceError: the person or a file is missing, a file is no JSON, or one of its arrays
                is missing, of another length than ``frames.json``, or not of numbers.
        """
        folder = self.root / person
        if not safe_name(person) or not folder.is_dir():
            raise SourceError(f"{folder}: expected a person's folder, found none", "missing_person")
        listed = _load(folder / "frames.json")
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise SourceError(
                f"{folder / 'frames.json'}: expected a list of file names, found {listed!r:.80}",
                "bad_shape",
            )
        names = tuple(f"{person}/frames/{one}" for one in map(printable, listed))
        with losing(names):
            return self._described(folder, names)

    def _described(self, folder: Path, names: tuple[str, ...]) -> PersonPhotos:
        count = len(names)
        box = _arrays(folder / "appleFace.json", ("X", "Y", "W", "H", "IsValid"), count)
        valid = (box[:, 4] == 1) & np.isfinite(box).all(axis=1) & (box[:, 2:4] > 0).all(axis=1)
        target = camera_to_target(_dots(folder, count))
        lost = ~np.isfinite(target).all(axis=1)
        target[lost] = np.nan
        if lost.any():
            log.warning("%s: %d of %d frames have no finite target", folder, lost.sum(), count)
        paths = [self.root / one if safe_name(one) else None for one in names]
        factor, _ = self._factor(folder)
        return PersonPhotos(
            root=self.root,
            person=folder.name,
            file_name=names,
            camera_parameters=assumed_camera(photo_sizes(paths), factor),
            distortion=np.zeros((count, 5)),
            face_box=np.where(valid[:, None], box[:, :4], np.nan),
            gaze_target=target,
            gaze_angles=np.full((count, 2), np.nan),
        )

    def camera_assumption(self, person: str) -> str:
        """Return in one line what the cameras of :meth:`photos` rest on.

        Raises:
            SourceError: the person's ``info.json`` cannot be used.
        """
        factor, reason = self._factor(self.root / person)
        return (
            f"f = {factor:.4g} x the longer side ({reason}), principal point in the middle, "
            "no distortion"
        )

    def _factor(self, folder: Path) -> tuple[float, str]:
        factors = self._options.focal_factor, self._options.focal_factors
        return focal_factor(_device(folder), *factors)


def _dots(folder: Path, count: int) -> np.ndarray:
    """Return the dots (N, 2) relative to the camera in cm, from points where need be."""
    path = folder / "dotInfo.json"
    content = _load(path)
    if not isinstance(content, dict) or {"XCam", "YCam"} & set(content):
        return _arrays(path, ("XCam", "YCam"), count, content)
    points = _arrays(path, ("XPts", "YPts"), count, content)
    held = _arrays(folder / "screen.json", ("W", "H", "Orientation"), count)
    device = _device(folder)
    if canonical(device) not in SCREENS:
        raise SourceError(
            f"{path}: XCam: expected it, or a DeviceName in info.json whose screen is "
            f"known ({', '.join(SCREENS)}), found neither but {device!r}",
            "missing_key",
        )
    return points_to_camera(points, held[:, 2], held[:, :2], SCREENS[canonical(device)])


def _supplementary(root: Path) -> Path | None:
    return next((root / name for name in SUPPLEMENTARY_NAMES if (root / name).is_file()), None)


def _person_folders(root: Path) -> list[str]:
    folders = [one for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")]
    persons = sorted(
        one.name for one in folders if any((one / mark).exists() for mark in _PERSON_MARKS)
    )
    for person in persons:
        if printable(person) != person:
            raise SourceError(f"{root}: expected UTF-8 names of persons, found {printable(person)}")
    return persons


def _load(path: Path) -> Any:
    content = file_content(path, "a JSON file")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: expected JSON, found {error}") from error


def _arrays(path: Path, keys: Sequence[str], count: int, content: Any = None) -> np.ndarray:
    """Return arrays of one number per frame as columns, (N, len(keys)) float64."""
    content = _load(path) if content is None else content
    if not isinstance(content, dict):
        found = type(content).__name__
        raise SourceError(f"{path}: expected an object of arrays, found {found}", "bad_shape")
    columns = np.empty((count, len(keys)))
    for number, key in enumerate(keys):
        where = f"{path}: {key}"
        if key not in content:
            found = f"found only {sorted(content)}"
            raise SourceError(f"{where}: expected an array, {found}", "missing_key")
        values = content[key]
        if not isinstance(values, list) or len(values) != count:
            found = len(values) if isinstance(values, list) else f"{values!r:.80}"
            raise SourceError(
                f"{where}: expected an array of {count} as in frames.json, found {found}",
                "bad_shape",
            )
        for row, value in enumerate(values):
            flag = isinstance(value, bool) and key != "IsValid"
            if flag or not isinstance(value, int | float):
                told = f"entry {row}: expected a number, found {value!r:.80}"
                raise SourceError(f"{where}: {told}", "bad_shape")
            # JSON can hold infinities and endless integers.
            columns[row, number] = value if abs(value) <= 1e300 else np.nan
    return columns


def _device(folder: Path) -> str:
    path = folder / "info.json"
    content = _load(path)
    if not isinstance(content, dict) or not isinstance(content.get("DeviceName"), str):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise SourceError(f"{path}: DeviceName: expected a name, found only {found}", "missing_key")
    return content["DeviceName"]
