"""W+ codes of photos as files, of the generator that they belong to.

``.npz`` has the arrays ``code`` (rows, numbers) float32 and ``fingerprint`` (text);
``.safetensors`` the tensor ``code`` and the same text in its metadata. The fingerprint is that of
the weights of generator and encoder: codes mean nothing to any other.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from regaze.filetypes import read_npz
from regaze.outputs import ending_of, replacing

KINDS = (".npz", ".safetensors")
_CODE, _FINGERPRINT = "code", "fingerprint"


def code_kind(path: str | os.PathLike) -> str:
    """The ending of a file of a code, in lower case.

    Raises:
        ValueError: none of :data:`KINDS`.
    """
    return ending_of(path, KINDS, "a code is")


def generator_of(record: Mapping[str, Any], own: str) -> str:
    """The fingerprint that codes of a model have: its inverter's, else its ``own``."""
    networks = record.get("networks") or {}
    return str((networks.get("inverter") or {}).get("fingerprint", own))


def write_code(path: str | os.PathLike, code: np.ndarray, fingerprint: str) -> None:
    """Write a code (rows, numbers) as :mod:`regaze.redirect.wplus` says."""
    code = np.ascontiguousarray(code, np.float32)
    if code_kind(path) == ".npz":
        held = io.BytesIO()
        np.savez(held, **{_CODE: code, _FINGERPRINT: np.array(fingerprint)})
        content = held.getvalue()
    else:
        content = save({_CODE: code}, {_FINGERPRINT: fingerprint})
    with replacing(path) as part:
        part.write_bytes(content)


def read_code(path: str | os.PathLike, shape: tuple[int, int], fingerprint: str) -> np.ndarray:
    """The code (rows, numbers) float32 of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is something else or cut off, or its code is of another shape or of
            another generator, or not finite; the message names it.
    """
    path = Path(path)
    kind = code_kind(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a code, found no such file")
    code, told = _npz(path) if kind == ".npz" else _safetensors(path)
    if told != fingerprint:
        raise ValueError(
            f"{path}: expected a code of the model's generator ({fingerprint:.12}), found one of "
            f"another ({told or 'not told':.12})"
        )
    if code.shape != shape or code.dtype.kind != "f":
        raise ValueError(
            f"{path}: {_CODE}: expected {shape} numbers, found {code.shape} of {code.dtype}"
        )
    if not np.isfinite(code).all():
        raise ValueError(f"{path}: {_CODE}: expected finite numbers, found others")
    return code.astype(np.float32)


def _npz(path: Path) -> tuple[np.ndarray, str]:
    found = read_npz(path, "expected an .npz with a code", [_CODE, _FINGERPRINT])
    if _CODE not in found:
        raise ValueError(f"{path}: expected an array {_CODE!r}, found {', '.join(found) or 'none'}")
    told = found.get(_FINGERPRINT)
    return found[_CODE], "" if told is None or told.ndim else str(told)


def _safetensors(path: Path) -> tuple[np.ndarray, str]:
    try:
        with safe_open(path, "np") as file:
            told = file.metadata() or {}
            if _CODE not in file.keys():  # noqa: SIM118
                listed = ", ".join(file.keys()) or "none"
                raise ValueError(f"{path}: expected a tensor {_CODE!r}, found {listed}")
            return file.get_tensor(_CODE), told.get(_FINGERPRINT, "")
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a code as .safetensors, found {error}") from None
