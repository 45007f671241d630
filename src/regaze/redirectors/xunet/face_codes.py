"""How 3-D face codes enter the X-UNet (``codeprocessor.*``), and starting from a network without.

Three ways, all this project's own: ``film`` adds to the noise embedding and so to every
modulation (model ``xunet_deca``), ``concatenate`` appends channels to the encoded rays
(``xunet_deca_v1``), ``stack`` puts channels under the colours (``xunet_deca_v2``). Each starts
with the weights that read the code at zero, and then gives exactly the outputs of the network
without codes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regaze.weights import load_strictly

VARIANTS = {
    "xunet": "none",
    "xunet_deca": "film",
    "xunet_deca_v1": "concatenate",
    "xunet_deca_v2": "stack",
}
"""Published names of the models and how each takes codes."""

INJECTIONS = tuple(VARIANTS.values())
CONCATENATED_CHANNELS = 64
STACKED_CHANNELS = 4
STACKED_CELL = 8
"""Side in pixels of the cells that one stacked number fills."""


def widened(weight: Tensor, extra: int, groups: int = 1) -> Tensor:
    """Append ``extra`` zero input columns to each of the groups of inputs of (O, I, kh, kw)."""
    grouped = weight.unflatten(1, (groups, -1))
    zeros = grouped.new_zeros((*grouped.shape[:2], extra, *grouped.shape[3:]))
    return torch.cat([grouped, zeros], 2).flatten(1, 2)


def widen(conv: nn.Conv2d, extra: int, groups: int = 1) -> None:
    """Give a convolution ``extra`` more zero input columns per group, in place."""
    conv.weight = nn.Parameter(widened(conv.weight.detach(), extra, groups))
    conv.in_channels = conv.weight.shape[1]


class CodeProcessor(nn.Module):
    """Standardise codes and project them to what the network reads.

    Args:
        injection: ``film``, ``concatenate`` or ``stack``.
        dim: numbers per code.
        emb_ch: width of the noise embedding, the projection's width with ``film``.
        height, width: of the images; multiples of 8 with ``stack``.

    Buffers ``mean`` and ``std`` (dim,) are those of the training codes, see :meth:`standardise`;
    0 and 1 before.
    """

    def __init__(self, injection: str, dim: int, emb_ch: int, height: int, width: int):
        super().__init__()
        self.injection = injection
        self.grid = (STACKED_CHANNELS, height // STACKED_CELL, width // STACKED_CELL)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        if injection == "film":
            self.mlp = nn.Sequential(nn.Linear(dim, emb_ch), nn.SiLU(), nn.Linear(emb_ch, emb_ch))
            self.silence()
        else:
            cells = self.grid[0] * self.grid[1] * self.grid[2]
            self.proj = nn.Linear(dim, CONCATENATED_CHANNELS if injection != "stack" else cells)

    def silence(self) -> None:
        """Zero the layer through which ``film`` tells the code; the others' are convolutions."""
        if self.injection == "film":
            nn.init.zeros_(self.mlp[2].weight)
            nn.init.zeros_(self.mlp[2].bias)

    def standardise(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and deviation (dim,) of the training codes.

        Raises:
            ValueError: another shape, numbers that are not finite, or a deviation not above 0.
        """
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != self.mean.shape:
                raise ValueError(
                    f"codeprocessor.{name}: expected {tuple(self.mean.shape)}, "
                    f"found {tuple(value.shape)}"
                )
            if not torch.isfinite(value).all():
                raise ValueError(f"codeprocessor.{name}: expected finite numbers")
        if not (std > 0).all():
            raise ValueError(f"codeprocessor.std: expected above 0, found {float(std.min())}")
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, code: Tensor, cond_mask: Tensor | None = None) -> Tensor:
        """Project codes (B, 2, dim), raw, to (B, 2, channels) in float32 under any autocast.

        Results are zero where ``cond_mask`` (B,) is False.
        """
        with torch.autocast(code.device.type, enabled=False):
            code = (code.float() - self.mean) / self.std
            told = self.mlp(code) if self.injection == "film" else self.proj(code)
            return told if cond_mask is None else told * cond_mask[:, None, None].to(told.dtype)

    def stacked(self, told: Tensor, cell: int = STACKED_CELL) -> Tensor:
        """Channels (B, 4, height, width) for one frame's projection (B, 4 * height/8 * width/8).

        ``cell``: side that a number fills on the network's grid, 8 unless pixels were folded.
        """
        maps = told.unflatten(1, self.grid)
        return maps.repeat_interleave(cell, 2).repeat_interleave(cell, 3)


def warm_start(network: nn.Module, vanilla_state: Mapping[str, Tensor]) -> None:
    """Start a network from the weights of one that is told no codes.

    The outputs are then exactly those of that network, whatever the codes. Weights that only the
    given network has keep their values, but for those that must be zero for it; its means and
    deviations of codes stay.

    Args:
        network: an ``XUNet`` with or without codes, changed in place.
        vanilla_state: state dict of an ``XUNet`` without codes and otherwise configured alike; a
            ``module.`` prefix is stripped.

    Raises:
        ValueError: keys or shapes do not fit; all are listed, and nothing was changed.
    """
    vanilla = {key.removeprefix("module."): value for key, value in vanilla_state.items()}
    told = [key for key in vanilla if key.startswith("codeprocessor.")]
    if told:
        raise ValueError(f"warm start: expected weights of a network without codes, found {told}")
    state = dict(network.state_dict())
    own = {key: value for key, value in state.items() if key.startswith("codeprocessor.")}
    for key, extra, groups in network.code_inputs():
        if key not in vanilla:
            continue
        weight, wanted = vanilla[key], state[key]
        if weight.shape[1] + extra * groups == wanted.shape[1]:
            vanilla[key] = widened(weight, extra, groups)
    load_strictly(network, vanilla | own)
    if own:
        network.codeprocessor.silence()
