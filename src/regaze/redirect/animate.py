"""Sweeps and videos as files: GIF, and MP4 where OpenCV can write it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from regaze.animation import gif
from regaze.outputs import ending_of, replacing

KINDS = (".gif", ".mp4")
MOST_SIDE = 960
"""Animations of larger pictures are shrunk to this, in pixels."""


def check_kind(path: str | os.PathLike) -> str:
    """The ending of an animation's name, in lower case.

    Raises:
        ValueError: none of :data:`KINDS`.
    """
    return ending_of(path, KINDS, "a sweep is written to")


def write_animation(
    path: str | os.PathLike, frames: Sequence[np.ndarray], frame_ms: int = 90
) -> None:
    """Write pictures (H, W, 3) uint8 RGB of one size as an animation, shrunk where they are large.

    Raises:
        ValueError: another ending, no frames, or an OpenCV that cannot write MP4.
    """
    kind = check_kind(path)
    if not frames:
        raise ValueError(f"{path}: expected frames, found none")
    frames = [shrunk(frame) for frame in frames]
    if kind == ".gif":
        content = gif([Image.fromarray(frame) for frame in frames], frame_ms)
        with replacing(path) as part:
            part.write_bytes(content)
        return
    write_mp4(path, frames, 1000.0 / frame_ms)


def write_mp4(path: str | os.PathLike, frames: Iterable[np.ndarray], rate: float) -> None:
    """Write pictures (H, W, 3) uint8 RGB of one size as MP4 of ``rate`` pictures a second.

    They are taken one after the other, and if that fails there is no file.

    Raises:
        ValueError: no frames, or an OpenCV that cannot write MP4.
    """
    # Writers go by the ending, which the temporary name must therefore have.
    with replacing(path) as part:
        named = part.with_name(part.name + ".mp4")
        try:
            _write_mp4(named, frames, rate, path)
            named.replace(part)
        finally:
            named.unlink(missing_ok=True)


def shrunk(frame: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 whose longer side is at most :data:`MOST_SIDE`."""
    height, width = frame.shape[:2]
    share = MOST_SIDE / max(height, width)
    if share >= 1.0:
        return frame
    size = (max(round(width * share), 1), max(round(height * share), 1))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _write_mp4(path: Path, frames: Iterable[np.ndarray], rate: float, shown) -> None:
    # VP9, since browsers play no MPEG-4 Part 2 (mp4v) and OpenCV's wheels write no H.264. It halves
    # its colours: sides must be even, so a last row or column is repeated.
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{shown}: expected frames, found none")
    height, width = first.shape[:2]
    below, right = height % 2, width % 2
    size = (width + right, height + below)
    failed = f"{shown}: this OpenCV cannot write MP4 with VP9; use a .gif instead"
    try:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"vp09"), rate, size)
    except cv2.error as error:
        raise ValueError(failed) from error
    if not writer.isOpened():
        raise ValueError(failed)
    for frame in chain([first], frames):
        even = cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE)
        writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
    writer.release()
    if not path.is_file() or path.stat().st_size == 0:
        raise ValueError(failed)
