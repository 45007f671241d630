"""Read a photo, or say what is wrong with it; nothing else ever comes out of a damaged file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from regaze.sources.records import printable

MOST_PIXELS = 120_000_000
"""Pictures of more pixels are refused by their header: a damaged or hostile file of a few bytes
can claim a picture that does not fit into memory."""

MOST_SIDE = 32_766
"""Longest side in pixels that OpenCV can read from when it warps."""

_MOST_BYTES = 1 << 30
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


class UnreadableImage(ValueError):
    """A photo that is missing, truncated, too large or not a picture; the message names the file.

    ``what`` says what is wrong without the path, which differs between machines.
    """

    def __init__(self, path: str | os.PathLike, what: str):
        super().__init__(f"{printable(str(path))}: {what}")
        self.what = what


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep OpenCV's decoders from logging; what is wrong with a photo is said by its rejection."""
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def read_photo(path: str | Path) -> np.ndarray:
    """Return a photo as (H, W, 3) uint8 in B,G,R order, turned as its EXIF orientation says.

    What the file is called plays no part. 16-bit pictures are reduced to 8 bits, grey ones
    repeated, and transparency is ignored.

    Raises:
        UnreadableImage: the file is missing, empty, no regular file, truncated, no picture, or
            claims more than :data:`MOST_PIXELS` or a side beyond :data:`MOST_SIDE`.
    """
    content = _content(path)
    try:
        width, height = _size(content)
        if width * height > MOST_PIXELS:
            raise _Damaged(
                f"{width} x {height} pixels: expected at most {MOST_PIXELS}, found {width * height}"
            )
        if max(width, height) > MOST_SIDE:
            raise _Damaged(
                f"{width} x {height} pixels: expected sides of at most {MOST_SIDE}, "
                f"found {max(width, height)}"
            )
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except _Damaged as error:
        raise UnreadableImage(path, str(error)) from error
    except cv2.error as error:
        raise UnreadableImage(path, f"cannot be decoded: {getattr(error, 'err', error)}") from error
    if image is None:
        raise UnreadableImage(path, "not a picture that can be decoded")
    return image


class _Damaged(ValueError):
    """What is wrong with a picture's bytes."""


def _content(path: str | Path) -> bytes:
    try:
        # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb", buffering=0) as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "something else"
                raise UnreadableImage(path, f"expected a file, found {kind}")
            if status.st_size > _MOST_BYTES:
                raise UnreadableImage(
                    path, f"expected at most {_MOST_BYTES} bytes, found {status.st_size}"
                )
            content = file.read()
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error)) from error
    except UnreadableImage:
        raise
    except ValueError as error:  # a name with a zero byte
        raise UnreadableImage(path, str(error)) from error
    if not content:
        raise UnreadableImage(path, "empty file")
    return content


def _size(content: bytes) -> tuple[int, int]:
    """Return width and height that the header claims, having checked that the file is whole.

    Decoders fill the missing part of a cut-off file with grey or black and at most warn.
    """
    if content[:2] == b"\xff\xd8":
        return _jpeg_size(content)
    if content[:8] == _PNG:
        return _png_size(content)
    return _other_size(content)


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Walk the header segments to the first scan, then look for the end marker behind it.

    A thumbnail inside a header segment has an end marker of its own, so the file's last bytes
    or a plain search would not do.
    """
    position, size = 2, None
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_BARE:
            position += 2
        elif marker == 0xDA:
            end = b"\xff\xd9"
            if size is None:
                raise _Damaged("JPEG without a frame header")
            if not content.endswith(end) and content.find(end, position) < 0:
                raise _Damaged("truncated JPEG")
            return size
        else:
            if marker in _JPEG_FRAMES:
                height = int.from_bytes(content[position + 5 : position + 7], "big")
                size = int.from_bytes(content[position + 7 : position + 9], "big"), height
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    raise _Damaged("truncated JPEG")


def _png_size(content: bytes) -> tuple[int, int]:
    position = 8
    while position + 12 <= len(content):
        kind = content[position + 4 : position + 8]
        if position == 8 and kind != b"IHDR":
            raise _Damaged("PNG without a header")
        position += 12 + int.from_bytes(content[position : position + 4], "big")
        if kind == b"IEND":
            return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    raise _Damaged("truncated PNG")


def _other_size(content: bytes) -> tuple[int, int]:
    import io
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content)) as picture:
                return picture.size
    except Image.DecompressionBombError as error:
        raise _Damaged(str(error)) from error
    except Exception as error:  # Pillow's plugins fail in many ways on damaged headers
        raise _Damaged("not a picture") from error
