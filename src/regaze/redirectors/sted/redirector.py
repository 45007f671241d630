"""ST-ED as a redirector: two-phase training, redirection by angles, and what only it can do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regaze.estimators.base import GazeHeadEstimator
from regaze.images import equalise, reduce_patches, to_uint8
from regaze.redirectors.base import Batch, Phase, Progress, Redirector, State
from regaze.redirectors.sted.checkpoints import load_networks, read_checkpoint, states_of
from regaze.redirectors.sted.network import StedNetwork, build_network
from regaze.redirectors.sted.objective import Objective
from regaze.redirectors.sted.settings import ModelSettings

_FACTORS = ("gaze", "head")


class StedRedirector(Redirector):
    """Self-transforming encoder-decoder; see :mod:`regaze.redirectors.sted`."""

    objective_type = Objective

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        options = config["objective"]
        few = config.get("labels", {}).get("targets") == "any"
        self.objective = self.objective_type(**options, label_target=not few)
        self.net = self.built(config, adversarial=options["discriminator"] > 0)
        self._estimator: list[GazeHeadEstimator] = []

    @staticmethod
    def built(config: Mapping, *, adversarial: bool) -> StedNetwork:
        """The untrained networks of a resolved configuration."""
        return build_network(config["network"], config["size_px"], adversarial=adversarial)

    @property
    def network(self) -> nn.Module:
        """Encoder, decoder and discriminator."""
        return self.net

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the frozen estimator of the redirection terms.

        Raises:
            ValueError: it reads pictures of another size or pre-processing, or has no features.
        """
        estimator = networks.get("estimator")
        if estimator is None:
            return
        for name in ("size_px", "preprocess"):
            wanted, found = self.config[name], getattr(estimator, name)
            if wanted != found:
                raise ValueError(
                    f"training estimator: {name}: expected {wanted!r} as this model has, found "
                    f"{found!r}"
                )
        if not hasattr(estimator, "forward_with_features"):
            raise ValueError(f"training estimator: expected arch 'vgg', found {estimator.arch!r}")
        # A list keeps it out of this module's own parameters.
        self._estimator = [estimator]

    def phases(self) -> list[Phase]:
        """The discriminator steps first, encoder and decoder learn from the result."""
        made = [*self.net.encoder.parameters(), *self.net.decoder.parameters()]
        if self.net.discriminator is None:
            return [Phase("main", made)]
        return [
            Phase("discriminator", list(self.net.discriminator.parameters())),
            Phase("generator", made),
        ]

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Terms of a phase by their published names; ``loss`` is minimised.

        Both phases encode the batch: the discriminator's step changes nothing that they see.
        """
        batch = {
            name: self._prepared(value) if name in ("source", "target") else value
            for name, value in batch.items()
        }
        if phase == "discriminator":
            return self.objective.discriminator_losses(self.net, batch)
        if not self._estimator and ModelSettings.declare(self.config).networks:
            raise ValueError(
                "objective.redirection_feature, objective.redirection_gaze: expected a trained "
                "estimator, found none attached"
            )
        mask = None
        if self.objective.mixing:
            count, device = len(batch["source"]), batch["source"].device
            shape = (count, len(self.net.factors))
            mask = (torch.rand(shape, generator=at.generator, device=device) < 0.5).float()
        estimator = self._estimator[0] if self._estimator else None
        return self.objective.generator_losses(self.net, batch, mask, at.step, estimator)

    def validation_loss(self, batch: Batch, at: Progress) -> Tensor:
        """The difference of pictures, which no discriminator moves."""
        return self.losses(batch, self.phases()[-1].name, at)["l1"]

    def _prepared(self, images: Tensor) -> Tensor:
        if self.config["preprocess"] == "none":
            return images
        return reduce_patches(equalise(to_uint8(images))).to(images.device)

    def invert(self, source: Batch, *, seed: int) -> dict[str, Tensor]:
        """Predicted ``angles`` (B, angles) and ``embeddings`` (B, size) of the sources.

        Those of a model of pre-processed pictures are of the pre-processed source.
        """
        angles, embeddings = self.encode(source["source"])
        return {"angles": angles, "embeddings": embeddings}

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Redirected pictures; without noise, so ``seed`` changes nothing.

        A target that the batch does not name is kept. Targets beyond +-pi/2, which no predicted
        angle reaches, are taken as +-pi/2 with a warning.
        """
        told = {name: _within_reach(target.get(f"target_{name}"), name) for name in _FACTORS}
        count = max((one.shape[0] for one in told.values() if one is not None), default=None)
        return self._moved(state, told, count).clamp(-1, 1)

    def _moved(self, state: State, new: Mapping[str, Tensor | None], count=None) -> Tensor:
        """Pictures (B,3,S,S), not clipped, with named factors turned to new angles."""
        angles, embeddings = state["angles"], state["embeddings"]
        if count is not None and count != angles.shape[0]:
            angles, embeddings = angles.expand(count, -1), embeddings.expand(count, -1)
        to = self.net.factors.with_angles(angles, **new)
        return self.net.decode(self.net.factors.moved(embeddings, angles, to))

    def transfer(self, images_a: Tensor, images_b: Tensor) -> Tensor:
        """Pictures (B,3,S,S) of ``images_a`` with every factor turned as in ``images_b``."""
        made = self.net.transfer(self._prepared(images_a), self._prepared(images_b))
        return made.clamp(-1, 1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted angles (B, angles) in radians and embeddings (B, size), in factor order."""
        return self.net.encode(self._prepared(images))

    def decode(self, embeddings: Tensor) -> Tensor:
        """Pictures (B,3,S,S) of embeddings (B, size), not limited to [-1,1]."""
        return self.net.decode(embeddings)

    def angles(self) -> Mapping[str, int]:
        """Factors that can be turned and their numbers of angles."""
        factors = self.net.factors
        named = zip(factors.names, factors.shapes, strict=True)
        return {name: dof for name, (dof, _) in named if dof > 0}

    def reconstruct(self, state: State, *, seed: int) -> Tensor:
        """The sources (B,3,S,S) as they are decoded from their own embeddings, not clipped."""
        return self.net.decode(state["embeddings"])

    def perturb(self, state: State, factor: str, change: Tensor, *, seed: int) -> Tensor:
        """The sources (B,3,S,S) with a factor turned by ``change`` (B,dof) radians, not clipped."""
        own = state["angles"][:, self.net.factors.angles_of(factor)]
        return self._moved(state, {factor: own + change})

    def read_reference(self, path: str) -> Mapping:
        """See :func:`regaze.redirectors.sted.checkpoints.read_checkpoint`."""
        return read_checkpoint(path)

    def reference_state(self) -> Mapping:
        """The state dicts of encoder, decoder and, where there is one, discriminator by name."""
        return states_of(self.net)

    def load_reference(self, state: Mapping, config: Mapping) -> None:
        """Load ``{encoder, decoder, discriminator}`` of a published checkpoint.

        Raises:
            ValueError: keys are missing or unexpected; the message lists them.
        """
        load_networks(self.net, state)


def _within_reach(angles: Tensor | None, name: str) -> Tensor | None:
    if angles is None:
        return None
    if torch.compiler.is_exporting():  # a graph can neither branch nor warn
        return angles.clamp(-math.pi / 2, math.pi / 2)
    if not bool((angles.abs() > math.pi / 2).any()):
        return angles
    far = float(angles.abs().max())
    warnings.warn(f"target {name} of {far:.2f} rad is taken as pi/2", stacklevel=3)
    return angles.clamp(-math.pi / 2, math.pi / 2)


def build(config: dict, sampling: dict) -> StedRedirector:
    """Build the redirector of a resolved configuration; it does not sample."""
    return StedRedirector(config)
