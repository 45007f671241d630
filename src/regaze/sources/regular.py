"""Opening of files that others wrote, where a pipe, a device or a link may stand for one."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

_MOST_BYTES = 1 << 28
_DVC_CACHE = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}")
"""End of a path in DVC's cache, where a file lies under the MD5 sum of its content."""


def open_regular(path: str | Path) -> BinaryIO:
    """Return a regular file opened for reading of bytes.

    Plain ``open`` waits for ever on a named pipe, and a device may never end.

    Raises:
        OSError: there is no such file, it cannot be opened, or it is no regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        found = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise OSError(errno.EINVAL, found, str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, most: int = _MOST_BYTES) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: as :func:`open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"{size} bytes, more than {most}", str(path))
        return file.read(size)


def read_json(path: str | Path, fault: type[ValueError], wanted: str = "a JSON file") -> Any:
    """Return the content of a JSON file, which may begin with a byte order mark.

    Raises:
        fault: there is no such file, or it is no JSON; ``wanted`` says what was expected.
    """
    try:
        return json.loads(read_regular(path).decode("utf-8-sig"))
    except OSError as error:
        told = f"expected {wanted}, found none ({error.strerror or error})"
        raise fault(f"{path}: {told}") from error
    except (ValueError, RecursionError) as error:
        raise fault(f"{path}: expected JSON, found {error}") from error


def link_out(path: str | Path, root: str | Path) -> str:
    """Return where a file that is a link ends, when that is elsewhere; "" for any other file.

    Links that end below ``root`` are no matter, and neither are those into DVC's cache, which
    stand for files of the data set when its ``cache.type`` is ``symlink``. Folders on the way may
    be links.
    """
    if not os.path.islink(path):
        return ""
    end, home = os.path.realpath(path), os.path.realpath(root)
    inside = os.path.commonpath([home, end]) == home
    return "" if inside or _DVC_CACHE.fullmatch(end[-34:]) else end
