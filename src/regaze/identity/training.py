"""Training the small recogniser: pictures with their person, and ArcFace's loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.estimators.batches import ImageBatches
from regaze.estimators.objective import Augmentation
from regaze.identity.base import FaceRecogniser
from regaze.training.phases import Phase, Progress


def arcface_logits(cosine: Tensor, person: Tensor, scale: float, margin: float) -> Tensor:
    """Return (B,C) logits: the cosine of the true class is taken ``margin`` radians further away.

    ``cosine`` is (B,C) in [-1,1], ``person`` (B,) int64. Where the angle plus the margin exceeds
    180 degrees the cosine falls on linearly, as in Deng et al., CVPR 2019, so that it stays
    monotonic.
    """
    own = cosine.gather(1, person[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(own)
    low = own - np.sin(margin) * margin
    harder = torch.where(angle + margin < np.pi, torch.cos(angle + margin), low)
    return scale * cosine.scatter(1, person[:, None], harder)


class PersonBatches(ImageBatches):
    """Single pictures with the number of their person."""

    def __init__(self, *args, **kwargs):
        """Bind the rows; see :class:`regaze.training.data.ImageBatches`."""
        super().__init__(*args, **kwargs)
        _, self._numbers = np.unique(self.reader.person_of[self.rows], return_inverse=True)
        self.persons = int(self._numbers.max()) + 1

    def load(self, step: int) -> dict[str, Tensor]:
        """Batch ``step``: that of single pictures, and ``person`` (B,) int64."""
        places = np.array([self._visited(position) for position in self._positions(step)])
        return {**super().load(step), "person": torch.from_numpy(self._numbers[places])}

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn a loaded batch, already on its device, into what :class:`IdentityTask` takes."""
        return {**super().finish(batch), "person": batch["person"]}


class IdentityTask:
    """A recogniser with a vector for every training person, as the common loop sees it.

    Args:
        recogniser: what to train.
        persons: number of training people.
        scale, margin: of :func:`arcface_logits`.
        augmentation: applied to every batch, or None. Mirrored faces keep their person.
    """

    def __init__(
        self,
        recogniser: FaceRecogniser,
        persons: int,
        scale: float,
        margin: float,
        augmentation: Augmentation | None = None,
    ):
        classes = nn.Linear(recogniser.embedding_size, persons, bias=False)
        self.network = nn.ModuleDict({"recogniser": recogniser, "classes": classes})
        self.scale, self.margin, self.augmentation = scale, margin, augmentation

    def phases(self) -> list[Phase]:
        """Return the parameters of the single phase ``main``."""
        return [Phase("main", list(self.network.parameters()))]

    def losses(self, batch: Mapping[str, Tensor], phase: str, at: Progress) -> dict[str, Tensor]:
        """Return ``loss`` and ``hit``, the share of pictures whose nearest class is their own.

        ``batch`` holds ``image`` (B,3,H,W) in [-1,1] and ``person`` (B,) int64.
        """
        images, person = batch["image"], batch["person"]
        if self.augmentation is not None:
            images, _, _ = self.augmentation(images, batch["gaze"], batch["head"], at.generator)
        vectors = F.normalize(self.network["recogniser"](images).float(), dim=1)
        with torch.autocast(images.device.type, enabled=False):
            centres = F.normalize(self.network["classes"].weight.float(), dim=1)
            cosine = vectors @ centres.T
            logits = arcface_logits(cosine, person, self.scale, self.margin)
        hit = (cosine.detach().argmax(1) == person).float().mean()
        return {"loss": F.cross_entropy(logits, person), "hit": hit}
