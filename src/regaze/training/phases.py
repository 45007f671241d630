"""What can be trained: tasks, the phases of their steps, and what losses are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn


@dataclass(frozen=True)
class Progress:
    """How far a training is; what losses may depend on besides batch and weights.

    Attributes:
        step: optimiser steps that were made before this one.
        images: training images seen before this step.
        generator: of this step and phase alone, on the batch's device.
    """

    step: int
    images: int
    generator: torch.Generator


OPTIONS = (
    *("optimizer", "lr", "betas", "weight_decay", "clip_norm"),
    *("schedule", "decay", "decay_images", "warmup_images"),
)
"""What a phase may have in place of the entry's ``train:``."""


@dataclass(frozen=True)
class Phase:
    """A part of training steps with an optimiser of its own.

    Attributes:
        name: as losses are told it.
        parameters: what it trains.
        options: some of :data:`OPTIONS`. Schedules go by all images of the training.
        every: steps from one time to the next; 1: every step.
        after: training images before its first step; what it trains is frozen until then.
        shares: an earlier phase of the same parameters and options, whose optimiser this one steps,
            so that its gradients are weighed against that one's; "": it has its own.
        rates: some of its parameters, and the multiple of the learning rate that they have.

    Raises:
        ValueError: other options, or a cadence that there is not.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    options: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1
    after: int = 0
    shares: str = ""
    rates: tuple[Sequence[nn.Parameter], float] = ((), 1.0)

    def __post_init__(self):
        if unknown := sorted(set(self.options) - set(OPTIONS)):
            raise ValueError(
                f"phase {self.name}: {unknown[0]} is no option of phases; expected some of "
                f"{', '.join(OPTIONS)}"
            )
        if self.every < 1 or self.after < 0:
            raise ValueError(
                f"phase {self.name}: expected every of at least 1 and after of at least 0, found "
                f"{self.every} and {self.after}"
            )

    def groups(self) -> list[dict[str, Any]]:
        """The parameters as groups of an optimiser, each with its ``share`` of the rate."""
        chosen, share = self.rates
        own = {id(one) for one in chosen}
        rest = [one for one in self.parameters if id(one) not in own]
        groups = [{"params": rest, "share": 1.0}, {"params": list(chosen), "share": share}]
        return [group for group in groups if group["params"]]


class Task(Protocol):
    """What can be trained: a network and its losses.

    ``network`` holds all that changes. A task may have ``saved``, the module in it whose weights
    are the result, and ``averaged``, the module in that whose weights are averaged over the
    training; without them both are ``network``.
    """

    network: nn.Module

    def phases(self) -> Sequence[Phase]:
        """In the order in which they run within a step."""

    def losses(self, batch: dict, phase: str, at: Progress) -> dict[str, torch.Tensor]:
        """Scalars of one phase; ``loss`` is minimised, the others are logged.

        Means over the batch: processes average theirs, which is the mean over all images.
        """
