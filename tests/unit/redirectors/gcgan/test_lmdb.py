"""LMDBs of GC-GAN: what is written is what its code reads, and what it wrote is read."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from regaze.faces import FacesAttributes, FacesWriter
from regaze.masks import lmdb_files
from regaze.masks.lmdb_files import export_lmdb, import_lmdb, read_labels

lmdb = pytest.importorskip("lmdb")
CASE = Path(__file__).parents[3] / "conformance/cases/gcgan/eye_region"


class Detector:
    """Finds the face of the golden case, and none in black patches."""

    def filling(self, picture):
        if not picture.any():
            return None
        with np.load(CASE / "golden.npz") as golden:
            return SimpleNamespace(points=golden["landmarks"].astype(float) * 500 - 0.5)


@pytest.fixture
def faces(tmp_path):
    attributes = FacesAttributes("custom", (64, 64), 250.0, 600.0, "none", "example")
    labels = np.zeros((3, 8), np.float32)
    labels[:, :2] = [(0.1, -0.25), (0, 0), (-0.12345, 0.5)]
    pixels = np.full((3, 64, 64, 3), 90, np.uint8)
    pixels[1] = 0
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        writer.add_person("a", pixels, labels)
    return [tmp_path / "faces.h5"]


@pytest.fixture
def written(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_files, "MeshDetector", Detector)
    assert export_lmdb(faces, tmp_path / "lmdb", 64) == (2, 1)
    return tmp_path / "lmdb"


def records(folder):
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as reading:
        return {bytes(key).decode(): bytes(value) for key, value in reading.cursor()}


def test_keys_pictures_and_labels_are_those_that_are_trained_on(written):
    found = records(written)
    assert set(found) == {
        *(f"{k}-0000000-0.1000_-0.2500" for k in ("image", "label")),
        *(f"{k}-0000001--0.1235_0.5000" for k in ("image", "label")),
        "image-length", "label-length",
    }  # fmt: skip
    assert found["image-length"] == found["label-length"] == b"2"
    image = Image.open(io.BytesIO(found["image-0000000-0.1000_-0.2500"]))
    classes = Image.open(io.BytesIO(found["label-0000000-0.1000_-0.2500"]))
    assert (image.mode, image.size, classes.mode, classes.size) == ("RGB", (64, 64), "L", (64, 64))
    with np.load(CASE / "golden.npz") as golden:
        wanted = golden["eye_region_mask"].astype(np.uint8)
    small = np.asarray(Image.fromarray(wanted).resize((64, 64), Image.Resampling.NEAREST))
    assert (np.asarray(classes) != small).mean() < 0.01
    stored = np.load(written / "labels_gaze.npy", allow_pickle=True).item()
    assert stored == {0: "0.1000_-0.2500", 1: "-0.1235_0.5000"}


def test_what_was_written_is_read(written, tmp_path):
    assert import_lmdb(written, tmp_path / "out") == 2
    table = pd.read_parquet(tmp_path / "out/labels.parquet")
    assert table.to_numpy().tolist() == [[0, 0.1, -0.25], [1, -0.1235, 0.5]]
    own = np.asarray(Image.open(tmp_path / "out/rgb/0000001.png"))
    assert np.array_equal(own, np.asarray(Image.open(io.BytesIO(
        records(written)["image-0000001--0.1235_0.5000"]
    ))))  # fmt: skip


def test_no_folder_is_emptied(faces, written, tmp_path):
    before = records(written)
    with pytest.raises(ValueError, match="expected a folder that is new or empty"):
        export_lmdb(faces, written)
    with pytest.raises(ValueError, match="expected a folder that is new or empty"):
        import_lmdb(written, written)
    assert records(written) == before


def changed(folder, key, value):
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as writing:
        writing.delete(key.encode()) if value is None else writing.put(key.encode(), value)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("label-0000000-0.1000_-0.2500", None, "expected a PNG of mode L, found none"),
        ("label-0000000-0.1000_-0.2500", b"no", "expected a PNG of mode L"),
        ("image-length", b"7", "image-length: expected 2, as there are pictures, found b'7'"),
    ],
)
def test_damage_is_named(written, tmp_path, key, value, told):
    changed(written, key, value)
    with pytest.raises(ValueError, match=told):
        import_lmdb(written, tmp_path / "out")


def test_classes_of_another_size_are_refused(written, tmp_path):
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, format="PNG")
    changed(written, "label-0000000-0.1000_-0.2500", stream.getvalue())
    with pytest.raises(ValueError, match=r"expected classes of \(64, 64\) as its picture"):
        import_lmdb(written, tmp_path / "out")


class Evil:
    def __reduce__(self):
        return json.loads, ("[]",)


def test_labels_are_read_without_executing_anything(tmp_path):
    path = tmp_path / "labels_gaze.npy"
    np.save(path, np.array({0: Evil()}, object), allow_pickle=True)
    with pytest.raises(ValueError, match="not in the allow-list"):
        read_labels(path)
    for wrong in ({0: "0.1"}, {-1: "0_0"}, {"0": "0_0"}):
        np.save(path, np.array(wrong, object), allow_pickle=True)
        with pytest.raises(ValueError, match="expected numbers from 0 and labels"):
            read_labels(path)
