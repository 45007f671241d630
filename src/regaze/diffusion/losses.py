"""The noise-prediction loss of 3DiM, with every random draw an argument."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from regaze.diffusion.preconditioning import per_image
from regaze.diffusion.schedules import alpha_sigma, cosine_logsnr


def error(found, expected, kind: str = "l2", reduction: str = "mean"):
    """Return the ``l1``, ``l2`` (squared) or ``huber`` (smooth l1, beta 1) error."""
    functions = {"l1": F.l1_loss, "l2": F.mse_loss, "huber": F.smooth_l1_loss}
    return functions[kind](found, expected, reduction=reduction)


def diffused(clean, noise, logsnr):
    """Return ``alpha clean + sigma noise`` at ratios (B,)."""
    alpha, sigma = (per_image(value, clean) for value in alpha_sigma(logsnr))
    return alpha * clean + sigma * noise


def dropped_source(source, replacement, uniform, drop_prob: float = 0.1):
    """Return the source with noise in place of dropped images, and the mask of kept ones (B,).

    An image is kept where its U(0, 1) draw is above ``drop_prob``.
    """
    keep = uniform > drop_prob
    return torch.where(keep.reshape(-1, *[1] * (source.ndim - 1)), source, replacement), keep


def network_batch(batch, target, u, noise, mask_uniform, replacement, drop_prob: float = 0.1):
    """Return what the network receives in a training step, and the mask.

    Args:
        batch: ``x`` (B, 3, H, W) source and anything else that the network wants.
        target: (B, 3, H, W) clean target image.
        u: (B,) times in [0, 1]; 1 is pure noise.
        noise, replacement: standard normal, shaped as the images.
        mask_uniform: (B,) U(0, 1) draws that decide about dropping the condition.

    Returns:
        ``(batch with x, z, logsnr replaced, cond_mask)``.
    """
    logsnr = cosine_logsnr(torch.stack([torch.zeros_like(u), u], 1))
    x, keep = dropped_source(batch["x"], replacement, mask_uniform, drop_prob)
    z = diffused(target, noise, logsnr[:, 1])
    return {**batch, "x": x, "z": z, "logsnr": logsnr}, keep


def p_losses(network, batch, target, u, noise, mask_uniform, replacement, kind="l2", drop_prob=0.1):
    """Return the mean error of the predicted noise; arguments as of ``network_batch``."""
    received, keep = network_batch(batch, target, u, noise, mask_uniform, replacement, drop_prob)
    return error(network(received, keep), noise, kind)
