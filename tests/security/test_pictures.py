"""Pictures that claim to be huge are refused by their header, before anything is decoded."""

import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from regaze.face3d.convert import _mask
from regaze.normalise.photo import UnreadableImage, quiet_decoders, read_photo
from regaze.sources.devices import photo_size

SIDE = 60_000


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path):
    """A true PNG of black pixels, a few kilobytes for 3.6 billion of them."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (SIDE + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(500)) + packer.flush()
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def jpeg(path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "JPEG")
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", SIDE, SIDE)
    path.write_bytes(content)


def bmp(path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "BMP")
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", SIDE, SIDE)
    path.write_bytes(content)


def gif(path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, "GIF")
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", SIDE, SIDE)
    path.write_bytes(content)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("write", [png, jpeg, bmp, gif])
def test_huge_photos_are_refused_without_the_memory(tmp_path, write):
    path = tmp_path / "bomb.jpg"
    write(path)
    before = peak()
    with quiet_decoders(), pytest.raises(UnreadableImage, match=r"bomb\.jpg: "):
        read_photo(path)
    assert peak() - before < 200_000  # kB; decoded it would be ten GB
    assert photo_size(path) in (None, (SIDE, SIDE))


def test_a_huge_mask_of_a_head_model_is_refused(tmp_path):
    png(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png: not a readable picture"):
        _mask(tmp_path / "mask.png")
