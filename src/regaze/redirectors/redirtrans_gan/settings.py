"""Configuration of ReDirTrans-GAN; ``reference`` has the published sizes and weights.

The sizes of codes are its inverter's, an entry of ``models:`` of class ``inversion``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import Declaration, Input, MethodSettings, Network
from regaze.redirectors.inversion.settings import rows_of
from regaze.redirectors.presets import Section, chosen, derived, differences, in_tiny_networks
from regaze.redirectors.redirtrans import settings as redirtrans
from regaze.redirectors.sted import settings as sted
from regaze.training.settings import RedirectorTraining


class NetworkOptions(Section):
    """Options of the networks; one that is left out is the preset's."""

    code: int = Field(9216, ge=1, description="numbers of a code: rows times style_dim")
    size_2d_unit: int = Field(16, ge=1, description="columns of the embeddings of head and gaze")
    projector_hidden: int = Field(96, ge=1, description="width of the projector")
    deprojector_hidden: int = Field(128, ge=1, description="width of the deprojector")
    edits: float = Field(
        0.0, ge=0, description="size of a code's edits at first; 0: PyTorch's start of layers"
    )
    canonical: bool = Field(
        False, description="embeddings are turned by the projector's own angles"
    )
    row_weights: int = Field(
        0, ge=0, description="rows of a code, whose edits get a learnt weight each; 0: no weights"
    )
    code_of: Literal["picture", "inversion"] = Field(
        "inversion",
        description="whose code is edited: the picture's, whose drawing is its inversion, or that "
        "of the inversion itself, which is inverted a second time",
    )


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(redirtrans.ObjectiveOptions):
    """What the terms count; those of 0 are not computed."""

    label_source: Literal["dataset", "estimator"] = Field(
        "estimator",
        description="labels of training pictures: the data set's, or what the training estimator "
        "reads in their inversions",
    )


ObjectiveSettings = differences(ObjectiveOptions)


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``redirtrans_gan``."""

    class_: Literal["redirtrans_gan"] = Field(alias="class", description="folder of the method")
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(64, ge=8, description="side of the images, that of the inverter")
    inverter: str = Field(description="entry of models of class inversion, used frozen")
    estimator: str = Field("vgg", description="entry of estimators for the redirection terms")
    cache_inversions: bool = Field(
        True,
        description="the stage inversions makes those of training faces once; false: every step",
    )
    network: NetworkSettings = NetworkSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: RedirectorTraining = RedirectorTraining()

    def options(self) -> dict:
        """Return the complete configuration, preset filled in, as plain values.

        Raises:
            ValueError: options contradict each other.
        """
        done = {**super().options(), "preprocess": "none"}
        done |= chosen(self, PRESETS[self.preset], "network", "objective")
        sted.check_terms(done["objective"])
        return done

    def tiny(self) -> ModelSettings:
        """The objective of this entry in the networks of the preset ``tiny``."""
        return in_tiny_networks(self)

    @staticmethod
    def declare(config: Mapping) -> Declaration:
        """The inverter, always; the training estimator where a term or the labels need it."""
        terms, network = config["objective"], config["network"]
        networks = [Network("inverter", "models", config["inverter"], always=True)]
        seen = terms["redirection_feature"] or terms["redirection_gaze"]
        if seen or terms["label_source"] == "estimator":
            networks.append(Network("estimator", "estimators", config["estimator"]))
        options = {"inverter": config["inverter"], "size_px": config["size_px"]}
        options |= {"code": network["code"], "of": network["code_of"]}
        inputs = (Input("inversions", options, always=False),) * config["cache_inversions"]
        return Declaration(inputs=inputs, networks=tuple(networks), unlabelled_targets=True)

    @staticmethod
    def check_networks(config: Mapping, networks: Mapping[str, Mapping]) -> None:
        """Refuse an inverter of another class, of other images or codes."""
        inverter = networks["inverter"]
        if inverter["class"] != "inversion":
            raise ValueError(f"inverter: expected class inversion, found {inverter['class']!r}")
        if inverter["size_px"] != config["size_px"]:
            raise ValueError(
                f"size_px: expected {inverter['size_px']} as its inverter has, found "
                f"{config['size_px']}"
            )
        rows, dim = rows_of(inverter)
        if config["network"]["row_weights"] not in (0, rows):
            raise ValueError(
                f"network.row_weights: expected 0 or {rows}, the rows of its inverter's codes, "
                f"found {config['network']['row_weights']}"
            )
        if config["network"]["code"] != rows * dim:
            raise ValueError(
                f"network.code: expected {rows * dim}, the {rows} x {dim} of its inverter, found "
                f"{config['network']['code']}"
            )


_REFERENCE = {
    "network": NetworkOptions().model_dump(),
    # The weights of ST-ED_adv.json, whose squared difference is an absolute one here, and whose
    # LPIPS and identity terms are not there; the others are commented out upstream.
    "objective": {
        **ObjectiveOptions(mixing=False, target="pseudo").model_dump(),
        **{"l1": 8.0, "gaze": 80.0, "redirection_gaze": 10.0, "redirection_feature": 0.0},
        **{"discriminator": 0.0, "disentangle_embedding": 0.0, "disentangle_pseudo_label": 0.0},
    },
}
_SMALL = derived(
    _REFERENCE,
    network={"code": 1280, "canonical": True, "code_of": "picture", "edits": 1.0},
    objective={
        **redirtrans.PRESETS["small"]["objective"],
        **{"label_source": "dataset", "eye_weight": 8.0},
        **{"redirection_gaze": 1.0, "redirection_every": 1},
    },
)
_TINY = derived(
    _SMALL,
    network={"code": 256, "projector_hidden": 16, "deprojector_hidden": 16},
    objective={"redirection_feature": 200.0, "redirection_gaze": 2.0, "label_source": "estimator"},
)

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Network and objective options per preset."""
