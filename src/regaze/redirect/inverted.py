"""A face as a model knows it, and what goes between pictures and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regaze.redirect.paste import Motion, eye_mask, face_mask, paste, window_mask
from regaze.redirect.place import Place
from regaze.redirectors.base import Moves, State
from regaze.redirectors.batches import BatchBuilder

_SAME_HEAD = np.radians(0.5)
"""Largest turn of a head that keeps its outline where it is."""


@dataclass(frozen=True, eq=False)
class Inverted:
    """A face as a model knows it.

    Attributes:
        state: of :meth:`regaze.redirectors.base.Redirector.invert`.
        source, builder: the batch of the face, and what makes batches of targets.
        gaze, gaze_from: (2,) radians, and where it is from.
        made_from: where the model's inputs are from, by kind.
        code: (rows, numbers) float32, the W+ code; None where nobody asked or the model has none.
        picture: (S, S, 3) uint8, what the generator makes of it; None likewise.
    """

    state: State
    source: dict
    builder: BatchBuilder
    gaze: np.ndarray
    gaze_from: str
    made_from: dict
    code: np.ndarray | None = None
    picture: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Changed:
    """What a model made of a face.

    Attributes:
        raw: (n, S, S, 3) uint8, as the model made it, in the colours that it was shown.
        levels: (n, S, S, 3) float32 grey levels in the photo's own colours.
        shown: (S, S, 3) float32, the face before, likewise.
        motions: how pixels were moved, one for each picture, or none.
    """

    raw: np.ndarray
    levels: np.ndarray
    shown: np.ndarray
    motions: list[Motion]

    def pasted(self, place: Place, number: int, mask: np.ndarray, mode: str) -> np.ndarray:
        """The place's photo (H, W, 3) uint8 with a picture in it; see
        :func:`regaze.redirect.paste.paste`."""
        known = place.landmarks is not None
        lids = eye_mask(place.landmarks, place.view.patch_size) if known else None
        motion = self.motions[number] if self.motions else None
        levels = self.levels[number]
        return paste(place.photo, place.view, self.shown, levels, mask, mode, lids, motion)


def outline(place: Place, target_head: np.ndarray) -> tuple[np.ndarray, str]:
    """Weights (h, w) of what is pasted, and what they are of: the face, or the whole patch where
    the head turns to ``target_head`` (2,) radians or landmarks are unknown."""
    size = place.view.patch_size
    if np.abs(target_head - place.head).max() > _SAME_HEAD or place.landmarks is None:
        return window_mask(size), "patch"
    return face_mask(place.landmarks, size), "face"


def told_codes(codes: Sequence[Mapping[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Columns of targets for codes by factor, NaN where a picture is told none."""
    told = {}
    for name in dict.fromkeys(name for one in codes for name in one):
        size = len(next(one[name] for one in codes if name in one))
        rows = [one.get(name, np.full(size, np.nan)) for one in codes]
        told[f"target_{name}"] = torch.from_numpy(np.array(rows, np.float32))
    return told


class SingleInput:
    """An input of one photo, which is known of no target."""

    in_memory, identity = True, {}

    def __init__(self, values: Mapping[str, torch.Tensor]):
        self.values, self.columns, self.known = values, tuple(values), np.ones(1, bool)

    def read(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        return {name: v.expand(len(rows), *v.shape[1:]) for name, v in self.values.items()}

    @staticmethod
    def finish(values, size_px, flip):
        return values


def motions_of(moves: Moves) -> list[Motion]:
    """How a model moved the pixels of each picture."""
    flows = moves.flow.float().permute(0, 2, 3, 1).cpu().numpy()
    shares = moves.share.float()[:, 0].cpu().numpy()
    return [Motion(flow, share) for flow, share in zip(flows, shares, strict=True)]


def grey_levels(pictures: torch.Tensor) -> np.ndarray:
    """Grey levels (N, H, W, 3) float32 of pictures (N, 3, H, W) in [-1, 1], not rounded."""
    return ((pictures.float() + 1.0) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()
