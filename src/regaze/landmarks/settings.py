"""The part of the configuration that is about landmarks. Light: the Snakefile imports it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from regaze.assets import AssetError, AssetSettings, missing

WEIGHTS = ("face_alignment_landmarks", "face_alignment_detector")
"""Assets of the detector ``face_alignment``, in the order of its arguments."""


class LandmarkSettings(BaseModel):
    """Landmarks on photos that come without head poses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: Literal["mediapipe", "face_alignment"] = Field(
        "mediapipe",
        description="mediapipe: in the environment, milliseconds per photo on a CPU; "
        "face_alignment: needs two files of assets",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="face_alignment's; auto: the GPU when there is one"
    )
    batch: int = Field(
        16, ge=1, le=1024, description="face_alignment's photos at a time; memory, not results"
    )
    max_side: int = Field(
        960,
        ge=64,
        le=8192,
        description="face_alignment looks for faces in photos shrunk to this, in pixels",
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
    wanted = landmarks.fetch and landmarks.detector == "face_alignment"
    files = {name: getattr(assets, name) for name in WEIGHTS if wanted}
    return {name: file.path for name, file in files.items() if file.sha256 is None}


def weight_files(landmarks: LandmarkSettings, assets: AssetSettings) -> dict[str, str]:
    """Return the files of :data:`WEIGHTS` by name; none for a detector that needs none.

    Raises:
        AssetError: a file is neither there nor fetched; the message tells how to get it.
    """
    if landmarks.detector != "face_alignment":
        return {}
    fetched = fetched_weights(landmarks, assets)
    files = {name: getattr(assets, name).path for name in WEIGHTS}
    for name, path in files.items():
        if name not in fetched and (problem := missing(name, path)):
            raise AssetError(problem)
    return files


def detector_options(landmarks: LandmarkSettings, assets: AssetSettings) -> dict[str, Any]:
    """Return what decides which landmarks are found, as ``open_detector`` takes it."""
    if landmarks.detector != "face_alignment":
        return {"detector": landmarks.detector, "sha256": None, "max_side": None}
    return {
        "detector": landmarks.detector,
        "sha256": {name: getattr(assets, name).sha256 for name in WEIGHTS},
        "max_side": landmarks.max_side,
    }
