"""Faces followed from frame to frame: which of a frame's is which of the last one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from regaze.landmarks.base import LandmarkDetector, overlap

_SAME = 0.3
"""Overlap of a face's box with where it was one frame before, from which it is the same."""
_TWICE = 0.5
"""Overlap from which two tracks of a frame are of one face: the younger one ends."""
_LOOK = 0.1
"""Seconds after which new faces are looked for although all are followed."""
_SEARCH = 2.0
"""Seconds after which small ones are looked for, in tiles, which costs more."""
_LOST = 0.13
"""Seconds for which a face may be missed and be the same when it is back in its place."""


@dataclass(eq=False)
class Track:
    """One face as long as it is seen.

    Attributes:
        number: in the order of birth.
        frames: numbers of frames, rising; a few may be missing.
        times: seconds of the same.
        landmarks: of the same, (68, 2) each.
        points: (478, 2) of the face mesh in the last of them; None of a detector that has none.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)
    points: np.ndarray | None = None

    def add(
        self, frame: int, time: float, landmarks: np.ndarray, points: np.ndarray | None = None
    ) -> None:
        self.frames.append(frame)
        self.times.append(time)
        self.landmarks.append(landmarks)
        self.points = points

    @property
    def area(self) -> float:
        """Mean area of the face in pixels."""
        return float(np.ptp(np.array(self.landmarks), axis=1).prod(axis=1).mean())

    def beside(self, other: Track) -> bool:
        """Whether both are seen at one time."""
        return self.frames[0] <= other.frames[-1] and other.frames[0] <= self.frames[-1]


def extent(landmarks: np.ndarray) -> np.ndarray:
    """(4,) left, top, right, bottom of landmarks (68, 2)."""
    return np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])


class Tracker:
    """Finds faces in one frame after the other and tells who is who.

    A detector that can follow a face (:class:`regaze.landmarks.mesh.MeshDetector`) looks for it
    where it was, and for other faces now and then; any other one looks for all faces in every
    frame.

    Args:
        detector: finds the faces.
    """

    def __init__(self, detector: LandmarkDetector):
        self.detector = detector
        self.born = 0
        self._now: list[tuple[Track, object]] = []
        self._number, self._looked, self._searched = -1, -np.inf, -np.inf
        self._time: float | None = None
        self._follow: Callable | None = getattr(detector, "follow", None)

    def step(self, picture: np.ndarray, time: float) -> list[Track]:
        """The tracks of the faces in the next frame (H, W, 3) uint8, each grown by it.

        Args:
            picture: the frame.
            time: in seconds, later than that of the last one.
        """
        self._number += 1
        kept, missed = [], []
        longest = max(_LOST, self._gap(time))
        alive = [one for one in self._now if time - one[0].times[-1] <= longest]
        for track, state in alive:
            face = self._follow and self._follow(picture, state)
            if face is None:
                missed.append((track, state))
            else:
                kept.append((track, face))
        kept = self._distinct(kept)
        lost = len(kept) < len(self._now)
        due = time - self._looked >= _LOOK
        if self._follow is None or lost or due or not kept:
            self._looked = time
            for landmarks, face in self._found(picture, time, [face for _, face in kept]):
                self._place(landmarks, face, kept, missed)
        for track, face in kept:
            landmarks = np.asarray(face.landmarks, np.float64)
            track.add(self._number, time, landmarks, getattr(face, "points", None))
        fresh = {id(track) for track, _ in kept}
        self._now = [*kept, *(one for one in missed if id(one[0]) not in fresh)]
        return [track for track, _ in kept]

    def _gap(self, time: float) -> float:
        """Seconds since the last frame, however long ago that is."""
        gap = 0.0 if self._time is None else time - self._time
        self._time = time
        return gap

    def _found(self, picture: np.ndarray, time: float, known: list) -> Sequence[tuple]:
        """Landmarks and what the detector knows of the faces of a frame, the largest first; those
        that are followed may be left out."""
        if self._follow is None:
            return [(one, _Seen(one)) for one in self.detector.all_faces(picture)]
        faces = self.detector.large_faces(picture, known)
        if not faces and not known and time - self._searched >= _SEARCH:
            self._searched = time
            faces = self.detector.faces(picture)
        return [(face.landmarks, face) for face in faces]

    def _place(self, landmarks: np.ndarray, face, kept: list, missed: list) -> None:
        """Give a face that was found to the track that it belongs to, or to a new one."""
        box = extent(landmarks)
        if kept:
            boxes = np.array([extent(one.landmarks) for _, one in kept])
            if overlap(boxes, box).max() > _SAME:
                return
        here = [overlap(extent(track.landmarks[-1])[None], box)[0] for track, _ in missed]
        best = int(np.argmax(here)) if here else -1
        if here and here[best] > _SAME:
            track, _ = missed.pop(best)
        else:
            track = Track(self.born)
            self.born += 1
        kept.append((track, face))

    @staticmethod
    def _distinct(kept: list) -> list:
        """Those of faces, older first, that do not lie where an older one does."""
        made: list = []
        for track, face in sorted(kept, key=lambda one: one[0].number):
            box = extent(face.landmarks)
            boxes = np.array([extent(one.landmarks) for _, one in made]).reshape(-1, 4)
            if not len(boxes) or overlap(boxes, box).max() < _TWICE:
                made.append((track, face))
        return made


@dataclass(frozen=True, eq=False)
class _Seen:
    landmarks: np.ndarray


def persons(tracks: Sequence[Track], least: int = 3) -> list[list[Track]]:
    """Tracks by person, the one who fills most of the video first.

    Faces that are seen at one time are of different people. A face that comes after one that
    left is taken for the same, unless somebody was seen beside either: landmarks do not tell.

    Args:
        tracks: all of a video.
        least: frames below which a track is taken for a mistake, if there are longer ones.
    """
    if any(len(one.frames) >= least for one in tracks):
        tracks = [one for one in tracks if len(one.frames) >= least]
    found: list[list[Track]] = []
    for track in sorted(tracks, key=lambda one: (-one.area * len(one.frames), one.number)):
        for person in found:
            if not any(track.beside(other) for other in person):
                person.append(track)
                break
        else:
            found.append([track])
    return [sorted(person, key=lambda one: one.frames[0]) for person in found]
