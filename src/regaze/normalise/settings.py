"""The section ``faces:``; importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Faces(BaseModel):
    """Normalisation of photos to patches."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["sted", "faze", "custom"] = Field(
        "sted", description="sted: full face; faze: eye strip; custom: patch_size, focal, distance"
    )
    patch_size: tuple[int, int] | None = Field(
        None, description="width, height in px; default of the variant (sted 128 x 128)"
    )
    focal: float | None = Field(
        None, gt=0, description="px; default keeps the variant's field of view"
    )
    distance: float | None = Field(None, gt=0, description="mm; default of the variant (600)")
    resampling: Literal["one_step", "two_step"] = Field(
        "one_step", description="two_step follows the reference order, for bit comparison"
    )
    frame_check: Literal["sfm-upstream", "sfm", "ellipsoid", "none"] = Field(
        "ellipsoid", description="rows whose head leaves the photo are rejected"
    )
    sfm_mesh: str | None = Field(None, description="sfm_shape_3448.bin for the sfm checks")
    threads: int = Field(1, ge=1, description="photos decoded and warped at a time per shard")
    max_rejected: float = Field(
        0.05, ge=0, le=1, description="share of rejected rows above which the stage fails"
    )
    max_lost: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of persons without a usable row above which it fails; default the same",
    )

    @model_validator(mode="after")
    def _camera(self):
        given = {"patch_size": self.patch_size, "focal": self.focal, "distance": self.distance}
        missing = [name for name, value in given.items() if value is None]
        if self.variant == "custom" and missing:
            raise ValueError(f"{missing[0]}: variant 'custom' needs patch_size, focal and distance")
        proportions_kept = self.variant != "custom" and self.focal is None
        if proportions_kept and self.patch_size is not None:
            width, height = self.patch_size
            shape = 4 if self.variant == "faze" else 1
            if width < 1 or width != shape * height:
                raise ValueError(
                    f"patch_size: {width} x {height}, but variant {self.variant!r} is {shape} to 1"
                )
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the stored patches in pixels."""
        return self.patch_size or ((256, 64) if self.variant == "faze" else (128, 128))

    def shows_as(self, other: Faces) -> bool:
        """Whether patches show the same of a face as others, be it in more pixels."""
        return self._shown == other._shown

    @property
    def _shown(self) -> tuple:
        return self.variant, self.focal and self.focal / self.size[0], self.distance

    @property
    def aligned(self) -> bool:
        """Whether landmarks frame the faces, and no virtual camera."""
        return False

    @model_validator(mode="after")
    def _mesh(self):
        if self.frame_check.startswith("sfm") and self.sfm_mesh is None:
            raise ValueError(
                f"sfm_mesh: frame_check {self.frame_check!r} needs the Surrey Face Model's file; "
                "without it use frame_check: ellipsoid"
            )
        return self


class AlignedFaces(Faces):
    """Photos cut to squares by landmarks; the rest says how they are labelled."""

    framing: Literal["ffhq"] = Field(description="a view's; see regaze.views")

    @property
    def aligned(self) -> bool:
        """Whether landmarks frame the faces, and no virtual camera."""
        return True

    @property
    def _shown(self) -> tuple:
        return (self.framing,)
