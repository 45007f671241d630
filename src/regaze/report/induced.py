"""What changed that should not have: the table of induced errors, and who judged identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regaze.factors import FACTORS
from regaze.metrics.induced import OTHERS, PROTOCOLS
from regaze.report import tables
from regaze.report.inputs import PERTURBED, Results
from regaze.report.tables import Column


def _columns() -> Iterator[Column]:
    for protocol, names in PROTOCOLS.items():
        for key, (one, other) in names.items():
            title = f"{FACTORS[one].title} → {other}"
            if protocol == "factors":
                title = f"Factor {one[0]} → {other[0]}"
            about = (
                f"how far the {other} seems to move when only the {one} asked for is turned at "
                "random, directions by up to 18 degrees in pitch and in yaw"
            )
            if protocol == "factors":
                about = (
                    f"the same where a method turns its own factor of the {one}, against its "
                    f"reconstruction (ST-ED's {one}_to_{other})"
                )
            yield Column(key, title, FACTORS[other].unit, 2, "lower", about)
    for key, other in OTHERS.items():
        about = (
            f"change of the {other}, mean over a method's other factors (ST-ED's "
            f"{other}_disentangle)"
        )
        yield Column(key, f"Others → {other}", FACTORS[other].unit, 2, "lower", about)


COLUMNS = tuple(_columns())


def induced_table(all_results: Sequence[Results]) -> dict | None:
    """Return columns and rows as :func:`regaze.report.sections.comparison_table` does.

    None where nothing was turned; columns that no method has are left out.
    """
    measured = [
        results
        for results in all_results
        if any(v["mean"] is not None for v in results.metrics.get(PERTURBED, {}).values())
    ]
    columns = [
        column
        for column in COLUMNS
        if any(_value(results, column)["mean"] is not None for results in measured)
    ]
    if not columns:
        return None
    notes: dict[str, int] = {}
    rows = [
        tables.row(
            results,
            [tables.cell(_value(results, column), column, notes) for column in columns],
        )
        for results in measured
    ]
    pictures = max(v.get("n") or 0 for r in measured for v in r.metrics[PERTURBED].values())
    group = {"title": "Random turns", "about": f"{pictures} pictures", "rows": rows}
    return {"columns": tables.heads(columns), "groups": [group], "notes": notes}


def _value(results: Results, column: Column) -> dict:
    absent = {"mean": None, "reason": tables.NOT_MEASURED}
    return dict(results.metrics.get(PERTURBED, {}).get(column.key, absent))


def identity_note(all_results: Sequence[Results]) -> str:
    """Return which network judged identity and how well it tells unseen people apart, or ``""``."""
    for results in all_results:
        for section in results.metrics.values():
            value = section.get("identity_similarity", {})
            if value.get("network"):
                words = f"Identity is judged by the network {value['network']}"
                if value.get("auc") is not None:
                    words += (
                        f"; on unseen persons, same against different, it has an area under the "
                        f"curve of {value['auc']:.4f} and an equal error rate of "
                        f"{100 * value['eer']:.1f} %"
                    )
                return words
    return ""
