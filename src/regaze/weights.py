"""Weights and records of trained networks: a wrong file is an error, no half-random network."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from regaze.filetypes import read_json, unreadable
from regaze.outputs import REMEDY


def torch_content(
    source: str | os.PathLike | BinaryIO,
    clause: str = "not a torch file of plain weights",
    where: object = None,
) -> Any:
    """Return what a torch file of plain weights holds, on the CPU; nothing in it is executed.

    torch's own reader inflates what an archive claims, so that a small file could fill the memory.
    ``torch.save`` never compresses, hence only stored members are read.

    Args:
        source: path, or an open file of bytes that can be sought in.
        clause: what was expected, in the message.
        where: what the message calls the file; default ``source``.

    Raises:
        FileNotFoundError, PermissionError: the file is missing or may not be read.
        ValueError: it is something else, damaged, holds compressed or overlapping members, or
            anything but plain tensors, numbers, text and collections of them. The message names
            it and what it is.
    """
    if wrong := _not_stored(source):
        raise ValueError(f"{source if where is None else where}: {clause} ({wrong})")
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # torch raises many kinds
        raise ValueError(unreadable(source, clause, "torch", error, where)) from None


def _not_stored(source: str | os.PathLike | BinaryIO) -> str:
    """What is wrong with the members of a zip archive; "" if nothing is, or if it is none."""
    if not zipfile.is_zipfile(source):
        _rewind(source)
        return ""
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
    claimed, size = sum(one.file_size for one in members), _size(source)
    _rewind(source)
    compressed = [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]
    if compressed:
        return f"expected stored members as torch writes, {compressed[0]!r} is compressed"
    return f"members claim {claimed} bytes, the file has {size}" if claimed > size else ""


def _size(source: str | os.PathLike | BinaryIO) -> int:
    if isinstance(source, str | os.PathLike):
        return os.stat(source).st_size
    return source.seek(0, os.SEEK_END)


def _rewind(source: str | os.PathLike | BinaryIO) -> None:
    if not isinstance(source, str | os.PathLike):
        source.seek(0)


def state_dict_of(content: Any, where: object, of: str = "tensors") -> dict[str, Tensor]:
    """The content of a file as a state dict.

    Args:
        content: what the file holds.
        where, of: for the message.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(content, Mapping):
        told = type(content).__name__
    elif wrong := [key for key, value in content.items() if not isinstance(value, Tensor)]:
        told = f"{wrong[0]!r} which is no tensor"
    else:
        return dict(content)
    raise ValueError(f"{where}: expected a state dict of {of}, found {told}")


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], where: object = "") -> None:
    """Load a state dict after stripping DataParallel's ``module.`` prefix.

    The counters of batch norms may be absent, as in files written before torch 0.4.1: torch's own
    strict load takes those as well, and they play no part in evaluation.

    Args:
        network: of the wanted keys and shapes.
        state: the weights.
        where: what the message begins with, such as the file.

    Raises:
        ValueError: missing or unexpected keys, or a shape that differs; all are listed.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    wanted = network.state_dict()
    for name, layer in network.named_modules():
        counter = f"{name}.num_batches_tracked".lstrip(".")
        if isinstance(layer, _NormBase) and counter in wanted:
            state.setdefault(counter, wanted[counter])
    problems = [f"missing {key}" for key in wanted if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in wanted]
    problems += [
        f"{key} expected {tuple(wanted[key].shape)} found {tuple(state[key].shape)}"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    if problems:
        told = f"{len(problems)} keys do not fit the network: " + "; ".join(problems)
        raise ValueError(f"{where}: {told}" if where else told)
    network.load_state_dict(state)


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut off, or something else; the message names it.
    """
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        told = unreadable(path, "not a readable safetensors file", "safetensors", error)
        raise ValueError(f"{told}{REMEDY}") from None


def models_folder(folder: str | os.PathLike) -> Path:
    """The folder of models that a model folder lies in; a person's model lies below its entry's."""
    above = Path(folder).resolve().parents
    return above[2] if len(above) > 2 and (above[1] / "model.json").is_file() else above[0]


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a model's ``model.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object; the message names it.
    """
    return read_json(path, REMEDY)


def read_model(
    folder: str | os.PathLike, kind: str
) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """Record and weights of a model folder, and the file of the weights.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: one is damaged, or the model is of another kind.
    """
    record_file, weights = (Path(folder, name) for name in ("model.json", "model.safetensors"))
    for path in (record_file, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; is the model trained?")
    record = read_record(record_file)
    if record.get("kind") != kind:
        raise ValueError(f"{record_file}: kind: expected {kind!r}, found {record.get('kind')!r}")
    return record, read_weights(weights), weights
