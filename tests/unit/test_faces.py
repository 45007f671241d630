"""The faces format: upstream layout, shards that do not matter, damaged files."""

import pickle

import h5py
import numpy as np
import pytest

from regaze.faces import FacesAttributes, FacesReader, FacesWriter

ATTRIBUTES = FacesAttributes("sted", (16, 12), 62.5, 600.0, "ellipsoid", "synthetic")


def person_rows(seed, count):
    rng = np.random.default_rng(seed)
    return {
        "pixels": rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8),
        "labels": rng.uniform(-0.5, 0.5, (count, 8)).astype(np.float32),
        "file_name": [f"{seed:05d}/frames/{i:05d}.jpg" for i in range(count)],
        "source_index": np.arange(count),
        "rotation": np.tile(np.eye(3), (count, 1, 1)),
        "gaze_origin": np.zeros((count, 3)),
        "landmarks": np.full((count, 68, 2), np.nan),
    }


def write(path, persons):
    with FacesWriter(path, ATTRIBUTES) as writer:
        for person, count in persons.items():
            writer.add_person(person, **person_rows(int(person), count))
    return path


def test_reader_gives_the_same_rows_whatever_the_shards(tmp_path):
    people = {"00003": 2, "00001": 3, "00002": 1}
    one = FacesReader(write(tmp_path / "one.h5", people))
    parts = [
        write(tmp_path / "a.h5", {"00002": 1, "00003": 2}),
        write(tmp_path / "b.h5", {"00001": 3}),
    ]
    two = FacesReader(parts)
    assert one.persons == two.persons == ["00001", "00002", "00003"]
    np.testing.assert_array_equal(one.labels, two.labels)
    everything = np.arange(len(one))
    np.testing.assert_array_equal(one.pixels(everything), two.pixels(everything))
    np.testing.assert_array_equal(two.rows(["00003", "nobody", "00001"]), [4, 5, 0, 1, 2])
    assert two.global_index("00003", 1) == 5
    assert one.attributes["patch_size"] == [16, 12]
    assert one.dataset("source_index", [5])[0] == 1


def test_reader_pickles_without_its_open_files(tmp_path):
    reader = FacesReader(write(tmp_path / "one.h5", {"00001": 3}))
    reader.pixels([0])
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.pixels([2]), reader.pixels([2]))


def test_upstream_layout_is_met(tmp_path):
    with h5py.File(write(tmp_path / "one.h5", {"00001": 3}), "r") as file:
        group = file["00001"]
        first = sorted(group)[0]
        assert len(group[first]) == 3, "readers take N from the first data set"
        assert group["pixels"].chunks == (1, 12, 16, 3)
        # lzf, which upstream uses, does not compress the same pixels to the same bytes.
        assert {group[name].compression for name in ("pixels", "labels", "rotation")} == {"gzip"}
        assert group["labels"].dtype == np.float32


def test_bgr_files_and_files_with_four_labels_are_understood(tmp_path):
    pixels = person_rows(1, 2)["pixels"]
    with h5py.File(tmp_path / "up.h5", "w") as file:
        file.attrs["channel_order"] = "bgr"
        file["p00/pixels"], file["p00/labels"] = pixels, np.zeros((2, 4), np.float32)
    reader = FacesReader(tmp_path / "up.h5")
    np.testing.assert_array_equal(reader.pixels([0, 1]), pixels[..., ::-1])
    assert np.isnan(reader.labels[:, 4:]).all()


def test_bytes_are_reproducible(tmp_path):
    a, b = write(tmp_path / "a.h5", {"00001": 3}), write(tmp_path / "b.h5", {"00001": 3})
    assert a.read_bytes() == b.read_bytes()


def test_person_without_rows_gets_no_group(tmp_path):
    reader = FacesReader(write(tmp_path / "a.h5", {"00001": 0, "00002": 1}))
    assert reader.persons == ["00002"] and reader.count("00001") == 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.create_dataset("p/pixels", data=np.zeros((1, 4, 4, 3), np.uint8)), "labels"),
        (lambda f: f.create_dataset("p", data=1), "expected a group"),
    ],
)
def test_missing_datasets_are_named(tmp_path, damage, message):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        damage(file)
    with pytest.raises(ValueError, match=message):
        FacesReader(tmp_path / "x.h5")


def test_other_faults_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.h5"):
        FacesReader(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ValueError, match="text.h5: not a readable HDF5"):
        FacesReader(tmp_path / "text.h5")
    one, two = (write(tmp_path / f"{n}.h5", {"00001": 1}) for n in "ab")
    with pytest.raises(ValueError, match="person 00001 is already in"):
        FacesReader([one, two])
    rows = person_rows(1, 2)
    rows["labels"] = rows["labels"][:, :4]
    with (
        pytest.raises(ValueError, match="00001/labels: expected"),
        FacesWriter(tmp_path / "c.h5", ATTRIBUTES) as writer,
    ):
        writer.add_person("00001", **rows)
    assert not (tmp_path / "c.h5").exists()
