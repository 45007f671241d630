"""The X-UNet family as a redirector: poses from labels, training losses, sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from regaze.codes.condition import code_statistics, target_code
from regaze.diffusion.losses import dropped_source
from regaze.diffusion.preconditioning import per_image
from regaze.redirectors.base import Batch, Progress, Redirector, State
from regaze.redirectors.xunet.face_codes import warm_start
from regaze.redirectors.xunet.mesh_warp import MeshWarp
from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.objective import SOURCE_LOGSNR, Objective
from regaze.redirectors.xunet.rays import gaze_poses
from regaze.redirectors.xunet.sampling import PictureSampler
from regaze.redirectors.xunet.start import fitted
from regaze.redirectors.xunet.warp import warp_head
from regaze.weights import load_strictly


class XUNetRedirector(Redirector):
    """Pose-conditioned diffusion from a source face to a target gaze and head pose."""

    def __init__(self, config: dict, sampling: dict):
        super().__init__()
        self.config, self.sampling = config, sampling
        self.codes = config["deca"] if config["network"].get("code", "none") != "none" else None
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
        self.objective = Objective(**options)
        self.base, self.drop_prob = options["base"], options["drop_prob"]
        self._mesh: list[MeshWarp] = []
        if sampling.get("guidance", 0) > 0 and self.drop_prob == 0:
            raise ValueError(
                f"sampling.guidance: {sampling['guidance']} needs a model trained with "
                "objective.drop_prob above 0"
            )

    @property
    def network(self) -> nn.Module:
        """The X-UNet."""
        return self.net

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the head model of the codes' encoder, where sources are turned over it."""
        if self.config["objective"].get("warp") == "mesh" and "face" in networks:
            parts = tuple(self.config["deca"]["parts"])
            # In a list, so that it is no submodule: neither trained, averaged nor saved.
            self._mesh = [MeshWarp(networks["face"].head, parts, self.config["size_px"])]

    def fit_input(self, kind: str, values: Batch) -> None:
        """Keep mean and deviation of the training codes in the network, if it is told any."""
        if self.codes is None:
            return
        self.net.codeprocessor.standardise(*code_statistics(values["code"]))

    def load_start(self, state: Mapping[str, torch.Tensor]) -> None:
        """Start from trained weights; before training, after :meth:`fit_input`.

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

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, torch.Tensor]:
        """The weighted denoising error; a share of the batch is trained unconditioned."""
        target, source = batch["target"], batch["source"]
        count, device, generator = len(target), target.device, at.generator
        draws = torch.rand(count, generator=generator, device=device)
        noise = torch.randn(target.shape, generator=generator, device=device)
        blank = torch.randn(source.shape, generator=generator, device=device)
        source, keep = dropped_source(source, blank, draws, self.drop_prob)
        sigma = self.objective.draw_sigma(count, generator)
        noisy = target + per_image(sigma, noise) * noise
        inputs = self._inputs(batch) | {"x": source}
        network = self._network(inputs, keep)
        estimate = self.objective.denoise(network, noisy, sigma, inputs.get("base"))
        return {"loss": self.objective.loss(estimate, target, sigma)}

    def _inputs(self, batch: Batch) -> dict[str, torch.Tensor]:
        """All that the network is conditioned on, of both frames; sources may be one for all."""
        names = ("source_gaze", "target_gaze", "source_head", "target_head")
        angles = torch.broadcast_tensors(*(batch[name] for name in names))
        source = batch["source"]
        size, count = source.shape[-1], angles[0].shape[0]
        R, t, K = gaze_poses(*angles, size, self.config["pose"]["mode"])
        inputs = {"x": source.expand(count, -1, -1, -1), "R": R, "t": t, "K": K}
        if self.codes is not None:
            inputs["code"] = self._codes(batch)
        if self._mesh:
            inputs["base"], inputs["hidden"] = self._over_mesh(batch, count)
        elif self.base == "warp":
            inputs["base"] = _warped(source, batch["source_head"], batch["target_head"])
        elif self.base == "source":
            inputs["base"] = inputs["x"]
        return inputs

    def _codes(self, batch: Batch) -> torch.Tensor:
        """Codes (B, 2, Dc) of both frames; see :func:`regaze.codes.condition.target_code`.

        A source without a code has the mean of the training codes, a target without one, or
        without a photo, the source's turned as the labels say.
        """
        source = batch["source_code"]
        if "source_codes_known" in batch:
            mean = self.net.codeprocessor.mean.to(source)
            source = torch.where(batch["source_codes_known"][:, None], source, mean)
        source = source.expand(batch["target_head"].shape[0], -1)
        parts, kind = self.codes["parts"], self.codes["target_code"]
        heads = torch.broadcast_tensors(batch["source_head"], batch["target_head"])
        target = turned = target_code(source, None, *heads, "source", parts)
        if kind != "source":
            own = batch.get("target_code", turned)
            if "target_codes_known" in batch:
                own = torch.where(batch["target_codes_known"][:, None], own, turned)
            target = target_code(source, own, *heads, kind, parts)
        return torch.stack([source, target], 1)

    def _over_mesh(self, batch: Batch, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sources turned over the heads of their codes, and what they do not show.

        A source without a code has the mean head.
        """
        code = batch["source_code"]
        if "source_codes_known" in batch:
            code = torch.where(batch["source_codes_known"][:, None], code, torch.zeros_like(code))
        names = ("source_head", "target_head", "source_gaze", "target_gaze")
        labels = [batch[name].expand(count, -1) for name in names]
        source = batch["source"].expand(count, -1, -1, -1)
        return self._mesh[0](source, code.expand(count, -1), labels[:2], labels[2:])

    def _network(self, inputs: dict[str, torch.Tensor], keep: torch.Tensor, prepared=None):
        def network(noisy, logsnr):
            levels = torch.stack([torch.full_like(logsnr, SOURCE_LOGSNR), logsnr], 1)
            return self.net({**inputs, "z": noisy, "logsnr": levels}, keep, prepared)

        return network

    @property
    def sources(self) -> int:
        """Pictures of the person that denoising steps choose from."""
        return self.sampler.options["sources"]

    @property
    def sampler(self) -> PictureSampler:
        """What makes pictures of the network as it is now."""
        return PictureSampler(self.net, self.objective, self.sampling, self._inputs)

    def invert(self, source: Batch, *, seed: int) -> State:
        """The sources as they are and, with two frames, what the network makes of them alone."""
        return self.sampler.invert(source)

    def edit(
        self, state: State, target: Batch, *, seed: int, weights: Sequence[float] | None = None
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
        return self.sampler.edit(state, target, seed=seed, weights=weights)

    def record_path(self, state: State, target: Batch, *, seed: int) -> torch.Tensor:
        """Estimates of the picture on the way."""
        return self.sampler.record_path(state, target, seed=seed)

    def bytes_per_image(self, weights: int = 1) -> int:
        """About how much memory a picture takes while it is sampled."""
        return self.sampler.bytes_per_image(weights)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """The noise that pictures start from."""
        return self.sampler.noise_shapes()

    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture."""
        return self.sampler.evaluations_per_image()

    def describe_sampling(self) -> dict[str, str | float | int]:
        """Sampler, steps, noise range and guidance, and whose codes targets have."""
        told = {} if self.codes is None else {"target_code": self.codes["target_code"]}
        return {**self.sampler.describe(), **told}


def _warped(
    source: torch.Tensor, source_head: torch.Tensor, target_head: torch.Tensor
) -> torch.Tensor:
    """Sources (B,3,H,W) warped to heads (B,2); one source (1,...) is warped once per head."""
    if source.shape[0] == target_head.shape[0]:
        return warp_head(source, source_head, target_head)
    heads, rows = target_head.unique(dim=0, return_inverse=True)
    count = heads.shape[0]
    made = warp_head(source.expand(count, -1, -1, -1), source_head.expand(count, -1), heads)
    return made[rows]


def build(config: dict, sampling: dict) -> XUNetRedirector:
    """Build the redirector of a resolved configuration, a student where it has ``distil``."""
    if "distil" in config:
        from regaze.redirectors.xunet.distil import XUNetStudent

        return XUNetStudent(config, sampling)
    return XUNetRedirector(config, sampling)
