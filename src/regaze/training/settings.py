"""The ``train:`` section that estimators and redirectors share; importable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

WEIGHT_FILES = ("model.safetensors", "state.pt", "latest.pt")
"""What a folder of a run may hold, in the order they are looked for: a model folder of this
project, the state of its training, the published port's checkpoint."""

_NO_JITTER = ("jitter", None)
_NO_PATHS = {"", "false", "true", "none", "null", "no", "yes", "off", "on"}


class TrainSettings(BaseModel):
    """How long, how fast and on what a network is trained. Amounts are in images seen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int = Field(20_000, ge=1, description="training images seen before training ends")
    batch: int = Field(8, ge=1, description="images per optimiser step, over all processes")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    optimizer: Literal["adamw", "adam"] = Field(
        "adamw", description="adam: weight decay is coupled, a part of the gradient"
    )
    betas: tuple[float, float] = Field((0.9, 0.99), description="moment decays")
    weight_decay: float = Field(0.0, ge=0, description="decoupled in AdamW, coupled in Adam")
    warmup_images: int = Field(800, ge=0, description="linear warm-up of the learning rate")
    schedule: Literal["constant", "linear", "cosine", "stepped"] = Field(
        "linear",
        description="after warm-up: constant; constant for half, then linear to 0; cosine to 0; "
        "times decay every decay_images",
    )
    decay: float = Field(0.8, gt=0, le=1, description="factor of the stepped schedule")
    decay_images: int = Field(689_600, ge=1, description="images between its factors")
    clip_norm: float = Field(0.0, ge=0, description="gradient norm limit, 0 = none")
    accumulate: int = Field(1, ge=1, description="backward passes per optimiser step")
    ema_halflife_images: int = Field(
        4_000, ge=0, description="half-life of the averaged weights that are saved, 0 = no average"
    )
    ema_std: tuple[float, ...] = Field(
        (),
        description="relative widths of power-function averages that are followed besides, as "
        "[0.05, 0.10]; `regaze posthoc-ema` makes others of two",
    )
    ema_snapshot_images: int = Field(
        0, ge=0, description="how often those are stored for it, 0 = 32 times in all"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 on GPUs and on CPUs that compute in it, else fp32"
    )
    compile: bool = Field(
        False, description="compile the network with torch.compile; for GPUs, slow to start on CPUs"
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
    validate_every_images: int = Field(
        0, ge=0, description="score on val persons, 0 = at the end only"
    )
    select: Literal["last", "best"] = Field(
        "last", description="which weights are saved: of the end, or of the best validation"
    )
    tensorboard: bool = Field(True, description="also write TensorBoard events beside the state")
    threads: int = Field(1, ge=1, description="CPU threads of the job; part of the result's bytes")
    gpus: int = Field(
        0, ge=0, description="GPUs per machine, a process each; must divide batch; 0 = CPU"
    )
    nodes: int = Field(
        1, ge=1, description="machines, under SLURM; with gpus: 0 a process on each one's CPU"
    )

    @model_validator(mode="after")
    def _batch_is_shared_evenly(self):
        processes, what = max(self.gpus, 1) * self.nodes, "gpus"
        if self.nodes > 1:
            what = "gpus x nodes" if self.gpus else "nodes"
        if self.batch % processes:
            raise ValueError(
                f"batch: expected a multiple of {what} ({processes}), found {self.batch}"
            )
        return self

    @field_validator("ema_std")
    @classmethod
    def _widths(cls, widths):
        # The formulas of averages need 0 < std < 1/sqrt(12), which only uniform weights reach.
        for width in widths:
            if not 0.001 <= width <= 0.28:
                raise ValueError(f"expected widths from 0.001 to 0.28, found {width:g}")
        if len(set(widths)) < len(widths):
            raise ValueError(f"expected different widths, found {list(widths)}")
        return widths


class Jitter(BaseModel):
    """How training pairs are changed, source and ground truth alike; 0 leaves them as they are.

    Numbers are standard deviations where nothing else is said. Half of the pairs are blurred, half
    get noise, half are compressed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shift: float = Field(0.0, ge=0, le=0.2, description="of the face, share of the patch's side")
    zoom: float = Field(0.0, ge=0, le=0.3, description="of the logarithm of the face's size")
    roll_deg: float = Field(0.0, ge=0, le=30, description="of the head; labels turn with it")
    gain: float = Field(0.0, ge=0, le=1, description="of the logarithm of contrast")
    white: float = Field(0.0, ge=0, le=1, description="the same of each channel by itself")
    offset: float = Field(0.0, ge=0, le=128, description="of brightness, grey levels")
    blur: float = Field(0.0, ge=0, le=10, description="largest width of a blur, patch pixels")
    noise: float = Field(0.0, ge=0, le=64, description="largest deviation of noise, grey levels")
    quality: int = Field(100, ge=5, le=100, description="lowest JPEG quality; 100: not compressed")
    source_gaze_deg: float = Field(
        0.0, ge=0, le=30, description="error of the source's gaze label, as of an estimate"
    )
    head_deg: float = Field(
        0.0, ge=0, le=30, description="error of head labels, the same in source and target"
    )

    @property
    def moves(self) -> bool:
        """Whether faces lie elsewhere, which nothing that is read besides knows of."""
        return bool(self.shift or self.zoom or self.roll_deg)


class RedirectorTraining(TrainSettings):
    """The ``train:`` section of redirectors: where they start and how they are validated."""

    transfer: str | None = Field(
        None,
        description="weights to start from: a model or state folder, model.safetensors, state.pt, "
        "the published port's latest.pt, or a torch file of a state dict",
    )
    transfer_optimizer: bool = Field(
        False, description="also take the optimiser's moments of state.pt or latest.pt"
    )
    validate_estimator: str | None = Field(
        None,
        description="training estimator that reads validation pairs redirected in a few steps; "
        "the score is gaze plus head error in degrees; without it the loss is the score",
    )
    validate_pairs: int = Field(48, ge=1, description="validation pairs that are redirected")
    validate_steps: int = Field(4, ge=1, le=1000, description="steps of their sampler")
    image_every_images: int = Field(
        0, ge=0, description="validation pairs as pictures in TensorBoard, 0 = never"
    )
    jitter: Jitter | None = Field(
        None, description="change training pairs as photos from elsewhere differ"
    )

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler):
        # So that records of trainings without it are what they were before it was.
        return {key: value for key, value in handler(self).items() if (key, value) != _NO_JITTER}

    @field_validator("transfer", mode="before")
    @classmethod
    def _is_a_path(cls, value):
        if value is None:
            return None
        if not isinstance(value, str) or value.strip().casefold() in _NO_PATHS:
            raise ValueError(
                f"expected a path, found {value!r}; to start from random weights leave the key out "
                "or set it to null"
            )
        return value


def patches_fault(rows: int, size: tuple[int, int], asked_mb: float | None) -> str:
    """What is wrong with holding patches in the memory that a process asks for, "" if nothing.

    Args:
        rows: patches.
        size: (width, height) of one in pixels; three bytes each.
        asked_mb: megabytes of the process; None where nothing is asked for.
    """
    needed = rows * size[0] * size[1] * 3 / 1e6
    if asked_mb is None or needed <= asked_mb:
        return ""
    return (
        f"train.cache: 'memory' holds {rows} patches of {size[0]} x {size[1]} px, {needed:.0f} MB, "
        f"expected no more than the {asked_mb:.0f} MB that the job asks for; set train.cache: "
        "mmap, or ask for more memory (mem_mb in `resources`)"
    )


def transfer_file(path: str) -> str:
    """The file that ``train.transfer`` means: of a folder the first of :data:`WEIGHT_FILES`.

    A folder without any of them, or one that a training has yet to make, gives the model file that
    it should hold. Any other path is returned as it is, whether it exists or not.
    """
    place = Path(path)
    if not place.is_dir() and (place.exists() or place.suffix):
        return path
    found = [name for name in WEIGHT_FILES if (place / name).is_file()]
    return str(place / (found[0] if found else WEIGHT_FILES[0]))
