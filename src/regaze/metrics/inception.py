"""Scores of drawn pictures by an Inception network, as ``naranjuelo/GC-GAN`` computes them.

They are comparable with themselves alone: the network is torchvision's, and a small number is
added to covariances. The project's own distance is :mod:`regaze.metrics.frechet`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import models

from regaze.faces import FacesReader
from regaze.images import reduce_patches
from regaze.masks.regions import EyeRegionRows
from regaze.metrics.frechet import Moments, frechet_distance
from regaze.redirectors.gcgan.places import cut
from regaze.redirectors.gcgan.sampling import (
    drawn_codes,
    gazes_of_faces,
    open_generator,
    pictures_of,
)
from regaze.weights import load_strictly, state_dict_of, torch_content

_SIDE, _EPS, _SPLITS = 299, 1e-6, 10
_FEATURES, _BATCH = 2048, 16
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def fid_gcgan(first: Moments, second: Moments) -> float:
    """Fréchet distance with the small number that the reference always adds to both covariances.

    Raises:
        ValueError: the root is not real.
    """
    c1, c2 = first.covariance, second.covariance
    offset = _EPS * np.eye(len(c1))
    root = scipy.linalg.sqrtm((c1 + offset) @ (c2 + offset))
    if np.abs(np.imag(np.diagonal(root))).max() > 1e-3:
        raise ValueError("covariances: expected a product with a real root, found a complex one")
    shift = float(((first.mean - second.mean) ** 2).sum())
    return shift + float(np.trace(c1) + np.trace(c2) - 2 * np.trace(np.real(root)))


def inception_score(shares: np.ndarray, splits: int = _SPLITS) -> tuple[float, float]:
    """Mean and deviation over parts of exp of the mean divergence of (N,C) shares of classes.

    Raises:
        ValueError: fewer pictures than parts.
    """
    if len(shares) < splits:
        raise ValueError(f"pictures: expected at least {splits}, found {len(shares)}")
    size, found = len(shares) // splits, []
    for number in range(splits):
        part = shares[number * size : (number + 1) * size].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = part * (np.log(part) - np.log(part.mean(0)))
        found.append(np.exp(np.nan_to_num(terms).sum(1).mean()))
    return float(np.mean(found)), float(np.std(found))


class Inception:
    """torchvision's Inception-v3 of ImageNet, from a file of its weights.

    Args:
        path: state dict, such as ``inception_v3_google-0cc3c7bd.pth``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights of another network.
    """

    def __init__(self, path: str | os.PathLike):
        network = models.inception_v3(weights=None, init_weights=False, transform_input=False)
        load_strictly(network, state_dict_of(torch_content(path), path), path)
        self.network = network.eval().requires_grad_(False)
        self._features: list[Tensor] = []
        network.avgpool.register_forward_hook(lambda *told: self._features.append(told[2]))

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Features (B,2048) and shares of classes (B,1000) of pictures (B,3,H,W) in [-1,1]."""
        mean, std = (torch.tensor(one).view(3, 1, 1) for one in (_MEAN, _STD))
        shown = ((images.clamp(-1, 1) + 1) / 2 - mean) / std
        shown = F.interpolate(shown, (_SIDE, _SIDE), mode="bilinear", align_corners=True)
        logits = self.network(shown)
        features = self._features.pop().flatten(1)
        return features.double().numpy(), logits.double().softmax(1).numpy()


def score_generator(
    folder: str | os.PathLike,
    faces: Sequence[str | os.PathLike],
    masks: Sequence[str | os.PathLike],
    inception: Inception,
    count: int,
    seed: int = 0,
) -> Mapping[str, float]:
    """Scores of a model of class ``gcgan`` against the regions of faces that it learnt to draw.

    Pictures are drawn without truncation for gazes of the faces' labels.

    Args:
        folder: of the model.
        faces: shards, with landmarks.
        masks: shards of their masks.
        inception: the network.
        count: pictures to draw; of faces all are seen.
        seed: of codes and gazes.

    Returns:
        ``fid_gcgan``, ``frechet_inception`` (the same distance without the small number),
        ``inception_score`` and ``inception_score_std``.

    Raises:
        FileNotFoundError, ValueError: no such model, or files that cannot be used.
    """
    generator, record = open_generator(folder)
    config, reader = record["config"], FacesReader(faces)
    crop = config["crop"]
    told = {"classes": config["network"]["seg_dim"], "crop": crop}
    regions, size = EyeRegionRows(told, masks, reader), config["size_px"]
    real, made, shares = Moments(_FEATURES), Moments(_FEATURES), []
    rows = np.flatnonzero(regions.known)
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        images = reduce_patches(reader.pixels(part), size)
        place = regions.read(part)["place"]
        real.add(inception(cut(images, place, size, crop == "eye_strip"))[0])
    codes = drawn_codes(generator, count, 1.0, seed)
    gazes = torch.from_numpy(np.float32(gazes_of_faces(faces, count, seed)))
    for code, gaze in zip(codes.split(_BATCH), gazes.split(_BATCH), strict=True):
        features, classes = inception(pictures_of(generator, code, gaze)[0])
        made.add(features)
        shares.append(classes)
    score = inception_score(np.concatenate(shares))
    found = {"fid_gcgan": fid_gcgan(real, made), "frechet_inception": frechet_distance(real, made)}
    return found | {"inception_score": score[0], "inception_score_std": score[1]}
