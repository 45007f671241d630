"""What a network predicts, and how a denoised image is made of it.

Every parameterisation is one line of Karras et al. 2022 in the variance-exploding description::

    D(z, sigma) = c_skip z + c_out F(c_in z)

so samplers and losses need not know which one a model was trained with. An ``anchor`` (an image
to start from, such as the warped source) shifts the whole process: z and D count from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regaze.diffusion.schedules import logsnr_from_sigma


def per_image(values, like):
    """Shape (B,) or scalar values to broadcast over ``like`` (B, ...), in its dtype."""
    values = torch.as_tensor(values, device=like.device).to(like.dtype)
    return values.reshape(-1, *[1] * (like.ndim - 1)) if values.ndim else values


@dataclass(frozen=True)
class Preconditioning:
    """Coefficients, targets and weights of one parameterisation.

    Attributes:
        kind: ``eps`` (noise), ``v`` (Salimans and Ho 2022), ``edm`` (Karras et al. 2022), ``flow``
            (noise minus image at x_t = (1-t) x + t n, sigma = t/(1-t); Liu et al. 2023, Lipman et
            al. 2023) or ``x0`` (the image itself, in units of ``sigma_data``).
        sigma_data: standard deviation of what is modelled, after the anchor is subtracted.
            ``eps``, ``v`` and ``flow`` assume 1, as their definition does.
    """

    kind: str = "edm"
    sigma_data: float = 0.5

    def coefficients(self, sigma):
        """Return ``(c_skip, c_out, c_in)`` at levels ``sigma`` (B,)."""
        one = torch.ones_like(sigma)
        if self.kind == "eps":
            return one, -sigma, (1 + sigma**2).rsqrt()
        if self.kind == "v":
            root = (1 + sigma**2).rsqrt()
            return root**2, -sigma * root, root
        if self.kind == "flow":
            share = 1 / (1 + sigma)
            return share, -sigma * share, share
        root = (sigma**2 + self.sigma_data**2).rsqrt()
        if self.kind == "x0":
            return torch.zeros_like(sigma), one * self.sigma_data, root
        return (self.sigma_data * root) ** 2, sigma * self.sigma_data * root, root

    def logsnr(self, sigma):
        """Return the noise level as the network is told it."""
        scale = self.sigma_data if self.kind in ("edm", "x0") else 1.0
        return logsnr_from_sigma(sigma, scale)

    def network_input(self, z, sigma, anchor=None):
        """Return ``c_in z``, (B, ...), for noisy images ``z`` = image + sigma noise."""
        c_in = per_image(self.coefficients(sigma)[2], z)
        return c_in * (z if anchor is None else z - anchor)

    def denoised(self, output, z, sigma, anchor=None):
        """Turn the network's output into its estimate of the clean image."""
        c_skip, c_out, _ = (per_image(c, z) for c in self.coefficients(sigma))
        if anchor is None:
            return c_skip * z + c_out * output
        return anchor + c_skip * (z - anchor) + c_out * output

    def target(self, clean, z, sigma, anchor=None):
        """Return what the network should output for ``clean`` seen as ``z``."""
        c_skip, c_out, _ = (per_image(c, z) for c in self.coefficients(sigma))
        if anchor is not None:
            clean, z = clean - anchor, z - anchor
        return (clean - c_skip * z) / c_out

    def image_weight(self, sigma):
        """Return the factor that turns squared image error into squared output error."""
        return 1 / self.coefficients(sigma)[1] ** 2

    def loss_weight(self, sigma, rule: str = "uniform", gamma: float = 5.0):
        """Return the (B,) weight on the network's squared output error.

        ``uniform``: 1. ``min_snr`` (Hang et al. 2023): squared image error weighted by
        min(SNR, gamma). ``soft_min_snr``: the smooth form of ``crowsonkb/k-diffusion``.
        """
        if rule == "uniform":
            return torch.ones_like(sigma)
        if rule == "min_snr":
            return (sigma**-2).clamp(max=gamma) * self.coefficients(sigma)[1] ** 2
        return (sigma * self.sigma_data / (sigma**2 + self.sigma_data**2)) ** 2
