"""The network that answers where pixels of a strip are to be taken from.

A U-Net (Ronneberger et al. 2015) whose blocks are modulated by what is asked for (FiLM, Perez et
al. 2018), the same for all pixels; two channels tell each pixel where in the strip it lies.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regaze.redirectors.xunet.blocks import AttnBlock, GroupNorm, ResnetBlock, film_maps

_GROUPS, _HEADS = 8, 2


class StripNetwork(nn.Module):
    """Strips (B, 3, h, w) and numbers (B, n) that are asked for to (B, outputs, h, w).

    An untrained network answers 0.

    Args:
        options: the section ``network``; h and w are multiples of ``unshuffle`` times 2 per level
            below the first.
        asked: how many numbers.
        outputs: channels of the answer.
    """

    def __init__(self, options: Mapping, asked: int, outputs: int):
        super().__init__()
        self.unshuffle, self.repeats = options["unshuffle"], options["num_res_blocks"]
        fold, hidden = self.unshuffle**2, options["emb_ch"]
        widths = [round(options["ch"] * factor) for factor in options["ch_mult"]]
        self.ask = nn.Sequential(nn.Linear(asked, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.stem = nn.Conv2d(3 * fold + 2, widths[0], 3, padding=1)

        def block(incoming: int, width: int) -> ResnetBlock:
            return ResnetBlock(incoming, width, hidden, _GROUPS, 0.0, True)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        incoming, skips = widths[0], []
        for width in widths:
            for _ in range(self.repeats):
                self.down.append(block(incoming, width))
                incoming = width
                skips.append(width)
        self.middle = block(incoming, incoming)
        self.attention = nn.ModuleList(
            AttnBlock(incoming, _HEADS, _GROUPS, False) for _ in range(options["attention"])
        )
        for width in reversed(widths):
            for _ in range(self.repeats):
                self.up.append(block(incoming + skips.pop(), width))
                incoming = width
        self.levels = len(widths)
        self.norm = GroupNorm(incoming, _GROUPS)
        self.last = nn.Conv2d(incoming, outputs * fold, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, strips: Tensor, asked: Tensor) -> Tensor:
        """See the class."""
        condition = F.silu(self.ask(asked))[..., None, None]
        blocks = [*self.down, self.middle, *self.up]
        films = iter(film_maps(blocks, condition))
        h = F.pixel_unshuffle(strips, self.unshuffle)
        h = torch.cat([h, _places(h)], 1).contiguous(memory_format=torch.channels_last)
        h, skips = self.stem(h), []
        for level in range(self.levels):
            if level:
                h = F.avg_pool2d(h, 2)
            for one in self._of_level(self.down, level):
                h = one(h, next(films))
                skips.append(h)
        h = self.middle(h, next(films))
        for one in self.attention:
            h = one(h)
        for level in range(self.levels):
            if level:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            for one in self._of_level(self.up, level):
                h = one(torch.cat([h, skips.pop()], 1), next(films))
        return F.pixel_shuffle(self.last(self.norm.then_silu(h)), self.unshuffle)

    def _of_level(self, blocks: nn.ModuleList, level: int) -> nn.ModuleList:
        return blocks[level * self.repeats : (level + 1) * self.repeats]


def _places(like: Tensor) -> Tensor:
    """Channels (B, 2, h, w) with x and y from -1 to 1."""
    height, width = like.shape[-2:]
    y = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)[:, None]
    x = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype)
    grid = torch.stack([x.expand(height, width), y.expand(height, width)])
    return grid.expand(like.shape[0], 2, height, width)
