"""Reading photos: every damaged, odd or hostile file gives a picture or one clear error."""

import os
import struct
import subprocess
import sys
import tomllib
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image, ImageOps

from regaze.normalise.photo import UnreadableImage, quiet_decoders, read_photo
from regaze.sources.devices import photo_size
from regaze.sources.photo_header import heif_installed


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
    assert what(tmp_path / "huge.jpg") == "1073741825 bytes, more than 1073741824"


def test_an_error_of_the_decoder_is_one_of_the_photo(tmp_path, monkeypatch):
    def fail(*_):
        error = cv2.error("OpenCV(5.0.0) decode.cpp:1: too many channels")
        error.err = "too many channels"
        raise error

    path = saved(tmp_path, "a.png")
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


def test_of_several_pictures_in_a_file_the_first_is_taken(tmp_path):
    more = {"save_all": True, "append_images": [ImageOps.mirror(PICTURE)]}
    for name, options in {
        "pages.tif": {},
        "burst.mpo": {"quality": 95},
        "moving.webp": {"lossless": True},
        "moving.png": {},
        "moving.gif": {},
        "moving.avif": {"quality": 95},
    }.items():
        found = read_photo(saved(tmp_path, name, **more, **options))
        assert np.abs(found[..., ::-1].astype(int) - drawn()).mean() < (8 if "gif" in name else 2)


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_colours_are_not_changed_by_opacity(tmp_path, kind):
    picture = PICTURE.convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    found = read_photo(saved(tmp_path, f"a.{kind}", picture, **options))
    np.testing.assert_array_equal(found[..., ::-1], drawn())


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
    assert what("/dev/zero") == "no regular file"


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


def photo_of(size=(320, 240)):
    """A smooth picture with some grain, as photos are."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC).astype(int)
    grain = random.integers(-6, 7, (*size[::-1], 3))
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


PHOTO = photo_of()
JPEGS = {
    "baseline": {"quality": 90},
    "subsampled": {"quality": 75, "subsampling": 2},
    "optimised": {"quality": 90, "optimize": True},
    "progressive": {"quality": 90, "progressive": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
    "grey": {"quality": 90},
    "cmyk": {"quality": 90},
}


def jpeg(tmp_path, kind):
    picture = PHOTO.convert({"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB"))
    return saved(tmp_path, f"{kind}.jpg", picture, **JPEGS[kind]).read_bytes()


def in_the_middle(content):
    start = content.index(b"\xff\xda")
    return start + (len(content) - start) // 2


def overwritten(content, data):
    at = in_the_middle(content)
    return content[:at] + data + content[at + len(data) :]


DAMAGES = {
    "zeros": lambda c: overwritten(c, bytes(1500)),
    "noise": lambda c: overwritten(c, np.random.default_rng(1).bytes(600).replace(b"\xff", b"a")),
    "a lost block": lambda c: c[: in_the_middle(c)] + c[in_the_middle(c) + 512 :],
    "a block twice": lambda c: c[: in_the_middle(c)] + c[in_the_middle(c) - 512 :],
    "an end too early": lambda c: c[: in_the_middle(c)] + b"\xff\xd9",
    "cut off": lambda c: c[: in_the_middle(c)],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_damaged_in_the_middle_are_no_photos(tmp_path, kind, damage, capfd):
    path = tmp_path / "a.jpg"
    path.write_bytes(DAMAGES[damage](jpeg(tmp_path, kind)))
    assert what(path).startswith(("damaged JPEG: ", "truncated JPEG"))
    assert capfd.readouterr().err == ""


def test_lost_restart_markers_and_wrong_tables(tmp_path):
    content = jpeg(tmp_path, "restarts")
    third, fourth = content.index(b"\xff\xd3"), content.index(b"\xff\xd4")
    path = tmp_path / "a.jpg"
    for damaged in (content[:third] + content[third + 2 :], content[:third] + content[fourth:]):
        path.write_bytes(damaged)
        assert "damaged JPEG: " in what(path)
    table = content.index(b"\xff\xc4")
    # two lengths of codes exchanged, and symbols that stand for other lengths
    for at, data in ((table + 7, content[table + 8 : table + 6 : -1]), (table + 21, b"\6\5\4")):
        path.write_bytes(content[:at] + data + content[at + len(data) :])
        assert what(path)


def test_photos_of_every_kind_are_what_opencv_makes_of_them(tmp_path):
    contents = [jpeg(tmp_path, kind) for kind in JPEGS]
    for factors in (0x111111, 0x211111, 0x121111, 0x221111, 0x411111):
        how = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors, cv2.IMWRITE_JPEG_RST_INTERVAL, 7]
        contents.append(cv2.imencode(".jpg", np.asarray(PHOTO)[:, :317], how)[1].tobytes())
    for content in contents:
        (tmp_path / "a.jpg").write_bytes(content)
        expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg"), expected)


def test_remarks_about_a_jpegs_header_cost_no_photo(tmp_path):
    content = jpeg(tmp_path, "baseline")
    expected = read_photo(tmp_path / "baseline.jpg")

    def inserted(marker, data):
        return content[:2] + marker + struct.pack(">H", len(data) + 2) + data + content[2:]

    version = bytearray(content)
    version[content.index(b"JFIF") + 5] = 3
    scan = content.index(b"\xff\xda")
    last = scan + struct.unpack(">H", content[scan + 2 : scan + 4])[0]
    for changed in (
        inserted(b"\xff\xe2", b"ICC_PROFILE\0\1\2" + bytes(20)),
        bytes(version),
        content[:last] + b"\0" + content[last + 1 :],
        content[:-2] + bytes(14) + b"\xff\xd9",
    ):
        assert changed != content
        (tmp_path / "a.jpg").write_bytes(changed)
        np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg"), expected)
    # what lies behind a faulty colour profile is looked at all the same
    (tmp_path / "a.jpg").write_bytes(
        DAMAGES["zeros"](inserted(b"\xff\xe2", b"ICC_PROFILE\0\1\2" + bytes(20)))
    )
    assert "premature end" in what(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(content[:20] + b"\0" + content[20:])
    assert what(tmp_path / "a.jpg") == "damaged JPEG: expected a marker at byte 20"


def test_a_damaged_photo_is_told_from_those_decoded_at_the_same_time(tmp_path):
    content = jpeg(tmp_path, "baseline")
    (tmp_path / "damaged.jpg").write_bytes(DAMAGES["zeros"](content))
    names = ["baseline.jpg", "damaged.jpg"] * 20

    def good(name):
        try:
            return read_photo(tmp_path / name) is not None
        except UnreadableImage:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(good, names)) == [True, False] * 20


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_tiffs_damaged_in_one_of_their_strips(tmp_path, compression):
    path = saved(tmp_path, "a.tif", PHOTO, compression=compression)
    expected = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_photo(path), expected)
    with Image.open(path) as picture:
        at = picture.tag_v2[273][0] + picture.tag_v2[279][0] // 2
    content = path.read_bytes()
    # Of runs of bytes, only what is missing at the end can be seen: -128 stands for none.
    data = (b"\x80" if compression == "packbits" else b"\0") * 900
    path.write_bytes(content[:at] + data + content[at + 900 :])
    assert what(path)


def test_tiffs_that_say_less_of_their_strips_than_they_hold(tmp_path):
    path = saved(tmp_path, "a.tif", PHOTO, compression="tiff_adobe_deflate")
    content = path.read_bytes()
    with Image.open(path) as picture:
        at, size = picture.tag_v2[273][0], picture.tag_v2[279][0]
    bomb = zlib.compress(bytes(10_000_000), 9)[:size]
    path.write_bytes(content[:at] + bomb.ljust(size, b"\0") + content[at + size :])
    assert what(path).startswith("damaged TIFF: ")


FORMATS = {
    "jpg": {"quality": 97, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tif": {},
    "avif": {"quality": 97, "subsampling": "4:4:4"},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_and_sizes_are_those_of_the_photo_as_shown(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, f"turned.{kind}", exif=exif, **FORMATS[kind])
    plain = Image.new("RGB", PICTURE.size)
    plain.paste(PICTURE)
    plain.getexif()[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(plain))
    found = read_photo(path)
    assert found.shape == shown.shape and np.abs(found[..., ::-1] - shown.astype(int)).mean() < 2
    assert photo_size(path) == shown.shape[1::-1]


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="6"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/></rdf:RDF></x:xmpmeta>"""


def exif_entry(order, kind, value, count=1):
    size = {1: "B3x", 3: "H2x", 4: "I"}[kind]
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}IHHHI{size}I", 8, 1, 0x0112, kind, count, value, 0)


def test_the_orientation_wherever_it_is_written(tmp_path):
    """Sizes agree with pixels, whoever else would read another orientation."""
    jpg = saved(tmp_path, "a.jpg").read_bytes()
    png = saved(tmp_path, "a.png").read_bytes()

    def segment(data):
        data = b"Exif\0\0" + data
        return b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data

    short = exif_entry("<", 3, 6)
    raw = b"\nexif\n%8d\n" % (len(short) + 6) + (b"Exif\0\0" + short).hex().encode() + b"\n"
    turned = {
        "little": jpg[:2] + segment(short) + jpg[2:],
        "big": jpg[:2] + segment(exif_entry(">", 3, 6)) + jpg[2:],
        "long": jpg[:2] + segment(exif_entry(">", 4, 6)) + jpg[2:],
        "first": jpg[:2] + segment(short) + segment(exif_entry("<", 3, 1)) + jpg[2:],
        "png": png[:33] + chunk(b"eXIf", short) + png[33:],
        "late": png[:-12] + chunk(b"eXIf", short) + png[-12:],
    }
    plain = {
        "no orientation": jpg[:2] + segment(exif_entry("<", 3, 9)) + jpg[2:],
        "none": jpg[:2] + segment(exif_entry("<", 3, 0)) + jpg[2:],
        "bytes": jpg[:2] + segment(exif_entry("<", 1, 6)) + jpg[2:],
        "cut off": jpg[:2] + segment(short[:12]) + jpg[2:],
        "rubbish": jpg[:2] + segment(b"\xff" * 40) + jpg[2:],
        "text": png[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + raw) + png[33:],
        "xmp": saved(tmp_path, "xmp.jpg", xmp=XMP).read_bytes(),
    }
    for size, contents in (((48, 64), turned), ((64, 48), plain)):
        for name, content in contents.items():
            (tmp_path / "photo").write_bytes(content)
            assert photo_size(tmp_path / "photo") == size, name
            assert read_photo(tmp_path / "photo").shape[1::-1] == size, name


def test_the_package_asks_for_decoders_that_are_right():
    """OpenCV 4 warps on another grid; Pillow before 11.3 reads no AVIF."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    listed = map(Requirement, tomllib.loads(text)["project"]["dependencies"])
    needs = {one.name: one for one in listed}
    for name, old, locked in (
        ("opencv-python-headless", "4.12.0.88", cv2.__version__),
        ("pillow", "11.2.1", metadata.version("pillow")),
        ("simplejpeg", "1.0", metadata.version("simplejpeg")),
    ):
        assert old not in needs[name].specifier and locked in needs[name].specifier, name


def test_heif_without_the_package_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "a.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(99))
    assert "expected the package pillow-heif" in what(path)
    assert photo_size(path) is None


@pytest.mark.skipif(not heif_installed(), reason="pillow-heif is not installed")
def test_heif_with_the_package(tmp_path):
    import pillow_heif

    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.heic"
    pillow_heif.from_pillow(PICTURE).save(path, quality=95, exif=exif.tobytes())
    found = read_photo(path)
    assert found.shape == (64, 48, 3) and photo_size(path) == (48, 64)
    assert np.abs(found[..., ::-1] - np.rot90(drawn(), -1).astype(int)).mean() < 4
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert what(path).startswith("damaged HEIF: ")
