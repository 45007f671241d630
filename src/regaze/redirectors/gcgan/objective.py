"""What generator and discriminator learn from, and what a picture of theirs becomes at rest.

The terms are those of ``naranjuelo/GC-GAN`` (``train_conditional.py``,
``train_conditional_stage2.py``); both adversarial losses are StyleGAN2's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FOLLOW = 0.01
"""Share of a batch in the running mean of path lengths."""
BROKEN_SHARE = 10_000 / 256**2
"""Of a picture: more than that of iris breaks a segmentation."""
IRIS = 5


def gradient_penalties(logits: Tensor, *inputs: Tensor) -> list[Tensor]:
    """R1 of Mescheder et al. 2018 of several inputs, from one pass back.

    Args:
        logits: (B,1).
        inputs: (B,...) that they were computed from.

    Returns:
        For each the mean squared norm of the slope of ``logits`` in it.
    """
    slopes = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
    return [one.square().flatten(1).sum(1).mean() for one in slopes]


@dataclass(frozen=True)
class PathLength:
    """How far pictures move with their codes (Karras et al. 2020).

    Attributes:
        penalty: mean squared difference of lengths and their running mean.
        mean: the running mean with this batch; the penalty's gradient flows through it.
        lengths: (B,).
    """

    penalty: Tensor
    mean: Tensor
    lengths: Tensor


def path_length(images: Tensor, codes: Tensor, mean: Tensor, noise: Tensor) -> PathLength:
    """Measure path lengths.

    Args:
        images: (B,3,H,W) that were drawn of the codes.
        codes: (B,R,D), leaves.
        mean: scalar, the running mean so far.
        noise: like the images, of unit variance.
    """
    scale = (images.shape[2] * images.shape[3]) ** -0.5
    (slope,) = torch.autograd.grad((images * noise).sum() * scale, codes, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    mean = mean + FOLLOW * (lengths.mean() - mean)
    return PathLength((lengths - mean).square().mean(), mean, lengths)


def mask_loss(coarse: Tensor, seg: Tensor) -> Tensor:
    """Mean squared difference of coarse shares (B,K,c,c) and pooled scores (B,K,S,S)."""
    return (coarse - F.adaptive_avg_pool2d(seg, coarse.shape[-2:])).square().mean()


CLASS_WEIGHTS = (0.5, 1.0, 4.0, 2.0, 1.0, 6.0, 2.0)
"""What a pixel counts in :func:`repeated`, by class: eyes and irises are few."""


def repeated(rgb: Tensor, seg: Tensor, coarse: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """How far what is drawn is from a picture and its classes: a term of this project.

    Args:
        rgb, seg, coarse: what was drawn, (B,3,S,S), (B,K,S,S) and (B,K,c,c).
        images, masks: what it is to be, (B,3,S,S) and (B,K,S,S) of 1 and -1.
    """
    weight = masks.new_tensor(CLASS_WEIGHTS[: masks.shape[1]])[:, None, None]
    share = (masks + 1) / 2
    pixels = (share * weight).sum(1, keepdim=True)
    pixels = pixels / pixels.mean()
    apart = (pixels * (rgb - images).abs()).mean() + (pixels * (seg - masks).square()).mean() / 2
    # Pseudo-depths are taught by the classes themselves.
    shares = F.adaptive_avg_pool2d(share, coarse.shape[-2:])
    likely = ((coarse + 1) / 2).clamp_min(1e-4).log()
    return apart - (weight * shares * likely).sum(1).mean() / 4


def unbroken(seg: Tensor, share: float = BROKEN_SHARE, iris: int = IRIS) -> Tensor:
    """Which segmentations (B,K,H,W) have no more iris than that share of the picture, (B,) bool."""
    return (seg[:, iris] > 0).flatten(1).sum(1) <= share * seg.shape[2] * seg.shape[3]


def swapped(kept: Tensor, seg: Tensor, whole: Tensor) -> Tensor:
    """Segmentations of the frozen generator, of broken ones the trained generator's own.

    Args:
        kept: (B,K,H,W) of the frozen generator.
        seg: the same of the one that is trained.
        whole: (B,) bool, those that are not broken.
    """
    return torch.where(whole[:, None, None, None], kept, seg)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Segmentations (B,classes,H,W) of 1 and -1 of class numbers (B,H,W).

    A number beyond the classes is -1 in all of them.
    """
    numbers = torch.arange(classes, device=labels.device)[:, None, None]
    return (labels[:, None] == numbers).to(torch.get_default_dtype()) * 2 - 1
