"""Read a photo, or say what is wrong with it.

Damage that a file's format lets one see is an error here. JPEG, PNG and TIFF have much of that;
WebP, BMP and HEIF have no checksums, and of a JPEG's pixels overwritten so that their codes happen
to fit, or of samples that are stored as they are, no decoder can tell that they were others.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from simplejpeg import decode_jpeg

from regaze.sources.photo_header import HeaderError, PhotoHeader, open_heif, read_header
from regaze.sources.records import printable
from regaze.sources.regular import link_out, read_regular

MOST_PIXELS = 120_000_000
"""Pictures of more pixels are refused by their header: a damaged or hostile file of a few bytes
can claim a picture that does not fit into memory."""

MOST_SIDE = 32_766
"""Longest side in pixels that OpenCV can read from when it warps."""

_MOST_BYTES = 1 << 30
_JPEG_DAMAGE = ("Corrupt JPEG data", "Inconsistent progression")
"""How libjpeg begins when it goes on with pixels that are no longer those of the photo; its other
remarks are about a header's details."""
_JPEG_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_MOST_PADDING = 16
_TIFF_COMPRESSION, _TIFF_JPEG_TABLES = 259, 347
_TIFF_PARTS = ((273, 279), (324, 325))  # offsets and sizes of strips, of tiles
_TIFF_DEFLATE, _TIFF_JPEG = (8, 32946), 7


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


def read_photo(path: str | Path, root: str | Path | None = None) -> np.ndarray:
    """Return a photo as (H, W, 3) uint8 in B,G,R order, turned as its EXIF orientation says.

    What the file is called plays no part. 16-bit pictures are reduced to 8 bits, grey ones
    repeated, transparency is ignored, and of several pictures in a file the first is taken.

    Args:
        path: the file.
        root: the data set's folder, which a photo that is a link must not lead out of; see
            :func:`regaze.sources.regular.link_out`.

    Raises:
        UnreadableImage: the file is missing, empty, no regular file, truncated, damaged, no
            picture, or claims more than :data:`MOST_PIXELS` or a side beyond :data:`MOST_SIDE`.
    """
    content = _content(path, root)
    try:
        header = read_header(io.BytesIO(content))
        width, height = header.width, header.height
        if width * height > MOST_PIXELS:
            raise _Damaged(
                f"{width} x {height} pixels: expected at most {MOST_PIXELS}, found {width * height}"
            )
        if max(width, height) > MOST_SIDE:
            raise _Damaged(
                f"{width} x {height} pixels: expected sides of at most {MOST_SIDE}, "
                f"found {max(width, height)}"
            )
        if header.fault:
            raise _Damaged(header.fault)
        image = _decoded(header, content)
    except (_Damaged, HeaderError) as error:
        raise UnreadableImage(path, str(error)) from error
    except cv2.error as error:
        raise UnreadableImage(path, f"cannot be decoded: {getattr(error, 'err', error)}") from error
    if image is None:
        raise UnreadableImage(path, "not a picture that can be decoded")
    if header.format != "TIFF":  # which every decoder turns itself
        image = _turned(image, header.orientation)
    width, height = header.shown
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        found = f"{image.shape[1]} x {image.shape[0]} of {image.dtype}"
        raise UnreadableImage(path, f"expected {width} x {height} pixels of uint8, found {found}")
    return image


class _Damaged(ValueError):
    """What is wrong with a picture's bytes."""


def _content(path: str | Path, root: str | Path | None) -> bytes:
    try:
        out = root is not None and link_out(path, root)
        content = b"" if out else read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error)) from error
    except ValueError as error:  # a name with a zero byte
        raise UnreadableImage(path, str(error)) from error
    if out:
        raise UnreadableImage(path, "expected a photo, found a link out of the data set")
    if not content:
        raise UnreadableImage(path, "empty file")
    return content


def _decoded(header: PhotoHeader, content: bytes) -> np.ndarray | None:
    """Return the pixels as stored, B,G,R; None when nothing decodes them."""
    if header.format == "JPEG":
        return _jpeg(content)
    if header.format == "HEIF":
        try:
            return _bgr(open_heif(io.BytesIO(content)).to_pillow())
        except Exception as error:  # the library raises many kinds on damaged files
            raise _Damaged(f"damaged HEIF: {error}") from error
    if header.format in ("TIFF", "JPEG2000"):
        return _checked(content)
    return _opencv(content)


def _opencv(content: bytes) -> np.ndarray | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def _bgr(picture) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])


def _jpeg(content: bytes) -> np.ndarray | None:
    """Decode as OpenCV does, by the same library, but hear what that library says.

    OpenCV has no way to ask, and Pillow throws it away.
    """
    try:
        return decode_jpeg(content, "BGR")
    except ValueError as error:
        told = str(error)
    if "bad ICC marker" in told:
        # Of no matter here, and libjpeg tells the first fault only.
        return _jpeg(content.replace(b"ICC_PROFILE\0", b"-----------\0"))
    padding = _JPEG_PADDING.fullmatch(told)
    zeros = bytes(min(int(padding[1]), _MOST_PADDING + 1)) if padding else b""
    if 0 < len(zeros) <= _MOST_PADDING and zeros + b"\xff\xd9" in content:
        # Some cameras fill up with zeros behind the picture.
        return decode_jpeg(content, "BGR", strict=False)
    if told == "Premature end of JPEG file":
        raise _Damaged("truncated JPEG")
    if told.startswith(_JPEG_DAMAGE):
        raise _Damaged(f"damaged JPEG: {told.removeprefix('Corrupt JPEG data: ')}")
    # Seldom kinds of subsampling, which the other does not know.
    return _opencv(content)


def _checked(content: bytes) -> np.ndarray | None:
    """Decode what OpenCV decodes without a word when parts of it are damaged."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(content), formats=("TIFF", "JPEG2000"))
        picture.load()
        if picture.format == "TIFF":
            _check_parts(content, picture)
    except _Damaged:
        raise
    except Exception as error:  # Pillow's plugins fail in many ways on damaged files
        raise _Damaged(f"cannot be decoded: {error}") from error
    if picture.format == "TIFF" and picture.mode == "RGBA":
        # OpenCV multiplies colours by opacity.
        return _bgr(picture)
    return _opencv(content)


def _check_parts(content: bytes, picture) -> None:
    """Check the strips or tiles of a TIFF whose compression tells damage that libtiff ignores."""
    tags = picture.tag_v2
    kind = tags.get(_TIFF_COMPRESSION)
    # No picture takes more than four samples of 64 bits for a pixel; a file may claim anything.
    left = 32 * picture.width * picture.height
    tables = bytes(tags.get(_TIFF_JPEG_TABLES, b""))
    for offsets, sizes in _TIFF_PARTS:
        for at, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
            part = content[at : at + size]
            if kind in _TIFF_DEFLATE:
                unpack = zlib.decompressobj()
                try:
                    left -= len(unpack.decompress(part, max(left, 0) + 1))
                except zlib.error as error:
                    raise _Damaged(f"damaged TIFF: {error}") from error
                if not unpack.eof:
                    raise _Damaged("damaged TIFF: compressed data without their end")
            elif kind == _TIFF_JPEG:
                _jpeg(part[:2] + tables[2:-2] + part[2:])


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored pixels as EXIF's orientation says that they are shown."""
    if orientation in (2, 4):
        return cv2.flip(image, 1 if orientation == 2 else 0)
    if orientation in (5, 7):
        image = cv2.transpose(image)
        return image if orientation == 5 else cv2.flip(image, -1)
    turn = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(image, turn[orientation]) if orientation in turn else image
