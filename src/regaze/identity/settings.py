"""The section ``identity:``; importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regaze.training.settings import TrainSettings

TRAINED = ("small", "tiny")
"""Networks that the workflow trains; the others are published and need a checkpoint."""


class IdentitySettings(BaseModel):
    """The face-recognition network that ``identity_similarity`` is measured with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["irse50", "iresnet50", "mobilefacenet", "small", "tiny"] = Field(
        "small", description="small, tiny: trained here; the others: published, with a checkpoint"
    )
    checkpoint: str | None = Field(None, description="weights of a published network")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="what the checkpoint's checksum must be"
    )
    persons: str = Field(
        "train-evaluator", description="list of the split file whose persons it is trained on"
    )
    size_px: int = Field(64, ge=32, multiple_of=32, description="input side of small and tiny")
    scale: float = Field(16.0, gt=0, description="factor of the cosines in the loss")
    margin: float = Field(
        0.3, ge=0, lt=1.5, description="angle in radians by which ArcFace's loss makes it harder"
    )
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _weights(self):
        if self.network in TRAINED and (self.checkpoint or self.sha256):
            raise ValueError(f"checkpoint: network {self.network!r} is trained by the workflow")
        if self.network not in TRAINED and self.checkpoint is None:
            raise ValueError(
                f"checkpoint: network {self.network!r} needs its published weights; "
                "without them use network: small"
            )
        return self
