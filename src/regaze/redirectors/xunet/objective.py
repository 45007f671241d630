"""What the X-UNet predicts, at which noise levels, and how its error is weighted.

Noise levels are written in the variance-exploding form: sigma = exp(-logsnr / 2), z = x0 + sigma
n (divide the port's z by alpha to get it). ``eps`` with ``uniform_t`` is the published objective
of ``a6o/3d-diffusion-pytorch``; ``edm`` is Karras et al. 2022; ``residual_x0`` predicts the clean
image as base + sigma_residual F, whose untrained output is the base itself and whose samples
carry no residual noise; ``regression`` is that network with nothing to denoise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from regaze.diffusion.schedules import CosineSchedule
from regaze.images import eye_boxes

REGRESSION_LOGSNR = -20.0
"""Noise level told to a regression network: it is given no information by its noisy input."""


@dataclass(frozen=True)
class Objective:
    """The options of ``objective:`` as numbers; see the settings of this method for their meaning.

    A *network* below is a callable ``network(noisy, logsnr) -> (B,3,H,W)`` with everything else
    (source, poses, base) bound to it.
    """

    parameterization: str
    noise: str
    lnsigma_mean: float
    lnsigma_std: float
    sigma_data: float
    sigma_residual: float
    eye_weight: float

    def draw_sigma(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Training noise levels (count,), stratified over the batch."""
        device = generator.device
        place = torch.arange(count, device=device)
        shift = torch.rand(1, generator=generator, device=device)
        uniform = ((place + shift) / count).clamp(1e-4, 1 - 1e-4)
        order = torch.randperm(count, generator=generator, device=device)
        uniform = uniform[order]
        if self.noise == "uniform_t":
            return torch.exp(-CosineSchedule().logsnr(uniform) / 2).float()
        normal = math.sqrt(2) * torch.erfinv(2 * uniform - 1)
        return torch.exp(self.lnsigma_mean + self.lnsigma_std * normal)

    def denoise(
        self,
        network: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        base: torch.Tensor | None,
    ) -> torch.Tensor:
        """The estimate of the clean image (B,3,H,W) from ``noisy`` = x0 + sigma n, sigma (B,)."""
        output = network(*self.inputs(noisy, sigma, base)).float()
        s = sigma[:, None, None, None]
        if self.parameterization in ("residual_x0", "regression"):
            return base + self.sigma_residual * output
        if self.parameterization == "edm":
            total = s**2 + self.sigma_data**2
            skip, out = self.sigma_data**2 / total, s * self.sigma_data / total.sqrt()
            return skip * noisy + out * output
        alpha = (1 + s**2).rsqrt()
        if self.parameterization == "v":
            return alpha**2 * noisy - s * alpha * output
        return noisy - s * output

    def inputs(self, noisy, sigma, base) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network is given: the scaled noisy image and its log signal-to-noise ratio."""
        s = sigma[:, None, None, None]
        if self.parameterization == "regression":
            return torch.zeros_like(noisy), torch.full_like(sigma, REGRESSION_LOGSNR)
        if self.parameterization == "residual_x0":
            scale = (s**2 + self.sigma_residual**2).rsqrt()
            ratio = sigma / self.sigma_residual
            return scale * (noisy - base), (-2 * ratio.log()).clamp(-20, 20)
        if self.parameterization == "edm":
            ratio = sigma / self.sigma_data
            scale = (s**2 + self.sigma_data**2).rsqrt()
            return scale * noisy, (-2 * ratio.log()).clamp(-20, 20)
        return (1 + s**2).rsqrt() * noisy, (-2 * sigma.log()).clamp(-20, 20)

    def loss(self, estimate, target, noisy, sigma) -> torch.Tensor:
        """Weighted squared error of the clean estimate, scaled to that of the network's output."""
        s = sigma[:, None, None, None]
        if self.parameterization in ("residual_x0", "regression"):
            scale = 1 / self.sigma_residual**2
        elif self.parameterization == "edm":
            scale = (s**2 + self.sigma_data**2) / (s * self.sigma_data) ** 2
        elif self.parameterization == "v":
            scale = (1 + s**2) / s**2
        else:
            scale = 1 / s**2
        error = (estimate - target) ** 2 * scale
        if self.eye_weight:
            weight = torch.ones_like(error[:1, :1])
            for left, top, right, bottom in eye_boxes(error.shape[-1]):
                weight[..., top:bottom, left:right] += self.eye_weight
            error = error * weight
        return error.mean()
