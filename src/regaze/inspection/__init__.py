"""What is in a file of this field: ``regaze inspect FILE``.

Files are recognised by what is in them, never by their names; nothing is executed or unpickled, and
memory is bounded by the number of persons, not by the size of the file.
"""

from __future__ import annotations

from pathlib import Path

from regaze.inspection.findings import Findings, InspectError, Table, amount, show

__all__ = ["Findings", "InspectError", "Table", "inspect_file", "show"]

_HDF5, _PARQUET = b"\x89HDF\r\n\x1a\n", b"PAR1"
_REFUSED = (
    (b"PK\x03\x04", "a zip archive or a torch checkpoint"),
    (b"\x80", "a pickle"),
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
    if not path.is_file():
        told = "expected a file, found a folder" if path.is_dir() else "no such file"
        raise InspectError(f"{path}: {told}")
    try:
        kind = _container(path)
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


def _container(path: Path) -> str:
    """Return ``hdf5``, ``parquet`` or ``json`` by the first bytes; InspectError names another."""
    import h5py

    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise InspectError(f"{path}: the file is empty")
    if head.startswith(_PARQUET):
        return "parquet"
    # HDF5 may also start after a block of the user's.
    if head.startswith(_HDF5) or h5py.is_hdf5(path):
        return "hdf5"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return "json"
    for magic, words in _REFUSED:
        if head.startswith(magic):
            raise InspectError(f"{path}: expected {_KNOWN}, found {words}, which is not opened")
    raise InspectError(f"{path}: expected {_KNOWN}, found a file that begins with {head[:8]!r}")
