"""Distances in networks that the user brings: LPIPS and the features of FID.

Nothing is downloaded: the backbones are files of ``assets:``; the linear weights of LPIPS come
with the ``lpips`` package (version 0.1, richzhang/PerceptualSimilarity).
"""

from __future__ import annotations

import os
import re
import warnings
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import inception as tv

from regaze.assets import require
from regaze.weights import load_strictly, state_dict_of, torch_content

BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}
"""LPIPS' names of its backbones, and torchvision's."""

INCEPTION_SIZE, INCEPTION_FEATURES = 299, 2048


def _plain_state(path: str | os.PathLike) -> dict[str, Tensor]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a file of weights, found none")
    return state_dict_of(torch_content(path), path)


def load_lpips(path: str | os.PathLike, net: str) -> nn.Module:
    """Return LPIPS 0.1 on a torchvision backbone, in evaluation mode, without gradients.

    Args:
        path: torchvision's state dict of AlexNet or VGG-16; only ``features.*`` is used.
        net: ``alex`` or ``vgg``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ``net``, or a file that lacks a layer or holds another network's.
    """
    if net not in BACKBONES:
        raise ValueError(f"net: expected one of {', '.join(BACKBONES)}, found {net!r}")
    import lpips

    with warnings.catch_warnings():
        # The package calls torchvision in its old way; nothing is wrong with what it gets.
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = _plain_state(path)
    # The package cuts `features` into slices, whose layers keep their numbers as names.
    places = {
        key: f"features.{key.split('.', 1)[1]}"
        for key in network.net.state_dict()
        if key.startswith("slice")
    }
    absent = sorted(set(places.values()) - set(state))
    if absent:
        raise ValueError(f"{path}: not the weights of {BACKBONES[net]}: missing {absent[0]}")
    try:
        load_strictly(network.net, {key: state[name] for key, name in places.items()})
    except ValueError as error:
        told = re.sub(r"\bslice\d+\.", "features.", str(error))
        raise ValueError(f"{path}: not the weights of {BACKBONES[net]}: {told}") from None
    return network.eval().requires_grad_(False)


def lpips_distance(network: nn.Module, found: Tensor, wanted: Tensor) -> np.ndarray:
    """Return LPIPS (N,) of two batches (N,3,H,W) in [-1,1], one value per picture."""
    device = next(network.parameters()).device
    with torch.no_grad():
        values = network(found.float().to(device), wanted.float().to(device))
    return values.flatten().double().cpu().numpy()


def _average(values: Tensor) -> Tensor:
    return F.avg_pool2d(values, 3, 1, 1, count_include_pad=False)


class _A(tv.InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_average(x)),
        ]


class _C(tv.InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_average(x)),
        ]


class _E(tv.InceptionE):
    largest = False

    def _forward(self, x: Tensor) -> list[Tensor]:
        wide = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.largest else _average(x)
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(wide), self.branch3x3_2b(wide)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            self.branch_pool(pooled),
        ]


class _LargestE(_E):
    largest = True


class FidInception(tv.Inception3):
    """The Inception network of 2015 that FID is defined on, in torchvision's layout.

    It differs from torchvision's by averages that leave out the padding, by a maximum in the last
    block and by 1008 classes, as mseitzer/pytorch-fid found.
    """

    def __init__(self):
        super().__init__(num_classes=1008, aux_logits=False, init_weights=False)
        self.Mixed_5b = _A(192, pool_features=32)
        self.Mixed_5c = _A(256, pool_features=64)
        self.Mixed_5d = _A(288, pool_features=64)
        self.Mixed_6b = _C(768, channels_7x7=128)
        self.Mixed_6c = _C(768, channels_7x7=160)
        self.Mixed_6d = _C(768, channels_7x7=160)
        self.Mixed_6e = _C(768, channels_7x7=192)
        self.Mixed_7b = _E(1280)
        self.Mixed_7c = _LargestE(2048)

    def embed(self, images: Tensor) -> Tensor:
        """Return pooled features (N,2048) of (N,3,H,W) in [-1,1], enlarged to 299 px."""
        values = F.interpolate(images, (INCEPTION_SIZE, INCEPTION_SIZE), mode="bilinear")
        for _, layer in takewhile(lambda child: child[0] != "avgpool", self.named_children()):
            values = layer(values)
        return values.mean(dim=(2, 3))


def load_inception(path: str | os.PathLike) -> FidInception:
    """Return FID's network with the weights of ``path``, in evaluation mode, without gradients.

    Raises FileNotFoundError, or ValueError for a file of another network.
    """
    network = FidInception()
    load_strictly(network, _plain_state(path), f"{path}: not the weights of FID's Inception")
    return network.eval().requires_grad_(False)


def inception_features(network: FidInception, images: Tensor) -> np.ndarray:
    """Return features (N,2048) float64 of pictures (N,3,H,W) in [-1,1]."""
    device = next(network.parameters()).device
    with torch.no_grad():
        return network.embed(images.float().to(device)).double().cpu().numpy()


def load_asset(name: str, path: str | os.PathLike, sha256: str | None = None) -> nn.Module:
    """Return the network of an asset of :data:`regaze.assets.NETWORKS`.

    Args:
        name: of the asset. LPIPS is called with two batches (N,3,H,W) in [-1,1] and gives
            (N,1,1,1), with gradients; FID's network has ``embed``.
        path: its file.
        sha256: checksum of a file of the user's own.

    Raises:
        AssetError: the file is missing or another one.
        ValueError: it does not hold the network's weights.
    """
    require(name, path, sha256)
    if name == "inception":
        return load_inception(path)
    return load_lpips(path, {"lpips_alexnet": "alex", "lpips_vgg16": "vgg"}[name])


def example_weights(name: str) -> dict[str, Tensor]:
    """Random weights in the layout of an asset's file, which tests of methods read."""
    torch.manual_seed(1)
    if name == "inception":
        return FidInception().state_dict()
    return {"lpips_alexnet": models.alexnet, "lpips_vgg16": models.vgg16}[name]().state_dict()
