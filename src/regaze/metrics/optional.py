"""Measures that need a network besides the estimator: identity, LPIPS, FID.

Each is null with the reason where its network is absent; nothing else ever takes its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from regaze.assets import check, require
from regaze.faces import FacesReader
from regaze.identity.align import describe, embed_patches, why_not_sted_view
from regaze.identity.base import FaceRecogniser
from regaze.identity.store import load_recogniser
from regaze.metrics.frechet import Moments
from regaze.provenance import fingerprint

IDENTITY = "identity_similarity"
"""Cosine between the recogniser's vectors of the redirected and the true picture."""
IDENTITY_SOURCE = "identity_similarity_source"
"""The same with the source picture, so that pairs without a true picture have it too."""
LPIPS = {"lpips": ("lpips_alexnet", "alex"), "lpips_vgg": ("lpips_vgg16", "vgg")}
"""Metric: its asset and the name of the backbone. ST-ED and ReDirTrans report AlexNet's, GazeNeRF
VGG's."""
FID = "fid"
FID_ASSET = "inception"

COLUMNS = (IDENTITY, IDENTITY_SOURCE, *LPIPS)
"""Columns with a value per pair."""


@dataclass
class OptionalNetworks:
    """The networks that are there.

    Attributes:
        identity: a recogniser.
        lpips: per metric its network.
        inception: FID's network.
        reasons: why each metric that is absent is absent.
        about: what stands beside each metric's numbers.
        sted_view: whether the faces are of the sted field of view.
    """

    identity: FaceRecogniser | None = None
    lpips: dict[str, nn.Module] = field(default_factory=dict)
    inception: nn.Module | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    sted_view: bool = True

    def measure(self, ours: Tensor, source: Tensor) -> dict[str, np.ndarray]:
        """Return what needs no true picture: values (n,) per column, of (n,3,H,W) in [-1,1].

        Only with a recogniser.
        """
        return {IDENTITY_SOURCE: self._cosine(ours, source)}

    def compare(self, ours: Tensor, wanted: Tensor) -> dict[str, np.ndarray]:
        """Return what compares with true pictures: values (n,) per column."""
        found = {
            name: _perceptual().lpips_distance(net, ours, wanted)
            for name, net in self.lpips.items()
        }
        if self.identity is not None:
            found[IDENTITY] = self._cosine(ours, wanted)
        return found

    def _cosine(self, first: Tensor, second: Tensor) -> np.ndarray:
        ours, theirs = (
            embed_patches(self.identity, images, self.sted_view).double().cpu().numpy()
            for images in (first, second)
        )
        return (ours * theirs).sum(1)

    def moments(self) -> Moments | None:
        """Return an empty sum of Inception's features, None without that network."""
        if self.inception is None:
            return None
        return Moments(_perceptual().INCEPTION_FEATURES)

    def features(self, images: Tensor) -> np.ndarray:
        """Return Inception's features (n,2048)."""
        return _perceptual().inception_features(self.inception, images)


def gather(
    reader: FacesReader,
    identity: str | os.PathLike | None = None,
    assets: Mapping[str, Mapping] | None = None,
    device: str = "cpu",
) -> OptionalNetworks:
    """Load the networks that are there.

    Args:
        reader: the faces that are measured.
        identity: model folder of a recogniser; None for none.
        assets: per name of an asset its ``path`` and ``sha256`` (None for the published one);
            None where none is configured.
        device: where the networks run.

    Raises:
        AssetError: a file is there and is not what it should be.
        ValueError: a file does not hold the network's weights.
    """
    found = OptionalNetworks(sted_view=not why_not_sted_view(reader))
    if identity is None:
        reason = "no identity network configured"
        found.reasons |= {IDENTITY: reason, IDENTITY_SOURCE: reason}
    else:
        network = load_recogniser(identity).to(device)
        quality = network.record.get("verification", {})
        found.identity = network
        told = {
            "network": network.name,
            "fingerprint": network.fingerprint,
            "preprocess": describe(network, found.sted_view),
            **{key: quality[key] for key in ("auc", "eer") if key in quality},
        }
        found.about |= {IDENTITY: told, IDENTITY_SOURCE: told}
    wanted = {name: asset for name, (asset, _) in LPIPS.items()} | {FID: FID_ASSET}
    for metric, asset in wanted.items():
        path, reason = _present(asset, assets)
        if reason:
            found.reasons[metric] = reason
            continue
        if metric == FID:
            found.inception = _perceptual().load_inception(path).to(device)
            told = {"resized": "bilinear to 299 px, without antialiasing (pytorch-fid)"}
        else:
            network = _perceptual().load_lpips(path, LPIPS[metric][1])
            found.lpips[metric] = network.to(device)
            told = {"version": "0.1", "input": "size of the samples, not enlarged"}
        found.about[metric] = {"asset": asset, "fingerprint": fingerprint(path), **told}
    return found


def _perceptual():
    """The networks of LPIPS and FID: torchvision takes seconds to import, seldom for anything."""
    from regaze import perceptual

    return perceptual


def _present(name: str, assets: Mapping[str, Mapping] | None) -> tuple[str, str]:
    """Return an asset's path, and why it is absent, empty where it is not."""
    if assets is None or name not in assets:
        return "", "no weights configured"
    path, sha256 = assets[name]["path"], assets[name].get("sha256")
    if check(name, path, sha256).state == "missing":
        return "", f"assets.{name}: no file at {path}; `regaze assets` says how to get it"
    require(name, path, sha256)
    return str(path), ""
