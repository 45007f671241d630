"""The entry: tell the container by its first bytes and hand the file to who knows it."""

from __future__ import annotations

from pathlib import Path

from regaze.inspection.findings import Findings, InspectError, amount

_HDF5, _PARQUET = b"\x89HDF\r\n\x1a\n", b"PAR1"
_REFUSED = (
    (b"PK\x03\x04", "a zip archive or a torch checkpoint"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x03", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"MATLAB 5.0", "a MATLAB file"),
)
_KNOWN = "HDF5 (faces, supplementary, landmarks, samples), parquet or JSON"


def inspect_file(path: str | Path, *, rows: int = 48, sheet: str | Path | None = None) -> Findings:
    """Look into a file.

    Args:
        path: HDF5, parquet or JSON file.
        rows: pictures to look at for the order of channels, and to draw.
        sheet: PNG to draw these pictures into, with their labels; None draws nothing.

    Returns:
        What was found.

    Raises:
        InspectError: the file is missing, damaged or of no known kind, or a sheet is wanted of a
            file without pictures.
    """
    path = Path(path)
    if path.is_dir():
        raise InspectError(f"{path}: expected a file, found a folder")
    if not path.is_file():
        raise InspectError(f"{path}: no such file")
    try:
        kind = container(path)
        if kind == "hdf5":
            from regaze.inspection.hdf5_files import look_into

            found = look_into(path, rows, sheet)
        elif sheet is not None:
            raise InspectError(f"{path}: a sheet needs pictures, found a {kind} file")
        else:
            from regaze.inspection import flat_files

            found = flat_files.parquet(path) if kind == "parquet" else flat_files.json_file(path)
    except (OSError, MemoryError) as error:
        raise InspectError(f"{path}: cannot be read ({error})") from error
    found.facts.insert(0, ("size", amount(path.stat().st_size)))
    return found


def container(path: Path) -> str:
    """Return ``hdf5``, ``parquet`` or ``json``.

    Raises:
        InspectError: none of these; the message says what the file is, as far as its first bytes
            tell.
    """
    size = path.stat().st_size
    if size == 0:
        raise InspectError(f"{path}: the file is empty")
    with open(path, "rb") as file:
        head = file.read(512)
        if head.startswith(_PARQUET):
            return "parquet"
        # HDF5 may start after a user block of 512 bytes or a power of two more.
        place = 0
        while place < min(size, 1 << 24):
            file.seek(place)
            if file.read(len(_HDF5)) == _HDF5:
                return "hdf5"
            place = max(512, 2 * place)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return "json"
    for magic, words in _REFUSED:
        if head.startswith(magic):
            raise InspectError(f"{path}: expected {_KNOWN}, found {words}, which is not opened")
    raise InspectError(f"{path}: expected {_KNOWN}, found a file that begins with {head[:8]!r}")
