"""What ST-ED learns from: the terms of section 3 of the paper, as zhengyuf/STED-gaze has them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from regaze.estimators.objective import angular_loss
from regaze.images import eye_boxes
from regaze.redirectors.sted.discriminator import discriminator_loss, generator_loss
from regaze.redirectors.sted.embeddings import similarity_loss
from regaze.redirectors.sted.network import StedNetwork
from regaze.redirectors.sted.settings import ObjectiveOptions


class Objective(ObjectiveOptions):
    """The losses of one training step, weighted and chosen as ``objective:`` says.

    Attributes:
        label_target: whether the target's labels may be learned from; false when few are known.
    """

    label_target: bool = True

    def apart(self, first: Tensor, second: Tensor) -> Tensor:
        """How different directions (B,2) are: the mean angle in degrees."""
        return angular_loss(first, second)

    def discriminator_share(self, step: int) -> float:
        """Share of the adversarial term's weight at a step, from 0 to 1."""
        if self.discriminator_ramp_steps == 0:
            return 1.0
        return min(max(step / self.discriminator_ramp_steps, 0.0), 1.0)

    def discriminator_losses(
        self, network: StedNetwork, batch: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses of the discriminator's own step: ``loss``, ``discriminator`` and ``generator``.

        ``batch`` is that of :data:`regaze.redirectors.base.Batch`. ``generator`` is the adversarial
        term before the step, for the log.
        """
        with torch.no_grad():
            made, truth = self._made(network, batch, self._encoded(network, batch))
        discriminator = network.discriminator
        true_logits, made_logits = discriminator(truth), discriminator(made)
        loss = discriminator_loss(true_logits, made_logits)
        return {
            "loss": self.discriminator * loss,
            "discriminator": loss,
            "generator": generator_loss(made_logits.detach()),
        }

    def generator_losses(
        self,
        network: StedNetwork,
        batch: Mapping[str, Tensor],
        mask: Tensor | None,
        step: int,
        estimator: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Losses of encoder and decoder, after the discriminator's step; ``loss`` is minimised.

        Args:
            network: the networks; no gradient reaches the discriminator.
            batch: see :data:`regaze.redirectors.base.Batch`; where few labels are known also
                ``target_labelled`` (B,) bool.
            mask: (B, factors) of 0 and 1, the factors that mixing moves.
            step: steps done so far.
            estimator: frozen; for the redirection terms.
        """
        factors = network.factors
        encoded = self._encoded(network, batch)
        (angles_a, embeddings_a), (angles_b, embeddings_b) = encoded
        made, truth = self._made(network, batch, encoded)
        found = {"l1": self._difference(made, truth)}
        total = self.l1 * found["l1"]
        found |= self._label_terms(factors, batch, angles_a, angles_b)
        total = total + self.gaze * (found["gaze_a"] + found["head_a"])
        if self.discriminator:
            share = self.discriminator_share(step)
            # Detached parameters: the step of encoder and decoder leaves the discriminator alone.
            adversarial = generator_loss(held(network.discriminator, made))
            total = total + self.discriminator * share * adversarial
            found["discrim_coeff"] = total.new_tensor(share)
        if self.embedding_consistency:
            found["embedding_consistency"] = similarity_loss(
                factors.canonical(embeddings_a, angles_a), factors.canonical(embeddings_b, angles_b)
            )
            total = total + self.embedding_consistency * found["embedding_consistency"]
        if self.disentangle_embedding or self.disentangle_pseudo_label:
            mixed = self._mixing_terms(network, encoded, mask)
            counts = {
                "embedding_disentangle": self.disentangle_embedding,
                "label_disentangle": self.disentangle_pseudo_label,
            }
            for name, weight in counts.items():
                if weight:
                    found[name] = mixed[name]
                    total = total + weight * found[name]
        due = step % self.redirection_every == 0
        if due and (self.redirection_feature or self.redirection_gaze):
            seen = self._estimator_terms(estimator, made, truth)
            if self.redirection_feature:
                total = total + self.redirection_feature * seen["redirection_feature_loss"]
            if self.redirection_gaze:
                apart = seen["gaze_redirection"] + seen["head_redirection"]
                total = total + self.redirection_gaze * apart
            found |= seen
        return {"loss": total, **found}

    def _encoded(self, network: StedNetwork, batch: Mapping[str, Tensor]):
        """Angles and embeddings of both pictures; all networks treat rows by themselves."""
        angles, embeddings = network.encode(torch.cat([batch["source"], batch["target"]]))
        (first, second), (own, other) = angles.chunk(2), embeddings.chunk(2)
        return (first, own), (second, other)

    def _made(self, network: StedNetwork, batch: Mapping[str, Tensor], encoded):
        """The source moved to the target's angles, and what it should look like."""
        (angles_a, embeddings_a), (angles_b, embeddings_b) = encoded
        to_b = self._towards(network, batch, "target", angles_b)
        if not self.both_ways:
            moved = network.factors.moved(embeddings_a, angles_a, to_b)
            return network.decode(moved), batch["target"]
        to = torch.cat([to_b, self._towards(network, batch, "source", angles_a)])
        own = torch.cat([angles_a, angles_b])
        moved = network.factors.moved(torch.cat([embeddings_a, embeddings_b]), own, to)
        return network.decode(moved), torch.cat([batch["target"], batch["source"]])

    def _towards(self, network, batch, side: str, angles: Tensor) -> Tensor:
        if self.target == "pseudo":
            return angles
        told = {"gaze": batch[f"{side}_gaze"], "head": batch[f"{side}_head"]}
        labelled = network.factors.with_angles(angles, **told)
        if side == "target" and "target_labelled" in batch:
            return torch.where(batch["target_labelled"][:, None], labelled, angles)
        return labelled

    def _difference(self, made: Tensor, truth: Tensor) -> Tensor:
        apart = (truth - made).abs()
        if not self.eye_weight:
            return apart.mean()
        weight = torch.ones(apart.shape[-2:], device=apart.device)
        for left, top, right, bottom in eye_boxes(apart.shape[-1]):
            weight[top:bottom, left:right] = 1 + self.eye_weight
        return (apart * weight).mean()

    def _label_terms(self, factors, batch, angles_a, angles_b) -> dict[str, Tensor]:
        """Errors of the predicted angles; of both pictures unless few labels exist."""
        found = {}
        for name in ("gaze", "head"):
            place = factors.angles_of(name)
            error = self.apart(batch[f"source_{name}"], angles_a[:, place])
            if self.label_target:
                error = (error + self.apart(batch[f"target_{name}"], angles_b[:, place])) / 2
            found[f"{name}_a"] = error
        return found

    def _mixing_terms(self, network: StedNetwork, encoded, mask: Tensor) -> dict[str, Tensor]:
        """Whether a picture with some factors moved is encoded as what it was made from."""
        (angles_a, embeddings_a), (angles_b, _) = encoded
        factors = network.factors
        embeddings = factors.moved(embeddings_a, angles_a, angles_b, mask)
        angles = factors.mixed_angles(angles_a, angles_b, mask)
        seen_angles, seen = network.encode(network.decode(embeddings))
        places = [factors.angles_of(name) for name in ("head", "gaze")]
        return {
            "embedding_disentangle": similarity_loss(embeddings, seen),
            "label_disentangle": sum(
                self.apart(angles[:, place], seen_angles[:, place]) for place in places
            ),
        }

    def _estimator_terms(self, estimator, made: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """How differently a frozen estimator sees the picture that was made and the true one."""
        found: dict[str, Tensor] = {}
        if self.redirection_feature:
            with torch.no_grad():
                wanted, wanted_maps = estimator.forward_with_features(truth)
            angles, maps = estimator.forward_with_features(made)
            found["redirection_feature_loss"] = sum(
                (first.float() - second.float()).square().mean()
                for first, second in zip(maps, wanted_maps, strict=True)
            )
        else:
            with torch.no_grad():
                wanted = estimator(truth)
            angles = estimator(made)
        if self.redirection_gaze:
            found["gaze_redirection"] = self.apart(wanted[:, :2], angles[:, :2])
            found["head_redirection"] = self.apart(wanted[:, 2:], angles[:, 2:])
        return found


def held(judge: nn.Module, *values: Tensor | None) -> Tensor:
    """What a network says of ``values``, whose gradient reaches those and not its parameters."""
    fixed = {name: value.detach() for name, value in judge.named_parameters()}
    return functional_call(judge, fixed, values)
