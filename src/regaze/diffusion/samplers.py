"""Samplers as functions of a denoiser; they hold no state and draw no numbers of their own.

Few-step samplers work in the variance-exploding description on ``denoise(z, sigma)``, which gets
images (B, ...) and levels (B,) and returns the estimate of the clean images. The formulas are
those of Karras et al. 2022 (Euler, which is DDIM, and Heun) and Lu et al. 2022 (DPM-Solver++ 2M).
The ancestral sampler of 3DiM works in the variance-preserving description.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch

from regaze.diffusion.schedules import alpha_sigma


def _call(denoise, z, sigma: float):
    return denoise(z, torch.full((z.shape[0],), sigma, dtype=torch.float32, device=z.device))


def _levels(sigmas) -> Iterator[tuple[int, tuple[float, float]]]:
    """Steps with the levels that they begin and end at."""
    return enumerate(pairwise(float(sigma) for sigma in sigmas))


def euler(denoise, z, sigmas, callback=None):
    """Euler steps along the probability-flow line; the same as DDIM without noise.

    Args:
        denoise: ``(z, sigma) -> clean estimate``.
        z: (B, ...) start, of standard deviation ``sigmas[0]``.
        sigmas: strictly falling levels, usually ending in 0.
        callback: called as ``callback(step, z, estimate)`` before every step.

    Returns:
        The images at the last level.
    """
    for step, (sigma, after) in _levels(sigmas):
        clean = _call(denoise, z, sigma)
        if callback:
            callback(step, z, clean)
        z = clean + (after / sigma) * (z - clean)
    return z


def heun(denoise, z, sigmas, callback=None):
    """Second-order Heun steps (two evaluations each, one for the step to 0); see ``euler``."""
    for step, (sigma, after) in _levels(sigmas):
        clean = _call(denoise, z, sigma)
        if callback:
            callback(step, z, clean)
        slope = (z - clean) / sigma
        ahead = z + (after - sigma) * slope
        if after > 0:
            slope = (slope + (ahead - _call(denoise, ahead, after)) / after) / 2
            ahead = z + (after - sigma) * slope
        z = ahead
    return z


def dpmpp_2m(denoise, z, sigmas, callback=None):
    """DPM-Solver++ 2M: one evaluation per step, second order by the previous estimate."""
    previous, earlier = None, None
    for step, (sigma, after) in _levels(sigmas):
        clean = _call(denoise, z, sigma)
        if callback:
            callback(step, z, clean)
        estimate = clean
        if previous is not None and after > 0:
            # Extrapolate the estimate to the middle of the step, in log noise level.
            ratio = math.log(sigma / after) / (2 * math.log(earlier / sigma))
            estimate = clean + ratio * (clean - previous)
        z = estimate + (after / sigma) * (z - estimate)
        previous, earlier = clean, sigma
    return z


SAMPLERS = {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}


def sample(name: str, denoise, z, sigmas, callback=None):
    """Run the few-step sampler of this name in :data:`SAMPLERS`, see ``euler``."""
    return SAMPLERS[name](denoise, z, sigmas, callback)


def evaluations(name: str, steps: int) -> int:
    """Return how often a sampler asks the denoiser in ``steps`` steps that end at level 0."""
    return 2 * steps - 1 if name == "heun" else steps


def asked_levels(name: str, sigmas) -> list[tuple[int, float]]:
    """Return ``(step, sigma)`` of every evaluation that a sampler will ask for, in order.

    A denoiser that treats levels differently can so decide without reading a level back from a
    GPU. ``sigmas`` are the sampler's levels, ending in 0; those of ``ancestral`` are the
    variance-exploding levels of its grid.
    """
    asked = []
    for step, (sigma, after) in _levels(sigmas):
        asked.append((step, sigma))
        if name == "heun" and after > 0:
            asked.append((step, after))
    return asked


def ancestral_moments(z, noise, logsnr, logsnr_next, limit: float | None = 1.0):
    """Return mean (B, ...) and variance (scalar tensor) of one step's posterior.

    ``noise`` is the predicted noise in ``z`` at ratio ``logsnr``; the implied clean image is
    clamped to +-``limit``. Ratios are scalar tensors with ``logsnr_next`` > ``logsnr``.
    """
    alpha, sigma = alpha_sigma(logsnr)
    alpha_next, sigma_next = alpha_sigma(logsnr_next)
    c = -torch.expm1(logsnr - logsnr_next)
    clean = (z - sigma * noise) / alpha
    if limit is not None:
        clean = clean.clamp(-limit, limit)
    mean = alpha_next * (z * (1 - c) / alpha + c * clean)
    return mean, sigma_next**2 * c


def ancestral(predict, z, grid, draw, final_step: str = "mean", limit=1.0, callback=None):
    """Ancestral sampling of 3DiM in the variance-preserving description.

    Args:
        predict: ``(z, logsnr (B,)) -> noise``, guided already.
        z: (B, ...) standard normal start.
        grid: (N + 1,) rising ratios, as of ``cosine_grid``.
        draw: ``step -> (B, ...)`` standard normal, called only where noise is added.
        final_step: ``mean`` ends on the mean of the last posterior. ``compat`` does as
            ``a6o/3d-diffusion-pytorch``: it tests for a next ratio of 0 instead of the last step,
            so the last step adds (invisible) noise and the middle one of an even number none.
        callback: called as ``callback(step, z)`` after every step.

    Returns:
        The last ``z``; not clipped.
    """
    # On the host: a level read back from a GPU would make every step wait for it.
    grid = grid.cpu()
    last = len(grid) - 2
    for step in range(len(grid) - 1):
        now, after = grid[step], grid[step + 1]
        level = torch.full((len(z),), float(now), dtype=now.dtype, device=z.device)
        noise = predict(z, level)
        mean, variance = ancestral_moments(z, noise, now, after, limit)
        # The middle of the grid is 0 up to rounding, whatever precision it was made in.
        middle = abs(float(after)) < 1e-6
        quiet = middle if final_step == "compat" else step == last
        z = mean if quiet else mean + variance.sqrt() * draw(step)
        if callback:
            callback(step, z)
    return z
