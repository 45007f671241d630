"""How an estimator learns: losses on angles, augmentation on the batch, the training task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.angles import vector_from_angles
from regaze.estimators.base import GazeHeadEstimator
from regaze.training.phases import Phase, Progress


def angular_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean angle in degrees between two label batches (B,2) in radians.

    Always computed in float32. The cosine similarity (eps 1e-6) is limited to [-1,1] by a clamp
    whose gradient vanishes at the limits as well, so that equal directions give a zero and not an
    undefined gradient (zhengyuf/STED-gaze ``losses.py``).
    """
    with torch.autocast(first.device.type, enabled=False):
        u, v = vector_from_angles(first.float()), vector_from_angles(second.float())
        cosine = F.hardtanh(F.cosine_similarity(u, v, dim=-1, eps=1e-6), -1.0, 1.0)
        return torch.acos(cosine).mean() * (180.0 / math.pi)


def l1_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of labels (B,2) in radians, in float32.

    Unlike :func:`angular_loss` its gradient does not grow without bound near the target, which
    steadies short trainings.
    """
    return (predicted.float() - target.float()).abs().mean()


def mirror_labels(labels: Tensor) -> Tensor:
    """Return labels (..., 2) of the horizontally mirrored picture: (pitch, -yaw).

    Mirroring negates x of the label's vector (cos p sin y, sin p, cos p cos y), nothing else.
    """
    return torch.stack([labels[..., 0], -labels[..., 1]], dim=-1)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training batch that keep its labels exact.

    Attributes:
        flip: probability of mirroring a picture (labels follow, :func:`mirror_labels`).
        brightness: largest shift of all channels, in units of the [-1,1] range.
        contrast: largest relative change of the distance from the picture's mean.
        colour: largest shift of single channels.
        shift: largest displacement as a fraction of the side, filled by the border's colour. An
            estimator that never saw a shift reads 10 degrees of error into a face drawn one pixel
            too low, and would judge redirected pictures by their position.
        blur: probability of a 3x3 smoothing, since redirected pictures are often soft.
    """

    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.3
    colour: float = 0.1
    shift: float = 0.012
    blur: float = 0.1

    def __call__(
        self, images: Tensor, gaze: Tensor, head: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return augmented (images (B,3,H,W) in [-1,1], gaze (B,2), head (B,2)).

        All draws come from ``generator``, on its device, so a batch is augmented alike on every
        device that the images live on.
        """
        count = len(images)

        def draw(*shape: int) -> Tensor:
            values = torch.rand(shape, generator=generator, device=generator.device)
            return values.to(images.device)

        mirrored = draw(count) < self.flip
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        gaze = torch.where(mirrored[:, None], mirror_labels(gaze), gaze)
        head = torch.where(mirrored[:, None], mirror_labels(head), head)
        if self.shift:
            images = _shifted(images, (2 * draw(count, 2) - 1) * self.shift)
        if self.blur:
            soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
            images = torch.where((draw(count) < self.blur)[:, None, None, None], soft, images)
        gain = 1 + self.contrast * (2 * draw(count, 1, 1, 1) - 1)
        offset = self.brightness * (2 * draw(count, 1, 1, 1) - 1)
        tint = self.colour * (2 * draw(count, 3, 1, 1) - 1)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return (images * gain + (mean * (1 - gain) + offset + tint)).clamp(-1, 1), gaze, head


def _shifted(images: Tensor, fraction: Tensor) -> Tensor:
    """Move pictures by whole pixels: (B,2) fractions of (height, width), border repeated."""
    count, channels, height, width = images.shape
    move = torch.round(fraction * fraction.new_tensor([height, width])).long()
    rows = torch.arange(height, device=images.device)[None] - move[:, :1]
    columns = torch.arange(width, device=images.device)[None] - move[:, 1:]
    rows = rows.clamp(0, height - 1)[:, None, :, None].expand(-1, channels, -1, width)
    columns = columns.clamp(0, width - 1)[:, None, None, :].expand(-1, channels, height, -1)
    return images.gather(2, rows).gather(3, columns)


class EstimatorTask:
    """An estimator as the common training loop sees it: one network, one phase, one loss.

    Args:
        network: what to train.
        loss: ``"angular"`` (degrees, the published loss) or ``"l1"`` (radians).
        augmentation: applied to every batch, or None.

    """

    def __init__(
        self,
        network: GazeHeadEstimator,
        loss: str = "angular",
        augmentation: Augmentation | None = None,
    ):
        self.network, self.augmentation = network, augmentation
        self._distance = angular_loss if loss == "angular" else l1_loss

    def phases(self) -> list[Phase]:
        """Return the parameters of the single phase ``main``."""
        return [Phase("main", list(self.network.parameters()))]

    def losses(self, batch: Mapping[str, Tensor], phase: str, at: Progress) -> dict[str, Tensor]:
        """Return ``loss`` (to minimise) and the errors ``gaze_deg``, ``head_deg`` (to log).

        ``batch`` holds ``image`` (B,3,H,W) float32 in [-1,1], ``gaze`` and ``head`` (B,2) radians.
        """
        images, gaze, head = batch["image"], batch["gaze"], batch["head"]
        if self.augmentation is not None:
            images, gaze, head = self.augmentation(images, gaze, head, at.generator)
        predicted = self.network(images).float()
        with torch.no_grad():
            errors = {
                "gaze_deg": angular_loss(predicted[:, :2], gaze),
                "head_deg": angular_loss(predicted[:, 2:], head),
            }
        loss = self._distance(predicted[:, :2], gaze) + self._distance(predicted[:, 2:], head)
        return {"loss": loss, **errors}
