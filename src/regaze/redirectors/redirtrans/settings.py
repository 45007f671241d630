"""Configuration of ReDirTrans: presets and the options that differ from them.

``reference`` is the paper's setting at 128 px as far as it is known: ST-ED's networks, and the
default weights of lintsao/2023_Summer_Intern. ``small`` learns within CPU minutes, ``tiny`` is for
tests.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regaze.redirectors.declaration import MethodSettings
from regaze.redirectors.presets import Section, chosen, derived, differences, in_tiny_networks
from regaze.redirectors.sted import settings as sted
from regaze.training.settings import RedirectorTraining


class NetworkOptions(Section):
    """Options of the networks; one that is left out is the preset's."""

    kind: Literal["dense", "compact"] = Field(
        "dense", description="dense: ST-ED's published trunks, 128 px only; compact: for CPUs"
    )
    growth_rate: int = Field(32, ge=1, description="channels per layer (dense)")
    densenet_blocks: Literal[5] = Field(
        5, description="blocks (dense); 128 px end in 2x2 after five"
    )
    code: int = Field(1024, ge=4, multiple_of=4, description="numbers of a code (dense)")
    width: int = Field(32, ge=8, multiple_of=8, description="channels (compact)")
    hidden: int = Field(128, ge=8, description="width of linear layers (compact)")
    map_channels: int = Field(
        32, ge=1, description="channels of a code's map, of an eighth of the side (compact)"
    )
    vector: int = Field(96, ge=1, description="numbers of a code besides its map (compact)")
    size_2d_unit: int = Field(16, ge=1, description="columns of the embeddings of head and gaze")
    projector_hidden: int = Field(96, ge=1, description="width of the projector")
    deprojector_hidden: int = Field(128, ge=1, description="width of the deprojector")
    edits: float = Field(
        0.0, ge=0, description="size of a code's edits at first; 0: PyTorch's start of layers"
    )
    canonical: bool = Field(
        False,
        description="the projector gives embeddings that are turned by its own angles, in place of "
        "turned ones",
    )


NetworkSettings = differences(NetworkOptions)


class ObjectiveOptions(sted.ObjectiveOptions):
    """What the terms count; those of 0 are not computed."""

    angles: Literal["cosine", "degrees"] = Field(
        "cosine", description="how angles are compared: one minus the cosine, or in degrees"
    )


ObjectiveSettings = differences(ObjectiveOptions)


class ModelSettings(MethodSettings):
    """One entry of ``models:`` whose class is ``redirtrans``."""

    class_: Literal["redirtrans"] = Field(alias="class", description="folder of the method")
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="where every option left out comes from"
    )
    size_px: int = Field(64, ge=16, description="side of the images the networks work on")
    preprocess: Literal["equalise", "none"] = Field(
        "none", description="equalise: luminance histogram of every picture"
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
        done = super().options()
        done |= chosen(self, PRESETS[self.preset], "network", "objective")
        sted.check_options(done)
        return done

    def tiny(self) -> ModelSettings:
        """The objective of this entry in the networks of the preset ``tiny``."""
        return in_tiny_networks(self)

    declare = staticmethod(sted.ModelSettings.declare)


_REFERENCE = {
    "network": NetworkOptions().model_dump(),
    "objective": ObjectiveOptions(
        disentangle_embedding=0, disentangle_pseudo_label=0, mixing=False
    ).model_dump(),
}
_SMALL = derived(
    _REFERENCE,
    network={"kind": "compact", "canonical": True, "edits": 10.0},
    objective={
        **sted.PRESETS["small"]["objective"],
        **{"angles": "degrees", "eye_weight": 16.0},
        **{"redirection_gaze": 1.0, "redirection_every": 2},
    },
)
_TINY = derived(
    _SMALL,
    network={"width": 16, "hidden": 32, "map_channels": 8, "vector": 32},
    objective={"discriminator": 1.0, "redirection_feature": 200.0, "redirection_gaze": 2.0}
    | {"redirection_every": 1},
)

PRESETS = {"reference": _REFERENCE, "small": _SMALL, "tiny": _TINY}
"""Network and objective options per preset."""
