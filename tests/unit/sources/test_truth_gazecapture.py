"""GazeCapture of rendered heads: what comes out is what was true of them."""

import numpy as np
import pytest
from captures import gazecapture
from captures.checks import assert_faces, faces_of, in_order, label_errors, posed_faces_of

from regaze.sources import open_source


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    root = tmp_path_factory.mktemp("gazecapture") / "root"
    return root, gazecapture.gazecapture(root)


def test_with_a_supplementary_file(capture, tmp_path):
    root, truth = capture
    source = open_source({"source": "gazecapture", "root": str(root)})
    assert source.persons == ["00002", "00517", "01203"]
    reader = faces_of(source, tmp_path)
    assert_faces(reader, in_order(reader, truth))


@pytest.mark.parametrize("camera_centimetres", [True, False])
def test_targets_without_one(tmp_path, camera_centimetres):
    """Dots on the screens of three devices held in four ways become points in space."""
    root = tmp_path / "root"
    truth = gazecapture.gazecapture(
        root, supplementary=False, camera_centimetres=camera_centimetres
    )
    source = open_source({"source": "gazecapture", "root": str(root)})
    for person in source.persons:
        photos = source.photos(person)
        shots = [truth[person, name] for name in photos.file_name]
        assert len(shots) == len(gazecapture.frames()[person])
        true = np.stack([shot.target for shot in shots])
        np.testing.assert_allclose(photos.gaze_target, true, atol=1e-6)
        x, y, width, height = photos.face_box.T[..., None]
        marks = np.stack([shot.landmarks for shot in shots])
        assert ((marks[..., 0] > x) & (marks[..., 0] < x + width))[:, 17:].all()
        assert ((marks[..., 1] > y) & (marks[..., 1] < y + height))[:, 17:].all()


def test_from_landmarks_to_faces(tmp_path):
    """No supplementary file: poses from exact landmarks, seen by the camera that is assumed.

    Its focal length is not that of the photos, so only labels can be right.
    """
    root = tmp_path / "root"
    truth = gazecapture.gazecapture(root, supplementary=False)
    options = {"source": "gazecapture", "root": str(root)}
    reader = posed_faces_of(options, truth, tmp_path / "faces", frame_check="none")
    errors = label_errors(reader.labels, in_order(reader, truth))
    assert errors.max() < 0.1, errors
