"""Estimators by name: architecture and preset to network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.preprocess import PREPROCESSES
from regaze.estimators.resnet import ResnetReference, ResnetSmall, ResnetXGaze
from regaze.estimators.vgg import VggReference, VggSmall, VggXGaze

_tiny_vgg = partial(VggSmall, preset="tiny", widths=(8, 16, 16, 16), eye_widths=(8, 8), hidden=16)
_tiny_resnet = partial(
    ResnetSmall, preset="tiny", widths=(8, 16, 16), blocks=(1, 1, 1), eye_widths=(8, 8),
    eye_blocks=(1, 1), hidden=16,
)  # fmt: skip

# (architecture, preset) -> (constructor(size_px, preprocess), default size, default preprocess)
_PRESETS: dict[tuple[str, str], tuple[Callable[[int, str], GazeHeadEstimator], int, str]] = {
    ("vgg", "reference"): (VggReference, 128, "equalise"),
    ("vgg", "small"): (VggSmall, 64, "none"),
    ("vgg", "tiny"): (_tiny_vgg, 32, "none"),
    ("vgg", "xgaze"): (VggXGaze, 224, "none"),
    ("resnet", "xgaze"): (ResnetXGaze, 224, "none"),
    ("resnet", "reference"): (ResnetReference, 128, "equalise"),
    ("resnet", "small"): (ResnetSmall, 64, "none"),
    ("resnet", "tiny"): (_tiny_resnet, 32, "none"),
}
PRESETS = tuple(sorted({preset for _, preset in _PRESETS}))


def build_estimator(
    arch: str, preset: str, size_px: int | None = None, preprocess: str | None = None
) -> GazeHeadEstimator:
    """Return an untrained estimator.

    Args:
        arch: ``"vgg"`` (training losses) or ``"resnet"`` (evaluation).
        preset: ``"reference"`` (published, 128 px), ``"xgaze"`` (published, 224 px of ETH-XGaze's
            normalisation), ``"small"`` (64 px, CPU), ``"tiny"`` (tests).
        size_px: side of the square patch; None takes the preset's own.
        preprocess: ``"equalise"`` or ``"none"``; None takes the preset's own (``"equalise"`` for
            ``reference``).

    Raises:
        ValueError: unknown name, or a size the network cannot halve often enough.
    """
    if (arch, preset) not in _PRESETS:
        known = ", ".join(f"{a}/{p}" for a, p in sorted(_PRESETS))
        raise ValueError(f"estimator: expected one of {known}, found {arch}/{preset}")
    if preprocess is not None and preprocess not in PREPROCESSES:
        raise ValueError(
            f"estimator.preprocess: expected one of {', '.join(PREPROCESSES)}, found {preprocess!r}"
        )
    constructor, default_size, default_preprocess = _PRESETS[arch, preset]
    return constructor(size_px or default_size, preprocess or default_preprocess)
