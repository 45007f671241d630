"""The table of 3-D face codes: their names, lengths and order; importable without torch.

The parts and their order are those of DECA (Feng et al. 2021; ``yfeng95/DECA``), with the detail
code last.
"""

from __future__ import annotations

from collections.abc import Sequence

CODES = {
    "shape": 100,
    "texture": 50,
    "expression": 50,
    "pose": 6,
    "camera": 3,
    "light": 27,
    "detail": 128,
}
"""Columns of codes and their lengths: identity, albedo, expression, axis-angles of head and jaw
(radians), camera (scale, x, y), nine lighting terms by three colours, and the detail code."""

SHORT = {"tex": "texture", "exp": "expression", "cam": "camera"}
"""Names of codes in the networks of :mod:`regaze.face3d` where columns have others."""

DEFAULT_PARTS = ("shape", "expression", "pose")
"""Parts that methods are told unless others are asked for: 156 numbers."""


TARGET_CODES = {
    "source": "gaze and head angles",
    "target": "gaze and head angles; the target photo's own 3-D code (upper bound)",
    "target_pose_only": "gaze and head angles; the head rotation in the target photo's 3-D code",
}
"""Whose code the target frame is told, and what a method so told knows about the target.

``source``: the source's, turned from its head label to the target's. ``target``: that of the
target photo, which shows an upper bound and is not comparable with methods told angles alone.
``target_pose_only``: the source's, with the target photo's rotation of the head in it; jaw and
all else stay the source's."""


def code_parts(parts: Sequence[str] = DEFAULT_PARTS) -> tuple[str, ...]:
    """Return names of parts, long (``expression``) or short (``exp``), in DECA's order.

    Raises:
        ValueError: an unknown or repeated part, or none.
    """
    names = [SHORT.get(name, name) for name in parts]
    unknown = [name for name in names if name not in CODES]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"code parts: expected different ones of {', '.join(CODES)}, found {list(parts)}"
        )
    return tuple(name for name in CODES if name in names)


def code_columns(parts: Sequence[str] = DEFAULT_PARTS) -> dict[str, slice]:
    """Where each part stands in a code row, in order; the last slice ends at the row's length."""
    columns, start = {}, 0
    for name in code_parts(parts):
        columns[name] = slice(start, start + CODES[name])
        start += CODES[name]
    return columns


def code_dim(parts: Sequence[str] = DEFAULT_PARTS) -> int:
    """Numbers in a code row."""
    return sum(CODES[name] for name in code_parts(parts))
