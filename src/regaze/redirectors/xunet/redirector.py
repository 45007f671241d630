"""The X-UNet family as a redirector: poses from labels, training losses, sampling."""

from __future__ import annotations

import torch
from torch import nn

from regaze.diffusion.noise import image_noise
from regaze.diffusion.samplers import sample
from regaze.redirectors.base import Batch, Needs, Redirector
from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.objective import Objective
from regaze.redirectors.xunet.rays import gaze_poses
from regaze.redirectors.xunet.warp import warp_head


class XUNetRedirector(Redirector):
    """Pose-conditioned diffusion from a source face to a target gaze and head pose."""

    needs = Needs(target="gaze and head angles")

    def __init__(self, config: dict, sampling: dict):
        super().__init__()
        self.config, self.sampling = config, sampling
        size, options = config["size_px"], config["objective"]
        self.net = XUNet(
            XUNetConfig(
                height=size,
                width=size,
                pos_octaves=config["pose"]["pos_octaves"],
                **config["network"],
            )
        )
        self.objective = Objective(
            **{name: options[name] for name in Objective.__dataclass_fields__}
        )
        self.base, self.drop_prob = options["base"], options["drop_prob"]
        if sampling.get("guidance", 0) > 0 and self.drop_prob == 0:
            raise ValueError(
                f"sampling.guidance: {sampling['guidance']} needs a model trained with "
                "objective.drop_prob above 0"
            )

    @property
    def network(self) -> nn.Module:
        """The X-UNet."""
        return self.net

    def losses(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """The weighted denoising error; a share of the batch is trained unconditioned."""
        target, device = batch["target"], batch["target"].device
        count = len(target)
        keep = torch.rand(count, generator=generator, device=device) >= self.drop_prob
        noise = torch.randn(target.shape, generator=generator, device=device)
        source = batch["source"]
        if self.drop_prob > 0:
            blank = torch.randn(source.shape, generator=generator, device=device)
            source = torch.where(keep[:, None, None, None], source, blank)
        sigma = self.objective.draw_sigma(count, generator)
        noisy = target + sigma[:, None, None, None] * noise
        inputs = self._inputs(batch, source)
        estimate = self.objective.denoise(
            self._network(inputs, keep), noisy, sigma, inputs.get("base")
        )
        return {"loss": self.objective.loss(estimate, target, noisy, sigma)}

    def _inputs(self, batch: Batch, source: torch.Tensor) -> dict[str, torch.Tensor]:
        """Everything the network is told but the noisy image and its level."""
        names = ("source_gaze", "target_gaze", "source_head", "target_head")
        R, t, K = gaze_poses(
            *(batch[name] for name in names), source.shape[-1], self.config["pose"]["mode"]
        )
        inputs = {"x": source, "R": R, "t": t, "K": K}
        if self.base == "warp":
            inputs["base"] = warp_head(batch["source"], batch["source_head"], batch["target_head"])
        elif self.base == "source":
            inputs["base"] = batch["source"]
        return inputs

    def _network(self, inputs: dict[str, torch.Tensor], keep: torch.Tensor, prepared=None):
        def network(noisy, logsnr):
            levels = torch.stack([torch.full_like(logsnr, 20.0), logsnr], 1)
            return self.net({**inputs, "z": noisy, "logsnr": levels}, keep, prepared)

        return network

    def redirect(self, batch: Batch, *, seed: int) -> torch.Tensor:
        """Sample redirected pictures; see :class:`~regaze.redirectors.base.Redirector`."""
        source, pairs = batch["source"], batch["pair"]
        inputs = self._inputs(batch, source)
        count = len(source)
        base = inputs.get("base")
        if self.objective.parameterization == "regression":
            every = torch.ones(count, dtype=torch.bool, device=source.device)
            sigma = torch.ones(count, device=source.device)
            return self.objective.denoise(self._network(inputs, every), source, sigma, base).clamp(
                -1, 1
            )
        noise = image_noise(seed, pairs, source.shape[1:], stream=0).to(source.device)
        w = self.sampling.get("guidance", 0.0)
        conditioned = self._denoiser(inputs, True)
        denoiser = conditioned
        if w > 0:
            blank = image_noise(seed, pairs, source.shape[1:], stream=1).to(source.device)
            unconditioned = self._denoiser({**inputs, "x": blank}, False)

            def denoiser(z, sigma):
                return (1 + w) * conditioned(z, sigma) - w * unconditioned(z, sigma)

        centre = torch.zeros_like(source) if base is None else base
        first = centre + self.sampling["sigma_max"] * noise
        return sample(
            self.sampling["sampler"],
            denoiser,
            first,
            steps=self.sampling["steps"],
            sigma_min=self.sampling["sigma_min"],
            sigma_max=self.sampling["sigma_max"],
            noise=lambda step: image_noise(seed, pairs, source.shape[1:], stream=2 + step).to(
                source.device
            ),
        ).clamp(-1, 1)

    def _denoiser(self, inputs, conditioned: bool):
        count, device = len(inputs["x"]), inputs["x"].device
        keep = torch.full((count,), conditioned, dtype=torch.bool, device=device)
        levels = torch.full((count, 2), 20.0, device=device)
        prepared = self.net.prepare({**inputs, "z": inputs["x"], "logsnr": levels}, keep)
        network = self._network(inputs, keep, prepared)

        def denoiser(z, sigma):
            level = torch.full((count,), float(sigma), device=device)
            return self.objective.denoise(network, z, level, inputs.get("base")).clamp(-1, 1)

        return denoiser

    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture: steps, doubled by guidance and by Heun."""
        if self.objective.parameterization == "regression":
            return 1
        steps = self.sampling["steps"]
        per_step = 2 * steps - 1 if self.sampling["sampler"] == "heun" else steps
        return per_step * (2 if self.sampling.get("guidance", 0) > 0 else 1)

    def describe_sampling(self) -> dict[str, str | float | int]:
        """Sampler, steps, noise range and guidance weight."""
        if self.objective.parameterization == "regression":
            return {"sampler": "none (regression)", "steps": 1, "guidance": 0.0}
        names = ("sampler", "steps", "sigma_min", "sigma_max", "guidance")
        return {name: self.sampling[name] for name in names}


def build(config: dict, sampling: dict) -> XUNetRedirector:
    """Build the redirector of a resolved configuration."""
    return XUNetRedirector(config, sampling)
