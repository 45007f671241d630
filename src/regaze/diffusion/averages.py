"""Moving averages of weights, and learning-rate schedules counted in images.

Classic averages have a half-life in images. Power-function averages (Karras et al. 2024,
"Analyzing and improving the training dynamics of diffusion models") have a width relative to the
training so far; snapshots of two of them allow any other width to be reconstructed afterwards.
The formulas are derived from the definitions: at time t the average weighs the past tau by
``(gamma + 1) tau**gamma / t**(gamma + 1)``.
"""

from __future__ import annotations

import numpy as np


def half_life_decay(
    images: float, batch: float, half_life: float = 500e3, ramp: float = 0.09
) -> float:
    """Return the decay of one update after ``images`` images have been seen.

    The half-life is at most ``ramp`` of the training so far, so that the random start is forgotten.
    """
    return 0.5 ** (batch / max(1.0, min(half_life, ramp * images)))


def power_exponent(std):
    """Return gamma of the power-function average whose relative standard deviation is ``std``.

    That is the largest real root of g^3 + 7 g^2 + (16 - std^-2) g + (12 - std^-2).
    """
    std = np.asarray(std, dtype=np.float64)
    if np.any(std <= 0) or np.any(std >= 0.2886751):
        raise ValueError(f"EMA std: expected 0 < std < 0.2887, found {std}")
    roots = [
        max(root.real for root in np.roots([1, 7, 16 - s**-2, 12 - s**-2]) if abs(root.imag) < 1e-6)
        for s in std.ravel()
    ]
    return np.reshape(roots, std.shape)


def power_decay(images, batch, std):
    """Return the decay of the update that reaches ``images`` images seen."""
    return (1 - batch / np.asarray(images, np.float64)) ** (power_exponent(std) + 1)


def posthoc_coefficients(in_images, in_std, out_images, out_std):
    """Return (inputs, outputs) coefficients that mix snapshots into other averages.

    The mixture is the least-squares fit of weight profiles; its columns sum to 1.

    Args:
        in_images, in_std: (inputs,) when each snapshot was taken, and its width.
        out_images, out_std: (outputs,) the averages wanted.
    """
    in_images, in_std = np.broadcast_arrays(np.float64(in_images), np.float64(in_std))
    out_images, out_std = np.broadcast_arrays(np.float64(out_images), np.float64(out_std))
    inputs = (in_images.ravel(), power_exponent(in_std.ravel()))
    outputs = (out_images.ravel(), power_exponent(out_std.ravel()))
    mix = np.linalg.solve(_overlap(inputs, inputs), _overlap(inputs, outputs))
    return mix / mix.sum(0)


def _overlap(first, second):
    """Inner products of weight profiles: integral of p_a p_b over the shorter past."""
    (ta, ga), (tb, gb) = (first[0][:, None], first[1][:, None]), second
    early, late = np.minimum(ta, tb), np.maximum(ta, tb)
    # Only the exponent of the profile that lasts longer survives in the ratio of times.
    exponent = np.where(ta < tb, gb, ga)
    return (ga + 1) * (gb + 1) / (ga + gb + 1) * (early / late) ** exponent / late


def warmup_rate(step, batch: int, rate: float = 1e-4, images: float = 10e6):
    """Return the rate of a step: linear over the first ``images`` images, then constant."""
    return rate * np.minimum(1.0, np.asarray(step, np.float64) * batch / images)


def inverse_root_rate(
    images, batch: int, rate: float = 0.01, reference_batches: float = 70e3, warmup: float = 10e6
):
    """Return EDM2's learning rate: linear warm-up, then falling as 1/sqrt(images)."""
    images = np.asarray(images, np.float64)
    fall = np.sqrt(np.maximum(images / (reference_batches * batch), 1.0))
    return rate / fall * (np.minimum(images / warmup, 1.0) if warmup > 0 else 1.0)
