"""Who is in front of the camera: the drawn traits of one person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from regaze.capture.skin_maps import linear

TONES = np.array(
    [
        [232, 198, 178], [226, 188, 164], [218, 178, 150], [210, 166, 134], [200, 152, 118],
        [188, 138, 104], [170, 120, 88], [150, 102, 74], [126, 84, 60], [102, 67, 48],
        [82, 53, 39], [222, 182, 146], [208, 162, 120], [230, 190, 168],
    ]
)  # fmt: skip
"""Skin tones, sRGB, of lit skin from very light to very dark, cooler and warmer."""
HAIRS = {
    "black": (24, 20, 19), "dark": (44, 31, 24), "brown": (76, 52, 36), "chestnut": (104, 64, 40),
    "auburn": (126, 62, 34), "ginger": (168, 92, 44), "dirty": (138, 108, 72),
    "blond": (190, 152, 98), "platinum": (216, 194, 152), "grey": (142, 138, 134),
    "white": (204, 200, 196),
}  # fmt: skip
"""Hair colours, sRGB."""
IRISES = {
    "dark": (52, 32, 20), "brown": (88, 54, 28), "amber": (132, 88, 40), "hazel": (112, 94, 50),
    "green": (92, 116, 78), "blue": (92, 134, 172), "pale": (138, 170, 192),
    "grey": (122, 134, 142),
}  # fmt: skip
"""Iris colours, sRGB."""
STYLES = {
    "masculine": ("buzz", "short", "short", "side", "curly", "quiff", "receding", "bald", "medium"),
    "feminine": ("long", "long", "wavy", "bob", "tied", "tied", "fringe", "afro", "pixie"),
}
"""Hair styles by the look of the person."""


@dataclass(frozen=True)
class Look:
    """Traits of a person; colours are linear RGB (3,), lengths mm, the rest 0..1 strengths."""

    kind: str
    shape: np.ndarray
    expression: np.ndarray
    skin: np.ndarray
    roughness: float
    redness: float
    age: float
    under_eye: float
    freckles: float
    gloss: float
    lips: np.ndarray
    lip_strength: float
    lip_gloss: float
    hair: str
    hair_colour: np.ndarray
    hair_thick: float
    hairline: float
    parting: float
    brow_colour: np.ndarray
    brow_strength: float
    brow_thick: float
    brow_arch: float
    brow_height: float
    brow_join: float
    beard: str
    beard_kind: str
    beard_shadow: float
    beard_thick: float
    beard_colour: np.ndarray
    iris: np.ndarray
    iris_edge: float
    pupil: float
    sclera: np.ndarray
    lashes: float
    liner: float
    glasses: str
    glasses_colour: np.ndarray
    glasses_size: tuple[float, float]
    cloth: np.ndarray
    collar: str
    seed: int


_HAIR_WEIGHTS = {
    "dark": [10, 3, 0.6, 0, 0, 0, 0, 0.1, 0, 0.7, 0.3],
    "middle": [7, 5, 3, 0.7, 0, 0, 0.2, 0.2, 0, 0.8, 0.3],
    "light": [5, 4, 4, 2, 0.8, 0.8, 1.6, 2.0, 0.8, 1.2, 0.6],
}
_IRIS_WEIGHTS = {
    "dark": [6, 5, 0.5, 0.3, 0, 0, 0, 0],
    "middle": [4, 5, 1, 0.8, 0.4, 0.3, 0, 0],
    "light": [2, 3, 1, 1.2, 1.2, 2.2, 1.2, 1],
}


def _pick(rng, table, weights=None):
    names = list(table)
    chance = None if weights is None else np.array(weights, float) / np.sum(weights)
    return names[int(rng.choice(len(names), p=chance))]


def expression_rows(meta: dict, word: str) -> dict[int, float]:
    """Expression codes by number, with their factors, that stand for ``word`` on a head model."""
    names = {name: index for index, name in enumerate(meta["expressions"])}
    members = meta.get("expression_groups", {}).get(word, {word: 1.0})
    return {names[one]: factor for one, factor in members.items() if one in names}


def draw_expression(rng: np.random.Generator, meta: dict) -> np.ndarray:
    """Codes (n,) of an expression of the names in ``meta``; see :func:`draw_look`."""
    expression = np.zeros(len(meta["expressions"]))
    amounts = {
        "smile": float(np.clip(rng.normal(0.25, 0.45), -0.2, 1.1)),
        "brow_up": float(np.clip(rng.normal(0, 0.5), -0.6, 1.0)),
        "brow_down": float(np.clip(rng.normal(0, 0.4), 0, 0.8)),
        "cheek_raise": float(np.clip(rng.normal(0.1, 0.4), 0, 1.0)),
        "lip_press": float(np.clip(rng.normal(0, 0.4), -0.4, 0.8)),
        "pucker": float(np.clip(rng.normal(0, 0.3), -0.3, 0.7)),
        "jaw_open": float(np.clip(rng.normal(-0.1, 0.3), 0, 0.5)),
        "frown": float(np.clip(rng.normal(-0.2, 0.4), 0, 0.8)),
    }

    def set_to(word, value):
        for index, factor in expression_rows(meta, word).items():
            expression[index] = factor * value

    for word, value in amounts.items():
        set_to(word, value)
    squint = float(np.clip(rng.normal(0.06, 0.08), 0, 0.2))
    for word in ("eye_blink_left", "eye_blink_right"):
        set_to(word, squint)
    return expression


def draw_look(seed: int, person: int, meta: dict) -> Look:
    """Draw the person's traits from (seed, person) alone.

    Args:
        seed: of the data set.
        person: number of the person.
        meta: of the head model: ``feminine`` codes and names of the first ``expressions``;
            where these differ from the procedural head's, ``expression_groups`` says for each
            of its names which expressions, by what factors, stand for it.
    """
    rng = np.random.default_rng([seed, person, 11])
    kind = "masculine" if rng.random() < 0.5 else "feminine"
    man = kind == "masculine"
    feminine = np.array(meta["feminine"])
    shape = 0.85 * np.clip(rng.normal(size=feminine.size), -2, 2)
    shape = np.clip(shape + (-0.6 if man else 1.0) * feminine, -2.5, 2.5)
    shape[40:] *= 0.7
    expression = draw_expression(rng, meta)
    tone_index = int(rng.integers(len(TONES)))
    tone = linear(TONES[tone_index]) * (1 + rng.normal(0, 0.06) + rng.normal(0, 0.02, 3))
    # the camera's shoulder pales colours a little
    tone = np.clip(tone.mean() + 1.2 * (tone - tone.mean()), 0.008, 0.85).astype(np.float32)
    dark, middle = tone.mean() < 0.22, tone.mean() < 0.40
    depth = "dark" if dark else "middle" if middle else "light"
    hair_name = _pick(rng, HAIRS, _HAIR_WEIGHTS[depth])
    hair = linear(np.clip(np.array(HAIRS[hair_name]) * rng.uniform(0.85, 1.15), 8, 240))
    iris_name = _pick(rng, IRISES, _IRIS_WEIGHTS[depth])
    iris = linear(np.array(IRISES[iris_name]) * rng.uniform(0.85, 1.15))
    style = str(rng.choice(STYLES[kind]))
    old = 0.5 if hair_name in ("grey", "white") else 0.0
    age = float(np.clip(old + rng.uniform(-0.5, 0.6), 0, 1))
    grey_brow = 0.6 if hair_name in ("white", "grey") else 1.0
    brow = np.minimum(hair * rng.uniform(0.45, 0.8) * grey_brow, tone * 0.55)
    bearded = man and rng.random() < 0.34
    beard = str(rng.choice(["stubble", "full", "goatee", "moustache"])) if bearded else "none"
    kinds = {"full": "beard", "stubble": "beard", "goatee": "goatee", "moustache": "moustache"}
    shadow = {"none": rng.uniform(0.02, 0.16) if man else 0.0, "stubble": rng.uniform(0.35, 0.55),
              "full": 0.93, "goatee": 0.88, "moustache": 0.9}[beard]  # fmt: skip
    lip_base = tone * np.array([0.80, 0.44, 0.46]) + np.array([0.03, 0.0, 0.005])
    made_up = (not man) and rng.random() < 0.45
    if made_up:
        bright = np.array([linear((178, 60, 66)), linear((160, 70, 90)), linear((196, 104, 96))])
        lip_base = 0.45 * lip_base + 0.55 * bright[int(rng.integers(3))] * (0.6 if dark else 1.0)
    glasses = (
        str(rng.choice(["round", "square", "thin", "browline"])) if rng.random() < 0.16 else ""
    )
    frames = np.array([(18, 17, 18), (52, 34, 24), (120, 110, 100), (40, 44, 66), (96, 30, 32)])
    grey = np.clip(rng.normal(95, 60), 18, 225)
    clothes = linear(np.clip(grey + rng.normal(0, 26, 3), 12, 235))
    return Look(
        kind=kind,
        shape=shape,
        expression=expression,
        skin=tone,
        roughness=float(rng.uniform(0.5, 1.3)),
        redness=float(rng.uniform(0.2, 1.3)) * (0.5 if dark else 1.0),
        age=age,
        under_eye=float(rng.uniform(0.06, 0.22)) + 0.10 * age,
        freckles=float(rng.uniform(0.3, 0.8)) if rng.random() < (0.0 if dark else 0.12) else 0.0,
        gloss=float(rng.uniform(0.25, 0.75)),
        lips=lip_base.astype(np.float32),
        lip_strength=float(rng.uniform(0.8, 0.95)) if made_up else float(rng.uniform(0.55, 0.85)),
        lip_gloss=float(rng.uniform(0.2, 1.0)),
        hair=style,
        hair_colour=hair,
        hair_thick=float(rng.uniform(0.75, 1.35)),
        hairline=float(rng.uniform(-6, 6)) + (3 if man else 0),
        parting=float(rng.choice([-1, 1]) * rng.uniform(0.2, 1.0)),
        brow_colour=brow.astype(np.float32),
        brow_strength=float(rng.uniform(0.65, 0.95)),
        brow_thick=float(rng.uniform(3.4, 4.8) if man else rng.uniform(2.3, 3.6)),
        brow_arch=float(rng.uniform(0.5, 2.2) if man else rng.uniform(1.6, 4.0)),
        brow_height=float(rng.uniform(-1.8, 0.6) if man else rng.uniform(-0.8, 1.8)),
        brow_join=float(rng.uniform(-2.5, 1.5)),
        beard=beard,
        beard_kind=kinds.get(beard, "beard"),
        beard_shadow=float(shadow),
        beard_thick=float(rng.uniform(2.0, 7.0)),
        beard_colour=(hair * 0.75 + 0.02 * tone).astype(np.float32),
        iris=iris,
        iris_edge=float(rng.uniform(0.35, 0.75)),
        pupil=float(np.radians(np.clip(rng.normal(10.8, 1.3), 8.5, 13))),
        sclera=linear(np.array([226, 219, 212]) + rng.normal(0, 4)) * (0.86 if dark else 1.0),
        lashes=float(rng.uniform(0.68, 0.88) if man else rng.uniform(0.8, 1.0)),
        liner=float(rng.uniform(0.3, 0.9)) if made_up else 0.0,
        glasses=glasses,
        glasses_colour=linear(frames[int(rng.integers(len(frames)))]),
        glasses_size=(float(rng.uniform(21, 25)), float(rng.uniform(15.5, 20.5))),
        cloth=clothes,
        collar=str(rng.choice(["round", "vee", "high"])),
        seed=int(rng.integers(2**31)),
    )
