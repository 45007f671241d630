"""One entry of ``estimators:``; importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regaze.training.labels import LabelSubset
from regaze.training.settings import TrainSettings
from regaze.views import DEFAULT


class EstimatorSettings(BaseModel):
    """A gaze and head estimator: for training losses, or for evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arch: Literal["vgg", "resnet"] = Field(description="vgg: training losses; resnet: evaluation")
    preset: Literal["reference", "xgaze", "small", "tiny"] = Field(
        "small",
        description="reference: the published network of ST-ED; xgaze: GazeNeRF's, for patches as "
        "ETH-XGaze's baseline sees them; small, tiny: for CPUs",
    )
    persons: str = Field(description="list of the split file whose persons it is trained on")
    size_px: int = Field(64, ge=16, description="side of the images it works on")
    preprocess: Literal["equalise", "none"] = Field(
        "none", description="equalise: luminance histogram equalisation, as the published networks"
    )
    loss: Literal["angular", "l1"] = Field(
        "l1", description="angular: degrees between directions (published); l1: on the angles"
    )
    augment: bool = Field(True, description="mirror images, labels too, and jitter colours")
    checkpoint: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="published weights (.tar, at_step_*.pth.tar, or a folder of these) of preset "
        "reference or xgaze; then nothing is trained",
    )
    labels: LabelSubset | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="learn with the labels of so many samples of `persons`; default all",
    )
    view: str = Field(
        DEFAULT,
        exclude_if=lambda value: value == DEFAULT,
        description="entry of views that it sees faces in, for methods of that view",
    )
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _published(self):
        if self.checkpoint is None:
            return self
        published = {"preset": "reference", "size_px": 128, "preprocess": "equalise"}
        if self.preset == "xgaze":
            published = {"size_px": 224, "preprocess": "none"}
        for key, wanted in published.items():
            if getattr(self, key) != wanted:
                raise ValueError(
                    f"{key}: published weights need {wanted!r}, found {getattr(self, key)!r}"
                )
        if self.labels is not None:
            raise ValueError("labels: nothing is trained with a checkpoint; leave one of them out")
        return self
