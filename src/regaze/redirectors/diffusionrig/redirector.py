"""DiffusionRig as a redirector: codes are edited and rendered, and pictures drawn over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from regaze.codes import code_columns
from regaze.codes.condition import turned_root
from regaze.diffusion.chains import Chain
from regaze.diffusion.preconditioning import per_image
from regaze.face3d.editions import foreign_head
from regaze.images import eye_boxes
from regaze.redirectors.base import Batch, Redirector, State
from regaze.redirectors.diffusionrig.checkpoints import inferred, read_checkpoint, widened
from regaze.redirectors.diffusionrig.network import RigConfig, RigNetwork
from regaze.redirectors.diffusionrig.process import Prediction, RigSampler
from regaze.redirectors.diffusionrig.rendering import Drawn, Rendered, in_light, kept_codes
from regaze.redirectors.diffusionrig.settings import BASE, CHANNELS, PARTS
from regaze.training.phases import Phase, Progress
from regaze.weights import load_strictly

_COLUMNS = code_columns(PARTS)


class DiffusionRig(Redirector):
    """See :mod:`regaze.redirectors.diffusionrig`."""

    def __init__(self, config: Mapping, sampling: Mapping):
        super().__init__()
        self.config, self.sampling = config, sampling
        self.net = RigNetwork(network_config(config))
        if config["mean_shape"]:
            # With the weights, since pictures are made with it as well.
            size = _COLUMNS["shape"].stop - _COLUMNS["shape"].start
            self.net.register_buffer("mean_shape", torch.zeros(size))
        objective = config["objective"]
        self.chain = Chain.made(objective["schedule"], objective["steps"])
        self.weights = self.chain.p2_weights(objective["p2_k"], objective["p2_gamma"])
        self.predicts = Prediction(objective["predict"], objective["sigma_residual"])
        if config["stage"] == 2:
            self.net.encoder.requires_grad_(False)
        self._face: list[Rendered] = []

    @property
    def network(self) -> nn.Module:
        """The U-Net and the encoder of pictures."""
        return self.net

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the head model of the codes' encoder.

        Raises:
            ValueError: published weights belong to another one.
        """
        if "checkpoint" in self.config:
            stated = self.config.get("head_sha256")
            if fault := foreign_head(networks["face"].head, stated):
                raise ValueError(f"{self.config['checkpoint']}: {fault}")
        size, gaze = self.config["size_px"], self.config["variant"] == "gaze"
        self._face = [Rendered(networks["face"], size, gaze, self.config["cache_mb"])]

    @property
    def face(self) -> Rendered:
        """What renders buffers."""
        return self._face[0]

    def fit_input(self, kind: str, values: Batch) -> None:
        """Learn the mean shape of the pictures that are trained on."""
        if kind == "codes" and self.config["mean_shape"]:
            self.net.mean_shape.copy_(values["code"][:, _COLUMNS["shape"]].mean(0))

    def load_start(self, state: Mapping[str, Tensor]) -> None:
        """Start from trained weights, of stage 1 or published ones; before training.

        Where buffers are more than those weights know, their columns begin at zero. The mean shape
        is that of this training.

        Raises:
            ValueError: keys or shapes do not fit; all are listed, and the network that they are of.
        """
        own = {key: value for key, value in state.items() if key != "mean_shape"}
        if self.config["mean_shape"]:
            own["mean_shape"] = self.net.mean_shape
        own = widened(own, self.net.config.inputs)
        try:
            load_strictly(self.net, own)
        except ValueError as error:
            try:
                of = inferred(own, self.net.config)
            except ValueError:
                raise error from None
            raise ValueError(f"{error}; they are of {of}") from None

    def phases(self) -> list[Phase]:
        """The networks, in stage 2 the U-Net alone."""
        return [Phase("main", [one for one in self.net.parameters() if one.requires_grad])]

    # Training.

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """The weighted squared error of what is predicted of targets, drawn with their codes."""
        target, generator = batch["target"], at.generator
        count, device = len(target), target.device
        index = torch.randint(len(self.chain), (count,), generator=generator, device=device)
        noise = torch.randn(target.shape, generator=generator, device=device)
        seen = target if self.config["objective"]["code_of"] == "own" else batch["source"]
        buffers = self._training_buffers(batch)
        found = self.net(
            self.chain.diffused(target, noise, index),
            torch.from_numpy(self.chain.steps).to(device)[index],
            buffers,
            self._encoded(seen),
        )
        if self.predicts.kind == "residual":
            residual = (target - self.predicts.base(buffers)) / self.predicts.sigma
            error = (found[:, :3].float() - residual).square()
            weight = torch.ones_like(error)
        else:
            error = (found[:, :3].float() - noise).square()
            weight = per_image(torch.from_numpy(self.weights).to(device)[index], error)
        loss = (weight * error * self._eye_weights(error)).mean()
        return {"loss": loss, "mse": error.mean().detach()}

    def _eye_weights(self, like: Tensor) -> Tensor:
        weights = torch.ones_like(like[:1, :1])
        if more := self.config["objective"]["eye_weight"]:
            for left, top, right, bottom in eye_boxes(like.shape[-1]):
                weights[..., top:bottom, left:right] += more
        return weights

    def _encoded(self, pictures: Tensor) -> Tensor:
        if self.config["stage"] == 1:
            return self.net.encode(pictures)
        # Its batch norms must not learn the batches of one person.
        training = self.net.encoder.training
        self.net.encoder.eval()
        try:
            return self.net.encode(pictures)
        finally:
            self.net.encoder.train(training)

    def _training_buffers(self, batch: Batch) -> Tensor:
        after = self._of_rows(batch, "target")
        if self.config["objective"]["light"] == "source":
            after = in_light(after, kept_codes(batch["source_code"])["light"])
        if self.config["objective"]["base"] == "none":
            return after.buffers
        before = self._of_rows(batch, "source")
        return with_base(after.buffers, self.face.base(batch["source"], before, after))

    def _of_rows(self, batch: Batch, side: str) -> Drawn:
        codes = kept_codes(batch[f"{side}_code"])
        if self.config["mean_shape"]:
            codes["shape"] = self.net.mean_shape.expand_as(codes["shape"])
        rows, crop = batch[f"{side}_row"], batch[f"{side}_crop"]
        return self.face.of_rows(rows, codes, crop, known_of(batch, side), batch[f"{side}_gaze"])

    # Pictures.

    @property
    def sampler(self) -> RigSampler:
        """What makes pictures of the networks as they are now."""
        objective = self.config["objective"]
        chain = (objective["schedule"], objective["steps"])
        return RigSampler(self.net, *chain, self.sampling, self.predicts)

    def invert(self, source: Batch, *, seed: int) -> State:
        """Codes of sources and, where pictures begin at it, the noise that they came of."""
        code = source["source_code"].float()
        found = {
            "latent": self._encoded(source["source"]).float(),
            "code": code,
            "crop": source["source_crop"],
            "known": known_of(source, "source"),
            "head": source["source_head"],
            "gaze": source["source_gaze"],
        }
        if self.config["objective"]["base"] != "none":
            own = self._drawn(found, kept_codes(code), found["gaze"], None)
            found |= {"source": source["source"], "points": own.points}
            found["rendered"] = own.buffers[:, :3]
        if self.sampling["start"] == "inverted":
            same = {"target_head": found["head"], "target_gaze": found["gaze"]}
            buffers = self._edited_buffers(found, same)
            found["start"] = self.sampler.inverted(source["source"], buffers, found["latent"])
        return found

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Sources drawn over their edited codes; see :class:`~regaze.redirectors.base.Redirector`.

        A factor that the target does not tell stays the source's.
        """
        return self._made(state, target, seed)

    def record_path(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Estimates of the pictures on the way."""
        steps = len(self.sampler.chain)
        kept = set(np.linspace(0, steps - 1, min(steps, 39)).round().astype(int).tolist())
        seen: list[Tensor] = []

        def watch(step: int, clean: Tensor) -> None:
            if step in kept:
                seen.append(clean.clamp(-1, 1))

        made = self._made(state, target, seed, watch)
        return torch.stack([*seen, made])

    def _made(self, state: State, target: Batch, seed: int, watch=None) -> Tensor:
        count = len(target["target_head"])
        whole = {name: value.expand(count, *value.shape[1:]) for name, value in state.items()}
        buffers = self._edited_buffers(whole, target)
        given = {"seed": seed, "pairs": target["pair"], "start": whole.get("start")}
        return self.sampler.made(buffers, whole["latent"], **given, watch=watch)

    def _edited_buffers(self, state: Mapping[str, Tensor], target: Batch) -> Tensor:
        """Buffers (B, C, S, S) of sources as targets describe them."""
        own = kept_codes(state["code"])
        codes = edited(own, state["head"], target)
        after = self._drawn(state, codes, target["target_gaze"], own)
        if "source" not in state:
            return after.buffers
        before = replace(after, buffers=state["rendered"], points=state["points"])
        return with_base(after.buffers, self.face.base(state["source"], before, after))

    def _drawn(self, state: Mapping[str, Tensor], codes, gaze: Tensor, unedited) -> Drawn:
        codes = dict(codes)
        if self.config["mean_shape"]:
            codes["shape"] = self.net.mean_shape.expand_as(codes["shape"])
        return self.face.edited(codes, unedited, state["crop"], state["known"], gaze)

    def bytes_per_image(self, weights: int = 1) -> int:
        """About how much memory a picture takes: the finest level's maps."""
        own = self.net.config
        size = self.config["size_px"] // own.unshuffle
        return 4 * size**2 * int(own.channels * own.factors[0]) * 8 * (own.blocks + 1)

    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture."""
        return self.sampler.evaluations

    def describe_sampling(self) -> dict[str, str | float | int]:
        """Sampler, steps and where pictures begin."""
        return self.sampler.describe()

    # Published weights.

    def read_reference(self, path: str) -> Mapping:
        """See :func:`regaze.redirectors.diffusionrig.checkpoints.read_checkpoint`."""
        return read_checkpoint(path)

    def reference_config(self, state: Mapping[str, Tensor], config: Mapping) -> dict:
        """The configuration with the network that published weights are of.

        Raises:
            ValueError: they are of no such network, or of a side that does not fit.
        """
        of, size = inferred(state, self.net.config), config["size_px"]
        if size % 2 ** (len(of.factors) - 1):
            raise ValueError(
                f"size_px: expected a multiple of {2 ** (len(of.factors) - 1)} for a network of "
                f"{len(of.factors)} levels, found {size}"
            )
        return {**config, "network": {**config["network"], **_told(of, size)}}


def network_config(config: Mapping) -> RigConfig:
    """What networks of a resolved configuration are made of."""
    own, size = dict(config["network"]), config["size_px"]
    places = sorted(size // own["unshuffle"] // px for px in own.pop("attention_px"))
    outputs = 6 if own.pop("learned_range") else 3
    own["factors"] = tuple(own["factors"])
    inputs = 3 + CHANNELS[config["variant"]] + (3 if config["objective"]["base"] != "none" else 0)
    return RigConfig(**own, attention=tuple(places), inputs=inputs, outputs=outputs)


def _told(own: RigConfig, size: int) -> dict:
    names = ("channels", "blocks", "block_resampling", "latent", "encoder")
    return {
        **{name: getattr(own, name) for name in names},
        "factors": list(own.factors),
        "attention_px": [size // own.unshuffle // factor for factor in own.attention],
        "learned_range": own.outputs == 6,
    }


def with_base(buffers: Tensor, base: Tensor) -> Tensor:
    """Buffers (B, C + 3, S, S) with the picture that predictions are counted from in its place."""
    return torch.cat([buffers[:, : BASE.start], base, buffers[:, BASE.start :]], 1)


def known_of(batch: Batch, side: str) -> Tensor:
    """Rows (B,) bool of a side that have a code and a place of it."""
    known = torch.ones(
        len(batch[f"{side}_code"]), dtype=torch.bool, device=batch[f"{side}_code"].device
    )
    for kind in ("codes", "crops"):
        if (name := f"{side}_{kind}_known") in batch:
            known = known & batch[name]
    return known


def edited(own: Mapping[str, Tensor], head: Tensor, target: Batch) -> dict[str, Tensor]:
    """Codes as targets describe them.

    Args:
        own: of sources, by name, B rows.
        head: (B, 2) their head labels.
        target: ``target_head`` (B, 2) turns the head by as much as labels differ;
            ``target_expression``, ``target_jaw`` and ``target_light`` (B, n), where they are there
            and finite, replace what sources have.
    """
    codes = dict(own)
    pose = codes["pose"].clone()
    pose[:, :3] = turned_root(pose[:, :3], head, target["target_head"])
    pose[:, 3:] = _replaced(pose[:, 3:], target.get("target_jaw"))
    codes["pose"] = pose
    codes["exp"] = _replaced(codes["exp"], target.get("target_expression"))
    codes["light"] = _replaced(codes["light"], target.get("target_light"))
    return codes


def _replaced(own: Tensor, other: Tensor | None) -> Tensor:
    if other is None:
        return own
    other = other.to(own)
    return torch.where(other.isfinite().all(1, keepdim=True), other, own)


def build(config: dict, sampling: dict) -> DiffusionRig:
    """Build the redirector of a resolved configuration."""
    return DiffusionRig(config, sampling)
