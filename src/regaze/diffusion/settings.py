"""Options of sampling; importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Sampling(BaseModel):
    """How redirectors that sample do it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampler: Literal["dpmpp_2m", "heun", "euler", "ancestral"] = Field(
        "dpmpp_2m", description="solver; ancestral is the reference"
    )
    steps: int = Field(4, ge=1, le=1000, description="solver steps")
    sigma_max: float = Field(20.0, gt=0, description="first noise level")
    sigma_min: float = Field(0.05, gt=0, description="last noise level")
    final_step: Literal["mean", "compat"] = Field(
        "mean",
        description="ancestral: mean ends without noise; compat as the published port, which "
        "adds (invisible) noise at the end and none in the middle of an even number of steps",
    )
    guidance: float = Field(0.0, ge=0, le=20, description="w of (1+w) conditioned - w not")
    guidance_interval: tuple[float, float] | None = Field(
        None,
        description="noise levels (sigma) between which guidance acts; default everywhere. "
        "Outside it costs nothing",
    )
    uncond_source: Literal["fixed", "fresh"] = Field(
        "fixed",
        description="the noise that unconditioned evaluations see as source: one per image, or "
        "fresh at every evaluation as in the published port, which costs more",
    )
    sources: int = Field(
        1,
        ge=1,
        le=16,
        description="pictures of the person that denoising steps choose from, the source among "
        "them; for methods that see the source beside the noise (two frames)",
    )
    max_w: float = Field(
        0.0, ge=0, le=20, description="also sample guidance weights 0, 1, ... up to this; 0: none"
    )
    sample_only: bool = Field(False, description="stop the default target after the samples")
    save_gif: bool = Field(False, description="also animate how a few samples lose their noise")
    seed: int = Field(0, ge=0, description="seed of the noise, with the pair's number")
    batch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        50,
        description="images per chunk, or auto: as many as memory_mb holds; no influence on the "
        "result",
    )
    memory_mb: int = Field(
        1000, ge=50, description="for batch auto: memory of a chunk besides the network's weights"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the network's evaluations; auto: bf16 on GPUs, fp32 on CPUs"
    )
    threads: int = Field(1, ge=1, description="CPU threads of the job")
    gpus: int = Field(0, ge=0, description="GPUs of the job")

    @model_validator(mode="after")
    def _levels(self):
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min: {self.sigma_min} must be below sigma_max {self.sigma_max}"
            )
        low, high = self.guidance_interval or (0.0, 1.0)
        if not 0 <= low < high:
            raise ValueError(f"guidance_interval: expected 0 <= low < high, found {low} and {high}")
        return self

    @property
    def weights(self) -> list[float]:
        """Guidance weights that are sampled besides ``guidance``: 0, 1, ... up to ``max_w``."""
        return [float(w) for w in range(int(self.max_w) + 1)] if self.max_w >= 1 else []
