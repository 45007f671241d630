"""What an inspection found, as plain texts, and the small tools to put numbers into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


class InspectError(ValueError):
    """A file that is missing, damaged or of no known kind; the message is one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(plain(message).split()))


@dataclass(frozen=True)
class Table:
    """A titled table; the first column is text, the others are numbers or text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Findings:
    """What is known of a file.

    Attributes:
        path: the file.
        kind: what it is taken for, in words.
        why: by what it was recognised.
        facts: name and value, in order.
        tables: schema, label ranges and the like.
        warnings: what looks wrong.
    """

    path: Path
    kind: str
    why: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fact(self, name: str, value: object) -> None:
        """Add a fact."""
        self.facts.append((name, plain(str(value))))

    def warn(self, text: str) -> None:
        """Add a warning."""
        self.warnings.append(plain(text))


class Ranges:
    """Least, mean and greatest of columns, block by block, with the values that are not finite."""

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self.least = np.full(len(self.names), np.inf)
        self.greatest = np.full(len(self.names), -np.inf)
        self.total = np.zeros(len(self.names))
        self.finite = np.zeros(len(self.names), np.int64)
        self.strange = np.zeros(len(self.names), np.int64)

    def add(self, block: np.ndarray) -> None:
        """Take in rows (n, columns) of any numeric type."""
        if not len(block):
            return
        block = np.asarray(block, np.float64).reshape(len(block), -1)
        known = np.isfinite(block)
        self.least = np.minimum(self.least, np.where(known, block, np.inf).min(0))
        self.greatest = np.maximum(self.greatest, np.where(known, block, -np.inf).max(0))
        self.total += np.where(known, block, 0.0).sum(0)
        self.finite += known.sum(0)
        self.strange += (~known).sum(0)

    def rows(self, factor: float = 1.0, digits: int = 1) -> list[list[str]]:
        """Return ``[name, least, mean, greatest, not finite]`` per column, as text."""
        lines = []
        for column, name in enumerate(self.names):
            count = self.finite[column]
            values = (self.least[column], self.total[column] / max(count, 1), self.greatest[column])
            texts = [f"{factor * v:.{digits}f}" if count else "-" for v in values]
            lines.append([name, *texts, f"{self.strange[column]:,}"])
        return lines


RANGE_COLUMNS = ("column", "min", "mean", "max", "not finite")


def plain(text: str) -> str:
    """Return text without characters that a terminal would act on."""
    return "".join(
        c if c.isprintable() or c in "\n" else c.encode("unicode_escape").decode() for c in text
    )


def amount(size: float) -> str:
    """Return a number of bytes with a unit: 1234567 is ``1.2 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def some(names: Sequence[str], most: int = 5) -> str:
    """Return names in a row, with how many more there are."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def spread(counts: Sequence[int]) -> str:
    """Return least, median and greatest of counts in words."""
    middle = np.median(counts)
    return f"min {min(counts):,}, median {middle:,.0f}, max {max(counts):,}"
