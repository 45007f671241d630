"""Opening of files that others wrote, where a pipe or a device may stand for one."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_MOST_BYTES = 1 << 28


def open_regular(path: str | Path) -> BinaryIO:
    """Return a regular file opened for reading of bytes.

    Plain ``open`` waits for ever on a named pipe, and a device may never end.

    Raises:
        OSError: there is no such file, it cannot be opened, or it is no regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: str | Path, most: int = _MOST_BYTES) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: as :func:`open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", str(path))
    return content
