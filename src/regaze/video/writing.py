"""A video written frame by frame, with the times of its source and its sound."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np

from regaze.outputs import ending_of, replacing
from regaze.video.reading import Film, exact, library, space_of

log = logging.getLogger(__name__)

KINDS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Endings of videos that are written."""

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_TURNABLE = (".mp4", ".m4v", ".mov")
"""Files that tell players by how much to turn pictures."""

_CODECS = {
    "libx264": {"crf": "18", "preset": "veryfast", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "mpeg4": {"qscale": "3"},
}
"""Encoders, the best first, with options for a picture that looks as its source. Without frames
that are stored before earlier ones (``bf``), a clip with gaps of time is as long as it was."""
_NAMES = {"libx264": "h264", "libvpx-vp9": "vp9", "mpeg4": "mpeg4"}
_EVEN = ("libx264",)
"""Encoders of 4:2:0 that want even sides."""
_RATES = {"libopus": (48000,), "aac": (48000, 44100, 32000, 24000, 22050, 16000, 12000, 8000)}
"""Samples a second that the encoders of sound take, the one for all others first."""
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_MOST_TICKS = 65535
"""Ticks a second that MPEG-4 can count."""


class Writer:
    """A video file that is written under a temporary name, and has its own once it is whole.

    Use it as a context: leaving it with an error leaves no file.

    Args:
        path: the file, one of :data:`KINDS`.
        source: what gives size, clock, rotation, colours and sound; its sound is copied, or
            encoded anew where the file's kind cannot hold it.
        sound: whether the sound is taken.

    Attributes:
        codec: name of the pictures' codec, known inside the context.

    Raises:
        ValueError: another ending, or no encoder for the pictures.
    """

    def __init__(self, path: str | os.PathLike, source, *, sound: bool = True):
        self.kind = ending_of(path, KINDS, "a video is written to")
        self.path, self.source = Path(path), source
        self._sound = sound and isinstance(source, Film)
        self._stack, self.codec, self._last = ExitStack(), "", None

    def __enter__(self) -> Writer:
        av = library()
        with self._stack as stack:
            part = stack.enter_context(replacing(self.path))
            self._file = av.open(str(part), "w", format=_FORMATS[self.kind])
            stack.callback(self._file.close)
            self._stream = self._pictures(av)
            self._tracks = list(self._sounds(av, stack)) if self._sound else []
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.push(self._finish)
        self._stack.__exit__(*error)

    def _finish(self, kind, error, trace) -> None:
        """What is still to be written, unless something failed."""
        if kind is not None:
            return
        if self._last is None:
            raise ValueError(f"{self.path}: expected frames, found none")
        self._put(None, None)

    def write(self, picture: np.ndarray, ticks: int) -> None:
        """Add a picture (H, W, 3) uint8 RGB, upright, to be shown at a tick of the source."""
        av = library()
        stored = np.rot90(picture, -self.turned // 90)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24")
        space = None if self.source.colours is None else space_of(self.source.colours)
        options = {"dst_colorspace": space, "interpolation": exact()}
        frame = frame.reformat(format=self._stream.pix_fmt, **options)
        frame.time_base = self._base
        at = round(ticks * self.source.time_base / self._base)
        self._last = frame.pts = at if self._last is None else max(at, self._last + 1)
        self._put(frame, float(self._last * self._base))

    def _put(self, frame, until: float | None) -> None:
        """Encode a frame, and write the sound up to its time; None: all that is left."""
        av = library()
        try:
            self._file.mux(self._stream.encode(frame))
            for track in self._tracks:
                track.write(until)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise ValueError(f"{self.path}: the video cannot be written: {error}") from None

    def _pictures(self, av):
        source = self.source
        turns = self.kind in _TURNABLE
        self.turned = source.rotation if turns else 0
        width, height = source.stored_size if turns else source.size
        for name, options in _CODECS.items():
            if _NAMES[name] not in self._file.supported_codecs or (
                name in _EVEN and (width % 2 or height % 2)
            ):
                continue
            # The muxer of .mov says that it can, and cannot.
            if self.kind == ".mov" and name == "libvpx-vp9":
                continue
            try:
                av.codec.Codec(name, "w")
            except av.codec.codec.UnknownCodecError:
                continue
            stream = self._file.add_stream(name, rate=source.rate, options=dict(options))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            self._base = Fraction(source.time_base)
            if name == "mpeg4" and self._base.denominator > _MOST_TICKS:
                self._base = Fraction(1, _MOST_TICKS)
            context = stream.codec_context
            context.time_base = self._base
            for key, value in (source.colours or {}).items():
                setattr(context, key, value)
            if source.aspect:
                context.sample_aspect_ratio = (
                    source.aspect if self.turned == source.rotation
                    or source.rotation % 180 == 0 else 1 / source.aspect
                )  # fmt: skip
            if self.turned:
                stream.set_display_rotation(self.turned)
            self.codec = _NAMES[name]
            return stream
        raise ValueError(
            f"{self.path}: expected an encoder for {width} x {height} pixels in {self.kind}, "
            "H.264, VP9 or MPEG-4; this installation of av (PyAV) has none"
        )

    def _sounds(self, av, stack: ExitStack) -> Iterator[_Track]:
        with av.open(str(self.source.path)) as file:
            indices = [one.index for one in file.streams.audio if one.codec_context is not None]
            unknown = len(file.streams.audio) - len(indices)
            others = len(file.streams) - len(file.streams.audio) - 1
        if unknown or others:
            log.warning(
                "%s: %d tracks are left out: sound of unknown codecs, subtitles, data",
                *(self.source.path, unknown + others),
            )
        for index in indices:
            yield _Track(self._file, stack.enter_context(av.open(str(self.source.path))), index)


class _Track:
    """One track of sound on its way into a file: copied where the file can hold it."""

    def __init__(self, out, file, index: int):
        self.out, self.source = out, file.streams[index]
        codec = self.source.codec_context.codec.canonical_name
        self.copied = codec in out.supported_codecs
        if self.copied:
            self.stream = out.add_stream_from_template(self.source)
        else:
            name = "libopus" if out.format.name == "webm" else "aac"
            context, rates = self.source.codec_context, _RATES[name]
            rate = context.sample_rate if context.sample_rate in rates else rates[0]
            self.stream = out.add_stream(name, rate=rate)
            # Some files tell how many channels they have, and not where they stand.
            self.stream.codec_context.layout = _LAYOUTS.get(context.layout.nb_channels, "stereo")
        self._packets, self._next = file.demux(self.source), None

    def write(self, until: float | None) -> None:
        """Write what is heard up to a time in seconds; all that is left for None."""
        while True:
            packet = self._next or next(self._packets, None)
            self._next = None
            if packet is None:
                break
            if packet.dts is None and self.copied:
                continue
            begin = packet.pts if packet.pts is not None else packet.dts
            if until is not None and begin is not None and begin * packet.time_base > until:
                self._next = packet
                return
            self._put(packet)
        if not self.copied and until is None:
            self.out.mux(self.stream.encode(None))

    def _put(self, packet) -> None:
        if self.copied:
            packet.stream = self.stream
            self.out.mux(packet)
            return
        for frame in packet.decode():
            self.out.mux(self.stream.encode(frame))
