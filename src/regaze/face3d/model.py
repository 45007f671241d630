"""Head models in FLAME's format as plain arrays: check, save, load, convert once.

Licensed files are read by :mod:`regaze.face3d.pickles` and converted to an ``.npz`` without
pickles; the procedural head of :mod:`regaze.capture.head` has the same arrays. Names and meaning
are those of FLAME (Li et al. 2017, Learning a model of facial shape and expression from 4D scans)
and of the asset list of ``yfeng95/DECA``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from regaze.face3d.checks import LAYOUTS, check_arrays
from regaze.filetypes import read_npz
from regaze.outputs import replacing


@dataclass(frozen=True)
class FlameModel:
    """Arrays of a head model in FLAME's format; V vertices, F triangles, T texture coordinates.

    Attributes:
        v_template: (V, 3) float32 m, +x the subject's left, +y up, +z out of the face.
        f: (F, 3) int64, counter-clockwise from outside.
        shapedirs: (V, 3, S + E) float32, ``n_shape_total`` = S identity directions first.
        posedirs: (V, 3, 36) float32 pose correctives, nine per joint but the root.
        J_regressor: (5, V) float64, rows sum to one; joints are root, neck, jaw, left eye, right
            eye.
        weights: (V, 5) float32 skinning weights, rows sum to one.
        kintree_table: (2, 5) int64: parents (root -1), joints.
        n_shape_total: number of identity directions.
        static_lmk_faces_idx, static_lmk_bary_coords: (51,), (51, 3): landmarks 17 to 67.
        dynamic_lmk_faces_idx, dynamic_lmk_bary_coords: (79, 17), (79, 17, 3): the contour, by yaw.
        full_lmk_faces_idx, full_lmk_bary_coords: (1, 68), (1, 68, 3).
        uvcoords, uvfaces: (T, 2) in 0..1, v up, and (F, 3), or None.
        uv_face_mask, uv_face_eye_mask, fixed_displacement: (256, 256) or None; masks 0..1,
            displacement in m; row 0 is v = 1.
        MU, PC: mean (R, R, 3) and basis (R, R, 3, K) of the albedo in 0..1, row 0 is v = 1, or
            None.
        texture_rgb: whether the last axis of MU is RGB; FLAME's files are BGR.
        regions: (V,) uint8 or None; values index ``meta["regions"]``.
        mediapipe_lmk_faces_idx, mediapipe_lmk_bary_coords, mediapipe_landmark_indices: (L,),
            (L, 3), (L,) of EMOCA v2's embedding, or None.
        plane, plane_xy, ring: (n, 2) mm, (n, 2) mm, (n,) of the skin's n vertices, which come
            first, or None. The capture needs them: coordinates on the template's unrolled skin,
            their frontal position, and the ring about an eye (``regaze.capture.surface.RINGS``;
            9 elsewhere).
        meta: where the model comes from; ``source`` is ``flame``, ``synthetic`` or ``ict``, and
            ``regions`` and ``expressions`` are names. The capture reads ``feminine`` codes,
            ``eye_radius`` in mm and ``expression_groups``, see
            :func:`regaze.capture.subject.draw_look`.
    """

    v_template: np.ndarray
    f: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    weights: np.ndarray
    kintree_table: np.ndarray
    n_shape_total: int
    static_lmk_faces_idx: np.ndarray
    static_lmk_bary_coords: np.ndarray
    dynamic_lmk_faces_idx: np.ndarray
    dynamic_lmk_bary_coords: np.ndarray
    full_lmk_faces_idx: np.ndarray
    full_lmk_bary_coords: np.ndarray
    uvcoords: np.ndarray | None = None
    uvfaces: np.ndarray | None = None
    uv_face_mask: np.ndarray | None = None
    uv_face_eye_mask: np.ndarray | None = None
    fixed_displacement: np.ndarray | None = None
    MU: np.ndarray | None = None
    PC: np.ndarray | None = None
    texture_rgb: bool = True
    regions: np.ndarray | None = None
    mediapipe_lmk_faces_idx: np.ndarray | None = None
    mediapipe_lmk_bary_coords: np.ndarray | None = None
    mediapipe_landmark_indices: np.ndarray | None = None
    plane: np.ndarray | None = None
    plane_xy: np.ndarray | None = None
    ring: np.ndarray | None = None
    meta: dict = field(default_factory=dict)

    @property
    def n_expression_total(self) -> int:
        """Number of expression directions."""
        return self.shapedirs.shape[2] - self.n_shape_total

    def rows_of(self, region: str) -> np.ndarray:
        """Vertex rows of a region such as ``left_eye``.

        Raises:
            ValueError: the model has no regions, or none of that name.
        """
        names = list(self.meta.get("regions", []))
        if self.regions is None or region not in names:
            known = ", ".join(names) if self.regions is not None and names else "none"
            raise ValueError(f"region {region!r}: the head model has {known}")
        return np.flatnonzero(self.regions == names.index(region))


_ARRAYS = tuple(
    f.name for f in fields(FlameModel) if f.name not in ("n_shape_total", "texture_rgb", "meta")
)
_REQUIRED = tuple(n for n in _ARRAYS if FlameModel.__dataclass_fields__[n].default is not None)


def make_model(arrays: Mapping[str, object], where: str, *, meta: dict | None = None) -> FlameModel:
    """Build a checked model from arrays named as the attributes of :class:`FlameModel`.

    Args:
        arrays: the arrays, ``n_shape_total`` and, if not RGB, ``texture_rgb``; other names are
            ignored, optional arrays may be absent or None.
        where: what to name in errors, such as the file.
        meta: see :class:`FlameModel`.

    Raises:
        ValueError: an array is missing or wrong; the message names it, what was expected and what
            was found.
    """
    missing = [name for name in _REQUIRED if arrays.get(name) is None]
    if arrays.get("n_shape_total") is None:
        missing.append("n_shape_total")
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(missing)}")
    content = {}
    for name in _ARRAYS:
        value = arrays.get(name)
        if value is None:
            continue
        value = np.asarray(value)
        kind = np.dtype(LAYOUTS[name].kind)
        if name in ("MU", "PC") and value.dtype == np.float16:
            kind = value.dtype
        if value.dtype.kind not in "biuf":
            raise ValueError(f"{where}: {name}: expected numbers, found {value.dtype}")
        if kind.kind in "iu" and value.dtype.kind == "f":
            raise ValueError(f"{where}: {name}: expected integers, found {value.dtype}")
        if name == "kintree_table":
            # the root's parent is stored as the largest 32-bit number
            value = np.where(value.astype(np.int64) == 0xFFFFFFFF, -1, value.astype(np.int64))
        content[name] = np.ascontiguousarray(value.astype(kind, copy=False))
    content["n_shape_total"] = int(np.asarray(arrays["n_shape_total"]))
    content["texture_rgb"] = bool(np.asarray(arrays.get("texture_rgb", True)))
    model = FlameModel(**content, meta=dict(meta or {}))
    check_arrays(model, where)
    return model


def save_flame(path: str | os.PathLike, model: FlameModel) -> None:
    """Write a model as ``.npz`` without pickles; ``meta`` becomes JSON text."""
    content = {n: getattr(model, n) for n in _ARRAYS if getattr(model, n) is not None}
    content["n_shape_total"] = np.array(model.n_shape_total)
    content["texture_rgb"] = np.array(model.texture_rgb)
    content["meta"] = np.array(json.dumps(model.meta, sort_keys=True))
    with replacing(path) as part, open(part, "wb") as stream:
        np.savez(stream, **content)


def load_flame(path: str | os.PathLike) -> FlameModel:
    """Read a model written by :func:`save_flame`.

    Raises:
        ValueError: no such file, not an ``.npz``, pickles inside, or arrays missing or wrong.
    """
    wanted = {*_ARRAYS, "n_shape_total", "texture_rgb", "meta"}
    try:
        arrays = read_npz(path, "not a head model (.npz without pickles)", wanted)
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such head model; make one with `regaze head convert` or "
            "`regaze head convert-ict`"
        ) from None
    try:
        meta = dict(json.loads(str(arrays.pop("meta", "{}"))))
    except (ValueError, TypeError):
        raise ValueError(f"{path}: meta: expected a JSON object, found something else") from None
    meta.setdefault("source", "synthetic" if "generator" in meta else "unknown")
    return make_model(arrays, str(path), meta=meta)


def model_hash(model: FlameModel) -> str:
    """SHA-256 (hex) of a model's arrays; equal arrays give the same, whatever file they are in."""
    digest = hashlib.sha256()
    for name in _ARRAYS:
        value = getattr(model, name)
        if value is not None:
            digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).data)
    digest.update(f"{model.n_shape_total} {model.texture_rgb}".encode())
    return digest.hexdigest()
