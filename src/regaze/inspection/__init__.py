"""What is in a file of this field: ``regaze inspect FILE``.

Files are recognised by what is in them, never by their names; nothing is executed or unpickled, and
memory is bounded by the number of persons, not by the size of the file.
"""

from __future__ import annotations

from pathlib import Path

from regaze.filetypes import file_type
from regaze.inspection.findings import Findings, InspectError, Table, amount, show

__all__ = ["Findings", "InspectError", "Table", "inspect_file", "show"]

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
    try:
        kind = _kind(path)
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


def _kind(path: Path) -> str:
    """Return ``hdf5``, ``parquet`` or ``json`` by what is in the file; InspectError names another.

    Text that is damaged is JSON too if it begins so.
    """
    found = file_type(path)
    if found.kind in ("hdf5", "parquet", "json"):
        return found.kind
    if found.kind in ("folder", "missing", "closed"):
        raise InspectError(f"{path}: expected a file, found {found.words}")
    with open(path, "rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            return "json"
    raise InspectError(f"{path}: expected {_KNOWN}, found {found.words}{found.remedy}")
