"""Ground truth of synthetic faces: codes, poses, cameras and what the face's surface shows.

The capture writes shape, expression and eye codes of every photo; the head's rotation follows
from its label, the camera from the landmarks. Colours of the face are read off the photos where
a rendering of the known head says that they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regaze.face3d.crop import to_image_space
from regaze.face3d.encoders import CODE
from regaze.face3d.flame import Flame
from regaze.face3d.gaze import root_from_labels
from regaze.face3d.model import FlameModel
from regaze.face3d.render import Renderer, Rendering
from regaze.faces import FacesReader
from regaze.hdf5 import open_hdf5

CONTOUR_WEIGHT = 0.25
"""Of the 17 contour points in the camera's fit: they lie deepest, where perspective, which the
camera does not have, shifts them most."""

MAX_MISFIT = 0.06
"""Median distance between known and projected landmarks, in face sizes, above which codes and
head model cannot belong together."""

VIEW_SIZE, VIEW_SAMPLES = 64, 192
"""Side of the renderings of known heads, and pixels of each that are kept."""


@dataclass(frozen=True)
class Views:
    """Visible points of the face, K views of M points.

    Attributes:
        uv: (K, M, 2) chart position as an image point in [-1, 1].
        normals: (K, M, 3) world normals.
        colours: (K, M, 3) of the photo, 0..1.
        share: (K, M) how much a point counts: the soft mask of the face.
        nearest: (K, S, S) int32 vertex of :func:`face_part` next to what each pixel of the whole
            patch sees, S = ``VIEW_SIZE``; -1 off the face.
    """

    uv: Tensor
    normals: Tensor
    colours: Tensor
    share: Tensor
    nearest: Tensor


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of N rows of a faces data set.

    Attributes:
        rows: (N,) global indices of the reader.
        shape, exp, pose, eye_pose: codes (N, 100), (N, 50), (N, 6), (N, 6) float32.
        camera: (N, 3) float32: a world point (x, y) is seen at (s x + x0, -s y + y0) in pixels
            of the patch, s, x0, y0 in order.
        landmarks: (N, 68, 2) float32 patch pixels.
        misfit: (N,) mean distance of the projected known landmarks from ``landmarks``, pixels.
        view: (N,) the view of each row, see :class:`Views`.
    """

    rows: np.ndarray
    shape: Tensor
    exp: Tensor
    pose: Tensor
    eye_pose: Tensor
    camera: Tensor
    landmarks: np.ndarray
    misfit: np.ndarray
    view: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def codes(self, places) -> dict[str, Tensor]:
        """``shape``, ``exp``, ``pose`` and ``eye_pose`` of some rows."""
        names = ("shape", "exp", "pose", "eye_pose")
        return {name: getattr(self, name)[places] for name in names}

    def cam(self, places, transforms: np.ndarray, size: int) -> Tensor:
        """DECA's cameras (B, 3) of rows in crops.

        Args:
            places: which rows.
            transforms: (B, 3, 3) patch pixel to crop pixel, without rotation.
            size: side of the crops in pixels.
        """
        s, x0, y0 = self.camera[places].double().numpy().T
        zoom, shift = transforms[:, 0, 0], transforms[:, :2, 2]
        scale = 2 * zoom * s / size
        x = 2 * (zoom * x0 + shift[:, 0]) / size - 1
        y = 2 * (zoom * y0 + shift[:, 1]) / size - 1
        return torch.from_numpy(np.stack([scale, x / scale, -y / scale], 1)).float()

    def targets(self, places, transforms: np.ndarray, size: int) -> Tensor:
        """Landmarks (B, 68, 2) of rows as image points of crops, [-1, 1]."""
        zoom, shift = transforms[:, 0, 0], transforms[:, :2, 2]
        pixels = self.landmarks[places] * zoom[:, None, None] + shift[:, None]
        return torch.from_numpy(pixels * 2 / size - 1).float()


def part_of(model: FlameModel, keep: np.ndarray | None = None) -> FlameModel:
    """The triangles ``keep`` (F,) bool of a head model, and those of its fixed landmarks, alone.

    Codes pose what is left exactly as the whole. Joints hang on five vertices of their own, which
    no triangle uses; contour landmarks do not slide but are the fixed ones.
    """
    keep = np.zeros(len(model.f), bool) if keep is None else np.asarray(keep, bool).copy()
    keep[model.static_lmk_faces_idx] = keep[model.full_lmk_faces_idx.ravel()] = True
    used = np.zeros(len(model.v_template), bool)
    used[model.f[keep]] = True
    vertex, face = np.cumsum(used) - 1, np.cumsum(keep) - 1
    content = {}
    for name in ("v_template", "shapedirs"):
        value = getattr(model, name)
        joints = np.einsum("jv,v...->j...", model.J_regressor, value.astype(np.float64))
        content[name] = np.concatenate([value[used], joints.astype(value.dtype)])
    for name in ("posedirs", "weights"):
        value = getattr(model, name)
        content[name] = np.concatenate([value[used], np.zeros_like(value[:5])])
    full = face[model.full_lmk_faces_idx]
    count = int(used.sum())
    return replace(
        model,
        f=vertex[model.f[keep]],
        uvfaces=None if model.uvfaces is None else model.uvfaces[keep],
        J_regressor=np.concatenate([np.zeros((5, count)), np.eye(5)], 1),
        static_lmk_faces_idx=face[model.static_lmk_faces_idx],
        full_lmk_faces_idx=full,
        dynamic_lmk_faces_idx=np.tile(full[:, :17], (79, 1)),
        dynamic_lmk_bary_coords=np.tile(model.full_lmk_bary_coords[:, :17], (79, 1, 1)),
        regions=None,
        mediapipe_lmk_faces_idx=None,
        mediapipe_lmk_bary_coords=None,
        mediapipe_landmark_indices=None,
        **content,
    )


def face_triangles(model: FlameModel) -> np.ndarray:
    """Triangles (F,) bool whose middle lies in the chart's face mask; all if there is none."""
    if model.uv_face_mask is None or model.uvcoords is None:
        return np.ones(len(model.f), bool)
    size = len(model.uv_face_mask)
    middle = model.uvcoords[model.uvfaces].mean(1)
    column = np.clip((middle[:, 0] * size).astype(int), 0, size - 1)
    row = np.clip(((1 - middle[:, 1]) * size).astype(int), 0, size - 1)
    return model.uv_face_mask[row, column] > 0.05


def face_part(model: FlameModel) -> FlameModel:
    """The face of a head model alone, see :func:`face_triangles` and :func:`part_of`."""
    return part_of(model, face_triangles(model))


def read_ground_truth(
    parameters: str | Path, reader: FacesReader, rows: np.ndarray, model: FlameModel
) -> GroundTruth:
    """Gather what the capture knows of rows of its faces.

    Args:
        parameters: ``parameters.h5`` of the capture.
        reader: its faces, with ``landmarks`` and ``source_index``.
        rows: global indices.
        model: the head model that the capture was rendered with.

    Raises:
        ValueError: a dataset or person is missing, landmarks are unknown, or codes and landmarks
            do not belong to this head model.
    """
    rows = np.asarray(rows, np.int64)
    if not len(rows):
        raise ValueError(f"{parameters}: expected rows of faces, found none")
    for name in ("landmarks", "source_index"):
        if not reader.has(name):
            raise ValueError(f"{reader.paths[0]}: {name}: expected in every person, found not")
    found = _parameters(parameters, reader, rows)
    shape = _fitted(found["shape"], CODE["shape"])
    exp = _fitted(found["expression"], CODE["exp"])
    eye_pose = torch.from_numpy(found["eye_pose"]).float()
    labels = reader.labels[rows, 2:4]
    root = root_from_labels(torch.from_numpy(labels.astype(np.float64)))
    pose = F.pad(root.float(), (0, 3))
    landmarks = reader.dataset("landmarks", rows).astype(np.float32)
    if len(unknown := rows[~np.isfinite(landmarks).all((1, 2))]):
        row = unknown[0]
        raise ValueError(f"{reader.paths[0]}: landmarks: row {row}: expected numbers, found NaN")
    flame = Flame(part_of(model), CODE["shape"], CODE["exp"])
    points = []
    for start in range(0, len(rows), 256):
        part = slice(start, start + 256)
        head = flame(shape[part], exp[part], pose[part], eye_pose[part])
        points.append(head.landmarks3d[..., :2].double().numpy())
    camera, misfit = fit_cameras(np.concatenate(points), landmarks)
    size = np.ptp(landmarks, axis=1).mean(1)
    if not np.median(misfit / size) < MAX_MISFIT:
        raise ValueError(
            f"{parameters}: expected codes of the head model in use, found landmarks "
            f"{100 * np.median(misfit / size):.0f} % of a face away from it; was the capture "
            "rendered with another head_model?"
        )
    key = np.column_stack([reader.person_of[rows], np.round(labels * 1e5), found["variation"]])
    view = np.unique(key, axis=0, return_inverse=True)[1].ravel()
    camera = torch.from_numpy(camera).float()
    return GroundTruth(rows, shape, exp, pose, eye_pose, camera, landmarks, misfit, view)


def _parameters(path: str | Path, reader: FacesReader, rows: np.ndarray) -> dict[str, np.ndarray]:
    """``shape``, ``expression`` and ``eye_pose`` of rows, one array each.

    Also ``variation`` (N, 1), 0 unless the capture has photos with another expression or light.
    """
    names = ("shape", "expression", "eye_pose")
    source = reader.dataset("source_index", rows)
    out: dict[str, np.ndarray] = {"variation": np.zeros((len(rows), 1))}
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file of capture parameters")
    with open_hdf5(path) as file:
        for code in np.unique(reader.person_of[rows]):
            person, here = reader.persons[code], reader.person_of[rows] == code
            if person not in file:
                raise ValueError(f"{path}: {person}: expected a group, found none")
            for name in names:
                if name not in file[person]:
                    raise ValueError(f"{path}: {person}/{name}: expected a dataset, found none")
                values = file[person][name][:]
                if source[here].max() >= len(values):
                    raise ValueError(
                        f"{path}: {person}/{name}: expected at least {source[here].max() + 1} "
                        f"rows, found {len(values)}"
                    )
                if name not in out:
                    out[name] = np.zeros((len(rows), values.shape[1]))
                out[name][here] = values[source[here]]
            if "variation" in file[person]:
                out["variation"][here, 0] = file[person]["variation"][:][source[here]]
    return out


def _fitted(values: np.ndarray, width: int) -> Tensor:
    """Codes cut or filled with zeros to the layout's length."""
    kept = torch.from_numpy(values[:, :width]).float()
    return F.pad(kept, (0, width - kept.shape[1]))


def fit_cameras(points: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scaled orthography by least squares.

    Args:
        points: (N, 68, 2) x, y of the heads' landmarks in the world frame, metres.
        landmarks: (N, 68, 2) pixels.

    Returns:
        (N, 3) s, x0, y0 of :attr:`GroundTruth.camera`, and the mean distance (N,) that is left in
        pixels.
    """
    weight = np.ones(68)
    weight[:17] = CONTOUR_WEIGHT
    weight = (weight / weight.sum())[:, None]
    flat = points * [1.0, -1.0]
    here, there = (flat * weight).sum(1, keepdims=True), (landmarks * weight).sum(1, keepdims=True)
    spread = (weight * (flat - here) ** 2).sum((1, 2))
    scale = (weight * (flat - here) * (landmarks - there)).sum((1, 2)) / spread
    origin = (there - scale[:, None, None] * here)[:, 0]
    left = scale[:, None, None] * flat + origin[:, None] - landmarks
    return np.column_stack([scale, origin]), np.linalg.norm(left, axis=2).mean(1)


@torch.no_grad()
def read_views(known: GroundTruth, reader: FacesReader, model: FlameModel, seed: int) -> Views:
    """Draw the known head of every view and note what the photo shows on its face.

    Frames of a view differ in the eyes alone, so the first of them stands for all.

    Args:
        known: rows of the reader.
        reader: the faces.
        model: the head model, with a chart.
        seed: of the choice of pixels.
    """
    part = face_part(model)
    flame = Flame(part, CODE["shape"], CODE["exp"])
    renderer = Renderer(part.f, part.uvcoords, part.uvfaces, VIEW_SIZE, uv_size=16)
    width = reader.patch_size[0]
    count = int(known.view.max()) + 1
    first = np.unique(known.view, return_index=True)[1]
    rng = np.random.default_rng([seed, 5])
    noise = torch.from_numpy(rng.random((count, VIEW_SIZE * VIEW_SIZE), np.float32))
    out = []
    for start in range(0, count, 16):
        places = first[start : start + 16]
        codes = known.codes(places)
        head = flame(codes["shape"], codes["exp"], codes["pose"], codes["eye_pose"])
        # pixel centres of the patch are integers, those of renderings lie halfway
        whole = np.tile(np.eye(3), (len(places), 1, 1))
        whole[:, :2, 2] = 0.5
        cam = known.cam(places, whole, width)
        white = torch.ones(len(places), 3, 2, 2)
        drawn = renderer(head.vertices, to_image_space(head.vertices, cam), white)
        images = torch.from_numpy(reader.pixels(known.rows[places])).permute(0, 3, 1, 2)
        images = F.interpolate(images.float() / 255, size=(VIEW_SIZE, VIEW_SIZE), mode="area")
        share = drawn.share_of(model.uv_face_mask)[:, 0].flatten(1)
        # the pixels that count, in random order; pixels that do not come last
        order = (noise[start : start + 16] - 2.0 * (share > 0.05)).argsort(1)[:, :VIEW_SAMPLES]

        def chosen(picture: Tensor, order=order) -> Tensor:
            flat = picture.flatten(2).transpose(1, 2)
            return flat.gather(1, order[..., None].expand(-1, -1, flat.shape[2]))

        normals = F.normalize(chosen(drawn.normals), dim=-1)
        grid = chosen(drawn.grid.permute(0, 3, 1, 2))
        colours = chosen(images)
        near = _nearest(drawn, renderer.faces)
        out.append((grid, normals, colours, share.gather(1, order), near))
    return Views(*(torch.cat(column) for column in zip(*out, strict=True)))


def _nearest(drawn: Rendering, faces: Tensor) -> Tensor:
    """Vertices (B, H, W) int32 next to what pixels see, -1 where they see no mesh."""
    hits, found = drawn.hits, drawn.hits.pixels.new_full(drawn.hits.shape, -1)
    corner = hits.weights.argmax(1, keepdim=True)
    found[hits.where] = faces[hits.face].gather(1, corner)[:, 0]
    return found.int()
