"""Configuration of the X-UNet family: presets and the options that differ from them.

The presets are those of the project's conventions: ``reference`` is the published PyTorch port of
3DiM with its quirks, ``paper`` repairs the two places where the port departs from the 3DiM paper,
``modern`` is what is trained on GPUs, ``small`` the recipe that learns gaze within CPU minutes,
``tiny`` for tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from regaze.codes import DEFAULT_PARTS, TARGET_CODES, code_dim, code_parts
from regaze.redirectors.declaration import (
    Declaration,
    Input,
    MethodSettings,
    Network,
    SamplingOptions,
)
from regaze.redirectors.presets import Section, chosen, derived, differences
from regaze.training.settings import RedirectorTraining

_MESHED = "sources are turned over heads that are drawn triangle by triangle"
_HEAD_PARTS = ("shape", "expression", "pose")


class NetworkOptions(Section):
    """Options of the network; one that is left out is the preset's."""

    ch: int = Field(128, ge=8, description="channels of the first level")
    ch_mult: tuple[PositiveFloat, ...] = Field(
        (1, 2, 2, 4), min_length=1, description="channel factor per level"
    )
    num_res_blocks: int = Field(3, ge=1, description="residual blocks per level")
    attn_levels: tuple[int, ...] = Field(
        (2, 3, 4), description="levels with attention; the number of levels means the middle block"
    )
    attn_heads: int = Field(4, ge=1, description="attention heads")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout in residual blocks")
    emb_ch: int = Field(1024, ge=8, multiple_of=2, description="channels of the FiLM embedding")
    use_pos_emb: bool = Field(True, description="learned position map")
    use_ref_pose_emb: bool = Field(True, description="learned per-frame pose offsets")
    logsnr_input: Literal["raw", "squashed"] = Field(
        "raw", description="noise level as the port feeds it, or as the 3DiM paper says"
    )
    film_activation: Literal["none", "silu"] = Field(
        "none", description="activation after FiLM: none in the port, silu in the 3DiM paper"
    )
    norm_groups: int = Field(32, ge=1, description="groups of every GroupNorm")
    frames: Literal[1, 2] = Field(
        2, description="2: X-UNet with cross-attention; 1: a plain U-Net on the noisy frame"
    )
    concat_source: bool = Field(
        False, description="stack the source image under the noisy one as input channels"
    )
    unshuffle: Literal[1, 2] = Field(
        1, description="2: work on 2x2 pixel blocks as channels, three times cheaper"
    )
    code: Literal["none", "film", "concatenate", "stack"] = Field(
        "none",
        description="how 3-D face codes are told: film modulates every block (xunet_deca), "
        "concatenate adds channels to the rays (v1), stack adds them to the colours (v2)",
    )


NetworkSettings = differences(NetworkOptions)


class DecaSettings(Section):
    """3-D face codes as a second condition, with ``network.code`` other than none."""

    encoder: str = Field("deca", description="entry of encoders whose codes are told")
    parts: tuple[str, ...] = Field(
        DEFAULT_PARTS,
        description="columns of the latents: shape, texture, expression, pose, camera, light, "
        "detail",
    )
    target_code: Literal["source", "target", "target_pose_only"] = Field(
        "source",
        description="whose code the target frame has: the source's, its head turned as the labels "
        "say; the target photo's, an upper bound; or the source's with the target photo's head "
        "rotation",
    )

    @model_validator(mode="after")
    def _told(self):
        parts = code_parts(self.parts)
        if self.target_code == "target_pose_only" and "pose" not in parts:
            raise ValueError(
                f"target_code: 'target_pose_only' needs the pose, parts are {', '.join(parts)}"
            )
        return self


class PoseOptions(Section):
    """How gaze and head become camera poses."""

    mode: Literal["gaze_head", "gaze_orbit", "relative"] = Field(
        "gaze_head", description="gaze_head: gaze turns rays, head moves the camera centre"
    )
    pos_octaves: int = Field(
        15, ge=1, le=15, description="octaves of the position encoding that are used"
    )
    dir_octaves: int = Field(
        8, ge=1, le=8, description="octaves of the direction encoding that are used"
    )


PoseSettings = differences(PoseOptions)


class ObjectiveOptions(Section):
    """What the network predicts and what is weighted; each ingredient is off in ``reference``."""

    parameterization: Literal["eps", "v", "edm", "flow", "residual_x0", "regression"] = Field(
        "eps",
        description="eps: the noise (reference); v; edm: preconditioned denoiser; flow: noise "
        "minus image; residual_x0: clean image as base + scaled residual; regression: the same "
        "without any noise",
    )
    loss_weight: Literal["uniform", "min_snr", "soft_min_snr"] = Field(
        "uniform",
        description="weight of noise levels: uniform in the output's units, or the squared image "
        "error times min(SNR, 5), or its smooth form; the last two for eps, v, edm and flow",
    )
    noise: Literal["uniform_t", "lognormal"] = Field(
        "uniform_t",
        description="training noise levels: uniform time of the cosine schedule, or ln sigma",
    )
    lnsigma_mean: float = Field(-1.2, description="mean of ln sigma (lognormal)")
    lnsigma_std: float = Field(1.2, gt=0, description="deviation of ln sigma (lognormal)")
    sigma_data: float = Field(0.5, gt=0, description="deviation of the patches")
    sigma_residual: float = Field(
        0.16, gt=0, description="deviation of target minus base, the unit of residual_x0's output"
    )
    base: Literal["none", "source", "warp"] = Field(
        "none",
        description="image that the prediction starts from: none, the source, or the source "
        "turned by the relative head rotation, see warp",
    )
    warp: Literal["ellipsoid", "mesh"] = Field(
        "ellipsoid",
        description="what base warp turns the source over: an ellipsoid, or the head of the "
        "source's 3-D code (deca.encoder), its eyes too, with a mask of what the source does not "
        "show as a further input",
    )
    eye_weight: float = Field(
        0.0, ge=0, description="extra loss weight inside the two fixed eye boxes"
    )
    drop_prob: float = Field(
        0.1, ge=0, le=1, description="share of samples trained without condition, for guidance"
    )
    same_head_fraction: float = Field(
        0.0, ge=0, le=1, description="share of training pairs with equal head pose"
    )
    flip: bool = Field(
        False,
        description="mirror half of the training pairs, labels too; not with 3-D codes, since "
        "those of mirrored faces are not known",
    )


ObjectiveSettings = differences(ObjectiveOptions)


class DistilSettings(Section):
    """Learn the sampler of a trained model in few steps; see docs/methods.md."""

    teacher: str = Field(description="entry of models that is learnt from, of class xunet")
    steps: int = Field(1, ge=1, le=8, description="steps of the student, its evaluations")
    teacher_steps: int = Field(
        20, ge=1, le=1000, description="steps of the teacher, a multiple of the student's"
    )
    sampler: Literal["dpmpp_2m", "heun", "euler"] = Field(
        "dpmpp_2m", description="solver of the teacher; it starts anew for each of the steps"
    )
    sigma_max: float = Field(20.0, gt=0, description="first noise level of both")
    sigma_min: float = Field(0.05, gt=0, description="last noise level of the teacher")
    guidance: float = Field(
        0.0, ge=0, le=20, description="guidance weight of the teacher; the student needs none"
    )
    start: Literal["teacher", "random"] = Field(
        "teacher",
        description="first weights: the teacher's, which needs its network; or random, for which "
        "the network may be another",
    )

    @model_validator(mode="after")
    def _steps_fit(self):
        if self.teacher_steps % self.steps:
            raise ValueError(
                f"teacher_steps: {self.teacher_steps} is not a multiple of steps {self.steps}"
            )
        _check_levels(self)
        return self


def _check_levels(settings: DistilSettings | SamplingSettings) -> None:
    low, high = settings.sigma_min, settings.sigma_max
    if low >= high:
        raise ValueError(f"sigma_min: {low} must be below sigma_max {high}")


class SamplingSettings(SamplingOptions):
    """How pictures are made of noise; of a student or a regression only ``precision`` counts."""

    sampler: Literal["dpmpp_2m", "heun", "euler", "ancestral"] = Field(
        "dpmpp_2m", description="solver; ancestral is the reference"
    )
    steps: int = Field(4, ge=1, le=1000, description="solver steps")
    sigma_max: float = Field(20.0, gt=0, description="first noise level")
    sigma_min: float = Field(0.05, gt=0, description="last noise level")
    final_step: Literal["mean", "compat"] = Field(
        "mean",
        description="ancestral: mean ends without noise; compat as the published port, which "
        "adds (invisible) noise at the end and none in the middle of an even number of steps",
    )
    guidance: float = Field(0.0, ge=0, le=20, description="w of (1+w) conditioned - w not")
    guidance_interval: tuple[float, float] | None = Field(
        None,
        description="noise levels (sigma) between which guidance acts; default everywhere. "
        "Outside it costs nothing",
    )
    uncond_source: Literal["fixed", "fresh"] = Field(
        "fixed",
        description="the noise that unconditioned evaluations see as source: one per image, or "
        "fresh at every evaluation as in the published port, which costs more",
    )
    sources: int = Field(
        1,
        ge=1,
        le=16,
        description="pictures of the person that denoising steps choose from, the source among "
        "them; for methods that see the source beside the noise (two frames)",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the network's evaluations; auto: bf16 on GPUs, fp32 on CPUs"
    )

    @model_validator(mode="after")
    def _levels(self):
        _check_levels(self)
        low, high = self.guidance_interval or (0.0, 1.0)
        if not 0 <= low < high:
            raise ValueError(f"guidance_interval: expected 0 <= low < high, found {low} and {high}")
        return self


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``xunet``."""

    class_: Literal["xunet"] = Field(alias="class", description="folder of the method")
    preset: Literal["reference", "paper", "modern", "small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(64, ge=8, description="side of the images the network works on")
    network: NetworkSettings = NetworkSettings()
    pose: PoseSettings = PoseSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    deca: DecaSettings = DecaSettings()
    distil: DistilSettings | None = Field(
        None, description="learn the sampler of another model in few steps"
    )
    train: RedirectorTraining = RedirectorTraining()
    sampling: SamplingSettings = SamplingSettings()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: the image side is not divisible as the network needs, channels do not fit
                the norm groups, or options contradict each other.
        """
        done = {"class": "xunet", "preset": self.preset, "size_px": self.size_px}
        done |= chosen(self, PRESETS[self.preset], "network", "pose", "objective")
        done["network"]["code_dim"] = 0
        meshed = done["objective"]["warp"] == "mesh"
        if meshed:
            done["network"]["mask_channels"] = 1
        if done["network"]["code"] != "none" or meshed:
            done |= self._told(done)
        if self.distil is not None:
            done |= self._distilled(done)
        done["train"] = self.train.model_dump()
        for fault in chain(_faults(done), self._sampling_faults(done)):
            raise ValueError(fault)
        return done

    def tiny(self) -> ModelSettings:
        """The conditioning and the objective of this entry in a network of the preset ``tiny``."""
        done = self.options()
        sizes = ("ch", "ch_mult", "num_res_blocks", "attn_levels", "attn_heads", "emb_ch")
        kept = NetworkSettings.model_fields.keys() - {*sizes, "norm_groups", "dropout"}
        distil = self.distil
        if distil is not None:
            distil = distil.model_copy(update={"teacher_steps": 2 * distil.steps})
        return self.model_copy(
            update={
                "preset": "tiny",
                "size_px": 32,
                "network": NetworkSettings(**{name: done["network"][name] for name in kept}),
                "pose": PoseSettings(**done["pose"]),
                "objective": ObjectiveSettings(**done["objective"]),
                "distil": distil,
            }
        )

    def _sampling_faults(self, done: dict) -> Iterator[str]:
        """Options of sampling that would have no effect."""
        chosen, about = self.sampling, self.declare(done)
        usual = SamplingSettings().model_dump(exclude={"precision"})
        idle = [name for name, value in usual.items() if getattr(chosen, name) != value]
        if idle and not about.denoises:
            how = "in its own steps" if "distil" in done else "without noise"
            yield (
                f"sampling.{idle[0]}: expected nothing but precision for a model that makes its "
                f"pictures {how}, found {getattr(chosen, idle[0])!r}"
            )
        if chosen.guidance and not about.guidable:
            yield (
                f"sampling.guidance: {chosen.guidance} needs a model trained with "
                "objective.drop_prob above 0"
            )
        if chosen.sources > 1 and not about.several_sources:
            yield (
                f"sampling.sources: {chosen.sources}, but a network of one frame whose residuals "
                "are counted from its source sees that one alone; expected 1"
            )

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """Codes where the network takes them, the teacher of a student."""
        network, objective = config["network"], config["objective"]
        kind, inputs, networks = "source", (), ()
        codes, meshed = config.get("deca"), objective.get("warp") == "mesh"
        if codes is not None:
            kind = codes["target_code"] if network["code"] != "none" else "source"
            sides = ("source",) if kind == "source" else ("source", "target")
            options = {"encoder": codes["encoder"], "parts": codes["parts"]}
            inputs = (Input("codes", options, sides),)
        condition, student = TARGET_CODES[kind], "distil" in config
        if meshed:
            condition += "; the source turned over the head of its own code"
            networks += (Network("face", "encoders", codes["encoder"], always=True),)
        if student:
            condition += f"; learnt from {config['distil']['teacher']}"
            networks += (Network("teacher", "models", config["distil"]["teacher"]),)
        denoises = not student and objective["parameterization"] != "regression"
        residual = objective["parameterization"] == "residual_x0"
        return Declaration(
            condition=condition,
            inputs=inputs,
            networks=networks,
            denoises=denoises,
            guidable=denoises and objective["drop_prob"] > 0,
            # A network of one frame sees its source only through the picture that residuals are
            # counted from, which must stay the same over all steps.
            several_sources=denoises and (network["frames"] == 2 or not residual),
            no_graph=_MESHED if meshed else "",
            unused=_unused(student, meshed),
        )

    @staticmethod
    def check_networks(config: Mapping, networks: Mapping[str, Mapping]) -> None:
        """Refuse a teacher that a student cannot learn from; all reasons are told."""
        teacher = networks.get("teacher")
        if teacher is not None and (faults := teacher_faults(config, teacher)):
            raise ValueError("; ".join(faults))

    def _distilled(self, done: dict) -> dict:
        """Sections of a student."""
        if done["objective"]["parameterization"] == "regression":
            raise ValueError(
                "objective.parameterization: 'regression' takes one step already; expected eps, "
                "v, edm or residual_x0 with distil"
            )
        if self.objective.drop_prob:
            raise ValueError(
                "objective.drop_prob: expected 0 with distil, found "
                f"{self.objective.drop_prob}; a student learns the teacher's guidance"
            )
        objective = {**done["objective"], "drop_prob": 0.0}
        return {"objective": objective, "distil": self.distil.model_dump()}

    def _told(self, done: dict) -> dict:
        """Sections of a model that is told codes, or warps sources over their heads."""
        told = done["network"]["code"] != "none"
        if self.objective.flip:
            option = (
                f"network.code {done['network']['code']!r}" if told else "objective.warp 'mesh'"
            )
            raise ValueError(
                f"objective.flip: expected false with {option}, since codes of mirrored faces are "
                "not known"
            )
        parts = code_parts(self.deca.parts)
        return {
            "network": {**done["network"], "code_dim": code_dim(parts) if told else 0},
            "objective": {**done["objective"], "flip": False},
            "deca": {**self.deca.model_dump(), "parts": list(parts)},
        }


def _unused(student: bool, meshed: bool) -> tuple[str, ...]:
    """What a model never uses of the package."""
    found = () if student else ("distil:XUNetStudent",)
    return found if meshed else (*found, "mesh_warp:MeshWarp")


def teacher_faults(config: dict, teacher: dict) -> list[str]:
    """Why a student cannot learn from a teacher, a line for each reason.

    Args:
        config, teacher: resolved configurations of both.
    """
    name = config["distil"]["teacher"]
    why = ""
    if teacher.get("class") != "xunet":
        why = f"of class {teacher.get('class')!r}, expected xunet"
    elif "distil" in teacher:
        own = teacher["distil"]["teacher"]
        why = f"a student itself; expected its teacher, {own!r}"
    elif teacher["objective"]["parameterization"] == "regression":
        why = (
            "a regression, which takes one step already; expected parameterization eps, v, edm or "
            "residual_x0"
        )
    if why:
        return [f"distil.teacher: {name!r} is {why}"]
    same = ["size_px", "pose.mode", "objective.base", "objective.warp", "network.code", "deca"]
    if config["distil"]["start"] == "teacher":
        same += [f"network.{key}" for key in config["network"] if key not in ("code", "dropout")]
        same += ["pose.pos_octaves", "pose.dir_octaves"]
        same += [f"objective.{key}" for key in ("parameterization", "sigma_data", "sigma_residual")]
    faults = []
    for path in same:
        mine, theirs = (_at(side, path) for side in (config, teacher))
        if mine != theirs:
            faults.append(f"{path}: {mine!r}, but the teacher {name!r} has {theirs!r}")
    guidance = config["distil"]["guidance"]
    if guidance > 0 and not teacher["objective"]["drop_prob"]:
        faults.append(
            f"distil.guidance: {guidance} needs a teacher trained with objective.drop_prob above "
            f"0, {name!r} has 0"
        )
    return faults


def _at(config: dict, path: str):
    """The value at a dotted path, with lists for tuples as JSON has them; None without one."""
    value = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return json.loads(json.dumps(value))


def _faults(config: dict) -> Iterator[str]:
    """Why a network of these options cannot be built or trained."""
    network, objective, size = config["network"], config["objective"], config["size_px"]
    factor = network["unshuffle"] * 2 ** (len(network["ch_mult"]) - 1)
    if size % factor:
        yield (
            f"size_px: {size} is not divisible by {factor} (unshuffle {network['unshuffle']} "
            f"times 2 per level below the first of {len(network['ch_mult'])})"
        )
    for factor in (1, *network["ch_mult"]):
        channels = network["ch"] * factor
        if channels % network["norm_groups"] or channels % network["attn_heads"]:
            yield (
                f"network.ch: {network['ch']} x {factor} = {channels:g} channels are not divisible "
                f"by norm_groups {network['norm_groups']} and attn_heads {network['attn_heads']}"
            )
    levels = len(network["ch_mult"])
    if bad := [level for level in network["attn_levels"] if not 0 <= level <= levels]:
        yield f"network.attn_levels: {bad[0]} is not a level; expected 0 to {levels}"
    if network["code"] == "stack" and size % 8:
        yield f"size_px: {size} is not divisible by 8, the cells of stacked codes"
    kind, base = objective["parameterization"], objective["base"]
    based = kind in ("residual_x0", "regression")
    if based == (base == "none"):
        yield (
            f"objective.base: {base!r} does not go with parameterization {kind!r}; residual_x0 "
            "and regression start from an image"
        )
    if based and objective["loss_weight"] != "uniform":
        yield (
            f"objective.loss_weight: {objective['loss_weight']!r} is for eps, v, edm and flow; "
            f"expected uniform with {kind!r}"
        )
    if objective["warp"] == "mesh":
        if base != "warp":
            yield f"objective.warp: 'mesh' goes with base 'warp', found base {base!r}"
        if lacks := [name for name in _HEAD_PARTS if name not in config["deca"]["parts"]]:
            yield f"deca.parts: lack {', '.join(lacks)}, of which objective.warp 'mesh' makes heads"
    if network["frames"] == 1 and not network["concat_source"]:
        yield (
            "network.concat_source: must be true with frames 1, which has no other way to see the "
            "source"
        )


_REFERENCE = {
    "network": NetworkOptions().model_dump(),
    "pose": PoseOptions().model_dump(),
    "objective": ObjectiveOptions().model_dump(),
}


_PAPER = derived(_REFERENCE, network={"logsnr_input": "squashed", "film_activation": "silu"})
_MODERN = derived(
    _PAPER,
    pose={"pos_octaves": 6},
    objective={"parameterization": "edm", "noise": "lognormal"},
)
_SMALL = derived(
    _MODERN,
    network={
        "ch": 32,
        "ch_mult": (1, 1.5, 2),
        "num_res_blocks": 1,
        "attn_levels": (2, 3),
        "attn_heads": 2,
        "dropout": 0.0,
        "emb_ch": 64,
        "norm_groups": 8,
        "concat_source": True,
        "unshuffle": 2,
    },
    pose={"dir_octaves": 4},
    objective={
        "parameterization": "residual_x0",
        "lnsigma_mean": 1.0,
        "lnsigma_std": 1.6,
        "base": "warp",
        "eye_weight": 8.0,
        "same_head_fraction": 0.5,
        "flip": True,
    },
)
_TINY = derived(_SMALL, network={"ch": 16, "ch_mult": (1, 2), "attn_levels": (1, 2), "emb_ch": 32})

PRESETS = {
    "reference": _REFERENCE,
    "paper": _PAPER,
    "modern": _MODERN,
    "small": _SMALL,
    "tiny": _TINY,
}
"""Complete network, pose and objective options per preset."""
