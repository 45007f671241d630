"""Damages of single photos, in every layout that has photos."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from captures.damage import FIRST, LAYOUTS, Damage
from captures.damaged_hdf5 import gigabyte


def _pixels(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR)


def _encoded(kind, pixels, *how):
    done, data = cv2.imencode(kind, pixels, how)
    assert done
    return data.tobytes()


def _pillow(path, kind, mode="RGB", **how):
    out = io.BytesIO()
    Image.open(path).convert(mode).save(out, kind, **how)
    return out.getvalue()


def _rewritten(change):
    def apply(path):
        data = change(path)
        path.unlink()
        path.write_bytes(data)

    return apply


def _cut(share):
    return _rewritten(lambda path: path.read_bytes()[: int(share * path.stat().st_size)])


def _sixteen_bit(path):
    return _encoded(".png", _pixels(path).astype(np.uint16) * 257)


def _sideways(kind, **how):
    def change(path):
        exif = Image.Exif()
        exif[0x0112] = 6
        out = io.BytesIO()
        picture = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        picture.save(out, kind, exif=exif, **how)
        return out.getvalue()

    return change


def _sideways_in_xmp_alone(path):
    """As editors write it; no decoder takes it from there."""
    return _pillow(path, "JPEG", quality=97, xmp=b'<x tiff:Orientation="6" />')


def _overwritten(kind, count, **how):
    def change(path):
        data = _pillow(path, kind, **how)
        at = len(data) // 2
        return data[:at] + bytes(count) + data[at + count :]

    return change


def _without_a_restart_marker(path):
    data = _pillow(path, "JPEG", quality=97, restart_marker_rows=1)
    at = data.index(b"\xff\xd5")
    return data[:at] + data[at + 2 :]


def _claims(width, height):
    def change(path):
        data = bytearray(path.read_bytes())
        at = next(at for at in range(len(data)) if data[at : at + 2] in (b"\xff\xc0", b"\xff\xc2"))
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
        return bytes(data)

    return change


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width, height, data, depth=8):
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _noise(path):
    data = bytearray(path.read_bytes())
    start = data.index(b"\xff\xda") + 40
    noise = np.random.default_rng([5]).integers(1, 250, 400, dtype=np.uint8)
    data[start : start + 400] = noise.tobytes()
    return bytes(data)


def _folder(path):
    path.unlink()
    path.mkdir()


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _link_to(target):
    def apply(path):
        path.unlink()
        path.symlink_to(target(path))

    return apply


def _link_within(path):
    """The photo itself elsewhere in its folder, and a link in its place."""
    path.rename(path.with_name("elsewhere.bin"))
    path.symlink_to("elsewhere.bin")


def _link_outside(name):
    """The photo itself beside the data set, under a name, and a link in its place."""

    def apply(path):
        home = [folder for folder in path.parents if folder.name == "data"][-1].parent
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(home / name)
        path.symlink_to(home / name)

    return apply


def _forbidden(path):
    path.chmod(0)


def _grey(path):
    return _encoded(".png", cv2.cvtColor(_pixels(path), cv2.COLOR_BGR2GRAY))


def _with_alpha(path):
    pixels = _pixels(path)
    return _encoded(".png", np.dstack([pixels, np.full(pixels.shape[:2], 128, np.uint8)]))


_LOST = "unreadable_image"
_SAME, _CLOSE, _ANY = "same", "close", "any"
PHOTOS = {
    # name: what is done to the photo, what comes of its row
    "zero bytes": (_rewritten(lambda path: b""), _LOST),
    "cut in half": (_cut(0.5), _LOST),
    "cut in the header": (_cut(0.01), _LOST),
    "last bytes missing": (_rewritten(lambda path: path.read_bytes()[:-2]), _LOST),
    "text": (_rewritten(lambda path: b"<html>404 not found</html>\n" * 40), _LOST),
    "random bytes": (
        _rewritten(lambda path: np.random.default_rng([3]).bytes(4000)),
        _LOST,
    ),
    "zeros": (_rewritten(lambda path: bytes(5000)), _LOST),
    "only the start marker": (_rewritten(lambda path: b"\xff\xd8"), _LOST),
    "only the markers": (_rewritten(lambda path: b"\xff\xd8\xff\xd9"), _LOST),
    "noise in the scan": (_rewritten(_noise), _LOST),
    "overwritten in the middle": (_rewritten(_overwritten("JPEG", 1500, quality=97)), _LOST),
    "progressive, overwritten": (
        _rewritten(_overwritten("JPEG", 1500, quality=97, progressive=True)),
        _LOST,
    ),
    "without a restart marker": (_rewritten(_without_a_restart_marker), _LOST),
    "tiff, overwritten": (_rewritten(_overwritten("TIFF", 900, compression="tiff_lzw")), _LOST),
    "bytes behind the end": (
        _rewritten(lambda path: path.read_bytes() + b"\0trailing" * 50),
        _SAME,
    ),
    "png named jpg": (_rewritten(lambda path: _encoded(".png", _pixels(path))), _SAME),
    "webp named jpg": (_rewritten(lambda path: _pillow(path, "WEBP", lossless=True)), _SAME),
    "bmp named jpg": (_rewritten(lambda path: _encoded(".bmp", _pixels(path))), _SAME),
    "tiff named jpg": (_rewritten(lambda path: _pillow(path, "TIFF")), _SAME),
    "gif named jpg": (_rewritten(lambda path: _pillow(path, "GIF")), _ANY),
    "16-bit": (_rewritten(_sixteen_bit), _SAME),
    "transparent": (_rewritten(_with_alpha), _SAME),
    "grey": (_rewritten(_grey), _ANY),
    "cmyk": (_rewritten(lambda path: _pillow(path, "JPEG", "CMYK", quality=97)), _CLOSE),
    "progressive": (
        _rewritten(lambda path: _pillow(path, "JPEG", progressive=True, quality=97)),
        _CLOSE,
    ),
    "turned by exif": (_rewritten(_sideways("JPEG", quality=97, subsampling=0)), _CLOSE),
    "tiff turned by exif": (_rewritten(_sideways("TIFF")), _CLOSE),
    "webp turned by exif": (_rewritten(_sideways("WEBP", lossless=True)), _CLOSE),
    "png turned by exif": (_rewritten(_sideways("PNG")), _CLOSE),
    "avif turned by exif": (_rewritten(_sideways("AVIF", quality=97)), _CLOSE),
    "turned by xmp alone": (_rewritten(_sideways_in_xmp_alone), _CLOSE),
    "claims 65500 x 65500": (_rewritten(_claims(65500, 65500)), _LOST),
    "claims 0 x 0": (_rewritten(_claims(0, 0)), _LOST),
    "claims 60000 x 1": (_rewritten(_claims(60000, 1)), _LOST),
    "png of 2^31 pixels a side": (
        _rewritten(lambda path: _png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(64)))),
        _LOST,
    ),
    "png of 324 million pixels": (
        _rewritten(lambda path: _png(18000, 18000, zlib.compress(bytes(1000)))),
        _LOST,
    ),
    "png that inflates to 256 MB": (_rewritten(lambda path: _png(320, 240, gigabyte(256))), _ANY),
    "png with too little in it": (
        _rewritten(lambda path: _png(320, 240, zlib.compress(bytes(3)))),
        _ANY,
    ),
    "png of no compressed data": (_rewritten(lambda path: _png(320, 240, b"junk" * 9)), _ANY),
    "one pixel": (
        _rewritten(lambda path: _encoded(".jpg", np.zeros((1, 1, 3), np.uint8))),
        _ANY,
    ),
    "missing": (lambda path: path.unlink(), _LOST),
    "a folder": (_folder, _LOST),
    "a pipe": (_pipe, _LOST),
    "a link to itself": (_link_to(lambda path: path.name), _LOST),
    "a link to nothing": (_link_to(lambda path: "nowhere.jpg"), _LOST),
    "a link to a device": (_link_to(lambda path: "/dev/zero"), _LOST),
    "a link to another file": (_link_within, _SAME),
    "a link out of the data set": (_link_outside("elsewhere.jpg"), _LOST),
    "a link into dvc's cache": (
        _link_outside("cache/files/md5/0b/3bbde4d5f3a8e5a9a3aab2bf2d2ac7"),
        _SAME,
    ),
    "permission denied": (_forbidden, _LOST),
}

EVERYWHERE = (
    "zero bytes",
    "cut in half",
    "png named jpg",
    "16-bit",
    "cmyk",
    "turned by exif",
    "tiff turned by exif",
    "turned by xmp alone",
    "overwritten in the middle",
    "claims 65500 x 65500",
    "one pixel",
    "missing",
    "a pipe",
    "a folder",
    "a link to a device",
    "a link out of the data set",
    "a link into dvc's cache",
)
"""Those that are done in all layouts; the others in that of GazeCapture alone."""

SELDOM = {}
"""(layout, damage) -> what comes of the row where it is not what PHOTOS says; None: not done."""
LISTED = ("columbia", "folder", "folder_bare")
for _layout in LISTED:
    # these list the photos that are there, and refuse links that lead out of the data set
    SELDOM[_layout, "missing"] = "gone"
SELDOM["folder", "a folder"] = SELDOM["folder_bare", "a folder"] = "gone"
for _name in ("a link to a device", "a link out of the data set"):
    SELDOM["folder", _name] = SELDOM["folder_bare", _name] = "outside"


def _damage(layout, name):
    change, fate = PHOTOS[name]
    fate = SELDOM.get((layout, name), fate)

    def apply(folder):
        change(folder / "data" / LAYOUTS[layout].photos[0])

    outcome = {
        _LOST: {"reasons": {_LOST: 1}},
        _SAME: {"touched": frozenset()},
        _CLOSE: {"kept": 1, "close": True},
        _ANY: {"kept": None},
        "gone": {},
        "outside": {
            "touched": LAYOUTS[layout].person(),
            "reasons": {"bad_file_name": LAYOUTS[layout].rows[0]},
        },
    }[fate]
    return Damage(f"photo {name}", layout, apply, **{"touched": FIRST, **outcome})


def photo_damages():
    """All of them."""
    out = [_damage("gazecapture", name) for name in PHOTOS]
    for layout, what in LAYOUTS.items():
        if what.photos and layout != "gazecapture":
            out += [_damage(layout, name) for name in EVERYWHERE]
    return out
