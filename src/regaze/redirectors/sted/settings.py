"""Configuration of ST-ED: presets and the options that differ from them.

``reference`` is the paper's setting (``ST-ED.json`` of zhengyuf/STED-gaze), ``small`` what learns
within CPU minutes, ``tiny`` is for tests. Terms keep the names of the published ``coeff_*_loss``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from regaze.redirectors.declaration import Declaration, MethodSettings, Network
from regaze.training.settings import RedirectorTraining


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NetworkSettings(_Section):
    """Differences of the networks from their preset; an option left out is the preset's."""

    kind: Literal["dense", "compact"] | None = Field(
        None, description="dense: the published networks, 128 px only; compact: for CPUs"
    )
    growth_rate: int | None = Field(None, ge=1, description="channels per layer (dense)")
    densenet_blocks: Literal[5] | None = Field(
        None, description="blocks (dense); 128 px end in 2x2 after five"
    )
    width: int | None = Field(None, ge=8, multiple_of=8, description="channels (compact)")
    hidden: int | None = Field(None, ge=8, description="width of linear layers (compact)")
    size_0d_unit: int | None = Field(None, ge=0, description="values of the appearance factor")
    num_1d_units: int | None = Field(None, ge=0, description="factors of one angle")
    size_1d_unit: int | None = Field(None, ge=1, description="columns of their embeddings")
    num_2d_units: int | None = Field(
        None, ge=2, description="factors of two angles; the last two are head and gaze"
    )
    size_2d_unit: int | None = Field(None, ge=1, description="columns of their embeddings")


class ObjectiveSettings(_Section):
    """What the terms count; those of 0 are not computed."""

    l1: float | None = Field(None, ge=0, description="absolute difference of pictures")
    gaze: float | None = Field(None, ge=0, description="predicted angles against labels, degrees")
    embedding_consistency: float | None = Field(
        None, ge=0, description="canonical embeddings of two pictures of a person are alike"
    )
    disentangle_embedding: float | None = Field(
        None,
        ge=0,
        description="a picture with some factors moved has the embeddings it was made of",
    )
    disentangle_pseudo_label: float | None = Field(
        None, ge=0, description="and the angles, degrees"
    )
    discriminator: float | None = Field(None, ge=0, description="adversarial term, and its step")
    redirection_feature: float | None = Field(
        None, ge=0, description="early features of the training estimator"
    )
    redirection_gaze: float | None = Field(
        None, ge=0, description="angles seen by the training estimator, degrees"
    )
    mixing: bool | None = Field(None, description="move single factors for the disentanglement")
    discriminator_ramp_steps: int | None = Field(
        None, ge=0, description="steps until the adversarial term has its weight"
    )
    target: Literal["pseudo", "labels"] | None = Field(
        None,
        description="angles that training redirects to: those predicted of the target, or its "
        "labels of gaze and head",
    )
    both_ways: bool | None = Field(None, description="also draw the source out of the target")
    eye_weight: float | None = Field(
        None, ge=0, description="extra weight of the difference inside the two fixed eye boxes"
    )
    same_head_fraction: float | None = Field(
        None, ge=0, le=1, description="share of training pairs with equal head pose"
    )
    flip: bool | None = Field(None, description="mirror half of the training pairs, labels too")


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
        for section in ("network", "objective"):
            chosen = getattr(self, section).model_dump(exclude_none=True)
            done[section] = {**preset[section], **chosen}
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
        return self.model_copy(
            update={
                "preset": "tiny",
                "size_px": 32,
                "checkpoint": None,
                "preprocess": done["preprocess"],
                "network": NetworkSettings(**kept),
                "objective": ObjectiveSettings(**done["objective"]),
            }
        )

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """The training estimator where one of its terms is on; targets may lack labels."""
        terms = config["objective"]
        seen = terms["redirection_feature"] or terms["redirection_gaze"]
        networks = (Network("estimator", "estimators", config["estimator"]),) if seen else ()
        if "checkpoint" in config:
            networks = ()
        return Declaration(networks=networks, unlabelled_targets=True)


def _check(config: dict) -> None:
    network, objective, size = config["network"], config["objective"], config["size_px"]
    if network["kind"] == "dense" and size != 128:
        raise ValueError(f"size_px: network.kind 'dense' works on 128 px, found {size}")
    if network["kind"] == "compact":
        if size % 32:
            raise ValueError(
                f"size_px: network.kind 'compact' needs a multiple of 32, found {size}"
            )
        cells = (size // 8) ** 2
        if not network["size_0d_unit"] or network["size_0d_unit"] % cells:
            raise ValueError(
                f"network.size_0d_unit: expected a multiple of {cells}, the cells of the "
                f"appearance map at {size} px, found {network['size_0d_unit']}"
            )
    entangled = ("disentangle_embedding", "disentangle_pseudo_label")
    on = [name for name in entangled if objective[name]]
    if on and not objective["mixing"]:
        raise ValueError(f"objective.mixing: expected true while objective.{on[0]} is on")


_REFERENCE = {
    "preprocess": "equalise",
    "network": {
        "kind": "dense",
        "growth_rate": 32,
        "densenet_blocks": 5,
        "width": 32,
        "hidden": 128,
        "size_0d_unit": 1024,
        "num_1d_units": 4,
        "size_1d_unit": 16,
        "num_2d_units": 4,
        "size_2d_unit": 16,
    },
    "objective": {
        "l1": 200.0,
        "gaze": 5.0,
        "embedding_consistency": 2.0,
        "disentangle_embedding": 2.0,
        "disentangle_pseudo_label": 2.0,
        "discriminator": 1.0,
        "redirection_feature": 200.0,
        "redirection_gaze": 2.0,
        "mixing": True,
        "discriminator_ramp_steps": 20_000,
        "target": "pseudo",
        "both_ways": False,
        "eye_weight": 0.0,
        "same_head_fraction": 0.0,
        "flip": False,
    },
}


def _derived(base: dict, network: dict, objective: dict) -> dict:
    return {
        "preprocess": "none",
        "network": {**base["network"], **network},
        "objective": {**base["objective"], **objective},
    }


_SMALL = _derived(
    _REFERENCE,
    {
        "kind": "compact",
        "size_0d_unit": 2048,
        "num_1d_units": 0,
        "num_2d_units": 2,
    },
    {
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
_TINY = _derived(
    _SMALL,
    {"width": 16, "hidden": 32, "size_0d_unit": 128},
    {
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
