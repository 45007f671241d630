"""What commands on photos take of the configuration, if there is one."""

from __future__ import annotations

from regaze.assets import AssetError
from regaze.landmarks.base import LandmarkDetector
from regaze.landmarks.detectors import configured_detector


def published_of(settings) -> dict[str, dict[str, str]]:
    """Files of the published 3-D encoders that a configuration names."""
    entries = {} if settings is None else settings.encoders
    return {name: entry.weights for name, entry in entries.items() if entry.published is not None}


def detector_of(settings, device: str) -> LandmarkDetector:
    """The face detector that a configuration names, or the default one.

    Raises:
        ValueError: its files are missing.
    """
    known = settings and (settings.landmarks, settings.assets)
    try:
        return configured_detector(*(known or (None, None)), device)
    except AssetError as error:
        raise ValueError(
            f"to find the face in a photo, its 68 landmarks are needed: {error} Or give them "
            "with --landmarks."
        ) from None
