"""Any photos: a folder per person, or one folder of one person, with what the user knows of them.

Nothing is asked for but the photos. Landmarks, cameras and gaze can be brought as CSV tables; see
:mod:`regaze.sources.tables`. What is not known of the camera is assumed as in the ``custom`` mode
of gaze normalisation: focal length as the width, principal point in the middle, no distortion.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from regaze.sources.devices import photo_sizes
from regaze.sources.options import BarePhotoOptions
from regaze.sources.records import PersonPhotos, PersonRecords, SourceError, printable
from regaze.sources.supplementary import Supplemented
from regaze.sources.tables import EVERYBODY, LANDMARKS, Table

log = logging.getLogger(__name__)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Endings of photos, in any case; other files are passed over."""

_LENS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty")
_CAMERA = ("fx", "fy", "cx", "cy")
_CAMERAS = tuple((*_CAMERA, *_LENS[:count]) for count in (0, 4, 5, 8, 12, 14))
_TARGET, _ANGLES = ("target_x", "target_y", "target_z"), ("pitch", "yaw")


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
        "cx, cy (pixels), and 4, 5, 8, 12 or 14 of k1, k2, p1, p2, k3, k4, k5, k6, s1 to s4, tx, "
        "ty; default: assumed",
    )
    gaze: str | None = Field(
        None,
        description="CSV of gaze: file_name, and target_x, target_y, target_z (mm, camera) or "
        "pitch, yaw (degrees off the line of sight); default: not known",
    )
    focal_factor: float = Field(
        1.0, gt=0, description="assumed focal length over the photo's width"
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
    return Folder(
        options.root,
        person=options.person,
        landmarks=options.landmarks,
        intrinsics=options.intrinsics,
        gaze=options.gaze,
        focal_factor=options.focal_factor,
    )


class BarePhotos:
    """What sources share that know photos below ``root`` of ``persons``, and no head poses."""

    root: Path
    persons: list[str]

    def read(self, person: str) -> PersonRecords:
        """Always raise: nothing is known of head poses before they are found.

        Raises:
            SourceError: always.
        """
        raise SourceError(
            f"{self.root}: person {person}: expected head poses in a supplementary file, "
            "found photos alone",
            "missing_key",
        )

    def require(self, person: str) -> None:
        """Raise a SourceError unless ``person`` is one of the data set."""
        if person not in self.persons:
            raise SourceError(
                f"{self.root}: person {person}: expected a folder, found none", "missing_person"
            )


class Folder(BarePhotos):
    """Photos in a folder per person, in the order of their names.

    Hidden files and folders (with a leading dot) are passed over, and so are files that do not end
    as photos do. A link that leads out of the folder is refused, and so is any link to a folder.

    Args:
        root: folder of the persons' folders, or of the photos of ``person``.
        person: the one person whom all photos below ``root`` show.
        landmarks, intrinsics, gaze: CSV tables as described in :class:`Options`.
        focal_factor: focal length over the photo's width where the camera is not in the table.

    Attributes:
        gaze_known: whether there is a table of gaze.

    Raises:
        SourceError: there is no such folder or table, no person or photo, or photos lie beside
            the persons' folders.
    """

    kind = "folder"

    def __init__(
        self,
        root: str | Path,
        *,
        person: str | None = None,
        landmarks: str | Path | None = None,
        intrinsics: str | Path | None = None,
        gaze: str | Path | None = None,
        focal_factor: float = 1.0,
    ):
        self.root = Path(root)
        self.focal_factor = focal_factor
        self.gaze_known = gaze is not None
        self._person = person
        if not self.root.is_dir():
            raise SourceError(f"{self.root}: expected a folder of photos, found none")
        self.persons = [person] if person is not None else person_folders(self.root)
        self._landmarks = None if landmarks is None else Table(landmarks, [LANDMARKS], person)
        self._cameras = None
        if intrinsics is not None:
            self._cameras = Table(intrinsics, _CAMERAS, person, positive=("fx", "fy"))
        self._gaze = None if gaze is None else Table(gaze, [_TARGET, _ANGLES], person)

    def photos(self, person: str) -> PersonPhotos:
        """Return the photos of one person with what the tables say of them.

        A photo whose name is no UTF-8 is listed under the name spelled out with escapes, where no
        later step will find it, so that it is rejected under that name.

        Raises:
            SourceError: the person is unknown or has no photo, a link leads elsewhere, or a table
                has a fault; the message names file, line and column.
        """
        self.require(person)
        folder = self.root if self._person is not None else self.root / person
        names = photo_names(self.root, folder)
        if not names:
            raise SourceError(
                f"{folder}: expected photos ({' '.join(EXTENSIONS)}), found none", "missing_person"
            )
        try:
            return self._described(person, tuple(names))
        except SourceError as error:
            raise SourceError(str(error), error.reason, error.file_names or tuple(names)) from error

    def camera_assumption(self, person: str) -> str:
        """Return in one line what the cameras of :meth:`photos` rest on."""
        assumed = (
            f"f = {self.focal_factor:.4g} x the width (assumed), principal point in the middle, "
            "no distortion"
        )
        return assumed if self._cameras is None else f"{self._cameras.path.name}; else {assumed}"

    def _described(self, person: str, names: tuple[str, ...]) -> PersonPhotos:
        count = len(names)
        sizes = photo_sizes([self.root / name for name in names])
        focal = self.focal_factor * sizes[:, 0]
        camera = np.stack([focal, focal, sizes[:, 0] / 2.0, sizes[:, 1] / 2.0], axis=1)
        lens = np.zeros((count, 5))
        if self._cameras is not None:
            known = rows_of(self._cameras, person, names, (f"{person}/{EVERYBODY}", EVERYBODY))
            if len(self._cameras.columns) > len(_CAMERA):
                lens = np.nan_to_num(known[:, len(_CAMERA) :])
            known = known[:, : len(_CAMERA)]
            camera = np.where(np.isnan(known), camera, known)
        target, angles = np.full((count, 3), np.nan), np.full((count, 2), np.nan)
        if self._gaze is not None:
            found = rows_of(self._gaze, person, names)
            if self._gaze.columns == _TARGET:
                target = found
            else:
                angles = np.radians(found)
        landmarks = None
        if self._landmarks is not None:
            landmarks = rows_of(self._landmarks, person, names).reshape(count, 68, 2)
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
            landmarks=landmarks,
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
        log.warning(
            "%s: %d lines are of no photo of person %s, the first of %s",
            table.path,
            len(strangers),
            person,
            strangers[0],
        )
    blank = next((rows[one] for one in general if one in rows), blank)
    if not set(rows) & {*names, *general}:
        log.warning("%s: no line is of a photo of person %s", table.path, person)
    return np.stack([rows.get(name, blank) for name in names])


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
        elif name.lower().endswith(EXTENSIONS):
            loose.append(name)
    if loose:
        raise SourceError(
            f"{root}: expected a folder for each person, found {len(loose)} photos beside them, "
            f"the first {min(loose)}; `person: NAME` takes all photos for one person's"
        )
    if not persons:
        raise SourceError(f"{root}: expected a folder for each person, found none")
    return sorted(persons)


def photo_names(root: Path, folder: Path) -> list[str]:
    """Return the photos below ``folder`` as names below ``root``, sorted.

    Raises:
        SourceError: a link leads to a folder or out of ``root``, or the folder cannot be listed.
    """
    home = os.path.realpath(root)
    names, faults = [], []
    for path, fault in _walk(folder, home):
        names.append(printable(os.path.relpath(path, root)))
        faults += [fault] if fault else []
    if faults:
        # The photos are named, so that all of them are counted.
        listed = sorted(name.replace(os.sep, "/") for name in names)
        raise SourceError(faults[0], "bad_file_name", tuple(listed))
    for before, after in zip(sorted(names), sorted(names)[1:], strict=False):
        if before == after:
            raise SourceError(f"{root}: {before}: expected one file of that name, found two")
    return sorted(name.replace(os.sep, "/") for name in names)


def _walk(folder: Path, home: str) -> Iterator[tuple[str, str]]:
    """Yield the photos below a folder with what is wrong with them, "" as a rule."""

    def stop(error: OSError):
        raise SourceError(f"{printable(str(folder))}: {error.strerror or error}") from error

    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            path = os.path.join(place, name)
            if os.path.islink(path):
                yield path, f"{printable(path)}: expected a folder, found a link to one"
        for name in files:
            if name.startswith(".") or not name.lower().endswith(EXTENSIONS):
                continue
            path = os.path.join(place, name)
            target = os.path.realpath(path)
            fault = ""
            if os.path.islink(path) and os.path.commonpath([home, target]) != home:
                fault = (
                    f"{printable(path)}: expected a photo, found a link out of the data set to "
                    f"{printable(target)}"
                )
            yield path, fault
