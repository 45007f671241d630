"""Did the face turn where it was told: angles between an estimator's reading and the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from regaze.angles import angular_error
from regaze.estimators.base import GazeHeadEstimator, estimate, estimate_and_embed
from regaze.estimators.preprocess import prepare
from regaze.images import to_uint8


@dataclass(frozen=True)
class Reading:
    """What the evaluation estimator sees in n pictures.

    Attributes:
        angles: (n,4) float64 radians: gaze pitch, yaw, head pitch, yaw.
        embedding: (n,E) float64, input of the Fréchet distance.
    """

    angles: np.ndarray
    embedding: np.ndarray


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
    )


def read_images(network: GazeHeadEstimator, images: Tensor) -> np.ndarray:
    """Return angles (n,4) float64 radians that the estimator reads in a network's own output.

    ``images`` is (n,3,H,W), in [-1,1] but for what overshoots, which ST-ED does not clip before its
    metrics. Only an estimator of another size or with a preprocessing of its own sees pictures as
    they would be stored, clipped and rounded.
    """
    if network.preprocess != "none" or images.shape[-1] != network.size_px:
        images = prepare(to_uint8(images), network.size_px, network.preprocess)
    images = images.to(next(network.parameters()).device)
    return estimate(network, images).double().cpu().numpy()


def redirection_error(
    reading: Reading, gaze: np.ndarray, head: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaze and head errors (n,) in degrees against target labels (n,2) in radians.

    The target is the label that the method was told, as in ST-ED's ``gaze_redirection`` and
    ``head_redirection`` (zhengyuf/STED-gaze), not another picture's estimate.
    """
    gaze, head = np.asarray(gaze, np.float64), np.asarray(head, np.float64)
    return angular_error(reading.angles[:, :2], gaze), angular_error(reading.angles[:, 2:], head)
