"""What the appearance ``varied`` adds to a person, each drawn from a stream of its own.

A detail never changes what is drawn for another one, nor the traits of
:func:`regaze.capture.subject.draw_look`: a person whose details all fall out is as in ``plain``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from regaze.capture.skin_maps import linear
from regaze.capture.subject import IRISES, Look, expression_rows
from regaze.capture_settings import DETAILS

SHADOWS = ((92, 62, 48), (70, 56, 60), (120, 78, 84), (58, 70, 92), (60, 84, 70), (146, 110, 84))
"""Colours of eye shadow, sRGB."""


@dataclass(frozen=True)
class Iris:
    """An iris of two colours (linear RGB), its texture and its ring, and the white around it.

    Attributes:
        inner, outer: colours about the pupil and towards the limbus.
        reach: where one goes over into the other, as a share of the iris' radius.
        ring, ring_width: darkness of the limbal ring, and its width as a share of the radius.
        grain: contrast of the fibres; ``waves`` (k, 3) are turns, phases and shares of them.
        veins: strength of the red towards the corners of the eye.
    """

    inner: np.ndarray
    outer: np.ndarray
    reach: float
    ring: float
    ring_width: float
    grain: float
    waves: np.ndarray
    veins: float


@dataclass(frozen=True)
class Lashes:
    """Length and width in mm, upward curl and darkness of single lashes, and their seed."""

    length: float
    width: float
    curl: float
    cover: float
    seed: int


@dataclass(frozen=True)
class Creases:
    """Strengths and places of the lines about the eyes; ``lid`` is of the fold of the upper lid."""

    lid: float
    lid_ring: float
    bags: float
    feet: float
    frown: float


@dataclass(frozen=True)
class Lenses:
    """Light that lenses let through (linear RGB), how much they reflect, and how bent they are."""

    through: np.ndarray
    gloss: float
    radius: float


@dataclass(frozen=True)
class Style:
    """The details of a person; None or False for those that are as in ``plain``."""

    highlights: bool = False
    iris: Iris | None = None
    lid_gain: float | None = None
    lashes: Lashes | None = None
    shadow: np.ndarray | None = None
    shadow_cover: float = 0.0
    creases: Creases | None = None
    lenses: Lenses | None = None
    light: bool = False
    camera: bool = False
    squint: tuple[float, float] | None = None


def stream(seed: int, person: int, detail: str, part: int = 1) -> np.random.Generator:
    """The random numbers of one detail of a person; part 0 is of the traits, 1 of the scene."""
    return np.random.default_rng([seed, person, 21, list(DETAILS).index(detail), part])


def draw_style(
    seed: int, person: int, look: Look, shares: Mapping[str, float | None]
) -> tuple[Look, Style]:
    """Draw the details of a person from (seed, person) and the shares of each detail alone.

    Args:
        seed: of the data set.
        person: number of the person.
        look: the person's traits, of which a few get another value.
        shares: of persons by name of ``DETAILS``, 0..1.
    """
    style = Style()
    for name, draw in _DRAWS.items():
        rng, share = stream(seed, person, name, 0), shares[name]
        if share is not None and (name == "glasses" or rng.random() < share):
            look, style = draw(rng, look, style, share)
    return look, style


def _glasses(rng, look: Look, style: Style, share: float):
    if rng.random() >= share:
        return replace(look, glasses=""), style
    kinds = ("round", "square", "thin", "browline", "aviator", "rimless")
    frames = np.array([(18, 17, 18), (52, 34, 24), (120, 110, 100), (40, 44, 66), (96, 30, 32),
                       (188, 160, 104), (30, 30, 34)])  # fmt: skip
    half = rng.uniform(21, 26.5)
    worn = replace(
        look,
        glasses=str(rng.choice(kinds)),
        glasses_colour=linear(frames[int(rng.integers(len(frames)))]),
        glasses_size=(float(half), float(half * rng.uniform(0.62, 0.86))),
    )
    return worn, style


def _lenses(rng, look: Look, style: Style, _):
    if not look.glasses:
        return look, style
    through = np.full(3, rng.uniform(0.9, 0.98)) * (1 + rng.normal(0, 0.012, 3))
    if rng.random() < 0.12:
        through = through * rng.uniform(0.45, 0.8) * (1 + rng.normal(0, 0.05, 3))
    return look, replace(
        style,
        lenses=Lenses(
            through=np.clip(through, 0.2, 1.0).astype(np.float32),
            # coated ones reflect a fifth of what plain ones do
            gloss=float(rng.choice([0.25, 0.6, 1.0])),
            radius=float(rng.uniform(90, 180)),
        ),
    )


def _highlights(rng, look: Look, style: Style, _):
    return look, replace(style, highlights=True)


def _irises(rng, look: Look, style: Style, _):
    names = list(IRISES)
    light = look.iris.mean() > 0.09
    # dark eyes stay dark: they mix with the dark half of the table only
    other = linear(IRISES[names[int(rng.integers(8 if light else 3))]])
    outer = look.iris + rng.uniform(0, 0.5) * (other - look.iris)
    outer = outer * rng.uniform(0.4, 1.15) * (1 + rng.normal(0, 0.05, 3))
    if look.skin.mean() < 0.22:
        outer = outer * rng.uniform(0.45, 0.9)
    amber = linear((120, 78, 36)) * rng.uniform(0.6, 1.2)
    inner = outer + rng.choice([0.0, 0.25, 0.7]) * rng.uniform(0.5, 1) * (amber - outer)
    count = 5
    waves = np.stack(
        [rng.integers(5, 48, count), rng.uniform(0, 2 * np.pi, count), rng.uniform(0.3, 1, count)],
        -1,
    )
    waves[:, 2] /= waves[:, 2].sum()
    white = np.array([222, 214, 206]) * rng.uniform(0.72, 0.98) + rng.normal(0, 2, 3)
    white += rng.uniform(0, 14) * np.array([0.3, 0.0, -0.8])
    dark = look.skin.mean() < 0.22
    return replace(
        look,
        sclera=linear(np.clip(white, 60, 235)) * (0.86 if dark else 1.0),
    ), replace(
        style,
        iris=Iris(
            inner=np.clip(inner, 0.004, 0.8).astype(np.float32),
            outer=np.clip(outer, 0.004, 0.8).astype(np.float32),
            reach=float(rng.uniform(0.35, 0.7)),
            ring=float(rng.uniform(0.15, 0.92)),
            ring_width=float(rng.uniform(0.08, 0.34)),
            grain=float(rng.uniform(0.15, 0.75)),
            waves=waves,
            veins=float(rng.uniform(0.05, 0.4)),
        ),
    )


def _pupils(rng, look: Look, style: Style, _):
    radius = np.clip(rng.normal(1.95, 0.55), 1.0, 3.5)
    return replace(look, pupil=float(radius / 12.0)), style


def _lids(rng, look: Look, style: Style, _):
    return look, replace(style, lid_gain=float(np.clip(rng.normal(0.72, 0.08), 0.55, 0.9)))


def _lashes(rng, look: Look, style: Style, _):
    soft = look.kind == "feminine"
    drawn = Lashes(
        length=float(rng.uniform(5.5, 8.0) if soft else rng.uniform(4.5, 7.0)),
        width=float(rng.uniform(0.34, 0.5) if soft else rng.uniform(0.26, 0.4)),
        curl=float(rng.uniform(0.25, 0.6)),
        cover=float(rng.uniform(0.7, 0.95)),
        seed=int(rng.integers(2**31)),
    )
    return look, replace(style, lashes=drawn)


def _make_up(rng, look: Look, style: Style, _):
    if look.kind != "feminine":
        return look, style
    colour = linear(SHADOWS[int(rng.integers(len(SHADOWS)))])
    colour = colour * (0.55 if look.skin.mean() < 0.22 else 1.0)
    lashes = style.lashes
    if lashes is not None:  # mascara
        longer, cover = lashes.length * rng.uniform(1.1, 1.4), min(0.97, lashes.cover + 0.25)
        lashes = replace(lashes, length=longer, width=lashes.width * 1.35, cover=cover)
    made = replace(
        style, lashes=lashes, shadow=colour.astype(np.float32),
        shadow_cover=float(rng.choice([0.0, 1.0]) * rng.uniform(0.2, 0.65)),
    )  # fmt: skip
    return replace(look, liner=float(rng.uniform(0.2, 1.0)), lashes=1.0), made


def _skin(rng, look: Look, style: Style, _):
    grey = look.skin.mean()
    tone = (grey + rng.uniform(0.72, 1.1) * (look.skin - grey)) * (1 + rng.normal(0, 0.10))
    # hair colours skin alike: brows of one person are darker, of another hardly there
    thick = rng.uniform(0.7, 1.4)
    old = look.age
    creases = Creases(
        lid=float(rng.choice([0.0, 1.0, 1.0, 1.0]) * rng.uniform(0.1, 0.5)),
        lid_ring=float(rng.uniform(0.72, 1.2)),
        bags=float(rng.uniform(0, 0.25) + 0.25 * old),
        feet=float(rng.uniform(0, 0.1) + 0.4 * old * rng.random()),
        frown=float(rng.uniform(0, 0.1) + 0.35 * old * rng.random()),
    )
    return replace(
        look,
        skin=np.clip(tone, 0.008, 0.85).astype(np.float32),
        brow_thick=look.brow_thick * thick,
        brow_strength=float(rng.uniform(0.3, 0.98)),
        brow_arch=look.brow_arch * float(rng.uniform(0.5, 1.5)),
        brow_height=look.brow_height + float(rng.uniform(-1.2, 1.6)),
        brow_join=float(rng.uniform(-3.5, 2.5)),
        brow_colour=np.minimum(look.brow_colour * rng.uniform(0.6, 1.6), tone * 0.6).astype("f4"),
        gloss=float(rng.uniform(0.15, 0.85)),
        roughness=look.roughness * float(rng.uniform(0.7, 1.7)),
    ), replace(style, creases=creases)


def _light(rng, look: Look, style: Style, _):
    return look, replace(style, light=True)


def _camera(rng, look: Look, style: Style, _):
    return look, replace(style, camera=True)


def _squint(rng, look: Look, style: Style, _):
    # by a detector's landmarks eyes of photos are a sixth to a third as high as wide; with the
    # blinks of the traits they are a quarter to a third
    both = rng.uniform(-0.1, 0.45)
    return look, replace(style, squint=tuple(both + np.clip(rng.normal(0, 0.03, 2), -0.05, 0.05)))


def squinting(look: Look, style: Style, meta: Mapping) -> Look:
    """The traits with the blinks of the style, where it has some, on a head model of ``meta``."""
    if style.squint is None:
        return look
    expression = look.expression.copy()
    for side, amount in zip(("left", "right"), style.squint, strict=True):
        for index, factor in expression_rows(meta, f"eye_blink_{side}").items():
            expression[index] = factor * amount
    return replace(look, expression=expression)


# lashes before make-up, glasses before lenses: the later one works on what the first one drew
_DRAWS = {
    "glasses": _glasses, "lenses": _lenses, "highlights": _highlights, "irises": _irises,
    "pupils": _pupils, "lids": _lids, "lashes": _lashes, "make_up": _make_up, "skin": _skin,
    "light": _light, "camera": _camera, "squint": _squint,
}  # fmt: skip
