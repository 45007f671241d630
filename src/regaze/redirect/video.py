"""Videos, frame by frame: one person's face is followed and redirected, the rest stays."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from regaze.face3d.photo_faces import NoFace, PhotoFace, stem
from regaze.landmarks.base import LandmarkDetector
from regaze.normalise.photo import quiet_decoders
from regaze.redirect.angles import Request
from regaze.redirect.animate import write_mp4
from regaze.redirect.place import Lens, face_place
from regaze.redirect.run import Redirection

log = logging.getLogger(__name__)

ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")

_RATE = 25.0
"""Frames a second of videos that do not tell."""


def is_video(place: str | os.PathLike) -> bool:
    """Whether a place is the file of a video, by its ending."""
    return Path(place).suffix.lower() in ENDINGS and Path(place).is_file()


class Frames:
    """The pictures (H, W, 3) uint8 RGB of a video, turned as it says, one after the other.

    Attributes:
        rate: frames a second; the average where they differ.

    Raises:
        ValueError: OpenCV cannot read the file.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path
        with quiet_decoders():
            self._film = cv2.VideoCapture(str(path))
        if not self._film.isOpened():
            raise ValueError(f"{path}: expected a video that OpenCV can read, found none")
        rate = self._film.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if np.isfinite(rate) and 0.0 < rate <= 1000.0 else _RATE
        self._claimed = int(self._film.get(cv2.CAP_PROP_FRAME_COUNT))

    def __iter__(self) -> Iterator[np.ndarray]:
        count = 0
        with quiet_decoders():
            while (read := self._film.read())[0]:
                count += 1
                yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
        self._film.release()
        if count < self._claimed:
            log.warning(
                "%s: expected %d frames, as it says, found %d", self.path, self._claimed, count
            )


def redirect_video(
    path: str | os.PathLike,
    out: str | os.PathLike,
    engine: Redirection,
    detector: LandmarkDetector,
    request: Request,
    *,
    face: int = 0,
    lens: Lens | None = None,
    source_gaze: Sequence[float] | None = None,
    mode: str = "difference",
    eyes: str = "both",
) -> dict:
    """Redirect one face of a video and write it as MP4 without sound; return what was done.

    The face is chosen in the first frame that shows one, and is then whichever overlaps with it
    from frame to frame. Frames without it stay as they are.

    Args:
        path: the video.
        out: the file to write.
        engine: the model.
        detector: finds the faces.
        request: where to.
        face: which face, 0 the largest.
        lens, source_gaze, mode, eyes: as for photos.

    Raises:
        ValueError: no video, or no frame with a face that can be redirected; nothing is written.
    """
    frames, lost, known = Frames(path), Counter(), []

    def made() -> Iterator[np.ndarray]:
        box = None
        for number, frame in enumerate(frames):
            try:
                one = _followed(path, frame, detector, box, face)
                place = face_place(
                    path,
                    one,
                    size_px=engine.size_px,
                    trained_on=engine.view,
                    lens=lens,
                    adjust=engine.adjust,
                    read_in=engine.read_in,
                )
            except ValueError as problem:
                lost[str(problem).removeprefix(f"{path}: ")] += 1
                box = None
                yield frame
                continue
            low = one.landmarks.min(axis=0)
            box = np.concatenate([low, one.landmarks.max(axis=0) - low])
            (result,), about = engine.redirect(
                place, [request], source_gaze=source_gaze, mode=mode, eyes=eyes
            )
            known.append({"frame": number, "source": about, **result.facts})
            yield frame if result.pasted is None else result.pasted
        if not known:
            raise NoFace(f"{path}: {_told(lost) or 'no frames'}")

    write_mp4(out, made(), frames.rate)
    return {
        "source": Path(path).name,
        "frames": len(known) + sum(lost.values()),
        "frames_per_second": frames.rate,
        "redirected": len(known),
        "unchanged": dict(lost),
        "paste": mode,
        "results": known,
    }


def _told(lost: Counter[str]) -> str:
    return "; ".join(f"{count} frames: {reason}" for reason, count in lost.most_common(3))


def _followed(
    path: str | os.PathLike,
    frame: np.ndarray,
    detector: LandmarkDetector,
    box: np.ndarray | None,
    face: int,
) -> PhotoFace:
    """The face of a frame; ``box`` (4,) left, top, width, height of the one before, or None.

    Raises:
        NoFace: it is not there.
    """
    if box is None:
        found = detector.all_faces(frame)
        if face >= len(found):
            raise NoFace(f"{path}: no face found" if not found else f"{path}: face {face}: too few")
        return PhotoFace(stem(path), face, frame, found[face], Path(path).name, len(found))
    seen = detector.detect([frame], box[None])[0]
    if seen.status:
        raise NoFace(f"{path}: no face found")
    points = seen.landmarks.astype(np.float64)
    return PhotoFace(stem(path), face, frame, points, Path(path).name, seen.faces_found)
