"""Facts of methods in print: the table of ``docs/methods.md``, published numbers on the page."""

from __future__ import annotations

from collections.abc import Sequence

from regaze.methods import methods
from regaze.redirectors.facts import METRICS, Facts, facts_of
from regaze.report.citations import WORKS
from regaze.report.inputs import Results


def methods_table() -> str:
    """Return the Markdown table of all methods of this package that bring facts."""
    lines = [
        "| `class` | method | year | code that it follows | its licence | published weights |",
        "|---|---|---|---|---|---|",
    ]
    for name, package in methods().items():
        facts = facts_of(name) if package.startswith("regaze.") else None
        if facts is None:
            continue
        papers = "; ".join(f"{WORKS[work].authors.split(',')[0]}: *{WORKS[work].title}*, "
                           f"{WORKS[work].venue}" for work in facts.works)  # fmt: skip
        cells = (f"`{name}`", f"{facts.title} ({papers})", facts.year, f"`{facts.upstream}`")
        cells += (facts.code_licence, facts.weights_licence)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def published_section(all_results: Sequence[Results]) -> dict | None:
    """Return columns, rows and notes of published numbers of the methods of a page.

    None where no method brings facts. Numbers stand for a class of methods, however many models of
    it there are.
    """
    classes = dict.fromkeys(str(r.model.get("class")) for r in all_results if r.role == "method")
    found = {name: facts_of(name) for name in classes if name in methods()}
    known: dict[str, Facts] = {name: facts for name, facts in found.items() if facts is not None}
    if not known:
        return None
    shown = [(facts, one) for facts in known.values() for one in facts.published]
    keys = [key for key in METRICS if any(key in one.values for _, one in shown)]
    notes: dict[str, int] = {}
    rows = [
        {
            "title": facts.title,
            "data": f"{one.trained} → {one.tested}",
            "cells": [f"{one.values[key]:g}" if key in one.values else "—" for key in keys],
            "note": notes.setdefault(_note(one), len(notes) + 1),
        }
        for facts, one in shown
    ]
    without = [f"{f.title}: {f.without}" for f in known.values() if not f.published and f.without]
    return {
        "columns": [METRICS[key] for key in keys],
        "rows": rows,
        "notes": notes,
        "without": without,
    }


def _note(one) -> str:
    text = f"{one.where}. Protocol: {one.protocol}"
    return f"{text[:1].upper()}{text[1:]}"


if __name__ == "__main__":
    print(methods_table(), end="")
