"""What ReDirTrans learns from: ST-ED's terms, with embeddings alone consistent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.angles import vector_from_angles
from regaze.redirectors.redirtrans.settings import ObjectiveOptions
from regaze.redirectors.sted.objective import Objective


def direction_loss(first: Tensor, second: Tensor) -> Tensor:
    """One minus the mean cosine between directions of angles (B,2) radians, in float32."""
    with torch.autocast(first.device.type, enabled=False):
        u, v = vector_from_angles(first.float()), vector_from_angles(second.float())
        return 1 - F.cosine_similarity(u, v, dim=-1, eps=1e-6).mean()


class RedirTransObjective(Objective, ObjectiveOptions):
    """The losses of one training step, weighted and chosen as ``objective:`` says."""

    def apart(self, first: Tensor, second: Tensor) -> Tensor:
        """How different directions (B,2) are, as ``angles`` says."""
        return (
            super().apart(first, second)
            if self.angles == "degrees"
            else direction_loss(first, second)
        )
