"""Configuration of DiffusionRig: presets and the options that differ from them.

``reference`` is the published network at 256 px (``adobe-research/diffusion-rig``), ``small``
learns within CPU minutes, ``tiny`` is for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field, model_validator

from regaze.codes import CODES
from regaze.redirectors.declaration import (
    Declaration,
    Input,
    MethodSettings,
    Network,
    SamplingOptions,
)
from regaze.redirectors.presets import Section, chosen, derived, differences, in_tiny_networks
from regaze.training.settings import RedirectorTraining

PARTS = tuple(part for part in CODES if part != "detail")
"""Codes that buffers are rendered from."""

CHANNELS = {"published": 9, "gaze": 12}
"""Of buffers: rendered, normal and albedo, and where eyes look on their visible pixels."""

BASE = slice(9, 12)
"""Channels of the picture that predictions are counted from, where there is one."""

FACTORS_OF = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
"""Published factors of channels by the side of pictures."""


class NetworkOptions(Section):
    """Options of the networks; one that is left out is the preset's."""

    channels: int = Field(128, ge=32, multiple_of=32, description="of the U-Net at factor 1")
    factors: tuple[float, ...] | None = Field(
        None, description="of channels, per level; null: the published ones of `size_px`"
    )
    blocks: int = Field(2, ge=1, description="residual blocks per level")
    attention_px: tuple[int, ...] = Field((16,), description="sides of feature maps that attend")
    heads: int = Field(1, ge=1, description="of attention")
    head_channels: int | None = Field(None, ge=1, description="of a head, in place of `heads`")
    upsample_heads: int | None = Field(None, ge=1, description="on the way up; null: as many")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of features")
    block_resampling: bool = Field(
        True, description="residual blocks change the resolution; else convolutions"
    )
    new_attention: bool = Field(False, description="heads are split after query, key and value")
    learned_range: bool = Field(
        False, description="variances are predicted too; of published weights alone"
    )
    latent: int = Field(64, ge=1, description="numbers of the code of a picture")
    encoder: Literal["resnet18", "resnet50", "compact"] = Field(
        "resnet18", description="of pictures; compact: for CPUs"
    )
    unshuffle: Literal[1, 2, 4] = Field(
        1, description="side of blocks of pixels that the U-Net takes as channels"
    )


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(Section):
    """How the noise is learnt to be predicted."""

    schedule: Literal["linear", "cosine"] = Field("linear", description="of variances")
    steps: int = Field(1000, ge=10, description="of the whole chain")
    p2_gamma: float = Field(
        1.0, ge=0, description="errors count (p2_k + snr) ** -p2_gamma; 0: all the same"
    )
    p2_k: float = Field(1.0, gt=0, description="see p2_gamma")
    code_of: Literal["own", "other"] = Field(
        "own",
        description="the picture whose code a training picture is drawn with: itself, as "
        "published, or another one of the person, which does not tell where it looks",
    )
    same_head_fraction: float = Field(
        0.0, ge=0, le=1, description="share of training pairs with equal head pose"
    )
    base: Literal["none", "mesh"] = Field(
        "none",
        description="a further input, mesh: the source carried along by its 3-D face to where the "
        "target's is, in the target's light",
    )
    light: Literal["own", "source"] = Field(
        "own",
        description="what training targets are rendered in; source: where the light is the same in "
        "all photos of a person, so that codes of it differ by the encoder's errors alone",
    )
    predict: Literal["noise", "residual"] = Field(
        "noise", description="residual: what the picture is beside its base, not weighted"
    )
    sigma_residual: float = Field(
        0.16, gt=0, description="unit of residuals: about their standard deviation"
    )
    eye_weight: float = Field(
        0.0, ge=0, description="errors in the two eye boxes count 1 + eye_weight times"
    )


ObjectiveSettings = differences(ObjectiveOptions)


class SamplingSettings(SamplingOptions):
    """How pictures are made of noise."""

    sampler: Literal["ddim", "ddpm", "heun", "dpmpp_2m"] = Field(
        "ddim", description="ddpm adds noise at every step"
    )
    steps: int = Field(20, ge=1, le=1000, description="of the chain that are kept")
    respacing: str | None = Field(
        None, description='which, in place of steps: "ddim50", "250", "10,15,20"'
    )
    kept: tuple[int, ...] | None = Field(
        None,
        description="numbers of the kept steps, rising, as many as steps; where others than those "
        "of the entry are asked for, they are spaced evenly again",
    )
    eta: float = Field(0.0, ge=0, le=1, description="noise of ddim's steps; 0: none")
    clip: bool = Field(True, description="estimates are clipped to the range of pictures")
    start: Literal["noise", "inverted"] = Field(
        "noise",
        description="inverted: the noise that the source came of, as deterministic "
        "steps find it, which keeps more of the source and costs as many steps again",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the network; auto: bf16 on GPUs, fp32 on CPUs"
    )

    @model_validator(mode="after")
    def _one_noise(self):
        if self.eta and self.sampler != "ddim":
            raise ValueError(f"eta: is of sampler ddim; expected 0 with {self.sampler!r}")
        return self

    @model_validator(mode="after")
    def _rising(self):
        kept = self.kept
        if kept is not None and (not kept or kept[0] < 0 or sorted(set(kept)) != list(kept)):
            raise ValueError(f"kept: expected numbers of steps, rising, found {list(kept)}")
        if kept is not None and (len(kept) != self.steps or self.respacing is not None):
            raise ValueError(
                f"kept: expected {self.steps} numbers (steps) and no respacing, found {len(kept)}"
            )
        return self


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``diffusionrig``."""

    class_: Literal["diffusionrig"] = Field(alias="class", description="folder of the method")
    variant: Literal["published", "gaze"] = Field(
        "published",
        description="gaze: eyes turn in the renderings, and buffers say where they look",
    )
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option of `network` left out comes from"
    )
    size_px: int = Field(64, ge=16, description="side of the pictures")
    encoder: str = Field("deca", description="entry of encoders whose codes are rendered")
    checkpoint: str | None = Field(
        None,
        description="published weights of either stage; what shapes tell of the network is read "
        "off them, and nothing is trained",
    )
    head_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="head model (sha256 of `regaze head show`) that a checkpoint of your own "
        "training belongs to; default: FLAME 2020, as the published ones do",
    )
    stage: Literal[1, 2] = Field(
        1,
        description="2: of one person: the encoder of pictures is frozen, `train.transfer` needed",
    )
    mean_shape: bool = Field(
        False, description="all are rendered with the mean shape of the pictures trained on"
    )
    cache_mb: int = Field(
        1000, ge=0, description="buffers of training pictures that are kept in memory"
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()
    sampling: SamplingSettings = SamplingSettings()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: the networks do not fit the pictures, or options contradict each other.
        """
        done = super().options()
        done |= chosen(self, PRESETS[self.preset], "network", "objective")
        if self.objective.code_of is None and self.variant == "gaze":
            done["objective"]["code_of"] = "other"
        network = done["network"]
        if network["factors"] is None:
            if self.size_px not in FACTORS_OF:
                known = ", ".join(map(str, FACTORS_OF))
                raise ValueError(
                    f"network.factors: none are published for size_px {self.size_px}, but for "
                    f"{known}; expected some"
                )
            network["factors"] = FACTORS_OF[self.size_px]
        if self.checkpoint is None:
            del done["checkpoint"], done["head_sha256"]
        for fault in _faults(done, self):
            raise ValueError(fault)
        return done

    def tiny(self) -> ModelSettings:
        """Variant and objective of this entry in the networks of the preset ``tiny``."""
        transfer = {"transfer": None}
        train = self.train.model_copy(update=transfer)
        return in_tiny_networks(self, checkpoint=None, head_sha256=None, stage=1, train=train)

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """Codes with where they were read, and the head model that they are rendered with."""
        sides, gaze = ("source", "target"), config["variant"] == "gaze"
        codes = {"encoder": config["encoder"], "parts": list(PARTS)}
        told = "head angles, expression, jaw and light, rendered from the source's 3-D code"
        return Declaration(
            condition=f"gaze, {told}" if gaze else told,
            factors=(*(("gaze",) if gaze else ()), "head", "expression", "jaw", "light"),
            kept=("shape",),
            inputs=(Input("codes", codes, sides), Input("crops", {}, sides)),
            networks=(Network("face", "encoders", config["encoder"], always=True),),
            denoises=True,
            no_graph="its conditions are pictures rendered from a head model's codes",
        )


def _faults(done: Mapping, entry: ModelSettings) -> Iterator[str]:
    network, size = done["network"], done["size_px"]
    factor = 2 ** (len(network["factors"]) - 1) * network["unshuffle"]
    if size % factor:
        levels = len(network["factors"])
        yield f"size_px: expected a multiple of {factor} with {levels} levels, found {size}"
    heads = network["head_channels"] or network["heads"]
    for share in network["factors"]:
        channels = network["channels"] * share
        if channels % 32 or channels < 32 or channels % heads:
            yield (
                f"network.factors: {share:g} x {network['channels']} = {channels:g} channels; "
                f"expected a multiple of 32 and of {heads}"
            )
    if wrong := [px for px in network["attention_px"] if px < 1 or size % px]:
        yield f"network.attention_px: expected sides that divide size_px {size}, found {wrong[0]}"
    objective, kept = done["objective"], entry.sampling.kept
    if objective["predict"] == "residual" and objective["base"] == "none":
        yield "objective.predict: residual, but objective.base is none; expected mesh"
    if kept is not None and kept[-1] >= objective["steps"]:
        yield f"sampling.kept: expected steps below {objective['steps']}, found {kept[-1]}"
    if network["learned_range"] and entry.checkpoint is None:
        yield "network.learned_range: expected false without checkpoint: it cannot be trained"
    if entry.stage == 2 and entry.train.transfer is None and entry.checkpoint is None:
        yield "train.transfer: expected the weights of stage 1 with stage 2, found none"
    if entry.checkpoint is None and entry.head_sha256 is not None:
        yield "head_sha256: is for a checkpoint; what is trained here has its own"
    if entry.checkpoint is not None and entry.mean_shape:
        yield "mean_shape: expected false with checkpoint, which holds no shape"


_REFERENCE = {
    "network": NetworkOptions().model_dump(),
    "objective": ObjectiveOptions().model_dump(),
}
_SMALL = derived(
    _REFERENCE,
    network={
        "channels": 32,
        "factors": (1, 2, 2),
        "blocks": 1,
        "dropout": 0.0,
        "encoder": "compact",
        "unshuffle": 2,
    },
    objective={
        "base": "mesh",
        "light": "source",
        "predict": "residual",
        "eye_weight": 8.0,
        "same_head_fraction": 0.5,
    },
)
_TINY = derived(_SMALL, network={"factors": (1, 2), "latent": 16})

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Network and objective options per preset."""
