"""What an estimator reads of faces that are redirected, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regaze.angles import angular_error
from regaze.estimators.base import GazeHeadEstimator, estimate
from regaze.estimators.preprocess import prepare
from regaze.estimators.quality import PARTS, blind
from regaze.redirect.place import Place


class Measuring:
    """An estimator, or none, and what it reads of places and patches.

    Attributes:
        estimator: for the gaze of faces without labels, and to measure what came out; or None.
        read_in: the estimator's view, where it is another than the model's: then it reads photos,
            and no patches.
    """

    estimator: GazeHeadEstimator | None
    read_in: Mapping[str, Any] | None

    def measure(self, patches: np.ndarray) -> np.ndarray | None:
        """Gaze and head (N, 4) radians of patches (N, h, w, 3) uint8, as the estimator sees them;
        None without one, or where it knows faces otherwise or reads larger pictures than these."""
        return None if self.read_in is not None else self._read(patches)

    def measure_photo(self, place: Place, photo: np.ndarray) -> np.ndarray | None:
        """Gaze and head (1, 4) radians of a face of a photo (H, W, 3) uint8, None as above."""
        if self.read_in is None:
            return self._read(place.matched(place.view.take(photo))[None])
        return None if place.reading is None else self._read(place.reading.take(photo)[None])

    def _read(self, patches: np.ndarray) -> np.ndarray | None:
        network = self.estimator
        if network is None or patches.shape[1] < network.size_px:
            return None
        return read_angles(network, patches)

    def errors(self, measured: np.ndarray, gaze: np.ndarray, head: np.ndarray) -> dict:
        """What was read, in degrees; of the gaze null, with the reason, what the estimator hardly
        reads on people it has not seen."""
        unread = blind(self.estimator.record)
        degrees = np.degrees(measured).tolist()
        error = float(angular_error(measured[:2].astype(np.float64), gaze))
        seen = [
            None if which in unread else one for which, one in zip(PARTS, degrees[:2], strict=True)
        ]
        return {
            "gaze_deg": seen,
            "head_deg": degrees[2:],
            "gaze_error_deg": None if unread else error,
            "head_error_deg": float(angular_error(measured[2:].astype(np.float64), head)),
            **({"unread": unread} if unread else {}),
        }


def read_angles(network: GazeHeadEstimator, patches: np.ndarray) -> np.ndarray:
    """Gaze and head (N, 4) radians of patches (N, h, w, 3) uint8 as an estimator sees them."""
    return estimate(network, prepare(patches, network.size_px, network.preprocess)).numpy()
