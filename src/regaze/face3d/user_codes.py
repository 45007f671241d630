"""Import of codes that users regressed with other software, under whatever names they gave them.

Scripts around ``yfeng95/DECA`` name the blocks ``shape, exp, pose, tex, light, detail``, those
around ``radekd91/emoca`` ``shapecode, expcode, posecode, ...``, and tables of both prefix them with
``deca_`` and ``emoca_``. All are accepted; the columns become those of :mod:`regaze.latents`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regaze.faces import FacesReader
from regaze.filetypes import read_npz, unreadable
from regaze.latents import CODES, LatentsError, LatentsWriter

ALIASES = {
    "shape": ("shape", "shapecode"),
    "texture": ("tex", "texcode", "texture"),
    "expression": ("exp", "expcode", "expression"),
    "pose": ("pose", "posecode"),
    "camera": ("cam", "camera"),
    "light": ("light", "lightcode"),
    "detail": ("detail", "detailcode"),
}
"""Names of each column in user code, each also with the prefix ``deca_`` or ``emoca_``."""

OPTIONAL = ("texture", "camera", "light", "detail")
"""Columns that become zeros where the user has none: EMOCA's demo saves no camera and no light."""


def rename_codes(
    given: Mapping[str, np.ndarray], where: str = "codes", expression: str = "emoca"
) -> dict[str, np.ndarray]:
    """Codes under the names of :data:`regaze.latents.CODES`.

    Args:
        given: arrays whose first axis is rows; light may be (N, 27) or (N, 9, 3). Names that
            mean nothing here are ignored.
        where: what to name in errors.
        expression: whose expression is taken where a table has ``deca_exp`` and ``emoca_exp``:
            ``deca`` or ``emoca``.

    Returns:
        float32 (N, length) arrays. Columns of :data:`OPTIONAL` that are not given are zeros.

    Raises:
        LatentsError: a block is missing, given under two names, or of another shape.
    """
    if expression not in ("deca", "emoca"):
        raise LatentsError(f"expression: expected 'deca' or 'emoca', found {expression!r}")
    prefixes = ("", "deca_", "emoca_")
    out, count = {}, None
    for column, aliases in ALIASES.items():
        names = [prefix + alias for prefix in prefixes for alias in aliases]
        found = [name for name in names if given.get(name) is not None]
        if len(found) == 2 and {name.split("_")[0] for name in found} == {"deca", "emoca"}:
            found = [name for name in found if name.startswith(expression)]
        if len(found) > 1:
            raise LatentsError(f"{where}: {column}: expected it once, found {', '.join(found)}")
        if not found:
            if column not in OPTIONAL:
                raise LatentsError(
                    f"{where}: expected {column} under one of the names {', '.join(names)}, "
                    f"found {', '.join(sorted(map(str, given)))}"
                )
            continue
        values = np.asarray(given[found[0]])
        if values.dtype.kind not in "fiu" or values.ndim < 1:
            raise LatentsError(f"{where}: {found[0]}: expected numbers, found {values.dtype}")
        count = len(values) if count is None else count
        if len(values) != count or values.size != count * CODES[column]:
            raise LatentsError(
                f"{where}: {found[0]}: expected ({count}, {CODES[column]}), found {values.shape}"
            )
        out[column] = values.reshape(count, -1).astype(np.float32)
    for column in OPTIONAL:
        out.setdefault(column, np.zeros((count or 0, CODES[column]), np.float32))
    return {column: out[column] for column in CODES}


def read_user_codes(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Columns of a user's table: a ``.parquet`` with list columns, or an ``.npz`` without pickles.

    Raises:
        LatentsError: another kind of file, or lists of varying length.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            return read_npz(path, "cannot be read as a table of codes")
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            return {name: _array(path, name, table[name]) for name in table.column_names}
    except FileNotFoundError:
        raise
    except LatentsError:
        raise
    except Exception as error:  # a damaged table raises many kinds
        if path.suffix == ".npz" and isinstance(error, ValueError):
            raise LatentsError(str(error)) from None
        clause = "cannot be read as a table of codes"
        raise LatentsError(unreadable(path, clause, "parquet", error)) from None
    raise LatentsError(f"{path}: expected a .parquet or .npz file")


def _array(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_list(column.type) and not pa.types.is_fixed_size_list(column.type):
        return column.to_numpy()
    rows = [np.asarray(value, np.float32) for value in column.to_pylist()]
    if len({row.shape for row in rows}) > 1:
        raise LatentsError(f"{path}: {name}: expected lists of one length, found several")
    return np.array(rows, np.float32)


def import_codes(
    table: str | os.PathLike,
    faces: str | os.PathLike,
    out: str | os.PathLike,
    identity: Mapping[str, str],
    *,
    expression: str = "emoca",
) -> int:
    """Write a user's codes as the latents shard of a faces file.

    Rows are found by ``person`` and ``index``, else by ``file_name`` (as the faces file has it),
    else in the order of the faces file if there are as many. Faces without codes, and rows whose
    codes are not finite or whose ``detected`` is false, are written as not detected.

    Args:
        table: see :func:`read_user_codes`.
        faces: the faces HDF5.
        out: the parquet file.
        identity: which encoder, checkpoint and head model made the codes; see
            :data:`regaze.latents.IDENTITY`.
        expression: see :func:`rename_codes`.

    Returns:
        Number of rows with codes.

    Raises:
        LatentsError: codes are missing or wrong, or rows cannot be told apart.
    """
    given = read_user_codes(table)
    codes = rename_codes(given, str(table), expression)
    reader = FacesReader(faces)
    place = _places(given, reader, str(table), len(codes["shape"]))
    usable = np.all([np.isfinite(values).all(1) for values in codes.values()], axis=0)
    if given.get("detected") is not None:
        usable &= np.asarray(_column(given, "detected", str(table), len(usable))).astype(bool)
    detected = place >= 0
    detected[detected] = usable[place[detected]]
    with LatentsWriter(out, identity) as writer:
        for person in reader.persons:
            rows = reader.rows([person])
            source = np.where(detected[rows], place[rows], 0)
            blocks = {
                name: np.where(detected[rows, None], values[source], np.float32(0))
                if len(values)
                else np.zeros((len(rows), values.shape[1]), np.float32)
                for name, values in codes.items()
            }
            writer.add([person] * len(rows), np.arange(len(rows)), blocks, detected[rows])
    return int(detected.sum())


def _column(given: Mapping[str, np.ndarray], name: str, where: str, count: int) -> np.ndarray:
    values = given[name]
    if np.shape(values) != (count,):
        raise LatentsError(
            f"{where}: {name}: expected ({count},), one per row of codes, found {np.shape(values)}"
        )
    return values


def _places(given: Mapping[str, np.ndarray], reader: FacesReader, where: str, count: int):
    """Row of the table, -1 for none, for every row of the faces."""
    if given.get("person") is not None and given.get("index") is not None:
        people, indices = (_column(given, name, where, count) for name in ("person", "index"))
        keys = list(zip(map(str, people), np.asarray(indices, np.int64).tolist(), strict=True))
        wanted = [
            (reader.persons[code], int(row))
            for code, row in zip(reader.person_of, reader.row_of, strict=True)
        ]
    elif given.get("file_name") is not None and reader.has("file_name"):
        keys = [str(name) for name in _column(given, "file_name", where, count)]
        names = reader.dataset("file_name", np.arange(len(reader)))
        wanted = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
    elif count == len(reader):
        return np.arange(count)
    else:
        raise LatentsError(
            f"{where}: expected columns person and index, or file_name, or {len(reader)} rows in "
            f"the order of the faces, found {count} rows and {', '.join(sorted(given))}"
        )
    table = {key: row for row, key in enumerate(keys)}
    if len(table) != len(keys):
        twice = next(key for row, key in enumerate(keys) if table[key] != row)
        raise LatentsError(f"{where}: row {twice} stands there more than once")
    return np.array([table.get(key, -1) for key in wanted], np.int64)
