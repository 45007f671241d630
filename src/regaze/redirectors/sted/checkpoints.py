"""Published checkpoints of ST-ED: a torch file with the states of its three networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from regaze.redirectors.sted.network import StedNetwork
from regaze.weights import load_strictly, torch_content

PARTS = ("encoder", "decoder", "discriminator")
_STEP = re.compile(r"^(\d+)\.pt$")


def read_checkpoint(path: str | Path) -> dict[str, Mapping[str, Tensor]]:
    """Read ``<step>.pt``: the state dicts of encoder, decoder and discriminator by name.

    ``path`` may also be a folder of such files, or one with ``checkpoints/``; the highest step is
    taken. Only plain tensors are unpickled.

    Raises:
        FileNotFoundError: no such file, or no ``<step>.pt`` in the folder.
        ValueError: the file is no such checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        home = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        steps = {int(m[1]): file for file in home.iterdir() if (m := _STEP.match(file.name))}
        if not steps:
            raise FileNotFoundError(f"{home}: expected a checkpoint <step>.pt, found none")
        path = steps[max(steps)]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint of ST-ED, found none")
    content = torch_content(path)
    found = sorted(content) if isinstance(content, Mapping) else type(content).__name__
    if not isinstance(content, Mapping) or not {"encoder", "decoder"} <= set(content):
        raise ValueError(f"{path}: expected the parts {', '.join(PARTS)}, found {found}")
    return {name: content[name] for name in PARTS if name in content}


def states_of(network: StedNetwork) -> dict[str, Mapping[str, Tensor]]:
    """The parts of a checkpoint that :func:`load_networks` takes."""
    parts = {name: getattr(network, name) for name in PARTS}
    return {name: part.state_dict() for name, part in parts.items() if part is not None}


def load_networks(network: StedNetwork, state: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Load the parts of a checkpoint; a leading ``module.`` of keys is removed.

    The discriminator's state is needed where the network has one and left aside where not.

    Raises:
        ValueError: a part is missing or does not fit; the message names it and lists the keys.
    """
    for name in PARTS:
        part = getattr(network, name)
        if part is None:
            continue
        if name not in state:
            raise ValueError(f"checkpoint: expected the part {name!r}, found {sorted(state)}")
        load_strictly(part, state[name], f"checkpoint: {name}")
