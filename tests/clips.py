"""Small videos of many kinds, for tests."""

from fractions import Fraction

import av
import cv2
import numpy as np
from skimage import data


def portrait_pictures(count, size=(320, 240), step=3.0, gone=()):
    """Frames of the portrait that moves to the left; grey where the face is ``gone``."""
    made = []
    for number in range(count):
        shift = np.float32([[1, 0, -60 - step * number], [0, 1, -10]])
        picture = cv2.warpAffine(data.astronaut(), shift, size, borderMode=cv2.BORDER_REFLECT)
        made.append(np.full_like(picture, 90) if number in gone else picture)
    return made


def write_clip(
    path,
    pictures,
    *,
    ticks=None,
    base=Fraction(1, 600),
    codec="libx264",
    options=None,
    turn=0,
    sound=None,
    tags=None,
):
    """Write pictures (H, W, 3) uint8 RGB.

    ``ticks``: when each is shown, in units of ``base``; default 25 a second. ``turn``: degrees by
    which players are told to turn them, counterclockwise. ``sound``: a codec, for a beep as long.
    """
    ticks = [24 * number for number in range(len(pictures))] if ticks is None else ticks
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=tags or {}) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if not (width % 2 or height % 2) else "yuv444p"
        stream.codec_context.time_base = base
        if turn:
            stream.set_display_rotation(turn)
        heard = None
        if sound:
            heard = file.add_stream(sound, rate=16000 if sound != "libopus" else 48000)
            heard.codec_context.layout = "mono"
            heard.codec_context.bit_rate = 48000
        for picture, tick in zip(pictures, ticks, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = tick, base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if heard is not None:
            rate = heard.codec_context.sample_rate
            seconds = float((ticks[-1] + 24) * base)
            wave = np.sin(np.arange(int(seconds * rate)) * (880 * np.pi / rate)) * 9000
            frame = av.AudioFrame.from_ndarray(
                wave.astype(np.int16)[None], format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts = rate, 0
            file.mux(heard.encode(frame))
            file.mux(heard.encode(None))
    return path


def sound_of(path):
    """Samples of a video's first track of sound, and its codec's name."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        rows = [frame.to_ndarray().reshape(-1).astype(float) for frame in file.decode(stream)]
        return np.concatenate(rows), stream.codec_context.codec.canonical_name


def packets_of(path):
    """The bytes of a video's sound, packet by packet."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(file.streams.audio[0]) if packet.size]
