"""Loading weights so that a wrong file is an error and never a half-random network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


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
