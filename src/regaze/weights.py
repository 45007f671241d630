"""Loading weights so that a wrong file is an error and never a half-random network."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn


def torch_content(source: str | os.PathLike | BinaryIO) -> Any:
    """Return what a torch file of plain weights holds, on the CPU; nothing in it is executed.

    torch's own reader inflates what an archive claims, so that a small file could fill the memory.
    ``torch.save`` never compresses, hence only stored members are read.

    Args:
        source: path, or an open file of bytes that can be sought in.

    Raises:
        ValueError: the container holds compressed or overlapping members.
        Exception: whatever ``torch.load(weights_only=True)`` raises of a file that is none of
            plain tensors, numbers, text and collections of them; callers name the file.
    """
    _require_stored(source)
    return torch.load(source, map_location="cpu", weights_only=True)


def _require_stored(source: str | os.PathLike | BinaryIO) -> None:
    if not zipfile.is_zipfile(source):
        _rewind(source)
        return
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
    compressed = [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]
    if compressed:
        raise ValueError(
            f"expected stored members as torch writes, {compressed[0]!r} is compressed"
        )
    claimed, size = sum(one.file_size for one in members), _size(source)
    _rewind(source)
    if claimed > size:
        raise ValueError(f"members claim {claimed} bytes, the file has {size}")


def _size(source: str | os.PathLike | BinaryIO) -> int:
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    return source.seek(0, os.SEEK_END)


def _rewind(source: str | os.PathLike | BinaryIO) -> None:
    if not isinstance(source, str | os.PathLike):
        source.seek(0)


def load_strictly(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict after stripping DataParallel's ``module.`` prefix.

    Raises:
        ValueError: missing or unexpected keys, or a shape that differs; all are listed.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = network.state_dict()
    problems = [f"missing {key}" for key in wanted if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in wanted]
    problems += [
        f"{key} expected {tuple(wanted[key].shape)} found {tuple(state[key].shape)}"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    if problems:
        raise ValueError(f"{len(problems)} keys do not fit the network: " + "; ".join(problems))
    network.load_state_dict(state)
