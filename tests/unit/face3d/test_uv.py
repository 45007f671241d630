"""Maps in the chart, detail displacement, dense meshes."""

import numpy as np
import torch

from regaze.face3d.uv import Chart, chart_points, dense_mesh, dense_triangles, to_ndc


def square(size: int = 24):
    """A plate that fills the chart: u along x, v along y, one metre each.

    It reaches over the chart's edge, so that no pixel's centre lies on its diagonal.
    """
    vertices = torch.tensor([[-0.3, 0, 0], [1, 0, 0], [1, 1, 0], [-0.3, 1, 0]])
    faces = [[0, 1, 2], [0, 2, 3]]
    return vertices, Chart(faces, vertices[:, :2].numpy(), faces, size)


def test_row_zero_is_the_top_of_the_chart():
    vertices, chart = square()
    found = chart.world2uv(vertices[None])[0]
    centres = (torch.arange(24) + 0.5) / 24
    torch.testing.assert_close(found[0], centres[None, :].expand(24, -1))
    torch.testing.assert_close(found[1], 1 - centres[:, None].expand(-1, 24))


def test_maps_are_per_item_and_differentiable():
    vertices, chart = square()
    values = torch.randn(3, 4, 5, requires_grad=True)
    maps = chart.world2uv(values)
    assert maps.shape == (3, 5, 24, 24)
    torch.testing.assert_close(chart.world2uv(values[1:2]), maps[1:2])
    maps.sum().backward()
    assert (values.grad.abs() > 0).all()


def test_chart_points_and_axes():
    points = chart_points(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert points.tolist() == [[-1, -1, 1], [1, 1, 1]]
    assert to_ndc(points[None])[0, 0].tolist() == [1, 1, 1]
    assert to_ndc(points[None], 40, 20)[0, 0].tolist() == [1, 2, 1]
    assert to_ndc(points[None], 20, 40)[0, 0].tolist() == [2, 1, 1]


def test_displacement_tilts_normals_of_a_plate():
    vertices, chart = square(32)
    normals = torch.tensor([0.0, 0, 1]).expand(1, 4, 3)
    # height grows along u by one per metre: the normal leans to -x by 45 degrees
    ramp = (torch.arange(32) / 32).expand(1, 1, 32, 32).clone()
    mask = torch.ones(1, 1, 32, 32)
    mask[..., :16] = 0.0
    found = chart.displaced_normals(ramp, vertices[None], normals, mask=mask)[0]
    half = 0.5**0.5
    torch.testing.assert_close(found[:, 16, 24].abs(), torch.tensor([half, 0.0, half]))
    assert float(found[0, 16, 24] * found[2, 16, 24]) < 0
    torch.testing.assert_close(found[:, 16, 8], torch.tensor([0.0, 0.0, 1.0]))
    unmixed = chart.displaced_normals(ramp, vertices[None], normals, mask=mask, blend=False)[0]
    assert (unmixed[:, 16, 0] == 0).all()  # no triangle of the dense mesh reaches the margin
    fixed = chart.displaced_normals(0 * ramp, vertices[None], normals, fixed=ramp[0, 0])[0]
    torch.testing.assert_close(fixed[:, 16, 12].abs(), torch.tensor([half, 0.0, half]))


def test_dense_triangles_keep_their_margins():
    found = dense_triangles(24, 20)
    y, x = found // 20, found % 20
    assert (x.min(), x.max(), y.min(), y.max()) == (2, 17, 5, 18)
    assert found.shape == (2 * 15 * 13, 3) and found[0].tolist() == [102, 122, 103]
    assert len(dense_triangles(8, 8)) == 0
    found[:] = 0
    assert dense_triangles(24, 20).max() > 0


def test_dense_mesh_moves_along_unit_normals():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    template = {
        "x_coords": np.array([0.0, 1, 0, 1]),
        "y_coords": np.array([0.0, 0, 1, 1]),
        "valid_pixel_ids": np.array([1, 2]),
        "valid_pixel_3d_faces": np.array([[0, 1, 2], [0, 1, 2]]),
        "valid_pixel_b_coords": np.array([[1.0, 0, 0], [0, 0.5, 0.5]]),
        "f": np.array([[0, 1, 0]], np.uint32),
    }
    displacement = np.array([[0, 0.25], [0.5, 0]])
    texture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    normals = np.tile([0.0, 0, 3], (3, 1))
    points, colours, faces = dense_mesh(vertices, normals, displacement, texture, template)
    np.testing.assert_allclose(points, [[0, 0, 0.25], [0.5, 0.5, 0.5]], atol=1e-7)
    assert colours.tolist() == [[3, 4, 5], [6, 7, 8]] and faces.tolist() == [[0, 1, 0]]
