"""Where the face of a photo looks, by the geometry of its irises."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from regaze.landmarks.gaze import GazeReading, Unreadable, read_gaze
from regaze.landmarks.mesh import Face, MeshDetector
from regaze.redirect.place import Place

SOURCES = ("irises", "estimator")
"""What may tell where the face of a photo looks where nobody says it."""
_AROUND = 0.4
"""How much of a photo around a face is shown to the mesh, in the face's size."""


def around(extent: np.ndarray, photo: np.ndarray, share: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box (4,) and a share of its size around it, in the photo."""
    size = np.array(photo.shape[1::-1])
    margin = share * (extent[2:] - extent[:2])
    low = np.clip(np.floor(extent[:2] - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(extent[2:] + margin), low + 1, size).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def mesh_there(detector: MeshDetector, photo: np.ndarray, landmarks: np.ndarray) -> Face | None:
    """The face mesh of a face whose landmarks (68, 2) are known; None: it is not seen."""
    extent = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
    left, top, right, bottom = around(extent, photo, _AROUND)
    found = detector.filling(np.ascontiguousarray(photo[top:bottom, left:right]))
    if found is None:
        return None
    shift = np.array([left, top])
    return Face(found.points + shift, found.score, found.box + [*shift, *shift, 0.0])


def agreed(
    reading: GazeReading, estimate: np.ndarray | None, error: float
) -> tuple[np.ndarray, bool]:
    """The gaze (2,) radians of a reading and an estimate, and whether the estimate counts.

    Where they differ by no more than is to be expected of them, pitch and yaw for themselves, it
    is their mean, weighted by exactness. Elsewhere the reading stands: an estimator that learnt
    from rendered people is sure of itself on real ones, and off.

    Args:
        reading: by geometry.
        estimate: (2,) radians by an estimator; None without one.
        error: its mean error on people it has not seen, radians.
    """
    if estimate is None:
        return reading.gaze, False
    ours, theirs = reading.error**2, error**2
    agree = np.abs(estimate - reading.gaze) <= np.sqrt(ours + theirs)
    mean = (reading.gaze * theirs + estimate * ours) / (ours + theirs)
    return np.where(agree, mean, reading.gaze), bool(agree.any())


class Looks:
    """Reads where faces of photos look."""

    def __init__(self):
        self._detector: MeshDetector | None = None

    def of(self, place: Place) -> GazeReading:
        """The gaze of a place in a photo.

        Raises:
            Unreadable: nothing is seen of it.
        """
        return self._read(place, place.photo)

    def gazes(self, place: Place, photos: Sequence[np.ndarray]) -> np.ndarray:
        """The gaze (n, 2), radians, of other photos (H, W, 3) uint8 of a place; NaN: not seen."""
        found = np.full((len(photos), 2), np.nan)
        for number, photo in enumerate(photos):
            with suppress(Unreadable):
                found[number] = self._read(place, photo).gaze
        return found

    def moved(self, place: Place, photos: Sequence[np.ndarray]) -> list[list[float] | None]:
        """How far the eyes of a place look elsewhere in other photos of it, by what is read of them
        before and after: pitch and yaw in degrees, None where that cannot be."""
        before, *after = self.gazes(place, [place.photo, *photos])
        moved = [np.degrees(one - before) for one in after]
        return [one.tolist() if np.isfinite(one).all() else None for one in moved]

    def _read(self, place: Place, photo: np.ndarray | None) -> GazeReading:
        landmarks = self._landmarks(place)
        if place.per_mm is None or landmarks is None:
            raise Unreadable("of the face there is no photo with landmarks")
        # Those that are known are of the place's own photo: eyes of another one lie elsewhere.
        points = place.points if photo is place.photo else None
        if points is None:
            mesh = mesh_there(self._mesh, photo, landmarks)
            if mesh is None:
                raise Unreadable("the face mesh does not find this face")
            points = mesh.points
        return read_gaze(photo, points, place.head, place.per_mm)

    @property
    def _mesh(self) -> MeshDetector:
        if self._detector is None:
            self._detector = MeshDetector()
        return self._detector

    @staticmethod
    def _landmarks(place: Place) -> np.ndarray | None:
        """The landmarks (68, 2) in pixels of the photo."""
        if place.photo is None or place.view is None or place.landmarks is None:
            return None
        found = place.view.to_photo(place.landmarks)
        return found if np.isfinite(found).all() else None
