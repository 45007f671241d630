"""The ReStyle encoder: codes from a picture and the estimate so far, step by step.

Alaluf, Patashnik, Cohen-Or: "ReStyle", ICCV 2021, in the layout of
``models/encoders/restyle_psp_encoders.py`` of naranjuelo/GC-GAN: the trunk of an identity network
that sees six channels, and a head per row of a code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from regaze.identity.irse import irse_trunk
from regaze.redirectors.gcgan.checkpoints import published_content
from regaze.stylegan.encoder import Style
from regaze.weights import load_strictly, state_dict_of

SIZE_PX = 256
_MAP = 16


class RestyleEncoder(nn.Module):
    """Pictures beside estimates to what the estimates' codes lack.

    Args:
        rows: of a code.
        num_layers, squeeze: of the trunk, see :func:`regaze.identity.irse.irse_trunk`.
    """

    def __init__(self, rows: int, num_layers: int = 50, squeeze: bool = True):
        super().__init__()
        self.input_layer, self.body = irse_trunk(num_layers, squeeze, inputs=6)
        self.styles = nn.ModuleList(Style(_MAP) for _ in range(rows))

    def forward(self, pair: Tensor) -> Tensor:
        """Return (B,rows,512) of pictures and estimates (B,6,256,256) in [-1,1]."""
        values = self.body(self.input_layer(pair))
        return torch.stack([style(values) for style in self.styles], 1)


class Restyled(nn.Module):
    """A published encoder with the code that it begins at.

    Args:
        rows: of a code.
    """

    def __init__(self, rows: int):
        super().__init__()
        self.encoder = RestyleEncoder(rows)
        self.register_buffer("latent_avg", torch.zeros(rows, 512))

    def load(self, path: str | Path) -> None:
        """Load a published file: ``state_dict`` with ``encoder.`` keys, and ``latent_avg``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is something else, or keys do not fit; all are listed.
        """
        content = published_content(path, "state_dict", "latent_avg")
        state = state_dict_of(content["state_dict"], f"{path}: state_dict")
        own = {key: one for key, one in state.items() if key.startswith("encoder.")}
        average = content["latent_avg"]
        if not isinstance(average, Tensor) or average.shape[-1:] != (512,):
            found = tuple(average.shape) if isinstance(average, Tensor) else type(average).__name__
            raise ValueError(f"{path}: latent_avg: expected (rows, 512), found {found}")
        average = average.expand_as(self.latent_avg) if len(average) == 1 else average
        load_strictly(self, {**own, "latent_avg": average}, path)

    @torch.no_grad()
    def codes(self, images: Tensor, drawn: Callable[[Tensor], Tensor], steps: int) -> Tensor:
        """Codes (B,rows,512) of pictures (B,3,256,256), from the average code in so many steps.

        ``drawn`` makes pictures of codes.
        """
        codes = self.latent_avg.expand(len(images), -1, -1)
        for _ in range(steps):
            codes = codes + self.encoder(torch.cat([images, drawn(codes)], 1))
        return codes
