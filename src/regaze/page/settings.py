"""Which methods of a configuration have atlases; importable without torch."""

from __future__ import annotations

from regaze.settings import Settings
from regaze.views import DEFAULT

MOST_STEPS = 8
"""Steps from which on a grid of directions takes long."""


def atlased(settings: Settings) -> list[str]:
    """Methods that draw faces for a grid of gaze directions, none where nobody asks for them.

    Those that redirect gaze from nothing but a picture and its angles, within few steps, in the
    view that all are compared in.
    """
    if not settings.evaluation.atlas or settings.without_background(settings.dataset):
        return []
    found = []
    for name in settings.rows:
        if name not in settings.models or name in settings.personal:
            continue
        declaration = settings.declarations[name].making()
        steps = settings.sampling_of(name).get("steps", 1) if declaration.denoises else 1
        alone = not declaration.inputs and not declaration.no_graph
        seen = settings.data_of(name).view == DEFAULT
        if alone and seen and steps <= MOST_STEPS and "gaze" in declaration.factors:
            found.append(name)
    return found
