"""What the patches that a redirector was trained on are like, which its ``model.json`` tells.

A photo from elsewhere can then be shown to the model as its training patches were: eyes in the
same place and of the same size, colours of the same mean and spread, directions within the range.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from regaze.assets import AssetError
from regaze.faces import FacesReader

log = logging.getLogger("regaze.training")

KEY = "patches"
"""Where ``model.json`` has it; models of older versions have none."""
MOST = 100
"""Patches that are looked at, spread evenly over those that are trained on."""
OUTER_CORNERS = [36, 45]
"""Of the 68 landmarks: the person's right eye's, which lies left in a patch, and the left eye's."""
_ENOUGH = 30
"""Faces found from which on it is told how the eyes move as the head turns."""
_LEAST = 5
_PERCENTILES = (1.0, 99.0)

Number = Annotated[float, Field(allow_inf_nan=False)]
Point = tuple[Number, Number]
Colour = tuple[Number, Number, Number]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Eyes(_Section):
    """Outer eye corners, in pixels of the patch, by a detector of landmarks."""

    right: Point = Field(description="x, y of the person's right eye's, mean")
    left: Point = Field(description="x, y of the person's left eye's, mean")
    by_head: tuple[tuple[Number, Number, Number, Number, Number], ...] | None = Field(
        description="rows: right x, y, left x, y; columns: their factors of 1, pitch, yaw, pitch "
        "squared, yaw squared of the head in radians; null where too few were found"
    )
    spread_px: tuple[Number, Number, Number, Number] = Field(
        description="standard deviation of the four numbers, what by_head tells left out"
    )
    found: int = Field(ge=1, description="patches in which the detector found a face")
    detector: str

    @model_validator(mode="after")
    def _sound(self):
        if self.by_head is not None and len(self.by_head) != 4:
            raise ValueError(f"by_head: expected 4 rows, found {len(self.by_head)}")
        if self.left[0] - self.right[0] < 1.0:
            found = f"{self.right[0]:g} and {self.left[0]:g}"
            raise ValueError(f"right, left: expected x of the right one to be smaller, not {found}")
        return self

    def at(self, head: np.ndarray) -> np.ndarray:
        """Both corners (2, 2), right eye's first, of a head of pitch and yaw (2,) in radians."""
        if self.by_head is None:
            return np.array([self.right, self.left])
        return (np.array(self.by_head) @ _terms(head[None])[0]).reshape(2, 2)


class Colours(_Section):
    """Grey levels R, G, B, 0 to 255, of the central part of a patch; see :func:`central`."""

    mean: Colour
    spread: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ] = Field(description="standard deviation within a patch")


class Range(_Section):
    """From the 1st to the 99th percentile of labels, degrees."""

    pitch: Point
    yaw: Point

    @model_validator(mode="after")
    def _rising(self):
        for name in ("pitch", "yaw"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected two rising numbers, found {low:g}, {high:g}")
        return self

    def clip(self, angles: np.ndarray) -> np.ndarray:
        """The nearest pitch and yaw (2,) in range, radians in and out."""
        low, high = np.radians(np.array([self.pitch, self.yaw]).T)
        return np.clip(angles, low, high)

    def __str__(self) -> str:
        told = (f"{name} {low:.1f} to {high:.1f}" for name, (low, high) in self)
        return f"{', '.join(told)} degrees"


class TrainedPatches(_Section):
    """The section ``patches`` of ``model.json``."""

    patch_size: tuple[int, int] = Field(description="width, height in pixels")
    looked_at: int = Field(ge=1, description="patches that eyes and colours are of")
    eyes: Eyes | None = Field(description="null: no detector, or it found too few faces")
    colours: Colours | None = Field(description="null: patches of a single colour")
    gaze: Range | None = Field(description="null: of no gaze that is known")
    head: Range | None = Field(description="null: of no head direction that is known")


def central(patches: np.ndarray) -> np.ndarray:
    """The middle half in both directions of patches (..., H, W, 3): of a face no background."""
    height, width = patches.shape[-3:-1]
    return patches[..., height // 4 : height - height // 4, width // 4 : width - width // 4, :]


def describe_patches(
    reader: FacesReader, rows: np.ndarray, labelled: np.ndarray | None = None, flip: bool = False
) -> dict[str, Any]:
    """The section ``patches`` of a training on ``rows``, as plain values.

    Depends on nothing but the faces. Takes about 20 ms for each of at most :data:`MOST` patches.

    Args:
        reader: faces.
        rows: global indices that are trained on.
        labelled: those whose labels may be used, None: all of them.
        flip: they are also trained on mirrored.
    """
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, MOST).round().astype(int))]
    patches = reader.pixels(chosen)
    angles = reader.labels[rows if labelled is None else labelled, :4].astype(np.float64)
    if flip:
        angles = np.concatenate([angles, angles * [1, -1, 1, -1]])
    return TrainedPatches(
        patch_size=reader.patch_size,
        looked_at=len(chosen),
        eyes=_eyes(patches, reader.labels[chosen, 2:4].astype(np.float64), flip),
        colours=_colours(patches),
        gaze=_range(angles[:, :2]),
        head=_range(angles[:, 2:]),
    ).model_dump(mode="json")


def read_patches(record: Mapping[str, Any], path: str | Path) -> TrainedPatches | None:
    """The section of a ``model.json``, None where it has none.

    Raises:
        ValueError: it is not as :class:`TrainedPatches` says; the message names file and field.
    """
    if record.get(KEY) is None:
        return None
    try:
        return TrainedPatches.model_validate(record[KEY])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join((KEY, *(str(part) for part in first["loc"])))
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path}: {place}: {said}, found {first['input']!r:.200}") from None


def _terms(head: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(head)), head, head**2])


def _eyes(patches: np.ndarray, heads: np.ndarray, flip: bool) -> Eyes | None:
    from regaze.landmarks.mesh import MeshDetector

    try:
        detector = MeshDetector()
    except AssetError as error:
        log.warning("where eyes lie in training patches is not told: %s", error)
        return None
    found = [detector.filling(patch) for patch in patches]
    seen = [number for number, face in enumerate(found) if face is not None]
    if len(seen) < _LEAST:
        log.warning(
            "where eyes lie in training patches is not told: faces were found in %d of %d",
            *(len(seen), len(found)),
        )
        return None
    corners = np.array([found[number].landmarks[OUTER_CORNERS] for number in seen])
    heads = heads[seen]
    if flip:
        other = [patches.shape[2] - 1, 0] + corners[:, ::-1] * [-1, 1]
        corners, heads = np.concatenate([corners, other]), np.concatenate([heads, heads * [1, -1]])
    values = corners.reshape(-1, 4)
    mean, rest, factors = values.mean(axis=0), values - values.mean(axis=0), None
    if len(seen) >= _ENOUGH and np.isfinite(heads).all():
        terms = _terms(heads)
        factors = np.linalg.lstsq(terms, values)[0].T
        rest = values - terms @ factors.T
    right, left = np.round(mean, 2).reshape(2, 2).tolist()
    return Eyes(
        right=right,
        left=left,
        by_head=None if factors is None else np.round(factors, 2).tolist(),
        spread_px=np.round(rest.std(axis=0), 2).tolist(),
        found=len(seen),
        detector=detector.attributes["detector"],
    )


def _colours(patches: np.ndarray) -> Colours | None:
    middle = central(patches).reshape(len(patches), -1, 3).astype(np.float64)
    spread = np.round(middle.std(axis=1).mean(axis=0), 2)
    if not spread.all():
        return None
    return Colours(mean=np.round(middle.mean(axis=(0, 1)), 2).tolist(), spread=spread.tolist())


def _range(angles: np.ndarray) -> Range | None:
    known = np.degrees(angles[np.isfinite(angles).all(axis=1)])
    if not len(known):
        return None
    pitch, yaw = np.percentile(known, _PERCENTILES, axis=0).round(2).T.tolist()
    return Range(pitch=pitch, yaw=yaw)
