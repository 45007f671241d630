"""Views: what of a face its patches show, and which data an entry learns from in which view.

Light on purpose: the configuration imports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT = "default"
"""The view of the section ``faces``, in which everything is evaluated."""
_SIGN = "@"
_CAMERA = ("patch_size", "focal", "distance")
FFHQ = "ffhq"
"""The framing that is none of a virtual camera; see :mod:`regaze.normalise.ffhq`."""
_FFHQ_SIZE = (256, 256)
_SAME_SCALE = 0.02


class ViewSettings(BaseModel):
    """One entry of ``views:``; what it leaves out is as in ``faces``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    framing: Literal["normalised", "ffhq"] = Field(
        "normalised",
        description="normalised: a virtual camera that looks at the face; ffhq: a square of the "
        "photo, upright by eyes and mouth, as published inverters know faces",
    )
    variant: Literal["sted", "faze", "custom"] | None = Field(
        None, description="another one than that of faces takes none of its numbers along"
    )
    patch_size: tuple[int, int] | None = Field(
        None,
        description="width, height in px; alone it keeps the field of view; ffhq: a square, "
        "default 256 x 256",
    )
    focal: float | None = Field(None, gt=0, description="px")
    distance: float | None = Field(None, gt=0, description="mm")
    resampling: Literal["one_step", "two_step"] | None = Field(
        None,
        description="two_step follows the reference order; of ffhq by way of 4096 px, as FFHQ's "
        "own script and DiffusionRig's albums",
    )

    @model_validator(mode="after")
    def _ffhq(self):
        if self.framing != FFHQ:
            return self
        for name in ("variant", "focal", "distance"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: {getattr(self, name)!r}, but framing 'ffhq' is no virtual camera's; "
                    "leave it out"
                )
        width, height = self.patch_size or _FFHQ_SIZE
        if width != height or width < 1:
            raise ValueError(
                f"patch_size: expected a square for framing 'ffhq', found {width} x {height}"
            )
        return self

    def over(self, faces: Mapping[str, Any]) -> dict[str, Any]:
        """The section ``faces`` with what this view says on top, as plain values."""
        if self.resampling is not None:
            faces = {**faces, "resampling": self.resampling}
        if self.framing == FFHQ:
            return {**faces, "framing": FFHQ, "patch_size": self.patch_size or _FFHQ_SIZE}
        own = {name: getattr(self, name) for name in _CAMERA if getattr(self, name) is not None}
        variant = self.variant or faces["variant"]
        below = dict(faces)
        if variant != faces["variant"]:
            below |= dict.fromkeys(_CAMERA)
        elif self.patch_size and self.focal is None and faces["focal"] and faces["patch_size"]:
            below["focal"] = faces["focal"] * self.patch_size[0] / faces["patch_size"][0]
        return below | own | {"variant": variant}


class EntryData(BaseModel):
    """The section ``data:`` of an entry of ``models:``: what it learns from, and in which view."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labelled: str | None = Field(
        None, description="entry of datasets that it is trained on; default `dataset`"
    )
    unlabelled: str | None = Field(
        None, description="entry of datasets whose pictures it learns from without labels besides"
    )
    per: Literal["person"] | None = Field(
        None, description="person: a model for every evaluated person, trained on their album"
    )
    album: int | None = Field(
        None, ge=1, description="the first so many pictures of albums; default all of them"
    )
    view: str = Field(
        DEFAULT, description="entry of views that it sees faces in; default: as `faces` says"
    )

    @model_validator(mode="after")
    def _album(self):
        if self.album is not None and self.per is None:
            raise ValueError("album: is for per: person; leave it out")
        return self


def in_view(dataset: str, view: str) -> str:
    """The name of a data set in a view, which its folder below ``results`` has."""
    return dataset if view == DEFAULT else f"{dataset}{_SIGN}{view}"


def divided(name: str) -> tuple[str, str]:
    """The data set and the view of a name; the inverse of :func:`in_view`."""
    dataset, _, view = name.partition(_SIGN)
    return dataset, view or DEFAULT


def told_view(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the attributes of faces say of their view, None where they do not say it.

    ``variant``, ``patch_size`` [width, height] in pixels, ``focal`` in pixels, ``distance`` in mm;
    of faces that are framed otherwise ``framing`` and ``patch_size``.
    """
    if is_ffhq(attributes):
        size = [int(side) for side in attributes["patch_size"]]
        return {"framing": FFHQ, "patch_size": size}
    if not {*_CAMERA, "variant"} <= set(attributes):
        return None
    return {
        "variant": str(attributes["variant"]),
        "patch_size": [int(side) for side in attributes["patch_size"]],
        "focal": float(attributes["focal"]),
        "distance": float(attributes["distance"]),
    }


def why_another(own: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> str:
    """What tells one view from another, empty when both show the same of a face.

    Views are told apart by their framing, the shape of their patches and by how much of the face
    these show, not by their number of pixels. Of patches whose view nobody knows nothing can be
    told.
    """
    if own is None or found is None:
        return ""
    aligned = [is_ffhq(view) for view in (own, found)]
    if all(aligned):
        return ""
    if any(aligned):
        return f"expected {_about(own)}, found {_about(found)}"
    shapes = [view["patch_size"][0] / view["patch_size"][1] for view in (own, found)]
    scales = [view["focal"] / (view["distance"] * view["patch_size"][0]) for view in (own, found)]
    if shapes[0] == shapes[1] and abs(scales[1] / scales[0] - 1) <= _SAME_SCALE:
        return ""
    return f"expected {_about(own)}, found {_about(found)}"


def is_ffhq(told: Mapping[str, Any] | None) -> bool:
    """Whether a view, or the attributes of faces, are those of framing ``ffhq``."""
    return told is not None and str(told.get("framing", "")) == FFHQ


def _about(view: Mapping[str, Any]) -> str:
    width, height = view["patch_size"]
    if is_ffhq(view):
        return f"{width} x {height} px aligned by eyes and mouth (framing ffhq)"
    shown = view["distance"] * width / view["focal"]
    return f"{width} x {height} px that show {shown:.0f} mm at the face ({view['variant']})"
