"""The procedural head in FLAME's array format.

Layout and meaning of the arrays are those of FLAME (Li et al. 2017, Learning a model of facial
shape and expression from 4D scans) as its public loaders read them: metres, +x the subject's
left, +y up, +z out of the face; joints root, neck, jaw, left eye, right eye. Nothing of the
licensed model is used: template and bases are made by :mod:`regaze.capture.surface`,
:mod:`regaze.capture.template` and :mod:`regaze.capture.bases` from a seed.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

import numpy as np

from regaze.angles import rotation_from_vector
from regaze.capture import bases, landmarks, skin_maps, surface, template
from regaze.face3d.model import FlameModel, load_flame, make_model

GENERATOR = "regaze procedural head 1"
PARENTS = (-1, 0, 1, 1, 1)
NEEDED = ("uvcoords", "uvfaces", "regions", "plane", "plane_xy", "ring")
"""Arrays of a head model that the format does not ask for, but the capture does."""


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


def eye_rotation(direction: np.ndarray) -> np.ndarray:
    """Axis-angle (.., 3) turning +z to head-frame unit directions (.., 3), without torsion."""
    d = np.asarray(direction, np.float64)
    axis = np.stack([-d[..., 1], d[..., 0], 0 * d[..., 0]], -1)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, d[..., 2:3])
    return axis * (angle / np.maximum(sine, 1e-12))


def pose_feature(pose: np.ndarray) -> np.ndarray:
    """FLAME's 36 pose features of the axis-angles (5, 3) of all joints."""
    return (rotation_from_vector(pose[1:]) - np.eye(3)).reshape(-1)


def build_head(config: HeadConfig | None = None) -> FlameModel:
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
    arrays = dict(
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
        **embedding,
    )
    meta = {
        "source": "synthetic",
        "generator": GENERATOR,
        "seed": config.seed,
        "licence": "MIT, the regaze project",
        "feminine": [round(float(code), 5) for code in feminine],
        "expressions": list(bases.EXPRESSIONS),
        "regions": list(template.REGIONS),
        "config": asdict(config),
    }
    return make_model(arrays, "procedural head", meta=meta)


def load_head(path: str | os.PathLike) -> FlameModel:
    """Read a head model that the capture can render.

    Raises:
        ValueError: no such file, no head model, or one that lacks what the capture needs.
    """
    model = load_flame(path)
    lacking = [name for name in NEEDED if getattr(model, name) is None]
    if lacking:
        raise ValueError(f"{path}: the capture needs {', '.join(lacking)}, which this head lacks")
    return model
