"""An encoder and a decoder with the edit of a code between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regaze.redirectors.redirtrans.module import Deprojector, Projector, edit_factors
from regaze.redirectors.sted.compact import CompactDecoder, CompactTrunk
from regaze.redirectors.sted.dense import DenseBackbone, DenseDecoder, start_convolutions
from regaze.redirectors.sted.discriminator import Discriminator
from regaze.redirectors.sted.embeddings import Factors
from regaze.redirectors.sted.network import StedNetwork

Coder = Callable[[Tensor], Tensor]
"""Pictures to codes, or back: a module, or a function of a frozen network."""


class CompactCoder(CompactTrunk):
    """Pictures (B,3,S,S) to codes: an appearance map and a vector, flat."""

    def __init__(self, channels: int, width: int, hidden: int, vector: int):
        super().__init__(channels, width, hidden)
        self.fc_code = nn.Linear(hidden, vector)
        # Nearly the same for all faces at first, as embeddings are: what the decoder then reads are
        # edits, and not what an untrained encoder makes of a face.
        nn.init.normal_(self.fc_code.weight, std=0.01)
        nn.init.zeros_(self.fc_code.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return codes (B, channels (S/8)^2 + vector)."""
        appearance, hidden = self.read(images)
        return torch.cat([appearance, self.fc_code(hidden)], 1)


class DenseCoder(nn.Module):
    """Pictures (B,3,128,128) to codes (B, code), by the trunk of ST-ED's published encoder."""

    def __init__(self, code: int, growth_rate: int, densenet_blocks: int):
        super().__init__()
        self.encoder = DenseBackbone(growth_rate, densenet_blocks)
        width = self.encoder.channels * 4
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, code)
        start_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return codes (B, code)."""
        return self.fc2(F.leaky_relu(self.fc1(self.encoder(images).flatten(1)), 0.01))


class Encoder(nn.Module):
    """Pictures to predicted angles, and to rows of their code and its embeddings.

    Args:
        coder: pictures to codes (B, code).
        projector: codes to angles and embeddings.
        factors: of :func:`regaze.redirectors.redirtrans.module.edit_factors`, with the code.
        canonical: whether the projector's embeddings are turned by its own angles. Then the
            relation that the consistency term teaches holds from the start, and all faces begin
            with nearly the same ones: what is read are the turns alone.
    """

    def __init__(
        self, coder: Coder | None, projector: Projector, factors: Factors, canonical: bool
    ):
        super().__init__()
        self.coder, self.projector = coder, projector
        self.turned, self.canonical = Factors(factors.shapes[1:]), canonical
        if canonical:
            nn.init.normal_(projector.label_branch.weight, std=0.01)
            nn.init.zeros_(projector.label_branch.bias)
            nn.init.normal_(projector.branch.weight, std=0.01)
            nn.init.normal_(projector.branch.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return angles (B,4) and codes with embeddings behind them (B, code + 6 columns)."""
        return self.described(self.coder(images).float())

    def described(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The same of codes (B, code)."""
        angles, embeddings = self.project(codes)
        return angles, torch.cat([codes, embeddings], 1)

    def project(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Angles (B,4) and embeddings (B, 6 columns) of codes."""
        angles, embeddings = self.projector(codes)
        return angles, self.turned.rotate(embeddings, angles) if self.canonical else embeddings


class Decoder(nn.Module):
    """Edited codes to pictures."""

    def __init__(self, deprojector: Deprojector, drawer: Coder | None):
        super().__init__()
        self.deprojector, self.drawer = deprojector, drawer


class RedirTransNetwork(StedNetwork):
    """ST-ED's parts around a code that is edited.

    A face is described by its code, which stays as it is, and embeddings of head and gaze, which
    turn. To draw it, what its code's own embeddings add to a code is exchanged for what the turned
    ones add.
    """

    def decode(self, embeddings: Tensor) -> Tensor:
        """Pictures (B,3,S,S) float32, not limited to [-1,1], of (B, code + 6 columns)."""
        codes, moved = embeddings.tensor_split([self.factors.shapes[0][1]], 1)
        own = self.encoder.project(codes)[1]
        return self.decoder.drawer(self.decoder.deprojector.edited(codes, own, moved)).float()


def build_network(config: Mapping, size_px: int, *, adversarial: bool) -> RedirTransNetwork:
    """Build the networks of a resolved ``network:`` section.

    Args:
        config: see :class:`regaze.redirectors.redirtrans.settings.NetworkOptions`.
        size_px: side of the pictures.
        adversarial: whether there is a discriminator.
    """
    if config["kind"] == "dense":
        parts = {"code": (0, config["code"])}
        options = {name: config[name] for name in ("growth_rate", "densenet_blocks")}
        coder: nn.Module = DenseCoder(config["code"], **options)
        drawer: nn.Module = DenseDecoder(Factors(tuple(parts.values())), **options)
    else:
        options = {name: config[name] for name in ("width", "hidden")}
        map_size = config["map_channels"] * (size_px // 8) ** 2
        parts = {"map": (0, map_size), "vector": (0, config["vector"])}
        coder = CompactCoder(config["map_channels"], vector=config["vector"], **options)
        drawer = CompactDecoder(Factors(tuple(parts.values())), size_px, **options)
    code, columns = sum(size for _, size in parts.values()), config["size_2d_unit"]
    factors = edit_factors(columns, code)
    projector = Projector(code, columns, config["projector_hidden"])
    encoder = Encoder(coder, projector, factors, config["canonical"])
    deprojector = Deprojector(code, columns, config["deprojector_hidden"])
    deprojector.start(config["edits"])
    decoder = Decoder(deprojector, drawer)
    return RedirTransNetwork(factors, encoder, decoder, Discriminator() if adversarial else None)
