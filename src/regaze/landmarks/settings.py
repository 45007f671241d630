"""The part of the configuration that is about landmarks. Light: the Snakefile imports it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from regaze.assets import AssetError, AssetSettings, missing

WEIGHTS = ("face_alignment_landmarks", "face_alignment_detector")
"""Assets of the detector, in the order of its arguments."""


class LandmarkSettings(BaseModel):
    """Landmarks on photos that come without head poses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU when there is one; hours instead of weeks on large sets"
    )
    batch: int = Field(16, ge=1, le=1024, description="photos at a time; memory, not results")
    max_side: int = Field(
        960, ge=64, le=8192, description="faces are looked for in photos shrunk to this, in pixels"
    )
    min_score: float = Field(
        0.5,
        ge=0,
        le=1,
        description="photos with a lower mean landmark confidence are rejected as low_score",
    )
    fetch: bool = Field(
        False, description="download face-alignment's weights where they are missing, checksummed"
    )
    threads: int = Field(1, ge=1, description="CPU threads per shard")
    gpus: int = Field(0, ge=0, le=1, description="GPUs that a shard reserves of --resources gpu=N")


def fetched_weights(landmarks: LandmarkSettings, assets: AssetSettings) -> dict[str, str]:
    """Return the files of :data:`WEIGHTS` that may be downloaded, by name.

    Files with a checksum of the user's own are not among them: nothing could be fetched in their
    place, so no rule may ever make, and hence delete, them.
    """
    files = {name: getattr(assets, name) for name in WEIGHTS if landmarks.fetch}
    return {name: file.path for name, file in files.items() if file.sha256 is None}


def weight_files(landmarks: LandmarkSettings, assets: AssetSettings) -> dict[str, str]:
    """Return the files of :data:`WEIGHTS` by name.

    Raises:
        AssetError: a file is neither there nor fetched; the message tells how to get it.
    """
    fetched = fetched_weights(landmarks, assets)
    files = {name: getattr(assets, name).path for name in WEIGHTS}
    for name, path in files.items():
        if name not in fetched and (problem := missing(name, path)):
            raise AssetError(problem)
    return files
