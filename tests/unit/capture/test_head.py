"""The procedural head keeps the invariants of FLAME's format."""

import dataclasses

import numpy as np
import pytest
from heads import tiny_head
from numpy_flame import posed, rotations

from regaze.angles import rotation_from_vector
from regaze.capture import HeadConfig, build_head, load_head, surface
from regaze.capture.head import eye_rotation
from regaze.capture.landmarks import gather
from regaze.face3d.model import save_flame


@pytest.fixture(scope="module")
def model():
    return build_head()


def eye_rows(model):
    return model.rows_of("left_eye"), model.rows_of("right_eye")


def test_arrays_have_flame_shapes(model):
    v, f = len(model.v_template), len(model.f)
    assert model.v_template.dtype == np.float32 and model.f.dtype == np.int64
    assert model.shapedirs.shape == (v, 3, model.n_shape_total + 50)
    assert model.posedirs.shape == (v, 3, 36) and model.J_regressor.shape == (5, v)
    assert model.weights.shape == (v, 5) and model.kintree_table.shape == (2, 5)
    assert model.kintree_table[0].tolist() == [-1, 0, 1, 1, 1]
    assert model.uvfaces.shape == (f, 3) and model.uvfaces.max() < len(model.uvcoords)
    assert model.uvcoords.min() >= 0 and model.uvcoords.max() <= 1
    assert model.static_lmk_faces_idx.shape == (51,) and model.full_lmk_bary_coords.shape == (
        1,
        68,
        3,
    )
    assert model.dynamic_lmk_faces_idx.shape == (79, 17)
    assert model.MU.shape == (128, 128, 3) and model.PC.shape == (128, 128, 3, 50)
    # metres, +x the subject's left, +z out of the face
    size = np.ptp(model.v_template, axis=0)
    assert 0.14 < size[0] < 0.22 and 0.25 < size[1] < 0.36 and 0.18 < size[2] < 0.26
    nose = gather(model, model.v_template)[30]
    assert nose[2] > 0.02 and abs(nose[0]) < 0.002


def test_parts_are_contiguous_and_eyes_last(model):
    left, right = eye_rows(model)
    v = len(model.v_template)
    assert np.array_equal(np.concatenate([left, right]), np.arange(v - 2 * len(left), v))
    assert model.v_template[left, 0].mean() > 0.025 and model.v_template[right, 0].mean() < -0.025


def test_eyeballs_are_closed_and_outward(model):
    for rows in eye_rows(model):
        faces = model.f[np.isin(model.f, rows).all(1)] - rows[0]
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        there = {tuple(edge) for edge in edges.tolist()}
        assert len(there) == len(edges)
        assert all((b, a) in there for a, b in there)
        x = model.v_template[rows].astype(float)
        a, b, c = (x[faces[:, i]] - x.mean(0) for i in range(3))
        assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) > 0).all()


def test_skin_triangles_face_outwards(model):
    skin = model.f[(model.regions[model.f] == 0).all(1)]
    x = model.v_template.astype(float) * 1000
    a, b, c = (x[skin[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    outward = (a + b + c) / 3 - [0, 20, -78]
    outward[:, 1] *= 0.2
    area = np.linalg.norm(normal, axis=1)
    agrees = np.einsum("ij,ij->i", normal, outward) > 0
    assert (agrees * area).sum() > 0.93 * area.sum()


def test_regressor_and_weights(model):
    assert np.allclose(model.J_regressor.sum(1), 1)
    assert np.allclose(model.weights.sum(1), 1, atol=1e-6) and model.weights.min() >= 0
    joints = model.J_regressor @ model.v_template
    for joint, rows in zip((3, 4), eye_rows(model), strict=True):
        assert np.array_equal(model.weights[rows], np.eye(5, dtype=np.float32)[[joint] * len(rows)])
        radius = np.linalg.norm(model.v_template[rows] - joints[joint], axis=1)
        assert radius.max() < 1.02 * surface.RADIUS / 1000


def test_identity_basis(model):
    basis = model.shapedirs[:, :, : model.n_shape_total].astype(float)
    flat = basis.reshape(-1, model.n_shape_total)
    gram = flat.T @ flat
    scale = np.sqrt(np.diag(gram))
    assert np.abs(gram / np.outer(scale, scale) - np.eye(len(gram))).max() < 1e-3
    rms = 1000 * np.sqrt((basis**2).sum(1).mean(0))
    assert 2 < rms[0] < 4 and (np.diff(rms) < 1e-6).all()
    for rows in eye_rows(model):
        # rigid with the socket: every vertex of a ball moves alike
        assert np.ptp(model.shapedirs[rows], axis=0).max() < 1e-7


@pytest.mark.parametrize("seed", range(4))
def test_lids_stay_off_the_ball_and_show_the_pupil(model, seed):
    rng = np.random.default_rng(seed)
    shape = np.clip(rng.normal(size=model.n_shape_total), -2, 2)
    lids = [
        np.flatnonzero((model.ring <= 2.2) & (side * model.plane_xy[:, 0] > 0)) for side in (1, -1)
    ]
    for pitch in np.radians([-25, 0, 25]):
        for yaw in np.radians([-25, 0, 25]):
            pose = np.zeros((5, 3))
            pose[3:] = [pitch, yaw, 0]
            vertices = posed(model, shape, pose=pose) * 1000
            for rows, ball in zip(lids, eye_rows(model), strict=True):
                centre = vertices[ball].mean(0)
                assert np.linalg.norm(vertices[rows] - centre, axis=1).min() > surface.RADIUS
                axis = rotations(pose[3:4])[0] @ [0, 0, 1.0]
                pupil = centre + surface.RADIUS * axis
                edge = vertices[rows[np.isclose(model.ring[rows], surface.RINGS[0])]]
                heights = []
                for part in (edge[:, 1] > edge[:, 1].mean(), edge[:, 1] < edge[:, 1].mean()):
                    order = np.argsort(edge[part, 0])
                    heights.append(np.interp(pupil[0], *edge[part][order, :2].T))
                assert heights[1] < pupil[1] < heights[0]


def test_blink_closes_the_opening(model):
    code = np.zeros(50)
    code[:2] = 1
    vertices = posed(model, expression=code) * 1000
    for side, ball in zip((1, -1), eye_rows(model), strict=True):
        margin = np.isclose(model.ring, surface.RINGS[1]) & (side * model.plane_xy[:, 0] > 0)
        edge = vertices[: len(model.ring)][margin]
        middle = np.abs(edge[:, 0] - vertices[ball, 0].mean()) < 5
        assert np.ptp(edge[middle, 1]) < 1.5


def test_eye_rotation_turns_forward_to_direction():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(20, 3)) * [0.5, 0.5, 0.1] + [0, 0, 1]
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    assert np.allclose(rotation_from_vector(eye_rotation(d)) @ [0, 0, 1.0], d, atol=1e-12)


def test_save_load_and_determinism(tmp_path):
    config = HeadConfig.tiny()
    save_flame(tmp_path / "a.npz", build_head(config))
    save_flame(tmp_path / "b.npz", build_head(config))
    again = load_head(tmp_path / "a.npz")
    fresh = build_head(config)
    for name, value in vars(fresh).items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(getattr(again, name), value), name
    assert again.meta == fresh.meta
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    assert all(a[k].tobytes() == b[k].tobytes() for k in a.files)


def test_missing_array_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", f=np.zeros(3))
    with pytest.raises(ValueError, match="x.npz.*v_template"):
        load_head(tmp_path / "x.npz")
    bare = dataclasses.replace(tiny_head(), uvcoords=None, uvfaces=None, ring=None)
    bare = dataclasses.replace(bare, plane=None, plane_xy=None)
    save_flame(tmp_path / "x.npz", bare)
    with pytest.raises(ValueError, match=r"x\.npz: the capture needs uvcoords, uvfaces, plane"):
        load_head(tmp_path / "x.npz")


def test_skin_and_ears_face_outwards():
    model = tiny_head()
    corners = model.v_template[model.f]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle, region = corners.mean(1), model.regions[model.f[:, 0]]
    outwards = (middle - [0, 0, -0.07]) * normals
    assert (outwards[region == 0].sum(1) > 0).mean() > 0.98
    # An ear has a back; seen from its own side most of it faces the viewer.
    ears = region == 4
    assert (middle[ears, 0] * normals[ears, 0] > 0).mean() > 0.7
