"""One entry of ``encoders:``; importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regaze.training.settings import TrainSettings


class LossWeights(BaseModel):
    """Weights of an encoder's training losses; all but the regularisers are in picture units.

    A picture unit is half the side of the crop, or half the range of colours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: float = Field(4.0, ge=0, description="known shape, by what it moves")
    expression: float = Field(
        4.0, ge=0, description="known expression, by what it moves, which is a tenth of the shape"
    )
    pose: float = Field(2.0, ge=0, description="known rotations of head and jaw, and the camera")
    landmarks: float = Field(2.0, ge=0, description="68 landmarks of the predicted head")
    photo: float = Field(1.0, ge=0, description="colours of the face under the predicted light")
    texture_prior: float = Field(0.03, ge=0, description="mean square of the texture code")
    light_prior: float = Field(
        0.05, ge=0, description="mean square of coloured light, and of light dimmer or stronger"
    )


class EncoderSettings(BaseModel):
    """A 3-D face encoder: published weights, or trained on the synthetic set."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    class_: Literal["deca", "emoca"] = Field(
        "deca", alias="class", description="emoca has a second network for the expression"
    )
    preset: Literal["reference", "small", "tiny"] = Field(
        "small", description="reference: ResNet-50 on 224 px; small, tiny: for CPUs"
    )
    checkpoint: str | None = Field(
        None, description="deca_model.tar with published weights; then nothing is trained"
    )
    emoca: str | None = Field(
        None, description="EMOCA's run folder or .ckpt, which holds DECA's networks as well"
    )
    head_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="head model (sha256 of `regaze head show`) that a checkpoint of your own "
        "training belongs to; default: FLAME 2020, as the published ones do",
    )
    rasterizer: Literal["auto", "embree", "pytorch3d", "reference"] = Field(
        "auto", description="backend of the renderer; auto: pytorch3d on GPUs, else embree"
    )
    persons: str = Field("train", description="list of the split file that it is trained on")
    jitter: float = Field(
        0.03,
        ge=0,
        le=0.3,
        description="crops in training are moved and scaled by up to this part of their side",
    )
    tint: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="colour channels are scaled in training by e to a normal number of this width",
    )
    expressions: float = Field(
        0.0,
        ge=0,
        description="faces in training are moved to expressions so many times as far from the "
        "mean as the capture's, in which each comes with one person alone; 0: they are not",
    )
    losses: LossWeights = LossWeights()
    train: TrainSettings = TrainSettings(
        images=30_000,
        batch=32,
        lr=0.0015,
        weight_decay=0.01,
        warmup_images=1_600,
        schedule="cosine",
        ema_halflife_images=1_600,
        log_every_images=1_600,
        state_every_images=12_800,
    )

    @model_validator(mode="after")
    def _weights(self):
        key = {"deca": "checkpoint", "emoca": "emoca"}
        other = "emoca" if self.class_ == "deca" else "deca"
        if getattr(self, key[other]) is not None:
            raise ValueError(
                f"{key[other]}: belongs to class {other!r}, but class is {self.class_!r}, "
                f"whose weights are given by {key[self.class_]!r}"
            )
        if self.published is not None and self.preset != "reference":
            raise ValueError(f"preset: published weights need 'reference', found {self.preset!r}")
        if self.published is None and self.head_sha256 is not None:
            raise ValueError("head_sha256: is for a checkpoint; what is trained here has its own")
        return self

    @property
    def published(self) -> str | None:
        """Path of the published weights; None if the encoder is trained."""
        return self.checkpoint or self.emoca

    @property
    def weights(self) -> dict[str, str]:
        """Published weights as :func:`regaze.face3d.encode.open_encoder` takes them, if any."""
        if self.published is None:
            return {}
        stated = {} if self.head_sha256 is None else {"head_sha256": self.head_sha256}
        return {self.class_: self.published, **stated}

    def resolve(self) -> dict:
        """The entry as plain values, keys as in ``config.yaml``."""
        return self.model_dump(by_alias=True, mode="json")
