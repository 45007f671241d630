"""Any photos: a folder per person, or one folder of one person, with what the user knows of them.

Nothing is asked for but the photos. Landmarks, cameras and gaze can be brought as CSV tables; see
:mod:`regaze.sources.tables`. What is not known of the camera is assumed as in the ``custom`` mode
of gaze normalisation, except that the focal length is as long as the photo's longer side, however
it was held; principal point in the middle, no distortion.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from regaze.sources.devices import assumed_camera, photo_sizes
from regaze.sources.files import BarePhotos, data_folder
from regaze.sources.options import BarePhotoOptions
from regaze.sources.photo_header import PHOTO_ENDINGS, left_out, photo_endings
from regaze.sources.records import PersonPhotos, SourceError, losing, printable
from regaze.sources.regular import link_out
from regaze.sources.supplementary import Supplemented
from regaze.sources.tables import EVERYBODY, LANDMARKS, Table

log = logging.getLogger(__name__)

_LENS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty")
_CAMERA = ("fx", "fy", "cx", "cy")
_CAMERAS = tuple((*_CAMERA, *_LENS[:count]) for count in (0, 4, 5, 8, 12, 14))
_TARGET = ("target_x", "target_y", "target_z")
_ANGLES = ("pitch", "yaw")
_DEGREES, _RADIANS = ("pitch_deg", "yaw_deg"), ("pitch_rad", "yaw_rad")

_RIGHT_ANGLE = math.pi / 2
_LEAST_DEGREES = 1.6
"""Angles all below it are those of radians up to a right one."""
_LEAST_MM = 20.0
"""Targets all within it are those of metres, or of a phone in centimetres."""
_LEAST_FOCAL = 0.1
"""Focal length over the longer side below which a camera sees more than 157 degrees."""
_MOST_ASIDE = 0.25
"""Distance of the principal point from the photo's middle over the side; cut photos have more."""


class Options(BarePhotoOptions):
    """A folder of photos."""

    source: Literal["folder"] = Field(description="any photos, in a folder per person")
    person: str | None = Field(
        None,
        pattern=r"^[^/\\.][^/\\]*$",
        description="name of the one person whom all photos show; default: each folder below "
        "root is a person",
    )
    intrinsics: str | None = Field(
        None,
        description="CSV of cameras: file_name (or * for all, <person>/* for a person's), fx, fy, "
        "cx, cy (pixels of the photo as it is shown), and 4, 5, 8, 12 or 14 of k1, k2, p1, p2, k3, "
        "k4, k5, k6, s1 to s4, tx, ty; default: assumed",
    )
    gaze: str | None = Field(
        None,
        description="CSV of gaze: file_name, and target_x, target_y, target_z (mm from the camera, "
        "x to the photo's right, y down, z away from it), or pitch_deg, yaw_deg or pitch_rad, "
        "yaw_rad (degrees, radians off the line from the face to the camera: up is positive, and "
        "so is the photo's left; 0, 0 looks into the camera); pitch, yaw are degrees; default: not "
        "known",
    )
    focal_factor: float = Field(
        1.0, gt=0, description="assumed focal length over the photo's longer side"
    )

    def files(self) -> dict[str, str]:
        """The tables."""
        tables = {name: getattr(self, name) for name in ("landmarks", "intrinsics", "gaze")}
        return {name: path for name, path in tables.items() if path is not None}


def open_source(options: Options, supplementary=None) -> Folder | Supplemented:
    """Open the folder that ``options`` describe.

    With ``supplementary`` (a path, or several) the result hands out records with head poses.

    Raises:
        SourceError: as :class:`Folder` or :class:`Supplemented`.
    """
    if supplementary:
        known = options.gaze is not None
        return Supplemented(options.root, options.source, supplementary, gaze_known=known)
    return Folder(options)


class Folder(BarePhotos):
    """Photos in a folder per person, in the order of their names.

    Hidden files and folders (with a leading dot) are passed over, and so are files that do not end
    as photos do, whose number the log tells. A link that leads out of the folder to anywhere but
    DVC's cache is refused, and so is any link to a folder.

    Attributes:
        gaze_known: whether there is a table of gaze.

    Raises:
        SourceError: there is no such folder or table, no person or photo, or photos lie beside
            the persons' folders.
    """

    kind = "folder"

    def __init__(self, options: Options):
        self.root, self.focal_factor = data_folder(options.root), options.focal_factor
        self._person = person = options.person
        self.persons = [person] if person is not None else person_folders(self.root)
        self._landmarks = self._cameras = self._gaze = None
        if options.landmarks is not None:
            self._landmarks = Table(options.landmarks, [LANDMARKS], person)
        if options.intrinsics is not None:
            self._cameras = Table(options.intrinsics, _CAMERAS, person, positive=("fx", "fy"))
        if options.gaze is not None:
            self._gaze = Table(options.gaze, [_TARGET, _ANGLES, _DEGREES, _RADIANS], person)
        self.gaze_known = self._gaze is not None

    def photos(self, person: str) -> PersonPhotos:
        """Return the photos of one person with what the tables say of them.

        A photo whose name is no UTF-8 is listed under the name spelled out with escapes, where no
        later step will find it, so that it is rejected under that name.

        Raises:
            SourceError: the person is unknown or has no photo, a link leads elsewhere, or a table
                has a fault; the message names file, line and column.
        """
        self.require(person)
        folder = self.folder(person)
        names, others = photo_names(self.root, folder)
        if not names:
            there = f"none but {others}" if others else "none"
            raise SourceError(
                f"{folder}: expected photos ({' '.join(photo_endings())}), found {there}",
                "missing_person",
            )
        if others:
            log.warning(
                "%s: person %s: %d photos; other files are left out: %s",
                *(self.root, person, len(names), others),
            )
        with losing(names):
            return self._described(person, tuple(names))

    def folder(self, person: str) -> Path:
        """Return where a person's photos lie."""
        return self.root if self._person is not None else super().folder(person)

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        try:
            return photo_names(self.root, self.folder(person))[0]
        except SourceError as error:
            return list(error.file_names)

    def camera_assumption(self, person: str) -> str:
        """Return in one line what the cameras of :meth:`photos` rest on."""
        assumed = (
            f"f = {self.focal_factor:.4g} x the longer side (assumed), principal point in the "
            "middle, no distortion"
        )
        return assumed if self._cameras is None else f"{self._cameras.path.name}; else {assumed}"

    def _described(self, person: str, names: tuple[str, ...]) -> PersonPhotos:
        count = len(names)
        sizes = photo_sizes([self.root / name for name in names])
        camera = assumed_camera(sizes, self.focal_factor)
        lens = np.zeros((count, 5))
        if self._cameras is not None:
            known = rows_of(self._cameras, person, names, (f"{person}/{EVERYBODY}", EVERYBODY))
            if len(self._cameras.columns) > len(_CAMERA):
                lens = np.nan_to_num(known[:, len(_CAMERA) :])
            known = known[:, : len(_CAMERA)]
            _doubt_cameras(f"{self._cameras.path}: person {person}", known, sizes)
            camera = np.where(np.isnan(known), camera, known)
        target, angles = np.full((count, 3), np.nan), np.full((count, 2), np.nan)
        if self._gaze is not None:
            found = rows_of(self._gaze, person, names)
            where = f"{self._gaze.path}: person {person}"
            if self._gaze.columns == _TARGET:
                _doubt_targets(where, found)
                target = found
            else:
                angles = _radians(where, self._gaze.columns, found, names)
        return PersonPhotos(
            root=self.root,
            person=person,
            file_name=names,
            camera_parameters=camera,
            distortion=lens,
            face_box=np.full((count, 4), np.nan),
            gaze_target=target,
            gaze_angles=angles,
            gaze_known=self.gaze_known,
            landmarks=landmarks_of(self._landmarks, person, names),
        )


def _radians(
    where: str, columns: tuple[str, ...], angles: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    """Return pitch and yaw (N, 2) of the photos ``names`` in radians.

    Raises:
        SourceError: one is beyond 90 or 180 degrees.
    """
    if columns == _RADIANS:
        unit, limits = "radians", (_RIGHT_ANGLE, 2 * _RIGHT_ANGLE)
    else:
        unit, limits = "degrees", (90.0, 180.0)
        largest = np.nanmax(np.abs(angles), initial=0.0)
        if 0.0 < largest < _LEAST_DEGREES:
            log.warning(
                "%s: %s: expected degrees, found none above %.3g; radians have to be in columns "
                "%s, %s",
                *(where, ", ".join(columns), largest, *_RADIANS),
            )
    for column, limit, values in zip(columns, limits, angles.T, strict=True):
        far = np.flatnonzero(np.isfinite(values) & (np.abs(values) > limit * (1 + 1e-6)))
        if len(far):
            raise SourceError(
                f"{where}: {names[far[0]]}: {column}: expected at most {limit:.4g} {unit}, found "
                f"{values[far[0]]:.6g}"
            )
    return angles if columns == _RADIANS else np.radians(angles)


def _doubt_targets(where: str, targets: np.ndarray) -> None:
    """Warn of targets (N, 3) that can hardly be in millimetres."""
    largest = np.nanmax(np.abs(targets), initial=0.0)
    if 0.0 < largest < _LEAST_MM:
        log.warning(
            "%s: %s: expected millimetres, found nothing farther than %.3g from the camera; are "
            "these metres or centimetres?",
            *(where, ", ".join(_TARGET), largest),
        )


def _doubt_cameras(where: str, cameras: np.ndarray, sizes: np.ndarray) -> None:
    """Warn of cameras (N, 4) that can hardly be those of photos of ``sizes`` (N, 2) pixels."""
    with np.errstate(invalid="ignore"):
        wide = cameras[:, :2].min(axis=1) < _LEAST_FOCAL * sizes.max(axis=1)
        aside = (np.abs(cameras[:, 2:] / sizes - 0.5) > _MOST_ASIDE).any(axis=1)
    odd = np.flatnonzero(wide | aside)
    if len(odd):
        (fx, fy, cx, cy), (width, height) = cameras[odd[0]], sizes[odd[0]]
        log.warning(
            "%s: %d of %d cameras are hardly those of their photos: expected pixels of the photo "
            "as it is shown, found fx %.6g, fy %.6g, cx %.6g, cy %.6g for %d x %d",
            *(where, len(odd), len(cameras), fx, fy, cx, cy, width, height),
        )


def rows_of(
    table: Table, person: str, names: tuple[str, ...], general: tuple[str, ...] = ()
) -> np.ndarray:
    """Return a table's numbers for ``names``, (N, columns); NaN for those without a line.

    ``general`` names the lines that hold for whoever has none of his own, in their order.

    Raises:
        SourceError: as :meth:`Table.read`.
    """
    rows = table.read(person)
    blank = np.full(len(table.columns), np.nan)
    strangers = sorted(set(rows) - set(names) - set(general))
    if strangers:
        told = (table.path, len(strangers), person, strangers[0])
        log.warning("%s: %d lines are of no photo of person %s, the first of %s", *told)
    blank = next((rows[one] for one in general if one in rows), blank)
    if not set(rows) & {*names, *general}:
        log.warning("%s: no line is of a photo of person %s", table.path, person)
    return np.stack([rows.get(name, blank) for name in names])


def landmarks_of(table: Table | None, person: str, names: tuple[str, ...]) -> np.ndarray | None:
    """Return a table's landmarks (N, 68, 2) as :func:`rows_of`, None without a table."""
    return None if table is None else rows_of(table, person, names).reshape(-1, 68, 2)


def person_folders(root: Path) -> list[str]:
    """Return the names of the folders below ``root``, sorted, without hidden ones.

    Raises:
        SourceError: there is none, one is a link or has a name that is no UTF-8, or photos lie
            beside the folders and would be nobody's.
    """
    persons, loose = [], []
    with os.scandir(root) as found:
        entries = list(found)
    for entry in entries:
        name = printable(entry.name)
        if name.startswith(".") or name == "__MACOSX":
            continue
        if entry.is_dir():
            if entry.is_symlink():
                raise SourceError(f"{root}: {name}: expected a folder, found a link to one")
            if name != entry.name:
                raise SourceError(f"{root}: expected UTF-8 names of persons, found {name}")
            persons.append(name)
        elif name.lower().endswith(PHOTO_ENDINGS):
            loose.append(name)
    if loose:
        raise SourceError(
            f"{root}: expected a folder for each person, found {len(loose)} photos beside them, "
            f"the first {min(loose)}; `person: NAME` takes all photos for one person's"
        )
    if not persons:
        raise SourceError(f"{root}: expected a folder for each person, found none")
    return sorted(persons)


def photo_names(root: Path, folder: Path) -> tuple[list[str], str]:
    """Return the photos below ``folder`` as names below ``root``, sorted, and the other files.

    These are told in words, see :func:`regaze.sources.photo_header.left_out`.

    Raises:
        SourceError: a link leads to a folder or out of ``root``, or the folder cannot be listed.
    """
    endings = photo_endings()
    names, faults, others = [], [], []
    for path, is_folder in _walk(folder):
        if is_folder:
            faults.append(f"{printable(path)}: expected a folder, found a link to one")
        elif not path.lower().endswith(endings):
            others.append(path)
            continue
        elif end := link_out(path, root):
            told = f"expected a photo, found a link out of the data set to {printable(end)}"
            faults.append(f"{printable(path)}: {told}")
        names.append(printable(os.path.relpath(path, root)).replace(os.sep, "/"))
    names.sort()
    if faults:
        # The photos are named, so that all of them are counted.
        raise SourceError(faults[0], "bad_file_name", tuple(names))
    for before, after in pairwise(names):
        if before == after:
            raise SourceError(f"{root}: {before}: expected one file of that name, found two")
    return names, left_out(others)


def _walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the files below a folder, and the links to folders, without hidden ones.

    The second of each tells whether it is such a link.
    """

    def stop(error: OSError):
        raise SourceError(f"{printable(str(folder))}: {error.strerror or error}") from error

    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            path = os.path.join(place, name)
            if os.path.islink(path):
                yield path, True
        for name in files:
            if not name.startswith("."):
                yield os.path.join(place, name), False
