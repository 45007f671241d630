"""One person made ready for rendering: geometry, attributes and what moves with the eyes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from regaze.capture import parts, skin_maps, surface
from regaze.capture.head import eye_rotation, pose_feature
from regaze.capture.landmarks import gather
from regaze.capture.lenses import LensPair
from regaze.capture.lids import LashLine, LidGain, upper_margin
from regaze.capture.rays import tree
from regaze.capture.skin_details import paint_details
from regaze.capture.style import Style
from regaze.capture.subject import Look
from regaze.face3d.model import FlameModel

TEXTURE = 448


@dataclass(frozen=True)
class Hits:
    """Interpolated attributes of ray hits: unit normals, albedo (linear), gloss, occlusion."""

    normal: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    occlusion: np.ndarray
    label: np.ndarray
    extra: np.ndarray


class Surface:
    """Triangles with packed corner attributes, looked up by hit.

    Args:
        normals, uv: (F, 3, 3) and (F, 3, 2).
        label: (F,), or one for all.
        maps: texture of the skin and strands of the hair.
        colours, gloss, occlusion: (F, 3, 3), (F, 3) and (F, 3), or what these broadcast from.
    """

    def __init__(self, normals, uv, label, maps, *, colours=0.0, gloss=0.0, occlusion=1.0):
        # columns: normal 3, uv 2, colour 3, gloss 1, occlusion 1, extra 2 (lid ring and side)
        self.packed = np.zeros((*normals.shape[:2], 12), np.float32)
        self.packed[..., :3], self.packed[..., 3:5] = normals, uv
        self.packed[..., 5:8], self.packed[..., 8], self.packed[..., 9] = colours, gloss, occlusion
        self.label = np.broadcast_to(label, len(normals)).astype(np.uint8)
        self.texture, self.strands = maps

    def with_columns(self, normals, extra) -> Surface:
        """A copy with other corner normals (F, 3, 3) and extra columns (F, 3, 2)."""
        twin = copy.copy(self)
        twin.packed = self.packed.copy()
        twin.packed[..., :3], twin.packed[..., 10:] = normals, extra
        return twin

    def at(self, face, u, v) -> Hits:
        """Attributes (n, ...) at triangles ``face`` (n,) and barycentrics ``u``, ``v`` (n,)."""
        corner = self.packed[face]
        value = corner[:, 0] + u[:, None] * (corner[:, 1] - corner[:, 0])
        value += v[:, None] * (corner[:, 2] - corner[:, 0])
        normal = value[:, :3]
        normal /= np.sqrt(np.einsum("ij,ij->i", normal, normal))[:, None] + 1e-9
        label = self.label[face]
        albedo, gloss = value[:, 5:8], value[:, 8]
        skin = np.flatnonzero(label == parts.LABELS["skin"])
        if skin.size:
            size = len(self.texture)
            col = np.clip((value[skin, 3] * size).astype(np.int32), 0, size - 1)
            row = np.clip((value[skin, 4] * size).astype(np.int32), 0, size - 1)
            texel = self.texture[row, col]
            albedo[skin], gloss[skin] = texel[:, :3], texel[:, 3]
        hair = np.flatnonzero(label == parts.LABELS["hair"])
        if hair.size:
            size = len(self.strands)
            col = (value[hair, 3] * size).astype(np.int32) % size
            row = (value[hair, 4] * size).astype(np.int32) % size
            albedo[hair] *= self.strands[row, col][:, None]
        return Hits(normal, albedo, gloss, value[:, 9], label, value[:, 10:])


@dataclass(frozen=True)
class Eyes:
    """The moving parts for one gaze: lids of both eyes; axes and margins left eye first.

    ``codes`` (n,) are added to the person's expression.
    """

    vertices: np.ndarray
    tree: object
    surface: Surface
    centres: np.ndarray
    axes: np.ndarray
    margins: list[np.ndarray]
    codes: np.ndarray | float = 0.0


def _sphere(count: int) -> np.ndarray:
    i = np.arange(count) + 0.5
    z = 1 - 2 * i / count
    phi = i * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(phi), r * np.sin(phi), z], -1)


class Actor:
    """Geometry of a person in the head frame, millimetres, origin between the eye corners.

    Args:
        model: the head model.
        look: the person's traits.
        style: what the appearance ``varied`` adds to them.
    """

    def __init__(self, model: FlameModel, look: Look, style: Style | None = None):
        self.model, self.look, self.style = model, look, style or Style()
        shapes, first = len(look.shape), model.n_shape_total
        shaped = model.v_template.astype(np.float64) + model.shapedirs[:, :, :shapes] @ look.shape
        moves = model.shapedirs[:, :, first : first + look.expression.size] @ look.expression
        rest = (shaped + moves) * 1000
        # the pose frame belongs to the person, not to the expression
        neutral = gather(model, shaped)[[36, 39, 42, 45]]
        self.corner_origin = neutral.mean(0) * 1000
        self.rest = rest - self.corner_origin
        self.joints = model.J_regressor @ self.rest
        self.centres, self.neck = self.joints[3:5], self.joints[1]
        self.radius = float(model.meta.get("eye_radius", surface.RADIUS))
        self.count = len(model.plane)
        rng = np.random.default_rng([look.seed, 1])
        self.texture = paint_details(skin_maps.paint(look, rng, TEXTURE), self.style)
        bank = skin_maps.noise(TEXTURE)
        base = 0.24 * bank["strand"] + 0.20 * bank["lock"]
        if look.hair in ("curly", "afro", "buzz"):
            base = 0.22 * bank["curl"] + 0.16 * bank["pores"]
        self.strands = np.clip(0.92 + base, 0.3, 1.7).astype(np.float32)
        self._assemble()

    def _assemble(self) -> None:
        model, look = self.model, self.look
        faces, n = model.f, self.count
        moving = np.abs(model.posedirs[:, :, 18:]).sum((1, 2)) > 0
        moving[:n] |= model.ring < 1.4
        moving |= model.regions == 5
        ball = (model.regions >= 7)[faces]
        lid, solid = moving[faces].any(1) & ~ball.any(1), faces[ball.all(1)]
        self.normals = parts.vertex_normals(self.rest, faces[~ball.any(1)])
        skin, normals = self.rest[:n], self.normals[:n]
        skin_faces = faces[(faces < n).all(1)]
        u, v = model.plane.T
        beard = skin_maps.vertex_mask(look.beard_kind, model.plane, TEXTURE)
        # a moustache lies flat: it is painted only
        beard = beard * (1 - 0.75 * skin_maps.vertex_mask("moustache", model.plane, TEXTURE))
        meshes = parts.hair(look, skin, normals, model.plane, skin_faces)
        meshes += parts.beard(look, skin, normals, beard, skin_faces, model.plane)
        bridge = skin[np.argmin(np.abs(u) + np.abs(v - 2))]
        temple = np.abs(skin[(np.abs(v - 4) < 12) & (np.abs(u) > 90), 0])
        meshes += parts.glasses(look, *self.centres, temple.max() + 0.8, bridge)
        self.lenses = None
        if self.style.lenses is not None:
            self.lenses = LensPair(self.style.lenses, parts.rims(look, *self.centres, bridge))
        still = ~lid & ~ball.any(1)
        pieces = [(self.rest, faces[still]), *((m.vertices, m.faces) for m in meshes)]
        vertices, all_faces = parts.joined(pieces)
        all_normals = np.concatenate(
            [self.normals, *(parts.vertex_normals(*piece) for piece in pieces[1:])]
        )
        self.static_tree = tree(vertices, all_faces)
        # thin frames throw no shadow that a soft light would show
        frames = sum(len(m.faces) for m in meshes if m.label == parts.LABELS["glasses"])
        shading = [all_faces[: len(all_faces) - frames], solid]
        self.shadow_tree = tree(vertices, np.concatenate(shading))
        # lids at rest close the sockets for light that falls on the rest of the face
        self.closed_tree = tree(vertices, np.concatenate([*shading, faces[lid]]))
        used = np.unique(all_faces)
        self.static_vertices = vertices[used]
        occlusion = np.ones(len(vertices))
        need = np.union1d(used, np.flatnonzero(moving))
        occlusion[need] = self._occlusion(vertices[need], all_normals[need])
        self.occlusion = occlusion[: len(self.rest)]
        uv = model.uvcoords[model.uvfaces]
        counts = [still.sum(), *(len(m.faces) for m in meshes)]
        maps, skin_label = (self.texture, self.strands), parts.LABELS["skin"]
        self.static = Surface(
            all_normals[all_faces],
            np.concatenate([uv[still], *(m.uv[m.faces] for m in meshes)]),
            np.repeat([skin_label, *(m.label for m in meshes)], counts),
            maps,
            colours=np.concatenate(
                [np.zeros((counts[0], 3, 3)), *(m.colours[m.faces] for m in meshes)]
            ),
            gloss=np.repeat([0.0, *(m.gloss for m in meshes)], counts)[:, None],
            occlusion=occlusion[all_faces],
        )
        body = parts.shoulders(look, self._neck_radius())
        self.body_tree = tree(body.vertices, body.faces)
        self.body = Surface(
            parts.vertex_normals(body.vertices, body.faces)[body.faces], body.uv[body.faces],
            body.label, maps, colours=body.colours[body.faces], gloss=body.gloss,
        )  # fmt: skip
        # lids and linings of both eyes: their own triangles and vertices
        rows, index = np.unique(faces[lid], return_inverse=True)
        self.eye_faces, self.eye_rows = index.reshape(-1, 3), rows
        self.eye_side = np.where(self.rest[rows, 0] > 0, 0, 1)
        self.eye_ring = np.where(rows < n, model.ring[np.minimum(rows, n - 1)], 20.0)
        self.eye_drive = 1000 * model.posedirs[rows].astype(np.float64)
        bare = np.zeros((*self.eye_faces.shape, 3))
        dim = self.occlusion[rows][self.eye_faces]
        self.eye_surface = Surface(bare, uv[lid], skin_label, maps, occlusion=dim)
        edge = np.abs(self.eye_ring) < 1e-4
        upper = upper_margin(model.v_template[rows], self.eye_side, edge)
        place = self.rest[rows], self.eye_side, edge, upper
        gain, lashes = self.style.lid_gain, self.style.lashes
        self.lid_gain = self.lash_line = None
        if gain is not None:
            eyes = self.centres, self.radius
            self.lid_gain = LidGain(model, rows, self.eye_drive, *place, *eyes, gain)
        if lashes is not None:
            self.lash_line = LashLine(lashes, *place, self.centres)

    def _neck_radius(self) -> float:
        v = self.model.plane[:, 1]
        band = (v < -135) & (v > -165)
        if not band.any():  # a head cut off above: its lowest skin
            band = v <= np.quantile(v, 0.03)
        return float(np.abs(self.rest[: self.count][band, 0]).max())

    def _occlusion(self, points, normals, count: int = 36):
        """Cosine-weighted share (n,) of open sky, the same directions for all points."""
        directions = _sphere(count).astype(np.float32)
        facing = normals @ directions.T
        rows, cols = np.nonzero(facing > 0.08)
        start = (points + 0.8 * normals)[rows].astype(np.float32)
        hit = self.shadow_tree.run(
            start, directions[cols], query="OCCLUDED", dists=np.full(len(rows), 90.0, "f4")
        )
        weight = facing[rows, cols]
        total = np.bincount(rows, weight, len(points))
        open_ = np.bincount(rows, weight * (hit < 0), len(points))
        return open_ / np.maximum(total, 1e-6)

    def eyes(self, targets: np.ndarray) -> Eyes:
        """Lids and eyeball axes for per-eye targets (2, 3) in the head frame, mm."""
        axes = targets - self.centres
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        pose = np.zeros((5, 3))
        pose[3:] = eye_rotation(axes)
        feature = pose_feature(pose)
        rows, faces, ring = self.eye_rows, self.eye_faces, self.eye_ring
        moved, codes = self.rest[rows] + self.eye_drive @ feature, 0.0
        if self.lid_gain:
            codes = self.lid_gain.follow(axes, moved, self.rest[rows])
        fade = np.where(ring > 15, 0.0, surface.smoothstep(ring, 1.0, 1.5))[:, None]
        normal = parts.vertex_normals(moved, faces) * (1 - fade) + self.normals[rows] * fade
        margins, upper = [], np.zeros(len(rows))
        for side in range(2):
            member = self.eye_side == side
            # +1 on the upper lid, -1 on the lower, passing through 0 in the corners
            ends = moved[member & (np.abs(ring) < 1e-4)]
            ends = ends[np.argsort(ends[:, 0])][[0, -1]]
            line = np.interp(moved[member, 0], ends[:, 0], ends[:, 1])
            upper[member] = np.clip((moved[member, 1] - line) / 2.5, -1, 1)
            margins.append(moved[member & (np.abs(ring - surface.RINGS[0]) < 1e-4)])
        lids = self.eye_surface.with_columns(normal[faces], np.stack([ring, upper], -1)[faces])
        return Eyes(moved, tree(moved, faces), lids, self.centres, axes, margins, codes)

    def eye_pose(self, eyes: Eyes) -> np.ndarray:
        """Axis-angles (6,) of the left and the right eye joint."""
        return eye_rotation(eyes.axes).reshape(-1)

    def landmarks(self, eyes: Eyes) -> np.ndarray:
        """The 68 landmarks (68, 3) in the head frame, mm, with lids as posed."""
        vertices = self.rest.copy()
        vertices[self.eye_rows] = eyes.vertices
        return gather(self.model, vertices)
