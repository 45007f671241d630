"""The contract that every redirection method meets, and how methods are found by name.

A method is a folder below ``regaze/redirectors`` with a ``settings.py`` (its ``ModelSettings``,
importable without torch, so that the Snakefile can check a configuration) and a ``redirector.py``
(its ``build(config) -> Redirector``). Nothing else names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from regaze.redirectors import methods
from regaze.weights import load_strictly

Batch = Mapping[str, torch.Tensor]
"""What redirectors take: ``source`` (B,3,H,W) in [-1,1]; ``source_gaze``, ``target_gaze``,
``source_head``, ``target_head`` (B,2) radians; for methods that need latents ``source_code`` and
``target_code`` (B,Dc), raw; while training also ``target`` (B,3,H,W); while redirecting ``pair``
(B,) int64, the identity that an image's noise is seeded by, and for methods that take several
pictures of the source ``sources`` (B,K,3,H,W), ``sources_gaze``, ``sources_head`` (B,K,2) and with
latents ``sources_code`` (B,K,Dc), of which number 0 is the source itself."""


@dataclass(frozen=True)
class Needs:
    """What a method takes beyond faces, and what it is told about the target.

    Attributes:
        target: what of the target picture's description the method sees, for the report.
        latents: whether it needs the latents of the source (and of the target, if told).
        masks: whether it needs masks.
        estimator: whether it needs the training estimator.
    """

    target: str
    latents: bool = False
    masks: bool = False
    estimator: bool = False


class Redirector(nn.Module):
    """A trainable method that turns a source picture towards another gaze and head pose.

    Methods whose ``needs.latents`` is true name the columns in ``config["deca"]["parts"]`` and
    take the training codes' statistics in :meth:`standardise`.
    """

    needs: Needs

    @property
    def network(self) -> nn.Module:
        """The module whose state is trained, averaged and saved."""
        raise TypeError(f"{type(self).__name__} defines no network")

    def attach(
        self, *, estimator: nn.Module | None = None, teacher: Redirector | None = None
    ) -> None:
        """Take trained, frozen networks that the configuration required; before training only.

        They are no part of :attr:`network`, so they are neither trained nor saved.
        """

    def standardise(self, codes: torch.Tensor) -> None:
        """Take the codes (N, Dc) of all rows that are trained on; before training only.

        Their statistics belong to the state of :attr:`network`.
        """

    def load_start(self, state: Mapping[str, torch.Tensor]) -> None:
        """Start from trained weights; before training, after :meth:`standardise`.

        Args:
            state: state dict of :attr:`network`, of this project or a published checkpoint's.

        Raises:
            ValueError: keys are missing or unexpected, or shapes differ; all are listed.
        """
        load_strictly(self.network, state)

    def mean_code(self) -> torch.Tensor:
        """The mean (Dc,) of the training codes, told where a source has no code."""
        raise TypeError(f"{type(self).__name__} is told no codes")

    def phases(self) -> dict[str, list[nn.Parameter]]:
        """Parameters per optimiser, in the order their steps run; one phase unless overridden."""
        return {"main": list(self.network.parameters())}

    def losses(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Scalar losses of a training batch; ``loss`` is minimised."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    def redirect(self, batch: Batch, *, seed: int) -> torch.Tensor:
        """Redirected pictures (B,3,H,W) in [-1,1].

        Each picture depends on its own row of the batch, on its ``pair`` number and on ``seed``,
        never on the size or order of the batch. Methods with guidance also take ``weights``, a
        sequence of W guidance weights in place of the configured one, and return (W,B,3,H,W).
        """
        raise TypeError(f"{type(self).__name__} defines no redirect")

    def record_path(self, batch: Batch, *, seed: int) -> torch.Tensor:
        """The way to the pictures of :meth:`redirect`, (T,B,3,H,W), the pictures last.

        Methods that denoise have their estimates on the way, at most 40 frames; others nothing.
        """
        return self.redirect(batch, seed=seed)[None]

    def bytes_per_image(self, weights: int = 1) -> int | None:
        """About how much memory a picture takes while it is made with so many guidance weights.

        None: so little that nobody needs to ask.
        """
        return None

    def read_reference(self, path: str) -> Mapping:
        """Read a file of the method's published layout, for :meth:`load_reference`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another file.
        """
        raise TypeError(f"{type(self).__name__} knows no published files")

    def load_reference(self, state: Mapping[str, torch.Tensor], config: Mapping) -> None:
        """Load the method's published checkpoint layout.

        Raises:
            ValueError: keys are missing or unexpected; the message lists them.
        """
        load_strictly(self.network, state)

    def evaluations_per_image(self) -> int:
        """Network evaluations that one redirected picture costs."""
        return 1

    def describe_sampling(self) -> dict[str, str | float | int]:
        """What decides the pictures besides weights and seed: sampler, steps, guidance."""
        return {"sampler": "none", "guidance": 0.0}


@runtime_checkable
class Perturbable(Protocol):
    """What a redirector also has when it describes a face by separate factors that can be turned.

    The induced errors of ST-ED are measured on it (:mod:`regaze.metrics.disentanglement`): pictures
    are those of the decoder, not clipped, and each row depends on itself and ``seed`` alone.
    """

    def factors(self) -> Mapping[str, int]:
        """Factors that can be turned and their numbers of angles; ``gaze`` and ``head`` are two."""
        ...

    def reconstruct(self, batch: Batch, *, seed: int) -> torch.Tensor:
        """The source as the method makes it with nothing changed: (B,3,H,W)."""
        ...

    def perturb(
        self, batch: Batch, factor: str, change: torch.Tensor, *, seed: int
    ) -> torch.Tensor:
        """The source with one factor turned from its own angles by ``change`` (B,n) radians."""
        ...


def build_redirector(config: Mapping, sampling: Mapping | None = None) -> Redirector:
    """Build an untrained redirector.

    Args:
        config: the resolved model configuration (``class`` names the method's folder).
        sampling: the ``sampling:`` section, for methods that sample.

    Raises:
        ValueError: no such method.
    """
    name = config["class"]
    if name not in methods():
        raise ValueError(f"unknown class of model {name!r}; expected one of {', '.join(methods())}")
    module = importlib.import_module(f"regaze.redirectors.{name}.redirector")
    return module.build(dict(config), dict(sampling or {}))
