"""Configuration of radiance fields: presets, losses and the options that differ from them.

Networks: ``reference`` is the published size of the variant (Reso32HR of HeadNeRF, the defaults of
``AlessandroRuzzi/GazeNeRF``), ``small`` learns within CPU minutes, ``tiny`` is for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

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

CODE_PARTS = ("shape", "expression", "texture", "light")
"""Of a head, in the order of the field's two codes: two of its form, two of its colours."""


class NetworkOptions(Section):
    """Options of the field; one that is left out is the preset's."""

    side: int = Field(64, ge=2, description="side of the feature map")
    channels: int = Field(258, ge=4, description="of the feature map; gazenerf: a multiple of 3")
    hidden: int = Field(384, ge=2, multiple_of=2, description="width of the perceptrons")
    samples: int = Field(64, ge=3, description="samples per ray")
    fine: int = Field(0, ge=0, description="further samples per ray, where the density is")
    gaze_dim: int = Field(
        64,
        ge=2,
        multiple_of=2,
        description="numbers in which the gaze is told, its angles again and again "
        "(headnerf_gazecat, headnerf_gaze)",
    )
    gaze_columns: bool = Field(
        False,
        description="the gaze is told as two columns of a rotation; `gaze_dim`: a multiple of 6 "
        "(headnerf_gazecat, headnerf_gaze)",
    )
    near_points: bool = Field(True, description="the gaze branch sees points (headnerf_gaze)")
    gaze_share: float = Field(
        1.0, ge=0, le=1, description="of the gaze's features against those of a gaze of 0"
    )
    gaze_frame: Literal["head", "camera"] = Field(
        "head",
        description="frame in which the gaze is told: the head's, or the camera's as published "
        "weights of headnerf_gaze have it",
    )
    gaze_scale: float = Field(
        1.0, gt=0, description="the gaze is told in so many times radians; 1 as published"
    )
    bands: int = Field(
        10, ge=1, le=16, description="frequencies by which points are encoded: 1, 2, 4, ..."
    )
    near: float = Field(
        2.5, description="where rays begin to be sampled, in front of the face, in `unit`"
    )
    far: float = Field(-3.5, description="where that ends, behind it")
    spread: float = Field(
        1.0, gt=0, description="deviation of codes as they are told, of each part together"
    )
    gain: float = Field(
        1.0,
        gt=0,
        description="factor of the first weights of trunks; 1 as published, with which little of "
        "points and codes comes through eight layers",
    )
    directions: bool = Field(False, description="colours depend on the direction of rays")
    white: bool = Field(True, description="the background begins white; else black")
    recompute: bool = Field(
        False, description="compute activations again for gradients: less memory, more time"
    )
    shape: int = Field(100, ge=1, description="numbers of the identity, without `encoder`")
    expression: int = Field(79, ge=1, description="numbers of the expression, without `encoder`")
    texture: int = Field(100, ge=1, description="numbers of the texture, without `encoder`")
    light: int = Field(27, ge=1, description="numbers of the light, without `encoder`")
    focal: float = Field(
        500 / 128, gt=0, description="focal length of the patches' camera over their side"
    )
    distance: float = Field(600.0, gt=0, description="from that camera to the face in mm")
    unit: float = Field(75.0, gt=0, description="mm of a unit of the field's world")


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(Section):
    """What the terms count, as in the publications; those of 0 are not computed."""

    distance: Literal["l1", "l2"] = Field(
        "l1", description="of colours inside masks: absolute or squared; outside it is squared"
    )
    background: float = Field(1.0, ge=0, description="the picture of no head against white")
    head: float = Field(1.0, ge=0, description="picture and photo where the head is")
    nonhead: float = Field(1.0, ge=0, description="the picture against white where it is not")
    eye_region: float = Field(0.0, ge=0, description="picture and photo where the eyes are")
    face: float = Field(0.0, ge=0, description="face stream and photo outside the eyes (gazenerf)")
    eyes: float = Field(0.0, ge=0, description="eye stream and photo in the eyes (gazenerf)")
    template: float = Field(
        0.0, ge=0, description="the picture of gaze 0 and the photo outside the eyes"
    )
    template_whole: bool = Field(
        False, description="template: in the eyes as well, which then learn nothing of the gaze"
    )
    template_eyes: float = Field(
        0.0,
        ge=0,
        description="the picture of gaze 0 and a photo of less gaze in the eyes (headnerf_gaze)",
    )
    template_noise: float = Field(
        0.0, ge=0, description="deviation of the template's gaze in radians"
    )
    displaced: float = Field(
        0.0, ge=0, description="pictures of two gazes outside the eyes (absolute)"
    )
    perceptual: float = Field(
        0.0, ge=0, description="features of VGG-16, or of the training estimator without `vgg16`"
    )
    perceptual_parts: float = Field(0.0, ge=0, description="the same of both streams (gazenerf)")
    angular: float = Field(
        0.0, ge=0, description="degrees between gazes that the training estimator reads"
    )
    adversarial: float = Field(
        0.0, ge=0, description="a discriminator of patches; 0.1 is the published weight"
    )
    adversarial_images: int = Field(
        200_000, ge=1, description="images over which its weight grows from 0 to 1"
    )
    turn: float = Field(0.001, ge=0, description="squares of the camera's learnt angles")
    shift: float = Field(0.001, ge=0, description="squares of its learnt offsets")
    identity: float = Field(0.001, ge=0, description="squares of learnt offsets of the identity")
    expression: float = Field(1.0, ge=0, description="the same of the expression")
    appearance: float = Field(0.001, ge=0, description="the same of texture and light")
    codes: Literal["own", "source"] = Field(
        "own",
        description="whose codes a training picture is drawn with: its own, as published, or "
        "those of another picture of the person",
    )
    offsets: bool = Field(
        True,
        description="learn offsets of codes and camera of every training picture with the field",
    )
    crop: int = Field(
        0,
        ge=0,
        description="side of a part of the feature map that is drawn and compared; 0: all of it",
    )
    same_head_fraction: float = Field(
        0.0, ge=0, le=1, description="share of training pairs with equal head pose"
    )


ObjectiveSettings = differences(ObjectiveOptions)


class SamplingSettings(SamplingOptions):
    """How a head is fitted to a source before it is drawn again."""

    steps: int = Field(20, ge=0, description="of the descent from the encoder's codes; 0: none")
    rate: float = Field(
        1.0, gt=0, description="factor of its learning rates, which are 0.015, 0.01 and 0.001"
    )
    fine_tune: int = Field(
        0,
        ge=0,
        description="further steps in which all weights learn from the source as well, a field for "
        "each, as GazeNeRF is evaluated; 75 there",
    )
    fine_tune_rate: float = Field(1e-4, gt=0, description="learning rate of these")


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``gazenerf``."""

    class_: Literal["gazenerf"] = Field(alias="class", description="folder of the method")
    variant: Literal["headnerf", "headnerf_gazecat", "headnerf_gaze", "gazenerf"] = Field(
        "gazenerf", description="how the gaze is told: not, with the shape, in a branch, in a field"
    )
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option of `network` left out comes from"
    )
    losses: Literal["fit", "seed", "gazenerf"] | None = Field(
        None,
        description="where every option of `objective` left out comes from; default the variant's",
    )
    size_px: int = Field(64, ge=8, description="side of the pictures")
    encoder: str | None = Field(
        "deca", description="entry of encoders whose codes are begun from; null: zeros"
    )
    estimator: str = Field(
        "vgg", description="entry of estimators for `perceptual` and `angular`, if they are on"
    )
    vgg16: str | None = Field(
        None, description="torchvision's VGG-16 for `perceptual`, a file; null: the estimator"
    )
    checkpoint: str | None = Field(
        None,
        description="published weights (model_Reso32HR.pth, epoch_*_ckpt.pth.tar, *.json) of "
        "preset reference and `encoder: null`; then nothing is trained",
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()
    sampling: SamplingSettings = SamplingSettings()

    def options(self) -> dict:
        """Return the complete configuration, presets filled in, as plain values.

        Raises:
            ValueError: options contradict each other.
        """
        done = super().options()
        losses = self.losses or _LOSSES_OF[self.variant]
        preset = {"network": _network(self.preset, self.variant), "objective": LOSSES[losses]}
        done |= chosen(self, preset, "network", "objective")
        done["losses"] = losses
        if self.encoder is not None:
            done["network"] |= {part: CODES[part] for part in CODE_PARTS}
        if self.checkpoint is None:
            del done["checkpoint"]
        for fault in _faults(done, self):
            raise ValueError(fault)
        return done

    def tiny(self) -> ModelSettings:
        """Variant and objective of this entry in the network of the preset ``tiny``."""
        changes = {"checkpoint": None, "losses": self.losses or _LOSSES_OF[self.variant]}
        made = in_tiny_networks(self, **changes)
        crop = made.objective.crop
        own = made.objective.model_copy(update={"crop": 6 if crop else 0})
        return made.model_copy(update={"objective": own})

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """Codes of the encoder, masks, and the training estimator where a term is on."""
        objective, variant = config["objective"], config["variant"]
        factors = ("head",) if variant == "headnerf" else ("gaze", "head")
        condition = " and ".join(factors) + " angles" if len(factors) > 1 else "head angles"
        if "checkpoint" in config:
            return Declaration(condition, factors, no_graph=_FITTED)
        inputs = [Input("masks", {"names": ["head", "eyes"]})]
        if config["encoder"] is not None:
            parts = [part for part in CODES if part in CODE_PARTS]
            told = {"encoder": config["encoder"], "parts": parts}
            sides = ("source", "target") if objective["codes"] == "own" else ("source",)
            inputs.append(Input("codes", told, sides))
        seen = objective["perceptual"] or objective["perceptual_parts"]
        read = objective["angular"] or (seen and config["vgg16"] is None)
        networks = (Network("estimator", "estimators", config["estimator"]),) if read else ()
        return Declaration(condition, factors, tuple(inputs), networks, no_graph=_FITTED)


_FITTED = "a head is fitted to its source by many steps of gradient descent"


def _faults(done: Mapping, entry: ModelSettings) -> Iterator[str]:
    network, objective, variant = done["network"], done["objective"], done["variant"]
    side, size = network["side"], done["size_px"]
    scale = size // side
    if size % side or scale < 2 or scale & (scale - 1):
        yield (
            f"size_px: expected network.side {side} times 2, 4, 8, ..., the side of the feature "
            f"map, found {size}"
        )
    if network["near"] <= network["far"]:
        yield f"network.near: expected more than far, {network['far']}, found {network['near']}"
    if variant == "gazenerf" and network["channels"] % 3:
        yield (
            "network.channels: gazenerf turns triples; expected a multiple of 3, found "
            f"{network['channels']}"
        )
    if network["gaze_columns"] and network["gaze_dim"] % 6:
        found = network["gaze_dim"]
        yield f"network.gaze_dim: expected a multiple of 6 with gaze_columns, found {found}"
    own = {"face": "gazenerf", "eyes": "gazenerf", "perceptual_parts": "gazenerf"}
    own |= {"template": "headnerf_gaze", "template_eyes": "headnerf_gaze"}
    for term, of in own.items():
        if objective[term] and variant != of:
            yield f"objective.{term}: expected 0, it is a term of {of}, found {objective[term]}"
    if objective["displaced"] and variant == "headnerf":
        yield "objective.displaced: expected 0, headnerf is told no gaze"
    crop = objective["crop"]
    if crop and not 5 <= crop < side:
        yield f"objective.crop: expected 0, or 5 to network.side - 1 ({side - 1}), found {crop}"
    whole = ("perceptual", "perceptual_parts", "angular", "adversarial")
    if crop and (on := [name for name in whole if objective[name]]):
        yield f"objective.{on[0]}: expected 0 with objective.crop, which it needs the rest of"
    if "checkpoint" in done and (entry.preset, entry.encoder) != ("reference", None):
        yield (
            "checkpoint: published weights need preset 'reference' and encoder null, found "
            f"{entry.preset!r} and {entry.encoder!r}"
        )


_LOSSES_OF = {
    "headnerf": "fit",
    "headnerf_gazecat": "fit",
    "headnerf_gaze": "seed",
    "gazenerf": "gazenerf",
}
_FIT = ObjectiveOptions(distance="l2").model_dump()
LOSSES = {
    "fit": _FIT,
    "seed": {
        **_FIT,
        **{"eye_region": 10.0, "template": 0.5, "template_eyes": 5.0, "template_noise": 0.08},
        **dict.fromkeys(("turn", "shift", "identity", "expression", "appearance"), 0.0),
    },
    "gazenerf": ObjectiveOptions(face=1.0, eyes=1.0).model_dump(),
}
"""The weighted terms of the three publications, but for those of networks to be brought:
``perceptual`` is 1 in all three, ``perceptual_parts`` 1 and ``angular`` 10 / 60000 in the last."""


def _network(preset: str, variant: str) -> dict:
    """Options of the network: the published size is another for each variant."""
    found = dict(PRESETS[preset]["network"])
    if preset == "reference" and variant != "gazenerf":
        found |= {"side": 32, "channels": 256}
    return found


_REFERENCE = {"network": NetworkOptions().model_dump()}
_SMALL = derived(
    _REFERENCE,
    network={
        **{"side": 16, "channels": 48, "hidden": 64, "samples": 6, "gaze_dim": 8, "bands": 5},
        **{"near": 1.0, "far": -1.6, "gaze_scale": 6.0, "gain": 1.5, "spread": 0.3},
    },
)
_TINY = derived(_SMALL, network={"side": 8, "hidden": 32, "samples": 8})

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Network options per preset."""
