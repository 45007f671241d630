"""Configuration of GC-GAN: presets and the options that differ from them.

``reference`` is the published size, ``small`` learns within CPU minutes, ``tiny`` is for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import (
    Declaration,
    Input,
    MethodSettings,
    Network,
    SamplingOptions,
    StartFile,
)
from regaze.redirectors.presets import Section, chosen, derived, differences, in_tiny_networks
from regaze.training.settings import RedirectorTraining


class NetworkOptions(Section):
    """Options of the networks; one that is left out is the preset's."""

    style_dim: int = Field(512, ge=1, description="numbers of a row of a code")
    n_mlp: int = Field(8, ge=1, description="layers of the mapping network")
    channel_multiplier: int = Field(2, ge=1, description="width of the networks above 32 px")
    channel_max: int = Field(512, ge=1, description="their largest width")
    seg_dim: Literal[6, 7] = Field(6, description="classes; with seven the mouth is one")
    coarse_size: int = Field(64, ge=2, description="side of the map that classes are composed in")
    min_feat_size: int = Field(16, ge=1, description="side at which the render net begins")
    local_layers: int = Field(10, ge=2, description="layers of a class' generator")
    local_channel: int = Field(64, ge=1, description="their channels")
    coarse_channel: int = Field(512, ge=1, description="channels of the composed map")
    base_layers: int = Field(2, ge=0, description="layers that read coarse structure")
    depth_layers: int = Field(6, ge=1, description="layers before the pseudo-depth")
    residual_refine: bool = Field(True, description="coarse classes are added to the fine ones")
    detach_texture: bool = Field(False, description="texture teaches the layers of shape nothing")
    transparent_dims: tuple[int, ...] = Field(
        (10, 12), description="classes that others are seen through"
    )
    gaze_ids: tuple[int, ...] = Field((2, 5), description="classes that are told the gaze")


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(Section):
    """What the terms count; those of 0 are not computed."""

    r1_img: float = Field(10.0, ge=0, description="slope of the discriminator in pictures")
    r1_seg: float = Field(1000.0, ge=0, description="slope of the discriminator in masks")
    r1_every: int = Field(16, ge=1, description="steps from one of both to the next")
    path: float = Field(0.5, ge=0, description="length of paths")
    path_every: int = Field(4, ge=1, description="steps from one of them to the next")
    mask: float = Field(100.0, ge=0, description="coarse and fine masks agree")
    mismatch: float = Field(
        0.0, ge=0, description="real pictures with the gaze of others count as drawn (stage 1)"
    )
    mixing: float = Field(0.0, ge=0, le=1, description="share of batches of two codes, class-wise")
    broken_share: float = Field(
        10_000 / 256**2,
        gt=0,
        le=1,
        description="of a picture: more iris breaks a mask, which then need not be kept (stage 2)",
    )
    reading: float = Field(
        0.0,
        ge=0,
        description="gaze that the training estimator reads in real pictures with drawn eyes",
    )
    reconstruction: float = Field(
        0.0,
        ge=0,
        description="an encoder's codes draw their pictures again, with their classes, or the "
        "target where its head is the same (stage 1)",
    )
    prior: float = Field(
        0.003, ge=0, description="divergence of the encoder's codes from noise, in nats"
    )
    judge_every: int = Field(
        1,
        ge=1,
        description="with reconstruction: steps from one of the discriminator to the next",
    )
    same_head_fraction: float = Field(
        0.0, ge=0, le=1, description="share of training pairs with equal head pose"
    )
    reading_every: int = Field(2, ge=1, description="steps from one reading to the next")
    flip: bool = Field(False, description="mirror half of the pictures, yaw changing its sign")


ObjectiveSettings = differences(ObjectiveOptions)


class SamplingSettings(SamplingOptions):
    """How the code of a source is found, and what is pasted into it."""

    steps: int = Field(100, ge=0, description="of the descent on the code; 0: the mean code")
    rate: float = Field(0.1, gt=0, description="its largest learning rate")
    pixels: float = Field(1.0, ge=0, description="weight of the squared difference")
    near: float = Field(0.01, ge=0, description="weight of the distance to the mean code")
    paste: Literal["strip", "difference"] = Field(
        "strip",
        description="strip: the drawn region, feathered; difference: the source, changed by what "
        "the gaze changes in what is drawn",
    )


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``gcgan``."""

    class_: Literal["gcgan"] = Field(alias="class", description="folder of the method")
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(64, ge=8, description="side of the images and of what is drawn")
    stage: Literal[1, 2] = Field(
        1,
        description="1: labelled pictures; 2: those of data.unlabelled, from the weights of a "
        "first stage (train.transfer)",
    )
    crop: Literal["eye_strip", "eyes", "face"] = Field(
        "eye_strip",
        description="what of a patch is drawn: brows, eyes and upper nose, in the middle of a "
        "black square (published) or stretched to the whole of it; or all",
    )
    likeness: Literal["lpips_vgg16", "lpips_alexnet"] | None = Field(
        None, description="network that codes are found by as well, of assets"
    )
    restyle: str | None = Field(
        None, description="ReStyle encoder of 256 px, a file, that the descent begins from"
    )
    estimator: str = Field("vgg", description="entry of estimators, for objective.reading")
    checkpoint: str | None = Field(
        None, description="published weights (ckpt/NNNNNN.pt); then nothing is trained"
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()
    sampling: SamplingSettings = SamplingSettings()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: sides do not fit each other, or options contradict each other.
        """
        done = super().options()
        done |= chosen(self, PRESETS[self.preset], "network", "objective")
        for name in ("checkpoint", "restyle"):
            if done[name] is None:
                del done[name]
        for fault in _faults(done):
            raise ValueError(fault)
        return done

    def tiny(self) -> ModelSettings:
        """The objective of this entry in the networks of the preset ``tiny``."""
        return in_tiny_networks(self, checkpoint=None, restyle=None)

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """Eye regions; in the second stage unlabelled ones as well."""
        second = config["stage"] == 2
        sides = ("source", "target") if has_encoder(config) else ("source",)
        if second:
            sides = ("source", "unlabelled")
        told = {"classes": config["network"]["seg_dim"], "crop": config["crop"]}
        networks = []
        if config["objective"]["reading"]:
            networks.append(Network("estimator", "estimators", config["estimator"]))
        if config["likeness"]:
            networks.append(Network("likeness", "assets", config["likeness"], always=True))
        starts = (StartFile("restyle", config["restyle"]),) if "restyle" in config else ()
        return Declaration(
            "gaze angles",
            ("gaze",),
            (Input("eye_regions", told, sides),),
            tuple(networks),
            starts,
            unlabelled=second,
            no_graph="each source is drawn with a look of its own, which is searched for",
        )


def has_encoder(config: Mapping) -> bool:
    """Whether an encoder belongs to the model: a first stage trains it, a second one keeps it."""
    return config["objective"]["reconstruction"] > 0


def _faults(done: Mapping) -> Iterator[str]:
    network, size = done["network"], done["size_px"]
    if size & (size - 1):
        yield f"size_px: expected a power of two, found {size}"
    least = network["min_feat_size"]
    for name, side in (("size_px", size), ("network.coarse_size", network["coarse_size"])):
        ratio = side // least
        if side % least or ratio < 2 or ratio & (ratio - 1):
            yield f"{name}: expected network.min_feat_size {least} times 2, 4, 8, ..., found {side}"
    if network["coarse_size"] >= size:
        yield (
            f"network.coarse_size: expected less than size_px {size}, found "
            f"{network['coarse_size']}"
        )
    layers = [network[name] for name in ("base_layers", "depth_layers", "local_layers")]
    if layers != sorted(layers):
        yield (
            "network.base_layers, depth_layers, local_layers: expected each at least the one "
            f"before, found {', '.join(map(str, layers))}"
        )
    if outside := [one for one in network["gaze_ids"] if not 0 <= one < network["seg_dim"]]:
        last = network["seg_dim"] - 1
        yield f"network.gaze_ids: expected classes 0 to {last}, found {outside[0]}"
    if done["stage"] == 2 and done["train"]["transfer"] is None:
        yield "train.transfer: stage 2 begins at the weights of a stage 1, found none"
    objective = done["objective"]
    often = has_encoder(done) and done["stage"] == 1
    if often and objective["r1_every"] % objective["judge_every"]:
        yield (
            "objective.r1_every: expected a multiple of objective.judge_every "
            f"{objective['judge_every']}, found {objective['r1_every']}"
        )
    batch = done["train"]["batch"]
    if batch > 4 and batch % 4:
        yield f"train.batch: expected up to 4, or a multiple of 4, found {batch}"
    if "restyle" in done and (size, network["style_dim"]) != (256, 512):
        yield (
            "size_px, network.style_dim: restyle needs 256 and 512, found "
            f"{size} and {network['style_dim']}"
        )


_REFERENCE = {
    "network": NetworkOptions().model_dump(),
    "objective": ObjectiveOptions().model_dump(),
}
_SMALL = derived(
    _REFERENCE,
    network={"style_dim": 64, "n_mlp": 2, "channel_multiplier": 1, "channel_max": 32}
    | {"coarse_size": 32, "min_feat_size": 8, "local_channel": 32, "coarse_channel": 32}
    | {"local_layers": 6, "depth_layers": 4},
    objective={"r1_img": 1.0, "r1_seg": 100.0, "r1_every": 32, "path": 0.0}
    | {"reconstruction": 10.0, "judge_every": 8, "reading": 5.0, "reading_every": 4}
    | {"same_head_fraction": 0.5},
)
_TINY = derived(
    _SMALL,
    network={"style_dim": 32, "coarse_size": 16, "min_feat_size": 4, "local_channel": 16}
    | {"local_layers": 10, "depth_layers": 6},
    objective={"reading": 0.0},
)

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Network and objective options per preset."""
