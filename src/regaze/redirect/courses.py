"""What a face does in a video, from its first frame to its last, without the noise of measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regaze.normalise.head_pose import HeadPoseError, estimate_head_pose
from regaze.redirect.place import Lens
from regaze.video.blinks import RAMP, openings
from regaze.video.smoothing import Motion, smoothed, unrolled
from regaze.video.tracks import Track

LANDMARKS = Motion(noise=0.004, push=1.5)
"""In widths of the face. Detectors are that sure of points in a film's frames."""
TURNS = Motion(noise=0.008, push=4.0)
"""Radians: of the head."""
SHIFTS = Motion(noise=3.0, push=400.0)
"""Millimetres: of the head."""
GAZE = Motion(noise=np.radians(1.5), push=np.radians(60.0), jump=4.0)
"""Radians. Eyes rest or jump: a jump is not to be smeared."""
_AWAKE = 0.9
"""How open eyes must be for their gaze to be read."""


@dataclass(frozen=True, eq=False)
class Course:
    """A face from frame to frame.

    Attributes:
        person: number of the person, 0 the one who fills most of the video.
        first: number of its first frame; all up to its last are here.
        landmarks: (n, 68, 2) pixels.
        poses: (n, 6) rotation vectors and mm, see :class:`regaze.redirect.frames.Face`; NaN where
            landmarks are those of no head.
        gaze: (n, 2) radians; NaN where nothing could be read in the whole course.
        share: (n,) of the effect: less around blinks, where the face comes and where it goes.
    """

    person: int
    first: int
    landmarks: np.ndarray
    poses: np.ndarray
    gaze: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.share)


def course_of(
    track: Track,
    gaze: Sequence[np.ndarray],
    times: np.ndarray,
    size: tuple[int, int],
    lens: Lens | None = None,
    person: int = 0,
) -> Course:
    """A track as a course.

    Frames in which a face was missed for a moment are filled from those around them.

    Args:
        track: the face.
        gaze: (2,) radians for each of its frames, NaN where it was not read.
        times: (all frames,) seconds.
        size: width and height of the frames.
        lens: the camera.
        person: whose it is.
    """
    seen = np.array(track.frames)
    frames = np.arange(seen[0], seen[-1] + 1)
    there, known = times[frames], times[seen]
    marks = _filled(np.array(track.landmarks).reshape(len(seen), -1), known, there)
    open_ = openings(marks.reshape(-1, 68, 2), there)
    width = np.ptp(marks.reshape(-1, 68, 2)[..., 0], axis=1).mean()
    marks = (width * smoothed(marks / width, there, LANDMARKS)).reshape(-1, 68, 2)
    poses = np.array([pose_of(one, size, lens) for one in marks])
    good = np.isfinite(poses).all(axis=1)
    if good.any():
        turns = smoothed(unrolled(poses[good, :3]), there[good], TURNS)
        shifts = smoothed(poses[good, 3:], there[good], SHIFTS)
        poses[good] = np.concatenate([turns, shifts], axis=1)
    read = np.array(gaze, np.float64).reshape(-1, 2)
    awake = np.interp(known, there, open_) > _AWAKE
    told = np.isfinite(read).all(axis=1)
    told &= awake if (told & awake).any() else True
    look = np.full((len(frames), 2), np.nan)
    if told.any():
        look = smoothed(_filled(read[told], known[told], there), there, GAZE)
    share = open_ * _arriving(there, frames[0] == 0, frames[-1] == len(times) - 1)
    return Course(person, int(frames[0]), marks, poses, look, share)


def pose_of(landmarks: np.ndarray, size: tuple[int, int], lens: Lens | None) -> np.ndarray:
    """Pose (6,) of the head of landmarks (68, 2) in frames of ``size``; NaN where there is none."""
    camera, distortion, _ = (lens or Lens()).camera(size)
    try:
        return estimate_head_pose(landmarks, camera, distortion)[0]
    except HeadPoseError:
        return np.full(6, np.nan)


def _filled(values: np.ndarray, known: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values (n, k) known at some times, at all (m,) of them, along straight lines."""
    return np.stack([np.interp(times, known, column) for column in values.T], axis=1)


def _arriving(times: np.ndarray, from_start: bool, to_end: bool) -> np.ndarray:
    """1, with ramps where a face comes or goes within the video, never quite 0."""
    share = np.ones(len(times))
    gap = float(np.median(np.diff(times))) if len(times) > 1 else RAMP
    for away, there in ((times - times[0], from_start), (times[-1] - times, to_end)):
        if not there:
            share = np.minimum(share, (away + gap) / (RAMP + gap))
    return share
