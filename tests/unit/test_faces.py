"""The faces format: upstream layout, shards that do not matter, damaged files."""

import multiprocessing
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest

from regaze.faces import FacesAttributes, FacesReader, FacesWriter, open_row
from regaze.links import PixelLink

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


def test_optional_columns_may_be_absent(tmp_path):
    rows = person_rows(1, 3)
    with FacesWriter(tmp_path / "a.h5", ATTRIBUTES) as writer:
        writer.add_person("1", rows["pixels"], rows["labels"], file_name=rows["file_name"])
        writer.add_person("2", rows["pixels"], rows["labels"])
    reader = FacesReader(tmp_path / "a.h5")
    assert reader.has("labels") and not reader.has("landmarks") and not reader.has("file_name")
    assert reader.dataset("file_name", [0, 2]).tolist() == [b"00001/frames/00000.jpg"] + [
        b"00001/frames/00002.jpg"
    ]
    with pytest.raises(KeyError, match="person 2 has no dataset 'file_name'"):
        reader.dataset("file_name", [0, 3])
    assert reader.pixels([]).shape == (0, 12, 16, 3)


def test_absent_gaze_is_declared(tmp_path):
    rows = person_rows(1, 2)
    rows["labels"][:, [0, 1, 4, 5, 6, 7]] = np.nan
    for name, gaze in (("with.h5", "known"), ("without.h5", "absent")):
        with FacesWriter(tmp_path / name, replace(ATTRIBUTES, gaze=gaze)) as writer:
            writer.add_person("1", **rows)
    assert not FacesReader(tmp_path / "without.h5").gaze_known
    with pytest.raises(ValueError, match="with.h5: 1/labels: row 0 is not finite"):
        FacesReader(tmp_path / "with.h5")
    rows["labels"][1, 2] = np.inf
    with FacesWriter(tmp_path / "bad.h5", replace(ATTRIBUTES, gaze="absent")) as writer:
        writer.add_person("1", **rows)
    with pytest.raises(ValueError, match="row 1 is not finite"):
        FacesReader(tmp_path / "bad.h5")


def test_each_file_has_its_own_channel_order(tmp_path):
    rows = person_rows(1, 2)
    for order in ("rgb", "bgr"):
        with FacesWriter(
            tmp_path / f"{order}.h5", replace(ATTRIBUTES, channel_order=order)
        ) as file:
            file.add_person(order, **rows)
    reader = FacesReader([tmp_path / "rgb.h5", tmp_path / "bgr.h5"])
    found = reader.pixels([0, 2, 1, 3])
    wanted = rows["pixels"]
    np.testing.assert_array_equal(found[[1, 3]], wanted)
    np.testing.assert_array_equal(found[[0, 2]], wanted[..., ::-1])


def test_rows_in_any_order_and_in_another_process(tmp_path):
    reader = FacesReader(write(tmp_path / "a.h5", {"00001": 4, "00002": 3}))
    everything = reader.pixels(np.arange(7))
    for order in ([3, 4, 5, 0], [6, 6, 5], [2]):
        np.testing.assert_array_equal(reader.pixels(order), everything[order])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for row, found in enumerate(pool.map(reader.pixels, [[row] for row in range(7)])):
            np.testing.assert_array_equal(found[0], everything[row])
        pool.close()
        pool.join()


def linked(tmp_path, rows=(0, 1, 2, 5, 6, 9)):
    """A shard in one folder with pixels in a file of another."""
    pixels = person_rows(1, 10)["pixels"]
    for folder in ("released", "results"):
        (tmp_path / folder).mkdir()
    with h5py.File(tmp_path / "released/all.h5", "w") as file:
        file.create_dataset("p/face_patch", data=pixels, chunks=(1, 12, 16, 3), compression="lzf")
    link = PixelLink(
        tmp_path / "released/all.h5", "p/face_patch", pixels.shape, np.array(rows, np.int64)
    )
    with FacesWriter(tmp_path / "results/shard.h5", ATTRIBUTES) as writer:
        writer.add_person("p", link, np.zeros((len(rows), 8)))
    return pixels[list(rows)], tmp_path / "results/shard.h5"


def test_linked_pixels_are_read_by_us_and_by_plain_hdf5(tmp_path, monkeypatch):
    pixels, shard = linked(tmp_path)
    reader = FacesReader(shard)
    np.testing.assert_array_equal(reader.pixels(np.arange(6)), pixels)
    np.testing.assert_array_equal(reader.pixels([5, 2, 3]), pixels[[5, 2, 3]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).pixels([4]), pixels[[4]])
    monkeypatch.chdir("/")
    with h5py.File(shard, "r") as file:
        np.testing.assert_array_equal(file["p/pixels"][:], pixels)
    assert shard.stat().st_size < 30_000, "labels and the map only"
    (tmp_path / "moved").mkdir()
    for folder in ("released", "results"):
        (tmp_path / folder).rename(tmp_path / "moved" / folder)
    moved = FacesReader(tmp_path / "moved/results/shard.h5")
    np.testing.assert_array_equal(moved.pixels(np.arange(6)), pixels)


def test_a_link_to_nothing_is_an_error_not_black_pictures(tmp_path):
    _, shard = linked(tmp_path)
    target = tmp_path / "released/all.h5"
    with h5py.File(target, "w") as file:
        file["p/face_patch"] = np.zeros((4, 12, 16, 3), np.uint8)
    with pytest.raises(ValueError, match="p/face_patch: expected 10 rows or more"):
        FacesReader(shard)
    target.write_bytes(b"no")
    with pytest.raises(ValueError, match="all.h5: not a readable HDF5 file"):
        FacesReader(shard)
    target.unlink()
    with pytest.raises(FileNotFoundError, match="all.h5: no such file, but the pixels of person p"):
        FacesReader(shard)


def rows_of(pixels, labels):
    """A person whose datasets have these shapes."""

    def make(file):
        file["p/pixels"], file["p/labels"] = np.zeros(pixels, np.uint8), np.zeros(labels)

    return make


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.create_dataset("p/pixels", data=np.zeros((1, 4, 4, 3), np.uint8)), "labels"),
        (rows_of((2, 4, 4), (2, 8)), r"p/pixels: expected \(N,H,W,3\) uint8, found \(2, 4, 4\)"),
        (rows_of((2, 4, 4, 3), (2, 6)), r"p/labels: expected \(2, 8\) or \(2, 4\), found \(2, 6\)"),
        (rows_of((2, 4, 4, 3), (3, 8)), r"p/labels: expected \(2, 8\) or \(2, 4\), found \(3, 8\)"),
        (lambda f: f.create_dataset("p", data=1), "expected a group"),
        (lambda f: f.create_group(b"p\xff"), "expected UTF-8 names"),
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


def test_names_of_other_rows_are_refused(tmp_path):
    rows = person_rows(1, 2)
    rows["file_name"] = rows["file_name"][:1]
    with (
        pytest.raises(ValueError, match="c.h5: 00001/file_name: expected 2 names, found 1"),
        FacesWriter(tmp_path / "c.h5", ATTRIBUTES) as writer,
    ):
        writer.add_person("00001", **rows)
    assert not (tmp_path / "c.h5").exists()


def test_files_of_different_patches_are_no_data_set(tmp_path):
    for name, side in (("a", 4), ("b", 8)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            rows_of((1, side, side, 3), (1, 8))(file)
            file.move("p", name)
    words = r"differ in patch size \(width, height\): \{\(4, 4\): '.*a.h5', \(8, 8\): '.*b.h5'\}"
    with pytest.raises(ValueError, match=words):
        FacesReader([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_rows_that_cannot_be_read_are_named(tmp_path):
    path = write(tmp_path / "a.h5", {"00001": 4})
    with h5py.File(path) as file:
        piece = file["00001/pixels"].id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(piece.byte_offset)
        file.write(b"\xff" * piece.size)
    reader = FacesReader(path)
    assert reader.pixels([0, 1, 3]).shape == (3, 12, 16, 3)
    with pytest.raises(OSError, match=r"a.h5: 00001/pixels: rows 1 to 3 cannot be read \(.*delete"):
        reader.pixels([1, 2, 3])


@pytest.mark.parametrize("place", ["f.h5", "f.h5:p", "f.h5:p/x", ":p/0", "f.h5:/0"])
def test_a_row_that_is_written_otherwise(place):
    with pytest.raises(ValueError, match="expected FACES.h5:person/index"):
        open_row(place)
