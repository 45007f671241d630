"""How DiffusionRig's network is sampled: DDIM and few-step samplers as solvers, DDPM step by step.

Without noise DDIM is Euler's method in the variance-exploding description, so that the samplers of
:mod:`regaze.diffusion.samplers` work on the levels of a respaced chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regaze.diffusion.chains import Chain, respacing_of
from regaze.diffusion.noise import image_noise
from regaze.diffusion.samplers import evaluations, sample
from regaze.redirectors.diffusionrig.network import RigNetwork
from regaze.redirectors.diffusionrig.settings import BASE

SOLVERS = {"ddim": "euler", "heun": "heun", "dpmpp_2m": "dpmpp_2m"}
"""Names of samplers here, and in :mod:`regaze.diffusion.samplers`."""


@dataclass(frozen=True)
class Prediction:
    """What networks predict.

    Attributes:
        kind: ``noise``, or ``residual``: what pictures are beside the base among their buffers.
        sigma: unit of residuals.
    """

    kind: str = "noise"
    sigma: float = 1.0

    def base(self, buffers: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) in [-1, 1] that residuals are counted from."""
        return buffers[:, BASE]

    def clean(
        self, found: Tensor, z: Tensor, index: Tensor, chain: Chain, buffers: Tensor, clip: bool
    ) -> Tensor:
        """The clean pictures that a prediction (B, 3, H, W) in ``z`` at steps (B,) implies."""
        if self.kind == "noise":
            return chain.clean(z, found, index, clip)
        made = self.base(buffers) + self.sigma * found
        return made.clamp(-1, 1) if clip else made


class Conditioned:
    """The network as it sees one batch of buffers and codes.

    Args:
        network: in evaluation mode.
        chain: whose steps it is asked at.
        buffers: (B, C, H, W).
        code: (B, latent).
        clip: clean pictures are clipped to [-1, 1].
        low: compute in bfloat16.
        predicts: what.
    """

    def __init__(
        self,
        network: RigNetwork,
        chain: Chain,
        buffers: Tensor,
        code: Tensor,
        clip: bool = True,
        low: bool = False,
        predicts: Prediction = Prediction(),
    ):
        self.network, self.chain, self.clip, self.low = network, chain, clip, low
        self.predicts = predicts
        self.buffers, self.code = buffers, code
        self._steps = torch.from_numpy(chain.steps)

    def __call__(self, z: Tensor, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """The clean picture in ``z`` (B, 3, H, W) at steps (B,); where variances lie, or None."""
        steps = self._steps.to(z.device)[index]
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.low):
            found = self.network(z, steps, self.buffers, self.code)
        first, *more = found.float().split(3, 1)
        clean = self.predicts.clean(first, z, index, self.chain, self.buffers, self.clip)
        return clean, more[0] if more else None


def denoiser(
    network: RigNetwork,
    chain: Chain,
    buffers: Tensor,
    code: Tensor,
    clip: bool = True,
    low: bool = False,
    predicts: Prediction = Prediction(),
) -> Callable[[Tensor, Tensor], Tensor]:
    """``denoise(z, sigma)`` of samplers, for levels of a chain; see :class:`Conditioned`."""
    seen = Conditioned(network, chain, buffers, code, clip, low, predicts)
    levels = torch.from_numpy(np.log(chain.sigmas))

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        apart = sigma.double().log()[:, None] - levels.to(sigma.device)
        index = apart.abs().argmin(1)
        return seen(chain.at(chain.shares**0.5, index, z) * z, index)[0]

    return denoise


class RigSampler:
    """Makes pictures; see the module.

    Args:
        network: the networks.
        schedule, steps: of the whole chain.
        options: those of :class:`regaze.redirectors.diffusionrig.settings.SamplingSettings`.
        predicts: what the network does.
    """

    def __init__(
        self,
        network: RigNetwork,
        schedule: str,
        steps: int,
        options: Mapping[str, Any],
        predicts: Prediction = Prediction(),
    ):
        self.network, self.options, self.predicts = network, options, predicts
        # Who asks for another number of steps than the entry has does not want those of the entry.
        if (kept := options.get("kept")) and len(kept) == options["steps"]:
            self.chain = Chain.of(schedule, steps, kept)
            return
        word = options["respacing"] or respacing_of(min(options["steps"], steps), steps)
        self.chain = Chain.made(schedule, steps, word)

    @property
    def low(self) -> bool:
        """Whether networks compute in bfloat16."""
        chosen, device = self.options["precision"], next(self.network.parameters()).device
        return chosen == "bf16" or (chosen == "auto" and device.type == "cuda")

    @property
    def evaluations(self) -> int:
        """Of the network, for a picture."""
        inverted = len(self.chain) if self.options["start"] == "inverted" else 0
        name = SOLVERS.get(self.options["sampler"])
        return inverted + (evaluations(name, len(self.chain)) if name else len(self.chain))

    def _seen(self, buffers: Tensor, code: Tensor) -> tuple:
        clip = self.options["clip"]
        return (self.network, self.chain, buffers, code, clip, self.low, self.predicts)

    def inverted(self, pictures: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """What deterministic steps make noise of pictures (B, 3, H, W) in [-1, 1]."""
        seen = Conditioned(*self._seen(buffers, code))
        z = pictures
        for step in range(len(self.chain)):
            index = torch.full((len(z),), step, device=z.device)
            z = self.chain.inverse_step(z, seen(z, index)[0], index)
        return z

    def made(
        self,
        buffers: Tensor,
        code: Tensor,
        *,
        seed: int,
        pairs: Tensor,
        start: Tensor | None = None,
        watch: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1].

        Args:
            buffers: (B, C, H, W).
            code: (B, latent).
            seed: of the noise, with the pairs.
            pairs: (B,) int64.
            start: (B, 3, H, W) noise; None: of seed and pairs.
            watch: is told the step and the estimate before every step.
        """
        ids, shape = pairs.tolist(), (3, *buffers.shape[2:])
        if start is None:
            start = image_noise(seed, ids, shape).to(buffers.device)
        options, chain = self.options, self.chain
        seen = self._seen(buffers, code)
        name = SOLVERS.get(options["sampler"])
        if name and not options["eta"]:
            levels = np.append(chain.sigmas[::-1], 0.0)
            scaled = start * float(chain.shares[-1] ** -0.5)
            told = None if watch is None else (lambda step, _, clean: watch(step, clean))
            return sample(name, denoiser(*seen), scaled, levels, told).clamp(-1, 1)
        asked, z = Conditioned(*seen), start
        for number, step in enumerate(reversed(range(len(chain)))):
            index = torch.full((len(z),), step, device=z.device)
            clean, learned = asked(z, index)
            if watch is not None:
                watch(number, clean)
            draw = image_noise(seed, ids, shape, number + 1).to(z)
            if options["sampler"] == "ddpm":
                z = chain.ddpm_step(z, clean, index, draw, learned)
            else:
                z = chain.ddim_step(z, clean, index, options["eta"], draw)
        return z.clamp(-1, 1)

    def describe(self) -> dict[str, str | float | int]:
        """What decides pictures besides weights and seed."""
        kept = ("sampler", "eta", "start")
        told = {name: self.options[name] for name in kept}
        return {**told, "steps": len(self.chain), "guidance": 0.0}
