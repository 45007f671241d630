"""One-time conversion of the users' FLAME files to the project's ``.npz``."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from regaze.face3d.checks import texture_fault
from regaze.face3d.editions import EDITIONS, SHAPES, TOPOLOGY
from regaze.face3d.model import FlameModel, make_model, save_flame
from regaze.face3d.obj import read_obj
from regaze.face3d.pickles import read_npy_object, read_pickle
from regaze.filetypes import file_type, read_npz, unreadable
from regaze.provenance import file_sha256

_MODEL_KEYS = (
    "f", "v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights",
)  # fmt: skip
_LANDMARK_KEYS = (
    "static_lmk_faces_idx", "static_lmk_bary_coords", "dynamic_lmk_faces_idx",
    "dynamic_lmk_bary_coords", "full_lmk_faces_idx", "full_lmk_bary_coords",
)  # fmt: skip
_TEXTURES = {"MU": ("MU", "PC", 1.0), "mean": ("mean", "tex_dir", 255.0)}
TEXTURE_SIDE = 256


def read_model(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a FLAME model file (``generic_model.pkl``, ``flame2023_Open.pkl``).

    Raises:
        PickleRefused: the file is unsafe or damaged.
        ValueError: an array is missing; the message names file and array.
    """
    return _arrays(path, read_pickle(path), _MODEL_KEYS)


def read_landmarks(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a landmark file (``landmark_embedding.npy``); errors as :func:`read_model`."""
    return _arrays(path, read_npy_object(path), _LANDMARK_KEYS)


def _arrays(path, content: dict, names) -> dict[str, np.ndarray]:
    lacking = [name for name in names if not isinstance(content.get(name), np.ndarray)]
    if lacking:
        raise ValueError(f"{path}: lacks the arrays {', '.join(lacking)}")
    return {name: content[name] for name in names}


def convert_flame(
    model_pkl: str | os.PathLike,
    landmarks_npy: str | os.PathLike,
    out: str | os.PathLike,
    *,
    template_obj: str | os.PathLike | None = None,
    texture_npz: str | os.PathLike | None = None,
    face_mask: str | os.PathLike | None = None,
    face_eye_mask: str | os.PathLike | None = None,
    displacement_npy: str | os.PathLike | None = None,
    mediapipe_npz: str | os.PathLike | None = None,
    n_shape_total: int = SHAPES,
    n_texture: int = 50,
    edition: str | None = None,
) -> FlameModel:
    """Convert a user's FLAME files (2020 or 2023) into one ``.npz`` and return the model.

    Args:
        model_pkl: ``generic_model.pkl`` or ``flame2023_Open.pkl``.
        landmarks_npy: ``landmark_embedding.npy``.
        out: the ``.npz`` to write.
        template_obj: ``head_template.obj``, for texture coordinates.
        texture_npz: ``FLAME_albedo_from_BFM.npz`` or ``FLAME_texture.npz``; kept at 256 x 256 by
            taking every second row and column, and as BGR, as the files are.
        face_mask, face_eye_mask: ``uv_face_mask.png``, ``uv_face_eye_mask.png``; channel 0 counts.
        displacement_npy: ``fixed_displacement_256.npy``.
        mediapipe_npz: EMOCA v2's ``mediapipe_landmark_embedding.npz``.
        n_shape_total: identity directions in the model file; the rest are expressions.
        n_texture: texture directions kept.
        edition: FLAME's edition, one of :data:`regaze.face3d.editions.EDITIONS`, if the model file
            is not the published one itself, by which it is known.

    Raises:
        PickleRefused: a pickled file is unsafe or damaged.
        ValueError: a file lacks an array or holds a wrong one, or is of another edition.
    """
    given = {
        "model": model_pkl, "landmarks": landmarks_npy, "template": template_obj,
        "texture": texture_npz, "face_mask": face_mask, "face_eye_mask": face_eye_mask,
        "displacement": displacement_npy, "mediapipe": mediapipe_npz,
    }  # fmt: skip
    given = {word: Path(path) for word, path in given.items() if path is not None}
    for word, path in given.items():
        if not path.is_file():
            raise ValueError(f"{word}: no such file: {path}")
    arrays = {**read_model(model_pkl), **read_landmarks(landmarks_npy)}
    arrays["n_shape_total"] = n_shape_total
    if template_obj is not None:
        arrays["uvcoords"], arrays["uvfaces"] = _charts(template_obj, arrays["f"])
    meta: dict = {
        "source": "flame",
        "licence": "that of the files it was converted from; not to be passed on",
        "inputs": {w: {"name": p.name, "sha256": file_sha256(p)} for w, p in given.items()},
    }
    meta |= _edition(model_pkl, meta["inputs"]["model"]["sha256"], arrays, edition)
    if texture_npz is not None:
        arrays["MU"], arrays["PC"] = read_texture(texture_npz, n_texture)
        meta["texture"] = "bfm" if "MU" in _held(texture_npz) else "flame"
        arrays["texture_rgb"] = False
    for name, path in (("uv_face_mask", face_mask), ("uv_face_eye_mask", face_eye_mask)):
        if path is not None:
            arrays[name] = _mask(path)
    if displacement_npy is not None:
        arrays["fixed_displacement"] = _plain_npy(displacement_npy)
    if mediapipe_npz is not None:
        arrays.update(_mediapipe(mediapipe_npz))
    model = make_model(arrays, str(model_pkl), meta=meta)
    save_flame(out, model)
    return model


def _edition(path, sha256: str, arrays: dict, told: str | None) -> dict[str, str]:
    """The entry of ``meta`` about FLAME's edition, by the file if it is known, else as told."""
    names = sorted(set(EDITIONS.values()))
    if told is not None and told not in names:
        raise ValueError(f"edition: expected one of {', '.join(names)}, found {told!r}")
    known = EDITIONS.get(sha256, told)
    if told not in (None, known):
        raise ValueError(f"{path}: edition: the file is FLAME {known}, told was {told}")
    if known is None:
        return {}
    sizes = (*arrays["v_template"].shape[:1], *arrays["f"].shape[:1], arrays["shapedirs"].shape[-1])
    found = (*sizes, arrays["n_shape_total"])
    if found != TOPOLOGY:
        wanted, had = (
            "{} vertices, {} triangles, {} directions, {} of them identities".format(*sizes)
            for sizes in (TOPOLOGY, found)
        )
        raise ValueError(f"{path}: expected FLAME's {wanted}, found {had}")
    return {"edition": known}


def _charts(path, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates and texture triangles in the order and turn of the model's triangles."""
    mesh = read_obj(path)
    rows, uvrows, _ = mesh.triangles()
    if (mesh.counts != 3).any() or (uvrows < 0).any():
        raise ValueError(f"{path}: expected triangles with texture coordinates")
    if rows.shape == faces.shape and (rows == faces).all():
        return mesh.uvs, uvrows
    where = {}
    for row, triangle in zip(rows.tolist(), uvrows.tolist(), strict=True):
        for turn in range(3):
            where[tuple(row[turn:] + row[:turn])] = triangle[turn:] + triangle[:turn]
    found = [where.get(tuple(face)) for face in np.asarray(faces).tolist()]
    if lost := found.count(None):
        raise ValueError(f"{path}: lacks {lost} of the model's {len(faces)} triangles")
    return mesh.uvs, np.array(found, np.int64)


def read_texture(path: str | os.PathLike, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (256, 256, 3) and first ``count`` directions (256, 256, 3, count) in 0..1, BGR.

    Raises:
        ValueError: neither FLAME's nor the BFM's layout, with what the file holds instead, or a
            mean or a direction that says nothing.
    """
    stored, held = _npz(path, [name for layout in _TEXTURES.values() for name in layout[:2]])
    layout = next((_TEXTURES[word] for word in _TEXTURES if word in stored), None)
    if layout is None or layout[1] not in stored:
        found = ", ".join(held) or "nothing"
        raise ValueError(f"{path}: expected MU and PC, or mean and tex_dir; found {found}")
    mean_name, basis_name, scale = layout
    mean, basis = stored[mean_name], stored[basis_name]
    side = mean.shape[0] if mean.ndim else 0
    if mean.shape != (side, side, 3) or basis.ndim != 4 or basis.shape[:3] != mean.shape:
        raise ValueError(
            f"{path}: expected (R, R, 3) and (R, R, 3, K), found {mean.shape} and {basis.shape}"
        )
    if count < 1 or count > basis.shape[3]:
        raise ValueError(f"{path}: {count} directions asked for, the file has {basis.shape[3]}")
    pick = np.arange(min(TEXTURE_SIDE, side)) * side // min(TEXTURE_SIDE, side)
    mean = mean[pick][:, pick].astype(np.float32) / np.float32(scale)
    basis = basis[pick][:, pick, :, :count].astype(np.float32) / np.float32(scale)
    if fault := texture_fault(mean, basis, (mean_name, basis_name)):
        raise ValueError(f"{path}: {fault}")
    return mean, basis


def _npz(path, names) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of some arrays that an .npz holds, and the names of all that it holds."""
    if file_type(path).kind == "npy":
        raise ValueError(f"{path}: expected an .npz, found an .npy")
    return read_npz(path, "not an .npz without pickles", names), _held(path)


def _held(path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _plain_npy(path) -> np.ndarray:
    clause = "not an .npy without pickles"
    found = file_type(path).kind
    if found == "npz":
        raise ValueError(f"{path}: expected an .npy, found an .npz")
    if found != "npy":
        raise ValueError(unreadable(path, clause, ()))
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python text: many kinds
        raise ValueError(unreadable(path, clause, "npy", error)) from None


def _mask(path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable picture ({error})") from None
    return np.asarray(image.getchannel(0), np.float32) / 255


def _mediapipe(path) -> dict[str, np.ndarray]:
    names = {
        "lmk_face_idx": "mediapipe_lmk_faces_idx",
        "lmk_b_coords": "mediapipe_lmk_bary_coords",
        "landmark_indices": "mediapipe_landmark_indices",
    }
    stored, _ = _npz(path, names)
    if lacking := [name for name in names if name not in stored]:
        raise ValueError(f"{path}: lacks {', '.join(lacking)}")
    return {ours: stored[theirs] for theirs, ours in names.items()}
