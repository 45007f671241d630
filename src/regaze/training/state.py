"""The file of a training's state: what it is of, and whether it may be gone on with."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from regaze.filetypes import damage
from regaze.outputs import replacing, write_json
from regaze.provenance import content_hash

log = logging.getLogger("regaze.training")

STATE, FINISHED = "state.pt", "finished.json"
"""What a folder of a state holds: the state, and the number of the training that is finished."""


def mark_finished(state: str | Path) -> None:
    """Say that the results of the training whose state a folder holds are written.

    The state stays for those who start from it (``train.transfer``), but nothing continues it.
    """
    path = Path(state) / STATE
    if path.exists():
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        write_json(path.with_name(FINISHED), {"training": content["training"]})


def _is_finished(path: Path, content: Mapping) -> bool:
    try:
        told = json.loads(path.with_name(FINISHED).read_text(encoding="utf-8"))
        return told["training"] == content["training"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def leaves(content, name: str = "") -> dict[str, str]:
    """A hash of every value of nested dictionaries by its dotted name."""
    if not isinstance(content, Mapping):
        return {name: content_hash(content)}
    found = {}
    for key, value in content.items():
        found |= leaves(value, f"{name}.{key}" if name else str(key))
    return found


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a state; it replaces the one before only when it is whole.

    Raises:
        OSError: the disk is full.
    """
    with replacing(path) as part:
        try:
            torch.save(content, part)
        except RuntimeError as error:
            # What torch says of a full disk is a position in the file.
            free = shutil.disk_usage(part.parent).free >> 20
            raise OSError(
                f"{path}: the state cannot be written, {free} MiB are free there "
                f"({str(error).splitlines()[0]})"
            ) from error


def read_state(
    path: Path, identity: Mapping[str, str], processes: int, steps: int, device: Any
) -> dict | None:
    """The state of an interrupted training, None where there is none that may be gone on with.

    Args:
        path: the file.
        identity: of the training, see :func:`leaves`.
        processes: how many train.
        steps: of the whole training.
        device: where tensors go.

    Raises:
        ValueError: the same training was interrupted with another number of processes.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found = content["config"]
    except Exception as error:
        log.warning("%s: unreadable state, starting afresh (%s)", path, damage(error))
        return None
    if found != content_hash(identity):
        log.warning(
            "%s: state of another configuration, other data or code (%s), starting afresh",
            *(path, _different(content.get("identity", {}), identity)),
        )
        return None
    if _is_finished(path, content):
        log.info("%s: state of a finished training, this is a new one", path)
        return None
    if content["processes"] != processes:
        count = content["processes"]
        many = "es" if count > 1 else ""
        raise ValueError(
            f"{path}: this training was interrupted at step {content['step']} of {steps} with "
            f"{count} process{many}, found {processes}, whose sums have other bytes; go on with "
            "as many as before (train.gpus, train.nodes), or delete the file to start afresh"
        )
    return content


def _different(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """Names of what a state does not share with a training."""
    names = sorted({*theirs, *ours})
    found = [name for name in names if theirs.get(name) != ours.get(name)]
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return ", ".join(found[:6]) + more if theirs else "of an earlier version"
