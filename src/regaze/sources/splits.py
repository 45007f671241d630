"""Splits of a data set by person, and the dealing of persons to shards.

The file is upstream's ``gazecapture_split.json``: an object of lists of persons, ``train``,
``val``, ``test`` and parts of them named ``train-phone``, ``test-tablet`` and so on
(``swook/faze_preprocess``). Nothing heavy is imported here, so that rule files may use it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from pathlib import Path

from regaze.outputs import write_json
from regaze.sources.regular import read_json

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")
DISJOINT = (("train-redirector", "train-evaluator"),)
"""Sub-lists that may share nobody: who judges was not trained on whom the judged learned."""


WAY = "name a split file, or deal persons by shares such as {val: 0.1, test: 0.2}"
"""What is to be done about a list without anybody."""


class SplitError(ValueError):
    """A split file that cannot be used; the message names the file, the list and the person."""


class NoSplit(SplitError):
    """Nothing says who is trained on and who is tested on."""


def read_split(path: str | Path) -> dict[str, list[str]]:
    """Return the lists of a split file, each in the file's own order.

    Raises:
        SplitError: the file is missing or not a JSON object of lists of names, lacks one of
            ``train``, ``val``, ``test``, names a person twice or in two parts, or a sub-list
            holds somebody outside its parent.
    """
    return check_split(read_json(path, SplitError, "a split file"), str(path))


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


def complete_split(
    split: dict[str, list[str]], seed: int = 0, evaluator_share: float = 0.4
) -> dict[str, list[str]]:
    """Return the split with ``train-redirector`` and ``train-evaluator``, made when absent.

    Upstream's files have no such lists. A person's side follows from a hash of seed and name, so
    further persons move nobody; with two persons or more in ``train`` neither list is empty.
    """
    redirector, evaluator = DISJOINT[0]
    for given, other in ((redirector, evaluator), (evaluator, redirector)):
        if given in split:
            rest = [person for person in split["train"] if person not in set(split[given])]
            return {other: rest, **split}

    ranks = {person: _rank(seed, person) for person in split["train"]}
    if not ranks:
        return {**split, redirector: [], evaluator: []}
    # The extreme ranks have fixed sides, so that small sets get both.
    low, high = min(ranks, key=ranks.get), max(ranks, key=ranks.get)
    judges = {person for person, value in ranks.items() if value < evaluator_share} | {low}
    if len(ranks) > 1:
        judges -= {high}
    return {
        **split,
        redirector: [person for person in split["train"] if person not in judges],
        evaluator: [person for person in split["train"] if person in judges],
    }


def without_anybody(
    lists: Mapping[str, Collection[str]],
    needed: Iterable[str],
    there: Collection[str] | None = None,
) -> list[str]:
    """Return what is wrong with lists in which somebody must be, a text for each.

    Args:
        lists: of a completed split.
        needed: names of lists.
        there: persons of the data set; None: not known.
    """
    found = []
    for name in needed:
        persons = lists.get(name, ())
        if name not in lists:
            known = ", ".join(lists)
            found.append(f"{name}: expected a list with somebody in it, found only {known}")
        elif not persons:
            found.append(f"{name}: expected somebody, found nobody")
        elif there is not None and not set(persons) & set(there):
            found.append(
                f"{name}: expected somebody, found {len(persons)} persons who are not in the data "
                "set"
            )
    return found


def _rank(seed: int, person: str) -> float:
    """Return a number in [0, 1) that follows from seed and name alone."""
    return int(hashlib.sha256(f"{seed}/{person}".encode()).hexdigest()[:13], 16) / 16**13


def split_from_info(root: str | Path) -> dict[str, list[str]]:
    """Return GazeCapture's split from each person's ``info.json`` below ``root``.

    ``Dataset`` gives the part and ``DeviceName`` the lists by device (iPad* is a tablet);
    persons are in the order of their names.

    Raises:
        NoSplit: no person has an ``info.json``.
        SplitError: one lacks a key or names another part.
    """
    split: dict[str, list[str]] = {part: [] for part in PARTS}
    split |= {f"{part}-{device}": [] for part in PARTS for device in ("phone", "tablet")}
    paths = sorted(Path(root).glob("*/info.json"))
    if not paths:
        raise NoSplit(
            f"{root}: expected split.json or <person>/info.json, found neither; name a split file "
            "or give shares such as {val: 0.1, test: 0.2} under the data set's `split`"
        )
    for path in paths:
        info = read_json(path, SplitError)
        try:
            part, device = info["Dataset"], info["DeviceName"]
        except (KeyError, TypeError) as error:
            raise SplitError(f"{path}: expected Dataset and DeviceName, found {error!r}") from error
        if part not in PARTS:
            raise SplitError(f"{path}: Dataset: expected one of {PARTS}, found {part!r}")
        kind = "tablet" if str(device).startswith("iPad") else "phone"
        split[part].append(path.parent.name)
        split[f"{part}-{kind}"].append(path.parent.name)
    return split


def split_by_shares(
    persons: Iterable[str], *, val: float, test: float, seed: int = 0
) -> dict[str, list[str]]:
    """Return a split that deals persons by a hash of seed and name.

    ``val`` and ``test`` are shares of the persons, rounded to whole persons; the rest is
    ``train``. The same persons are in ``test`` whatever ``val`` is.

    Raises:
        SplitError: a share above 0 that comes to nobody.
    """
    ranked = sorted(persons, key=lambda name: (_rank(seed, name), name))
    counts = {}
    for part, share in (("test", test), ("val", val)):
        counts[part] = min(round(share * len(ranked)), len(ranked) - sum(counts.values()))
        if share > 0 and counts[part] < 1:
            raise SplitError(
                f"split: {part}: a share of {share:g} of {len(ranked)} persons is nobody"
            )
    first, second = counts["test"], counts["test"] + counts["val"]
    return {
        "train": sorted(ranked[second:]),
        "val": sorted(ranked[first:second]),
        "test": sorted(ranked[:first]),
    }


def make_split(
    out: str | Path,
    *,
    root: str | Path,
    split: str | Path | Mapping[str, float] | None = None,
    source=None,
    seed: int = 0,
    needed: Iterable[str] = (),
    persons: Iterable[str] | None = None,
    lost: Iterable[str] = (),
) -> dict[str, list[str]]:
    """Write and return a data set's checked and completed split.

    It is the file or the shares ``split``; without them ``<root>/split.json`` when there is one,
    or what the data set itself says: ``source.split()``, or the persons' ``info.json``. Then
    :func:`complete_split`. The log names everybody who is listed and has no rows.

    Args:
        out: the split JSON.
        root: folder of the data set.
        split: a file in upstream's format, or shares for :func:`split_by_shares`.
        source: the opened data set; given, its persons are compared with the split's.
        seed: of the shares and of the parts of ``train``.
        needed: lists in which somebody must be.
        persons: those who are there and asked for, nobody else is in the split; default everybody.
        lost: persons of these without a usable row; they are taken out, and nobody moves for them.

    Raises:
        SplitError: as :func:`read_split` and :func:`split_from_info`; the split names nobody of
            the data set, or nobody in a list that is needed; or there is nothing to make one from.
    """
    lists, where = listed_split(root, split, source)
    if lists is None:
        if source is None and persons is None:
            raise SplitError(f"{where}: split: shares need the persons of the data set")
        everybody = source.persons if persons is None else persons
        lists = split_by_shares(everybody, seed=seed, **split)
    if persons is not None:
        lists = _only(lists, set(persons), f"{where}: not there")
    lists = check_split(complete_split(lists, seed), where)
    left = set(split_persons(lists)) - set(lost)
    lists = _only(lists, left, f"{where}: lost with all of their rows")
    if source is not None and not set(source.persons) & set(split_persons(lists)):
        raise SplitError(
            f"{where}: expected persons of {root} such as {source.persons[0]!r}, found only "
            f"others, such as {(split_persons(lists) or ['nobody'])[0]!r}"
        )
    faults = without_anybody(lists, needed, None if source is None else source.persons)
    if faults:
        raise SplitError(f"{where}: split: {'; '.join(faults)}; {WAY} for the data set")
    write_json(out, lists)
    return lists


def listed_split(
    root: str | Path, split: str | Path | Mapping[str, float] | None, source=None
) -> tuple[dict[str, list[str]] | None, str]:
    """Return the lists that a split names, None for shares, and where they come from.

    Arguments and errors are those of :func:`make_split`.
    """
    default = Path(root) / "split.json"
    if split is None and default.is_file():
        split = default
    if isinstance(split, str | Path):
        return read_split(split), str(split)
    if split is not None:
        return None, str(root)
    return source.split() if hasattr(source, "split") else split_from_info(root), str(root)


def _only(lists: dict[str, list[str]], allowed: set[str], why: str) -> dict[str, list[str]]:
    strangers = [person for person in split_persons(lists) if person not in allowed]
    if strangers:
        log.warning("%s: %d persons: %s", why, len(strangers), ", ".join(strangers))
    return {name: [one for one in people if one in allowed] for name, people in lists.items()}


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
