"""Noise levels: log signal-to-noise ratios, their amplitudes, and grids to sample on.

Two descriptions of one process are used. Variance preserving: ``z = alpha x + sigma eps`` with
``alpha**2 + sigma**2 = 1`` and ``logsnr = ln(alpha**2 / sigma**2)`` (Watson et al. 2022).
Variance exploding: ``x + s eps`` (Karras et al. 2022). They are related by ``s = exp(-logsnr/2)``
and ``z_ve = z_vp / alpha``.
"""

from __future__ import annotations

import math

import torch


def cosine_logsnr(t, low: float = -20.0, high: float = 20.0, dtype=torch.float64):
    """Return the cosine schedule's log signal-to-noise ratio at time ``t`` in [0, 1], float32.

    ``high`` at t = 0 (clean), ``low`` at t = 1 (noise). ``dtype`` is the precision computed in:
    in float32 the published port gets -20.001 at t = 1, which parity tests need.
    """
    start = torch.arctan(torch.exp(torch.tensor(-0.5 * high, dtype=dtype)))
    slope = torch.arctan(torch.exp(torch.tensor(-0.5 * low, dtype=dtype))) - start
    t = torch.as_tensor(t).to(dtype)
    return (-2.0 * torch.log(torch.tan(slope.to(t.device) * t + start.to(t.device)))).float()


def cosine_grid(steps: int, low: float = -20.0, high: float = 20.0, dtype=torch.float64):
    """Return the (steps + 1,) ratios of an ancestral sampler, from noise to clean."""
    return cosine_logsnr(torch.linspace(1, 0, steps + 1, dtype=dtype), low, high, dtype)


def alpha_sigma(logsnr):
    """Return the variance-preserving amplitudes ``(alpha, sigma)`` of image and noise."""
    return torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()


def sigma_from_logsnr(logsnr):
    """Return the variance-exploding noise level of a ratio."""
    return torch.exp(-0.5 * logsnr)


def logsnr_from_sigma(sigma, sigma_data: float = 1.0, limit: float = 20.0):
    """Return -2 ln(sigma / sigma_data), clipped to +-limit, of variance-exploding levels."""
    return (-2.0 * torch.log(sigma / sigma_data)).clamp(-limit, limit)


def karras_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0):
    """Return (steps + 1,) float64 levels falling from ``sigma_max`` to ``sigma_min``, then 0.

    Equation 5 of Karras et al. 2022. One step goes straight from ``sigma_max`` to 0.

    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (first + ramp * (last - first)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def lognormal_sigmas(uniform, mean: float = -1.2, std: float = 1.2):
    """Map U(0, 1) draws to noise levels with ln sigma ~ N(mean, std), float32."""
    normal = math.sqrt(2.0) * torch.erfinv(
        (2.0 * uniform.double() - 1.0).clamp(-1 + 1e-9, 1 - 1e-9)
    )
    return torch.exp(mean + std * normal).float()


def stratified(uniform, total: int, first: int = 0):
    """Spread one U(0, 1) draw over a batch: ``(first + i + u) / total`` for the rows i.

    ``uniform`` is (B,) holding one and the same draw, or a number with ``total`` rows; ``first``
    is the index of the first row in a batch that is dealt to several processes.
    """
    uniform = torch.as_tensor(uniform)
    rows = len(uniform) if uniform.ndim else total
    return (first + torch.arange(rows, device=uniform.device) + uniform) / total
