"""A generator with the encoder that inverts it, and the published files of both.

Layouts: ``e4e_ffhq_encode.pt`` of omertov/encoder4editing, and files with ``g_ema`` of
rosinality/stylegan2-pytorch. Nothing in them is executed.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from regaze.stylegan.encoder import Encoder4Editing
from regaze.stylegan.generator import Generator, style_count
from regaze.weights import load_strictly, state_dict_of, torch_content

MEAN_OF = 10_000
"""Drawn styles whose mean stands in for an average code that a generator's file lacks."""


class Inverter(nn.Module):
    """Faces to W+ codes and back.

    Args:
        decoder: the generator.
        encoder: what gives offsets of its codes; e4e of the published size if left out.

    Attributes:
        latent_avg: (rows, 512), what the encoder's offsets are added to.
    """

    def __init__(self, decoder: Generator, encoder: nn.Module | None = None):
        super().__init__()
        self.encoder = Encoder4Editing(decoder.size) if encoder is None else encoder
        self.decoder = decoder
        shape = self.decoder.n_latent, self.decoder.style_dim
        self.register_buffer("latent_avg", torch.zeros(shape))

    def encode(self, images: Tensor) -> Tensor:
        """Offsets (B,rows,512) of FFHQ-aligned faces (B,3,256,256) in [-1,1]."""
        return self.encoder(images)

    def decode(self, offsets: Tensor) -> Tensor:
        """Pictures (B,3,size,size), not limited to [-1,1], of offsets, with the stored noise."""
        return self.decoder(offsets + self.latent_avg, self.decoder.stored_noise())

    def invert(self, images: Tensor) -> Tensor:
        """What the generator makes of the codes of faces: (B,3,size,size) of (B,3,256,256)."""
        return self.decode(self.encode(images))

    def load_e4e(self, path: str | Path) -> None:
        """Load encoder, generator and average code of an e4e file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is something else, is cut off, is of another size, lacks the average code
                or keys; the message names the file.
        """
        content = _content(path, "state_dict")
        state = state_dict_of(content["state_dict"], f"{path}: state_dict")
        rows = sum(
            key.startswith("encoder.styles.") and key.endswith("linear.weight") for key in state
        )
        self._check_rows(path, rows)
        average = content.get("latent_avg")
        if average is None and _options(content).get("start_from_latent_avg", True):
            shape = tuple(self.latent_avg.shape)
            raise ValueError(
                f"{path}: latent_avg: expected the average code {shape} that the encoder's offsets "
                "belong to, found none"
            )
        if average is None:
            average = torch.zeros_like(self.latent_avg)
        load_strictly(self, {**state, "latent_avg": self._average(path, average)}, path)

    def load_generator(self, path: str | Path) -> None:
        """Load generator and average code of a StyleGAN2 file; the encoder stays as it is.

        Old files have no noise, for which this generator's own stands, and may lack the average,
        which is then the mean of many styles.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is something else, is cut off, is of another size or lacks keys.
        """
        content = _content(path, "g_ema")
        state = state_dict_of(content["g_ema"], f"{path}: g_ema")
        blocks = sum(key.startswith("to_rgbs.") and key.endswith("conv.weight") for key in state)
        self._check_rows(path, 2 * blocks + 2)
        noises = {k: v for k, v in self.decoder.state_dict().items() if k.startswith("noises.")}
        load_strictly(self.decoder, noises | state, f"{path}: g_ema")
        average = content.get("latent_avg")
        if average is None:
            average = self.decoder.mean_latent(MEAN_OF)
        self.latent_avg.copy_(self._average(path, average))

    def load_trunk(self, state: Mapping[str, Tensor], where: object = "") -> None:
        """Start the encoder from an identity network's ``input_layer`` and ``body`` (IR-SE50).

        Raises:
            ValueError: their keys or shapes are not the trunk's.
        """
        kept = {k: v for k, v in state.items() if k.startswith(("input_layer.", "body."))}
        trunk = nn.ModuleDict({"input_layer": self.encoder.input_layer, "body": self.encoder.body})
        load_strictly(trunk, kept, where)

    def _check_rows(self, path: str | Path, found: int) -> None:
        if found != (wanted := style_count(self.decoder.size)):
            side = f", of {2 ** (found // 2 + 1)} px" if found > 2 and not found % 2 else ""
            raise ValueError(
                f"{path}: expected a style_count of {wanted}, that of pictures of "
                f"{self.decoder.size} px, found {found}{side}"
            )

    def _average(self, path: str | Path, average: object) -> Tensor:
        shape = self.latent_avg.shape
        found = tuple(getattr(average, "shape", (type(average).__name__,)))
        if found not in (tuple(shape), (shape[1],), (1, shape[1])):
            raise ValueError(f"{path}: latent_avg: expected {tuple(shape)}, found {found}")
        return average.expand(shape)


def _content(path: str | Path, part: str) -> Mapping:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint with {part}, found no such file")
    # Training scripts store their options beside the weights; the class holds values and no more.
    with torch.serialization.safe_globals([Namespace]):
        content = torch_content(path)
    found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    if not isinstance(content, Mapping) or part not in content:
        raise ValueError(f"{path}: expected a checkpoint with {part}, found {found}")
    return content


def _options(content: Mapping) -> Mapping:
    options = content.get("opts") or {}
    return vars(options) if isinstance(options, Namespace) else options
