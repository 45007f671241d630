"""The part of the configuration that is about acquisition. Light: the Snakefile imports it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AcquireSettings(BaseModel):
    """3-D faces of the user's own photos: meshes, codes, landmarks, pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    photos: str | None = Field(None, description="a photo or a folder of photos; null: none")
    encoder: str | None = Field(None, description="entry of encoders; default the first one")
    landmarks: str | None = Field(
        None,
        description="68 landmarks of the photos: a CSV (file_name, x0, y0, ..., x67, y67), an "
        ".npz, .txt or .mat, or a folder of such files; default: they are looked for",
    )
    gaze: tuple[float, float] | None = Field(
        None, description="where the eyes look, pitch and yaw in degrees; default straight ahead"
    )
    photo_texture: bool = Field(True, description="texture from the photo where it shows the face")
    turntable: bool = Field(True, description="an animation of every face")

    @model_validator(mode="after")
    def _angles(self):
        if self.gaze is not None and not all(-90 < angle < 90 for angle in self.gaze):
            raise ValueError(f"gaze: expected two angles below 90 degrees, found {self.gaze}")
        return self
