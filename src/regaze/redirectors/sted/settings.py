"""Configuration of ST-ED: presets and the options that differ from them.

``reference`` is the paper's setting (``ST-ED.json`` of zhengyuf/STED-gaze), ``small`` what learns
within CPU minutes, ``tiny`` is for tests. Terms keep the names of the published ``coeff_*_loss``.
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

    kind: Literal["dense", "compact"] = Field(
        "dense", description="dense: the published networks, 128 px only; compact: for CPUs"
    )
    growth_rate: int = Field(32, ge=1, description="channels per layer (dense)")
    densenet_blocks: Literal[5] = Field(
        5, description="blocks (dense); 128 px end in 2x2 after five"
    )
    width: int = Field(32, ge=8, multiple_of=8, description="channels (compact)")
    hidden: int = Field(128, ge=8, description="width of linear layers (compact)")
    size_0d_unit: int = Field(1024, ge=0, description="values of the appearance factor")
    num_1d_units: int = Field(4, ge=0, description="factors of one angle")
    size_1d_unit: int = Field(16, ge=1, description="columns of their embeddings")
    num_2d_units: int = Field(
        4, ge=2, description="factors of two angles; the last two are head and gaze"
    )
    size_2d_unit: int = Field(16, ge=1, description="columns of their embeddings")


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(Section):
    """What the terms count; those of 0 are not computed."""

    l1: float = Field(200.0, ge=0, description="absolute difference of pictures")
    gaze: float = Field(5.0, ge=0, description="predicted angles against labels, degrees")
    embedding_consistency: float = Field(
        2.0, ge=0, description="canonical embeddings of two pictures of a person are alike"
    )
    disentangle_embedding: float = Field(
        2.0,
        ge=0,
        description="a picture with some factors moved has the embeddings it was made of",
    )
    disentangle_pseudo_label: float = Field(2.0, ge=0, description="and the angles, degrees")
    discriminator: float = Field(1.0, ge=0, description="adversarial term, and its step")
    redirection_feature: float = Field(
        200.0, ge=0, description="early features of the training estimator"
    )
    redirection_gaze: float = Field(
        2.0, ge=0, description="angles seen by the training estimator, degrees"
    )
    redirection_every: int = Field(
        1, ge=1, description="steps from one with the two redirection terms to the next"
    )
    mixing: bool = Field(True, description="move single factors for the disentanglement")
    discriminator_ramp_steps: int = Field(
        20000, ge=0, description="steps until the adversarial term has its weight"
    )
    target: Literal["pseudo", "labels"] = Field(
        "pseudo",
        description="angles that training redirects to: those predicted of the target, or its "
        "labels of gaze and head",
    )
    both_ways: bool = Field(False, description="also draw the source out of the target")
    eye_weight: float = Field(
        0.0, ge=0, description="extra weight of the difference inside the two fixed eye boxes"
    )
    same_head_fraction: float = Field(
        0.0, ge=0, le=1, description="share of training pairs with equal head pose"
    )
    flip: bool = Field(False, description="mirror half of the training pairs, labels too")


ObjectiveSettings = differences(ObjectiveOptions)


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``sted``."""

    class_: Literal["sted"] = Field(alias="class", description="folder of the method")
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(64, ge=16, description="side of the images the networks work on")
    checkpoint: str | None = Field(
        None,
        description="published weights (<step>.pt, or a folder of these) of preset reference; then "
        "nothing is trained",
    )
    preprocess: Literal["equalise", "none"] | None = Field(
        None, description="equalise: luminance histogram of every picture (reference); none (small)"
    )
    estimator: str = Field(
        "vgg", description="entry of estimators for the redirection terms, if any is on"
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: the image side does not fit the networks, or options contradict each other.
        """
        preset = PRESETS[self.preset]
        done = {
            "class": "sted",
            "preset": self.preset,
            "size_px": self.size_px,
            "preprocess": self.preprocess or preset["preprocess"],
            "estimator": self.estimator,
        }
        done |= chosen(self, preset, "network", "objective")
        done["train"] = self.train.model_dump()
        if self.checkpoint is not None:
            done["checkpoint"] = self.checkpoint
            if self.preset != "reference":
                raise ValueError(
                    f"preset: published weights need 'reference', found {self.preset!r}"
                )
        _check(done)
        return done

    def tiny(self) -> ModelSettings:
        """The factors and the objective of this entry in the networks of the preset ``tiny``."""
        done = self.options()
        kept = {name: done["network"][name] for name in ("num_1d_units", "num_2d_units")}
        given = {"checkpoint": None, "preprocess": done["preprocess"]}
        return in_tiny_networks(self, network=NetworkSettings(**kept), **given)

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """The training estimator where one of its terms is on; targets may lack labels."""
        terms = config["objective"]
        seen = terms["redirection_feature"] or terms["redirection_gaze"]
        networks = (Network("estimator", "estimators", config["estimator"]),) if seen else ()
        if "checkpoint" in config:
            networks = ()
        return Declaration(networks=networks, unlabelled_targets=True)


def check_options(config: Mapping) -> None:
    """Raise ValueError if the image side does not fit, or terms contradict an option."""
    network, objective, size = config["network"], config["objective"], config["size_px"]
    if network["kind"] == "dense" and size != 128:
        raise ValueError(f"size_px: network.kind 'dense' works on 128 px, found {size}")
    if network["kind"] == "compact" and size % 32:
        raise ValueError(f"size_px: network.kind 'compact' needs a multiple of 32, found {size}")
    check_terms(objective)


def check_terms(objective: Mapping) -> None:
    """Raise ValueError if terms contradict an option."""
    entangled = ("disentangle_embedding", "disentangle_pseudo_label")
    on = [name for name in entangled if objective[name]]
    if on and not objective["mixing"]:
        raise ValueError(f"objective.mixing: expected true while objective.{on[0]} is on")


def _check(config: Mapping) -> None:
    check_options(config)
    network, size = config["network"], config["size_px"]
    if network["kind"] == "compact":
        cells = (size // 8) ** 2
        if not network["size_0d_unit"] or network["size_0d_unit"] % cells:
            raise ValueError(
                f"network.size_0d_unit: expected a multiple of {cells}, the cells of the "
                f"appearance map at {size} px, found {network['size_0d_unit']}"
            )


_REFERENCE = {
    "preprocess": "equalise",
    "network": NetworkOptions().model_dump(),
    "objective": ObjectiveOptions().model_dump(),
}


_SMALL = derived(
    _REFERENCE,
    preprocess="none",
    network={
        "kind": "compact",
        "size_0d_unit": 2048,
        "num_1d_units": 0,
        "num_2d_units": 2,
    },
    objective={
        "gaze": 1.0,
        "disentangle_embedding": 0.0,
        "disentangle_pseudo_label": 0.0,
        "discriminator": 0.0,
        "redirection_feature": 0.0,
        "redirection_gaze": 0.0,
        "mixing": False,
        "target": "labels",
        "both_ways": True,
        "eye_weight": 8.0,
        "same_head_fraction": 0.5,
        "flip": True,
    },
)
_TINY = derived(
    _SMALL,
    network={"width": 16, "hidden": 32, "size_0d_unit": 128},
    objective={
        "disentangle_embedding": 2.0,
        "disentangle_pseudo_label": 2.0,
        "discriminator": 1.0,
        "redirection_feature": 200.0,
        "redirection_gaze": 2.0,
        "mixing": True,
    },
)

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Pre-processing, network and objective options per preset."""
