"""How the X-UNet makes pictures: samplers, guidance, several sources.

Everything that chance decides about a picture is seeded by (seed, pair) and, where it is drawn
anew at every step, by the step; so no picture depends on the batch that it is made in.

Several guidance weights are sampled side by side: their conditional evaluations are one call of
the network, their unconditional ones another. The two are apart because they have different
savings: pose maps and modulations are those of each picture in the first, whatever its weights,
and those of a single picture in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from regaze.diffusion.guidance import guided
from regaze.diffusion.noise import image_noise
from regaze.diffusion.preconditioning import per_image
from regaze.diffusion.samplers import ancestral, asked_levels, sample
from regaze.diffusion.schedules import alpha_sigma, cosine_grid, karras_sigmas, sigma_from_logsnr
from regaze.redirectors.base import Batch, selected
from regaze.redirectors.xunet.memory import bytes_per_image
from regaze.redirectors.xunet.network import Prepared, XUNet
from regaze.redirectors.xunet.objective import SOURCE_LOGSNR, Objective
from regaze.redirectors.xunet.settings import SamplingSettings

PATH_FRAMES = 40
"""Most estimates that are kept of one path from noise to picture."""

_ON_CPU = 18
"""Pictures that a CPU makes at a time: more of them no longer fit into its caches, and modulations
of more take fresh memory from the system at every step."""

_SOURCE = ("source", "source_gaze", "source_head", "source_code", "source_codes_known")

# Streams of noise of one picture: its start, its unconditional source, ancestral steps from 2 on,
# and, above any number of steps, unconditional sources and choices of a source per step.
_START, _BLANK, _STEP = 0, 1, 2
_BLANKS, _CHOICES = 1 << 20, 1 << 21

NOISE = "noise"
"""Column of targets that may give the noise that pictures start from, (B, 3, H, W)."""

Inputs = Callable[[Batch], dict[str, torch.Tensor]]


@lru_cache
def _levels(sampler: str, steps: int, low: float, high: float) -> tuple[float, ...]:
    """See :meth:`PictureSampler.sigmas`; kept, because graphs cannot be told what they compute."""
    found = karras_sigmas(steps, low, high)
    if sampler == "ancestral":
        found = sigma_from_logsnr(cosine_grid(steps))
    return tuple(found.tolist())


class PictureSampler:
    """Samples pictures of one network.

    Args:
        net: the network.
        objective: what it predicts.
        options: differences from the defaults of
            :class:`regaze.redirectors.xunet.settings.SamplingSettings`.
        inputs: from a batch of sources and targets all that the network is conditioned on: ``x``,
            ``R``, ``t``, ``K`` of both frames, and ``code``, ``base`` where it has them.
    """

    def __init__(self, net: XUNet, objective: Objective, options: Mapping, inputs: Inputs):
        self.net, self.objective, self.inputs = net, objective, inputs
        self.options = {**SamplingSettings().model_dump(), **options}

    def invert(self, source: Batch) -> dict:
        """What is kept of sources (B): their columns, and what the network makes of them alone.

        ``source`` as :data:`regaze.redirectors.base.Batch` has it; several pictures are kept where
        the network can see them.
        """
        columns = [{key: value for key, value in source.items() if key in _SOURCE}]
        if "sources" in source and self.sees_sources:
            columns += [
                {
                    name: source[name.replace("source", "sources", 1)][:, number]
                    for name in columns[0]
                }
                for number in range(1, source["sources"].shape[1])
            ]
        with self.autocast():
            if self.net.config.frames == 1:
                return {"columns": columns, "looks": [], "shared": self.net.shared()}
            looks = [
                self.net.prepare_source(_frame(self.inputs(_itself(one)), 0), SOURCE_LOGSNR)
                for one in columns
            ]
        return {"columns": columns, "looks": looks}

    def edit(
        self, state: Mapping, target: Batch, *, seed: int, weights: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Sample redirected pictures (B, 3, H, W), or (W, B, 3, H, W) for W guidance weights.

        Args:
            state: of :meth:`invert`, of as many sources as targets or of one.
            target: see :data:`regaze.redirectors.base.Batch`.
            seed: of all noise, with each picture's ``pair``.
            weights: guidance weights, at least one, in place of the configured one. Every weight
                gives what it would give alone, up to rounding.
        """
        chosen = [self.options["guidance"]] if weights is None else [float(w) for w in weights]
        if not chosen:
            raise ValueError("weights: expected at least one guidance weight, found none")
        made = [self._made(*part, seed, chosen) for part in self._parts(state, target, len(chosen))]
        made = made[0] if len(made) == 1 else torch.cat(made, 1)
        return made[0] if weights is None else made

    def _made(self, state: Mapping, target: Batch, seed: int, weights: list[float]) -> torch.Tensor:
        if self.objective.regression:
            return self._regress(state, target).expand(len(weights), -1, -1, -1, -1)
        return _Run(self, state, target, seed, weights).pictures()

    def _parts(
        self, state: Mapping, target: Batch, weights: int
    ) -> Iterator[tuple[Mapping, Batch]]:
        """Equal parts of a batch that are made at a time."""
        if NOISE in target or torch.compiler.is_exporting():
            yield state, target
            return
        rows = torch.arange(len(target["pair"]))
        on_cpu = next(self.net.parameters()).device.type == "cpu"
        count = -(-len(rows) * weights // _ON_CPU) if on_cpu else 1
        if count <= 1:
            yield state, target
            return
        one = len(state["columns"][0]["source"]) == 1
        for part in rows.tensor_split(min(count, len(rows))):
            yield state if one else selected(state, part), selected(target, part)

    def record_path(
        self, state: Mapping, target: Batch, *, seed: int, frames: int = PATH_FRAMES
    ) -> torch.Tensor:
        """Return (T, B, 3, H, W): estimates of the clean picture on the way, the picture last.

        At most ``frames`` are spread over the steps; a regression has only its picture.
        """
        if self.objective.regression:
            return self._regress(state, target)[None]
        run = _Run(self, state, target, seed, [self.options["guidance"]], frames)
        last = run.pictures()
        return torch.cat([*run.seen[:-1], last])

    def branch(self, state: Mapping, target: Batch, number: int = 0) -> _Branch:
        """The network's view of one of the pictures of each source, on its way to the targets."""
        inputs = self.inputs({**state["columns"][number], **target})
        with self.autocast():
            if self.net.config.frames == 2:
                look = state["looks"][number]
                prepared = self.net.prepare_target(look, _frame(inputs, 1))
            else:
                levels = inputs["R"].new_full((inputs["R"].shape[0], 2), SOURCE_LOGSNR)
                prepared = self.net.prepare({**inputs, "logsnr": levels}, shared=state["shared"])
        return _Branch(prepared, inputs)

    def evaluations_per_image(self) -> int:
        """Network evaluations of one picture; guidance doubles those that it acts in."""
        if self.objective.regression:
            return 1
        asked = asked_levels(self.options["sampler"], self.sigmas())
        return len(asked) + sum(self.guides(self.options["guidance"], level) for _, level in asked)

    def guides(self, weight: float, level: float) -> bool:
        """Whether guidance of this weight acts at a variance-exploding noise level."""
        low, high = self.options["guidance_interval"] or (-1.0, float("inf"))
        return weight != 0 and low < level < high

    def sigmas(self) -> tuple[float, ...]:
        """The variance-exploding levels of the steps; the last one is the end."""
        names = ("sampler", "steps", "sigma_min", "sigma_max")
        return _levels(*(self.options[name] for name in names))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes per picture of what may be given in place of drawing it.

        Raises:
            ValueError: noise is drawn on the way as well.
        """
        if self.objective.regression:
            return {}
        for name, drawn in (
            ("sampler", self.options["sampler"] == "ancestral"),
            ("guidance", self.options["guidance"] != 0),
            ("sources", self.options["sources"] > 1 and self.sees_sources),
        ):
            if drawn:
                found = self.options[name]
                raise ValueError(
                    f"sampling.{name}: {found} draws noise on the way to a picture, not only its "
                    "start"
                )
        config = self.net.config
        return {NOISE: (config.out_channels, config.height, config.width)}

    def describe(self) -> dict[str, str | float | int]:
        """Sampler, steps, noise range, guidance, and what else decides the pictures if set."""
        if self.objective.regression:
            return {"sampler": "none (regression)", "steps": 1, "guidance": 0.0}
        names = ["sampler", "steps", "guidance"]
        ancestral_one = self.options["sampler"] == "ancestral"
        names += ["final_step"] if ancestral_one else ["sigma_min", "sigma_max"]
        told = {name: self.options[name] for name in names}
        if self.options["guidance"] != 0:
            told["uncond_source"] = self.options["uncond_source"]
            if self.options["guidance_interval"]:
                told["guidance_interval"] = "{:g} to {:g}".format(
                    *self.options["guidance_interval"]
                )
        if self.options["sources"] > 1:
            told["sources"] = self.options["sources"] if self.sees_sources else 1
        return told

    @property
    def sees_sources(self) -> bool:
        """Whether further source pictures can be drawn from.

        A network of one frame sees its source only through the picture that residuals are counted
        from, which must stay the same over all steps.
        """
        residual = self.objective.parameterization == "residual_x0"
        return not self.objective.regression and (self.net.config.frames == 2 or not residual)

    @property
    def low_precision(self) -> bool:
        """Whether the network is evaluated in bfloat16; ``auto`` does so on GPUs alone."""
        chosen = self.options["precision"]
        if chosen == "auto":
            return next(self.net.parameters()).device.type == "cuda"
        return chosen == "bf16"

    def autocast(self):
        """The context that the network is evaluated in."""
        device = next(self.net.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.low_precision)

    def bytes_per_image(self, weights: int = 1) -> int:
        """About how much memory a picture takes, all its guidance weights together."""
        sources = self.options["sources"] if self.sees_sources else 1
        width = 2 if self.low_precision else 4
        return bytes_per_image(self.net.config, weights=weights, sources=sources, width=width)

    def _regress(self, state: Mapping, target: Batch) -> torch.Tensor:
        branch = self.branch(state, target)
        source = branch.inputs["x"]

        def network(noisy, logsnr):
            levels = torch.stack([torch.full_like(logsnr, SOURCE_LOGSNR), logsnr], 1)
            return self.net({**branch.inputs, "z": noisy, "logsnr": levels}, None, branch.prepared)

        with self.autocast():
            level = torch.ones(source.shape[0], device=source.device)
            base = branch.inputs.get("base")
            return self.objective.denoise(network, source, level, base).clamp(-1, 1)


@dataclass(frozen=True)
class _Branch:
    """The network's view of one set of sources: what was computed once, and all inputs."""

    prepared: Prepared
    inputs: Mapping[str, torch.Tensor]


def _itself(source: Batch) -> dict[str, torch.Tensor]:
    """A batch whose targets are its sources, for what depends on sources alone."""
    return dict(source) | {name.replace("source", "target", 1): v for name, v in source.items()}


def _frame(inputs: Mapping[str, torch.Tensor], frame: int) -> dict[str, torch.Tensor]:
    """Inputs of one frame; pictures are the source's."""
    split = {name: inputs[name][:, [frame]] for name in ("R", "t", "code") if name in inputs}
    return split | {name: inputs[name] for name in ("K", *(() if frame else ("x",)))}


class _Run:
    """One batch on its way from noise to pictures, for all its guidance weights at once.

    Noisy pictures are (W * B, 3, H, W), all pictures of the first weight first.
    """

    def __init__(
        self,
        sampler: PictureSampler,
        state: Mapping,
        target: Batch,
        seed: int,
        weights: Sequence[float],
        frames: int = 0,
    ):
        self.sampler, self.seed, self.weights = sampler, seed, list(weights)
        self.net, self.options = sampler.net, sampler.options
        self.given = target.get(NOISE)
        self.count = target["target_gaze"].shape[0]
        self.pairs = [] if self.given is not None else target["pair"].tolist()
        self.first = sampler.branch(state, target)
        source = self.first.inputs["x"]
        self.shape, self.device = source.shape[1:], source.device
        base = self.first.inputs.get("base")
        self.base = None if base is None else base.repeat(len(weights), 1, 1, 1)
        self.sigmas = sampler.sigmas()
        self.asked = asked_levels(self.options["sampler"], self.sigmas)
        self.asks = iter(enumerate(self.asked))
        steps = len(self.sigmas) - 1
        kept = np.linspace(0, steps - 1, min(frames, steps)).round() if frames else []
        self.kept, self.seen = [int(step) for step in kept], []
        self.images, self.choices = self._conditioned(state, target)
        self.alike = self._begins_alike(state)
        self.blank = None
        if any(sampler.guides(w, level) for w in weights for _, level in self.asked):
            self.blank = self._unconditioned()

    def pictures(self) -> torch.Tensor:
        """The sampled pictures (W, B, 3, H, W) in [-1, 1]."""
        count = len(self.weights)
        start = self._noise(_START).repeat(count, 1, 1, 1)
        if self.options["sampler"] == "ancestral":
            made = self._ancestral(start)
        else:
            first = float(self.sigmas[0]) * start
            start = first if self.base is None else self.base + first
            made = sample(self.options["sampler"], self._denoise, start, self.sigmas)
        return made.clamp(-1, 1).unflatten(0, (count, -1))

    def _begins_alike(self, state: Mapping) -> bool:
        """Whether all noisy pictures are one at first, as in a sweep of the gaze of one source."""
        if self.given is not None:
            return False
        one = len(state["columns"][0]["source"]) == len(set(self.pairs)) == len(self.weights) == 1
        return one and (self.base is None or bool((self.base == self.base[:1]).all()))

    def _noise(self, stream: int) -> torch.Tensor:
        if self.given is not None:
            return self.given
        pairs = list(dict.fromkeys(self.pairs))
        noise = image_noise(self.seed, pairs, self.shape, stream)
        if len(pairs) < len(self.pairs):
            noise = noise[[pairs.index(pair) for pair in self.pairs]]
        if self.device.type == "cuda":
            return noise.pin_memory().to(self.device, non_blocking=True)
        return noise

    def _conditioned(
        self, state: Mapping, target: Batch
    ) -> tuple[list[_Branch], torch.Tensor | None]:
        """The sources that steps choose from, and (steps, B) choices if there are several.

        The picture that residuals are counted from is that of the first source at every step: it
        is the origin of the noisy picture, which may not jump. All else that is told of a source,
        its picture, angles and code, is that of the source that was drawn.
        """
        count = len(state["columns"])
        if count == 1:
            return [self.first], None
        branches = [self.first]
        for number in range(1, count):
            other = self.sampler.branch(state, target, number)
            if self._same_target(other.inputs):
                maps = self.first.prepared.maps
                other = replace(other, prepared=replace(other.prepared, maps=maps))
            branches.append(other)
        steps = len(self.sigmas) - 1
        drawn = [
            np.random.default_rng([self.seed, pair, _CHOICES]).integers(count, size=steps)
            for pair in self.pairs
        ]
        return branches, torch.from_numpy(np.stack(drawn, 1)).to(self.device)

    def _same_target(self, inputs: Mapping[str, torch.Tensor]) -> bool:
        """Whether frame 1's maps are those of the first source."""
        if self.net.config.frames == 1 or self.net.config.code == "concatenate":
            return False
        return all(torch.equal(inputs[name][:, 1], self.first.inputs[name][:, 1]) for name in "Rt")

    def _unconditioned(self) -> _Branch:
        """Poses and codes are masked, so those of one picture serve all; sources are noise."""
        one = {
            name: value[:1]
            for name, value in self.first.inputs.items()
            if name in ("x", "R", "t", "K", "code")
        }
        keep = torch.zeros(1, dtype=torch.bool, device=self.device)
        levels = torch.full((1, 2), SOURCE_LOGSNR, device=self.device)
        with self.sampler.autocast():
            prepared = self.net.prepare({**one, "z": one["x"], "logsnr": levels}, keep)
        if self.options["uncond_source"] == "fresh":
            return _Branch(prepared, {})
        branch = self._looking(prepared, self._noise(_BLANK))
        return replace(branch, prepared=self.net.settle(branch.prepared))

    def _looking(self, prepared: Prepared, x: torch.Tensor) -> _Branch:
        with self.sampler.autocast():
            return _Branch(self.net.look(prepared, x), {"x": x})

    def _drawn(self, step: int) -> _Branch:
        """The source that each picture sees in a step."""
        if self.choices is None:
            return self.images[0]
        count = self.count
        rows = self.choices[step] * count + torch.arange(count, device=self.device)

        def pick(tensors):
            if tensors[0] is None or all(one is tensors[0] for one in tensors):
                return tensors[0]
            whole = [one.expand(count, *one.shape[1:]) for one in tensors]
            return torch.cat(whole).index_select(0, rows)

        ready = [branch.prepared for branch in self.images]
        prepared = Prepared(
            maps=[pick(maps) for maps in zip(*(one.maps for one in ready), strict=True)],
            films={
                index: tuple(pick([one.films[index][part] for one in ready]) for part in (0, 1))
                for index in ready[0].films
            },
            h=pick([one.h for one in ready]),
            skips=[pick(skips) for skips in zip(*(one.skips for one in ready), strict=True)],
            told=pick([one.told for one in ready]),
        )
        return _Branch(prepared, {"x": pick([branch.inputs["x"] for branch in self.images])})

    def _estimate(self, branch: _Branch, z, sigma, base, alike: bool = False) -> torch.Tensor:
        """Clean pictures as one branch sees them, not clipped; ``alike``: noisy ones are one."""
        times = z.shape[0] // self.count
        beside = {}
        first = slice(0, 1) if alike else slice(None)
        if base is not None:
            beside["base"] = base[first]
        elif self.net.config.concat_source:
            beside["x"] = branch.inputs["x"].repeat(times, 1, 1, 1)[first]

        def network(noisy, logsnr):
            # One level for all, so that its embedding cannot depend on how many there are.
            one = logsnr[:1]
            levels = torch.stack([torch.full_like(one, SOURCE_LOGSNR), one], 1)
            with self.sampler.autocast():
                batch = {"z": noisy[first], "logsnr": levels, **beside}
                return self.net(batch, None, branch.prepared)

        return self.sampler.objective.denoise(network, z, sigma, base)

    def _denoise(self, z, sigma) -> torch.Tensor:
        """Guided estimates of the clean pictures, clipped, for the next of the asked levels."""
        number, (step, level) = next(self.asks)
        alike = self.alike and number == 0
        made = self._estimate(self._drawn(step), z, sigma, self.base, alike)
        acting = [i for i, w in enumerate(self.weights) if self.sampler.guides(w, level)]
        if acting:
            branch = self.blank
            if "x" not in branch.inputs:
                branch = self._looking(branch.prepared, self._noise(_BLANKS + number))
            if len(acting) == len(self.weights):
                free = self._estimate(branch, z, sigma, self.base)
            else:
                part = [self._some(one, acting) for one in (z, self.base)]
                free = self._estimate(branch, part[0], sigma[: len(part[0])], part[1])
            whole, free = (one.unflatten(0, (-1, self.count)) for one in (made, free))
            rows = list(whole)
            for place, index in enumerate(acting):
                rows[index] = guided(whole[index], free[place], self.weights[index])
            made = torch.cat(rows)
        made = made.clamp(-1, 1)
        if len(self.seen) < len(self.kept) and step == self.kept[len(self.seen)]:
            self.seen.append(made[None, : self.count])
        return made

    def _some(self, tensor, acting: Sequence[int]):
        if tensor is None:
            return None
        rows = tensor.unflatten(0, (len(self.weights), -1))
        return torch.cat([rows[index] for index in acting])

    def _ancestral(self, start) -> torch.Tensor:
        """3DiM's sampler over the cosine schedule, for any parameterisation."""

        def predict(z, logsnr):
            alpha, sigma = (per_image(value, z) for value in alpha_sigma(logsnr))
            return (z - alpha * self._denoise(z / alpha, sigma_from_logsnr(logsnr))) / sigma

        def draw(step):
            return self._noise(_STEP + step).repeat(len(self.weights), 1, 1, 1)

        grid = cosine_grid(self.options["steps"])
        return ancestral(predict, start, grid, draw, self.options["final_step"])
