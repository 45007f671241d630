"""Faces that look elsewhere as a video comes: frame by frame, by what was before alone."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import numpy as np

from regaze.face3d.photo_faces import NoFace
from regaze.landmarks.base import LandmarkDetector
from regaze.redirect.courses import pose_of
from regaze.redirect.in_frames import InFrames
from regaze.redirect.video import Told, left_alone
from regaze.threads import one_thread_each
from regaze.video.blinks import Lids
from regaze.video.reading import Camera, Film
from regaze.video.smoothing import OneEuro, unrolled
from regaze.video.tracks import Track, Tracker
from regaze.video.writing import Writer

log = logging.getLogger(__name__)

_LANDMARKS = (1.5, 100.0)
"""Cutoff in hertz of what rests, and hertz for each face width a second; see :class:`OneEuro`."""
_TURNS, _SHIFTS = (1.5, 20.0), (1.0, 0.05)
"""The same for each radian and each millimetre a second of the head."""
_GAZE = (1.0, 20.0)
"""The same for each radian a second: eyes that jump are let through at once."""
_AWAKE = 0.9
"""How open eyes must be for their gaze to be read."""


class _Face:
    """What is remembered of one face."""

    def __init__(self, width: float):
        self.width = width
        self.lids, self.landmarks = Lids(), OneEuro(*_LANDMARKS)
        self.turns, self.shifts = OneEuro(*_TURNS), OneEuro(*_SHIFTS)
        self._filter, self.last_turn, self.gaze = OneEuro(*_GAZE), None, None

    def look(self, gaze: np.ndarray, time: float) -> None:
        self.gaze = self._filter(gaze, time)

    def pose(self, found: np.ndarray, time: float) -> np.ndarray | None:
        """The head's pose (6,) smoothed; None where there is none."""
        if not np.isfinite(found).all():
            return None
        turn = found[:3] if self.last_turn is None else unrolled([self.last_turn, found[:3]])[1]
        self.last_turn = turn
        return np.concatenate([self.turns(turn, time), self.shifts(found[3:], time)])


class Live:
    """Redirects frames as they come.

    Args:
        asked: what is done to faces.
        detector: finds them.
        face: which one, 0 the largest; it stays the same as long as it is seen.
        everybody: all faces instead.
        path: what messages call the source.
    """

    def __init__(
        self,
        asked: InFrames,
        detector: LandmarkDetector,
        *,
        face: int = 0,
        everybody: bool = False,
        path: str | os.PathLike | int = "live",
    ):
        self.asked, self.face, self.everybody, self.path = asked, face, everybody, path
        self._tracker, self._faces = Tracker(detector), {}
        self._chosen: int | None = None

    def step(self, picture: np.ndarray, time: float) -> tuple[np.ndarray, list[dict], str]:
        """The next frame (H, W, 3) uint8 redirected.

        Args:
            picture: the frame.
            time: in seconds, later than the last one's.

        Returns:
            The frame, what was done to each of its faces, and why nothing was where nothing was.
        """
        tracks = self._tracker.step(picture, time)
        for one in tracks:
            # Only the last one is needed of a track without an end.
            del one.landmarks[:-1], one.frames[:-1], one.times[:-1]
        here = {one.number for one in tracks}
        self._faces = {number: one for number, one in self._faces.items() if number in here}
        facts, reason = [], "no face found"
        for track in self._wanted(tracks):
            try:
                picture, fact = self._redirected(picture, track, time)
                facts.append(fact)
            except ValueError as problem:
                reason = str(problem).removeprefix(f"{self.path}: ")
        return picture, facts, left_alone(facts, [reason])

    def _wanted(self, tracks: list[Track]) -> list[Track]:
        if self.everybody:
            return tracks
        if self._chosen not in {one.number for one in tracks}:
            sizes = sorted(tracks, key=lambda one: -np.ptp(one.landmarks[-1], axis=0).prod())
            self._chosen = sizes[self.face].number if self.face < len(sizes) else None
        return [one for one in tracks if one.number == self._chosen]

    def _redirected(self, picture: np.ndarray, track: Track, time: float):
        asked, raw = self.asked, track.landmarks[-1]
        if track.number not in self._faces:
            self._faces[track.number] = _Face(max(float(np.ptp(raw[:, 0])), 1.0))
        face = self._faces[track.number]
        share = face.lids(raw, time)
        marks = face.width * face.landmarks(raw / face.width, time)
        size = (picture.shape[1], picture.shape[0])
        pose = face.pose(pose_of(marks, size, asked.lens), time)
        place = asked.place(self.path, picture, marks, pose, track.points)
        if share > _AWAKE or face.gaze is None:
            face.look(asked.gaze(place), time)
        done, facts = asked.redirect(place, face.gaze, share)
        return done, {"time": time, "person": track.number, **facts}


def redirect_live(
    source: Film | Camera,
    out: str | os.PathLike,
    live: Live,
    told: Told | None = None,
) -> dict:
    """Redirect a source as it comes, until it ends or Control-C, and write it as a video.

    Args:
        source: a camera or a file.
        out: the file to write, one of :data:`regaze.video.writing.KINDS`; of a file with its sound.
        live: what is done to its frames.
        told: see :data:`regaze.redirect.video.Told`.

    Returns:
        What was done, as :func:`regaze.redirect.video.redirect_video` has it.

    Raises:
        ValueError: the source cannot be read, or is a file without a face that can be redirected;
            then nothing is written.
    """
    known, lost, count = [], Counter(), 0
    with one_thread_each(), Writer(out, source) as writer:
        try:
            for frame in source:
                picture, facts, reason = live.step(frame.picture, frame.time)
                writer.write(picture, frame.ticks)
                known += [{"frame": count, **one} for one in facts]
                lost.update([reason] if reason else [])
                count += 1
                if told is not None:
                    told("redirecting", count, source.count)
        except KeyboardInterrupt:
            log.warning("%s: stopped after %d frames", source.path, count)
        if not known and isinstance(source, Film):
            few = "; ".join(f"{n} frames: {why}" for why, n in lost.most_common(3))
            raise NoFace(f"{source.path}: {few}")
    asked = live.asked
    return {
        "source": Path(str(source.path)).name,
        "frames": count,
        "frames_per_second": float(source.rate),
        "codec": writer.codec,
        "redirected": count - sum(lost.values()),
        "unchanged": dict(lost),
        "paste": asked.mode,
        "eyes": asked.eyes,
        "ramp_deg": [asked.ramp.full_below, asked.ramp.none_beyond],
        "results": known,
    }
