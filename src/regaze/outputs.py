"""How every output of the project is written: under a temporary name, then renamed.

A killed job so never leaves a half-written file under a final name.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

REMEDY = "; if the workflow made it, delete it and run the same command again"
"""End of messages about damaged files. Snakemake makes a missing input again, never a bad one."""


def several(paths: str | os.PathLike | Sequence) -> list:
    """The files of a named input or output as a list; Snakemake hands over one alone as it is."""
    return [paths] if isinstance(paths, str | os.PathLike) else list(paths)


def ending_of(path: str | os.PathLike, kinds: Sequence[str], what: str) -> str:
    """The ending of a file's name in lower case.

    Raises:
        ValueError: none of ``kinds``; the message begins with ``what``.
    """
    kind = Path(path).suffix.lower()
    if kind not in kinds:
        raise ValueError(f"{path}: {what} a {' or '.join(kinds)} file; found {kind!r}")
    return kind


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` on success.

    On an exception the temporary file or folder is removed and ``path`` stays as it was. A folder
    written under the temporary name replaces an existing folder as a whole.

    Raises:
        OSError: writing failed; the error names ``path`` where the system's names no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    _remove(part)
    try:
        yield part
        if part.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    except BaseException as error:
        _remove(part)
        # A write to a full disk fails without telling where.
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rounded(value, digits: int = 6):
    """Return ``value`` with every float rounded to significant digits, for stable JSON.

    Raises:
        ValueError: a float is NaN or infinite, which JSON cannot say; use ``None`` and a reason.
    """
    if isinstance(value, dict):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a result is {value}; results must be finite or null with a reason")
        return float(f"{value:.{digits}g}")
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return rounded(value.item(), digits)
    return value


def write_json(path: str | os.PathLike, content) -> None:
    """Write JSON with sorted keys and floats of six significant digits, by atomic replacement."""
    text = json.dumps(rounded(content), indent=1, sort_keys=True, allow_nan=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
