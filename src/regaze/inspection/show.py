"""Printing of findings: tables in a terminal, the same text without colours in a pipe."""

from __future__ import annotations

import io
from typing import TextIO

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from regaze.inspection.findings import Findings, plain

_PIPE_WIDTH = 4096
"""Of lines in a pipe: names and paths stay in one piece there."""


def show(found: Findings, stream: TextIO) -> None:
    """Print findings to a stream."""
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
    facts = [("kind", found.kind), ("because", found.why), *found.facts]
    console.print(_grid(facts))
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
    if not terminal:
        # Tables fill their lines with blanks, which nobody wants in a file.
        lines = (line.rstrip() for line in text.getvalue().splitlines())
        stream.write("".join(f"{line}\n" for line in lines))


def _grid(facts) -> RichTable:
    grid = RichTable.grid(padding=(0, 3, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(Text(plain(name)), Text(plain(value)))
    return grid


def _numeric(cell: str) -> bool:
    return cell in ("-", "") or cell.lstrip("+-").replace(",", "").replace(".", "", 1).isdigit()
