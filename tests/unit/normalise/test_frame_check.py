"""Face model files and the frame check."""

import logging
import struct

import numpy as np
import pytest

from regaze.normalise.face_model import (
    FACE_MODELS,
    MESH_EXTENT,
    FaceModelError,
    dense_mesh,
    ellipsoid_mesh,
)
from regaze.normalise.frame_check import FrameCheck, make_frame_check

CAMERA = np.array([[500.0, 500.0, 320.0, 240.0]])


def write_mesh(path, header=(1, 10344, 1), values=10344):
    numbers = np.arange(values, dtype="<f4") / 100
    path.write_bytes(
        struct.pack("<3I", *header) + numbers.tobytes() + b"the basis" * (values == 10344)
    )
    return numbers.reshape(-1, 3) if values == 10344 else None


def test_the_eye_corners_of_the_face_model_are_centred():
    np.testing.assert_allclose(FACE_MODELS["sfm14"].eye_centre, 0, atol=1e-6)


def test_dense_mesh_upstream_drops_the_first_vertex_and_centres_on_the_shifted_list(tmp_path):
    vertices = write_mesh(tmp_path / "sfm.bin").astype(np.float64)
    upstream = dense_mesh(tmp_path / "sfm.bin")
    assert upstream.shape == (3447, 3)
    centre = (vertices[182] + vertices[615]) / 2
    np.testing.assert_allclose(upstream[0], (vertices[1] - centre) * [1, -1, -1], atol=1e-9)
    corrected = dense_mesh(tmp_path / "sfm.bin", upstream=False)
    assert corrected.shape == (3448, 3)
    np.testing.assert_allclose(corrected[[177, 181, 614, 610]].mean(axis=0), 0, atol=1e-9)
    assert make_frame_check("sfm-upstream", tmp_path / "sfm.bin").name == "sfm-upstream"


@pytest.mark.parametrize(
    "header, values, word",
    [((2, 10344, 1), 10344, "version"), ((1, 9, 1), 10344, "rows"), ((1, 10344, 1), 90, "mean")],
)
def test_a_wrong_mesh_file_is_named(tmp_path, header, values, word):
    write_mesh(tmp_path / "sfm.bin", header, values)
    with pytest.raises(FaceModelError, match=f"sfm.bin: {word}"):
        dense_mesh(tmp_path / "sfm.bin")
    with pytest.raises(FaceModelError, match="absent.bin"):
        dense_mesh(tmp_path / "absent.bin")


def test_a_mesh_file_that_ends_in_its_header_is_named(tmp_path):
    (tmp_path / "sfm.bin").write_bytes(struct.pack("<2I", 1, 10344))
    with pytest.raises(FaceModelError, match="sfm.bin: header: expected 12 bytes, found 8"):
        dense_mesh(tmp_path / "sfm.bin")


def test_the_ellipsoid_fills_the_extent_and_stands_in_with_a_warning(caplog):
    mesh = ellipsoid_mesh()
    np.testing.assert_allclose(np.stack([mesh.min(0), mesh.max(0)]), MESH_EXTENT, atol=1e-9)
    with caplog.at_level(logging.WARNING):
        assert make_frame_check("sfm-upstream").name == "ellipsoid"
    assert "sfm-upstream" in caplog.text


def test_the_border_is_inside_and_the_camera_plane_is_not():
    check = FrameCheck("corner", np.array([[64.0, 48.0, 0.0]]))
    pose = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 100.0]])
    box = check.extents(CAMERA, np.zeros((1, 5)), pose)
    np.testing.assert_allclose(box, [[640.0, 480.0, 640.0, 480.0]], atol=1e-9)
    assert check.accepts(np.array([[0.0, 0.0, 640.0, 480.0]]), np.array([[640, 480]])).all()
    assert not check.accepts(np.array([[0.0, 0.0, 640.1, 480.0]]), np.array([[640, 480]])).any()
    behind = check.extents(CAMERA, np.zeros((1, 5)), pose * -1)
    assert np.isnan(behind).all() and not check.accepts(behind, np.array([[640, 480]])).any()
    nobody = make_frame_check("none")
    assert nobody.accepts(nobody.extents(CAMERA, np.zeros((1, 5)), pose), np.array([[1, 1]])).all()


def test_many_rows_in_pieces_equal_single_rows(monkeypatch):
    random = np.random.default_rng(1)
    pose = random.normal(size=(7, 6)) * [0.3, 0.3, 0.3, 50, 50, 50] + [0, 0, 0, 0, 0, 500]
    check = make_frame_check("ellipsoid")
    camera, lens = CAMERA.repeat(7, 0), 0.01 * random.normal(size=(7, 5))
    whole = check.extents(camera, lens, pose)
    monkeypatch.setattr("regaze.normalise.frame_check._POINTS_AT_ONCE", 1)
    np.testing.assert_allclose(check.extents(camera, lens, pose), whole, atol=1e-9)
