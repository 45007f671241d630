"""What an inspection found, as plain texts, and how it is printed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np

RANGE_COLUMNS = ("column", "min", "mean", "max", "not finite")
_PIPE_WIDTH = 4096
"""Of lines in a pipe: names and paths stay in one piece there."""


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
    kind: str = ""
    why: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fact(self, name: str, value: object) -> None:
        """Add a fact."""
        self.facts.append((name, plain(str(value))))

    def warn(self, text: str) -> None:
        """Add a warning."""
        self.warnings.append(plain(text))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a table; whole numbers get separators of thousands."""
        texts = [[f"{c:,}" if type(c) is int else str(c) for c in row] for row in rows]
        self.tables.append(Table(title, columns, texts))


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
        values = np.stack([self.least, self.total / np.maximum(self.finite, 1), self.greatest], 1)
        return [
            [name, *(f"{factor * v:.{digits}f}" if n else "-" for v in row), f"{strange:,}"]
            for name, n, row, strange in zip(
                self.names, self.finite, values, self.strange, strict=True
            )
        ]


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


def show(found: Findings, stream: TextIO) -> None:
    """Print findings: tables in a terminal, the same text without colours in a pipe."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    terminal = bool(getattr(stream, "isatty", lambda: False)())
    text = io.StringIO()
    console = Console(
        file=stream if terminal else text,
        width=None if terminal else _PIPE_WIDTH,
        force_terminal=terminal,
        no_color=not terminal,
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(Text(plain(str(found.path)), style="bold"), overflow="fold")
    grid = RichTable.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for fact in (("kind", found.kind), ("because", found.why), *found.facts):
        grid.add_row(*(Text(plain(part)) for part in fact))
    console.print(grid)
    for table in found.tables:
        console.print()
        console.print(Text(table.title, style="bold"))
        drawn = RichTable(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for number, name in enumerate(table.columns):
            numeric = number > 0 and all(_numeric(row[number]) for row in table.rows)
            drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(plain(cell)) for cell in row))
        console.print(drawn)
    if found.warnings:
        console.print()
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), overflow="fold")
    # Tables fill their lines with blanks, which nobody wants in a file.
    stream.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def _numeric(cell: str) -> bool:
    return cell in ("-", "") or cell.lstrip("+-").replace(",", "").replace(".", "", 1).isdigit()
