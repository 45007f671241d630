"""Faces for pages: photos cut to the head and shrunk, which all else then works on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from regaze.face3d.photo_faces import PhotoFace, faces_of_photo
from regaze.redirect.place import Lens, Place, face_place, row_place
from regaze.redirect.run import Redirection

LONGEST = 640
"""Pixels of a shown photo's longer side, at most."""
_AROUND = (0.75, 0.9, 0.75, 0.7)
"""What is shown beyond the landmarks' box at left, top, right and bottom, of its sides."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A face of a page.

    Attributes:
        place: the face; its ``photo`` is what is shown, or its patch where there is none.
        name: of the face, for readers.
    """

    place: Place
    name: str

    @property
    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8, the source as it is shown."""
        return self.place.patch if self.place.photo is None else self.place.photo


def photo_face(
    path: str, engine: Redirection, find=None, *, landmarks=None, face: int = 0, lens: Lens
) -> Shown:
    """A face of a photo, which is cut to the head and at most :data:`LONGEST` pixels long.

    Args:
        path: the photo.
        engine: of the model.
        find: a detector, used without landmarks.
        landmarks: file or folder, see :func:`regaze.face3d.photo_faces.landmarks_of`.
        face: which face, 0 the largest.
        lens: the camera of the whole photo.

    Raises:
        ValueError: no face, no pose, or a file that cannot be read; the message names the photo.
    """
    found = faces_of_photo(path, landmarks=landmarks, find=find)
    if not 0 <= face < len(found):
        raise ValueError(f"{path}: face {face}: expected one of 0 to {len(found) - 1}")
    cut, camera = cut_to_head(found[face], lens)
    place = face_place(
        path,
        cut,
        size_px=engine.size_px,
        trained_on=engine.view,
        lens=camera,
        adjust=engine.adjust,
        read_in=engine.read_in,
    )
    return Shown(place, place.name)


def row_face(row: str, engine: Redirection) -> Shown:
    """A face of a faces file, ``FACES.h5:person/index``, as its patch."""
    place = row_place(row, size_px=engine.size_px, trained_on=engine.view)
    return Shown(place, place.name)


def cut_to_head(one: PhotoFace, lens: Lens) -> tuple[PhotoFace, Lens]:
    """The photo around a face, shrunk where it is large, and its camera."""
    height, width = one.picture.shape[:2]
    low, high = one.landmarks.min(0), one.landmarks.max(0)
    sides = np.maximum(high - low, 1.0)
    first = np.maximum(np.floor(low - sides * _AROUND[:2]), 0).astype(int)
    last = np.minimum(np.ceil(high + sides * _AROUND[2:]), (width, height)).astype(int)
    cut = one.picture[first[1] : last[1], first[0] : last[0]]
    if not cut.size:
        raise ValueError(f"{one.source}: expected landmarks inside the photo, found none")
    camera, distortion, _ = lens.camera((width, height))
    share = min(1.0, LONGEST / max(cut.shape[:2]))
    size = (max(round(cut.shape[1] * share), 1), max(round(cut.shape[0] * share), 1))
    scale = np.array(size) / (cut.shape[1], cut.shape[0])
    # Pixel centres lie at integers, so a shrunk pixel's centre is the middle of what it is made of.
    middle = (camera[2:] - first + 0.5) * scale - 0.5
    if share < 1.0:
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    marks = (one.landmarks - first + 0.5) * scale - 0.5
    made = replace(one, picture=np.ascontiguousarray(cut), landmarks=marks)
    known = Lens(intrinsics=[*(camera[:2] * scale), *middle], distortion=distortion)
    return made, known
