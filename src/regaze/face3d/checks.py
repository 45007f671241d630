"""The checks every head model passes before anything is computed with it."""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """What an array of a head model has to be.

    Attributes:
        shape: numbers, or letters that stand for the same number in all arrays.
        kind: type of its numbers.
        below: its numbers are rows of a list of this length, or of what the letter stands for.
        limits: least and largest number.
        sums: whether its rows sum to one.
    """

    shape: tuple[int | str, ...]
    kind: type = np.float32
    below: int | str | None = None
    limits: tuple[float, float] | None = None
    sums: bool = False


def _corners(*shape: int | str, kind: type = np.float32) -> Layout:
    return Layout((*shape, 3), kind, sums=True)


LAYOUTS = {
    "v_template": Layout(("V", 3)),
    "f": Layout(("F", 3), np.int64, below="V"),
    "shapedirs": Layout(("V", 3, "D")),
    "posedirs": Layout(("V", 3, 36)),
    "J_regressor": Layout((5, "V"), np.float64, sums=True),
    "weights": Layout(("V", 5), sums=True),
    "kintree_table": Layout((2, 5), np.int64),
    "static_lmk_faces_idx": Layout((51,), np.int64, below="F"),
    "static_lmk_bary_coords": _corners(51, kind=np.float64),
    "dynamic_lmk_faces_idx": Layout((79, 17), np.int64, below="F"),
    "dynamic_lmk_bary_coords": _corners(79, 17),
    "full_lmk_faces_idx": Layout((1, 68), np.int64, below="F"),
    "full_lmk_bary_coords": _corners(1, 68),
    "mediapipe_lmk_faces_idx": Layout(("L",), np.int64, below="F"),
    "mediapipe_lmk_bary_coords": _corners("L"),
    "mediapipe_landmark_indices": Layout(("L",), np.int64, below=478),
    "uvcoords": Layout(("T", 2), limits=(-1e-3, 1 + 1e-3)),
    "uvfaces": Layout(("F", 3), np.int64, below="T"),
    "uv_face_mask": Layout((256, 256), limits=(0, 1)),
    "uv_face_eye_mask": Layout((256, 256), limits=(0, 1)),
    "fixed_displacement": Layout((256, 256), limits=(-0.05, 0.05)),
    "MU": Layout(("R", "R", 3), limits=(-0.5, 1.5)),
    "PC": Layout(("R", "R", 3, "K")),
    "regions": Layout(("V",), np.uint8),
    "plane": Layout(("N", 2)),
    "plane_xy": Layout(("N", 2)),
    "ring": Layout(("N",)),
}
"""Arrays of :class:`regaze.face3d.model.FlameModel`: V vertices, F triangles, D directions, T
texture coordinates, R texels a side, K directions of texture, L landmarks, N vertices of skin."""

_TOGETHER = (
    ("mediapipe_lmk_faces_idx", "mediapipe_lmk_bary_coords"),
    ("uvcoords", "uvfaces"),
    ("MU", "PC"),
    ("plane", "plane_xy", "ring"),
)


def check_arrays(model, where: str) -> None:
    """Check all arrays of a :class:`regaze.face3d.model.FlameModel`.

    Raises:
        ValueError: the first thing found wrong, with the array's name, what was expected and what
            was found.
    """

    def expect(good, name: str, expected: str, found) -> None:
        if not good:
            raise ValueError(f"{where}: {name}: expected {expected}, found {found}")

    arrays = {n: getattr(model, n) for n in LAYOUTS if getattr(model, n) is not None}
    for names in _TOGETHER:
        lacking = [name for name in names if name not in arrays]
        good = len(lacking) in (0, len(names))
        expect(good, names[0], " and ".join(names), f"no {', '.join(lacking)}")
    sizes: dict[str, int] = {}
    for name, value in arrays.items():
        _check_array(expect, name, value, sizes)
    vertices, total = sizes["V"], sizes["D"]
    expect(vertices >= 4, "v_template", "at least 4 vertices", vertices)
    size = float(np.ptp(model.v_template, axis=0).max())
    expect(0.01 < size < 3, "v_template", "a head in metres", f"an extent of {size:.4g}")
    count = f"a count between 1 and {total - 1} (shapedirs has {total} directions)"
    expect(0 < model.n_shape_total < total, "n_shape_total", count, model.n_shape_total)
    identity, expression = np.split(model.shapedirs, [model.n_shape_total], 2)
    for name, part in (("identity", identity), ("expression", expression)):
        expect(part.any(), "shapedirs", f"{name} directions that move vertices", "zeros only")
    low = float(model.weights.min())
    expect(low >= -1e-6, "weights", "no negative weights", low)
    parents, joints = model.kintree_table.tolist()
    good = parents[0] == -1 and all(0 <= parents[j] < j for j in range(1, 5))
    expect(good, "kintree_table", "parents before children, root -1", parents)
    expect(joints == [0, 1, 2, 3, 4], "kintree_table", "joints 0..4", joints)
    for name in {"uv_face_mask", "uv_face_eye_mask"} & arrays.keys():
        expect(arrays[name].max() > 0.5, name, "a part of the chart", "none of it")
    if model.MU is not None and (fault := texture_fault(model.MU, model.PC)):
        raise ValueError(f"{where}: {fault}")
    if model.plane is not None:
        expect(4 <= sizes["N"] <= vertices, "plane", f"at most {vertices} rows", sizes["N"])
    if model.regions is not None:
        _check_regions(expect, model)


def _check_array(expect, name: str, value: np.ndarray, sizes: dict[str, int]) -> None:
    """Check one array by :data:`LAYOUTS`; letters that were not met before go into ``sizes``."""
    layout = LAYOUTS[name]
    sides = zip_longest(layout.shape, value.shape[: len(layout.shape)], fillvalue=0)
    wanted = tuple(sizes.setdefault(s, n) if isinstance(s, str) else s for s, n in sides)
    expect(value.shape == wanted, name, f"shape {wanted}", value.shape)
    if value.dtype.kind == "f":
        expect(np.isfinite(value).all(), name, "finite numbers", "NaN or infinity")
    if layout.below is not None:
        size = sizes.get(layout.below, layout.below)
        ends = f"{value.min()}..{value.max()}" if value.size else "none"
        good = value.size and value.min() >= 0 and value.max() < size
        expect(good, name, f"rows in 0..{size - 1}", ends)
    if layout.sums:
        worst = float(np.abs(value.sum(-1) - 1).max())
        expect(worst < 2e-3, name, "rows that sum to one", f"a row off by {worst:.3g}")
    if layout.limits is not None:
        low, high = layout.limits
        ends = float(value.min(initial=high)), float(value.max(initial=low))
        good = low <= ends[0] and ends[1] <= high
        expect(good, name, f"{low:g}..{high:g}", f"{ends[0]:.4g}..{ends[1]:.4g}")


def texture_fault(
    mean: np.ndarray, basis: np.ndarray, names: tuple[str, str] = ("MU", "PC")
) -> str:
    """What is wrong with the numbers of a texture, in 0..1; "" if nothing is.

    A file made of the BFM without its data holds zeros; one whose unit is not that of its layout
    looks the same.

    Args:
        mean, basis: (R, R, 3), (R, R, 3, K).
        names: what they are called.
    """
    if not (mean.size and basis.size):
        return f"{names[0]}, {names[1]}: expected a texture, found empty arrays"
    ends = float(mean.min()), float(mean.max())
    if not ends[1] > 0.05:
        return (
            f"{names[0]}: expected the colours of a face, in 0..1 once scaled, found "
            f"{ends[0]:.4g}..{ends[1]:.4g}"
        )
    largest = np.abs(basis).reshape(-1, basis.shape[-1]).max(0)
    if not (largest > 0).all():
        flat = np.flatnonzero(~(largest > 0))
        return (
            f"{names[1]}: expected directions that change colours, found {len(flat)} of "
            f"{len(largest)} without a number but zero, the first is {flat[0]}"
        )
    return ""


def _check_regions(expect, model) -> None:
    names, last = list(model.meta.get("regions", [])), int(model.regions.max())
    allowed = f"values below {len(names)}, the number of names in meta"
    expect(last < len(names), "regions", allowed, last)
    for joint, name in ((3, "left_eye"), (4, "right_eye")):
        if name not in names:
            continue
        rows = model.regions == names.index(name)
        held = model.weights[rows]
        good = rows.any() and (held[:, joint] == 1).all() and np.abs(held).sum() == rows.sum()
        expect(good, "weights", f"one-hot rows on joint {joint} for {name}", "others")
