"""What of a face can be edited and read again: a table with a row per factor.

Kinds of pairs, columns of metrics, tables and figures of the report, dials and its verdict are made
from this table: a factor is evaluated once it has a row here. Light on purpose: the Snakefile
imports it, so nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from regaze.angles import angular_error
from regaze.codes import CODES

if TYPE_CHECKING:
    from regaze.faces import FacesReader

DEGREES = "°"


@dataclass(frozen=True)
class Dial:
    """A closed path of targets around zero, as a sweep shows them.

    Attributes:
        reach: half axis of each of the factor's numbers, in the factor's own values.
        steps: positions along it.
    """

    reach: tuple[float, ...]
    steps: int = 24

    def path(self, steps: int | None = None) -> np.ndarray:
        """The targets (steps, n), a quarter turn between one number and the next."""
        count = steps or self.steps
        turn = 2 * np.pi * np.arange(count) / count
        waves = (np.sin, np.cos)
        return np.stack([r * waves[n % 2](turn) for n, r in enumerate(self.reach)], -1)


@dataclass(frozen=True)
class Factor:
    """A row of the table.

    Attributes:
        name: as in columns: ``source_<name>``, ``<name>_error_<suffix>``, ``read_<name>_<part>``.
        title: in headings.
        noun: within sentences.
        meaning: of its error, for the report.
        unit: of differences; ``suffix`` is that of column names.
        parts: names of its numbers; directions are ``pitch`` and ``yaw``, radians.
        labels: of rows of a faces file, (N, parts); NaN where unknown. None: see ``code``.
        read: of redirected pictures (:class:`regaze.metrics.redirection.Reading`: what the
            evaluation estimator sees in them, and the pictures), (N, parts). None: see ``code``.
        code: column of :data:`regaze.codes.CODES` that it is read from instead, of pictures as of
            ground truth, by the 3-D face encoder of ``evaluation.encoder``.
        numbers: which of the code's numbers it is, the first and the one behind the last.
        difference: of two (N, parts), (N,) in ``unit``.
        moved: column that says how far it was to change, in ``unit``.
        keeps: the factors that are the same in pairs where this one alone changes.
        same: differences below count as none; None: ``evaluation.same_deg``.
        turn: largest random change of the induced errors, in its own values; None: not turned.
        pairs: how many pairs change it alone, unless the configuration says otherwise.
        dial: targets of its sweep; None: it has none.
    """

    name: str
    title: str
    noun: str
    meaning: str
    moved: str
    keeps: tuple[str, ...]
    labels: Callable[[FacesReader, np.ndarray], np.ndarray] | None = None
    read: Callable[[Any], np.ndarray] | None = None
    code: str = ""
    numbers: tuple[int, int | None] = (0, None)
    unit: str = DEGREES
    suffix: str = "deg"
    parts: tuple[str, ...] = ("pitch", "yaw")
    difference: Callable[[np.ndarray, np.ndarray], np.ndarray] = angular_error
    same: float | None = None
    turn: float | None = 0.1 * np.pi
    pairs: int = 100
    dial: Dial | None = None

    def column(self, what: str) -> str:
        """Name of a column in its unit: ``error``, ``vs_truth``, ``change``."""
        return "_".join(filter(None, (self.name, what, self.suffix)))

    @property
    def readings(self) -> tuple[str, ...]:
        """Columns of what is read of a picture, one per number."""
        return tuple("_".join(filter(None, ("read", self.name, part))) for part in self.parts)

    @property
    def directional(self) -> bool:
        """Whether its numbers are pitch and yaw in radians, which a dial can show."""
        return self.parts == ("pitch", "yaw")

    def reading(self, reading: Any) -> np.ndarray:
        """Its numbers (N, parts) of redirected pictures, NaN where they could not be read."""
        if self.read is not None:
            return self.read(reading)
        return self.part(reading.codes[self.code]).astype(np.float64)

    def part(self, codes: np.ndarray) -> np.ndarray:
        """Its numbers (N, parts) of codes (N, length)."""
        return codes[:, slice(*self.numbers)]

    def text(self, value: float) -> str:
        """A difference as it is printed, with its unit."""
        return f"{value:.{2 if self.code else 1}f}{self.unit}"

    def shown(self, values: np.ndarray) -> np.ndarray:
        """Its numbers (..., parts) as they are printed: degrees of directions."""
        return np.rad2deg(values) if self.directional else np.asarray(values)


FACTORS: dict[str, Factor] = {
    one.name: one
    for one in (
        Factor(
            "gaze",
            "Gaze",
            "gaze",
            "angle between the gaze asked for and the gaze that the independent estimator reads "
            "from the picture",
            labels=lambda faces, rows: faces.labels[rows, :2],
            read=lambda reading: reading.angles[:, :2],
            moved="angle_deg",
            keeps=("head",),
            pairs=200,
            dial=Dial((np.deg2rad(12), np.deg2rad(20))),
        ),
        Factor(
            "head",
            "Head",
            "head pose",
            "the same for the direction of the head",
            labels=lambda faces, rows: faces.labels[rows, 2:4],
            read=lambda reading: reading.angles[:, 2:],
            moved="head_angle_deg",
            keeps=("gaze",),
        ),
    )
}
"""By name; the first one is what the verdict and the tables across data sets begin with."""


def root_mean_square(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Differences (N,) of codes (N, n), as re-inference errors are (Ding et al. 2023)."""
    return np.sqrt(np.square(np.asarray(first, np.float64) - second).mean(-1))


def _coded(name: str, title: str, numbers: tuple, code: str, same: float, meaning: str) -> Factor:
    size = len(range(CODES[code])[slice(*numbers)])
    return Factor(
        name,
        title,
        title.lower(),
        f"root mean square difference between {meaning} of the redirected picture and that of "
        "the target, which one 3-D face encoder reads from both",
        moved=f"{name}_moved",
        keeps=("gaze", "head"),
        code=code,
        numbers=numbers,
        unit="",
        suffix="rms",
        parts=tuple(map(str, range(size))),
        difference=root_mean_square,
        same=same,
        turn=None,
    )


CODED: dict[str, Factor] = {
    one.name: one
    for one in (
        _coded("shape", "Shape", (0, None), "shape", 0.2, "the shape code"),
        _coded("expression", "Expression", (0, None), "expression", 0.05, "the expression code"),
        _coded("jaw", "Jaw", (3, 6), "pose", 0.02, "the jaw's rotation (radians)"),
        _coded("light", "Light", (0, None), "light", 0.1, "the light code"),
    )
}
"""Factors that are evaluated where an entry edits them, read by a 3-D face encoder.

``same`` is a choice: codes of shape have about unit variance over people, the jaw's 0.02 in each
number are two degrees, and most numbers of expressions never move: photos that differ in gaze
alone are read up to 0.04 apart, and those of other expressions by 0.08 in the median, by an encoder
that learnt to read them (``encoders.deca.expressions``)."""


def factors_named(names: Collection[str]) -> dict[str, Factor]:
    """Those of :data:`FACTORS`, and those of :data:`CODED` that are named."""
    return {**FACTORS, **{name: one for name, one in CODED.items() if name in names}}


def factors_of(columns: Collection[str]) -> dict[str, Factor]:
    """The factors of a table of pairs, by its columns."""
    return factors_named([name for name in CODED if f"target_{name}" in columns])


@dataclass(frozen=True)
class PairKind:
    """A kind of evaluation pairs, always of one person.

    Attributes:
        name: in files and in ``evaluation.pairs``.
        factors: those that change.
        keeps: those that must be the same in source and target.
        seed: its name in the random generator, which outlives names.
        swept: factor whose dial the targets run along; such pairs have no picture of the target.
        default: how many there are unless the configuration says otherwise.
        listed: whether the pairs are those of a published list; such are of a protocol of their
            own and in no table with others.
        itself: whether sources are their own targets.
        title, label, about: in headings, within sentences, and what it is.
    """

    name: str
    factors: tuple[str, ...]
    keeps: tuple[str, ...]
    seed: str
    title: str
    label: str
    about: str
    default: int
    swept: str = ""
    listed: bool = False
    itself: bool = False

    @property
    def phrase(self) -> str:
        """Its pairs, within sentences."""
        return f"{self.label} pairs ({self.about})"


GAZE_AND_HEAD = "gaze_and_head"
"""The kind of pairs whose target is any other picture of the person."""
LISTED = "gazenerf_paper"
"""The kind of pairs that GazeNeRF's evaluation lists."""
RECONSTRUCTION = "reconstruction"
"""The kind of pairs whose target is the source."""


def pair_kinds(factors: Mapping[str, Factor]) -> dict[str, PairKind]:
    """All kinds of pairs of a table of factors, by name, in the order that they are drawn in."""
    about = "any other picture of the person"
    name, title = GAZE_AND_HEAD, "Gaze and head"
    found = [PairKind(name, tuple(factors), (), "free", title, "gaze-and-head", about, 200)]
    for one in factors.values():
        kept = " and ".join(factors[name].noun for name in one.keeps)
        name, about = f"{one.name}_only", f"same {kept}, new {one.noun}"
        title, label = f"{one.title} only", f"{one.name}-only"
        found.append(PairKind(name, (one.name,), one.keeps, name, title, label, about, one.pairs))
    for one in factors.values():
        if one.dial is not None:
            # That of the gaze was there before there was any other.
            name = "sweep" if one.name == "gaze" else f"{one.name}_sweep"
            title, about = name.replace("_", " ").capitalize(), f"the {one.noun} alone moves"
            found.append(
                PairKind(name, (one.name,), (), name, title, title.lower(), about, 4, one.name)
            )
    about = "of each person the first so many pairs that GazeNeRF's evaluation lists"
    title, label = "GazeNeRF's protocol", "listed"
    everything = "gaze", "head"
    found.append(PairKind(LISTED, everything, (), LISTED, title, label, about, 0, listed=True))
    name, about = RECONSTRUCTION, "nothing changes: the source is its own target"
    told = (name, tuple(factors), (), name, "Reconstruction", name, about, 0)
    found.append(PairKind(*told, itself=True))
    return {kind.name: kind for kind in found}


KINDS: dict[str, PairKind] = pair_kinds(factors_named(CODED))

_OLD = {"free": GAZE_AND_HEAD}


def current_kind(name: Any) -> Any:
    """The name of a kind of pairs in files and settings of before it was renamed, as it is now."""
    return _OLD.get(name, name) if isinstance(name, str) else name


def compared_kinds() -> tuple[str, ...]:
    """Kinds that have a picture of the target, in the order of tables: one factor, all, none."""
    pictured = [name for name, kind in KINDS.items() if not (kind.swept or kind.listed)]
    return (*(name for name in pictured if KINDS[name].keeps), GAZE_AND_HEAD, RECONSTRUCTION)
