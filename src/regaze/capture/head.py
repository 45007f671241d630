"""The procedural head in FLAME's array format: build, pose, save, load.

Layout and meaning of the arrays are those of FLAME (Li et al. 2017, Learning a model of facial
shape and expression from 4D scans) as its public loaders read them: metres, +x the subject's
left, +y up, +z out of the face; joints root, neck, jaw, left eye, right eye. Nothing of the
licensed model is used: template and bases are made by :mod:`regaze.capture.surface`,
:mod:`regaze.capture.template` and :mod:`regaze.capture.bases` from a seed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

import numpy as np

from regaze.capture import bases, landmarks, skin_maps, surface, template
from regaze.filetypes import read_npz
from regaze.jobs import replacing

GENERATOR = "regaze procedural head 1"
PARENTS = (-1, 0, 1, 1, 1)


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a head model.

    Attributes:
        seed: makes every array; the same seed gives the same bytes.
        step: spacing of the face's points in mm (4.4 gives about 7,500 vertices).
        ball_rings, ball_around: resolution of each eyeball.
        n_shape, n_expression: directions of the identity and the expression basis.
        texture_size, n_texture: side of the mean texture and number of texture directions.
    """

    seed: int = 0
    step: float = 4.4
    ball_rings: int = 14
    ball_around: int = 24
    n_shape: int = 100
    n_expression: int = 50
    texture_size: int = 128
    n_texture: int = 50

    @classmethod
    def tiny(cls) -> HeadConfig:
        """A coarse head for tests."""
        return cls(step=9.0, ball_rings=8, ball_around=12, n_shape=12, n_expression=16,
                   texture_size=32, n_texture=4)  # fmt: skip


@dataclass(frozen=True)
class HeadModel:
    """Arrays of a FLAME-format head; see the specification of FLAME's files for the shapes.

    ``v_template`` (V, 3) float32 m; ``f`` (F, 3) int64; ``shapedirs`` (V, 3, S + E) float32 with
    ``n_shape_total`` = S; ``posedirs`` (V, 3, 36); ``J_regressor`` (5, V); ``weights`` (V, 5);
    ``kintree_table`` (2, 5) int64; ``uvcoords`` (T, 2) and ``uvfaces`` (F, 3); the landmark
    arrays of FLAME's embedding; ``uv_face_mask``, ``uv_face_eye_mask``, ``fixed_displacement``
    (256, 256); ``MU`` (R, R, 3), ``PC`` (R, R, 3, K) RGB in 0..1; ``regions`` (V,) uint8, values
    of ``template.REGIONS``; ``plane`` (skin points, 2) mm and ``plane_xy`` their frontal
    position; ``ring`` their ring about an eye (``surface.RINGS``; 9 elsewhere).

    ``meta`` holds ``feminine`` codes and the names of ``expressions``, ``regions``; a head that is
    not the procedural one adds ``eye_radius`` in mm and ``expression_groups`` (see
    :func:`regaze.capture.subject.draw_look`).
    """

    v_template: np.ndarray
    f: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    weights: np.ndarray
    kintree_table: np.ndarray
    uvcoords: np.ndarray
    uvfaces: np.ndarray
    n_shape_total: int
    static_lmk_faces_idx: np.ndarray
    static_lmk_bary_coords: np.ndarray
    dynamic_lmk_faces_idx: np.ndarray
    dynamic_lmk_bary_coords: np.ndarray
    full_lmk_faces_idx: np.ndarray
    full_lmk_bary_coords: np.ndarray
    uv_face_mask: np.ndarray
    uv_face_eye_mask: np.ndarray
    fixed_displacement: np.ndarray
    MU: np.ndarray
    PC: np.ndarray
    regions: np.ndarray
    plane: np.ndarray
    plane_xy: np.ndarray
    ring: np.ndarray
    meta: dict = field(default_factory=dict)

    @property
    def eye_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertex rows of the left and of the right eyeball."""
        return tuple(np.flatnonzero(self.regions == value) for value in (7, 8))

    def shaped(self, shape=None, expression=None) -> np.ndarray:
        """Vertices (V, 3) in m in rest pose for codes (at most S and E entries)."""
        out = self.v_template.astype(np.float64)
        if shape is not None:
            out = out + self.shapedirs[:, :, : len(shape)] @ np.asarray(shape, np.float64)
        if expression is not None:
            first = self.n_shape_total
            part = self.shapedirs[:, :, first : first + len(expression)]
            out = out + part @ np.asarray(expression, np.float64)
        return out


def eye_rotation(direction: np.ndarray) -> np.ndarray:
    """Axis-angle (.., 3) turning +z to head-frame unit directions (.., 3), without torsion."""
    d = np.asarray(direction, np.float64)
    axis = np.stack([-d[..., 1], d[..., 0], 0 * d[..., 0]], -1)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, d[..., 2:3])
    return axis * (angle / np.maximum(sine, 1e-12))


def rotation(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (.., 3, 3) of axis-angle vectors (.., 3)."""
    r = np.asarray(axis_angle, np.float64)
    angle = np.linalg.norm(r, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(r / np.maximum(angle[..., 0], 1e-12), -1, 0)
    o = 0 * x
    k = np.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*r.shape[:-1], 3, 3)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def pose_feature(pose: np.ndarray) -> np.ndarray:
    """FLAME's 36 pose features of the axis-angles (5, 3) of all joints."""
    return (rotation(pose[1:]) - np.eye(3)).reshape(-1)


def posed(model: HeadModel, shape=None, expression=None, pose=None) -> np.ndarray:
    """Skinned vertices (V, 3) in m.

    Args:
        shape, expression: codes, see :meth:`HeadModel.shaped`.
        pose: (5, 3) axis-angles in radians of root, neck, jaw, left eye, right eye.
    """
    rest = model.shaped(shape, expression)
    joints = model.J_regressor @ rest
    pose = np.zeros((5, 3)) if pose is None else np.asarray(pose, np.float64)
    if pose.shape != (5, 3):
        raise ValueError(f"pose: expected shape (5, 3), found {pose.shape}")
    rest = rest + model.posedirs @ pose_feature(pose)
    turn = rotation(pose)
    world, origin = [turn[0]], [joints[0]]
    for joint in range(1, 5):
        parent = int(model.kintree_table[0, joint])
        world.append(world[parent] @ turn[joint])
        origin.append(world[parent] @ (joints[joint] - joints[parent]) + origin[parent])
    out = np.zeros_like(rest)
    for joint in range(5):
        moved = (rest - joints[joint]) @ world[joint].T + origin[joint]
        out += model.weights[:, joint : joint + 1] * moved
    return out


def build_head(config: HeadConfig | None = None) -> HeadModel:
    """Make the head model of ``config``; takes a second or two, always the same bytes."""
    config = config or HeadConfig()
    plan = template.build(config.step, config.ball_rings, config.ball_around)
    rest = plan.positions()
    shape = bases.identity(plan, rest, config.seed, config.n_shape)
    expression = bases.expression(plan, rest, config.seed, config.n_expression)
    directions = np.concatenate([shape, expression], -1)
    corners = landmarks.corner_rows(plan)
    # the codes that move the mean head toward feminine ones (minus: masculine)
    move = (plan.positions(surface.FEMININE) - rest).ravel()
    flat = shape.reshape(-1, config.n_shape)
    feminine = (flat.T @ move) / (flat**2).sum(0)
    origin = rest[corners].mean(0)
    mean, components = skin_maps.texture_basis(config.texture_size, config.n_texture, config.seed)
    face_mask, eye_mask = skin_maps.chart_masks(256)
    embedding = landmarks.embed(plan, rest)
    return HeadModel(
        v_template=((rest - origin) / 1000).astype(np.float32),
        f=plan.faces,
        shapedirs=(directions / 1000).astype(np.float32),
        posedirs=(bases.pose(plan, rest) / 1000).astype(np.float32),
        J_regressor=template.regressor(plan).astype(np.float64),
        weights=template.skinning(plan).astype(np.float32),
        kintree_table=np.array([PARENTS, range(5)], np.int64),
        uvcoords=plan.uvcoords,
        uvfaces=plan.uvfaces,
        n_shape_total=config.n_shape,
        uv_face_mask=face_mask,
        uv_face_eye_mask=eye_mask,
        fixed_displacement=np.zeros((256, 256), np.float32),
        MU=mean,
        PC=components,
        regions=plan.regions,
        plane=plan.plane.astype(np.float32),
        plane_xy=plan.plan.xy[plan.kept].astype(np.float32),
        ring=np.where(plan.plan.eye[plan.kept] != 0, plan.plan.ring[plan.kept], 9.0).astype("f4"),
        meta={
            "generator": GENERATOR,
            "seed": config.seed,
            "licence": "MIT, the regaze project",
            "feminine": [round(float(code), 5) for code in feminine],
            "expressions": list(bases.EXPRESSIONS),
            "regions": list(template.REGIONS),
            "config": asdict(config),
        },
        **embedding,
    )


def save_head(path: str | os.PathLike, model: HeadModel) -> None:
    """Write a head model as ``.npz`` without pickles; ``meta`` becomes JSON text."""
    content = dict(vars(model))
    content["meta"] = np.array(json.dumps(content["meta"], sort_keys=True))
    content["n_shape_total"] = np.array(content["n_shape_total"])
    with replacing(path) as part, open(part, "wb") as stream:
        np.savez(stream, **content)


def load_head(path: str | os.PathLike) -> HeadModel:
    """Read a head model written by :func:`save_head`.

    Raises:
        ValueError: the file is something else, lacks an array or holds pickles.
    """
    names = set(HeadModel.__dataclass_fields__)
    content = read_npz(path, "not a head model (.npz without pickles)", names)
    if missing := sorted(names - set(content)):
        raise ValueError(f"{path}: head model lacks {', '.join(missing)}")
    content["meta"] = json.loads(str(content["meta"]))
    content["n_shape_total"] = int(content["n_shape_total"])
    return HeadModel(**content)
