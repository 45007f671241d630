"""Files of the workflow that are cut off or altered: errors that name the file and the remedy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from regaze.filetypes import unreadable
from regaze.outputs import REMEDY


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


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a model's ``model.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object; the message names it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        told = unreadable(path, "not a readable JSON file", ("json", "text", "binary"), error)
        raise ValueError(f"{told}{REMEDY}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, found {type(content).__name__}")
    return content
