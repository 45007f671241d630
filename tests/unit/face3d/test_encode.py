"""The latents stage: crops, blank rows, the same bytes for any batch, refusal of other heads."""

import numpy as np
import pytest
import torch
from heads import tiny_head

from regaze.capture.head import HeadConfig
from regaze.capture.head_stage import make_head
from regaze.codes.latents import LatentsError, LatentsReader
from regaze.face3d.deca import Deca, encoder_identity
from regaze.face3d.encode import encode_shard, open_encoder, usable_landmarks
from regaze.face3d.model import load_flame, model_hash, save_flame
from regaze.faces import FacesAttributes, FacesReader, FacesWriter

ATTRIBUTES = FacesAttributes("sted", (48, 48), 190.0, 600.0, "none", "folder")


@pytest.fixture(scope="module")
def head():
    return tiny_head()


@pytest.fixture(scope="module")
def encoder(head):
    torch.manual_seed(0)
    return Deca(head, "tiny").eval()


def face(rng, count):
    """Points of a face about the middle of the patch."""
    middle = rng.uniform(20, 28, (count, 1, 2))
    return (middle + rng.uniform(-14, 14, (count, 68, 2))).astype(np.float32)


def write_faces(path, people):
    with FacesWriter(path, ATTRIBUTES) as writer:
        for person, count in people.items():
            rng = np.random.default_rng(int(person))
            marks = face(rng, count)
            marks[1::4] = np.nan
            pixels = rng.integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
            writer.add_person(person, pixels, np.zeros((count, 8)), landmarks=marks)
    return path


def test_the_batch_changes_no_byte_and_shards_no_code(tmp_path, encoder):
    people = {"00001": 9, "00002": 12}
    faces = write_faces(tmp_path / "faces.h5", people)
    for batch in (1, 7, 256):
        counts = encode_shard(faces, encoder, tmp_path / f"{batch}.parquet", batch=batch)
    assert (counts.rows, counts.detected) == (21, 16)
    first = (tmp_path / "1.parquet").read_bytes()
    assert first == (tmp_path / "7.parquet").read_bytes()
    assert first == (tmp_path / "256.parquet").read_bytes()
    parts = []
    for person, count in people.items():
        alone = write_faces(tmp_path / f"{person}.h5", {person: count})
        parts.append(tmp_path / f"{person}.parquet")
        encode_shard(alone, encoder, parts[-1])
    reader = FacesReader(faces)
    one = LatentsReader(tmp_path / "7.parquet", reader, expect=encoder_identity(encoder))
    two = LatentsReader(parts, reader)
    rows = np.arange(len(reader))
    for name, values in one.read(rows).items():
        np.testing.assert_array_equal(values, two.read(rows)[name])
        assert not values[~one.detected].any()
    np.testing.assert_array_equal(
        one.detected, np.isfinite(reader.dataset("landmarks", rows)[:, 0, 0])
    )
    assert one.read(rows)["shape"][one.detected].std(0).max() > 0


def test_landmarks_that_are_no_face_are_not_encoded():
    marks = face(np.random.default_rng(0), 5)
    marks[0, 3, 1] = np.nan
    marks[1] = marks[1] / 10 + 20
    marks[2] += 40
    marks[3, 0, 0] = 1e9
    np.testing.assert_array_equal(
        usable_landmarks(marks, (48, 48)), [False, False, False, False, True]
    )


def test_faces_without_landmarks_are_written_and_warned_about(tmp_path, encoder, caplog):
    path = tmp_path / "faces.h5"
    with FacesWriter(path, ATTRIBUTES) as writer:
        writer.add_person("00001", np.zeros((3, 48, 48, 3), np.uint8), np.zeros((3, 8)))
    counts = encode_shard(path, encoder, tmp_path / "part.parquet")
    assert (counts.rows, counts.detected) == (3, 0)
    assert "3 of 3 rows not encoded: the faces have no landmarks" in caplog.text
    assert not LatentsReader(tmp_path / "part.parquet", FacesReader(path)).detected.any()


def test_codes_that_are_not_finite_leave_no_file(tmp_path, head):
    broken = Deca(head, "tiny").eval()
    with torch.no_grad():
        broken.E_flame.layers[2].bias[150] = float("nan")
    faces = write_faces(tmp_path / "faces.h5", {"00001": 2})
    with pytest.raises(LatentsError, match="expected finite numbers"):
        encode_shard(faces, broken, tmp_path / "part.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["faces.h5"]


def test_the_way_an_encoder_is_opened_is_checked(tmp_path, head):
    save_flame(tmp_path / "head.npz", head)
    with pytest.raises(ValueError, match="expected exactly one of deca and emoca"):
        open_encoder(tmp_path / "head.npz")
    with pytest.raises(ValueError, match="device: expected one of auto, cpu, cuda"):
        open_encoder(tmp_path / "head.npz", folder=tmp_path, device="tpu")
    with pytest.raises(FileNotFoundError, match="model.json"):
        open_encoder(tmp_path / "head.npz", folder=tmp_path)


def test_the_head_of_a_run_is_written_with_equal_bytes(tmp_path, head, monkeypatch):
    from regaze.capture import head as capture_head

    build = capture_head.build_head
    monkeypatch.setattr(capture_head, "build_head", lambda: build(HeadConfig.tiny()))
    made = make_head("procedural", tmp_path / "head.npz")
    assert model_hash(made) == model_hash(head)
    again = make_head(tmp_path / "head.npz", tmp_path / "copy.npz")
    assert (tmp_path / "copy.npz").read_bytes() == (tmp_path / "head.npz").read_bytes()
    assert again.meta == load_flame(tmp_path / "copy.npz").meta
    (tmp_path / "head.npz").write_bytes(b"no head")
    with pytest.raises(ValueError, match="not a head model"):
        make_head(tmp_path / "head.npz", tmp_path / "copy.npz")
