"""How well an estimator reads faces of people it has not seen."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from regaze.angles import angular_error
from regaze.estimators.base import GazeHeadEstimator, estimate
from regaze.estimators.preprocess import prepare
from regaze.faces import FacesReader
from regaze.images import to_uint8


def predict_rows(
    network: GazeHeadEstimator,
    reader: FacesReader,
    rows: np.ndarray,
    *,
    batch: int = 128,
) -> np.ndarray:
    """Return (n,4) float32 estimates in radians of faces rows (global indices), in their order.

    Pictures are read and estimated ``batch`` at a time, on the device that the network is on, so
    memory does not grow with ``rows``.
    """
    rows = np.asarray(rows, np.int64)
    device = next(network.parameters()).device
    parts = [np.zeros((0, 4), np.float32)]
    for start in range(0, len(rows), batch):
        pixels = reader.pixels(rows[start : start + batch])
        images = prepare(pixels, network.size_px, network.preprocess).to(device)
        parts.append(estimate(network, images).cpu().numpy())
    return np.concatenate(parts)


def held_out_error(
    network: GazeHeadEstimator,
    reader: FacesReader,
    rows: np.ndarray,
    *,
    batch: int = 128,
) -> dict[str, float | int | None]:
    """Return the mean angular errors ``gaze_deg`` and ``head_deg`` over ``rows``, and ``n``.

    And of the gaze's pitch and yaw the slopes of estimates over labels, 1 where changes are read in
    full: an estimator that always answers the mean has small errors and a slope of 0. None where
    labels do not vary.
    """
    rows = np.asarray(rows, np.int64)
    predicted = predict_rows(network, reader, rows, batch=batch).astype(np.float64)
    labels = reader.labels[rows].astype(np.float64)
    return {
        "gaze_deg": float(angular_error(predicted[:, :2], labels[:, :2]).mean()),
        "head_deg": float(angular_error(predicted[:, 2:], labels[:, 2:4]).mean()),
        "gaze_pitch_slope": _slope(labels[:, 0], predicted[:, 0]),
        "gaze_yaw_slope": _slope(labels[:, 1], predicted[:, 1]),
        "n": len(rows),
    }


def _slope(labels: np.ndarray, predicted: np.ndarray) -> float | None:
    away = labels - labels.mean()
    varied = float(away @ away)
    return float(away @ predicted) / varied if varied > 0.0 else None


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
