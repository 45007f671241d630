"""What a file is by its first bytes, and messages about files that cannot be read.

A download that failed often leaves a file: the page that asked to log in, an answer of the
server, a pointer of Git LFS, the first half. Messages begin with what such a file is. The words of
the libraries that read files are not passed on: they tell of what is inside those libraries, and
torch's and NumPy's advise to read pickles without checks. Importable without torch.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

HEAD = 4096
"""Bytes of a file that are looked at."""

_AGAIN = "; if it was downloaded, that failed: get it again"


class FileType(NamedTuple):
    """What a file is.

    Attributes:
        kind: a word, such as ``zip`` or ``html``.
        words: the same in a message, with an article.
        remedy: what to do where it stands for another file, which it was not made of, or "".
    """

    kind: str
    words: str
    remedy: str = ""


_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", FileType("hdf5", "an HDF5 file")),
    (b"\x93NUMPY", FileType("npy", "an .npy array")),
    (b"PAR1", FileType("parquet", "a parquet file")),
    (b"\xff\xd8\xff", FileType("jpeg", "a JPEG picture")),
    (b"\x89PNG", FileType("png", "a PNG picture")),
    (b"GIF8", FileType("gif", "a GIF picture")),
    (b"%PDF", FileType("pdf", "a PDF document")),
    (b"MATLAB 5.0", FileType("mat", "a MATLAB file")),
    (b"BZh", FileType("bzip2", "a bzip2 archive", "; unpack it first")),
    (b"\xfd7zXZ\0", FileType("xz", "an xz archive", "; unpack it first")),
    (b"\x28\xb5\x2f\xfd", FileType("zstd", "a zstd archive", "; unpack it first")),
    (b"7z\xbc\xaf\x27\x1c", FileType("7z", "a 7z archive", "; unpack it first")),
    (b"Rar!", FileType("rar", "a RAR archive", "; unpack it first")),
    (b"PK\x05\x06", FileType("zip", "an empty zip archive")),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", FileType("torch", "a torch file")),
    *((b"\x80" + bytes([n]), FileType("pickle", "a pickle")) for n in range(2, 6)),
)
_HTML = re.compile(
    r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<("
    r"!doctype\s+html|html|head|body|title|meta|script|style|link|div|p|h1|center|form|table"
    r")\b",
    re.S,
)
_XML = re.compile(r"\s*<(\?xml|[a-z][\w:.-]*[\s/>])", re.I)
_ONNX = re.compile(rb"\x08[\x01-\x20]\x12.[\x20-\x7e]", re.S)
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_END = re.compile(r"eof = (\d+).*stored_eof = (\d+)", re.S)


def file_type(source: str | os.PathLike | BinaryIO) -> FileType:
    """What a file is, by what is in it and never by its name.

    Args:
        source: path, or an open file of bytes that can be sought in; its place is kept.
    """
    if not isinstance(source, str | os.PathLike):
        place = source.tell()
        found = _of(source)
        source.seek(place)
        return found
    if Path(source).is_dir():
        return FileType("folder", "a folder")
    try:
        with open(source, "rb") as file:
            return _of(file)
    except FileNotFoundError:
        return FileType("missing", "no such file")
    except OSError as error:
        return FileType("closed", f"a file that cannot be opened ({error.strerror})")


def unreadable(
    source: str | os.PathLike | BinaryIO,
    clause: str,
    own: tuple[str, ...] | str,
    error: BaseException | None = None,
    where: object = None,
) -> str:
    """The message about a file that its reader refused.

    Args:
        source: as for :func:`file_type`.
        clause: what was expected, such as ``not a readable HDF5 file``.
        own: kinds that the reader reads: of such a file the damage is told instead of the kind.
        error: what the reader raised.
        where: how the message names the file; default ``source``.

    Returns:
        ``PATH: a web page (HTML), CLAUSE; what to do`` of what a failed download leaves,
        ``PATH: CLAUSE: found a PNG picture`` of other kinds, ``PATH: CLAUSE (what is wrong)`` of a
        damaged file.
    """
    found = file_type(source)
    where = source if where is None else where
    if found.kind in ((own,) if isinstance(own, str) else own):
        return f"{where}: {clause} ({damage(error)})"
    if found.remedy:
        return f"{where}: {found.words}, {clause}{found.remedy}"
    return f"{where}: {clause}: found {found.words}"


def read_json(path: str | os.PathLike, remedy: str = "") -> dict:
    """The content of a JSON file that holds an object; ``remedy`` ends messages about damage.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object; the message names it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        told = unreadable(path, "not a readable JSON file", ("json", "text", "binary"), error)
        raise ValueError(f"{told}{remedy}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, found {type(content).__name__}")
    return content


def damage(error: BaseException | None) -> str:
    """What is wrong with a file of the right kind, from what its reader raised."""
    text = str(error)
    if isinstance(error, MemoryError):
        return "claims more than fits into memory"
    if isinstance(error, KeyError):
        return f"lacks {text.strip(chr(39)).removesuffix(' is not a file in the archive')}"
    if named := _GLOBAL.search(text):
        return f"holds {named[1]!r}, which is neither a tensor nor a plain value"
    if "allow_pickle" in text or "Object arrays" in text:
        return "holds pickled objects"
    if ends := _END.search(text):
        return f"cut off, {ends[1]} of {ends[2]} bytes are there"
    if "lock file" in text:
        return "locked by another program"
    if "hecksum" in text or "filter returned" in text:
        return "a stored piece does not fit its checksum"
    if isinstance(error, OSError) and error.errno and error.strerror:
        return os.strerror(error.errno)
    return "cut off or altered"


def read_npz(
    path: str | os.PathLike, clause: str, names: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` without pickles, by name.

    Args:
        path: the file.
        clause: what was expected, see :func:`unreadable`.
        names: those to read, if they are there; default all.

    Raises:
        FileNotFoundError, PermissionError: the file is missing or may not be read.
        ValueError: it is something else, damaged, or holds pickles.
    """
    with open(path, "rb") as file:
        if _of(file).kind != "npz":
            raise ValueError(unreadable(path, clause, ()))
    try:
        with np.load(path, allow_pickle=False) as stored:
            wanted = [name for name in stored.files if names is None or name in names]
            return {name: stored[name] for name in wanted}
    except Exception as error:  # a damaged zip raises many kinds
        raise ValueError(unreadable(path, clause, "npz", error)) from None


def _of(file: BinaryIO) -> FileType:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        return FileType("empty", "an empty file", _AGAIN)
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head.startswith(b"PK\x03\x04"):
        return _zip(file)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(head)
    if head[4:8] == b"TFL3":
        return FileType("tflite", "a TFLite model")
    if head[257:262] == b"ustar":
        return FileType("tar", "a tar archive")
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= 100_000_000:
        return FileType("safetensors", "a safetensors file")
    if _is_user_block(file, size):
        return FileType("hdf5", "an HDF5 file")
    if _ONNX.match(head):
        return FileType("onnx", "an ONNX model")
    return _text(head) or FileType("binary", f"a file that begins with {head[:8]!r}")


def _zip(file: BinaryIO) -> FileType:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # a damaged directory raises many kinds
        remedy = "; copy or download it again"
        return FileType("cut zip", "a zip archive that is cut off or damaged", remedy)
    if any(name.endswith("data.pkl") for name in names):
        return FileType("torch", "a torch file")
    if any(name.endswith(".npy") for name in names):
        return FileType("npz", "an .npz of arrays")
    return FileType("zip", f"a zip archive of {', '.join(map(repr, names[:3])) or 'nothing'}")


def _gzip(head: bytes) -> FileType:
    try:
        inside = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)
    except zlib.error:
        inside = b""
    found = _text(inside) if inside else None
    if found is None or found.kind == "text":
        return FileType("gzip", "a gzip archive", "; unpack it first")
    return FileType(found.kind, f"{found.words}, compressed by gzip", found.remedy)


def _is_user_block(file: BinaryIO, size: int) -> bool:
    """Whether HDF5 begins after a block of 512 bytes, or of a power of two more."""
    place = 512
    while place < min(size, 1 << 24):
        file.seek(place)
        if file.read(8) == b"\x89HDF\r\n\x1a\n":
            return True
        place *= 2
    return False


def _text(head: bytes) -> FileType | None:
    """The kind of text; None for what is no text."""
    text = next(_decoded(head), None)
    if text is None:
        return None
    text = text.lstrip("\ufeff \t\r\n")
    low = text.lower()
    if _HTML.match(low):
        return FileType("html", "a web page (HTML)", _AGAIN)
    if low.startswith("version https://git-lfs"):
        return FileType("lfs", "a pointer of Git LFS", "; `git lfs pull` gets the file itself")
    if ".git/annex/" in low or low.startswith("/annex/"):
        return FileType("annex", "a pointer of git-annex", "; `git annex get` gets the file itself")
    if low.startswith("outs:\n- md5:"):
        return FileType("dvc", "a pointer of DVC", "; `dvc pull` gets the file itself")
    if _XML.match(text):
        code = re.search(r"<Code>\s*([\w.-]{1,40})", text, re.I)
        words = f"an XML answer of a server ({code[1]})" if code else "an XML file"
        return FileType("xml", words, _AGAIN)
    if text[:1] in ("{", "["):
        return _json(text)
    return FileType("text", f"a text that begins with {text[:40]!r}", "")


def _decoded(head: bytes) -> Iterator[str]:
    """The text of bytes, if they are text; a character may be cut off at their end."""
    coding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = head.decode(coding)
    except UnicodeDecodeError as error:
        if coding == "utf-8" and error.start < len(head) - 4:
            return
        text = head.decode(coding, "ignore")
    if not re.search(r"[\x00-\x08\x0e-\x1f]", text):
        yield text


def _json(text: str) -> FileType:
    words = "a JSON file"
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict) and {"error", "errors", "message", "detail"} & set(content):
        words = "a JSON answer of a server that tells of an error"
    return FileType("json", words, _AGAIN if "error" in words else "")
