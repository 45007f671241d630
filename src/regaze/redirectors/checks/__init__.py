"""What every redirection method has to do, checked at tiny size: ``regaze test-method``.

A check is a function of a :class:`Bench`, which has everything that the method's declaration asks
for, made up: faces, inputs and untrained networks. It raises :class:`Failed` (any other error is a
failure too) or :class:`NotApplicable`. The unit tests of methods call the same checks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from regaze.redirectors.bench import Bench, Failed
from regaze.redirectors.checks import claims, layout, pictures, training
from regaze.redirectors.checks.common import NotApplicable


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    Attributes:
        check: its name.
        state: ``passed``, ``failed`` or ``not applicable``.
        reason: what was found, or why it does not apply; empty where it passed.
    """

    check: str
    state: str
    reason: str = ""


CHECKS: dict[str, Callable[[Bench], None]] = {
    name.removeprefix("check_").replace("_", " "): function
    for module in (training, pictures, claims, layout)
    for name, function in vars(module).items()
    if name.startswith("check_") and function.__module__ == module.__name__
}
"""All checks by name, in the order in which they run."""


def run_checks(bench: Bench, names: Iterable[str] = tuple(CHECKS)) -> Iterator[Outcome]:
    """Run checks on a bench, by default all, one after the other."""
    for name in names:
        try:
            CHECKS[name](bench)
            yield Outcome(name, "passed")
        except NotApplicable as error:
            yield Outcome(name, "not applicable", str(error))
        except Failed as error:
            yield Outcome(name, "failed", str(error))
        except Exception as error:  # whatever a method raises
            told = (str(error).strip() or "no message").splitlines()[0]
            yield Outcome(name, "failed", f"{type(error).__name__}: {told}")


def table(outcome: Outcome, width: int = 100) -> str:
    """A row of the table of outcomes; a long reason takes several lines."""
    start = f"{outcome.check:{max(map(len, CHECKS)) + 2}}{outcome.state:16}"
    rest = {"initial_indent": start, "subsequent_indent": " " * len(start)}
    return textwrap.fill(outcome.reason, width, **rest) if outcome.reason else start.rstrip()
