"""Batches of face crops with what is known of them, for 3-D face encoders."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from regaze.estimators.batches import ImageBatches
from regaze.face3d.expressions import Expressions
from regaze.face3d.ground_truth import GroundTruth, Views
from regaze.face3d.patches import crop_transforms, oversampling, sample_crops


class CropBatches(ImageBatches):
    """Crops around faces with what is known of them, by step."""

    def __init__(
        self,
        *args,
        known: GroundTruth,
        views: Views,
        expressions: Expressions | None = None,
        jitter: float = 0.0,
        tint: float = 0.0,
        **kwargs,
    ):
        """Bind the rows; see :class:`regaze.training.data.ImageBatches`.

        Args:
            known: of exactly these rows.
            views: the views of ``known``.
            expressions: moves faces to others; None leaves them.
            jitter: crops are moved and scaled by up to this part of their side.
            tint: standard deviation of the logarithm of each channel's gain, as other lamps and
                cameras have it.

        Raises:
            ValueError: ``known`` is of other rows.
        """
        super().__init__(*args, **kwargs)
        if not np.array_equal(self.rows, known.rows):
            raise ValueError(
                f"known faces: expected those of the {len(self.rows)} rows trained on, found "
                f"{len(known.rows)} others"
            )
        self.known, self.views, self.jitter, self.tint = known, views, jitter, tint
        self.expressions = expressions
        self._square = crop_transforms(known.landmarks, self.reader.patch_size, self.size)[0]

    def load(self, step: int) -> dict[str, Tensor]:
        """Batch ``step``: patches, transforms, known codes, cameras, landmarks, views."""
        positions = self._positions(step)
        places = np.array([self._visited(position) for position in positions])
        transforms = self._square[places].copy()
        gain = np.ones((len(places), 3), np.float32)
        for row, (transform, position) in enumerate(zip(transforms, positions, strict=True)):
            rng = np.random.default_rng([self.seed, 4, int(position)])
            gain[row] = np.exp(self.tint * rng.standard_normal(3))
            zoom, *move = rng.uniform(-self.jitter, self.jitter, 3)
            middle = (self.size - 1) / 2
            transform[:2] *= 1 + zoom
            transform[:2, 2] += np.multiply(move, self.size) - zoom * middle
        view = self.known.view[places]
        known = {
            "image": self._patches(places),
            "transform": torch.from_numpy(transforms),
            "gain": torch.from_numpy(gain),
            **self.known.codes(places),
            "cam": self.known.cam(places, transforms, self.size),
            "landmarks": self.known.targets(places, transforms, self.size),
            "uv": self.views.uv[view],
            "normals": self.views.normals[view],
            "colours": self.views.colours[view],
            "share": self.views.share[view],
        }
        if self.expressions is not None:
            draws = (np.random.default_rng([self.seed, 6, int(p)]) for p in positions)
            drawn = map(self.expressions.draw, places, draws)
            known |= {"change": torch.stack([*drawn]), "nearest": self.views.nearest[view]}
            known["pixels_per_metre"] = self.known.camera[places, 0]
        return known

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch with ``crops`` (B, 3, S, S) in place of patches and transforms."""
        batch = dict(batch)
        if self.expressions is not None:
            self._move(batch, self.expressions)
        image, transform, gain = (batch.pop(name) for name in ("image", "transform", "gain"))
        samples = oversampling(transform.cpu().numpy())
        crops = sample_crops(image, transform, self.size, samples)
        batch["crops"] = (crops * gain[..., None, None]).clamp(max=1)
        batch["colours"] = (batch["colours"] * gain[:, None]).clamp(max=1)
        return batch

    @staticmethod
    def _move(batch: dict[str, Tensor], by: Expressions) -> None:
        names = ("change", "nearest", "pixels_per_metre")
        change, nearest, metre = (batch.pop(name) for name in names)
        root = batch["pose"][:, :3]
        far = by.moves(change, root, by.face) * metre[:, None, None]
        batch["image"] = by.moved(batch["image"], far, nearest)
        batch["exp"] = batch["exp"] + change
        marks = by.moves(change, root, by.marks) * batch["cam"][:, :1, None]
        batch["landmarks"] = batch["landmarks"] + marks
