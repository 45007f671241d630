"""Columbia Gaze: photos whose names tell head yaw and gaze, in degrees.

Smith, Yin, Feiner, Nayar, "Gaze Locking" (UIST 2013): ``SSSS/SSSS_2m_<P>P_<V>V_<H>H.jpg`` with
head yaw P, vertical gaze V and horizontal gaze H. There is no calibration and no target; V and H
are relative to the direction of the camera.

Signs, which the data set itself does not define: H > 0 is taken for a look to the image's right,
hence our yaw is -H, and V > 0 for a look up, as our pitch. The evaluation on this data set in
``TadasBaltrusaitis/OpenFace`` (``matlab_runners``) has it so: the target is at +tan H along the
image's x and -tan V along its y, which points down. A contact sheet shows whether it holds for a
copy; ``h_sign`` and ``v_sign`` turn it round.

Focal length: the camera was a Canon EOS Rebel T3i, whose sensor is 22.3 mm wide; EXIF tells the
zoom. Without EXIF it is 19720 pixels for a width of 5184 (85 mm), the figure that the same
evaluation uses. The people sat at two metres; that is not used, since a head's size in the photo
tells its distance once the focal length is known.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from regaze.sources.devices import assumed_camera, photo_sizes
from regaze.sources.files import BarePhotos, data_folder
from regaze.sources.folder import landmarks_of, person_folders
from regaze.sources.options import BarePhotoOptions
from regaze.sources.records import PersonPhotos, SourceError, losing, printable
from regaze.sources.supplementary import Supplemented
from regaze.sources.tables import LANDMARKS, Table

HEADS = (-30, -15, 0, 15, 30)
VERTICAL = (-10, 0, 10)
HORIZONTAL = (-15, -10, -5, 0, 5, 10, 15)

SENSOR_MM = 22.3
ASSUMED_FACTOR = 19720 / 5184
"""Focal length over the photo's longer side where EXIF is missing."""

_NAME = re.compile(
    r"(\d{4})_2m_(-?\d{1,2})P_(-?\d{1,2})V_(-?\d{1,2})H\.[Jj][Pp][Ee]?[Gg]", re.ASCII
)
_LITTER = ("thumbs.db", "desktop.ini")
_EXIF_IFD, _FOCAL_LENGTH = 0x8769, 0x920A


class Options(BarePhotoOptions):
    """A copy of Columbia Gaze, as unpacked."""

    source: Literal["columbia"] = Field(description="Columbia Gaze's photos")
    focal: float | None = Field(
        None,
        gt=0,
        description="focal length in pixels of photos as they are; default from EXIF, else "
        "3.804 x the longer side",
    )
    h_sign: Literal[-1, 1] = Field(
        -1, description="yaw (positive to image left) is h_sign x H of the file name"
    )
    v_sign: Literal[-1, 1] = Field(
        1, description="pitch (positive up) is v_sign x V of the file name"
    )


def open_source(options: Options, supplementary=None) -> Columbia | Supplemented:
    """Open the copy of Columbia Gaze that ``options`` describe.

    With ``supplementary`` (a path, or several) the result hands out records with head poses.

    Raises:
        SourceError: as :class:`Columbia` or :class:`Supplemented`.
    """
    if supplementary:
        return Supplemented(options.root, options.source, supplementary)
    return Columbia(options)


def parse_name(name: str) -> tuple[str, int, int, int]:
    """Return person, head yaw P, vertical gaze V and horizontal gaze H (degrees) of a file name.

    Raises:
        ValueError: it is no name of this data set; the message tells what is expected.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"expected SSSS_2m_<P>P_<V>V_<H>H.jpg, found {printable(name)}")
    head, vertical, horizontal = (int(value) for value in match.groups()[1:])
    for letter, value, known in (
        ("P", head, HEADS),
        ("V", vertical, VERTICAL),
        ("H", horizontal, HORIZONTAL),
    ):
        if value not in known:
            wanted = ", ".join(map(str, known))
            raise ValueError(f"{letter}: expected one of {wanted}, found {value} in {name}")
    return match[1], head, vertical, horizontal


class Columbia(BarePhotos):
    """Columbia Gaze's photos; every folder below ``root`` is a person, 0001 to 0056.

    Raises:
        SourceError: there is no such folder or table, or no person.
    """

    kind = "columbia"
    person_names = r"\d{4}"

    def __init__(self, options: Options):
        self.root, self.focal = data_folder(options.root), options.focal
        self._signs = np.array([options.v_sign, options.h_sign], np.float64)
        self.persons = person_folders(self.root)
        self._landmarks = options.landmarks and Table(options.landmarks, [LANDMARKS])

    def photos(self, person: str) -> PersonPhotos:
        """Return the photos of one person in the order of their names.

        Raises:
            SourceError: the person is unknown or has no photo, a file has a name that is none of
                this data set's, or the table of landmarks has a fault.
        """
        names = self._names(person)
        with losing(names):
            angles = [self._angles(person, name) for name in names]
            landmarks = landmarks_of(self._landmarks, person, names)
        sizes = photo_sizes([self.root / name for name in names])
        factor, _ = self._factors(names, sizes)
        return PersonPhotos(
            root=self.root,
            person=person,
            file_name=names,
            camera_parameters=assumed_camera(sizes, factor),
            distortion=np.zeros((len(names), 5)),
            face_box=np.full((len(names), 4), np.nan),
            gaze_target=np.full((len(names), 3), np.nan),
            gaze_angles=np.radians(angles) * self._signs,
            landmarks=landmarks,
        )

    def _angles(self, person: str, name: str) -> tuple[int, int]:
        """Return vertical and horizontal gaze (degrees) of one of the person's photos."""
        where = f"{self.root}: person {person}"
        try:
            owner, _, vertical, horizontal = parse_name(name.rsplit("/", 1)[1])
        except ValueError as error:
            raise SourceError(f"{where}: {error}", "bad_file_name") from error
        if owner != person:
            told = f"expected photos of this person, found {name}"
            raise SourceError(f"{where}: {told}", "bad_file_name")
        return vertical, horizontal

    def camera_assumption(self, person: str) -> str:
        """Return in one line what the cameras of :meth:`photos` rest on.

        Raises:
            SourceError: the person is unknown or has no photo.
        """
        names = self._names(person)
        _, told = self._factors(names, photo_sizes([self.root / name for name in names]))
        if self.focal is not None:
            reason = f"f = {self.focal:.6g} pixels as configured"
        else:
            reason = (
                f"f = focal length by EXIF / {SENSOR_MM} mm x the longer side for {told.sum()} of "
                f"{len(names)} photos, else {ASSUMED_FACTOR:.4g} x the longer side (assumed)"
            )
        return f"{reason}, principal point in the middle, no distortion"

    def person_files(self, person: str) -> list[str]:
        """Return the names of the files that a person is read from."""
        try:
            return list(self._names(person))
        except (OSError, SourceError):
            return []

    def known_rows(self, person: str) -> int | None:
        """Return how many files lie in the person's folder."""
        return len(self.person_files(person)) or None

    def _names(self, person: str) -> tuple[str, ...]:
        self.require(person)
        names = sorted(
            f"{person}/{printable(one)}"
            for one in os.listdir(self.root / person)
            if not one.startswith(".") and one.lower() not in _LITTER
        )
        if not names:
            raise SourceError(
                f"{self.root}: person {person}: expected photos, found none", "missing_person"
            )
        return tuple(names)

    def _factors(self, names: tuple[str, ...], sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return focal length over the longer side, and whether EXIF told it; both (N,)."""
        if self.focal is not None:
            return self.focal / sizes.max(axis=1), np.zeros(len(names), bool)
        readable = np.isfinite(sizes).all(axis=1)
        found = np.array(
            [
                _exif_focal_mm(self.root / name) if good else math.nan
                for name, good in zip(names, readable, strict=True)
            ]
        )
        told = np.isfinite(found)
        return np.where(told, found / SENSOR_MM, ASSUMED_FACTOR), told


def _exif_focal_mm(path: Path) -> float:
    """Return the focal length that a photo's EXIF tells, NaN when it tells none."""
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG",)) as image:
            value = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_LENGTH, math.nan))
    except Exception:
        # Header parsers raise nearly anything on damaged files; the decoder says what is wrong.
        return math.nan
    return value if math.isfinite(value) and value > 0 else math.nan
