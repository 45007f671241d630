"""Splits of a data set by person, and the dealing of persons to shards.

The file is upstream's ``gazecapture_split.json``: an object of lists of persons, ``train``,
``val``, ``test`` and parts of them named ``train-phone``, ``test-tablet`` and so on
(``swook/faze_preprocess``). This module needs nothing but the standard library, so that rule
files may use it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

PARTS = ("train", "val", "test")
DISJOINT = (("train-redirector", "train-evaluator"),)
"""Sub-lists that may share nobody: who judges was not trained on whom the judged learned."""


class SplitError(ValueError):
    """A split file that cannot be used; the message names the file, the list and the person."""


def read_split(path: str | Path) -> dict[str, list[str]]:
    """Return the lists of a split file, each in the file's own order.

    Raises:
        SplitError: the file is missing or not a JSON object of lists of names, lacks one of
            ``train``, ``val``, ``test``, names a person twice or in two parts, or a sub-list
            holds somebody outside its parent.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SplitError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SplitError(f"{path}: expected JSON, found {error}") from error
    return check_split(content, str(path))


def check_split(content: object, where: str = "split") -> dict[str, list[str]]:
    """Return ``content`` when it is a valid split; see :func:`read_split`.

    Raises:
        SplitError: it is not; the message starts with ``where``.
    """
    if not isinstance(content, dict):
        raise SplitError(f"{where}: expected an object of lists, found {type(content).__name__}")
    for part in PARTS:
        if part not in content:
            raise SplitError(f"{where}: {part}: expected a list of persons, found no such key")
    for name, persons in content.items():
        _check_list(where, name, persons)
    for first, second in (*combinations(PARTS, 2), *DISJOINT):
        both = sorted(set(content.get(first, ())) & set(content.get(second, ())))
        if both:
            raise SplitError(
                f"{where}: expected nobody in two lists, found person {both[0]!r} in "
                f"{first!r} and {second!r} ({len(both)} such persons)"
            )
    for name, persons in content.items():
        parent = name.split("-", 1)[0]
        strangers = sorted(set(persons) - set(content[parent]))
        if strangers:
            raise SplitError(
                f"{where}: {name}: expected persons of {parent!r} only, found {strangers[0]!r}"
            )
    return {name: list(persons) for name, persons in content.items()}


def _check_list(where: str, name: str, persons: object) -> None:
    if name.split("-", 1)[0] not in PARTS:
        raise SplitError(f"{where}: {name}: expected {', '.join(PARTS)} or a part of one (train-x)")
    if not isinstance(persons, list) or not all(isinstance(one, str) and one for one in persons):
        raise SplitError(f"{where}: {name}: expected a list of names, found {persons!r:.80}")
    seen: set[str] = set()
    for person in persons:
        if person in seen:
            raise SplitError(f"{where}: {name}: person {person!r} is listed twice")
        seen.add(person)


def split_persons(split: dict[str, list[str]]) -> list[str]:
    """Return everybody in ``train``, ``val`` and ``test``, sorted."""
    return sorted(person for part in PARTS for person in split[part])


def deal(persons: Iterable[str], shards: int) -> list[list[str]]:
    """Deal persons to ``shards`` sorted lists, by their rank among the sorted names.

    The result depends on the set of names and the number only; lists differ in length by at most
    one and are empty when there are fewer persons than shards.

    Raises:
        ValueError: ``shards`` is below 1, or a name occurs twice.
    """
    persons = sorted(persons)
    if shards < 1:
        raise ValueError(f"shards: expected at least 1, found {shards}")
    for before, after in zip(persons, persons[1:], strict=False):
        if before == after:
            raise ValueError(f"persons: {before!r} occurs twice")
    return [persons[start::shards] for start in range(shards)]
