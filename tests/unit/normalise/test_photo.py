"""Reading photos: every damaged, odd or hostile file gives a picture or one clear error."""

import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from regaze.normalise.photo import UnreadableImage, quiet_decoders, read_photo


def drawn(width=64, height=48):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x * 255 // width, y * 255 // height, 128 + 0 * x], -1).astype(np.uint8)


PICTURE = Image.fromarray(drawn())


def saved(tmp_path, name, picture=PICTURE, **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


def what(path):
    with quiet_decoders(), pytest.raises(UnreadableImage) as error:
        read_photo(path)
    assert str(error.value).endswith(error.value.what) and str(path) not in error.value.what
    return error.value.what


def test_broken_photos_say_what_is_wrong(tmp_path):
    content = saved(tmp_path, "good.jpg").read_bytes()
    assert read_photo(tmp_path / "good.jpg").shape == (48, 64, 3)
    for name, data, word in [
        ("cut.jpg", content[:-40], "truncated JPEG"),
        ("head.jpg", content[:20], "truncated JPEG"),
        ("empty.jpg", b"", "empty file"),
        ("text.jpg", b"no picture", "not a picture"),
        ("zeros.jpg", bytes(5000), "not a picture"),
    ]:
        (tmp_path / name).write_bytes(data)
        assert word in what(tmp_path / name)
    (tmp_path / "trailer.jpg").write_bytes(content + b"\0" * 100)
    assert read_photo(tmp_path / "trailer.jpg").shape == (48, 64, 3)
    assert what(tmp_path / "absent.jpg") == "No such file or directory"
    assert "null" in what(tmp_path / "zero\0byte.jpg")


def test_jpegs_with_padding_between_their_segments_are_read(tmp_path):
    content = saved(tmp_path, "plain.jpg").read_bytes()
    at = content.index(b"\xff\xc0")
    for padding in (b"\xff", b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0"):
        (tmp_path / "padded.jpg").write_bytes(content[:at] + padding + content[at:])
        found = read_photo(tmp_path / "padded.jpg")
        np.testing.assert_array_equal(found, read_photo(tmp_path / "plain.jpg"))


def test_pictures_without_their_header_say_so(tmp_path):
    content = saved(tmp_path, "a.jpg").read_bytes()
    at = content.index(b"\xff\xc0")
    rest = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    (tmp_path / "a.jpg").write_bytes(content[:at] + content[rest:])
    assert what(tmp_path / "a.jpg") == "JPEG without a frame header"
    content = saved(tmp_path, "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:8] + content[33:])
    assert what(tmp_path / "a.png") == "PNG without a header"


def test_files_that_cannot_be_a_photo_for_their_size_are_not_read(tmp_path):
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate((1 << 30) + 1)
    assert what(tmp_path / "huge.jpg") == "expected at most 1073741824 bytes, found 1073741825"


def test_an_error_of_the_decoder_is_one_of_the_photo(tmp_path, monkeypatch):
    def fail(*_):
        error = cv2.error("OpenCV(5.0.0) decode.cpp:1: too many channels")
        error.err = "too many channels"
        raise error

    path = saved(tmp_path, "a.jpg")
    monkeypatch.setattr(cv2, "imdecode", fail)
    assert what(path) == "cannot be decoded: too many channels"


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_other_formats_and_their_first_halves(tmp_path, suffix):
    path = saved(tmp_path, f"photo.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_photo(path)[..., ::-1], drawn())
    disguised = path.rename(tmp_path / "photo.jpg")
    np.testing.assert_array_equal(read_photo(disguised)[..., ::-1], drawn())
    content = disguised.read_bytes()
    disguised.write_bytes(content[: len(content) // 2])
    assert what(disguised)


def test_a_png_that_lost_bytes_in_the_middle(tmp_path):
    content = saved(tmp_path, "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:100] + content[140:])
    assert what(tmp_path / "a.png")
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0x55
    (tmp_path / "a.png").write_bytes(bytes(flipped))
    assert what(tmp_path / "a.png")


def test_depths_and_colour_spaces_become_eight_bit_colour(tmp_path):
    deep = drawn()[..., ::-1].astype(np.uint16) * 257
    for name in ("deep.png", "deep.tif"):
        cv2.imwrite(str(tmp_path / name), deep)
        np.testing.assert_array_equal(read_photo(tmp_path / name)[..., ::-1], drawn())
    grey = np.asarray(PICTURE.convert("L"))
    for mode, name in [("L", "grey.jpg"), ("L", "grey.png"), ("LA", "greyalpha.png")]:
        found = read_photo(saved(tmp_path, name, PICTURE.convert(mode)))
        assert np.abs(found - grey[..., None].astype(int)).max() <= 3
    found = read_photo(saved(tmp_path, "cmyk.jpg", PICTURE.convert("CMYK"), quality=95))
    assert np.abs(found[..., ::-1].astype(int) - drawn()).mean() < 2
    for mode in ("RGBA", "P"):
        picture = PICTURE.convert(mode)
        found = read_photo(saved(tmp_path, f"{mode}.png", picture))
        np.testing.assert_array_equal(found[..., ::-1], np.asarray(picture.convert("RGB")))


def test_the_orientation_tag_is_honoured(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "turned.jpg", exif=exif, quality=95)
    found = read_photo(path)
    assert found.shape == (64, 48, 3)
    turned = np.rot90(drawn(), -1).astype(int)
    assert np.abs(found[..., ::-1] - turned).mean() < 2


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_claims_of_huge_pictures_are_refused_by_the_header(tmp_path):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(png)
    assert "expected at most 120000000, found 10000000000" in what(tmp_path / "huge.png")
    content = saved(tmp_path, "huge.jpg").read_bytes()
    at = content.index(b"\xff\xc0")
    for size, word in [(b"\xff\xff\xff\xff", "found 4294836225"), (bytes(4), "")]:
        (tmp_path / "huge.jpg").write_bytes(content[: at + 5] + size + content[at + 9 :])
        assert word in what(tmp_path / "huge.jpg")
    long = saved(tmp_path, "long.png", Image.new("RGB", (40_000, 2)))
    assert "expected sides of at most 32766, found 40000" in what(long)
    content = saved(tmp_path, "huge.bmp").read_bytes()
    size = struct.pack("<ii", 60_000, 60_000)
    (tmp_path / "huge.bmp").write_bytes(content[:18] + size + content[26:])
    assert "3600000000" in what(tmp_path / "huge.bmp")


def test_what_is_no_regular_file_never_hangs(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in ("folder.jpg", "pipe.jpg", "loop.jpg"):
        assert what(tmp_path / name)
    assert "found something else" in what("/dev/zero")


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    path = saved(tmp_path, "plain.jpg").rename(tmp_path / name)
    assert read_photo(path).shape == (48, 64, 3)
    path.write_bytes(b"")
    with pytest.raises(UnreadableImage) as error:
        read_photo(path)
    assert "caf\\udce9.jpg: empty file" in str(error.value).encode().decode()


def test_opencv_does_not_talk(tmp_path):
    content = saved(tmp_path, "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 2])
    program = (
        "import sys\nfrom regaze.normalise.photo import *\nwith quiet_decoders():\n"
        " try: read_photo(sys.argv[1])\n except UnreadableImage as error: print(error.what)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cut.tif")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "" and "decoded" in done.stdout
