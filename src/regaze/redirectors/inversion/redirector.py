"""A generator and its encoder, trained in turns with what judges them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.build import build_estimator
from regaze.estimators.objective import angular_loss
from regaze.images import eye_boxes, reduce_patches, to_uint8
from regaze.redirectors.base import Batch, Phase, Progress, Redirector, State
from regaze.redirectors.sted.compact import CompactTrunk
from regaze.redirectors.sted.objective import held
from regaze.stylegan.checkpoints import Inverter, read_e4e
from regaze.stylegan.discriminator import (
    Discriminator,
    LatentDiscriminator,
    delta_norm,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
)
from regaze.stylegan.generator import Generator, face_pool

_LAZY = {"r1": 16, "path": 4}
_FOLLOW = 0.01
"""Share of a batch in the running means of codes and path lengths."""
_GAN = {"betas": (0.0, 0.99)}
_MAP = 8


class CompactEncoder(CompactTrunk):
    """Faces (B,3,S,S) to offsets (B, rows, dim): a style for all rows, and what each differs by.

    Args:
        rows, dim: of a code.
        size_px: side of the faces.
        width, hidden: of the trunk.
        trunk: a second one, that of an estimator; it stays as it is, as e4e's begins as that of a
            recogniser. Without it where eyes look is not in a code before many more faces are seen.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        size_px: int,
        width: int,
        hidden: int,
        trunk: GazeHeadEstimator | None = None,
    ):
        super().__init__(_MAP, width, hidden)
        self.rows, told = rows, _MAP * (size_px // 8) ** 2 + hidden
        self.trunk = trunk
        if trunk is not None:
            trunk.requires_grad_(False).eval()
            told += trunk.embedding_size
        self.shared, self.deltas = nn.Linear(told, dim), nn.Linear(told, (rows - 1) * dim)
        nn.init.normal_(self.deltas.weight, std=0.01)
        nn.init.zeros_(self.deltas.bias)

    def train(self, mode: bool = True) -> CompactEncoder:
        """Norms of the estimator's trunk stay as they were learnt."""
        super().train(mode)
        if self.trunk is not None:
            self.trunk.eval()
        return self

    def forward(self, images: Tensor, stage: int | None = None) -> Tensor:
        """Return offsets; rows after ``stage`` are as the first."""
        parts = self.read(images)
        if self.trunk is not None:
            with torch.no_grad():
                parts = (*parts, self.trunk.embed(images))
        told = torch.cat(parts, 1)
        shared = self.shared(told)[:, None]
        deltas = self.deltas(told).unflatten(1, (self.rows - 1, -1))
        if stage is not None:
            deltas = deltas * (torch.arange(1, self.rows, device=deltas.device) <= stage)[:, None]
        return torch.cat([shared, shared + deltas], 1).float()


class Inversion(Redirector):
    """See :mod:`regaze.redirectors.inversion`."""

    def __init__(self, config: Mapping):
        super().__init__()
        self.config, self.objective = config, config["objective"]
        options = config["network"]
        shape = {name: options[name] for name in ("style_dim", "n_mlp", "channel_multiplier")}
        decoder = Generator(options["generator_px"], width=options["channels"], **shape)
        encoder = None
        if options["encoder"] == "compact":
            size = config["size_px"], options["width"], options["hidden"]
            trunk = None
            if options["trunk"] != "none":
                trunk = build_estimator("vgg", options["trunk"], config["size_px"], "none")
            encoder = CompactEncoder(decoder.n_latent, decoder.style_dim, *size, trunk)
        self.net = nn.ModuleDict({"inverter": Inverter(decoder, encoder)})
        if "checkpoint" not in config:
            sizes = options["generator_px"], options["channel_multiplier"], options["channels"]
            self.net["discriminator"] = Discriminator(*sizes)
            self.net["latent"] = LatentDiscriminator(decoder.style_dim)
            self.net.register_buffer("path_mean", torch.zeros(()))
        self._estimator: list[nn.Module] = []

    @property
    def network(self) -> nn.Module:
        """Generator, encoder, and the discriminators of pictures and codes."""
        return self.net

    @property
    def saved(self) -> Inverter:
        """Generator, encoder and average code."""
        return self.net["inverter"]

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the estimator of ``features`` and ``readings``, and its weights for ``trunk``.

        Raises:
            ValueError: it reads pictures of another size, has no features, or is of another preset
                than the trunk.
        """
        estimator = networks.get("estimator")
        if estimator is None:
            return
        found = estimator.size_px, estimator.preprocess, estimator.arch
        if found != (wanted := (self.config["size_px"], "none", "vgg")):
            raise ValueError(
                f"training estimator: size_px, preprocess, arch: expected {wanted}, found {found}"
            )
        self._estimator = [estimator]
        wanted = self.config["network"]["trunk"]
        if wanted == "none":
            return
        if estimator.preset != wanted:
            raise ValueError(
                f"training estimator: preset: expected {wanted!r} as network.trunk, found "
                f"{estimator.preset!r}"
            )
        self.saved.encoder.trunk.load_state_dict(estimator.state_dict())

    def phases(self) -> list[Phase]:
        """Judges first, then who is judged; lazy terms have steps of their own."""
        on, net = self.objective, self.net
        judge, made = list(net["discriminator"].parameters()), [*self.saved.decoder.parameters()]
        read = [one for one in self.saved.encoder.parameters() if one.requires_grad]
        after = on["encoder_after"]
        found = []
        if on["adversarial"]:
            step = on["adversarial_every"]
            found.append(Phase("discriminator", judge, _GAN, every=step))
            if on["r1"]:
                found.append(Phase("r1", judge, _GAN, every=step * _LAZY["r1"]))
            found.append(Phase("generator", made, _GAN, every=step))
            if on["path"]:
                found.append(Phase("path", made, _GAN, every=step * _LAZY["path"]))
        if on["latent_discriminator"]:
            found.append(Phase("codes", list(net["latent"].parameters()), after=after))
        if not on["joint"]:
            return [*found, Phase("encoder", read, after=after)]
        return [*found, Phase("encoder", [*read, *made], rates=(made, on["joint_rate"]))]

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Terms of a phase; ``loss`` is minimised."""
        return getattr(self, f"_{phase}_losses")(batch, at)

    def validation_loss(self, batch: Batch, at: Progress) -> Tensor:
        """The squared difference of pictures and their inversions."""
        return self._difference(batch["source"], self._inverted(batch["source"]))

    def _real(self, batch: Batch) -> Tensor:
        side = self.config["network"]["generator_px"]
        real = batch["source"]
        return real if real.shape[-1] == side else F.interpolate(real, side, mode="bilinear")

    def _styles(self, batch: Batch, at: Progress) -> Tensor:
        count, device = len(batch["source"]), batch["source"].device
        z = torch.randn(count, self.saved.decoder.style_dim, generator=at.generator, device=device)
        return self.saved.decoder.mapping(z)

    def _drawn(self, batch: Batch, at: Progress) -> Tensor:
        decoder = self.saved.decoder
        return decoder(decoder.codes(self._styles(batch, at)), generator=at.generator).float()

    def _discriminator_losses(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        judge = self.net["discriminator"]
        with torch.no_grad():
            made = self._drawn(batch, at)
        loss = discriminator_loss(judge(self._real(batch)).float(), judge(made).float())
        return {"loss": loss, "discriminator": loss.detach()}

    def _r1_losses(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        real = self._real(batch).detach().requires_grad_()
        penalty = gradient_penalty(self.net["discriminator"](real).float(), real)
        return {"loss": _LAZY["r1"] * self.objective["r1"] / 2 * penalty, "r1": penalty.detach()}

    def _generator_losses(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        decoder, styles = self.saved.decoder, self._styles(batch, at)
        with torch.no_grad():
            self.saved.latent_avg.lerp_(
                styles.float().mean(0).expand_as(self.saved.latent_avg), _FOLLOW
            )
        made = decoder(decoder.codes(styles), generator=at.generator).float()
        loss = generator_loss(held(self.net["discriminator"], made).float())
        return {"loss": self.objective["adversarial"] * loss, "generator": loss.detach()}

    def _path_losses(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Karras et al. 2020: steps in codes move pictures by the same length everywhere."""
        decoder = self.saved.decoder
        codes = decoder.codes(self._styles(batch, at))
        made = decoder(codes, generator=at.generator).float()
        noise = torch.randn(made.shape, generator=at.generator, device=made.device)
        (slope,) = torch.autograd.grad(
            (made * noise).sum() / made.shape[-1], codes, create_graph=True
        )
        lengths = slope.square().sum(2).mean(1).sqrt()
        with torch.no_grad():
            self.net.path_mean.lerp_(lengths.mean().to(self.net.path_mean), _FOLLOW)
        penalty = (lengths - self.net.path_mean).square().mean()
        return {"loss": _LAZY["path"] * self.objective["path"] * penalty, "path": penalty.detach()}

    def _codes_losses(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        latent, rows = self.net["latent"], self._offsets(batch["source"], at).detach()
        with torch.no_grad():
            real = self._styles(batch, at).float()
        made = (rows + self.saved.latent_avg).flatten(0, 1)
        loss = discriminator_loss(latent(real).float(), latent(made).float())
        return {"loss": loss, "latent_discriminator": loss.detach()}

    def _encoder_losses(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        on, images = self.objective, batch["source"]
        offsets = self._offsets(images, at)
        made = self.pictures(offsets)
        found = {"l2": self._difference(images, made)}
        total = on["l2"] * found["l2"]
        if on["features"]:
            found["features"] = self._features(images, made)
            total = total + on["features"] * found["features"]
        if on["readings"]:
            found["readings"] = self._readings(images, made)
            total = total + on["readings"] * found["readings"]
        if on["delta"]:
            found["delta"] = delta_norm(offsets, range(1, offsets.shape[1]))
            total = total + on["delta"] * found["delta"]
        if on["latent_discriminator"]:
            logits = held(self.net["latent"], (offsets + self.saved.latent_avg).flatten(0, 1))
            found["latent"] = generator_loss(logits.float())
            total = total + on["latent_discriminator"] * found["latent"]
        return {"loss": total, **{name: value.detach() for name, value in found.items()}}

    def _readings(self, images: Tensor, made: Tensor) -> Tensor:
        """Gaze and head that the training estimator reads in both, how many degrees apart."""
        judge = self._judge("readings")
        with torch.no_grad():
            wanted = judge(images)
        read = judge(made)
        return angular_loss(wanted[:, :2], read[:, :2]) + angular_loss(wanted[:, 2:], read[:, 2:])

    def _judge(self, term: str) -> nn.Module:
        if not self._estimator:
            raise ValueError(f"objective.{term}: expected a trained estimator, found none attached")
        return self._estimator[0]

    def _features(self, images: Tensor, made: Tensor) -> Tensor:
        judge = self._judge("features")
        with torch.no_grad():
            _, wanted = judge.forward_with_features(images)
        _, maps = judge.forward_with_features(made)
        pairs = zip(maps, wanted, strict=True)
        return sum((one.float() - other.float()).square().mean() for one, other in pairs)

    def _difference(self, images: Tensor, made: Tensor) -> Tensor:
        weight = torch.ones(images.shape[-2:], device=images.device)
        for left, top, right, bottom in eye_boxes(images.shape[-1]):
            weight[top:bottom, left:right] = 1 + self.objective["eye_weight"]
        return ((images - made).square() * weight).mean()

    def _offsets(self, images: Tensor, at: Progress) -> Tensor:
        on = self.objective
        stage = (at.images - on["encoder_after"]) // on["row_images"] if on["row_images"] else None
        return self.saved.encoder(images, stage).float()

    def pictures(self, offsets: Tensor) -> Tensor:
        """Pictures (B,3,S,S), not limited to [-1,1], of offsets (B, rows, dim)."""
        return face_pool(self.saved.decode(offsets).float(), self.config["size_px"])

    def _inverted(self, images: Tensor) -> Tensor:
        return self.pictures(self.saved.encode(images).float())

    @torch.no_grad()
    def code(self, images: Tensor) -> Tensor:
        """Flat codes (B, rows dim) of pictures (B,3,S,S), from the average code."""
        return self.saved.encode(images).float().flatten(1)

    def drawn(self, codes: Tensor) -> Tensor:
        """Pictures (B,3,S,S), not limited to [-1,1], of flat codes (B, rows dim)."""
        return self.pictures(codes.unflatten(1, (-1, self.saved.latent_avg.shape[1])))

    @torch.no_grad()
    def inverted(self, images: Tensor, codes: Tensor | None = None) -> Tensor:
        """Pictures (B,3,S,S) in [-1,1], rounded to 8 bits as all pictures at rest are.

        ``codes`` (B, rows dim) are those of the pictures, where they are known.
        """
        made = self.drawn(self.code(images) if codes is None else codes)
        return reduce_patches(to_uint8(made)).to(images.device)

    def invert(self, source: Batch, *, seed: int) -> dict[str, Tensor]:
        """``offsets`` (B, rows, dim) of the sources' codes from the average code."""
        return {"offsets": self.saved.encode(source["source"]).float()}

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """The sources as they are inverted; noise is the weights' own, so ``seed`` does nothing."""
        made = self.pictures(state["offsets"]).clamp(-1, 1)
        count = max((len(value) for value in target.values()), default=len(made))
        return made if len(made) == count else made.expand(count, -1, -1, -1)

    def w_plus(self, state: State) -> Tensor:
        """Codes (B, rows, numbers) of sources that are inverted."""
        return state["offsets"] + self.saved.latent_avg

    def of_w_plus(self, codes: Tensor) -> dict[str, Tensor]:
        """The state of sources with codes (B, rows, numbers)."""
        return {"offsets": codes - self.saved.latent_avg}

    def inversion(self, state: State) -> Tensor:
        """Pictures (B,3,S,S) in [-1,1] of sources as their codes are drawn."""
        return self.pictures(state["offsets"]).clamp(-1, 1)

    def read_reference(self, path: str) -> Mapping:
        """See :func:`regaze.stylegan.checkpoints.read_e4e`."""
        return read_e4e(path)

    def load_reference(self, state: Mapping, config: Mapping) -> None:
        """Load the state of an e4e file.

        Raises:
            ValueError: it is of another size, or keys are missing or unexpected; all are listed.
        """
        self.saved.load(state)


def build(config: dict, sampling: dict) -> Inversion:
    """Build the inversion of a resolved configuration; it does not sample."""
    return Inversion(config)
