"""Videos as pictures with their times, by PyAV, or by OpenCV where the source is a camera."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from regaze.normalise.photo import quiet_decoders

ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")

_RATE = Fraction(25)
"""Frames a second of videos and cameras that do not tell."""
_MOST_RATE = 1000
_SLACK = 0.5
"""Seconds by which a video may end before the time that it claims: clocks of sound and picture."""
_TICKS = 1000
"""Ticks a second of a camera's clock."""


def is_video(place: str | os.PathLike) -> bool:
    """Whether a place is the file of a video, by its ending."""
    return Path(place).suffix.lower() in ENDINGS and Path(place).is_file()


def is_camera(place: str) -> bool:
    """Whether a place is a camera by its number, and no file of that name."""
    return str(place).isdecimal() and not Path(place).exists()


def library():
    """The package PyAV.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import av
        import av.error
    except ImportError:
        raise ValueError(
            "videos are read and written by the package av (PyAV), which is not installed: "
            "pip install av"
        ) from None
    # What decoders say of each damaged packet is said once, by the errors below.
    av.logging.set_level(av.logging.PANIC)
    return av


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        picture: (H, W, 3) uint8 RGB, upright.
        ticks: when it is shown, in units of the video's ``time_base``.
        time: the same in seconds.
    """

    picture: np.ndarray
    ticks: int
    time: float


class Film:
    """A video file. Iterating reads it from its beginning, as often as one likes.

    Attributes:
        path: the file.
        size: width, height in pixels of its pictures as they are shown, upright.
        time_base: seconds per tick.
        rate: frames a second; the average where they differ.
        rotation: degrees, counterclockwise and a multiple of 90, by which players turn pictures.
        count: how many frames the file says that it has; 0 where it does not.
        colours: the codec context's colour attributes, for a writer.
        aspect: width over height of the stored pictures' pixels, None where they are square.

    Raises:
        ValueError: no file with a video that can be read.
    """

    def __init__(self, path: str | os.PathLike):
        self.path, av = path, library()
        with self._told(), av.open(str(path)) as file:
            if not file.streams.video:
                raise ValueError(f"{path}: expected a video, found none in the file")
            stream = file.streams.video[0]
            context = stream.codec_context
            if context is None:
                raise ValueError(f"{path}: expected a video of a known codec, found another")
            first = next(file.decode(stream), None)
            if first is None:
                raise ValueError(f"{path}: expected a video with frames, found none")
            self.time_base = Fraction(stream.time_base)
            rate = stream.average_rate or stream.guessed_rate or _RATE
            self.rate = Fraction(rate) if 0 < rate <= _MOST_RATE else _RATE
            # Telephones turn by quarters; anything else is no way to hold a picture.
            self.rotation = round(first.rotation / 90.0) * 90 % 360
            self.count = int(stream.frames)
            names = ("colorspace", "color_range", "color_primaries", "color_trc")
            self.colours = {name: getattr(context, name) for name in names}
            aspect = stream.sample_aspect_ratio
            self.aspect = aspect if aspect and aspect != 1 else None
            self.stored_size = (first.width, first.height)
        turned = self.rotation % 180 == 90
        self.size = self.stored_size[::-1] if turned else self.stored_size

    def __iter__(self) -> Iterator[Frame]:
        """Frames in the order in which they are shown.

        Raises:
            ValueError: the file is damaged, or ends before the time that it claims.
        """
        av = library()
        last = end = None
        with self._told(), av.open(str(self.path)) as file:
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            wanted = [stream, *file.streams.audio]
            for packet in file.demux(wanted):
                if packet.is_corrupt:
                    raise self._cut_off(last)
                if packet.pts is not None and packet.time_base:
                    past = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    end = past if end is None else max(end, past)
                if packet.stream is not stream:
                    continue
                for frame in packet.decode():
                    ticks = frame.pts
                    if ticks is None:
                        step = max(int(1 / (self.rate * self.time_base)), 1)
                        ticks = 0 if last is None else last + step
                    # Two frames at one time would be one.
                    last = ticks if last is None else max(ticks, last + 1)
                    yield Frame(self._upright(frame), last, float(last * self.time_base))
            length = None if file.duration is None else file.duration / av.time_base
            begin = 0.0 if file.start_time is None else file.start_time / av.time_base
            if length is not None and end is not None and end - begin < length - _SLACK:
                raise self._cut_off(last)

    def _upright(self, frame) -> np.ndarray:
        options = {"src_colorspace": space_of(self.colours), "interpolation": exact()}
        picture = frame.to_ndarray(format="rgb24", **options)
        if picture.shape[1::-1] != self.stored_size:
            raise _sizes(self.path, self.stored_size, picture)
        return np.ascontiguousarray(np.rot90(picture, self.rotation // 90))

    def _cut_off(self, last: int | None) -> ValueError:
        when = "its beginning" if last is None else f"{float(last * self.time_base):.2f} s"
        return ValueError(
            f"{self.path}: expected a whole video, found it cut off or damaged after {when}"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the library as ValueError."""
        av = library()
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
                raise
            what = getattr(error, "strerror", None) or str(error)
            raise ValueError(
                f"{self.path}: expected a whole video, found it damaged or cut off ({what})"
            ) from None


def _sizes(path, size: tuple[int, int], picture: np.ndarray) -> ValueError:
    """A picture of another size than the ones before."""
    return ValueError(
        f"{path}: expected frames of one size, {size[0]} x {size[1]} pixels, found one of "
        f"{picture.shape[1]} x {picture.shape[0]}"
    )


def exact() -> int:
    """How pixels are converted: without rounding down, which would darken them by a level each
    time."""
    way = library().video.reformatter.Interpolation
    return way.BICUBIC | way.ACCURATE_RND | way.FULL_CHR_H_INT | way.FULL_CHR_H_INP


def space_of(colours) -> int | None:
    """The colour space for conversions; None where the file tells none."""
    av = library()
    known = {one.value for one in av.video.reformatter.Colorspace}
    space = int(colours["colorspace"])
    # FFmpeg counts RGB as 0 and what is not told as 2; both are for it to decide.
    return space if space in known and space not in (0, 2) else None


class Camera:
    """A camera by its number, or any source that OpenCV opens, read as it comes.

    Attributes:
        path: what was asked for.
        size: width, height in pixels.
        time_base: seconds per tick.
        rate: frames a second as the source has it.
        rotation, count, colours, aspect: as those of :class:`Film`.

    Raises:
        ValueError: OpenCV cannot open it.
    """

    rotation, count, aspect, colours = 0, 0, None, None
    time_base = Fraction(1, _TICKS)

    def __init__(self, source: str | os.PathLike | int):
        self.path = source
        number = isinstance(source, int) or str(source).isdecimal() and not Path(source).exists()
        with quiet_decoders():
            self._film = cv2.VideoCapture(int(source) if number else str(source))
        if not self._film.isOpened():
            what = f"camera {source}" if number else f"{source}"
            raise ValueError(f"{what}: expected a source that OpenCV can open, found none")
        self._timed = not number
        rate = self._film.get(cv2.CAP_PROP_FPS)
        known = np.isfinite(rate) and 0.0 < rate <= _MOST_RATE
        self.rate = Fraction(rate).limit_denominator(1001) if known else _RATE
        self._first = self._read()
        if self._first is None:
            raise ValueError(f"{source}: expected a source with frames, found none")
        self.size = self.stored_size = self._first[0].shape[1::-1]

    def _read(self) -> tuple[np.ndarray, float] | None:
        """The next picture, and when it was taken in seconds; None after the last."""
        with quiet_decoders():
            there, picture = self._film.read()
        if not there:
            return None
        when = self._film.get(cv2.CAP_PROP_POS_MSEC) / 1000.0 if self._timed else time.monotonic()
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), when

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the source ends, once. A camera's are timed by the clock from 0 on, a file's
        by the file.

        Raises:
            ValueError: a frame of another size than the first.
        """
        read, last = self._first, -1
        begin = 0.0 if self._timed else read[1]
        try:
            while read is not None:
                picture, when = read
                if picture.shape[1::-1] != self.size:
                    raise _sizes(self.path, self.size, picture)
                last = max(round((when - begin) * _TICKS), last + 1)
                yield Frame(picture, last, last / _TICKS)
                read = self._read()
        finally:
            self._film.release()
