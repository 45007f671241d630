"""A video whose faces look elsewhere: all of it is seen first, then it is written."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from regaze.face3d.photo_faces import NoFace
from regaze.landmarks.base import LandmarkDetector
from regaze.redirect.courses import Course, course_of
from regaze.redirect.in_frames import InFrames
from regaze.threads import in_order, one_thread_each
from regaze.video.reading import Film, Frame
from regaze.video.tracks import Track, Tracker, persons
from regaze.video.writing import Writer

Told = Callable[[str, int, int], None]
"""Told what is being done, how many frames are done, and of how many; 0 where nobody knows."""

AWAY = "eyes closed, or turned away from the camera"
"""Why frames of faces are left alone."""
_MOST_THREADS = 8
"""Frames that are worked on at a time: each is held in memory."""


def redirect_video(
    path: str | os.PathLike,
    out: str | os.PathLike,
    asked: InFrames,
    detector: LandmarkDetector,
    *,
    face: int = 0,
    everybody: bool = False,
    told: Told | None = None,
) -> dict:
    """Redirect the faces of a video and write it, sound and times kept; return what was done.

    The video is read twice. Faces are followed first, and landmarks, head poses and gazes smoothed
    by what comes before and after; then each frame is redirected. Frames without a face stay as
    they are.

    Args:
        path: the video.
        out: the file to write, one of :data:`regaze.video.writing.KINDS`.
        asked: what is done to faces.
        detector: finds the faces.
        face: which person, 0 the one who fills most of the video.
        everybody: all persons instead.
        told: see :data:`Told`.

    Raises:
        ValueError: no video, one that is cut off, or none with a face that can be redirected;
            nothing is written.
    """
    film, told = Film(path), told or _nobody
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with one_thread_each():
        tracks, gazes, times = _watched(film, asked, detector, threads, told)
    if not tracks:
        raise NoFace(f"{path}: {len(times)} frames: no face found")
    people = persons(tracks)
    if not everybody and face >= len(people):
        raise NoFace(f"{path}: face {face}: expected one of 0 to {len(people) - 1}")
    chosen = list(enumerate(people)) if everybody else [(face, people[face])]
    courses = [
        course_of(track, gazes[track.number], times, film.size, asked.lens, number)
        for number, person in chosen
        for track in person
    ]
    with one_thread_each():
        known, lost, codec = _written(film, out, asked, courses, len(times), threads, told)
    return {
        "source": Path(path).name,
        "frames": len(times),
        "frames_per_second": float(film.rate),
        "codec": codec,
        "people": len(people),
        "redirected": len(times) - sum(lost.values()),
        "unchanged": dict(lost),
        "paste": asked.mode,
        "eyes": asked.eyes,
        "ramp_deg": [asked.ramp.full_below, asked.ramp.none_beyond],
        "results": known,
    }


def _nobody(what: str, done: int, of: int) -> None:
    """Who is told where nobody asked."""


def _watched(
    film: Film, asked: InFrames, detector: LandmarkDetector, threads: int, told: Told
) -> tuple[list[Track], dict[int, list[np.ndarray]], np.ndarray]:
    """The tracks of all faces, the gaze (2,) of each in each of its frames, times of all frames."""
    tracker, tracks, times = Tracker(detector), {}, []
    gazes = defaultdict(list)

    def seen() -> Iterator[tuple[Frame, list[tuple[int, np.ndarray, np.ndarray | None]]]]:
        for frame in film:
            times.append(frame.time)
            here = tracker.step(frame.picture, frame.time)
            tracks.update({one.number: one for one in here})
            yield frame, [(one.number, one.landmarks[-1], one.points) for one in here]
            told("following faces", len(times), film.count)

    def looked(item) -> list[np.ndarray]:
        frame, faces = item
        return [_gaze(film, asked, frame, *face) for _, *face in faces]

    for (_, faces), found in in_order(looked, seen(), threads):
        for (number, *_), gaze in zip(faces, found, strict=True):
            gazes[number].append(gaze)
    return list(tracks.values()), gazes, np.array(times)


def _gaze(
    film: Film,
    asked: InFrames,
    frame: Frame,
    landmarks: np.ndarray,
    points: np.ndarray | None,
) -> np.ndarray:
    """Where a face looks, (2,) radians, NaN where its frame does not tell."""
    if asked.source_gaze is not None:
        return np.radians(asked.source_gaze)
    try:
        place = asked.place(film.path, frame.picture, landmarks, points=points)
    except ValueError:
        return np.full(2, np.nan)
    return asked.gaze(place)


def _written(
    film: Film,
    out: str | os.PathLike,
    asked: InFrames,
    courses: list[Course],
    count: int,
    threads: int,
    told: Told,
) -> tuple[list[dict], Counter[str], str]:
    """Write the video; what was done to each face of each frame, and why to others nothing."""
    at: dict[int, list[tuple[Course, int]]] = defaultdict(list)
    for course in courses:
        for row in range(len(course)):
            at[course.first + row].append((course, row))
    known, lost = [], Counter()

    def made(item: tuple[int, Frame]) -> tuple[np.ndarray, list[dict], list[str]]:
        number, frame = item
        picture, done, reasons = frame.picture, [], []
        for course, row in at[number]:
            try:
                picture, facts = _redirected(film, asked, picture, course, row)
            except ValueError as problem:
                reasons.append(str(problem).removeprefix(f"{film.path}: "))
            else:
                done.append({"frame": number, "time": frame.time, "person": course.person, **facts})
        return picture, done, reasons if at[number] else ["no face found"]

    with Writer(out, film) as writer:
        for (number, frame), (picture, done, reasons) in in_order(made, enumerate(film), threads):
            writer.write(picture, frame.ticks)
            known += done
            if why := left_alone(done, reasons):
                lost[why] += 1
            told("redirecting", number + 1, count)
        if not known:
            few = "; ".join(f"{n} frames: {why}" for why, n in lost.most_common(3))
            raise NoFace(f"{film.path}: {few}")
    return known, lost, writer.codec


def left_alone(done: Sequence[dict], reasons: Sequence[str]) -> str:
    """Why a frame is as it was, "" if it is not.

    Args:
        done: facts of :meth:`regaze.redirect.in_frames.InFrames.redirect` of its faces.
        reasons: why other faces could not be redirected.
    """
    if any("target_gaze_deg" in one for one in done):
        return ""
    return AWAY if done else reasons[0]


def _redirected(
    film: Film, asked: InFrames, picture: np.ndarray, course: Course, row: int
) -> tuple[np.ndarray, dict]:
    pose, gaze = course.poses[row], course.gaze[row]
    if not np.isfinite(gaze).all():
        raise ValueError("the gaze of the face could not be read")
    known = pose if np.isfinite(pose).all() else None
    place = asked.place(film.path, picture, course.landmarks[row], known)
    return asked.redirect(place, gaze, float(course.share[row]))
