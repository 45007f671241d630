"""MPIIFaceGaze of rendered heads, with lens distortion and poses of its six-point model."""

import pytest
from captures import mpiifacegaze
from captures.checks import STED, assert_faces, faces_of, in_order, pixel_errors, posed_faces_of
from captures.files import write_supplementary

from regaze.sources import open_source


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("mpiifacegaze") / "root"
    return root, mpiifacegaze.mpiifacegaze(root)


def test_annotation(capture, tmp_path):
    root, truth = capture
    source = open_source({"source": "mpiifacegaze", "root": str(root)})
    assert source.persons == ["p00", "p07"]
    reader = faces_of(source, tmp_path)
    assert_faces(reader, in_order(reader, truth), model="mpii6")


def test_supplementary_file(capture, tmp_path):
    root, truth = capture
    options = {"source": "mpiifacegaze", "root": str(root)}
    poses = write_supplementary(tmp_path / "poses.h5", truth)
    reader = faces_of(open_source(options, supplementary=poses), tmp_path)
    assert_faces(reader, in_order(reader, truth))


def test_poses_from_landmarks(capture, tmp_path):
    """As upstream's own file was made: the lens is known, the poses are of the larger model."""
    root, truth = capture
    options = {"source": "mpiifacegaze", "root": str(root), "pose": "landmarks"}
    reader = posed_faces_of(options, truth, tmp_path)
    assert_faces(reader, in_order(reader, truth))


def test_centred_undistortion_moves_the_pixels_as_upstream_does(capture, tmp_path):
    """Upstream takes the middle of the photo for the principal point, and no label notices."""
    root, truth = capture
    source = open_source({"source": "mpiifacegaze", "root": str(root)})
    same = faces_of(source, tmp_path / "same")
    centred = faces_of(source, tmp_path / "centred", undistort_camera="centred")
    assert (same.labels == centred.labels).all()
    shots = in_order(same, truth)
    _, shifts = pixel_errors(centred.pixels(centred.rows()), shots, STED)
    for shift, shot in zip(shifts, shots, strict=True):
        (cx, cy), (width, height) = shot.camera[:2, 2], shot.size
        scale = STED[1] / STED[2] * shot.face_centre[2] / shot.camera[0, 0]
        moved = scale * ((width - 1) / 2 - cx), scale * ((height - 1) / 2 - cy)
        # a head that leans turns the shift with it; these lean by 6 degrees at most
        assert -shift[0] == pytest.approx(moved[0], abs=0.8)
        assert -shift[1] == pytest.approx(moved[1], abs=0.8)
