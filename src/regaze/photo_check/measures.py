"""What is measured in a redirected photo, and slopes of what was measured over what was asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.quality import blind
from regaze.estimators.xgaze import FACE_MODEL, VIEW, XGazeResnet
from regaze.face3d.photo_faces import PhotoFace
from regaze.identity.align import embed_patches
from regaze.identity.base import FaceRecogniser
from regaze.redirect.adjust import Adjustment
from regaze.redirect.measuring import read_angles
from regaze.redirect.place import Lens, Place, face_place
from regaze.redirectors.patches import TrainedPatches
from regaze.views import why_another

Read = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Gaze (n, 2) in radians of photos (H, W, 3) uint8 R,G,B in which the face lies in one place."""

_EYES = (slice(36, 42), slice(42, 48))
_MARGIN = 0.25
"""Around an eye's landmarks, in widths of the eye: how far its region reaches for sharpness."""
_WIDEST = 96.0
"""Pixels that an eye is wide at most when gradients are taken: beyond, it is the camera's noise."""
_FEWEST = 3


@dataclass(frozen=True, eq=False)
class Judge:
    """A gaze estimator that reads photos.

    Attributes:
        name: of it.
        facts: for records.
        network: ours, or a published one of ETH-XGaze.
    """

    name: str
    facts: dict
    network: GazeHeadEstimator | XGazeResnet

    @classmethod
    def of(cls, network: GazeHeadEstimator | XGazeResnet) -> Judge:
        """A judge of a network with what is known of it."""
        facts: dict = {"fingerprint": network.fingerprint}
        if isinstance(network, XGazeResnet):
            return cls(network.name, {**facts, "kind": "eth-xgaze"}, network)
        told = network.record.get("held_out") or {}
        names = ("gaze_pitch_slope", "gaze_yaw_slope")
        facts |= {"kind": "estimator", **{f"held_out_{name}": told.get(name) for name in names}}
        facts["reads_little_of"] = blind(network.record)
        return cls(str(network.record.get("name")), facts, network)

    def of_face(
        self,
        path: str | os.PathLike,
        face: PhotoFace,
        lens: Lens,
        trained: TrainedPatches | None = None,
        view: Mapping[str, Any] | None = None,
    ) -> Read:
        """What reads photos of a face, all normalised as the first one was.

        Args:
            path: what messages call the photo.
            face: in the photo as it was.
            lens: the camera.
            trained: what the patches of a redirector are like; an estimator of its view is shown
                such ones.
            view: that redirector's, see :func:`regaze.views.told_view`.

        Raises:
            ValueError: the face cannot be normalised.
        """
        network = self.network
        if isinstance(network, XGazeResnet):
            options = {"size_px": VIEW["patch_size"][0], "trained_on": VIEW, "lens": lens}
            seen = face_place(path, face, **options, face_model=FACE_MODEL)
            return lambda photos: network.read(np.stack([seen.view.take(one) for one in photos]))
        theirs = network.record.get("view")
        adjust = Adjustment(None if why_another(view, theirs) else trained)
        options = {"size_px": network.size_px, "trained_on": theirs, "lens": lens}
        place = face_place(path, face, **options, adjust=adjust)

        def read(photos):
            patches = np.stack([place.matched(place.view.take(one)) for one in photos])
            return read_angles(network, patches)[:, :2].astype(np.float64)

        return read


def identity_distances(
    recogniser: FaceRecogniser, place: Place, photos: Sequence[np.ndarray]
) -> np.ndarray:
    """1 minus the cosine of the vectors (n,) of ``photos`` and of the place's own photo."""
    patches = np.stack([place.view.take(one) for one in (place.photo, *photos)])
    images = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    vectors = embed_patches(recogniser, images).cpu().double().numpy()
    return 1.0 - vectors[1:] @ vectors[0]


def eye_sharpness(photo: np.ndarray, landmarks: np.ndarray) -> float:
    """Gradient energy of the eye regions: mean of squared central differences of grey levels.

    The region of an eye is the box of its six landmarks and a quarter of its width around it; eyes
    wider than 96 pixels are averaged down to them.

    Args:
        photo: (H, W, 3) uint8.
        landmarks: (68, 2) pixels.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size, energies = np.array(photo.shape[1::-1]), []
    for eye in _EYES:
        points = landmarks[eye]
        width = np.ptp(points[:, 0])
        low = np.clip(np.floor(points.min(axis=0) - _MARGIN * width), 0, size).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + _MARGIN * width) + 1, 0, size).astype(int)
        part = grey[low[1] : high[1], low[0] : high[0]]
        if min(part.shape) < _FEWEST:
            continue
        if width > _WIDEST:
            wanted = np.maximum(np.rint((high - low) * _WIDEST / width), _FEWEST).astype(int)
            part = cv2.resize(part, wanted.tolist(), interpolation=cv2.INTER_AREA)
        down, across = np.gradient(part)
        energies.append(float((down**2 + across**2).mean()))
    return float(np.mean(energies)) if energies else float("nan")


def slopes(
    wanted: np.ndarray, found: np.ndarray, groups: Sequence | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of ``found`` over ``wanted`` and R2 of the lines, (2,) each; NaN of too few numbers.

    Args:
        wanted, found: (n, 2) changes, pitch and yaw; rows that hold NaN are left out.
        groups: (n,) photos: lines of one slope, each with an offset of its own, as the gaze of its
            source is only estimated. None: one line.
    """
    known = np.isfinite(wanted).all(axis=1) & np.isfinite(found).all(axis=1)
    x, y = wanted[known].copy(), found[known].copy()
    names = np.zeros(len(x)) if groups is None else np.asarray(groups)[known]
    for name in np.unique(names):
        rows = names == name
        x[rows] -= x[rows].mean(axis=0)
        y[rows] -= y[rows].mean(axis=0)
    if len(x) < _FEWEST:
        return np.full(2, np.nan), np.full(2, np.nan)
    varied, both, spread = (x * x).sum(axis=0), (x * y).sum(axis=0), (y * y).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return both / varied, both**2 / (varied * spread)


def told(slope: np.ndarray, share: np.ndarray) -> str:
    """Slopes and R2, pitch and yaw, as text."""
    if not np.isfinite(slope).all():
        return "unknown"
    lines, shares = (
        " / ".join("-" if np.isnan(one) else f"{one:.2f}" for one in values)
        for values in (slope, share)
    )
    return f"{lines} ({shares})"
