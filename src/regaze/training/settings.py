"""The ``train:`` section that estimators and redirectors share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSettings(BaseModel):
    """How long, how fast and on what a network is trained. Amounts are in images seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(20_000, ge=1, description="training images seen before training ends")
    batch: int = Field(8, ge=1, description="images per optimiser step, over all processes")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    betas: tuple[float, float] = Field((0.9, 0.99), description="AdamW's moment decays")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    warmup_images: int = Field(800, ge=0, description="linear warm-up of the learning rate")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear",
        description="after warm-up: constant; constant for half, then linear to 0; cosine to 0",
    )
    clip_norm: float = Field(0.0, ge=0, description="gradient norm limit, 0 = none")
    accumulate: int = Field(1, ge=1, description="backward passes per optimiser step")
    ema_halflife_images: int = Field(
        4_000, ge=0, description="half-life of the averaged weights that are saved, 0 = no average"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 on GPUs and on CPUs that compute in it, else fp32"
    )
    cache: Literal["memory", "mmap", "none"] = Field(
        "memory",
        description="memory: hold all training patches as uint8; mmap: map them from a file "
        "beside the state that all processes share; none: read per batch",
    )
    workers: int = Field(0, ge=0, description="loader processes; 0 = load in the training process")
    log_every_images: int = Field(800, ge=1, description="a row of the curve and a log line")
    state_every_images: int = Field(
        8_000, ge=1, description="how often the resumable state is replaced"
    )
    validate_every_images: int = Field(0, ge=0, description="score on val persons, 0 = never")
    select: Literal["last", "best"] = Field(
        "last", description="which weights are saved: of the end, or of the best validation"
    )
    tensorboard: bool = Field(True, description="also write TensorBoard events beside the state")
    threads: int = Field(1, ge=1, description="CPU threads of the job; part of the result's bytes")
    gpus: int = Field(
        0, ge=0, description="GPUs of the job, a process each; must divide batch; 0 = CPU"
    )

    @model_validator(mode="after")
    def _batch_is_shared_evenly(self):
        if self.gpus and self.batch % self.gpus:
            raise ValueError(
                f"batch: expected a multiple of gpus ({self.gpus}), found {self.batch}"
            )
        return self
