"""Whom and which pairs GazeNeRF's published evaluation redirects.

The lists are those of ``AlessandroRuzzi/GazeNeRF``: picture i of every person is turned to where
picture ``targets[i]`` looks, the same list for everybody of a data set. They are numbers of rows of
its files, of 200, 200, 104 and 100 pictures a person.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

SETS = {
    "eth_xgaze": "xgaze",
    "eth_xgaze_hdf5": "xgaze",
    "mpiifacegaze": "mpii",
    "columbia": "columbia",
    "gazecapture": "gaze_capture",
}
"""Published names of data sets, by kind of source."""

_NUMBER = re.compile(r"(\d+)$")


@cache
def lists() -> dict:
    """``targets`` by data set, and ``persons``: numbers of ``train`` and ``test`` by data set."""
    return json.loads(Path(__file__).with_name("gazenerf_lists.json").read_text(encoding="utf-8"))


def published_name(kind: str, persons: Iterable[str] = ()) -> str | None:
    """The published name of a data set; None of any other.

    Args:
        kind: of its source.
        persons: of it; files of GazeNeRF are named after their data sets.
    """
    if kind != "gazenerf_hdf5":
        return SETS.get(kind)
    found = {re.sub(r"_?(subject)?\d*$", "", person) for person in persons}
    name = found.pop() if len(found) == 1 else ""
    return name if name in lists()["targets"] else None


def listed_persons(name: str | None, part: str, persons: Sequence[str]) -> list[str]:
    """Who of ``persons`` is in a part of the published split; all where it names nobody."""
    numbers = lists()["persons"][part].get(name)
    if numbers is None:
        return list(persons)
    known = set(numbers)
    return [one for one in persons if (m := _NUMBER.search(one)) and int(m[1]) in known]


def listed_split(name: str | None, persons: Sequence[str]) -> dict[str, list[str]]:
    """The published split; everybody is tested on of sets that nothing was trained on.

    Persons of no list, as those of sets that are not published, are in ``train``.
    """
    if name is None:
        return {"train": list(persons), "val": [], "test": []}
    trained = listed_persons(name, "train", persons) if name in lists()["persons"]["train"] else []
    tested = [one for one in listed_persons(name, "test", persons) if one not in trained]
    return {"train": trained, "val": [], "test": tested}


def listed_pairs(
    name: str | None, rows: int, most: int, *, seed: int = 0, dataset: str = ""
) -> list[tuple[int, int]]:
    """Pairs (source, target) of a person, as numbers of rows.

    Of other data sets the rule is the same and the list drawn: sources are the first half of the
    pictures of the person with the fewest, targets the second half in an order of chance.

    Args:
        name: the published name.
        rows: pictures of the person with the fewest, where the list is drawn.
        most: only the first so many.
        seed, dataset: what the draw depends on.
    """
    if name is not None:
        targets = lists()["targets"][name]
    else:
        half = rows // 2
        rng = np.random.default_rng([seed, zlib.crc32(dataset.encode()), zlib.crc32(b"listed")])
        targets = (half + rng.permutation(half)).tolist()
    return list(enumerate(targets))[:most]
