"""The part of the configuration that is about masks. Light: the Snakefile imports it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MaskSettings(BaseModel):
    """Masks of the head, the eyes and the parts of faces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["auto", "mesh", "parsing"] = Field(
        "auto",
        description="auto: exact on rendered photos, those that the data set brings, the fitted "
        "mesh on others; mesh and parsing are used on all",
    )
    encoder: str | None = Field(
        None, description="entry of encoders whose latents the mesh follows; default the first one"
    )
    parsing: str | None = Field(
        None, description="face-parsing weights (79999_iter.pth), needed by method parsing"
    )

    @model_validator(mode="after")
    def _weights(self):
        if self.method == "parsing" and self.parsing is None:
            raise ValueError("parsing: method 'parsing' needs the weights of a face parser")
        return self

    def method_for(self, source: str) -> str:
        """How masks of this kind of data set are made.

        ``exact``, ``released``, ``mesh`` or ``parsing``.
        """
        if self.method != "auto":
            return self.method
        return {"synthetic": "exact", "gazenerf_hdf5": "released"}.get(source, "mesh")
