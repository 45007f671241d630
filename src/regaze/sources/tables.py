"""CSV tables of photos that users bring: a file name, then numbers.

Tables can be large (136 numbers of landmarks for each of a million photos), so a table is gone
through once for where each person's lines are, and then read one person at a time.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regaze.sources.records import SourceError
from regaze.sources.regular import open_regular

NAME = "file_name"
EVERYBODY = "*"
"""File name of a line that holds for every photo; ``<person>/*`` is one for a person's."""

LANDMARKS = tuple(f"{axis}{number}" for number in range(68) for axis in "xy")
"""Columns of a landmarks table: x0, y0, ..., x67, y67, pixels of the photo as it is shown, which
is turned as its EXIF data say; iBUG-68 order."""

_MOST_BYTES = 1 << 20
"""Length of a line above which the file is taken for no CSV."""


class Table:
    """A CSV of numbers by photo, UTF-8, with a header.

    The column ``file_name`` holds names below the data set's root with forward slashes. The other
    columns must be those of one of ``layouts``, in any order. An empty cell is NaN.

    Args:
        path: the CSV.
        layouts: sets of columns that are understood.
        person: the one person whom every line belongs to; None where the first folder of a file
            name is the person.
        positive: columns that must be above 0. Where there are any, every number must be finite.

    Attributes:
        columns: the layout of this file.

    Raises:
        SourceError: the file is missing or its header is none of the layouts.
    """

    def __init__(
        self,
        path: str | Path,
        layouts: Sequence[tuple[str, ...]],
        person: str | None = None,
        positive: tuple[str, ...] = (),
    ):
        self.path = Path(path)
        self._person = person
        self._positive = positive
        self._lines: dict[str, tuple[array, array]] | None = None
        try:
            with open_regular(self.path) as file:
                header = self._fields(_line(file), 1)
                self._start = file.tell()
        except OSError as error:
            raise SourceError(
                f"{self.path}: expected a CSV table, found none ({error.strerror or error})"
            ) from error
        header[0] = header[0].removeprefix("\ufeff")
        header = [one.strip() for one in header]
        for layout in layouts:
            if sorted(header) == sorted((NAME, *layout)):
                self.columns = layout
                self._order = [header.index(one) for one in layout]
                self._name = header.index(NAME)
                self._width = len(header)
                return
        wanted = " or ".join(_shortened((NAME, *layout)) for layout in layouts)
        raise SourceError(
            f"{self.path}: line 1: expected the columns {wanted}, found {_shortened(header)}"
        )

    @property
    def persons(self) -> list[str]:
        """Names of those who have lines of their own, sorted."""
        return sorted(set(self._index()) - {EVERYBODY})

    def read(self, person: str) -> dict[str, np.ndarray]:
        """Return the numbers of a person's lines by file name, in the order of :attr:`columns`.

        Lines of ``*`` are among them.

        Raises:
            SourceError: a line has another number of fields, a field is no number or out of
                range, or a file has two lines; the message names file, line and column.
        """
        index = self._index()
        values: dict[str, np.ndarray] = {}
        seen: dict[str, int] = {}
        with open_regular(self.path) as file:
            for key in dict.fromkeys((EVERYBODY, person)):
                for offset, number in zip(*index.get(key, ((), ())), strict=True):
                    file.seek(offset)
                    fields = self._fields(_line(file), number)
                    name = fields[self._name].strip()
                    if name in seen:
                        raise SourceError(
                            f"{self.path}: line {number}: {NAME}: expected one line for each "
                            f"file, found {name} in line {seen[name]} too"
                        )
                    seen[name] = number
                    values[name] = self._numbers(fields, number)
        return values

    def _index(self) -> dict[str, tuple[array, array]]:
        """Return offsets and numbers of the lines of each person."""
        if self._lines is not None:
            return self._lines
        lines: dict[str, tuple[array, array]] = {}
        with open_regular(self.path) as file:
            file.seek(self._start)
            number = 1
            while True:
                offset, raw = file.tell(), _line(file)
                number += 1
                if not raw:
                    break
                if not raw.strip():
                    continue
                name = self._name_of(raw, number)
                key = self._person or name.split("/", 1)[0]
                if name == EVERYBODY:
                    key = EVERYBODY
                offsets, numbers = lines.setdefault(key, (array("q"), array("q")))
                offsets.append(offset)
                numbers.append(number)
        self._lines = lines
        return lines

    def _name_of(self, raw: bytes, number: int) -> str:
        # Parsing 136 numbers to learn one name would be most of the time that a table takes.
        if self._name == 0 and b'"' not in raw and b"," in raw and len(raw) <= _MOST_BYTES:
            raw = raw.split(b",", 1)[0] + b"," * (self._width - 1)
        return self._fields(raw, number)[self._name].strip()

    def _fields(self, raw: bytes, number: int) -> list[str]:
        where = f"{self.path}: line {number}"
        if len(raw) > _MOST_BYTES:
            raise SourceError(f"{where}: expected a line of CSV, found {len(raw)} bytes or more")
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
            fields = next(csv.reader([text], strict=True), [])
        except UnicodeDecodeError as error:
            raise SourceError(f"{where}: expected UTF-8, found {raw[:80]!r}") from error
        except csv.Error as error:
            raise SourceError(f"{where}: expected a line of CSV, found {error}") from error
        width = getattr(self, "_width", None)
        if not fields or (width is not None and len(fields) != width):
            wanted = "a header" if width is None else f"{width} fields"
            raise SourceError(f"{where}: expected {wanted}, found {len(fields)} fields")
        return fields

    def _numbers(self, fields: list[str], number: int) -> np.ndarray:
        values = np.empty(len(self.columns))
        for place, (column, source) in enumerate(zip(self.columns, self._order, strict=True)):
            text = fields[source].strip()
            try:
                value = float(text) if text else math.nan
            except ValueError:
                value = None
            wanted = "a number"
            if self._positive:
                wanted = "a number above 0" if column in self._positive else "a finite number"
                if value is not None and not self._in_range(column, value):
                    value = None
            if value is None:
                raise SourceError(
                    f"{self.path}: line {number}: {column}: expected {wanted}, found {text!r:.80}"
                )
            values[place] = value
        return values

    def _in_range(self, column: str, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or column not in self._positive)


def _line(file) -> bytes:
    return file.readline(_MOST_BYTES + 1)


def _shortened(columns: Sequence[str]) -> str:
    """Return column names for a message; landmarks have 137."""
    names = list(columns)
    if len(names) > 20:
        names = [*names[:4], "...", *names[-2:]]
    return f"{', '.join(names):.400}"
