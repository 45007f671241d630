"""Mesh files."""

import numpy as np
import pytest

from regaze.face3d.obj import read_textured_obj, write_obj

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
    found = read_textured_obj(moved / "mesh_coarse.obj")
    np.testing.assert_allclose(found.mesh.vertices, VERTICES, atol=1e-7)
    np.testing.assert_allclose(found.mesh.uvs, UVS, atol=1e-7)
    corners, chart, _ = found.mesh.triangles()
    assert corners.tolist() == FACES.tolist() and chart.tolist() == UVFACES.tolist()
    assert (found.texture == PICTURE).all() and (found.normals == 255 - PICTURE).all()
    assert found.colours is None
    text = (moved / "mesh_coarse.mtl").read_text()
    assert text == ("newmtl FaceTexture\nmap_Kd mesh_coarse.png\ndisp mesh_coarse_normals.png\n")


def test_a_chart_without_pictures_needs_no_material(tmp_path):
    written = write_obj(tmp_path / "m.obj", VERTICES, FACES, uvcoords=UVS, uvfaces=UVFACES)
    assert written == [tmp_path / "m.obj"] == list(tmp_path.iterdir())
    assert "usemtl" not in written[0].read_text()
    found = read_textured_obj(written[0])
    np.testing.assert_allclose(found.mesh.uvs, UVS, atol=1e-7)
    assert found.texture is None and found.normals is None


def test_round_trip_with_colours_and_same_bytes(tmp_path):
    colours = np.linspace(0, 1, 12).reshape(4, 3)
    for name in ("a.obj", "b.obj"):
        assert len(write_obj(tmp_path / name, VERTICES, FACES, colours=colours)) == 1
    assert (tmp_path / "a.obj").read_bytes() == (tmp_path / "b.obj").read_bytes()
    found = read_textured_obj(tmp_path / "a.obj")
    np.testing.assert_allclose(found.colours, colours, atol=1e-4)
    assert found.texture is None and (found.mesh.corners[:, 1] == -1).all()


def test_absolute_names_of_other_writers_are_found_beside_the_mesh(tmp_path):
    write_obj(tmp_path / "m.obj", VERTICES, FACES, uvcoords=UVS, uvfaces=UVFACES, texture=PICTURE)
    (tmp_path / "m.mtl").write_text("newmtl FaceTexture\nmap_Kd /somewhere/else/m.png\n")
    assert (read_textured_obj(tmp_path / "m.obj").texture == PICTURE).all()
    (tmp_path / "m.mtl").write_text("newmtl FaceTexture\nmap_Kd gone.png\n")
    with pytest.raises(ValueError, match="names 'gone.png'"):
        read_textured_obj(tmp_path / "m.obj")
    (tmp_path / "m.mtl").write_text("map_Kd m.mtl\n")
    with pytest.raises(ValueError, match="m.mtl: not a picture"):
        read_textured_obj(tmp_path / "m.obj")


@pytest.mark.parametrize(
    "change, text",
    [
        ({"vertices": VERTICES[:, :2]}, r"vertices: expected \(N, 3\)"),
        ({"vertices": VERTICES * np.nan}, "vertices"),
        ({"faces": FACES + 2}, r"faces: expected numbers in 0\.\.3, found 2\.\.5"),
        ({"uvcoords": UVS}, "both or neither"),
        ({"texture": PICTURE}, "needs uvcoords"),
        ({"colours": np.zeros((2, 3))}, "expected 4 rows, found 2"),
        ({"uvcoords": UVS, "uvfaces": UVFACES[:1]}, "uvfaces: expected 2 rows"),
        ({"uvcoords": UVS, "uvfaces": UVFACES, "texture": PICTURE / 255}, "uint8"),
    ],
)
def test_bad_arrays_are_named(tmp_path, change, text):
    arguments = {"vertices": VERTICES, "faces": FACES} | change
    with pytest.raises(ValueError, match=text):
        write_obj(tmp_path / "m.obj", **arguments)
    assert not (tmp_path / "m.obj").exists()
    with pytest.raises(ValueError, match="ends in .obj"):
        write_obj(tmp_path / "m.ply", VERTICES, FACES)
