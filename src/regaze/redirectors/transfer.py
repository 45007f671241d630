"""Starting a redirector from trained weights, wherever they come from.

Known are this project's ``model.safetensors`` and ``state.pt``, the container of
``a6o/3d-diffusion-pytorch`` (``latest.pt``: a torch file of ``model``, whose keys DataParallel
prefixed by ``module.``, ``optim``, ``step`` and ``epoch``) and bare state dicts. Only plain
tensors are unpickled.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from regaze.filetypes import unreadable
from regaze.weights import torch_content

log = logging.getLogger("regaze.training")


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        path: file that they came from.
        kind: ``model``, ``state``, ``published`` or ``weights``, for messages.
        weights: state dict, on the CPU.
        optimisers: optimiser's state dict per phase; empty where there are none or where they were
            not asked for. The published container has one, under ``main``.
    """

    path: str
    kind: str
    weights: Mapping[str, Tensor]
    optimisers: Mapping[str, Any] = field(default_factory=dict)

    def restore(self, optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
        """Give fresh optimisers these moments, if there are any; see :func:`restore_moments`."""
        if self.optimisers:
            restore_moments(optimisers, self.optimisers, self.path)


def read_start(path: str | Path, optimiser: bool = False) -> Start:
    """Read weights, and the optimiser's moments if asked for.

    Args:
        path: file; see :func:`regaze.training.settings.transfer_file` for folders.
        optimiser: whether the moments are wanted. Of a ``state.pt`` the weights that belong to
            them are taken then, the averaged ones otherwise if there is an average.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of weights, or one without moments although they are asked for.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"train.transfer: {path}: no such file")
    start = _start(path, optimiser)
    wrong = [key for key, value in start.weights.items() if not isinstance(value, Tensor)]
    if wrong or not start.weights:
        found = f"{wrong[0]!r} which is no tensor" if wrong else "nothing"
        raise ValueError(f"{path}: expected a state dict of tensors, found {found}")
    if optimiser and not start.optimisers:
        raise ValueError(
            f"{path}: train.transfer_optimizer is true, but the file holds no optimiser; expected "
            "state.pt of a training or the published port's latest.pt"
        )
    return start


def _start(path: Path, optimiser: bool) -> Start:
    if path.suffix == ".safetensors":
        try:
            return Start(str(path), "model", load_file(path))
        except SafetensorError as error:
            told = unreadable(path, "not a safetensors file", "safetensors", error)
            raise ValueError(told) from None
    content = torch_content(path)
    if not isinstance(content, Mapping):
        found = type(content).__name__
        raise ValueError(f"{path}: expected a dictionary of weights, found {found}")
    if isinstance(content.get("network"), Mapping) and "optimisers" in content:
        averaged = None if optimiser else content.get("average")
        moments = content["optimisers"] if optimiser else {}
        return Start(str(path), "state", averaged or content["network"], moments)
    if isinstance(content.get("model"), Mapping):
        moments = {"main": content["optim"]} if optimiser and "optim" in content else {}
        return Start(str(path), "published", content["model"], moments)
    return Start(str(path), "weights", content)


def begin_from(redirector, path: str | Path, optimiser: bool = False) -> Start:
    """Load weights into an untrained redirector through its ``load_start``.

    Raises:
        ValueError: the file is none of weights, or keys or shapes do not fit; all are listed.
    """
    start = read_start(path, optimiser)
    try:
        redirector.load_start(start.weights)
    except ValueError as error:
        raise ValueError(f"train.transfer: {start.path}: {error}") from error
    log.info("starting from the weights of %s (%s)", start.path, start.kind)
    return start


def restore_moments(
    optimisers: Mapping[str, torch.optim.Optimizer], saved: Mapping[str, Any], path: str
) -> None:
    """Give fresh AdamW optimisers the moments of others; rates and decays stay their own.

    Moments are matched by the order of parameters, which is that of the network's state dict.

    Raises:
        ValueError: phases, numbers of parameters or shapes differ, or a moment is missing.
    """
    if set(saved) != set(optimisers):
        raise ValueError(
            f"{path}: optimiser's phases {sorted(saved)} are not those of this model, "
            f"{sorted(optimisers)}"
        )
    for phase, own in optimisers.items():
        parameters = [p for group in own.param_groups for p in group["params"]]
        moments = _moments(saved[phase], parameters, path)
        own.load_state_dict({**own.state_dict(), "state": moments})


def _moments(saved: Any, parameters: list[nn.Parameter], path: str) -> dict[int, dict[str, Tensor]]:
    try:
        order = [index for group in saved["param_groups"] for index in group["params"]]
        state = saved["state"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: optimiser: not the state of an Adam ({error!r})") from None
    if len(order) != len(parameters):
        raise ValueError(
            f"{path}: optimiser: moments of {len(order)} parameters do not fit {len(parameters)}"
        )
    done = {}
    for place, (index, parameter) in enumerate(zip(order, parameters, strict=True)):
        # A parameter that never had a gradient has no moments; it may start without any.
        if index not in state:
            continue
        one = state[index]
        for name in ("exp_avg", "exp_avg_sq"):
            shape = tuple(one[name].shape) if name in one else None
            if shape != tuple(parameter.shape):
                raise ValueError(
                    f"{path}: optimiser: {name} of parameter {place}: expected "
                    f"{tuple(parameter.shape)}, found {shape}; train.transfer_optimizer needs the "
                    "same network"
                )
        step = torch.as_tensor(one["step"], dtype=torch.float32).reshape(())
        # Fused steps need moments that lie in memory as their parameter does.
        done[place] = {"step": step} | {
            name: torch.empty_like(parameter).copy_(one[name]) for name in ("exp_avg", "exp_avg_sq")
        }
    return done
