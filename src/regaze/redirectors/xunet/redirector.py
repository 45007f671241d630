"""The X-UNet family as a redirector: poses from labels, training losses, sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from regaze.diffusion.losses import dropped_source
from regaze.diffusion.preconditioning import per_image
from regaze.redirectors.base import Batch, Needs, Redirector
from regaze.redirectors.xunet.codeprocessor import warm_start
from regaze.redirectors.xunet.codes import TARGET_CODES, code_statistics, target_code
from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.objective import Objective
from regaze.redirectors.xunet.rays import gaze_poses
from regaze.redirectors.xunet.sampling import SOURCE_LOGSNR, PictureSampler
from regaze.redirectors.xunet.start import fitted
from regaze.redirectors.xunet.warp import warp_head
from regaze.weights import load_strictly


class XUNetRedirector(Redirector):
    """Pose-conditioned diffusion from a source face to a target gaze and head pose."""

    def __init__(self, config: dict, sampling: dict):
        super().__init__()
        self.config, self.sampling = config, sampling
        self.codes = config["deca"] if config["network"].get("code", "none") != "none" else None
        kind = "source" if self.codes is None else self.codes["target_code"]
        self.needs = Needs(target=TARGET_CODES[kind], latents=self.codes is not None)
        size, options = config["size_px"], config["objective"]
        self.net = XUNet(
            XUNetConfig(
                height=size,
                width=size,
                pos_octaves=config["pose"]["pos_octaves"],
                dir_octaves=config["pose"]["dir_octaves"],
                **config["network"],
            )
        )
        self.objective = Objective(
            **{name: options[name] for name in Objective.__dataclass_fields__ if name in options}
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

    def standardise(self, codes: torch.Tensor) -> None:
        """Keep mean and deviation of the training codes in the network."""
        self.net.codeprocessor.standardise(*code_statistics(codes))

    def mean_code(self) -> torch.Tensor:
        """The mean of the training codes, of which the network is told zeros."""
        return self.net.codeprocessor.mean

    def load_start(self, state: Mapping[str, torch.Tensor]) -> None:
        """Start from trained weights; before training, after :meth:`standardise`.

        Weights of a network without codes give exactly its pictures at first, with the statistics
        of this training's codes. Weights of one with codes are taken with the statistics that they
        were trained with. Those of another image size fit too, by
        :func:`regaze.redirectors.xunet.start.fitted`.

        Raises:
            ValueError: keys or shapes do not fit; all are listed.
        """
        state = fitted(state, self.net)
        told = any("codeprocessor." in key for key in state)
        if told or self.codes is None:
            load_strictly(self.net, state)
        else:
            warm_start(self.net, state)

    def losses(
        self, batch: Batch, phase: str, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """The weighted denoising error; a share of the batch is trained unconditioned."""
        target, source = batch["target"], batch["source"]
        count, device = len(target), target.device
        draws = torch.rand(count, generator=generator, device=device)
        noise = torch.randn(target.shape, generator=generator, device=device)
        blank = torch.randn(source.shape, generator=generator, device=device)
        source, keep = dropped_source(source, blank, draws, self.drop_prob)
        sigma = self.objective.draw_sigma(count, generator)
        noisy = target + per_image(sigma, noise) * noise
        inputs = self._inputs(batch, source)
        network = self._network(inputs, keep)
        estimate = self.objective.denoise(network, noisy, sigma, inputs.get("base"))
        return {"loss": self.objective.loss(estimate, target, sigma)}

    def _inputs(self, batch: Batch, source: torch.Tensor) -> dict[str, torch.Tensor]:
        """Everything the network is told but the noisy image and its level."""
        names = ("source_gaze", "target_gaze", "source_head", "target_head")
        R, t, K = gaze_poses(
            *(batch[name] for name in names), source.shape[-1], self.config["pose"]["mode"]
        )
        inputs = {"x": source, "R": R, "t": t, "K": K}
        if self.codes is not None:
            inputs["code"] = self._codes(batch)
        if self.base == "warp":
            inputs["base"] = warp_head(batch["source"], batch["source_head"], batch["target_head"])
        elif self.base == "source":
            inputs["base"] = batch["source"]
        return inputs

    def _codes(self, batch: Batch) -> torch.Tensor:
        """Codes (B, 2, Dc) of both frames."""
        source = batch["source_code"]
        target = target_code(
            source,
            batch.get("target_code"),
            batch["source_head"],
            batch["target_head"],
            self.codes["target_code"],
            self.codes["parts"],
        )
        return torch.stack([source, target], 1)

    def _network(self, inputs: dict[str, torch.Tensor], keep: torch.Tensor, prepared=None):
        def network(noisy, logsnr):
            levels = torch.stack([torch.full_like(logsnr, SOURCE_LOGSNR), logsnr], 1)
            return self.net({**inputs, "z": noisy, "logsnr": levels}, keep, prepared)

        return network

    @property
    def sampler(self) -> PictureSampler:
        """What makes pictures of the network as it is now."""
        return PictureSampler(self.net, self.objective, self.sampling, self._inputs)

    def redirect(
        self, batch: Batch, *, seed: int, weights: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Sample redirected pictures; see :class:`~regaze.redirectors.base.Redirector`.

        Raises:
            ValueError: guidance weights, for a model that was not trained unconditioned too.
        """
        if weights is not None and any(weights) and self.drop_prob == 0:
            raise ValueError(
                f"weights: guidance {list(weights)} needs a model trained with "
                "objective.drop_prob above 0"
            )
        return self.sampler.redirect(batch, seed=seed, weights=weights)

    def record_path(self, batch: Batch, *, seed: int) -> torch.Tensor:
        """Estimates of the picture on the way; a student's few steps are not recorded."""
        if "distil" in self.config:
            return super().record_path(batch, seed=seed)
        return self.sampler.record_path(batch, seed=seed)

    def bytes_per_image(self, weights: int = 1) -> int:
        """About how much memory a picture takes while it is sampled."""
        return self.sampler.bytes_per_image(weights)

    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture."""
        return self.sampler.evaluations_per_image()

    def describe_sampling(self) -> dict[str, str | float | int]:
        """Sampler, steps, noise range and guidance."""
        return self.sampler.describe()


def build(config: dict, sampling: dict) -> XUNetRedirector:
    """Build the redirector of a resolved configuration, a student where it has ``distil``."""
    if "distil" in config:
        from regaze.redirectors.xunet.distil import XUNetStudent

        return XUNetStudent(config, sampling)
    return XUNetRedirector(config, sampling)
