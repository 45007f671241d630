"""Turn a face picture over its fitted head: a guess at the redirected picture, and what is missing.

The head of the source's codes stands in the virtual camera as the labels say: its face centre on
the optical axis, its rotation that of the head label, seen in perspective. A pixel of the target
view sees a point of the mesh; the same point is found in the source view, and the source is read
there. Eyeballs turn in the head as gaze labels say. Beside the mesh, over hair and background, the
source is read as over the ellipsoid of :mod:`regaze.redirectors.xunet.warp`.

Labels and codes of the source alone are needed: no camera and no crop of the encoder.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regaze.angles import rotation_from_angles
from regaze.codes import code_columns
from regaze.face3d.flame import Flame
from regaze.face3d.gaze import eye_pose_from_labels
from regaze.face3d.model import FlameModel
from regaze.face3d.rasterize import rasterize
from regaze.masks import NUMBER
from regaze.masks.mesh import face_parts, vertex_parts
from regaze.redirectors.carried import pixel_centres
from regaze.redirectors.xunet.warp import warp_places
from regaze.rotations import camera_flip, rodrigues, root_from_camera

PARTS = ("shape", "expression", "pose")
"""Parts of the codes that make a head."""
DISTANCE = 600.0
"""From the virtual camera to the face centre, mm (sted normalisation)."""
BELOW_EYES = 30.0
"""From the middle of the eye corners down to the face centre, mm, as in the face model of the
normalisation (:mod:`regaze.normalise.face_model`)."""
BEHIND = 10.0
"""mm that a point may lie behind what the source shows there and still count as seen: depths are
those of pixels beside it."""
_CORNERS = (36, 39, 42, 45)
"""Landmarks of the eye corners, from 0."""
_CELL, _NEAR_CELL, _EYE_CELL = 10.0, 3.5, 3.0
"""Sides in mm of the cells within which a decimated mesh keeps one vertex: of the head, within
:data:`_NEAR` of an eye, of eyeballs. A pixel of 64 px is 2.4 mm."""
_NEAR = 22.0
_KEPT_MB = 256
_EYES = (2, 3)
"""Numbers of left and right eyeball in :attr:`View.kind`; 1 is the rest of the head, 0 nothing."""


class View(NamedTuple):
    """What pixels see of heads, in one pose each.

    Attributes:
        depth: (B, S, S) mm along the optical axis, counted from the face centre.
        kind: (B, S, S) uint8, see :data:`_EYES`.
        joints: (B, 2, 3) where eyeballs turn, axes and origin of the face model, mm.
    """

    depth: Tensor
    kind: Tensor
    joints: Tensor


def decimated(model: FlameModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mesh of a few thousand triangles on some of a head model's vertices.

    Returns:
        Numbers (v,) of these vertices; triangles (f, 3) of them; kinds (f,) of :class:`View`.
    """
    points = model.v_template.astype(np.float64) * 1000
    part = vertex_parts(model)
    eyes = [NUMBER[name] for name in ("left_eye", "right_eye")]
    centres = [points[part == eye].mean(0) for eye in eyes]
    near = np.min([np.linalg.norm(points - centre, axis=1) for centre in centres], 0) < _NEAR
    side = np.where(np.isin(part, eyes), _EYE_CELL, np.where(near, _NEAR_CELL, _CELL))
    region = part if model.regions is None else model.regions
    cells = np.column_stack([np.floor(points / side[:, None]), side, region, part])
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    count = np.bincount(cell)
    middle = np.stack([np.bincount(cell, axis) / count for axis in points.T], 1)
    off = np.linalg.norm(points - middle[cell], axis=1)
    order = np.lexsort((off, cell))
    kept = order[np.flatnonzero(np.diff(cell[order], prepend=-1))]
    triangles = cell[model.f]
    a, b, c = triangles.T
    whole = (a != b) & (b != c) & (c != a)
    triangles, of = triangles[whole], face_parts(model)[whole]
    _, first = np.unique(np.sort(triangles, 1), axis=0, return_index=True)
    kind = np.where(of == eyes[0], _EYES[0], np.where(of == eyes[1], _EYES[1], 1))
    return kept, triangles[first], kind[first].astype(np.uint8)


def _on_some(model: FlameModel, vertices: np.ndarray) -> Flame:
    """The layer on some vertices, and behind them on those of the 68 fixed landmarks.

    What else it says of landmarks is meaningless.
    """
    marked = model.f[model.full_lmk_faces_idx[0]]
    kept = np.concatenate([vertices, marked.ravel()])
    some = replace(
        model,
        v_template=model.v_template[kept],
        shapedirs=model.shapedirs[kept],
        posedirs=model.posedirs[kept],
        weights=model.weights[kept],
        J_regressor=model.J_regressor[:, kept],
        f=len(vertices) + np.arange(marked.size).reshape(-1, 3),
        full_lmk_faces_idx=np.arange(len(marked))[None],
        static_lmk_faces_idx=np.zeros_like(model.static_lmk_faces_idx),
        dynamic_lmk_faces_idx=np.zeros_like(model.dynamic_lmk_faces_idx),
        mediapipe_lmk_faces_idx=None,
    )
    made, whole = Flame(some), Flame(model)
    # Joints hang on vertices that are not kept.
    made.joint_template, made.joint_directions = whole.joint_template, whole.joint_directions
    return made


class MeshWarp:
    """Warps sources over heads of their codes.

    Args:
        model: the head model that codes belong to.
        parts: what rows of codes hold, :data:`PARTS` among it.
        size: side of the pictures, of the sted normalisation.
        kept_mb: views that are kept in memory: those of a training come again and again.
    """

    def __init__(
        self, model: FlameModel, parts: tuple[str, ...], size: int, kept_mb: int = _KEPT_MB
    ):
        self.size, self.focal = size, 500.0 / 128.0 * size
        columns = code_columns(parts)
        self._columns = [columns[name] for name in PARTS]
        vertices, triangles, kinds = decimated(model)
        self._triangles, self._kinds = torch.from_numpy(triangles), torch.from_numpy(kinds)
        self._count = len(vertices)
        self.flame = _on_some(model, vertices)
        self._room = kept_mb * 10**6 // (3 * size**2 + 800)
        self._kept: OrderedDict[bytes, tuple[Tensor, ...]] = OrderedDict()

    def __call__(
        self,
        source: Tensor,
        codes: Tensor,
        heads: tuple[Tensor, Tensor],
        gazes: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Sources as if heads and eyes had turned; light turns with them.

        Args:
            source: (B, C, S, S) pictures.
            codes: (B, Dc) their rows of codes.
            heads: labels (B, 2) of the sources and of what they are turned to, radians.
            gazes: the same of gazes.

        Returns:
            (B, C, S, S) float32, and (B, 1, S, S), 1 where the source does not show what is there:
            skin that its head hides, and what lies behind its head.
        """
        with torch.no_grad(), torch.autocast(source.device.type, enabled=False):
            codes, heads = codes.float(), [one.float() for one in heads]
            before, after = (self.views(codes, head) for head in heads)
            places, depth = self._followed(after, heads, [one.float() for one in gazes])
            on = (after.kind > 0)[:, None]
            round_it = warp_places(*heads, source.shape[-2:]).permute(0, 3, 1, 2)
            places = torch.where(on, places, round_it)
            grid = places.permute(0, 2, 3, 1)
            read = {"padding_mode": "border", "align_corners": False}
            shown = torch.where(before.kind > 0, before.depth, before.depth.new_tensor(-1e4))
            # The farthest of the pixels around: outlines fall between pixels.
            shown = F.max_pool2d(shown[:, None], 3, 1, 1)
            seen = F.grid_sample(shown, grid, mode="nearest", **read)
            head = F.grid_sample((before.kind > 0)[:, None].float(), grid, mode="nearest", **read)
            hidden = torch.where(on, depth[:, None] > seen + BEHIND, head > 0)
            return F.grid_sample(source.float(), grid, mode="bilinear", **read), hidden.float()

    def views(self, codes: Tensor, head: Tensor) -> View:
        """Views (B) of heads of codes (B, Dc) as labels (B, 2) turn them; kept ones, if any."""
        device = codes.device
        codes, head = codes.cpu(), head.cpu()
        names = [
            code.numpy().tobytes() + turn.numpy().tobytes()
            for code, turn in zip(codes, head, strict=True)
        ]
        found = {name: self._kept[name] for name in names if name in self._kept}
        missing = {name: place for place, name in enumerate(names) if name not in found}
        for name, place in missing.items():
            # One by one, so that none depends on the batch that it was first seen in.
            found[name] = self._drawn(codes[[place]], head[[place]])
            self._kept[name] = found[name]
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        parts = zip(*(found[name] for name in names), strict=True)
        depth, kind, joints = (torch.stack(part).to(device) for part in parts)
        return View(depth.float(), kind, joints)

    def _drawn(self, code: Tensor, head: Tensor) -> tuple[Tensor, ...]:
        """One view: depth as float16, whose steps are a tenth of a millimetre at most."""
        shape, expression, pose = (code[:, column] for column in self._columns)
        pose = torch.cat([torch.zeros_like(pose[:, :3]), pose[:, 3:]], 1)
        made = self.flame(shape, expression, pose)
        flip = camera_flip(code)
        origin = made.landmarks3d[:, list(_CORNERS)].mean(1, keepdim=True)
        down = flip.new_tensor([0.0, BELOW_EYES, 0.0])
        points, joints = (
            (one - origin) * flip * 1000 - down
            for one in (made.vertices[:, : self._count], made.joints[:, 3:5])
        )
        seen = points @ rotation_from_angles(head).transpose(1, 2)
        z = seen[..., 2:] + DISTANCE
        flat = -seen[..., :2] / z * (2 * self.focal / self.size)
        drawn = rasterize(
            torch.cat([flat, z / DISTANCE], -1),
            self._triangles[None],
            self.size,
            perspective_correct=True,
            cull_backfaces=True,
            with_dists=False,
        )
        face = drawn.pix_to_face[0, ..., 0]
        on = face >= 0
        depth = torch.where(on, (drawn.zbuf[0, ..., 0] - 1) * DISTANCE, 0.0).half()
        kind = self._kinds[face.clamp(min=0)] * on
        return depth, kind, joints[0]

    def _followed(self, after: View, heads, gazes) -> tuple[Tensor, Tensor]:
        """Where sources show what targets show: (B, 2, S, S) in [-1, 1], and how deep (B, S, S)."""
        turned = [rotation_from_angles(head) for head in heads]
        own = pixel_centres(after.depth[:, None]) * (self.size / 2 / self.focal)
        z = after.depth[:, None] + DISTANCE
        camera = torch.cat([own * z, after.depth[:, None]], 1).flatten(2).transpose(1, 2)
        points = camera @ turned[1]
        eyes = [_eye_turns(*pair) for pair in zip(gazes, turned, strict=True)]
        back = eyes[0] @ eyes[1].transpose(-1, -2)
        for eye, number in enumerate(_EYES):
            centre = after.joints[:, None, eye]
            rolled = (points - centre) @ back[:, eye].transpose(1, 2) + centre
            points = torch.where((after.kind == number).flatten(1)[..., None], rolled, points)
        seen = points @ turned[0].transpose(1, 2)
        places = seen[..., :2] / (seen[..., 2:] + DISTANCE).clamp(min=1.0)
        places = places * (2 * self.focal / self.size)
        shape = after.depth.shape[1:]
        return places.transpose(1, 2).unflatten(2, shape), seen[..., 2].unflatten(1, shape)


def _eye_turns(gaze: Tensor, head: Tensor) -> Tensor:
    """Rotations (B, 2, 3, 3) of eyeballs in heads (B, 3, 3), axes of the face model."""
    poses = eye_pose_from_labels(gaze, root_from_camera(head))
    flip = camera_flip(gaze)
    return flip[:, None] * rodrigues(poses.unflatten(1, (2, 3))) * flip
