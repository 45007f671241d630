"""What every gaze and head estimator answers to, whatever its architecture and size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class GazeHeadEstimator(nn.Module):
    """A network from face patches to (gaze pitch, gaze yaw, head pitch, head yaw) in radians.

    Subclasses provide :meth:`embed` and :meth:`head`; ``forward`` is their composition, so that
    the embedding measured by the Fréchet distance is the very tensor the angles are read from.

    Attributes:
        arch, preset: how :func:`regaze.estimators.build.build_estimator` names the network.
        size_px: side of the square patch the network is trained on.
        preprocess: ``"equalise"`` or ``"none"``, applied to uint8 patches before the network
            (:func:`regaze.estimators.preprocess.prepare`).
        embedding_size: number of values :meth:`embed` returns per image.
    """

    arch: str
    preset: str
    size_px: int
    preprocess: str
    embedding_size: int

    def embed(self, images: Tensor) -> Tensor:
        """Return (B, embedding_size): the last layer but the angles, of (B,3,H,W) in [-1,1]."""
        raise TypeError(f"{type(self).__name__} does not define embed")

    def head(self, embedding: Tensor) -> Tensor:
        """Return (B,4) angles in radians of an embedding (B, embedding_size)."""
        raise TypeError(f"{type(self).__name__} does not define head")

    def forward(self, images: Tensor) -> Tensor:
        """Return (B,4): gaze pitch, gaze yaw, head pitch, head yaw (radians).

        ``images`` is (B,3,H,W) float in [-1,1], R,G,B, already pre-processed.
        """
        return self.head(self.embed(images))

    def config(self) -> dict[str, Any]:
        """Return what :func:`build_estimator` needs to build this network again."""
        return {
            "arch": self.arch,
            "preset": self.preset,
            "size_px": self.size_px,
            "preprocess": self.preprocess,
        }


def _inferring(network: nn.Module, function: Callable, images: Tensor):
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return function(images)
    finally:
        network.train(training)


def estimate(network: GazeHeadEstimator, images: Tensor) -> Tensor:
    """Return (B,4) float32 angles in radians without gradients, in evaluation mode.

    ``images`` is (B,3,H,W) float32 in [-1,1]; the mode of ``network`` is restored afterwards.
    """
    return _inferring(network, network, images).float()


def estimate_and_embed(network: GazeHeadEstimator, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return ((B,4) angles in radians, (B,E) embedding), both float32, from one forward pass."""

    def both(batch: Tensor) -> tuple[Tensor, Tensor]:
        embedding = network.embed(batch)
        return network.head(embedding).float(), embedding.float()

    return _inferring(network, both, images)
