"""Pictures of a file: which of their channels is red, and the sheet that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from regaze.inspection.findings import Findings, InspectError
from regaze.normalise.contact_sheet import choose_rows, contact_sheet

SHARE = 0.75
"""So many of the pictures that show colour have to agree."""
COLOUR = 3.0
"""Grey levels between red and blue below which a picture is taken for grey."""


@dataclass(frozen=True)
class ChannelGuess:
    """Which channel holds red: ``rgb``, ``bgr`` or None, and by what evidence.

    ``first`` of ``coloured`` pictures have more in channel 0 than in channel 2, by ``difference``
    grey levels in the median over pictures; ``pictures`` were looked at.
    """

    order: str | None
    first: int
    coloured: int
    pictures: int
    difference: float

    @property
    def evidence(self) -> str:
        """The evidence in words."""
        if not self.coloured:
            return f"none of {self.pictures} pictures shows colour in its middle"
        return (
            f"in the middle, where skin is, {self.first} of {self.coloured} pictures have more in "
            f"channel 0 than in channel 2, median difference {self.difference:+.1f} grey levels; "
            "skin has more red than blue"
        )


def guess_channels(pictures: Sequence[np.ndarray]) -> ChannelGuess:
    """Guess the order of channels of pictures of faces (H,W,3) uint8 from the colour of skin.

    Skin of every tone reflects more red than blue. The middle of a face patch (of a strip of the
    eyes: all of it) is skin for the greater part; very dark and saturated pixels are left out.
    """
    differences = []
    for picture in pictures:
        height, width = picture.shape[:2]
        part = picture
        if width < 2 * height:
            part = picture[int(0.3 * height) : int(0.8 * height), int(0.25 * width) :]
            part = part[:, : max(1, int(0.5 * width))]
        part = part.reshape(-1, 3).astype(np.int16)
        bright = part.max(1)
        part = part[(bright > 30) & (bright < 252)]
        if len(part):
            differences.append(float(np.median(part[:, 0] - part[:, 2])))
    found = np.array(differences)
    coloured = found[np.abs(found) >= COLOUR]
    first = int((coloured > 0).sum())
    order = None
    if len(coloured) and len(coloured) >= len(pictures) / 4:
        share = first / len(coloured)
        order = "rgb" if share >= SHARE else "bgr" if share <= 1 - SHARE else None
    middle = float(np.median(coloured)) if len(coloured) else 0.0
    return ChannelGuess(order, first, len(coloured), len(pictures), middle)


@dataclass(frozen=True)
class Part:
    """Pictures of one person: pixels (n,H,W,3), label datasets side by side, landmarks if any."""

    name: str
    pixels: h5py.Dataset
    labels: tuple[h5py.Dataset, ...] = ()
    landmarks: h5py.Dataset | None = None


class Pictures:
    """All pictures of a file, read one by one; has what a contact sheet asks of a reader.

    Args:
        parts: by person.
        declared: order of channels that is known without looking, or None.
        declared_by: who says so.
    """

    def __init__(self, parts: Sequence[Part], declared: str | None, declared_by: str):
        self.parts = sorted(parts, key=lambda part: part.name)
        self.declared, self.declared_by = declared, declared_by
        self.guess: ChannelGuess | None = None
        self.persons = [part.name for part in self.parts]
        counts = [len(part.pixels) if part.pixels.ndim else 0 for part in self.parts]
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self.labels = _Lazy(self._label)
        self.person_of = _Lazy(lambda row: self._place(row)[0])
        self.row_of = _Lazy(lambda row: self._place(row)[1])

    def __len__(self) -> int:
        return int(self._start[-1])

    @property
    def patch_size(self) -> tuple[int, int]:
        """(width, height) of the first person's patches."""
        _, height, width, _ = self.parts[0].pixels.shape
        return int(width), int(height)

    def rows(self, persons: Sequence[str]) -> np.ndarray:
        """Return the numbers of the rows of persons."""
        codes = [self.persons.index(person) for person in persons]
        return np.concatenate([np.arange(*self._start[code : code + 2]) for code in codes])

    def dataset(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """Return rows of ``landmarks``; KeyError when there are none, as a faces reader."""
        found = []
        for row in rows:
            code, place = self._place(row)
            marks = self.parts[code].landmarks
            if name != "landmarks" or marks is None or marks.shape[1:] != (68, 2):
                raise KeyError(name)
            found.append(marks[place])
        return np.stack(found).astype(np.float64)

    def pixels(self, rows: Sequence[int]) -> np.ndarray:
        """Return pictures (n,H,W,3) red first, by the order declared or else guessed."""
        stored = np.stack([self._stored(row) for row in rows])
        return stored[..., ::-1] if self._order() == "bgr" else stored

    def look(self, found: Findings, count: int) -> None:
        """Guess the order of channels from ``count`` pictures and tell it in ``found``."""
        if not self._usable(found):
            self.parts = []
            return
        rows = choose_rows(self, count)
        self.guess = guess = guess_channels([self._stored(row) for row in rows])
        if not guess.pictures:
            found.fact("channel order", "unknown: there are no pictures")
            return
        shown = guess.order or "undecided"
        found.fact("channel order", f"{shown}, by {guess.pictures} pictures: {guess.evidence}")
        found.fact(
            "declared order",
            f"{self.declared}, by {self.declared_by}" if self.declared else "none",
        )
        if self.declared and guess.order and guess.order != self.declared:
            found.warn(
                f"channel order: {self.declared_by} says {self.declared}, the pictures look "
                f"{guess.order}; if they show faces, reds and blues are exchanged"
            )
        if not self.declared and guess.order == "bgr":
            found.warn(
                "channel order: the pictures look bgr and the file does not say so; readers take "
                "such a file for rgb unless they are told"
            )

    def draw(self, found: Findings, count: int, path: str | Path) -> None:
        """Draw ``count`` pictures with their labels as a PNG.

        Raises:
            InspectError: there is nothing to draw, or the PNG cannot be written.
        """
        if not self.parts or not len(self):
            raise InspectError(f"{found.path}: no pictures to draw a sheet of")
        order = self._order()
        who = f"as {self.declared_by} says" if self.declared else "as guessed"
        if not self.declared and (self.guess is None or self.guess.order is None):
            who = "assumed, since neither told nor visible"
        words = f"channels taken as {order}, {who}"
        try:
            contact_sheet(self, path, count=count, title=found.path.name, rejected=words)
        except OSError as error:
            # Errors of reading pictures name no file, those of writing always do.
            if error.filename is None:
                raise
            raise InspectError(f"{path}: the sheet cannot be written ({error})") from error
        found.fact("contact sheet", f"{path}: {min(count, len(self))} pictures, {words}")

    def _order(self) -> str:
        return self.declared or (self.guess.order if self.guess else None) or "rgb"

    def _usable(self, found: Findings) -> bool:
        from regaze.inspection.hdf5_files import MAX_ROWS, require_small_chunks

        if self.declared not in (None, "rgb", "bgr"):
            found.warn(f"channel_order: expected rgb or bgr, found {self.declared}")
            self.declared = None
        sizes = set()
        for part in self.parts:
            data, where = part.pixels, f"{part.name}/pixels"
            form = data.ndim == 4 and data.shape[-1] == 3 and 0 not in data.shape[1:]
            if not form or data.dtype != np.uint8:
                found.warn(f"{where}: expected NxHxWx3 uint8, found {data.shape} {data.dtype}")
                return False
            if len(data) > MAX_ROWS:
                found.warn(f"{where}: claims {len(data):,} rows; pictures were not looked at")
                return False
            for one in (data, *part.labels):
                require_small_chunks(one, where)
            sizes.add(data.shape[1:3])
        if len(sizes) > 1:
            found.warn(f"patches differ in size (height, width): {sorted(sizes)}")
            return False
        return True

    def _place(self, row: int) -> tuple[int, int]:
        code = int(np.searchsorted(self._start, row, side="right")) - 1
        return code, int(row - self._start[code])

    def _stored(self, row: int) -> np.ndarray:
        code, place = self._place(row)
        return self.parts[code].pixels[place]

    def _label(self, row: int) -> np.ndarray:
        """Return (4,) gaze and head in radians; NaN where the file tells none."""
        code, place = self._place(row)
        known = [np.atleast_1d(data[place])[:4] for data in self.parts[code].labels]
        label = np.concatenate([*known, np.full(4, np.nan)])[:4]
        return label.astype(np.float64)


class _Lazy(SimpleNamespace):
    """An array of which single entries are computed when they are asked for."""

    def __init__(self, of):
        super().__init__(of=of)

    def __getitem__(self, row):
        return self.of(row)
