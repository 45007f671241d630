"""An atlas: a face drawn beforehand for a grid of gaze directions."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from regaze.page.faces import Shown
from regaze.redirect.angles import Request
from regaze.redirect.run import Redirection, Result

CELLS = 11
"""Directions per axis, an odd number so that one looks straight ahead."""
REACH = (15.0, 20.0)
"""Degrees of pitch and yaw from the middle of the grid to its rim."""
MOST_BYTES = 3_500_000
"""Bytes of one atlas' pictures, which Base64 makes a third larger."""
_QUALITIES = (88, 80, 70, 55, 40)
_BLOCK = 16
"""Cells are of whole blocks of the codec, so that none bleeds into its neighbour."""


@dataclass(frozen=True, eq=False)
class Atlas:
    """A face's pictures for a grid of directions.

    Attributes:
        base: WebP of the source as it is shown, of ``size`` (width, height).
        cells: WebP of all cells in rows of ``columns``, each of ``box``.
        box: left, top, width, height in the source of what cells show.
        pitches, yaws: degrees of the rows, from up to down, and of the columns, from the picture's
            left to its right; a cell is number ``row * columns + column``.
        used: (cells, 2) degrees that the model was asked for, within what it was trained on.
        measured: (cells, 2) degrees that an estimator read, or None.
        eyes: x, y in the source of the point between the eyes.
        gaze: (2,) degrees of the source.
    """

    base: bytes
    cells: bytes
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    pitches: list[float]
    yaws: list[float]
    used: np.ndarray
    measured: np.ndarray | None
    eyes: tuple[float, float]
    gaze: np.ndarray


def directions(reach: tuple[float, float] = REACH, cells: int = CELLS):
    """Pitches from up to down and yaws from the picture's left to its right, degrees."""
    return (list(np.linspace(one, -one, cells)) for one in reach)


def make_atlas(
    shown: Shown,
    engine: Redirection,
    *,
    reach: tuple[float, float] = REACH,
    cells: int = CELLS,
    source_gaze=None,
    mode: str = "difference",
) -> Atlas:
    """Redirect a face to all directions of a grid.

    Args:
        shown: the face.
        engine: the model, and the estimator that measures.
        reach: degrees of pitch and yaw to the rim.
        cells: directions per axis.
        source_gaze: pitch, yaw in degrees instead of labels or an estimate.
        mode: how the face is put back, see :func:`regaze.redirect.paste.paste`.

    Raises:
        ValueError: the gaze of the source is unknown, or the pictures are too many for one page.
    """
    pitches, yaws = directions(reach, cells)
    wanted = [Request((pitch, yaw)) for pitch in pitches for yaw in yaws]
    results, about = engine.redirect(shown.place, wanted, source_gaze=source_gaze, mode=mode)
    source = shown.picture
    pictures = [_shown(one, source) for one in results]
    box = _changed(source, pictures)
    left, top, width, height = box
    tiles = np.stack([one[top : top + height, left : left + width] for one in pictures])
    return Atlas(
        base=_webp(source, 92),
        cells=_sheet(tiles, cells),
        size=(source.shape[1], source.shape[0]),
        box=box,
        pitches=pitches,
        yaws=yaws,
        used=np.array([one.facts["target_gaze_deg"] for one in results]),
        measured=_measured(results),
        eyes=eyes_of(shown),
        gaze=np.array(about["source_gaze_deg"]),
    )


def eyes_of(shown: Shown) -> tuple[float, float]:
    """x, y in the shown picture of the point between the eyes; by the layout where unknown."""
    place = shown.place
    height, width = place.patch.shape[:2]
    if place.landmarks is None:
        middle = np.array([width / 2, height * 0.31])
    else:
        middle = place.landmarks[36:48].mean(axis=0)
    if place.photo is None or place.view is None:
        return float(middle[0]), float(middle[1])
    there = place.view.to_photo(middle[None])[0]
    return float(there[0]), float(there[1])


def _shown(one: Result, source: np.ndarray) -> np.ndarray:
    """A result as large as the source: in its photo, or the model's picture enlarged."""
    if one.pasted is not None:
        return one.pasted
    size = (source.shape[1], source.shape[0])
    return np.asarray(Image.fromarray(one.patch).resize(size, Image.Resampling.BICUBIC))


def _changed(source: np.ndarray, pictures: list[np.ndarray]) -> tuple[int, int, int, int]:
    """Left, top, width, height of what any picture changes, in whole blocks where they fit."""
    where = np.zeros(source.shape[:2], bool)
    for one in pictures:
        where |= (one != source).any(axis=2)
    sides = []
    for axis, side in ((0, source.shape[1]), (1, source.shape[0])):
        at = np.flatnonzero(where.any(axis=axis))
        first, last = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, min(_BLOCK, side))
        length = min(-(-(last - first) // _BLOCK) * _BLOCK, side)
        sides.append((min(first, side - length), length))
    (left, width), (top, height) = sides
    return left, top, width, height


def _measured(results: list[Result]) -> np.ndarray | None:
    read = [one.facts.get("measured_photo") or one.facts.get("measured_patch") for one in results]
    if any(one is None for one in read):
        return None
    return np.array([[np.nan if v is None else v for v in one["gaze_deg"]] for one in read])


def _sheet(tiles: np.ndarray, columns: int) -> bytes:
    """WebP of cells (N, h, w, 3) in rows of ``columns``, as good as :data:`MOST_BYTES` allow."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    sheet = tiles.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    sheet = sheet.reshape(rows * height, columns * width, 3)
    if max(sheet.shape) > 16383:
        raise ValueError(
            f"atlas: {count} cells of {width} x {height} pixels are more than one picture can be; "
            "expected fewer cells"
        )
    for quality in _QUALITIES:
        made = _webp(sheet, quality)
        if len(made) <= MOST_BYTES:
            return made
    raise ValueError(
        f"atlas: {count} cells of {width} x {height} pixels take {len(made) / 1e6:.1f} MB; "
        f"expected at most {MOST_BYTES / 1e6:.1f}: ask for fewer"
    )


def _webp(picture: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()
