"""Configuration of inversions: presets and the options that differ from them.

``reference`` are the published networks and the terms of omertov/encoder4editing, ``small`` is for
CPU minutes, ``tiny`` for tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import Declaration, MethodSettings, Network
from regaze.redirectors.presets import Section, chosen, derived, differences, in_tiny_networks
from regaze.training.settings import RedirectorTraining


class NetworkOptions(Section):
    """Options of the networks; one that is left out is the preset's."""

    encoder: Literal["e4e", "compact"] = Field(
        "e4e", description="e4e: the published one, on 256 px; compact: for CPUs"
    )
    generator_px: int = Field(1024, ge=8, description="side of the generator's pictures")
    style_dim: int = Field(512, ge=1, description="numbers of a row of a code")
    n_mlp: int = Field(8, ge=1, description="layers of the mapping network")
    channel_multiplier: int = Field(2, ge=1, description="width of the generator above 32 px")
    channels: int = Field(512, ge=1, description="largest width of generator and discriminator")
    width: int = Field(32, ge=8, multiple_of=8, description="channels of the encoder (compact)")
    hidden: int = Field(128, ge=8, description="width of its linear layers (compact)")
    trunk: Literal["none", "small", "tiny"] = Field(
        "none",
        description="preset of the training estimator, whose trunk the encoder has as well and "
        "leaves as it is (compact)",
    )


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(Section):
    """What the terms count; those of 0 are not computed."""

    adversarial: float = Field(1.0, ge=0, description="generator against discriminator")
    adversarial_every: int = Field(
        1, ge=1, description="steps from one of discriminator and generator to the next"
    )
    r1: float = Field(10.0, ge=0, description="slope of the discriminator, every 16 of its steps")
    path: float = Field(2.0, ge=0, description="length of paths, every 4 steps of the generator")
    l2: float = Field(1.0, ge=0, description="squared difference of a picture and its inversion")
    features: float = Field(
        0.0, ge=0, description="features of both that the training estimator sees"
    )
    readings: float = Field(
        0.0, ge=0, description="gaze and head that the training estimator reads in both, degrees"
    )
    eye_weight: float = Field(
        0.0, ge=0, description="extra weight of l2 inside the two fixed eye boxes"
    )
    latent_discriminator: float = Field(
        0.1, ge=0, description="codes look as if the mapping network had made them"
    )
    delta: float = Field(2e-4, ge=0, description="how far rows of a code are from the first")
    encoder_after: int = Field(
        0,
        ge=0,
        description="images until the encoder starts; the generator learns alone until then",
    )
    row_images: int = Field(
        0,
        ge=0,
        description="images from one row to the next that may differ from the first; 0: all may at "
        "once",
    )
    joint: bool = Field(False, description="the generator also learns from inversions")
    joint_rate: float = Field(
        1.0,
        gt=0,
        description="its learning rate there as a multiple of the encoder's, whose weights have no "
        "equalised rate",
    )


ObjectiveSettings = differences(ObjectiveOptions)


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``inversion``."""

    class_: Literal["inversion"] = Field(alias="class", description="folder of the method")
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(64, ge=8, description="side of the images that are inverted")
    checkpoint: str | None = Field(
        None,
        description="published weights (e4e_ffhq_encode.pt) of preset reference; then nothing is "
        "trained",
    )
    estimator: str = Field(
        "vgg", description="entry of estimators for `features`, `readings` and `trunk`, if on"
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: sides do not fit the networks, or options contradict each other.
        """
        done = super().options()
        done |= chosen(self, PRESETS[self.preset], "network", "objective")
        network, size = done["network"], done["size_px"]
        if self.checkpoint is None:
            del done["checkpoint"]
        elif self.preset != "reference":
            raise ValueError(f"preset: published weights need 'reference', found {self.preset!r}")
        if network["encoder"] == "e4e" and (size, network["style_dim"]) != (256, 512):
            raise ValueError(
                "size_px, network.style_dim: network.encoder 'e4e' needs 256 and 512, found "
                f"{size} and {network['style_dim']}"
            )
        if network["encoder"] == "e4e" and network["trunk"] != "none":
            raise ValueError("network.trunk: expected 'none' of network.encoder 'e4e'")
        if network["encoder"] == "compact" and size % 32:
            raise ValueError(
                f"size_px: network.encoder 'compact' needs a multiple of 32, found {size}"
            )
        side = network["generator_px"]
        if side & (side - 1) or side < size:
            raise ValueError(
                f"network.generator_px: expected a power of two of at least size_px {size}, found "
                f"{side}"
            )
        if done["objective"]["joint"] and done["objective"]["encoder_after"]:
            raise ValueError("objective.encoder_after: expected 0 while objective.joint is on")
        return done

    def tiny(self) -> ModelSettings:
        """The objective of this entry in the networks of the preset ``tiny``."""
        return in_tiny_networks(self, checkpoint=None)

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """It edits nothing; the training estimator where its term is on."""
        on, trunk = config["objective"], config["network"]["trunk"]
        seen = (on["features"] or on["readings"] or trunk != "none") and "checkpoint" not in config
        networks = (Network("estimator", "estimators", config["estimator"]),) if seen else ()
        return Declaration(
            "nothing: it draws the source again",
            (),
            networks=networks,
            no_graph="it edits nothing",
        )


def rows_of(config: Mapping) -> tuple[int, int]:
    """Rows of a code and numbers of a row, of a resolved configuration."""
    network = config["network"]
    return 2 * network["generator_px"].bit_length() - 4, network["style_dim"]


_REFERENCE = {
    "network": NetworkOptions().model_dump(),
    "objective": ObjectiveOptions().model_dump(),
}
_SMALL = derived(
    _REFERENCE,
    network={
        **{"encoder": "compact", "generator_px": 64, "style_dim": 128, "n_mlp": 4},
        **{"channels": 64, "trunk": "small"},
    },
    objective={"joint": True, "joint_rate": 15.0, "path": 0.0, "eye_weight": 8.0, "l2": 10.0}
    | {"r1": 1.0, "adversarial_every": 8, "readings": 0.05},
)
_TINY = derived(
    _SMALL,
    network={"generator_px": 32, "style_dim": 32, "n_mlp": 2, "channels": 8, "width": 16}
    | {"hidden": 32, "trunk": "none"},
    objective={"adversarial_every": 1, "readings": 0.0},
)

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Network and objective options per preset."""
