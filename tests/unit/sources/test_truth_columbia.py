"""Columbia Gaze of rendered heads: gaze from the names of the files, poses from landmarks."""

import numpy as np
import pytest
from captures import columbia
from captures.checks import assert_faces, in_order, label_errors, posed_faces_of

from regaze.sources import open_source


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("columbia")
    truth = columbia.columbia(folder / "root", landmarks=folder / "landmarks.csv")
    table = str(folder / "landmarks.csv")
    return {"source": "columbia", "root": str(folder / "root"), "landmarks": table}, truth


def test_landmarks_from_a_table(capture, tmp_path):
    options, truth = capture
    reader = posed_faces_of(options, truth, tmp_path)
    assert_faces(reader, in_order(reader, truth))


def test_landmarks_that_were_looked_for(capture, tmp_path):
    options, truth = capture
    options = {key: value for key, value in options.items() if key != "landmarks"}
    reader = posed_faces_of(options, truth, tmp_path)
    assert_faces(reader, in_order(reader, truth))


def test_names_tell_the_gaze(capture):
    options, truth = capture
    source = open_source(options)
    for person in source.persons:
        photos = source.photos(person)
        true = [truth[person, name].off_the_line_of_sight() for name in photos.file_name]
        np.testing.assert_allclose(np.degrees(photos.gaze_angles), true, atol=1e-6)
        for name, (pitch, yaw) in zip(photos.file_name, true, strict=True):
            vertical, horizontal = name.removesuffix("H.jpg").split("_")[-2:]
            assert float(vertical[:-1]) == pytest.approx(pitch)
            assert -float(horizontal) == pytest.approx(yaw)


def test_other_copies_may_count_horizontal_angles_the_other_way(tmp_path):
    truth = columbia.columbia(
        tmp_path / "root", columbia.photos(left=1), landmarks=tmp_path / "landmarks.csv"
    )
    options = {"source": "columbia", "root": str(tmp_path / "root"), "h_sign": 1}
    options["landmarks"] = str(tmp_path / "landmarks.csv")
    reader = posed_faces_of(options, truth, tmp_path / "faces")
    assert label_errors(reader.labels, in_order(reader, truth)).max() < 0.1


def test_gaze_does_not_hang_on_the_assumed_focal_length(capture, tmp_path):
    """Nobody knows the zoom; a fifth off moves the face, but not the angles off its sight."""
    options, truth = capture
    options = options | {"focal": 1.2 * columbia.FOCAL}
    reader = posed_faces_of(options, truth, tmp_path, frame_check="none")
    errors = label_errors(reader.labels, in_order(reader, truth))
    assert errors[:, 0].max() < 0.1, errors
    assert errors[:, 1].max() < 1.0, errors
