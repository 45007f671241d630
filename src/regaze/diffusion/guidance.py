"""Classifier-free guidance, counted as in 3DiM: weight 0 is the plain conditional model."""

from __future__ import annotations

from regaze.diffusion.preconditioning import per_image


def guided(conditional, unconditional, weight):
    """Return ``(1 + w) conditional - w unconditional``; ``weight`` is a number or (B,).

    ``w`` is the usual guidance scale minus one; -1 is the unconditional model.
    """
    weight = per_image(weight, conditional)
    return (1 + weight) * conditional - weight * unconditional
