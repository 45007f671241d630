"""GC-GAN as a redirector: trained against a discriminator, inverted by descent on codes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from regaze.redirectors.base import Batch, Phase, Progress, Redirector, State
from regaze.redirectors.gcgan.adversary import DualDiscriminator
from regaze.redirectors.gcgan.checkpoints import check_sizes, read_published
from regaze.redirectors.gcgan.encoder import Encoder, divergence, drawn_of
from regaze.redirectors.gcgan.fit import MEAN_OF, Fit, fitted
from regaze.redirectors.gcgan.generator import Drawn, SemanticGenerator
from regaze.redirectors.gcgan.objective import one_hot, repeated
from regaze.redirectors.gcgan.places import cut, feathered, pasted, shown, usual_place
from regaze.redirectors.gcgan.restyle import Restyled
from regaze.redirectors.gcgan.settings import has_encoder
from regaze.redirectors.gcgan.steps import Asked, Real, Steps, lazy_adam, trainable
from regaze.weights import load_strictly

_RESTYLE_STEPS = 5
_DIRECTIONS = 64
_MOMENTUM = 0.5
_SAME_HEAD = 1e-3
"""Radians within which two pictures of a person are of the same head."""


class GcGan(Redirector):
    """See :mod:`regaze.redirectors.gcgan`."""

    def __init__(self, config: Mapping, sampling: Mapping):
        super().__init__()
        self.config, self.sampling, self.objective = config, sampling, config["objective"]
        options, self.size = config["network"], config["size_px"]
        self.second, self.crop = config["stage"] == 2, config["crop"]
        self.strip = self.crop == "eye_strip"
        self.coded = has_encoder(config) and not self.second and "checkpoint" not in config
        generator = SemanticGenerator(self.size, **options)
        model = nn.ModuleDict({"generator": generator})
        if "restyle" in config:
            model["restyle"] = Restyled(generator.layout.rows)
        if has_encoder(config) and "checkpoint" not in config:
            model["encoder"] = Encoder(self.size, generator.style_dim)
            generator.placed = model["encoder"].placed
        self.net = nn.ModuleDict({"model": model})
        self._frozen: list[SemanticGenerator] = []
        self._likeness: list[nn.Module] = []
        self._estimator: list[nn.Module] = []
        if "checkpoint" not in config:
            widths = (options["channel_multiplier"], options["channel_max"])
            self.net["judge"] = DualDiscriminator(
                self.size, options["seg_dim"], *widths, gaze=not self.second
            )
            self.net.register_buffer("path_mean", torch.zeros(()))
            for one in set(model.parameters()) - set(self._learnt()):
                one.requires_grad_(False)

    @property
    def network(self) -> nn.Module:
        """Generator and discriminator."""
        return self.net

    @property
    def saved(self) -> nn.Module:
        """The generator, and the encoder that codes begin from if there is one."""
        return self.net["model"]

    @property
    def averaged(self) -> nn.Module:
        """The generator; its buffers, stored noise, never change."""
        return self.generator

    @property
    def generator(self) -> SemanticGenerator:
        """The generator."""
        return self.saved["generator"]

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take LPIPS, where codes are found by it, and in training the estimator.

        Raises:
            ValueError: the estimator reads pictures of another size or pre-processing.
        """
        if "estimator" in networks:
            for name, wanted in (("size_px", self.size), ("preprocess", "none")):
                found = getattr(networks["estimator"], name)
                if found != wanted:
                    raise ValueError(
                        f"training estimator: {name}: expected {wanted!r} as this model has, found "
                        f"{found!r}"
                    )
            # A list keeps it out of this module's own parameters.
            self._estimator = [networks["estimator"]]
        if "likeness" in networks:
            self._likeness = [networks["likeness"]]

    def load_start(self, state: Mapping[str, Tensor]) -> None:
        """Begin at a first stage, whose masks a second one has to keep.

        Raises:
            ValueError: keys are missing or unexpected, or shapes differ; all are listed.
        """
        given = {**_of_model(state)}
        if "encoder" not in self.saved:
            given = {k: v for k, v in given.items() if not k.startswith("encoder.")}
        # What a first stage was trained without is kept as it was built.
        lacks = ["restyle."]
        if self.coded and not any(key.startswith("encoder.") for key in given):
            lacks.append("encoder.")
        own = self.saved.state_dict().items()
        kept = {k: v for k, v in own if k.startswith(tuple(lacks))}
        super().load_start(kept | given)
        self._freeze()

    def _freeze(self) -> None:
        """Keep the generator as it is for a second stage."""
        if self.second:
            self._frozen = [copy.deepcopy(self.generator).requires_grad_(False).eval()]

    def fit_rows(self, count: int) -> None:
        """Nothing is learnt per picture; a second stage keeps the masks that it begins with."""
        self._freeze()

    def begin_with(self, files: Mapping[str, str]) -> None:
        """Read the ReStyle encoder."""
        if "restyle" in files:
            self.saved["restyle"].load(files["restyle"])

    def _learnt(self) -> list[nn.Parameter]:
        parts = [self.saved["encoder"]] if self.coded else []
        found = [*trainable(self.generator, self.second).values()]
        return found + [one for part in parts for one in part.parameters()]

    # Training.

    @property
    def _judge_every(self) -> int:
        """Steps from one of the discriminator to the next: without an encoder it teaches alone."""
        return self.objective["judge_every"] if self.coded else 1

    def phases(self) -> list[Phase]:
        """Discriminator and generator, each with a lazy term that its optimiser takes as well."""
        on, rate = self.objective, self.config["train"]["lr"]
        found, judge = [], list(self.net["judge"].parameters())
        for name, lazy, parameters, used, often in (
            ("discriminator", "r1", judge, on["r1_img"] or on["r1_seg"], self._judge_every),
            ("generator", "path", self._learnt(), on["path"], 1),
        ):
            every = on[f"{lazy}_every"]
            options = lazy_adam(rate, every // often if used else None)
            if name == "generator" and self.coded:
                # What pictures teach gains by momentum, which two opponents alone do not bear.
                options["betas"] = (_MOMENTUM, options["betas"][1])
            found.append(Phase(name, parameters, options, every=often))
            if used:
                found.append(Phase(lazy, parameters, options, every=every, shares=name))
        return found

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Terms of a phase; ``loss`` is minimised.

        Requested gazes are labels of the batch: those of targets for the discriminator, those of
        sources for the generator.
        """
        steps = self._steps()
        if phase == "r1":
            return steps.r1(self._real(batch))
        if phase == "discriminator":
            return steps.discriminator(self._real(batch), self._asked(batch["target_gaze"], at))
        if phase == "generator":
            return self._generator_losses(steps, batch, at)
        asked = self._asked(batch["source_gaze"], at)
        # Every second row, so that several processes take the rows that one takes.
        codes, gaze = asked.codes[::2], asked.gaze[::2]
        side = self.size
        noise = torch.randn(
            len(asked.codes), 3, side, side, generator=at.generator, device=codes.device
        )[::2]
        half = Asked(codes, gaze, None, at.generator)
        made = steps.path(half, self.net.path_mean, noise)
        with torch.no_grad():
            self.net.path_mean.copy_(made["mean"])
        return made

    def validation_loss(self, batch: Batch, at: Progress) -> Tensor:
        """How far drawn pictures are from real ones; of a second stage, how far their masks moved.

        The distance is that of sorted projections of pictures with masks onto random directions
        (sliced Wasserstein), the same directions at every call.
        """
        steps, asked = self._steps(), self._asked(batch["source_gaze"], at)
        with torch.no_grad():
            if self.second:
                return steps.generator_step(asked)["kept_mask"]
            real, made = (
                self._real(batch),
                self.generator.drawn(asked.codes, asked.gaze, self.generator.stored_noise()),
            )
            pairs = (real.images, real.masks), (made.rgb, made.seg.clamp(-1, 1))
            apart = [_projected(torch.cat(pair, 1)) for pair in pairs]
            return (apart[0] - apart[1]).abs().mean()

    def _generator_losses(self, steps: Steps, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Against the discriminator, in the steps that have one, and by what pictures tell."""
        judged = at.step % self._judge_every == 0
        if not self.coded:
            asked = self._asked(batch["source_gaze"], at)
            return steps.generator_step(asked, self._reading(batch, "source", at))
        found, codes = self._repeated(batch, at)
        reading = self._reading(batch, "target", at)
        if reading is not None:
            gaze = batch["target_gaze"].float()
            read = reading(self.generator.drawn(codes.detach(), gaze, None, at.generator))
            found |= {"loss": found["loss"] + read, "further": read.detach()}
        if judged:
            made = steps.generator_step(self._asked(batch["source_gaze"], at))
            found = {**made, **found, "loss": found["loss"] + made["loss"]}
        return found

    def _repeated(self, batch: Batch, at: Progress) -> tuple[dict[str, Tensor], Tensor]:
        """What it costs to draw pictures of their codes, and the codes (B,D).

        A target of the same head is to be drawn of the source's code, which keeps the gaze out of
        codes; of others the source itself.
        """
        real = self._real(batch)
        turned = (batch["source_head"] - batch["target_head"]).abs().amax(1)
        same = (turned < _SAME_HEAD) & batch["target_eye_regions_known"]
        other = self._real(batch, "target")
        wide = same[:, None, None, None]
        images = torch.where(wide, other.images, real.images)
        masks = torch.where(wide, other.masks, real.masks)
        gaze = torch.where(same[:, None], other.gaze, real.gaze)
        mean, spread = self.saved["encoder"](real.images)
        noise = torch.randn(mean.shape, generator=at.generator, device=mean.device)
        vectors = drawn_of(mean, spread, noise)
        if torch.is_grad_enabled():
            self.saved["encoder"].follow(vectors)
        codes = self.generator.style(vectors).float()
        made = self.generator.drawn(codes, gaze, None, at.generator)
        drawn = (made.rgb.float(), made.seg.float(), made.coarse.float())
        apart, nats = repeated(*drawn, images, masks), divergence(mean.float(), spread.float())
        loss = self.objective["reconstruction"] * apart + self.objective["prior"] * nats
        return {"loss": loss, "repeated": apart.detach(), "nats": nats.detach()}, codes

    def _reading(self, batch: Batch, asked: str, at: Progress) -> Callable[[Drawn], Tensor] | None:
        """What a reading costs: drawn eyes are read where the sources' own were.

        Published code has no such term. In steps without a reading, None. ``asked`` is the picture
        whose gaze was requested.
        """
        weight = self.objective["reading"]
        if not weight or at.step % self.objective["reading_every"]:
            return None
        place, wanted = batch["source_place"].float(), batch[f"{asked}_gaze"].float()

        def cost(made: Drawn) -> Tensor:
            # Where a drawn face ends teaches the classes nothing here.
            weights = feathered(made.seg.detach().float(), self.strip)
            regions = made.rgb.float().clamp(-1, 1)
            faces = pasted(batch["source"].float(), regions, weights, place)
            return weight * (self._estimator[0](faces)[:, :2].float() - wanted).abs().mean()

        return cost

    def _steps(self) -> Steps:
        frozen = self._frozen[0].to(self.net.path_mean.device) if self.second else None
        share = self.objective["broken_share"]
        weights = self.objective | {"r1_every": self.objective["r1_every"] // self._judge_every}
        return Steps(self.generator, self.net["judge"], weights, frozen, share)

    def _asked(self, gaze: Tensor, at: Progress) -> Asked:
        codes = self._drawn_codes(gaze, at)
        return Asked(codes, gaze.float(), None, at.generator)

    def _drawn_codes(self, gaze: Tensor, at: Progress) -> Tensor:
        generator, count = self.generator, len(gaze)

        def fresh() -> Tensor:
            z = torch.randn(count, generator.style_dim, generator=at.generator, device=gaze.device)
            return generator.mapped(z).float()

        mixing = self.objective["mixing"]
        if not mixing or torch.rand((), generator=at.generator, device=gaze.device) >= mixing:
            return fresh()
        classes = generator.layout.seg_dim
        draws = torch.rand(count, classes, generator=at.generator, device=gaze.device)
        return generator.layout.mixed(fresh(), fresh(), (3 * draws).long().T)

    def _real(self, batch: Batch, side: str = "source") -> Real:
        side = "unlabelled" if self.second and "unlabelled" in batch else side
        place, parts = batch[f"{side}_place"], batch[f"{side}_parts"][:, None].float()
        images = cut(batch[side], place, self.size, self.strip)
        labels = cut(parts, place, self.size, self.strip, labels=True)[:, 0].round()
        masks = one_hot(labels, self.generator.layout.seg_dim).to(images)
        return Real(images, masks, None if self.second else batch[f"{side}_gaze"].float())

    # Pictures.

    def invert(self, source: Batch, *, seed: int) -> State:
        """Codes (B,rows,D) that draw the sources' regions with their own gaze.

        A descent of every source by itself from the mean code, or from the ReStyle encoder's;
        nothing is drawn at random, so ``seed`` does nothing.
        """
        images, generator = source["source"].float(), self.generator
        place, gaze = self._place(source), source["source_gaze"].float()
        regions, noise = cut(images, place, self.size, self.strip), generator.stored_noise()
        mean = generator.mean_code(MEAN_OF)
        start = generator.layout.whole(mean.expand(len(images), -1))

        def drawn(codes: Tensor) -> Tensor:
            return generator.drawn(codes, gaze, noise).rgb.float()

        if "encoder" in self.saved:
            start = generator.layout.whole(generator.style(self.saved["encoder"].settled(regions)))
        if "restyle" in self.saved:
            start = self.saved["restyle"].codes(regions, drawn, _RESTYLE_STEPS)
        options = {name: self.sampling[name] for name in ("steps", "rate", "pixels", "near")}
        likeness = self._likeness[0] if self._likeness else None
        window = shown(self.size, self.strip, regions)
        codes = fitted(drawn, start, regions, mean, window, Fit(**options), likeness)
        return {"codes": codes, "gaze": gaze, "source": images, "place": place}

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Sources whose regions are drawn with the target's gaze; ``seed`` does nothing."""
        count, noise = len(target["target_gaze"]), self.generator.stored_noise()
        names = ("codes", "gaze", "source", "place")
        codes, own, source, place = (
            state[name].expand(count, *state[name].shape[1:]) for name in names
        )
        made = self.generator.drawn(codes, target["target_gaze"].float(), noise)
        regions, weight = made.rgb.float().clamp(-1, 1), feathered(made.seg.float(), self.strip)
        if self.sampling["paste"] == "difference":
            before = self.generator.drawn(codes, own, noise).rgb.float().clamp(-1, 1)
            regions = cut(source, place, self.size, self.strip) + regions - before
        return pasted(source, regions, weight, place).clamp(-1, 1)

    def _place(self, source: Batch) -> Tensor:
        usual = usual_place(source["source"].float(), self.strip) if self.crop != "face" else _WHOLE
        place, known = source["source_place"].float(), source["source_eye_regions_known"]
        return torch.where(known[:, None], place, torch.as_tensor(usual).to(place))

    def describe_sampling(self) -> dict[str, str | float | int]:
        """The descent's steps, and how regions are put back."""
        return {"sampler": "fit", "guidance": 0.0, **self.sampling}

    # Published weights.

    def read_reference(self, path: str) -> Mapping:
        """The averaged generator of a published file, of the sizes of this entry.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is something else, or a generator of other sizes; all are named.
        """
        state, args = read_published(path)
        check_sizes(state, args, {"size": self.size, **self.config["network"]})
        return state

    def reference_state(self) -> Mapping:
        """The generator's weights."""
        return self.generator.state_dict()

    def load_reference(self, state: Mapping[str, Tensor], config: Mapping) -> None:
        """Load a published generator.

        Raises:
            ValueError: keys are missing or unexpected, or shapes differ; all are listed.
        """
        load_strictly(self.generator, state)


_WHOLE = (0.0, 0.0, 1.0, 1.0)


def _of_model(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Of a training's whole state what is its model; averages and models are that already."""
    if any(key.startswith("judge.") for key in state):
        whole = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        return whole
    if any(key.startswith("render_net.") for key in state):
        return {f"generator.{key}": value for key, value in state.items()}
    return state


def _projected(values: Tensor) -> Tensor:
    """Values (B,C,H,W) on random directions, each sorted: (directions, B)."""
    flat = nn.functional.adaptive_avg_pool2d(values, 16).flatten(1)
    drawn = torch.Generator().manual_seed(0)
    directions = torch.randn(flat.shape[1], _DIRECTIONS, generator=drawn).to(flat)
    return (flat @ (directions / directions.norm(dim=0))).sort(0).values.T


def build(config: dict, sampling: dict) -> GcGan:
    """Build the redirector of a resolved configuration."""
    return GcGan(config, sampling)
