"""Configuration of the eye-warping method.

``small`` learns within CPU minutes, ``tiny`` is for tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, PositiveFloat

from regaze.redirectors.declaration import Declaration, MethodSettings
from regaze.redirectors.presets import Section, chosen, derived, differences
from regaze.training.settings import RedirectorTraining

Box = tuple[int, int, int, int]


class NetworkOptions(Section):
    """Options of the network; one that is left out is the preset's."""

    ch: int = Field(32, ge=8, multiple_of=8, description="channels of the first level")
    ch_mult: tuple[PositiveFloat, ...] = Field(
        (1, 2, 3), min_length=1, description="channel factor per level"
    )
    num_res_blocks: int = Field(1, ge=1, description="residual blocks per level")
    attention: int = Field(1, ge=0, description="attention blocks in the middle")
    emb_ch: int = Field(128, ge=8, description="numbers that all blocks are modulated by")
    unshuffle: Literal[1, 2] = Field(2, description="2: work on 2x2 pixel blocks as channels")


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(Section):
    """What is learnt from, and how its terms are weighted."""

    reach: float = Field(0.05, gt=0, description="unit of the displacements, of the picture's side")
    travel: float = Field(
        0.068,
        ge=0,
        description="from an eye's centre to the plane of its iris, of the picture's side: so far "
        "irises go by the directions alone, and each pixel is told how far it goes along; the "
        "default is 10.4 mm at the 600 mm and the focal length of 500 pixels of the default view",
    )
    eye_weight: float = Field(8.0, ge=0, description="extra weight inside the two fixed eye boxes")
    scales: int = Field(
        3, ge=1, le=4, description="errors are also counted of pictures halved so often, once each"
    )
    edges: float = Field(1.0, ge=0, description="weight of errors of the picture's gradients")
    paint: float = Field(0.05, ge=0, description="price of what is painted instead of moved")
    rough: float = Field(0.02, ge=0, description="price of displacements that differ by pixel")
    condition: Literal["both", "difference", "target"] = Field(
        "both",
        description="gaze that the network is conditioned on: those of source and target, their "
        "difference, or the target's alone, so that it reads the source's from the eyes",
    )
    gain: tuple[PositiveFloat, PositiveFloat] = Field(
        (1.0, 1.0),
        description="what changes of gaze up and down, and to the sides, are multiplied by when "
        "pictures are made, where training left the network moving eyes too little or too far; "
        "not for the condition `target`",
    )
    same_head_fraction: float = Field(
        1.0, ge=0, le=1, description="share of training pairs with equal head pose"
    )
    flip: bool = Field(True, description="mirror half of the training pairs")


ObjectiveSettings = differences(ObjectiveOptions)


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``eyewarp``."""

    class_: Literal["eyewarp"] = Field(alias="class", description="folder of the method")
    preset: Literal["small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(128, ge=16, description="side of the pictures of the whole face")
    region: Box = Field(
        (12, 20, 116, 60),
        description="left, top, right, bottom of the strip that the network works on, pixels of "
        "these pictures, the latter two excluded; the rest of the face stays as it is",
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: a strip outside the picture, or of sides that the network cannot halve.
        """
        done = super().options()
        done |= chosen(self, PRESETS[self.preset], "network", "objective")
        for fault in _faults(done):
            raise ValueError(fault)
        return done

    def tiny(self) -> ModelSettings:
        """The objective of this entry in the network of the preset ``tiny``."""
        return self.model_copy(
            update={
                "preset": "tiny",
                "size_px": 32,
                "region": (0, 4, 32, 20),
                "network": NetworkSettings(),
                "objective": ObjectiveSettings(**self.options()["objective"]),
            }
        )

    @staticmethod
    def declare(config) -> Declaration:
        """Gaze alone: the head stays."""
        return Declaration(
            condition="gaze and head angles; eyes alone are moved", factors=("gaze",)
        )


def _faults(config: dict[str, Any]) -> Iterator[str]:
    network, size = config["network"], config["size_px"]
    left, top, right, bottom = config["region"]
    if not (0 <= left < right <= size and 0 <= top < bottom <= size):
        yield (f"region: expected a strip within {size} x {size} pixels, found {config['region']}")
    factor = network["unshuffle"] * 2 ** (len(network["ch_mult"]) - 1)
    if (right - left) % factor or (bottom - top) % factor:
        yield (
            f"region: {right - left} x {bottom - top} pixels are not divisible by {factor} "
            f"(unshuffle {network['unshuffle']} times 2 per level below the first of "
            f"{len(network['ch_mult'])})"
        )
    for share in (1, *network["ch_mult"]):
        if network["ch"] * share % 8:
            yield f"network.ch: {network['ch']} x {share} channels are not divisible by 8"


_SMALL = {"network": NetworkOptions().model_dump(), "objective": ObjectiveOptions().model_dump()}

PRESETS = {
    "small": _SMALL,
    "tiny": derived(_SMALL, network={"ch": 16, "ch_mult": (1, 2), "emb_ch": 32}),
}
"""Network and objective options per preset."""
