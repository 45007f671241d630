"""Power-function averages that are followed in training, and their snapshots on disk.

Snapshots of two widths allow any other width to be made afterwards
(:mod:`regaze.training.posthoc`; Karras et al. 2024, "Analyzing and improving the training dynamics
of diffusion models").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from regaze.diffusion.averages import power_decay
from regaze.outputs import replacing

_HALF_RANGE = 6e4
"""Larger numbers are not stored as half floats, which end at 65504."""


def prefix_of(part: nn.Module, whole: nn.Module) -> str:
    """How names of a part's weights begin in the state of a module, "" for the module itself.

    Raises:
        ValueError: it is no part of it.
    """
    for name, module in whole.named_modules():
        if module is part:
            return f"{name}." if name else ""
    raise ValueError(f"averaged: expected a part of what is saved, found {type(part).__name__}")


class PowerAverages:
    """Averages of the floating-point part of a network's state; whole numbers are its own.

    Args:
        network: whose state is followed; the averages lie where it lies.
        widths: relative standard deviations of the averages.
        folder: of the snapshots.
        prefix: of the names in snapshots, where the network is a part of what is saved.
    """

    def __init__(
        self,
        network: nn.Module,
        widths: tuple[float, ...],
        folder: str | Path,
        prefix: str = "",
    ):
        self.folder, self.prefix = Path(folder), prefix
        self.values = {
            width: {key: value.detach().clone() for key, value in network.state_dict().items()}
            for width in widths
        }

    @torch.no_grad()
    def update(self, network: nn.Module, images: int, batch: int) -> None:
        """Take in the weights after the step that brought the count to ``images`` images.

        The first update takes them as they are: an average of width std > 0 forgets its start.
        """
        state = network.state_dict()
        for width, average in self.values.items():
            smooth_into(average, state, float(power_decay(images, batch, width)))

    def snapshot(self, images: int) -> None:
        """Store each average as a safetensors file of half floats that tells std and images."""
        for width, average in self.values.items():
            stored = {self.prefix + key: _halved(value) for key, value in sorted(average.items())}
            # One entry only: safetensors writes several in an order that changes.
            about = {"average": json.dumps({"std": width, "images": images})}
            path = self.folder / f"std{width:.4f}-images{images:012d}.safetensors"
            with replacing(path) as part:
                part.write_bytes(save(stored, about))

    def forget_after(self, images: int) -> None:
        """Remove snapshots of more images, which an earlier run of the same training left."""
        for path in self.folder.glob("std*-images*.safetensors"):
            if int(path.stem.rpartition("images")[2]) > images:
                path.unlink()

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Averages by width, as text."""
        return {repr(width): average for width, average in self.values.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore averages of the same widths."""
        for width, average in self.values.items():
            for key, value in average.items():
                value.copy_(state[repr(width)][key])


@torch.no_grad()
def smooth_into(average: Mapping[str, Tensor], state: Mapping[str, Tensor], keep: float) -> None:
    """Make ``average`` the mean of itself, weighted by ``keep``, and a network's state."""
    ours, theirs = [], []
    for key, value in state.items():
        if value.is_floating_point():
            ours.append(average[key])
            theirs.append(value)
        else:
            average[key].copy_(value)
    torch._foreach_lerp_(ours, theirs, 1 - keep)


def _halved(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point() or not value.numel():
        return value
    return value.half() if float(value.abs().max()) <= _HALF_RANGE else value
