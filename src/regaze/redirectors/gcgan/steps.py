"""The four steps of an adversarial training, of both stages, with everything drawn beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regaze.redirectors.gcgan.adversary import DualDiscriminator
from regaze.redirectors.gcgan.generator import Drawn, SemanticGenerator
from regaze.redirectors.gcgan.objective import (
    BROKEN_SHARE,
    gradient_penalties,
    mask_loss,
    path_length,
    swapped,
    unbroken,
)
from regaze.redirectors.sted.objective import held
from regaze.stylegan.discriminator import discriminator_loss, generator_loss

Noise = Sequence[Tensor] | None
_FROZEN_CONVS = 4
"""Of the render net the first convolutions stay as they are in the second stage."""


@dataclass(frozen=True)
class Asked:
    """What pictures are to be drawn of.

    Attributes:
        codes: (B,D) or (B,rows,D), with the mapping network behind them.
        gaze: (B,2) radians.
        noise: of the render net; None draws it.
        generator: what it is drawn from.
    """

    codes: Tensor
    gaze: Tensor
    noise: Noise = None
    generator: torch.Generator | None = None


@dataclass(frozen=True)
class Real:
    """Real pictures.

    Attributes:
        images: (B,3,S,S) in [-1,1].
        masks: (B,seg_dim,S,S) of 1 and -1.
        gaze: (B,2) radians; None where they have no labels.
    """

    images: Tensor
    masks: Tensor
    gaze: Tensor | None


class Steps:
    """Losses of generator and discriminator.

    Args:
        generator: what is trained.
        judge: its discriminator; one that is not told the gaze belongs to the second stage.
        weights: ``r1_img``, ``r1_seg``, ``r1_every``, ``path``, ``path_every``, ``mask`` and, in
            the first stage, ``mismatch``.
        frozen: the generator of the first stage, whose segmentations those of the second have to
            keep.
        broken_share: see :func:`regaze.redirectors.gcgan.objective.unbroken`.
    """

    def __init__(
        self,
        generator: SemanticGenerator,
        judge: DualDiscriminator,
        weights: Mapping[str, Any],
        frozen: SemanticGenerator | None = None,
        broken_share: float = BROKEN_SHARE,
    ):
        self.generator, self.judge, self.weights = generator, judge, weights
        self.frozen, self.broken_share = frozen, broken_share

    def discriminator(self, real: Real, asked: Asked) -> dict[str, Tensor]:
        """``loss`` of the discriminator; ``real`` and ``fake`` are mean logits."""
        with torch.no_grad():
            made, masks, _ = self._made(asked)
        seen = full(self.judge(real.images, real.masks, real.gaze))
        fake = full(self.judge(full(made.rgb), masks, asked.gaze))
        loss = discriminator_loss(seen, fake)
        if self.weights["mismatch"] and real.gaze is not None:
            # Real pictures with the gaze of others are as false as drawn ones.
            wrong = full(self.judge(real.images, real.masks, asked.gaze))
            loss = loss + self.weights["mismatch"] * nn.functional.softplus(wrong).mean()
        return {"loss": loss, "real": seen.mean().detach(), "fake": fake.mean().detach()}

    def r1(self, real: Real) -> dict[str, Tensor]:
        """Slopes of logits in real pictures and masks, from one pass back; ``loss`` weighs both."""
        images, masks = (one.detach().requires_grad_() for one in (real.images, real.masks))
        logits = full(self.judge(images, masks, real.gaze))
        image, mask = gradient_penalties(logits, images, masks)
        weights = self.weights
        loss = weights["r1_img"] / 2 * image + weights["r1_seg"] / 2 * mask
        # Biases behind the last slope get a gradient of 0 rather than none, as published: the
        # shared optimiser's moments then count this step for them too.
        return {
            "loss": loss * weights["r1_every"] + 0 * logits.sum(),
            "r1_img": image.detach(),
            "r1_seg": mask.detach(),
        }

    def generator_step(
        self, asked: Asked, further: Callable[[Drawn], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """``loss`` of the generator: adversarial, and its coarse and fine segmentations agree.

        ``further`` is what is added to it, a scalar of what was drawn.
        """
        made, masks, kept = self._made(asked)
        logits = full(held(self.judge, full(made.rgb), masks, asked.gaze))
        adversarial = generator_loss(logits)
        agreed = mask_loss(full(made.coarse), full(made.seg))
        loss = adversarial + self.weights["mask"] * agreed
        found = {"generator": adversarial.detach(), "mask": agreed.detach()}
        if kept is not None:
            apart = (full(made.seg) - kept).square().mean()
            loss = loss + self.weights["mask"] * apart
            found["kept_mask"] = apart.detach()
        if further is not None:
            more = further(made)
            loss, found["further"] = loss + more, more.detach()
        return {"loss": loss, **found}

    def path(self, asked: Asked, mean: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """``loss`` of path lengths; ``mean`` is their running mean with this batch.

        Args:
            asked: codes are taken as they are, without their mapping network.
            mean: the running mean so far.
            noise: (B,3,S,S) of unit variance.
        """
        spread = self.generator.layout.spread(asked.codes).detach().requires_grad_()
        made = self.generator.drawn(spread, asked.gaze, asked.noise, asked.generator)
        found = path_length(full(made.rgb), spread, mean, noise)
        loss = self.weights["path"] * self.weights["path_every"] * found.penalty
        return {
            "loss": loss,
            "path": found.penalty.detach(),
            "mean": found.mean.detach(),
            "length": found.lengths.mean().detach(),
        }

    def _made(self, asked: Asked) -> tuple[Drawn, Tensor, Tensor | None]:
        """What is drawn, the masks that are judged, and those that are to be kept."""
        spread = self.generator.layout.spread(asked.codes)
        made = self.generator.drawn(spread, asked.gaze, asked.noise, asked.generator)
        if self.frozen is None:
            return made, full(made.seg), None
        # Gradients reach the mapping network through the frozen generator too, as published.
        theirs = full(self.frozen.drawn(spread, asked.gaze, asked.noise, asked.generator).seg)
        seg = full(made.seg)
        kept = swapped(theirs, seg, unbroken(seg, self.broken_share))
        return made, kept, kept


def full(values: Tensor) -> Tensor:
    """Values in at least single precision, whatever autocast made of them."""
    return values.float() if values.dtype.itemsize < 4 else values


def trainable(generator: SemanticGenerator, second: bool) -> dict[str, nn.Parameter]:
    """Parameters of a generator that a stage trains, by name: all, or those of the second one.

    The second leaves local generators and the first levels of the render net as they are.
    """
    named = dict(generator.named_parameters())
    if not second:
        return named
    fixed = ("local_nets.", *(f"render_net.convs.{n}." for n in range(_FROZEN_CONVS)))
    return {name: one for name, one in named.items() if not name.startswith(fixed)}


def lazy_adam(lr: float, every: int | None) -> dict[str, Any]:
    """Options of the Adam of a network that has a further step every so often (Karras et al. 2020).

    Rate and decays are those of as many steps without the further ones; with None there are none.
    """
    ratio = 1 if every is None else every / (every + 1)
    return {"optimizer": "adam", "lr": lr * ratio, "betas": (0.0, 0.99**ratio)}
