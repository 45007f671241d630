"""What a photo's file says before it is decoded: format, size and how it is to be turned.

Cameras that are assumed get their size from here, and :mod:`regaze.normalise.photo` turns decoded
pixels by it, so that the two cannot differ. Decoders disagree on orientation: OpenCV before 5
ignores that of WebP, OpenCV that of AVIF, and Pillow also takes it from XMP.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from regaze.sources.records import printable
from regaze.sources.regular import open_regular

PHOTO_ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif"),
    *(".heic", ".heif", ".hif"),
)
"""Endings of photos' names, in any case. The last three need the package pillow-heif."""

_HEIF_ENDINGS = PHOTO_ENDINGS[-3:]
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_APP1, _JPEG_SCAN = 0xE1, 0xDA
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
# Those that OpenCV decodes, beside JPEG and PNG.
_FORMATS = ("BMP", "DIB", "TIFF", "WEBP", "AVIF", "GIF", "JPEG2000", "PPM", "SUN")
_EXIF = b"Exif\0\0"
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


class HeaderError(ValueError):
    """What is wrong with the header of a photo; the message names no file."""


@dataclass(frozen=True)
class PhotoHeader:
    """The beginning of a photo's file.

    Attributes:
        format: ``JPEG``, ``PNG``, ``HEIF``, or what Pillow calls it.
        width, height: pixels as stored.
        orientation: EXIF's 1 to 8, how these are to be turned to be shown.
        fault: what is wrong behind the header, "" when nothing is known to be.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    fault: str = ""

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height of the photo as shown."""
        sides = self.width, self.height
        return sides[::-1] if self.orientation in _SIDEWAYS else sides


def photo_header(path: str | Path) -> PhotoHeader | None:
    """Return the header of a file; None when it is missing, no regular file, or cannot be read."""
    try:
        with open_regular(path) as file:
            return read_header(file)
    except (OSError, ValueError):
        # What is wrong is said when the photo is decoded.
        return None


def read_header(file: BinaryIO) -> PhotoHeader:
    """Return the header of the photo that an opened file, at its start, holds.

    Raises:
        HeaderError: it is no photo, or its header is damaged.
    """
    start = file.read(32)
    file.seek(0)
    if start[:2] == b"\xff\xd8":
        header = _jpeg(file)
    elif start[:8] == _PNG:
        header = _png(file)
    elif start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and b"avif" not in start[8:]:
        header = PhotoHeader("HEIF", *open_heif(file).size)
    else:
        header = _other(file)
    if not (header.width and header.height):
        raise HeaderError(
            f"{header.width} x {header.height} pixels: expected a picture, found an empty one"
        )
    return header


def heif_installed() -> bool:
    """Whether HEIF photos (``.heic``) can be read."""
    return importlib.util.find_spec("pillow_heif") is not None


def photo_endings() -> tuple[str, ...]:
    """Return those of :data:`PHOTO_ENDINGS` that can be read here."""
    return PHOTO_ENDINGS if heif_installed() else PHOTO_ENDINGS[: -len(_HEIF_ENDINGS)]


def left_out(names: Iterable[str]) -> str:
    """Return in words how many files of each ending are no photos, "" when there are none.

    Args:
        names: of the files that are not taken.
    """
    endings = (printable(os.path.splitext(name)[1]).lower() for name in names)
    counts = Counter(ending or "without ending" for ending in endings)
    text = ", ".join(f"{count} {ending}" for ending, count in counts.most_common())
    if any(ending in counts for ending in _HEIF_ENDINGS):
        text += " (which the package pillow-heif reads, where it is installed)"
    return text


def open_heif(file: BinaryIO):
    """Return the opened HEIF file; its pictures come turned already.

    Raises:
        HeaderError: it is damaged, or the package pillow-heif is not installed.
    """
    if not heif_installed():
        raise HeaderError(
            "HEIF (.heic): expected the package pillow-heif to read it, found none installed"
        )
    import pillow_heif

    try:
        return pillow_heif.open_heif(file)
    except Exception as error:  # the library raises many kinds on damaged files
        raise HeaderError(f"damaged HEIF: {error}") from error


def _jpeg(file: BinaryIO) -> PhotoHeader:
    """Walk the segments to the first scan."""
    file.seek(2)
    size, orientation = None, None
    while (byte := file.read(1)) == b"\xff":
        while byte == b"\xff":
            byte = file.read(1)
        marker = byte[0] if byte else 0
        if marker in _JPEG_BARE:
            continue
        length = int.from_bytes(file.read(2), "big")
        if marker == _JPEG_SCAN and length:
            if size is None:
                raise HeaderError("JPEG without a frame header")
            return PhotoHeader("JPEG", *size, orientation or 1)
        end = file.tell() + max(length, 2) - 2
        if marker in _JPEG_FRAMES:
            frame = file.read(5)
            size = int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
        elif marker == _JPEG_APP1 and orientation is None:
            data = file.read(end - file.tell())
            orientation = _orientation(data) if data.startswith(_EXIF) else None
        file.seek(end)
    if byte:
        raise HeaderError(f"damaged JPEG: expected a marker at byte {file.tell() - 1}")
    raise HeaderError("truncated JPEG")


def _png(file: BinaryIO) -> PhotoHeader:
    """Walk all chunks: the orientation may come last, and a file without its end is cut off."""
    file.seek(8)
    start = file.read(25)
    if start[4:8] != b"IHDR" or len(start) < 25:
        raise HeaderError("PNG without a header")
    size = int.from_bytes(start[8:12], "big"), int.from_bytes(start[12:16], "big")
    orientation = 1
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = file.tell() + length
        if kind == b"eXIf":
            orientation = _orientation(file.read(min(length, 1 << 16)))
        file.seek(end)
        if len(file.read(4)) < 4:
            break
        if kind == b"IEND":
            return PhotoHeader("PNG", *size, orientation)
    return PhotoHeader("PNG", *size, orientation, fault="truncated PNG")


def _other(file: BinaryIO) -> PhotoHeader:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(file, formats=_FORMATS)
            if picture.format == "TIFF":
                # Versions of Pillow differ in whether `size` is of the picture as shown.
                tags = picture.tag_v2
                size = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
                return PhotoHeader("TIFF", *size, tags.get(_ORIENTATION, 1))
            orientation = _orientation(picture.info.get("exif") or b"")
            return PhotoHeader(str(picture.format), *picture.size, orientation)
    except Image.DecompressionBombError as error:
        raise HeaderError(str(error)) from error
    except Exception as error:  # Pillow's plugins fail in many ways on damaged headers
        raise HeaderError("not a picture") from error


def _orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1 where it has none: an entry of the first directory of a TIFF.

    An entry is tag, type (3: 2 bytes, 4: 4 bytes), count and value, 12 bytes in all.
    """
    exif = exif.removeprefix(_EXIF)
    order = {b"II": "little", b"MM": "big"}.get(exif[:2])
    if order is None:
        return 1

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    first = number(4, 4) + 2
    last = min(first + 12 * number(first - 2, 2), len(exif) - 11)
    for entry in range(first, last, 12):
        if number(entry, 2) == _ORIENTATION:
            value = number(entry + 8, {3: 2, 4: 4}.get(number(entry + 2, 2), 0))
            return value if 1 <= value <= 8 else 1
    return 1
