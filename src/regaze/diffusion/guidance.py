"""Classifier-free guidance, counted as in 3DiM: weight 0 is the plain conditional model."""

from __future__ import annotations

import torch

from regaze.diffusion.preconditioning import per_image


def guided(conditional, unconditional, weight):
    """Return ``(1 + w) conditional - w unconditional``; ``weight`` is a number or (B,).

    ``w`` is the usual guidance scale minus one; -1 is the unconditional model.
    """
    weight = per_image(weight, conditional)
    return (1 + weight) * conditional - weight * unconditional


def weight_at(weight, sigma, interval=None):
    """Return the weight where ``sigma`` lies inside ``interval`` = (low, high), else 0.

    Guidance in the middle of the noise range only (Kynkaanniemi et al. 2024) keeps strong
    weights from distorting the coarse layout and saves the other evaluations.
    """
    if interval is None:
        return weight
    low, high = interval
    weight, sigma = torch.as_tensor(weight), torch.as_tensor(sigma)
    return torch.where((sigma > low) & (sigma < high), weight, torch.zeros_like(weight))
