"""Random numbers of single images, whatever batch they are sampled in."""

from __future__ import annotations

import numpy as np
import torch


def image_noise(seed: int, pair_ids, shape, stream: int = 0):
    """Return standard normal noise (B, *shape) float32, row i depending on (seed, pair, stream).

    Args:
        seed: of the run, >= 0.
        pair_ids: (B,) non-negative integers that name the images.
        shape: of one image.
        stream: tells several draws for one image apart, such as the steps of a sampler.

    Raises:
        ValueError: a negative seed, pair or stream.
    """
    pairs = [int(pair) for pair in pair_ids]
    if min([seed, stream, *pairs]) < 0:
        raise ValueError(f"image_noise: seed {seed}, stream {stream} and pairs must be >= 0")
    noise = np.empty((len(pairs), *shape), np.float32)
    for row, pair in zip(noise, pairs, strict=True):
        np.random.default_rng([seed, pair, stream]).standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise)
