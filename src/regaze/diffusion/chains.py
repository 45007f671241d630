"""Diffusion in numbered steps: the chains of DDPM and DDIM, whole or respaced.

Ho et al. 2020, Denoising diffusion probabilistic models; Song et al. 2021, Denoising diffusion
implicit models; Nichol and Dhariwal 2021, Improved denoising diffusion probabilistic models (cosine
schedule, learned range of variances, respacing; ``openai/guided-diffusion``); Choi et al. 2022,
Perception prioritized training of diffusion models (the P2 weight).

Step ``i`` of a chain of N is noisier than step ``i - 1``; images are ``z = sqrt(abar) x +
sqrt(1 - abar) n``, the variance-preserving description of :mod:`regaze.diffusion.schedules`.
Constants are float64 and are rounded to float32 where they meet images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from regaze.diffusion.preconditioning import per_image

SCHEDULES = ("linear", "cosine")


def betas_of(schedule: str, steps: int) -> np.ndarray:
    """Variances (steps,) that the steps of a schedule add, float64.

    Raises:
        ValueError: an unknown schedule.
    """
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, steps, dtype=np.float64) * (1000 / steps)
    if schedule != "cosine":
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, found {schedule!r}")
    shares = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
    return np.array([min(1 - b / a, 0.999) for a, b in zip(shares, shares[1:], strict=False)])


def kept_steps(steps: int, respacing: str | Sequence[int] = "") -> np.ndarray:
    """Numbers of the steps that a respacing keeps of a chain of ``steps``, ascending.

    Args:
        steps: of the whole chain.
        respacing: "" keeps all; ``ddimN`` every so-manieth from step 0 on, N of them; numbers, or
            their text with commas, so many in each of as many equal parts of the chain.

    Raises:
        ValueError: it cannot be had.
    """
    if respacing == "":
        return np.arange(steps)
    if isinstance(respacing, str) and respacing.startswith("ddim"):
        wanted = _whole(respacing[4:], respacing)
        for stride in range(1, steps + 1):
            if len(range(0, steps, stride)) == wanted:
                return np.arange(0, steps, stride)
        raise ValueError(f"respacing: no stride takes {wanted} of {steps} steps: {respacing!r}")
    words = respacing.split(",") if isinstance(respacing, str) else respacing
    counts = [_whole(word, respacing) for word in words]
    size, more = divmod(steps, len(counts))
    kept, start = [], 0
    for number, count in enumerate(counts):
        length = size + (number < more)
        if not 1 <= count <= length:
            raise ValueError(f"respacing: expected 1 to {length} of {length} steps, found {count}")
        stride = (length - 1) / (count - 1) if count > 1 else 1
        # Summed up, since published chains are: at halves products round otherwise.
        kept += [start + round(place) for place in accumulate([0.0] + [stride] * (count - 1))]
        start += length
    return np.array(kept)


def respacing_of(steps: int, whole: int) -> str:
    """The respacing for so many steps of a chain: by stride where there is one, else even."""
    try:
        kept_steps(whole, name := f"ddim{steps}")
    except ValueError:
        return str(steps)
    return name


def _whole(word: object, respacing: object) -> int:
    if not str(word).strip().isdigit():
        raise ValueError(
            f"respacing: expected ddimN, or numbers with commas between them, found {respacing!r}"
        )
    return int(str(word))


@dataclass(frozen=True, eq=False)
class Chain:
    """A chain of N steps.

    Attributes:
        betas: (N,) variances added.
        steps: (N,) numbers of its steps in the whole chain, as networks are told them.
    """

    betas: np.ndarray
    steps: np.ndarray

    @classmethod
    def made(cls, schedule: str, steps: int, respacing: str | Sequence[int] = "") -> Chain:
        """The chain of a schedule, respaced; see :func:`kept_steps`.

        Raises:
            ValueError: an unknown schedule, or a respacing that cannot be had.
        """
        return cls.of(schedule, steps, kept_steps(steps, respacing))

    @classmethod
    def of(cls, schedule: str, steps: int, kept: Sequence[int] | np.ndarray) -> Chain:
        """The chain of a schedule with these steps of it, numbers below ``steps`` that rise.

        Raises:
            ValueError: an unknown schedule.
        """
        betas, kept = betas_of(schedule, steps), np.asarray(kept)
        if len(kept) < steps:
            shares = np.cumprod(1 - betas)[kept]
            betas = 1 - shares / np.append(1.0, shares[:-1])
        return cls(betas, kept)

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def shares(self) -> np.ndarray:
        """abar (N,): the image's share of the variance."""
        return np.cumprod(1 - self.betas)

    @cached_property
    def shares_before(self) -> np.ndarray:
        """abar (N,) one step nearer to the image, 1 before the first."""
        return np.append(1.0, self.shares[:-1])

    @cached_property
    def shares_after(self) -> np.ndarray:
        """abar (N,) one step farther from it, 0 after the last."""
        return np.append(self.shares[1:], 0.0)

    @cached_property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratios (N,)."""
        return self.shares / (1 - self.shares)

    @cached_property
    def sigmas(self) -> np.ndarray:
        """Levels (N,) in the variance-exploding description, rising."""
        return self.snr**-0.5

    @cached_property
    def variances(self) -> np.ndarray:
        """Variances (N,) of the posterior; 0 at step 0."""
        return self.betas * (1 - self.shares_before) / (1 - self.shares)

    @cached_property
    def log_variances(self) -> np.ndarray:
        """Their logarithms (N,), that of step 1 at step 0 as well."""
        found = self.variances
        return np.log(np.append(found[1] if len(found) > 1 else self.betas[0], found[1:]))

    @cached_property
    def clean_share(self) -> np.ndarray:
        """Coefficients (N,) of the clean image in the posterior's mean."""
        return self.betas * np.sqrt(self.shares_before) / (1 - self.shares)

    @cached_property
    def noisy_share(self) -> np.ndarray:
        """Coefficients (N,) of the noisy image in it."""
        return (1 - self.shares_before) * np.sqrt(1 - self.betas) / (1 - self.shares)

    def p2_weights(self, k: float = 1.0, gamma: float = 1.0) -> np.ndarray:
        """Weights (N,) of squared errors of the noise: ``(k + snr) ** -gamma``."""
        return 1 / (k + self.snr) ** gamma

    def at(self, constants: np.ndarray, index: Tensor, like: Tensor) -> Tensor:
        """Constants of steps ``index`` (B,), to broadcast over ``like`` (B, ...)."""
        chosen = torch.from_numpy(constants).to(like.device)[index].float()
        return per_image(chosen, like)

    def diffused(self, clean: Tensor, noise: Tensor, index: Tensor) -> Tensor:
        """Images (B, ...) at steps (B,)."""
        keep, add = (
            self.at(one, index, clean) for one in (self.shares**0.5, (1 - self.shares) ** 0.5)
        )
        return keep * clean + add * noise

    def clean(self, z: Tensor, noise: Tensor, index: Tensor, clip: bool = True) -> Tensor:
        """The image that noise predicted in ``z`` (B, ...) implies, in [-1, 1] if ``clip``."""
        scale, less = (self.at(one, index, z) for one in (self.shares**-0.5, self.sigmas))
        found = scale * z - less * noise
        return found.clamp(-1, 1) if clip else found

    def noise(self, z: Tensor, clean: Tensor, index: Tensor) -> Tensor:
        """The noise in ``z`` (B, ...) over an image."""
        scale, level = (self.at(one, index, z) for one in (self.shares**-0.5, self.sigmas))
        return (scale * z - clean) / level

    def posterior_mean(self, z: Tensor, clean: Tensor, index: Tensor) -> Tensor:
        """The mean (B, ...) of what is one step nearer to the image."""
        own, other = (self.at(one, index, z) for one in (self.clean_share, self.noisy_share))
        return own * clean + other * z

    def log_variance(self, index: Tensor, like: Tensor, learned: Tensor | None = None) -> Tensor:
        """Logarithms of the variance that a DDPM step adds.

        Args:
            index: (B,) steps.
            like: (B, ...) images to broadcast over.
            learned: (B, ...) what a network says besides the noise, from -1 (the posterior's
                variance) to 1 (beta); None: beta, and at step 0 the posterior's of step 1.
        """
        if learned is None:
            largest = np.append(np.exp(self.log_variances[:1]), self.betas[1:])
            return self.at(np.log(largest), index, like)
        low, high = (self.at(one, index, like) for one in (self.log_variances, np.log(self.betas)))
        share = (learned + 1) / 2
        return share * high + (1 - share) * low

    def ddpm_step(
        self, z: Tensor, clean: Tensor, index: Tensor, draw: Tensor, learned: Tensor | None = None
    ) -> Tensor:
        """One ancestral step; ``draw`` (B, ...) standard normal is of no use at step 0."""
        mean = self.posterior_mean(z, clean, index)
        spread = torch.exp(0.5 * self.log_variance(index, z, learned))
        return mean + per_image((index > 0).to(z.dtype), z) * spread * draw

    def ddim_step(
        self, z: Tensor, clean: Tensor, index: Tensor, eta: float = 0.0, draw: Tensor | None = None
    ) -> Tensor:
        """One step of DDIM, whose noise is that over ``clean``; without ``eta`` it adds none.

        Without noise it is a step of :func:`regaze.diffusion.samplers.euler`.
        """
        found = self.noise(z, clean, index)
        before = self.shares_before
        spread = eta * np.sqrt((1 - before) / (1 - self.shares) * (1 - self.shares / before))
        made = self.at(before**0.5, index, z) * clean
        made = made + self.at(np.sqrt(np.maximum(1 - before - spread**2, 0)), index, z) * found
        if not eta:
            return made
        return made + per_image((index > 0).to(z.dtype), z) * self.at(spread, index, z) * draw

    def inverse_step(self, z: Tensor, clean: Tensor, index: Tensor) -> Tensor:
        """DDIM's step without noise the other way, to the next noisier step."""
        found = self.noise(z, clean, index)
        after = self.shares_after
        return self.at(after**0.5, index, z) * clean + self.at((1 - after) ** 0.5, index, z) * found
