"""A generator with the encoder that inverts it, and the published files of both.

Layouts: ``e4e_ffhq_encode.pt`` of omertov/encoder4editing, and files with ``g_ema`` of
rosinality/stylegan2-pytorch. Nothing in them is executed.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from regaze.stylegan.encoder import Encoder4Editing
from regaze.stylegan.generator import Generator
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

    def load(self, state: Mapping[str, Tensor], where: object = "") -> None:
        """Load what :func:`read_e4e` gives, which is the state dict of this module.

        Raises:
            ValueError: it is of another size, or keys do not fit; all are listed.
        """
        self._check_rows(where, state, "decoder.")
        load_strictly(self, state, where)

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
        self._check_rows(path, state)
        noises = {k: v for k, v in self.decoder.state_dict().items() if k.startswith("noises.")}
        load_strictly(self.decoder, noises | state, f"{path}: g_ema")
        average = content.get("latent_avg")
        if average is None:
            average = self.decoder.mean_latent(MEAN_OF)
        average = average_code(average, self.decoder.n_latent, path)
        load_strictly(self, {**self.state_dict(), "latent_avg": average}, path)

    def load_trunk(self, state: Mapping[str, Tensor], where: object = "") -> None:
        """Start the encoder from an identity network's ``input_layer`` and ``body`` (IR-SE50).

        Raises:
            ValueError: their keys or shapes are not the trunk's.
        """
        kept = {k: v for k, v in state.items() if k.startswith(("input_layer.", "body."))}
        trunk = nn.ModuleDict({"input_layer": self.encoder.input_layer, "body": self.encoder.body})
        load_strictly(trunk, kept, where)

    def _check_rows(self, where: object, state: Mapping, prefix: str = "") -> None:
        blocks = [re.match(rf"{prefix}to_rgbs\.(\d+)\.", key) for key in state]
        found = 2 * len({block[1] for block in blocks if block}) + 2
        if found != (wanted := self.decoder.n_latent):
            raise ValueError(
                f"{where}: expected a style_count of {wanted}, that of pictures of "
                f"{self.decoder.size} px, found {found}, of {2 ** (found // 2 + 1)} px"
            )


def read_e4e(path: str | Path) -> dict[str, Tensor]:
    """The state dict of an :class:`Inverter` from an e4e file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off or lacks the average code; the message says
            which file.
    """
    content = _content(path, "state_dict")
    state = state_dict_of(content["state_dict"], f"{path}: state_dict")
    average = content.get("latent_avg")
    if average is None:
        if _options(content).get("start_from_latent_avg", True):
            raise ValueError(
                f"{path}: latent_avg: expected the average code that the encoder's offsets belong "
                "to, found none"
            )
        average = torch.zeros(len(state.get("decoder.style.1.bias", range(512))))
    rows = len({key.split(".")[2] for key in state if key.startswith("encoder.styles.")})
    return {**state, "latent_avg": average_code(average, rows, path)}


def average_code(average: object, rows: int, where: object) -> Tensor:
    """An average code (rows, dim), of which files may hold one row."""
    shape = getattr(average, "shape", ())
    if len(shape) == 1 or (len(shape) == 2 and shape[0] in (1, rows)):
        return average.expand(rows, -1)
    found = tuple(shape) or type(average).__name__
    raise ValueError(f"{where}: latent_avg: expected {rows} rows or one, found {found}")


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
