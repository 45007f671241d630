"""What the X-UNet predicts, at which noise levels, and how its error is weighted.

``eps`` with ``uniform_t`` is the published objective of ``a6o/3d-diffusion-pytorch``; ``edm`` is
Karras et al. 2022; ``flow`` is rectified flow, whose times are logit-normal with ``lognormal``;
``residual_x0`` predicts the clean image as base + sigma_residual F, whose
untrained output is the base itself and whose samples carry no residual noise; ``regression`` is
that network with nothing to denoise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from regaze.diffusion.preconditioning import Preconditioning, per_image
from regaze.diffusion.schedules import (
    cosine_logsnr,
    lognormal_sigmas,
    sigma_from_logsnr,
    stratified,
)
from regaze.images import eye_boxes
from regaze.redirectors.xunet.settings import ObjectiveOptions
from regaze.training.draws import whole_batch

REGRESSION_LOGSNR = -20.0
"""Level told to a regression network: its noisy input carries no information."""

SOURCE_LOGSNR = 20.0
"""Level told for the source frame, which is clean."""

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``network(scaled noisy image (B,3,H,W), logsnr (B,)) -> (B,3,H,W)``, the rest bound to it."""


class Objective(ObjectiveOptions):
    """Prediction, noise levels and weights, as the options of ``objective:`` say."""

    @property
    def regression(self) -> bool:
        """Whether there is no noise at all."""
        return self.parameterization == "regression"

    @property
    def precondition(self) -> Preconditioning:
        """The coefficients of the prediction; residuals are counted from their base."""
        if self.parameterization in ("residual_x0", "regression"):
            return Preconditioning("x0", self.sigma_residual)
        return Preconditioning(self.parameterization, self.sigma_data)

    def draw_sigma(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Training noise levels (count,), stratified over the batch of all processes, shuffled."""
        device = generator.device
        whole, mine = whole_batch(count)
        shift = torch.rand((), generator=generator, device=device)
        order = torch.randperm(whole, generator=generator, device=device)
        uniform = stratified(shift.expand(whole), whole)[order[mine]]
        if self.noise == "uniform_t":
            return sigma_from_logsnr(cosine_logsnr(uniform))
        return lognormal_sigmas(uniform, self.lnsigma_mean, self.lnsigma_std)

    def image_weight(self, sigma: torch.Tensor) -> torch.Tensor:
        """Weights (B,) of squared image errors: the output's units, times ``loss_weight``'s."""
        precondition = self.precondition
        weight = precondition.image_weight(sigma)
        if self.loss_weight == "uniform":
            return weight
        return weight * precondition.loss_weight(sigma, self.loss_weight)

    def denoise(self, network: Network, noisy, sigma, base) -> torch.Tensor:
        """Estimate the clean image (B,3,H,W) from ``noisy`` = clean + sigma n, sigma (B,).

        ``base`` is the image that residuals are counted from, or None.
        """
        precondition = self.precondition
        if self.regression:
            level = torch.full_like(sigma, REGRESSION_LOGSNR)
            output = network(torch.zeros_like(noisy), level)
        else:
            scaled = precondition.network_input(noisy, sigma, base)
            output = network(scaled, precondition.logsnr(sigma))
        return precondition.denoised(output.float(), noisy, sigma, base)

    def loss(self, estimate, target, sigma, weight=None) -> torch.Tensor:
        """The mean squared error in units of the network's output, heavier in the eye boxes.

        ``weight`` (B,) of squared image errors takes the place of those units.
        """
        if weight is None:
            weight = self.image_weight(sigma)
        error = (estimate - target) ** 2
        error = error * per_image(weight, error)
        if self.eye_weight:
            weight = torch.ones_like(error[:1, :1])
            for left, top, right, bottom in eye_boxes(error.shape[-1]):
                weight[..., top:bottom, left:right] += self.eye_weight
            error = error * weight
        return error.mean()
