"""Networks of the cases of ``gcgan``, with the weights that their manifests describe."""

from __future__ import annotations

import json
import re
from pathlib import Path

from kit import fill_state
from loading import adjusted

from regaze.redirectors.gcgan.adversary import DualDiscriminator
from regaze.redirectors.gcgan.generator import SemanticGenerator, options_of
from regaze.weights import load_strictly

HOME = Path(__file__).resolve().parent / "cases/gcgan"


def with_weights(network, manifest: dict, seed: int):
    """The network with the weights that a manifest describes; filters are its own."""
    own, constants = network.state_dict(), manifest.get("constants", ())
    filled = adjusted(fill_state(manifest["state"], seed, constants), manifest)
    load_strictly(network, {key: own[key] for key in constants} | filled)
    return network.eval()


def built_generator(config: dict) -> SemanticGenerator:
    return SemanticGenerator(**options_of(config, gaze_ids=config.get("gaze_ids", (2, 5))))


def built_discriminator(config: dict, gaze: bool) -> DualDiscriminator:
    return DualDiscriminator(
        config["img_size"], config["seg_dim"], config["channel_multiplier"], gaze=gaze
    )


def manifest_of(case, name: str) -> dict:
    """The tables of another case: of the same folder, or of those that are kept here."""
    folder = case.folder.parent / name
    folder = folder if folder.is_dir() else HOME / name
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def networks_of(case):
    """Names of the cases that hold weights of a generator and, if any, of a discriminator."""
    return re.findall(r"gcgan/(\w+)/manifest\.json", case.manifest["weights"])
