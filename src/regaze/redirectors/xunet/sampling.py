"""How the X-UNet makes pictures: samplers, guidance and what is computed once per picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from regaze.diffusion.guidance import guided
from regaze.diffusion.noise import image_noise
from regaze.diffusion.preconditioning import per_image
from regaze.diffusion.samplers import ancestral, evaluations, sample
from regaze.diffusion.schedules import alpha_sigma, cosine_grid, karras_sigmas, sigma_from_logsnr
from regaze.redirectors.base import Batch
from regaze.redirectors.xunet.network import XUNet
from regaze.redirectors.xunet.objective import Objective

SOURCE_LOGSNR = 20.0
"""Level told for the source frame, which is clean."""

Inputs = Callable[[Batch, torch.Tensor], dict[str, torch.Tensor]]


class PictureSampler:
    """Samples pictures of one network.

    Args:
        net: the network.
        objective: what it predicts.
        options: the ``sampling:`` section.
        inputs: ``(batch, source images) -> everything the network is told but the noisy image and
            its level``.
    """

    def __init__(self, net: XUNet, objective: Objective, options: Mapping, inputs: Inputs):
        self.net, self.objective, self.options, self.inputs = net, objective, options, inputs

    def redirect(
        self, batch: Batch, *, seed: int, weights: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Sample redirected pictures; see :class:`~regaze.redirectors.base.Redirector`."""
        if weights is not None:
            return torch.stack([self._redirect(batch, seed, weight) for weight in weights])
        return self._redirect(batch, seed, self.options["guidance"])

    def _redirect(self, batch: Batch, seed: int, weight: float) -> torch.Tensor:
        source, pairs = batch["source"], batch["pair"].tolist()
        inputs = self.inputs(batch, source)
        base = inputs.get("base")
        if self.objective.regression:
            keep = torch.ones(len(source), dtype=torch.bool, device=source.device)
            level = torch.ones(len(source), device=source.device)
            made = self.objective.denoise(self._network(inputs, keep), source, level, base)
            return made.clamp(-1, 1)

        def noise(stream: int) -> torch.Tensor:
            return image_noise(seed, pairs, source.shape[1:], stream).to(source.device)

        denoise = self._denoiser(inputs, True)
        if weight != 0:
            conditioned = denoise
            unconditioned = self._denoiser({**inputs, "x": noise(1)}, False)

            def denoise(z, sigma):
                return guided(conditioned(z, sigma), unconditioned(z, sigma), weight)

        if self.options["sampler"] == "ancestral":
            return self._ancestral(denoise, noise).clamp(-1, 1)
        sigmas = karras_sigmas(
            self.options["steps"], self.options["sigma_min"], self.options["sigma_max"]
        )
        first = float(sigmas[0]) * noise(0)
        start = first if base is None else base + first
        return sample(self.options["sampler"], denoise, start, sigmas).clamp(-1, 1)

    def _network(self, inputs: dict[str, torch.Tensor], keep: torch.Tensor, prepared=None):
        def network(noisy, logsnr):
            levels = torch.stack([torch.full_like(logsnr, SOURCE_LOGSNR), logsnr], 1)
            return self.net({**inputs, "z": noisy, "logsnr": levels}, keep, prepared)

        return network

    def _denoiser(self, inputs, conditioned: bool):
        """A denoiser of noisy images that computes what does not depend on them once."""
        count, device = len(inputs["x"]), inputs["x"].device
        keep = torch.full((count,), conditioned, dtype=torch.bool, device=device)
        levels = torch.full((count, 2), SOURCE_LOGSNR, device=device)
        prepared = self.net.prepare({**inputs, "z": inputs["x"], "logsnr": levels}, keep)
        network = self._network(inputs, keep, prepared)

        def denoise(z, sigma):
            return self.objective.denoise(network, z, sigma, inputs.get("base")).clamp(-1, 1)

        return denoise

    def _ancestral(self, denoise, noise) -> torch.Tensor:
        """3DiM's sampler over the cosine schedule, for any parameterisation."""

        def predict(z, logsnr):
            alpha, sigma = (per_image(value, z) for value in alpha_sigma(logsnr))
            return (z - alpha * denoise(z / alpha, sigma_from_logsnr(logsnr))) / sigma

        grid = cosine_grid(self.options["steps"])
        return ancestral(predict, noise(0), grid, lambda step: noise(2 + step))

    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture: those of the sampler, doubled by guidance."""
        if self.objective.regression:
            return 1
        once = evaluations(self.options["sampler"], self.options["steps"])
        return once * (2 if self.options["guidance"] > 0 else 1)

    def describe(self) -> dict[str, str | float | int]:
        """Sampler, steps, noise range and guidance weight."""
        if self.objective.regression:
            return {"sampler": "none (regression)", "steps": 1, "guidance": 0.0}
        names = ("sampler", "steps", "sigma_min", "sigma_max", "guidance")
        return {name: self.options[name] for name in names}
