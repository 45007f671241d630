"""Normals and light."""

import math

import pytest
import torch

from regaze.face3d.shading import (
    SH_CONSTANTS,
    directional_shading,
    point_shading,
    sh_basis,
    sh_shading,
    shape_lights,
    vertex_normals,
)


def sphere(rows: int = 12, columns: int = 16):
    """Unit sphere: vertices (V, 3) and triangles counter-clockwise from outside, y up."""
    theta = torch.linspace(0, math.pi, rows + 1)[1:-1]
    phi = torch.arange(columns) * (2 * math.pi / columns)
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    ring = torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1).reshape(-1, 3)
    verts = torch.cat([ring, torch.tensor([[0.0, 1, 0], [0, -1, 0]])])
    top, bottom = len(ring), len(ring) + 1
    faces = []
    for column in range(columns):
        after = (column + 1) % columns
        faces.append([top, column, after])
        for row in range(rows - 2):
            a, b = row * columns + column, row * columns + after
            faces += [[a, a + columns, b], [b, a + columns, b + columns]]
        last = (rows - 2) * columns
        faces.append([bottom, last + after, last + column])
    return verts, torch.tensor(faces)


def test_normals_of_a_sphere_point_outwards():
    verts, faces = sphere()
    normals = vertex_normals(verts[None], faces)[0]
    assert ((normals * verts).sum(-1) > 0.99).all()
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(verts)))


def test_normals_of_loose_vertices_are_zero_and_have_finite_gradients():
    verts = torch.zeros(2, 4, 3)
    verts[1, 1, 0] = verts[1, 2, 1] = 1.0
    verts.requires_grad_(True)
    normals = vertex_normals(verts, torch.tensor([[0, 1, 2]]))
    assert torch.equal(normals[0], torch.zeros(4, 3))
    assert normals[1, :3].tolist() == [[0, 0, 1]] * 3 and normals[1, 3].tolist() == [0, 0, 0]
    normals.sum().backward()
    assert torch.isfinite(verts.grad).all()


def test_three_triangles_are_not_mistaken_for_three_axes():
    verts, faces = sphere(4, 6)
    few = vertex_normals(verts[None], faces[:3])
    a, b, c = verts[faces[:3]].unbind(1)
    wanted = torch.zeros_like(verts).index_add(
        0, faces[:3].flatten(), torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0)
    )
    torch.testing.assert_close(few[0], torch.nn.functional.normalize(wanted, dim=-1, eps=1e-6))


def test_constants_are_the_published_ones():
    wanted = [0.28209479, *[1.02332671] * 3, *[0.85808553] * 3, 0.42904277, 0.24770796]
    assert list(SH_CONSTANTS) == pytest.approx(wanted, abs=1e-8)


def test_constant_light_does_not_depend_on_the_normal():
    normals = torch.nn.functional.normalize(torch.randn(2, 3, 4, 5), dim=1)
    light = torch.zeros(2, 9, 3)
    light[:, 0] = torch.tensor([1.0, 2, 3]) / SH_CONSTANTS[0]
    wanted = torch.tensor([1.0, 2, 3])[None, :, None, None].expand(2, 3, 4, 5)
    torch.testing.assert_close(sh_shading(normals, light), wanted)
    assert sh_basis(normals).shape == (2, 9, 4, 5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_first_order_terms_brighten_what_faces_their_axis(axis):
    light = torch.zeros(1, 9, 3)
    light[:, 1 + axis] = 1.0
    normal = torch.zeros(1, 3, 1, 2)
    normal[0, axis, 0] = torch.tensor([1.0, -1.0])
    bright, dark = sh_shading(normal, light)[0, 0, 0]
    assert bright > 0 > dark


def test_far_light_is_clamped_and_point_light_is_not():
    normals = torch.tensor([[[0.0, 0, 1], [0, 0, -1]]])
    lights = torch.tensor([[[0.0, 0, 5, 1, 2, 3]]])
    far = directional_shading(normals, lights)
    assert far.tolist() == [[[1, 2, 3], [0, 0, 0]]]
    near = point_shading(torch.zeros(1, 2, 3), normals, lights)
    assert near.tolist() == [[[1, 2, 3], [-1, -2, -3]]]


def test_shape_lights_come_from_the_front():
    lights = shape_lights(torch.zeros(1, dtype=torch.float64))
    assert lights.shape == (1, 5, 6) and lights.dtype == torch.float64
    assert (lights[..., 2] == 1).all() and (lights[..., 3:] == 1.7).all()
