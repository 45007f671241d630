"""Landmarks looked for in photos that come with head poses, and faces that are framed by them."""

import cv2
import h5py
import numpy as np
import pytest

from regaze.faces import FacesReader
from regaze.landmarks.base import Detection
from regaze.landmarks.detect import detect_shard
from regaze.normalise.rejections import read_rejected
from regaze.normalise.stage import make_faces
from regaze.sources import open_source
from regaze.sources.marked import Marked
from regaze.sources.records import SourceError

NAMES = ["a/0.png", "a/1.png", "a/2.png"]


def marks(number):
    random = np.random.default_rng(number)
    found = random.uniform(60, 200, (68, 2))
    for middle, part in (((130, 110), slice(36, 42)), ((170, 110), slice(42, 48))):
        found[part] = middle
    found[[48, 54]] = [[140, 150], [160, 150]]
    return (found + 5 * number).astype(np.float32)


class Detector:
    """Finds a face in every photo but the second, and remembers what it was asked."""

    attributes = {"detector": "test", "version": "1", "weights": ""}
    batch, asked = 2, 0

    def detect(self, photos, boxes):
        found = []
        for _ in photos:
            number, self.asked = self.asked, self.asked + 1
            found.append(Detection() if number == 1 else Detection(marks(number), 0.9, status=""))
        return found


@pytest.fixture
def root(tmp_path):
    (tmp_path / "photos/a").mkdir(parents=True)
    for name in NAMES:
        cv2.imwrite(str(tmp_path / "photos" / name), np.full((240, 320, 3), 99, np.uint8))
    with h5py.File(tmp_path / "photos/supplementary.h5", "w") as labels:
        labels["a/file_name"] = np.array(NAMES, dtype="S")
        labels["a/camera_parameters"] = np.tile([300.0, 300, 160, 120], (3, 1))
        labels["a/distortion_parameters"] = np.zeros((3, 5))
        labels["a/head_pose"] = np.tile([0.0, 0, 0, 0, 0, 500], (3, 1))
        labels["a/3d_gaze_target"] = np.tile([20.0, 10, 0], (3, 1))
    return tmp_path / "photos"


def found_in(root, path):
    source = open_source({"source": "synthetic", "root": str(root)})
    counts = detect_shard(source, ["a"], Detector(), path)
    assert counts == {"found": 2, "no_face": 1}
    return source


def test_faces_are_framed_by_landmarks_that_were_looked_for(root, tmp_path):
    found_in(root, tmp_path / "landmarks.h5")
    make_faces(
        {"source": "synthetic", "root": str(root)}, tmp_path / "f.h5", tmp_path / "r.parquet",
        shard=0, shards=1, landmarks=tmp_path / "landmarks.h5", framing="ffhq", patch_size=32,
        frame_check="none",
    )  # fmt: skip
    reader = FacesReader(tmp_path / "f.h5")
    assert reader.dataset("source_index", [0, 1]).tolist() == [0, 2]
    (row,) = read_rejected(tmp_path / "r.parquet")[0].to_pylist()
    assert (row["source_index"], row["reason"]) == (1, "no_face")


def test_own_landmarks_come_before_those_found(root, tmp_path):
    source = found_in(root, tmp_path / "landmarks.h5")
    found = Marked(source, tmp_path / "landmarks.h5").read("a")
    np.testing.assert_allclose(found.landmarks[[0, 2]], [marks(0), marks(2)])
    assert found.status == ("", "no_face", "")
    own = np.full((3, 68, 2), np.nan)
    own[:2] = 7.0
    with h5py.File(root / "parameters.h5", "w") as file:
        file["a/landmarks"] = own
    source = open_source({"source": "synthetic", "root": str(root)})
    mixed = Marked(source, tmp_path / "landmarks.h5").read("a")
    assert (mixed.landmarks[:2] == 7).all() and mixed.status == ("", "", "")
    np.testing.assert_allclose(mixed.landmarks[2], marks(2))
    assert mixed.person == "a" and Marked(source, "x").kind == "synthetic"


def test_landmarks_of_other_photos_are_refused(root, tmp_path):
    source = found_in(root, tmp_path / "landmarks.h5")
    with h5py.File(tmp_path / "landmarks.h5", "r+") as file:
        del file["a/file_name"]
        file["a/file_name"] = np.array(["x", "y", "z"], dtype="S")
    with pytest.raises(SourceError, match="landmarks.h5: person a.*make the landmarks again") as no:
        Marked(source, tmp_path / "landmarks.h5").read("a")
    assert no.value.reason == "stale_landmarks" and no.value.file_names == tuple(NAMES)
