"""Pictures of a file: which of their channels is red, and the sheet that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.inspection.findings import Findings, InspectError
from regaze.normalise.contact_sheet import Tile, draw_sheet, spread
from regaze.sources.hdf5 import chunk_bytes

MAX_ROWS = 10_000_000
"""Of one dataset that are looked at; all of GazeCapture has 1.5 million."""
CHUNK_BYTES = 1 << 28
"""Largest piece that is unpacked at once; a header can claim any."""
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

    def tile(self, row: int, order: str) -> Tile:
        """What a contact sheet shows of a row."""
        known = [np.atleast_1d(data[row])[:4] for data in self.labels]
        label = np.concatenate([*known, np.full(4, np.nan)])[:4].astype(np.float64)
        marks = self.landmarks
        marks = None if marks is None or marks.shape[1:] != (68, 2) else np.float64(marks[row])
        picture = self.pixels[row]
        picture = np.ascontiguousarray(picture[..., ::-1]) if order == "bgr" else picture
        return Tile(picture, label, marks, f"{self.name}  row {row}")


class Pictures:
    """All pictures of a file, read one by one.

    Args:
        parts: by person.
        declared: order of channels that is known without looking, or None.
        declared_by: who says so.
    """

    def __init__(self, parts: Sequence[Part], declared: str | None, declared_by: str):
        self.parts = sorted(parts, key=lambda part: part.name)
        self.declared, self.declared_by = declared, declared_by
        self.guess: ChannelGuess | None = None
        self._shown: list[tuple[Part, int]] = []

    def look(self, found: Findings, count: int) -> None:
        """Guess the order of channels from ``count`` pictures and tell it in ``found``."""
        if not self._usable(found):
            return
        chosen = spread([len(part.pixels) for part in self.parts], count)
        self._shown = [(self.parts[person], int(row)) for person, rows in chosen for row in rows]
        self.guess = guess = guess_channels([part.pixels[row] for part, row in self._shown])
        if not guess.pictures:
            found.fact("channel order", "unknown: there are no pictures")
            return
        shown = guess.order or "undecided"
        found.fact("channel order", f"{shown}, by {guess.pictures} pictures: {guess.evidence}")
        said = f"{self.declared}, by {self.declared_by}" if self.declared else "none"
        found.fact("declared order", said)
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

    def draw(self, found: Findings, path: str | Path) -> None:
        """Draw the pictures that were looked at with their labels as a PNG.

        Raises:
            InspectError: there is nothing to draw, or the PNG cannot be written.
        """
        if not self._shown:
            raise InspectError(f"{found.path}: no pictures to draw a sheet of")
        order = self.declared or (self.guess.order if self.guess else None)
        who = f"as {self.declared_by} says" if self.declared else "as guessed"
        if order is None:
            order, who = "rgb", "assumed, since neither told nor visible"
        words = f"channels taken as {order}, {who}"
        _, height, width, _ = self.parts[0].pixels.shape
        total = sum(len(part.pixels) for part in self.parts)
        try:
            draw_sheet(
                (part.tile(row, order) for part, row in self._shown),
                len(self._shown),
                (width, height),
                path,
                title=found.path.name,
                counts=f"{total} patches of {len(self.parts)} persons",
                words=words,
            )
        except OSError as error:
            # Errors of reading pictures name no file, those of writing always do.
            if error.filename is None:
                raise
            raise InspectError(f"{path}: the sheet cannot be written ({error})") from error
        found.fact("contact sheet", f"{path}: {len(self._shown)} pictures, {words}")

    def _usable(self, found: Findings) -> bool:
        if self.declared not in (None, "rgb", "bgr"):
            found.warn(f"channel_order: expected rgb or bgr, found {self.declared}")
            self.declared = None
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
        sizes = {part.pixels.shape[1:3] for part in self.parts}
        if len(sizes) > 1:
            found.warn(f"patches differ in size (height, width): {sorted(sizes)}")
        return len(sizes) < 2


def require_small_chunks(data: h5py.Dataset, where: str) -> None:
    """Raise InspectError when a single row cannot be read within bounded memory."""
    size = chunk_bytes(data)
    if size > CHUNK_BYTES:
        told = f"pieces of {size:.3g} bytes; expected at most {CHUNK_BYTES}"
        raise InspectError(f"{data.file.filename}: {where}: {told}")
