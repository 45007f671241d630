"""The checks every head model passes before anything is computed with it."""

from __future__ import annotations

import numpy as np

_LANDMARKS = (
    ("static_lmk_faces_idx", "static_lmk_bary_coords", (51,)),
    ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords", (79, 17)),
    ("full_lmk_faces_idx", "full_lmk_bary_coords", (1, 68)),
)


def check_arrays(model, where: str) -> None:
    """Check all arrays of a :class:`regaze.face3d.model.FlameModel`.

    Raises:
        ValueError: the first thing found wrong, with the array's name, what was expected and what
            was found.
    """
    check = _Checker(model, where)
    vertices, faces = len(model.v_template), len(model.f)
    check.shape("v_template", (vertices, 3))
    check.expect(vertices >= 4, "v_template", "at least 4 vertices", vertices)
    size = float(np.ptp(model.v_template, axis=0).max())
    check.expect(0.01 < size < 3, "v_template", "a head in metres", f"an extent of {size:.4g}")
    check.shape("f", (faces, 3))
    check.index("f", vertices)
    check.shape("shapedirs", (vertices, 3, model.shapedirs.shape[-1]))
    total = model.shapedirs.shape[-1]
    check.expect(
        0 < model.n_shape_total < total,
        "n_shape_total",
        f"a count between 1 and {total - 1} (shapedirs has {total} directions)",
        model.n_shape_total,
    )
    for name, part in (
        ("identity", model.shapedirs[:, :, : model.n_shape_total]),
        ("expression", model.shapedirs[:, :, model.n_shape_total :]),
    ):
        check.expect(part.any(), "shapedirs", f"{name} directions that move vertices", "zeros only")
    check.shape("posedirs", (vertices, 3, 36))
    check.shape("J_regressor", (5, vertices))
    check.sums("J_regressor")
    check.shape("weights", (vertices, 5))
    check.sums("weights")
    low = float(model.weights.min())
    check.expect(low >= -1e-6, "weights", "no negative weights", low)
    _tree(check, model)
    for index, bary, shape in _LANDMARKS:
        check.shape(index, shape)
        check.index(index, faces)
        check.shape(bary, (*shape, 3))
        check.sums(bary)
    if model.mediapipe_lmk_faces_idx is not None:
        count = len(model.mediapipe_lmk_faces_idx)
        check.index("mediapipe_lmk_faces_idx", faces)
        check.together("mediapipe_lmk_faces_idx", "mediapipe_lmk_bary_coords")
        check.shape("mediapipe_lmk_bary_coords", (count, 3))
        check.sums("mediapipe_lmk_bary_coords")
        if model.mediapipe_landmark_indices is not None:
            check.shape("mediapipe_landmark_indices", (count,))
            check.index("mediapipe_landmark_indices", 478)
    _texture(check, model, faces)
    _regions(check, model, vertices)
    names = ("plane", "plane_xy", "ring")
    if any(getattr(model, name) is not None for name in names):
        check.together(*names)
        count = len(model.plane)
        check.expect(4 <= count <= vertices, "plane", f"at most {vertices} rows", count)
        for name, shape in zip(names, ((count, 2), (count, 2), (count,)), strict=True):
            check.shape(name, shape)


class _Checker:
    def __init__(self, model, where: str):
        self.model, self.where = model, where

    def expect(self, good, name: str, expected: str, found) -> None:
        if not good:
            raise ValueError(f"{self.where}: {name}: expected {expected}, found {found}")

    def shape(self, name: str, shape: tuple[int, ...]) -> None:
        value = getattr(self.model, name)
        self.expect(value.shape == shape, name, f"shape {shape}", value.shape)
        if value.dtype.kind == "f":
            self.expect(np.isfinite(value).all(), name, "finite numbers", "NaN or infinity")

    def index(self, name: str, size: int) -> None:
        value = getattr(self.model, name)
        good = value.size and value.min() >= 0 and value.max() < size
        found = f"{value.min()}..{value.max()}" if value.size else "none"
        self.expect(good, name, f"rows in 0..{size - 1}", found)

    def sums(self, name: str) -> None:
        worst = float(np.abs(getattr(self.model, name).sum(-1) - 1).max())
        self.expect(worst < 2e-3, name, "rows that sum to one", f"a row off by {worst:.3g}")

    def together(self, *names: str) -> None:
        lacking = [name for name in names if getattr(self.model, name) is None]
        self.expect(not lacking, names[0], f"{' and '.join(names)}", f"no {', '.join(lacking)}")

    def limits(self, name: str, low: float, high: float) -> None:
        value = getattr(self.model, name)
        ends = float(value.min()), float(value.max())
        good = low <= ends[0] and ends[1] <= high
        self.expect(good, name, f"{low:g}..{high:g}", f"{ends[0]:.4g}..{ends[1]:.4g}")


def _tree(check: _Checker, model) -> None:
    check.shape("kintree_table", (2, 5))
    parents, joints = model.kintree_table
    good = parents[0] == -1 and all(0 <= parents[j] < j for j in range(1, 5))
    check.expect(good, "kintree_table", "parents before children, root -1", parents.tolist())
    check.expect(
        joints.tolist() == [0, 1, 2, 3, 4], "kintree_table", "joints 0..4", joints.tolist()
    )


def _texture(check: _Checker, model, faces: int) -> None:
    if model.uvcoords is not None or model.uvfaces is not None:
        check.together("uvcoords", "uvfaces")
        check.shape("uvcoords", (len(model.uvcoords), 2))
        check.limits("uvcoords", -1e-3, 1 + 1e-3)
        check.shape("uvfaces", (faces, 3))
        check.index("uvfaces", len(model.uvcoords))
    for name, low, high in (
        ("uv_face_mask", 0, 1),
        ("uv_face_eye_mask", 0, 1),
        ("fixed_displacement", -0.05, 0.05),
    ):
        value = getattr(model, name)
        if value is not None:
            check.shape(name, (256, 256))
            check.limits(name, low, high)
            if high == 1:
                check.expect(value.max() > 0.5, name, "a part of the chart", "none of it")
    if model.MU is not None or model.PC is not None:
        check.together("MU", "PC")
        side = len(model.MU)
        check.shape("MU", (side, side, 3))
        check.limits("MU", -0.5, 1.5)
        check.shape("PC", (side, side, 3, model.PC.shape[-1]))
        fault = texture_fault(model.MU, model.PC)
        if fault:
            raise ValueError(f"{check.where}: {fault}")


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


def _regions(check: _Checker, model, vertices: int) -> None:
    if model.regions is None:
        return
    check.shape("regions", (vertices,))
    names = list(model.meta.get("regions", []))
    check.expect(
        int(model.regions.max()) < len(names),
        "regions",
        f"values below {len(names)}, the number of names in meta",
        int(model.regions.max()),
    )
    for joint, name in ((3, "left_eye"), (4, "right_eye")):
        if name not in names:
            continue
        rows = model.regions == names.index(name)
        held = model.weights[rows]
        good = rows.any() and (held[:, joint] == 1).all() and np.abs(held).sum() == rows.sum()
        check.expect(good, "weights", f"one-hot rows on joint {joint} for {name}", "others")
