"""Albums: pictures of evaluated persons from which models of their own are trained.

An album is a list of rows that no evaluation pair has, drawn once for all methods. Light: the
configuration imports it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from regaze.outputs import write_json

if TYPE_CHECKING:
    from regaze.faces import FacesReader

_LEFT = 2
"""Rows of a person that are no part of the album at least: a pair of pictures."""


class AlbumSettings(BaseModel):
    """The section ``evaluation.albums``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(20, ge=1, description="pictures of an album")
    persons: int | None = Field(
        None,
        ge=1,
        description="evaluated persons that have one; nobody else is evaluated then. null: all "
        "that have pictures enough",
    )


def draw_albums(
    reader: FacesReader,
    persons: Sequence[str],
    *,
    size: int,
    people: int | None,
    seed: int,
    dataset: str,
) -> dict[str, list[int]]:
    """Draw albums: rows of a person, in the order in which a smaller album has them.

    Rows of a person depend on (seed, data set, person) alone, so that a larger ``size`` only adds
    to an album, and larger ``people`` only add albums.

    Args:
        reader: faces of the data set.
        persons: whom to draw from; those with too few pictures are passed over.
        size: rows of an album.
        people: albums; None: of all persons.
        seed: of the choice.
        dataset: its name, part of the seed.

    Raises:
        ValueError: fewer than ``people``, or nobody, have ``size`` pictures and two more.
    """
    name = zlib.crc32(dataset.encode())
    able = [person for person in persons if reader.count(person) >= size + _LEFT]
    if len(able) < (people or 1):
        raise ValueError(
            f"evaluation.albums: expected {people or 1} persons with {size} pictures and {_LEFT} "
            f"more to be evaluated on, found {len(able)} of {len(persons)} in {reader.paths[0]}"
        )
    order = np.random.default_rng([seed, name]).permutation(len(persons))
    found = {}
    for person in [persons[place] for place in order if persons[place] in able][:people]:
        rng = np.random.default_rng([seed, name, zlib.crc32(person.encode())])
        found[person] = rng.permutation(reader.count(person))[:size].tolist()
    return found


def write_albums(path: str | PathLike, albums: Mapping[str, Sequence[int]]) -> None:
    """Write albums as JSON: rows by person."""
    write_json(path, albums)


def read_albums(path: str | PathLike | None) -> dict[str, list[int]]:
    """Rows by person, nobody where there is no file of them."""
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def free_rows(reader: FacesReader, person: str, albums: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Rows (n,) of a person, counted from the first of their own, that are in no album."""
    return np.setdiff1d(np.arange(reader.count(person)), albums.get(person, ()))


def evaluated_persons(persons: Sequence[str], albums: Mapping[str, Sequence[int]]) -> Sequence[str]:
    """Those of a list who are evaluated: where there are albums, who has one."""
    return [person for person in persons if person in albums] if albums else persons
