"""The edit between a frozen encoder and its frozen generator."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from regaze.redirectors.base import Batch, Progress, State
from regaze.redirectors.inversion.redirector import Inversion
from regaze.redirectors.redirtrans.module import (
    PARTS,
    Deprojector,
    Projector,
    edit_factors,
    read_parts,
)
from regaze.redirectors.redirtrans.network import Decoder, Encoder, RedirTransNetwork
from regaze.redirectors.redirtrans.objective import RedirTransObjective
from regaze.redirectors.redirtrans.redirector import RedirTransRedirector
from regaze.redirectors.redirtrans_gan.settings import ObjectiveOptions
from regaze.redirectors.sted.discriminator import Discriminator
from regaze.weights import load_strictly


class GanObjective(RedirTransObjective, ObjectiveOptions):
    """The losses of one training step, on inversions."""

    def _encoded(self, network: RedirTransNetwork, batch: Batch):
        """Angles and embeddings of both pictures' codes, which the batch has."""
        codes = torch.cat([batch["source_offsets"], batch["target_offsets"]])
        (first, second), (own, other) = (both.chunk(2) for both in network.encoder.described(codes))
        return (first, own), (second, other)


class Frozen:
    """Encoder and generator of an inverter as coder and drawer of flat codes.

    No module, so that its weights are no part of the model's.
    """

    inverter: Inversion | None = None

    def code(self, images: Tensor) -> Tensor:
        """Codes (B, code) of pictures (B,3,S,S), without gradients."""
        return self.inverter.code(images)

    def draw(self, codes: Tensor) -> Tensor:
        """Pictures (B,3,S,S), not limited to [-1,1], of codes (B, code)."""
        return self.inverter.drawn(codes)

    def inverted(self, images: Tensor, codes: Tensor | None = None) -> Tensor:
        """Pictures (B,3,S,S) as their own codes are drawn, in [-1,1], of 8 bits."""
        return self.inverter.inverted(images, codes)


class RedirTransGan(RedirTransRedirector):
    """Edits codes of a frozen inverter; see :mod:`regaze.redirectors.redirtrans_gan`."""

    objective_type = GanObjective

    def __init__(self, config: dict):
        super().__init__(config)
        self.frozen = Frozen()
        self._own = config["network"]["code_of"] == "picture"
        self.net.encoder.coder, self.net.decoder.drawer = self.frozen.code, self.frozen.draw

    @staticmethod
    def built(config: Mapping, *, adversarial: bool) -> RedirTransNetwork:
        """Untrained projector and deprojector; coder and drawer come with the inverter."""
        options = config["network"]
        code, columns = options["code"], options["size_2d_unit"]
        factors = edit_factors(columns, code)
        projector = Projector(code, columns, options["projector_hidden"])
        encoder = Encoder(None, projector, factors, options["canonical"])
        sizes = options["deprojector_hidden"], options["row_weights"]
        decoder = Decoder(Deprojector(code, columns, *sizes), None)
        decoder.deprojector.start(options["edits"])
        judge = Discriminator() if adversarial else None
        return RedirTransNetwork(factors, encoder, decoder, judge)

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the inverter and, in training, the estimator.

        Raises:
            ValueError: the estimator reads pictures of another size, or has no features.
        """
        self.frozen.inverter = networks["inverter"]
        super().attach(networks)

    def read_reference(self, path: str) -> Mapping:
        """See :func:`regaze.redirectors.redirtrans.module.read_parts`."""
        return read_parts(path)

    def reference_state(self) -> Mapping:
        """State dicts by published name; the parts that nothing uses are left out."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_reference(self, state: Mapping, config: Mapping) -> None:
        """Load ``redirtrans_p`` and ``redirtrans_dp``; other parts are left aside.

        Weights of rows, which published files do not have, stay as they are.

        Raises:
            ValueError: keys are missing or unexpected; the message lists them.
        """
        for name, part in self._parts().items():
            own = {key: one for key, one in part.state_dict().items() if key == "row_weights"}
            load_strictly(part, own | {**state[name]}, f"checkpoint: {name}")

    def _parts(self) -> dict[str, nn.Module]:
        return dict(
            zip(PARTS, (self.net.encoder.projector, self.net.decoder.deprojector), strict=False)
        )

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Terms of a phase on inversions of the batch; ``loss`` is minimised.

        Inversions and codes are those of the input ``inversions`` where the batch has them, and
        made here otherwise.
        """
        batch = dict(batch)
        for side in ("source", "target"):
            if f"{side}_offsets" not in batch:
                own = self.frozen.code(batch[side])
                seen = self.frozen.inverted(batch[side], own)
                batch[f"{side}_offsets"] = own if self._own else self.frozen.code(seen)
                batch[f"{side}_inverted"] = seen
            batch[side] = batch[f"{side}_inverted"]
            if self.config["objective"]["label_source"] == "estimator":
                with torch.no_grad():
                    read = self._estimator[0](batch[side]).float()
                batch[f"{side}_gaze"], batch[f"{side}_head"] = read[:, :2], read[:, 2:]
        return super().losses(batch, phase, at)

    def w_plus(self, state: State) -> Tensor:
        """Codes (B, rows, numbers) of sources that are inverted."""
        average = self.frozen.inverter.saved.latent_avg
        return self._codes(state).unflatten(1, average.shape) + average

    def of_w_plus(self, codes: Tensor) -> State:
        """The state of sources with codes (B, rows, numbers)."""
        flat = (codes - self.frozen.inverter.saved.latent_avg).flatten(1)
        angles, embeddings = self.net.encoder.project(flat)
        return {"angles": angles, "embeddings": torch.cat([flat, embeddings], 1)}

    def inversion(self, state: State) -> Tensor:
        """Pictures (B,3,S,S) in [-1,1] of sources as their codes are drawn, unedited."""
        return self.frozen.draw(self._codes(state)).clamp(-1, 1)

    def _codes(self, state: State) -> Tensor:
        return state["embeddings"][:, : self.config["network"]["code"]]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted angles (B,4) and codes with embeddings of the pictures, or their inversions."""
        return super().encode(images if self._own else self.frozen.inverted(images))

    def transfer(self, images_a: Tensor, images_b: Tensor) -> Tensor:
        """Pictures (B,3,S,S) of ``images_a``, head and gaze turned as in ``images_b``."""
        if not self._own:
            images_a, images_b = map(self.frozen.inverted, (images_a, images_b))
        return super().transfer(images_a, images_b)


def build(config: dict, sampling: dict) -> RedirTransGan:
    """Build the redirector of a resolved configuration; it does not sample."""
    return RedirTransGan(config)
