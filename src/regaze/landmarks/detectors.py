"""Which landmark detector is used, by its name in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regaze.assets import AssetSettings, require
from regaze.landmarks.base import LandmarkDetector
from regaze.landmarks.settings import WEIGHTS, LandmarkSettings


def open_detector(
    detector: str,
    weights: Mapping[str, str | Path] | None = None,
    sha256: Mapping[str, str | None] | None = None,
    *,
    device: str = "auto",
    batch: int = 16,
    max_side: int | None = None,
    threads: int | None = None,
) -> LandmarkDetector:
    """Return a detector of faces and landmarks.

    Args:
        detector: ``mediapipe`` or ``face_alignment``.
        weights: files of :data:`~regaze.landmarks.settings.WEIGHTS`, for ``face_alignment``.
        sha256: their checksums where they are the user's own, else None.
        device, batch, max_side: see :class:`regaze.landmarks.face_alignment.Detector`.
        threads: of the networks on a CPU; None leaves them as they are.

    Raises:
        AssetError: weights are missing or not the right ones.
        ValueError: another name.
    """
    # Imported only here: each brings a package of networks along, and the other is not needed.
    if detector == "mediapipe":
        from regaze.landmarks.mesh import MeshDetector

        return MeshDetector(threads or 1)
    if detector != "face_alignment":
        raise ValueError(f"detector: expected mediapipe or face_alignment, found {detector!r}")
    files = [require(key, (weights or {})[key], (sha256 or {}).get(key)) for key in WEIGHTS]
    import torch

    from regaze.landmarks.face_alignment import Detector

    if threads is not None:
        torch.set_num_threads(threads)
    return Detector(*files, device=device, batch=batch, max_side=max_side or 960)


def configured_detector(
    settings: LandmarkSettings | None = None,
    assets: AssetSettings | None = None,
    device: str = "auto",
) -> LandmarkDetector:
    """Return the detector that a configuration names.

    Args:
        settings: which detector; default that of the settings' own defaults.
        assets: its files.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        AssetError: files are missing or not the right ones.
    """
    settings, assets = settings or LandmarkSettings(), assets or AssetSettings()
    files = {name: getattr(assets, name) for name in WEIGHTS}
    return open_detector(
        settings.detector,
        {name: file.path for name, file in files.items()},
        {name: file.sha256 for name, file in files.items()},
        device=device,
        max_side=settings.max_side,
    )
