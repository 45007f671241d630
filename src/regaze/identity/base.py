"""What every face-recognition network answers to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FaceRecogniser(nn.Module):
    """A network from faces to unit vectors; the same person gives a large scalar product.

    Attributes:
        name: key of :data:`regaze.identity.NETWORKS`.
        size_px: side of its square input.
        alignment: ``template`` places the eyes where ArcFace's five-point template has them,
            ``patch`` takes the whole patch.
        channels: order that its weights were trained with, ``rgb`` or ``bgr``.
        scale: what pictures in [-1,1] are multiplied by for what it was trained with.
        embedding_size: length of the vectors.
    """

    name: str
    size_px: int
    alignment: str
    embedding_size: int
    channels: str = "rgb"
    scale: float = 1.0

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, embedding_size), as published, of (B,3,size_px,size_px).

        The input has the order :attr:`channels` and the range that the weights were trained with;
        :meth:`embed` takes R,G,B in [-1,1] of every network.
        """
        raise TypeError(f"{type(self).__name__} does not define forward")

    def embed(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, embedding_size) float32, without gradients, in evaluation mode.

        ``images`` is (B,3,size_px,size_px) R,G,B in [-1,1]; the network's mode is restored
        afterwards.
        """
        if self.channels == "bgr":
            images = images.flip(1)
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return F.normalize(self(self.scale * images).float(), dim=1)
        finally:
            self.train(training)


class SqueezeExcite(nn.Module):
    """Channel gates from global averages (Hu et al., CVPR 2018), without biases."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return ``values`` (B,C,H,W) with each channel scaled by its gate in (0,1)."""
        mean = values.mean(dim=(2, 3), keepdim=True)
        return values * torch.sigmoid(self.fc2(F.relu(self.fc1(mean))))
