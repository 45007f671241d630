"""The three networks of ST-ED as one module, and what is done with a face's factors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from regaze.redirectors.sted.compact import CompactDecoder, CompactEncoder
from regaze.redirectors.sted.dense import DenseDecoder, DenseEncoder
from regaze.redirectors.sted.discriminator import Discriminator
from regaze.redirectors.sted.embeddings import Factors

FACTOR_OPTIONS = (
    "size_0d_unit",
    "num_1d_units",
    "size_1d_unit",
    "num_2d_units",
    "size_2d_unit",
)


class StedNetwork(nn.Module):
    """Encoder, decoder and, for adversarial training, discriminator.

    Attributes:
        factors: what a face is described by.
        discriminator: None where nothing is learned from it.
    """

    def __init__(
        self,
        factors: Factors,
        encoder: nn.Module,
        decoder: nn.Module,
        discriminator: Discriminator | None = None,
    ):
        super().__init__()
        self.factors = factors
        self.encoder, self.decoder, self.discriminator = encoder, decoder, discriminator

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted angles (B, angles) and embeddings (B, size) of pictures (B,3,S,S)."""
        angles, embeddings = self.encoder(images)
        return angles, embeddings.float()

    def decode(self, embeddings: Tensor) -> Tensor:
        """Pictures (B,3,S,S) float32, not limited to [-1,1], of embeddings (B, size)."""
        return self.decoder(embeddings).float()

    def transfer(self, images: Tensor, others: Tensor) -> Tensor:
        """Pictures (B,3,S,S) with all factors turned to the predicted angles of ``others``."""
        angles, embeddings = self.encode(images)
        return self.decode(self.factors.moved(embeddings, angles, self.encode(others)[0]))


def build_network(config: Mapping, size_px: int, *, adversarial: bool) -> StedNetwork:
    """Build the networks of a resolved ``network:`` section.

    Args:
        config: ``kind`` (``dense``, the published one, or ``compact``), the sizes of the factors,
            and ``growth_rate``, ``densenet_blocks`` or ``width``, ``hidden``.
        size_px: side of the pictures.
        adversarial: whether there is a discriminator.
    """
    factors = Factors.of(**{name: config[name] for name in FACTOR_OPTIONS})
    if config["kind"] == "dense":
        options = {name: config[name] for name in ("growth_rate", "densenet_blocks")}
        encoder, decoder = DenseEncoder(factors, **options), DenseDecoder(factors, **options)
    else:
        options = {name: config[name] for name in ("width", "hidden")}
        encoder = CompactEncoder(factors, size_px, **options)
        decoder = CompactDecoder(factors, size_px, **options)
    return StedNetwork(factors, encoder, decoder, Discriminator() if adversarial else None)
