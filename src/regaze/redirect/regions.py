"""Eye regions of single faces, for models that draw them."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import numpy as np
import torch

from regaze.masks.painting import painted, parts_of_landmarks, place_of
from regaze.redirect.place import Place


class SourceRegions:
    """Where the eye regions of faces are, from their landmarks alone.

    Args:
        options: of the model's input ``eye_regions``: ``classes`` and ``crop``.
        folder, identity, published, device: as of other inputs; nothing of them is needed.
    """

    def __init__(
        self,
        options: Mapping,
        folder: str | PathLike,
        identity: Mapping[str, str],
        published: Mapping[str, Mapping[str, str]] | None = None,
        device: str = "auto",
    ):
        self._classes, self._crop = options["classes"], options["crop"]

    def of(self, place: Place) -> tuple[dict[str, torch.Tensor], str]:
        """``parts`` (1,H,W) and ``place`` (1,4) of a face, and where they are from.

        Raises:
            ValueError: the face's landmarks are unknown; the message names the face.
        """
        if place.landmarks is None or not np.isfinite(place.landmarks).all():
            raise ValueError(
                f"{place.source}: this model draws eye regions, which are found by the face's 68 "
                "landmarks; found none"
            )
        size = place.patch.shape[1::-1]
        gaze = np.where(np.isfinite(place.gaze), place.gaze, place.head)
        parts = parts_of_landmarks(place.landmarks.astype(np.float64), gaze, place.head)
        box = place_of(parts, size, self._crop)
        made = {"parts": painted(parts, size, self._classes)[None], "place": np.float32(box)[None]}
        return {name: torch.from_numpy(one) for name, one in made.items()}, "landmarks"
