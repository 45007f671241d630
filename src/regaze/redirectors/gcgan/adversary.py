"""Discriminators of pictures with their segmentations, with the gaze (stage 1) or without."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regaze.redirectors.gcgan.local import EMBEDDING, GazeEmbedding
from regaze.stylegan.discriminator import branch, layer, with_spread
from regaze.stylegan.generator import channels_at
from regaze.stylegan.ops import EqualLinear


class DualDiscriminator(nn.Module):
    """Judges a picture and its segmentation, in branches whose maps are added.

    Args:
        size: side of the pictures, a power of two from 8.
        seg_dim: classes.
        channel_multiplier: width above 32 px.
        channel_max: largest width; published networks have 512.
        gaze: whether it is told the gaze that the picture has or was asked for.
    """

    def __init__(
        self,
        size: int,
        seg_dim: int,
        channel_multiplier: int = 2,
        channel_max: int = 512,
        gaze: bool = True,
    ):
        super().__init__()
        self.convs_img = branch(size, channel_multiplier, channel_max)
        self.convs_seg = branch(size, channel_multiplier, channel_max, seg_dim)
        width = channels_at(4, channel_multiplier, channel_max)
        self.final_conv = layer(width + 1, width, 3)
        if gaze:
            self.embed = GazeEmbedding()
        told = EMBEDDING if gaze else 0
        self.final_linear = nn.Sequential(
            EqualLinear(16 * width + told, width, activation=True), EqualLinear(width, 1)
        )
        self.gaze = gaze

    def forward(
        self, images: Tensor, masks: Tensor | None = None, gaze: Tensor | None = None
    ) -> Tensor:
        """Return logits (B,1).

        Args:
            images: (B,3,S,S) in [-1,1].
            masks: (B,seg_dim,S,S) in [-1,1]; None leaves their branch out.
            gaze: (B,2) radians, where it is told the gaze.

        Raises:
            ValueError: more than four pictures whose number is no multiple of four.
        """
        values = self.convs_img(images)
        if masks is not None:
            values = values + self.convs_seg(masks)
        values = self.final_conv(with_spread(values)).flatten(1)
        if self.gaze:
            values = torch.cat([values, self.embed(gaze)], 1)
        return self.final_linear(values)
