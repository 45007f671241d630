"""Did the face turn where it was told: angles between an estimator's reading and the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from regaze.estimators.base import GazeHeadEstimator, estimate_and_embed
from regaze.estimators.preprocess import prepare
from regaze.factors import CODED, factors_named


@dataclass(frozen=True)
class Reading:
    """What the evaluation estimator sees in n pictures.

    Attributes:
        angles: (n,4) float64 radians: gaze pitch, yaw, head pitch, yaw.
        embedding: (n,E) float64, input of the Fréchet distance; None where nobody asked for it.
        pixels: (n,H,W,3) uint8, the pictures, for factors that no estimator reads.
        codes: what a 3-D face encoder sees in them by the names of
            :data:`regaze.codes.CODES`, (n,length), NaN without a face; empty without an encoder.
    """

    angles: np.ndarray
    embedding: np.ndarray | None
    pixels: np.ndarray
    codes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, rows: np.ndarray) -> Reading:
        """The reading of some of the pictures."""
        embedding = None if self.embedding is None else self.embedding[rows]
        codes = {name: values[rows] for name, values in self.codes.items()}
        return Reading(self.angles[rows], embedding, self.pixels[rows], codes)


def read_pictures(network: GazeHeadEstimator, pixels: np.ndarray) -> Reading:
    """Return the estimator's reading of (n,H,W,3) uint8 RGB pictures, on the network's device.

    Pictures larger than the estimator's ``size_px`` are reduced; smaller ones are an error, since
    enlarging would add a blur that is no fault of the pictures. Raises ValueError for those.
    """
    images = prepare(pixels, network.size_px, network.preprocess)
    images = images.to(next(network.parameters()).device)
    angles, embedding = estimate_and_embed(network, images)
    return Reading(
        angles.double().cpu().numpy(),
        embedding.double().cpu().numpy(),
        pixels,
    )


def factor_errors(reading: Reading, wanted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return how far each factor of n pictures is from what was asked for, (n,) in its unit.

    ``wanted`` has labels (n, parts) by factor, such as gaze and head (n,2) radians. The target is
    the label that the method was told, as in ST-ED's ``gaze_redirection`` and ``head_redirection``
    (zhengyuf/STED-gaze), not another picture's estimate.
    """
    rows = factors_named(CODED)
    return {
        name: rows[name].difference(rows[name].reading(reading), np.asarray(label, np.float64))
        for name, label in wanted.items()
    }
