"""Both stages as rules run them, on a folder of photos, and which weights a rule may fetch."""

import hashlib

import h5py
import numpy as np
import pytest
from PIL import Image

from regaze.assets import AssetError, AssetFile, AssetSettings
from regaze.landmarks.settings import WEIGHTS, LandmarkSettings, fetched_weights, weight_files
from regaze.landmarks.stage import make_landmarks, make_poses

DOTS = ((125, 60), (95, 75), (110, 95))


@pytest.fixture
def photos(tmp_path, draw):
    for person, tiles in (("anna", [("green", 6, 4)]), ("bob", [])):
        folder = tmp_path / "photos" / person
        folder.mkdir(parents=True)
        Image.fromarray(draw((208, 176), tiles, DOTS)).save(folder / "0.png")
    return {"source": "folder", "root": str(tmp_path / "photos")}


def test_landmarks_then_poses(photos, weights, tmp_path, expected):
    files = dict(zip(WEIGHTS, weights, strict=True))
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    other = {"detector": "face_alignment"}
    with pytest.raises(AssetError, match="is not 2DFAN4"):
        make_landmarks(photos, tmp_path / "l.h5", shard=0, shards=2, **other, weights=files)
    found = {}
    for shard in range(3):
        out, poses = tmp_path / f"l{shard}.h5", tmp_path / f"s{shard}.h5"
        part = {"shard": shard, "shards": 3}
        found[shard] = make_landmarks(
            photos, out, **part, **other, weights=files, sha256=sums, device="cpu", threads=1
        )
        make_poses(photos, poses, **part, landmarks=out)
        assert sorted(h5py.File(poses)) == sorted(h5py.File(out))
    assert found == {0: {"found": 1}, 1: {"no_face": 1}, 2: {}}
    with h5py.File(tmp_path / "l0.h5") as file:
        assert np.abs(file["anna/landmarks"][0] - expected(DOTS)).max() < 1.1
        assert file.attrs["face_weights_sha256"] == sums["face_alignment_detector"]
    with h5py.File(tmp_path / "s1.h5") as file:
        assert file["bob/status"][0] == b"no_face"
        assert file["bob"].attrs["gaze"] == "absent"


def test_which_weights_may_be_fetched(tmp_path):
    there = tmp_path / "own.pth"
    there.write_bytes(b"own")
    own = AssetSettings(
        face_alignment_landmarks=AssetFile(path=str(there), sha256="0" * 64),
        face_alignment_detector=AssetFile(path=str(tmp_path / "none.pth")),
    )
    never, always = (
        LandmarkSettings(detector="face_alignment", fetch=fetch) for fetch in (False, True)
    )
    assert weight_files(LandmarkSettings(fetch=True), own) == {}
    assert fetched_weights(LandmarkSettings(fetch=True), own) == {}
    assert fetched_weights(never, own) == {}
    assert list(fetched_weights(always, own)) == ["face_alignment_detector"]
    assert set(weight_files(always, own)) == set(WEIGHTS)
    with pytest.raises(AssetError, match="landmarks.fetch: true"):
        weight_files(never, own)
