"""Masks of single faces, for models that are told them: given, stored, or drawn by landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import torch

from regaze.faces import FacesReader
from regaze.masks import MasksError, MasksReader
from regaze.masks.condition import MaskRows
from regaze.normalise.ffhq import EYES as EYE_MARKS
from regaze.redirect.place import Place
from regaze.weights import read_record


class SourceMasks:
    """Masks of faces as a model is told them.

    A mask that was given says all of what is head. Landmarks tell the face from the brows down to
    the chin; of hair, ears and what is behind them they say nothing, which ``masks_doubt`` tells.

    Stored masks are taken of rows only, and only those of the method that the model was trained
    with.

    Args:
        options: of the model's input ``masks``: ``names``.
        folder: model folder.
        identity: the masks of the model's training.
        published, device: of no use here.
    """

    def __init__(
        self,
        options: Mapping,
        folder: str | PathLike,
        identity: Mapping[str, str],
        published: Mapping | None = None,
        device: str = "auto",
    ):
        self.names, self.expected = tuple(options["names"]), dict(identity)
        self.size_px = int(read_record(Path(folder) / "model.json")["config"]["size_px"])

    def of(self, place: Place) -> tuple[dict[str, torch.Tensor], str]:
        """``masks`` (1, names, S, S) and ``masks_doubt`` (1, 1, S, S), shares, and where from.

        Raises:
            ValueError: neither a mask nor landmarks are known; the message names the face.
        """
        stored = None if place.mask is not None else self._stored(place)
        if stored is not None:
            return self._told(stored, np.zeros_like(stored[:1])), "masks"
        if place.landmarks is None:
            raise ValueError(
                f"{place.source}: this model is told masks, which need the face's 68 landmarks; "
                "found none"
            )
        shape = place.patch.shape[:2]
        eyes = np.zeros(shape, np.uint8)
        for marks in EYE_MARKS:
            _fill(eyes, place.landmarks[marks])
        if place.mask is not None:
            head, doubt, where = place.mask, np.zeros(shape, np.uint8), "given"
        else:
            head = np.zeros(shape, np.uint8)
            _fill(head, cv2.convexHull(place.landmarks.astype(np.float32))[:, 0])
            doubt, where = 255 - head, "landmarks"
        parts = {"head": head, "eyes": np.minimum(eyes, head)}
        return self._told(np.stack([parts[name] for name in self.names]), doubt[None]), where

    def _stored(self, place: Place) -> np.ndarray | None:
        """The row's masks (names, H, W) beside its faces file, None where there are none."""
        if place.faces is None:
            return None
        file = Path(place.faces).resolve().parent.parent / "masks" / Path(place.faces).name
        if not file.is_file():
            return None
        reader = FacesReader([place.faces])
        try:
            masks = MasksReader(file, reader)
        except MasksError:
            return None
        row = reader.global_index(place.facts["person"], place.facts["row"])
        said = {name: str(masks.attributes.get(name)) for name in self.expected}
        if said != self.expected or not masks.valid[row]:
            return None
        return 255 * np.stack(list(masks.read([row], self.names).values()), 1)[0].astype(np.uint8)

    def _told(self, parts: np.ndarray, doubt: np.ndarray) -> dict[str, torch.Tensor]:
        values = torch.from_numpy(np.concatenate([parts, doubt]))[None]
        shares = MaskRows.finish(values, self.size_px, None)
        return {"masks": shares[:, :-1], "masks_doubt": shares[:, -1:]}


def _fill(mask: np.ndarray, points: np.ndarray) -> None:
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
