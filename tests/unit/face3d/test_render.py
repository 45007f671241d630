"""Pictures of a sphere: axes, masks, sizes, gradients."""

import math

import pytest
import torch

from regaze.face3d.crop import to_image_space
from regaze.face3d.render import Renderer
from regaze.face3d.uv import blend_texture

SIZE = 32


def sphere(rows: int = 24, columns: int = 32):
    """Sphere of 0.1 m with a chart: vertices, triangles, chart points, chart triangles.

    Longitude runs over u with a seam at the back, v = 1 is the top.
    """
    theta = torch.linspace(0.02, math.pi - 0.02, rows + 1)
    phi = torch.linspace(-math.pi, math.pi, columns + 1)
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    grid = 0.1 * torch.stack([t.sin() * p.sin(), t.cos(), t.sin() * p.cos()], -1)
    verts = grid[:, :-1].reshape(-1, 3)
    u, v = (p + math.pi) / (2 * math.pi), 1 - t / math.pi
    uvcoords = torch.stack([u, v], -1).reshape(-1, 2)
    faces, uvfaces = [], []
    for row in range(rows):
        for column in range(columns):
            square = ((row, column), (row + 1, column), (row, column + 1), (row + 1, column + 1))
            for a, b, c in ((0, 1, 2), (2, 1, 3)):
                corners = [square[i] for i in (a, b, c)]
                faces.append([r * columns + k % columns for r, k in corners])
                uvfaces.append([r * (columns + 1) + k for r, k in corners])
    return verts, torch.tensor(faces), uvcoords, torch.tensor(uvfaces)


@pytest.fixture(scope="module")
def scene():
    verts, faces, uvcoords, uvfaces = sphere()
    renderer = Renderer(faces, uvcoords, uvfaces, image_size=SIZE, uv_size=48)
    world = torch.stack([verts, verts * torch.tensor([1.0, 0.8, 1.0])])
    cam = torch.tensor([[8.0, 0.003, -0.002], [8.0, 0.002, 0.001]])
    return renderer, world, to_image_space(world, cam)


def test_normal_axes_are_left_up_and_towards_the_viewer(scene):
    renderer, world, flat = scene
    out = renderer(world, flat, torch.ones(2, 3, 8, 8))
    x, y, z = out.normals[0]
    inside = out.alpha[0, 0] > 0
    # The subject's left is at the right of the picture; its top is at the top.
    assert x[SIZE // 2, -8] > 0.5 > -0.5 > x[SIZE // 2, 8]
    assert y[8, SIZE // 2] > 0.5 > -0.5 > y[-8, SIZE // 2]
    assert z[SIZE // 2, SIZE // 2] > 0.95 and (z[inside] > -0.05).all()
    assert (out.normals[:, :, ~inside][0] == 0).all()
    front = out.front[0, 0] > 0
    assert (front <= inside).all() and front.sum() > 0.95 * inside.sum()
    length = out.normals[0].norm(dim=0)[inside]
    assert (length <= 1 + 1e-5).all() and (length > 0.97).all()


def test_size_and_place_follow_the_camera(scene):
    renderer, world, flat = scene
    alpha = renderer(world, flat, torch.ones(2, 3, 8, 8)).alpha[0, 0]
    # radius s * 0.1 = 0.8 of half the picture
    assert float(alpha.sum()) == pytest.approx(math.pi * (0.4 * SIZE) ** 2, rel=0.03)
    rows, columns = alpha.nonzero(as_tuple=True)
    centre = columns.double().mean(), rows.double().mean()
    # s * t * S/2 pixels: right for +tx, and ty is up, so a negative one moves the head down
    wanted = SIZE / 2 * (1 + 8 * 0.003) - 0.5, SIZE / 2 * (1 + 8 * 0.002) - 0.5
    assert [float(v) for v in centre] == pytest.approx(wanted, abs=0.15)


def test_texture_lies_the_right_way_round(scene):
    renderer, world, flat = scene
    albedo = torch.zeros(2, 3, 64, 64)
    albedo[:, 0, :, 32:] = 1.0  # u > 0.5 is the subject's left
    albedo[:, 1, :32] = 1.0  # rows at the top are v > 0.5
    image = renderer(world, flat, albedo).albedo[0]
    assert image[:, 9, 22].tolist() == [1, 1, 0] and image[:, 22, 9].tolist() == [0, 0, 0]
    assert image[:, 22, 22].tolist() == [1, 0, 0] and image[:, 9, 9].tolist() == [0, 1, 0]


def test_light_background_and_albedo(scene):
    renderer, world, flat = scene
    albedo = torch.full((2, 3, 8, 8), 0.5)
    light = torch.zeros(2, 9, 3)
    light[:, 0] = 2.0
    photo = torch.rand(2, 3, SIZE, SIZE)
    plain = renderer(world, flat, albedo)
    lit = renderer(world, flat, albedo, light, photo)
    inside = (lit.alpha > 0).expand(-1, 3, -1, -1)
    assert plain.shading is None and torch.equal(plain.images, plain.albedo)
    wanted = torch.where(inside, lit.shading * plain.albedo, photo)
    torch.testing.assert_close(lit.images, wanted)
    torch.testing.assert_close(lit.albedo, torch.where(inside, plain.albedo, photo))
    assert plain.albedo[0, 0, SIZE // 2, SIZE // 2] == 0.5


def test_pictures_do_not_depend_on_the_batch_or_change_their_input(scene):
    renderer, world, flat = scene
    albedo, kept = torch.rand(2, 3, 16, 16), flat.clone()
    both = renderer(world, flat, albedo)
    for item in range(2):
        part = slice(item, item + 1)
        alone = renderer(world[part], flat[part], albedo[part])
        torch.testing.assert_close(alone.images, both.images[part])
        torch.testing.assert_close(
            renderer.depth_image(flat[part]), renderer.depth_image(flat)[part]
        )
        torch.testing.assert_close(
            renderer.shape_image(world[part], flat[part]),
            renderer.shape_image(world, flat)[part],
        )
    assert torch.equal(flat, kept)


def test_wide_pictures_span_their_own_sides(scene):
    renderer, world, flat = scene
    wide = renderer(world, flat, torch.ones(2, 3, 8, 8), size=(24, 40)).alpha[0, 0]
    rows, columns = wide.nonzero(as_tuple=True)
    assert wide.shape == (24, 40)
    assert int(columns.max() - columns.min()) == pytest.approx(0.8 * 40, abs=2)
    assert int(rows.max() - rows.min()) == pytest.approx(0.8 * 24, abs=2)


def test_depth_and_shape_images(scene):
    renderer, world, flat = scene
    depth = renderer.depth_image(flat)
    assert depth.shape == (2, 1, SIZE, SIZE)
    rows, columns = (depth[0, 0] == depth[0, 0].max()).nonzero(as_tuple=True)
    assert abs(int(rows[0]) - SIZE // 2) <= 1 and abs(int(columns[0]) - SIZE // 2) <= 1
    assert 0.98 < float(depth.max()) <= 1 and depth[0, 0, 0, 0] == 0
    shape = renderer.shape_image(world, flat)
    assert shape.shape == (2, 3, SIZE, SIZE) and shape[0, 0, SIZE // 2, SIZE // 2] > 0.5
    assert torch.equal(shape[:, 0], shape[:, 1]) and shape[0, 0, 0, 0] == 0
    # flat detail normals towards the viewer: the same grey wherever the form is seen
    maps = torch.zeros(2, 3, 48, 48)
    maps[:, 2] = 1.0
    smooth = renderer.shape_image(world, flat, detail_normals=maps)[0, 0]
    middle = smooth[10:22, 10:22]
    torch.testing.assert_close(middle, middle[:1, :1].expand_as(middle), atol=0.02, rtol=0)


def test_nothing_in_view_gives_zeros(scene):
    renderer, world, flat = scene
    away = flat + torch.tensor([5.0, 0, 0])
    out = renderer(world, away, torch.ones(2, 3, 8, 8), torch.ones(2, 9, 3))
    for image in (out.images, out.albedo, out.normals, out.alpha, renderer.depth_image(away)):
        assert (image == 0).all()


def test_landmark_visibility(scene):
    renderer, world, flat = scene
    normals = torch.nn.functional.normalize(world[0], dim=-1)[renderer.faces].mean(1)
    front, back = int(normals[:, 2].argmax()), int(normals[:, 2].argmin())
    weights = torch.full((2, 3), 1 / 3)
    seen = renderer.landmark_visibility(flat, torch.tensor([front, back]), weights)
    assert seen.tolist() == [[1, 0], [1, 0]]


def test_maps_and_textures_come_back(scene):
    renderer, world, flat = scene
    maps = renderer.world2uv(world)
    assert maps.shape == (2, 3, 48, 48)
    # row 12 of 48 is latitude 45 degrees up, column 24 the front
    torch.testing.assert_close(maps[0, 1, 12, 24], torch.tensor(0.0700), atol=0.003, rtol=0)
    assert maps[0, 2, 24, 24] > 0.095 and maps[0, 0, 24, 34] > 0.05
    photo = torch.zeros(2, 3, SIZE, SIZE)
    photo[:, 0, : SIZE // 2] = 1.0
    texture = renderer.extract_texture(photo, flat)
    assert texture[0, 0, 14, 24] == 1 and texture[0, 0, 34, 24] == 0
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., 20:] = 1.0
    mixed = blend_texture(texture, mask)
    assert mixed[0, 0, 14, 24] == 1 and float(mixed[0, 0, 14, 4]) == pytest.approx(0.7)


def test_gradients_reach_every_input(scene):
    renderer, world, _ = scene
    world = world.clone().requires_grad_(True)
    cam = torch.tensor([[8.0, 0, 0], [7.0, 0, 0]]).requires_grad_(True)
    albedo = torch.rand(2, 3, 16, 16).requires_grad_(True)
    light = torch.rand(2, 9, 3).requires_grad_(True)
    out = renderer(world, to_image_space(world, cam), albedo, light)
    (out.images**2).sum().backward()
    for name, value in {"world": world, "cam": cam, "albedo": albedo, "light": light}.items():
        assert torch.isfinite(value.grad).all() and value.grad.abs().sum() > 0, name


def test_backends_agree_and_are_named(scene):
    renderer, world, flat = scene
    assert renderer.backend_used == "embree"
    other = Renderer(*sphere()[1:], SIZE, 48, "reference")
    for size in (None, (20, 30)):
        first = renderer(world, flat, torch.ones(2, 3, 8, 8), size=size)
        second = other(world, flat, torch.ones(2, 3, 8, 8), size=size)
        torch.testing.assert_close(first.normals, second.normals)
