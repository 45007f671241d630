"""Eyeballs of the appearance ``varied``: irises of two colours with fibres and a limbal ring."""

from __future__ import annotations

import numpy as np

from regaze.capture.surface import smoothstep

LIMBUS = np.radians(29.5)
"""Angle between the visual axis and the edge of the iris, from the eye's centre."""


def styled_ball(look, iris, angle, turn, opening):
    """Albedo (n, 3) of the ball, and how far samples are from iris to white, (n, 1).

    Args:
        look: a :class:`regaze.capture.subject.Look`; ``iris`` a ``style.Iris``.
        angle: (n,) radians off the visual axis; ``turn`` (n,) around it.
        opening: distances (n,) from the lids and the corners, mm.
    """
    ratio = angle / LIMBUS
    # fibres run from the pupil to the limbus, a little bent; the collarette is ragged
    bend = turn + 0.12 * np.sin(6 * ratio + iris.waves[0, 1])
    fibres = np.zeros_like(turn)
    for turns, phase, share in iris.waves:
        fibres += share * np.sin(turns * bend + phase + 2.0 * np.sin(3 * bend + phase))
    collar = smoothstep(ratio + 0.05 * fibres, iris.reach + 0.12, iris.reach - 0.12)[:, None]
    colour = iris.outer + collar * (iris.inner - iris.outer)
    colour = colour * (1 + iris.grain * fibres * smoothstep(ratio, 0.25, 0.55))[:, None]
    ring = iris.ring * smoothstep(ratio, 1 - iris.ring_width, 0.97)
    colour = colour * (1 - ring)[:, None]
    pupil = smoothstep(angle, look.pupil - 0.012, look.pupil + 0.012)[:, None]
    colour = 0.002 + (np.maximum(colour, 0.003) - 0.002) * pupil
    red = iris.veins * smoothstep(angle, 0.7, 1.2)
    # the corners are flesh
    flesh = smoothstep(opening[2], 1.8, -0.4)[:, None]
    white = look.sclera * np.stack([1 - 0.2 * red, 1 - red, 1 - red], -1)
    white = white + flesh * (np.array([0.42, 0.17, 0.15]) * look.sclera - white)
    edge = smoothstep(angle, LIMBUS - 0.035, LIMBUS + 0.055)[:, None]
    return colour + (white - colour) * edge, edge
