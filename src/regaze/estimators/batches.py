"""Training batches of single pictures with their labels."""

from __future__ import annotations

import numpy as np
import torch

from regaze.estimators.preprocess import prepare
from regaze.training.data import Rows


class ImageBatches(Rows):
    """Single images with their labels, for estimators."""

    def __init__(self, *args, preprocess: str = "none", **kwargs):
        """Bind the rows; see :class:`Rows`. ``preprocess`` is the estimator's."""
        super().__init__(*args, **kwargs)
        self.preprocess = preprocess

    def load(self, step: int) -> dict[str, torch.Tensor]:
        """Batch ``step``: ``image`` (B,H,W,3) uint8, ``label`` (B,4) radians."""
        places = np.array([self._visited(p) for p in self._positions(step)])
        return {"image": self._patches(places), "label": torch.from_numpy(self._table[places])}

    def finish(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Turn a loaded batch, already on its device, into what networks take."""
        label = batch["label"]
        image = prepare(batch["image"], self.size, self.preprocess)
        return {"image": image, "gaze": label[:, :2], "head": label[:, 2:4]}
