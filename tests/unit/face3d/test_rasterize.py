"""The rasteriser's contract, and that its backends agree."""

import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.face3d.rasterize import Fragments, choose_backend, rasterize, scan
from regaze.face3d.rasterize.grid import pixel_centres, weights_at


def soup(seed: int, count: int, scale: float = 1.0, depth: float = 2.0):
    """Random triangles, none of which share a vertex."""
    draw = np.random.default_rng(seed)
    middle = draw.uniform(-1, 1, (count, 1, 3))
    corners = middle + scale * draw.uniform(-0.7, 0.7, (count, 3, 3))
    corners[..., 2] += depth
    verts = torch.from_numpy(corners.reshape(-1, 3).astype(np.float32))
    return verts, torch.arange(3 * count).reshape(count, 3)


def sheet(seed: int, side: int):
    """A closed-up height field: shared vertices and edges, as of a head."""
    draw = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-0.9, 0.9, side), np.linspace(-0.8, 0.85, side), indexing="ij")
    z = 3 + 0.3 * draw.standard_normal((side, side))
    shift = 0.2 / side * draw.standard_normal((2, side, side))
    verts = np.stack([x + shift[0], y + shift[1], z], -1).reshape(-1, 3)
    index = np.arange(side * side).reshape(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (b, d, c))])
    return torch.from_numpy(verts.astype(np.float32)), torch.from_numpy(faces)


def undecided(verts, faces, height, width, perspective):
    """Pixels whose centre lies on an edge, or where two triangles are equally deep."""
    corners = verts.double().numpy()[faces.numpy()]
    corners = corners[(corners[..., 2] > 0).all(1)]
    x, y = pixel_centres(height, width)
    out = np.zeros((height, width), bool)
    depths = np.full((height, width, len(corners)), np.inf)
    for face, corner in enumerate(corners):
        flat = weights_at(corner, x[None, :], y[:, None], False)
        out |= (np.abs(flat).min(-1) < 1e-5) & (flat > -1e-5).all(-1)
        z = weights_at(corner, x[None, :], y[:, None], perspective) @ corner[:, 2]
        depths[..., face] = np.where((flat > 0).all(-1), z, np.inf)
    if len(corners) > 1:
        nearest = np.sort(depths, -1)[..., :2]
        with np.errstate(invalid="ignore"):
            out |= np.nan_to_num(nearest[..., 1] - nearest[..., 0], nan=1.0, posinf=1.0) < 1e-5
    return out


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    height=st.integers(3, 24),
    width=st.integers(3, 24),
    perspective=st.booleans(),
    cull=st.booleans(),
    connected=st.booleans(),
    depth=st.sampled_from([0.4, 2.0, 10.0]),
)
@settings(max_examples=80, deadline=None)
def test_backends_find_what_the_reference_finds(
    seed, count, height, width, perspective, cull, connected, depth
):
    verts, faces = sheet(seed, 2 + count // 8) if connected else soup(seed, count, depth=depth)
    size = height, width
    wanted = rasterize(verts[None], faces[None], size, 1, perspective, cull, "reference")
    sure = torch.from_numpy(~undecided(verts, faces, height, width, perspective))[None, ..., None]
    for backend in ("embree", "torch"):
        found = rasterize(verts[None], faces[None], size, 1, perspective, cull, backend)
        same = wanted.pix_to_face == found.pix_to_face
        assert (same | ~sure).all(), backend
        for name in ("zbuf", "dists"):
            torch.testing.assert_close(same * getattr(wanted, name), same * getattr(found, name))
        torch.testing.assert_close(same[..., None] * wanted.bary, same[..., None] * found.bary)


def test_centres_on_edges_are_outside_with_every_backend():
    # 3 pixels: the middle column's centre is at x = 0, on the edge that the triangles share.
    verts = torch.tensor([[0, -0.9, 2], [0, 0.9, 2], [0.9, 0, 2], [-0.9, 0, 2]])[None]
    faces = torch.tensor([[0, 1, 2], [1, 0, 3]])[None]
    for backend in ("reference", "embree", "torch"):
        found = rasterize(verts, faces, 3, backend=backend)
        assert found.pix_to_face[0, 1, :, 0].tolist() == [0, -1, 1], backend
    # A larger triangle behind is then seen through the seam.
    behind = torch.tensor([[-3.0, -3, 4], [3, -3, 4], [0.1, 4, 4]])[None]
    verts, faces = torch.cat([verts, behind], 1), torch.cat([faces, torch.tensor([[[4, 5, 6]]])], 1)
    for backend in ("reference", "embree", "torch"):
        found = rasterize(verts, faces, 3, backend=backend)
        assert found.pix_to_face[0, 1, :, 0].tolist() == [0, 2, 1], backend


def test_the_lower_of_two_coinciding_triangles_wins():
    verts = torch.tensor([[-0.8, -0.7, 2.5], [0.9, -0.6, 2], [0, 0.8, 3]])
    faces = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2]])
    for backend in ("reference", "embree", "torch"):
        found = rasterize(verts[None], faces[None], 16, backend=backend).pix_to_face
        assert set(found.unique().tolist()) == {-1, 0}, backend


def test_a_flat_chart_may_overlap_itself():
    verts, faces = soup(6, 60)
    verts[:, 2] = 1.0
    wanted = rasterize(verts[None], faces[None], 24, backend="reference")
    for backend in ("embree", "torch"):
        found = rasterize(verts[None], faces[None], 24, backend=backend)
        assert torch.equal(wanted.pix_to_face, found.pix_to_face), backend
    assert len(wanted.pix_to_face.unique()) > 20


def test_slivers_have_the_contracts_depth():
    # Double area 8e-7: its weights add up to 0.9877, which brings it before the plate.
    verts = torch.tensor(
        [
            [-0.5, -5e-7, 5.05],
            [0.3, -5e-7, 5.05],
            [-0.1, 5e-7, 5.05],
            [-1, 1, 5],
            [1, 1, 5],
            [0, -2, 5],
        ]
    )
    for order in ([0, 1, 2], [2, 1, 0]):
        faces = torch.tensor([[3, 4, 5], order])[None]
        ids = [
            rasterize(verts[None], faces, 5, backend=backend).pix_to_face.flatten().tolist()
            for backend in ("reference", "embree", "torch")
        ]
        assert ids[0] == ids[1] == ids[2]
        assert (1 in ids[0]) == (order == [2, 1, 0])


def test_memory_layout_does_not_matter():
    verts, faces = sheet(4, 6)
    wanted = rasterize(verts[None], faces[None], 24, backend="embree").pix_to_face
    strided = torch.from_numpy(np.asfortranarray(faces.numpy()))
    turned = torch.from_numpy(np.asfortranarray(verts.numpy()))
    found = rasterize(turned[None], strided[None], 24, backend="embree").pix_to_face
    assert torch.equal(found, wanted) and wanted.max() > 0


def test_axes_and_row_order():
    # +x is left, +y up: a small triangle in that corner is seen at the top left.
    verts = torch.tensor([[0.5, 0.5, 1], [1.0, 0.5, 1], [0.5, 1.0, 1]])[None]
    for backend in ("reference", "embree", "torch"):
        seen = rasterize(verts, torch.tensor([[[0, 1, 2]]]), 16, backend=backend).pix_to_face >= 0
        rows, columns = seen[0, ..., 0].nonzero(as_tuple=True)
        assert rows.max() < 4 and columns.max() < 4 and len(rows), backend


def test_batches_are_packed_and_share_faces():
    verts, faces = soup(1, 6)
    other = verts * torch.tensor([-1.0, 1, 1])
    both, same = (
        rasterize(torch.stack([verts, other]), faces[None], 20, backend=backend)
        for backend in ("embree", "torch")
    )
    assert torch.equal(both.pix_to_face, same.pix_to_face)
    for mesh, one in enumerate((verts, other)):
        alone = rasterize(one[None], faces[None], 20, backend="embree")
        ids = torch.where(alone.pix_to_face >= 0, alone.pix_to_face + 6 * mesh, -1)
        assert torch.equal(both.pix_to_face[mesh : mesh + 1], ids)
        assert torch.equal(both.bary[mesh : mesh + 1], alone.bary)


def test_gradients_match_finite_differences_and_do_not_depend_on_the_backend():
    verts, faces = soup(5, 8)
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 12, 12, 1, 3)))
    gradients = {}
    for backend in ("reference", "embree", "torch"):
        for perspective in (False, True):
            moved = verts.double()[None].clone().requires_grad_(True)

            def loss(points, backend=backend, perspective=perspective):
                out = rasterize(points, faces[None], 12, 1, perspective, backend=backend)
                return ((out.bary * weight).sum(-1) + out.zbuf)[out.pix_to_face >= 0].sum()

            loss(moved).backward()
            gradients[backend, perspective] = moved.grad
            direction = torch.from_numpy(np.random.default_rng(1).standard_normal(moved.shape))
            step = 1e-7
            with torch.no_grad():
                slope = (loss(moved + step * direction) - loss(moved - step * direction)) / (
                    2 * step
                )
            assert slope == pytest.approx(float((moved.grad * direction).sum()), rel=1e-4)
    for backend in ("embree", "torch"):
        for perspective in (False, True):
            wanted = gradients["reference", perspective]
            torch.testing.assert_close(gradients[backend, perspective], wanted)


def test_layers_are_sorted_and_the_first_is_the_single_one():
    verts, faces = soup(8, 20)
    one = rasterize(verts[None], faces[None], 16, 1, backend="embree")
    many = rasterize(verts[None], faces[None], 16, 4, backend="reference")
    assert torch.equal(one.pix_to_face[..., 0], many.pix_to_face[..., 0])
    hit = many.pix_to_face >= 0
    depth = torch.where(hit, many.zbuf, torch.inf)
    assert (depth[..., 1:] >= depth[..., :-1]).all()
    assert (many.bary[hit] > 0).all() and (many.dists[hit] < 0).all()
    torch.testing.assert_close(many.bary[hit].sum(-1), torch.ones(int(hit.sum())))


def test_large_triangles_are_worked_off_in_parts(monkeypatch):
    verts, faces = soup(7, 30)
    wanted = rasterize(verts[None], faces[None], 20, backend="torch").pix_to_face
    for most in (1, 50, 300):
        monkeypatch.setattr(scan, "CANDIDATES", {"cpu": most})
        found = rasterize(verts[None], faces[None], 20, backend="torch").pix_to_face
        assert torch.equal(found, wanted), most
    doubled = torch.cat([faces, faces])[None]
    assert torch.equal(rasterize(verts[None], doubled, 20, backend="torch").pix_to_face, wanted)


@pytest.mark.parametrize("backend", ["reference", "embree", "torch"])
def test_nothing_to_see(backend):
    verts, faces = soup(2, 4)
    for points in (verts - torch.tensor([0, 0, 9.0]), verts + torch.tensor([9.0, 0, 0])):
        found = rasterize(points[None].requires_grad_(True), faces[None], 8, backend=backend)
        assert all((part == -1).all() for part in found)
        found.zbuf.sum().backward()
    found = rasterize(verts[None], faces[None, :0], 8, backend=backend)
    assert (found.pix_to_face == -1).all()
    flat = verts.clone()
    flat[:, 1] = 0
    assert (rasterize(flat[None], faces[None], 8, backend=backend).zbuf == -1).all()


def test_choice_of_the_backend(monkeypatch):
    monkeypatch.setattr("regaze.face3d.rasterize.pytorch3d.available", lambda: False)
    assert choose_backend("auto", "cpu") == "embree"
    assert choose_backend("auto", "cpu", 3) == "reference"
    assert choose_backend("auto", "cuda") == "torch"
    assert choose_backend("auto", "cuda", 3) == "reference"
    with pytest.raises(ValueError, match="expected one of"):
        choose_backend("opengl", "cpu")
    for backend in ("embree", "torch"):
        with pytest.raises(ValueError, match="faces_per_pixel"):
            choose_backend(backend, "cpu", 2)
    monkeypatch.setattr("regaze.face3d.rasterize.pytorch3d.available", lambda: True)
    assert choose_backend("auto", "cuda") == "pytorch3d" == choose_backend("auto", "cuda", 3)
    assert choose_backend("auto", "cpu") == "embree"


def test_vertices_that_are_no_numbers_are_named():
    verts, faces = soup(0, 2)
    with pytest.raises(ValueError, match=r"finite numbers, found others in mesh \[1\]"):
        rasterize(torch.stack([verts, verts * torch.nan]), faces[None], 8)


def test_pytorch3d_is_called_with_the_contract(monkeypatch):
    verts, faces = soup(0, 3)
    with pytest.raises(ModuleNotFoundError, match="envs/pytorch3d.yaml"):
        rasterize(verts[None], faces[None], 8, backend="pytorch3d")
    calls = {}

    def rasterize_meshes(meshes, **options):
        calls.update(options, meshes=meshes)
        return Fragments(*(torch.zeros(1) for _ in range(4)))

    names = "pytorch3d", "pytorch3d.renderer", "pytorch3d.renderer.mesh", "pytorch3d.structures"
    for name in (*names, "pytorch3d.renderer.mesh.rasterize_meshes"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["pytorch3d.renderer.mesh.rasterize_meshes"].rasterize_meshes = rasterize_meshes
    sys.modules["pytorch3d.structures"].Meshes = lambda verts, faces: (verts, faces)
    both = torch.stack([verts, verts])
    rasterize(both, faces[None], (8, 6), 2, True, True, backend="pytorch3d")
    meshes = calls.pop("meshes")
    assert [part.shape for part in meshes[0]] == [(9, 3)] * 2
    assert [part.tolist() for part in meshes[1]] == [faces.tolist()] * 2
    assert calls == {
        "image_size": (8, 6),
        "blur_radius": 0.0,
        "faces_per_pixel": 2,
        "perspective_correct": True,
        "clip_barycentric_coords": False,
        "cull_backfaces": True,
    }
