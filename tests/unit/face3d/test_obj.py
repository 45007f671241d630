"""Mesh files."""

import numpy as np
from PIL import Image

from regaze.face3d.obj import read_obj, write_obj

VERTICES = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0.0, 0.0, 0.123456]])
FACES = np.array([[0, 1, 2], [0, 3, 1]])
UVS = np.array([[0, 0], [1, 0], [0, 1], [0.5, 0.25]])
UVFACES = np.array([[0, 1, 2], [2, 3, 1]])
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_round_trip_with_texture(tmp_path):
    path = tmp_path / "mesh_coarse.obj"
    written = write_obj(
        path, VERTICES, FACES, uvcoords=UVS, uvfaces=UVFACES, texture=PICTURE,
        normals=255 - PICTURE,
    )  # fmt: skip
    assert [file.name for file in written] == [
        "mesh_coarse.png",
        "mesh_coarse_normals.png",
        "mesh_coarse.mtl",
        "mesh_coarse.obj",
    ]
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    found = read_obj(moved / "mesh_coarse.obj")
    np.testing.assert_allclose(found.vertices, VERTICES, atol=1e-7)
    np.testing.assert_allclose(found.uvs, UVS, atol=1e-7)
    corners, chart, _ = found.triangles()
    assert corners.tolist() == FACES.tolist() and chart.tolist() == UVFACES.tolist()
    for name, picture in (("mesh_coarse.png", PICTURE), ("mesh_coarse_normals.png", 255 - PICTURE)):
        assert (np.asarray(Image.open(moved / name)) == picture).all()
    lines = (moved / "mesh_coarse.obj").read_text().splitlines()
    assert lines[0] == "mtllib mesh_coarse.mtl" and "usemtl FaceTexture" in lines
    text = (moved / "mesh_coarse.mtl").read_text()
    assert text == ("newmtl FaceTexture\nmap_Kd mesh_coarse.png\ndisp mesh_coarse_normals.png\n")


def test_a_chart_without_pictures_needs_no_material(tmp_path):
    written = write_obj(tmp_path / "m.obj", VERTICES, FACES, uvcoords=UVS, uvfaces=UVFACES)
    assert written == [tmp_path / "m.obj"] == list(tmp_path.iterdir())
    assert "usemtl" not in written[0].read_text()
    np.testing.assert_allclose(read_obj(written[0]).uvs, UVS, atol=1e-7)


def test_round_trip_with_colours_and_same_bytes(tmp_path):
    colours = np.linspace(0, 1, 12).reshape(4, 3)
    for name in ("a.obj", "b.obj"):
        assert len(write_obj(tmp_path / name, VERTICES, FACES, colours=colours)) == 1
    assert (tmp_path / "a.obj").read_bytes() == (tmp_path / "b.obj").read_bytes()
    rows = [line.split()[4:] for line in (tmp_path / "a.obj").read_text().splitlines()[:4]]
    np.testing.assert_allclose(np.array(rows, float), colours, atol=1e-4)
    found = read_obj(tmp_path / "a.obj")
    np.testing.assert_allclose(found.vertices, VERTICES, atol=1e-7)
    assert (found.corners[:, 1] == -1).all()
