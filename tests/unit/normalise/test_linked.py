"""Shards of released patches: links, copies, and every bad row with its reason."""

import os
import re

import h5py
import numpy as np
import pytest
from captures.eth_xgaze import eth_xgaze_hdf5
from captures.faces_hdf5 import faces_hdf5

from regaze.faces import FacesReader
from regaze.normalise.linked import link_shard
from regaze.normalise.rejections import TooManyRejected, gather_rejected, read_rejected
from regaze.report import inputs
from regaze.sources import open_source

SIZE = 32


def released(path, people=("p1", "p2"), count=6, labels=8):
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for person in people:
            pixels = rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
            chunk = (1, SIZE, SIZE, 3)
            file.create_dataset(f"{person}/pixels", data=pixels, chunks=chunk, compression="lzf")
            file[f"{person}/labels"] = rng.uniform(-1, 1, (count, labels)).astype(np.float32)
    return path


def run(path, folder, **options):
    entry = {"source": "faces_hdf5", "root": str(path), "variant": "sted"}
    source = open_source(entry)
    out = (folder / "shard.h5", folder / "rejected.parquet")
    counts = link_shard(source, source.persons, *out, **options)
    table, found = read_rejected(out[1])
    assert found == counts and table.num_rows == counts.rejected
    reader = FacesReader(out[0])
    assert len(reader) == counts.rows_out
    return reader, table.to_pylist(), counts


@pytest.mark.parametrize("copy", [False, True])
def test_rows_are_the_released_rows(tmp_path, copy):
    path = released(tmp_path / "all.h5")
    reader, rejected, counts = run(path, tmp_path / "out", copy=copy)
    assert not rejected and counts.rows_out == 12
    upstream = FacesReader(path)
    everything = np.arange(12)
    np.testing.assert_array_equal(reader.pixels(everything), upstream.pixels(everything))
    np.testing.assert_array_equal(reader.labels, upstream.labels)
    assert reader.attributes["variant"] == "sted" and reader.attributes["source"] == "faces_hdf5"
    assert reader.dataset("source_index", [0, 7]).tolist() == [0, 1]
    with h5py.File(reader.paths[0]) as file:
        assert file["p1/pixels"].is_virtual != copy
        np.testing.assert_array_equal(file["p2/pixels"][:], upstream.pixels(everything[6:]))
    if copy:
        path.unlink()
        assert len(FacesReader(reader.paths)) == 12


def test_bytes_do_not_depend_on_the_run_or_the_place(tmp_path):
    shards = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        path = released(tmp_path / place / "all.h5")
        run(path, tmp_path / place / "out")
        shards.append((tmp_path / place / "out/shard.h5").read_bytes())
    assert shards[0] == shards[1]


def test_every_bad_row_has_its_reason(tmp_path):
    path = released(tmp_path / "all.h5", ("p1", "p2", "p3", "p4", "p5", "p6"))
    with h5py.File(path, "a") as file:
        file["p1/labels"][1, 2] = np.nan
        file["p1/labels"][2, 5] = np.inf
        file["p1/labels"][4] *= 57.3
        del file["p2/labels"]
        del file["p3/pixels"]
        file["p3/pixels"] = np.zeros((5, SIZE, SIZE, 3), np.uint8)
        del file["p4/pixels"]
        file["p4/pixels"] = np.zeros((6, SIZE, SIZE, 3), np.float32)
        # Rows that nobody wrote: room was made for six, five were filled.
        pixels = file["p5/pixels"][:]
        del file["p5/pixels"]
        chunk = (1, SIZE, SIZE, 3)
        file.create_dataset("p5/pixels", (6, *chunk[1:]), np.uint8, chunks=chunk, compression="lzf")
        for row in (0, 1, 3, 4, 5):
            file["p5/pixels"][row] = pixels[row]
    reader, rejected, counts = run(path, tmp_path / "out")
    assert counts.rows_in == 36
    assert [reader.count(f"p{n}") for n in range(1, 7)] == [3, 0, 0, 0, 5, 6]
    found = [(one["person"], one["source_index"], one["reason"]) for one in rejected]
    assert found == [
        ("p1", 1, "non_finite_label"),
        ("p1", 2, "non_finite_label"),
        ("p1", 4, "label_out_of_range"),
        *[("p2", row, "missing_key") for row in range(6)],
        *[("p3", row, "bad_shape") for row in range(6)],
        *[("p4", row, "bad_shape") for row in range(6)],
        ("p5", 2, "unreadable_image"),
    ]
    assert rejected[0]["detail"] == "head_pitch" and rejected[1]["detail"] == "left_gaze_yaw"
    assert "rad, found" in rejected[2]["detail"] and "p2: labels" in rejected[3]["detail"]
    upstream = np.concatenate([pixels[[0, 1, 3, 4, 5]]])
    np.testing.assert_array_equal(reader.pixels(reader.rows(["p5"])), upstream)
    assert reader.dataset("source_index", reader.rows(["p1"])).tolist() == [0, 3, 5]


def test_a_row_with_two_faults_is_rejected_once(tmp_path):
    path = released(tmp_path / "all.h5", ["p1"])
    with h5py.File(path, "a") as file:
        del file["p1/pixels"]
        shape, chunk = (6, SIZE, SIZE, 3), (1, SIZE, SIZE, 3)
        file.create_dataset("p1/pixels", shape, np.uint8, chunks=chunk)
        file["p1/pixels"][0] = file["p1/pixels"][5] = 7
        file["p1/labels"][2, 0] = np.nan
    _, rejected, counts = run(path, tmp_path / "out")
    reasons = {one["source_index"]: one["reason"] for one in rejected}
    left = dict.fromkeys((1, 3, 4), "unreadable_image")
    assert reasons == left | {2: "non_finite_label"} and len(rejected) == counts.rejected == 4


def test_a_person_without_a_good_row_is_not_copied(tmp_path):
    path = released(tmp_path / "all.h5")
    with h5py.File(path, "a") as file:
        file["p1/labels"][...] = np.nan
    reader, rejected, counts = run(path, tmp_path / "out", copy=True)
    assert reader.persons == ["p2"] and (counts.rows_in, counts.rows_out) == (12, 6)
    assert {one["person"] for one in rejected} == {"p1"}


@pytest.mark.parametrize(("bad", "check"), [((0,), "ends"), ((5,), "ends"), ((2, 3), "all")])
def test_pixels_that_cannot_be_decoded_are_found(tmp_path, bad, check):
    path = tmp_path / "all.h5"
    with h5py.File(released(path), "a") as file:
        data = file["p2/pixels"][:]
        del file["p2/pixels"]
        chunk = (1, SIZE, SIZE, 3)
        file.create_dataset("p2/pixels", data=data, chunks=chunk, compression="gzip")
        for row in bad:
            file["p2/pixels"].id.write_direct_chunk((row, 0, 0, 0), b"\x01 no picture")
    reader, rejected, _ = run(path, tmp_path / "out", check_pixels=check)
    assert [(one["person"], one["source_index"]) for one in rejected] == [("p2", r) for r in bad]
    assert {one["reason"] for one in rejected} == {"unreadable_image"}
    good = [row for row in range(6) if row not in bad]
    np.testing.assert_array_equal(reader.pixels(reader.rows(["p2"])), data[good])


def test_four_labels_and_bgr(tmp_path):
    faces_hdf5(tmp_path / "f.h5", variant="faze", channel_order="bgr", attribute=True)
    source = open_source({"source": "faces_hdf5", "root": str(tmp_path / "f.h5")})
    link_shard(source, source.persons[:2], tmp_path / "s.h5", tmp_path / "r.parquet")
    reader, upstream = FacesReader(tmp_path / "s.h5"), FacesReader(tmp_path / "f.h5")
    assert reader.persons == upstream.persons[:2] and reader.patch_size == (256, 64)
    assert np.isnan(reader.labels[:, 4:]).all()
    rows = reader.rows()
    np.testing.assert_array_equal(reader.pixels(rows), upstream.pixels(rows))


def test_patches_of_eth_xgaze(tmp_path):
    truth = eth_xgaze_hdf5(tmp_path / "set")
    source = open_source({"source": "eth_xgaze_hdf5", "root": str(tmp_path / "set")})
    counts = link_shard(source, source.persons, tmp_path / "o/s.h5", tmp_path / "o/r.parquet")
    reader = FacesReader(tmp_path / "o/s.h5")
    shots = [shot for person in reader.persons for shot in truth[person]]
    assert counts.rows_out == len(reader) == len(shots) and counts.rejected == 0
    wanted = np.stack([shot.patch(224, 960.0, 600.0) for shot in shots])
    np.testing.assert_array_equal(reader.pixels(reader.rows()), wanted)
    assert reader.has("rotation") and reader.has("landmarks") and not reader.has("gaze_origin")
    assert reader.dataset("file_name", [1])[0] == b"data/train/subject0000/frame0000/cam03.JPG"


def test_room_at_the_end_is_no_row(tmp_path):
    path = released(tmp_path / "all.h5", ["p1"])
    with h5py.File(path, "a") as file:
        for name in ("pixels", "labels"):
            data = file[f"p1/{name}"][:]
            del file[f"p1/{name}"]
            shape, chunk = (108, *data.shape[1:]), (1, *data.shape[1:])
            file.create_dataset(f"p1/{name}", shape, data.dtype, chunks=chunk)
            file[f"p1/{name}"][:6] = data
    _, rejected, counts = run(path, tmp_path / "out")
    assert not rejected and counts.rows_in == 6


def test_a_link_to_a_link_points_at_the_release(tmp_path):
    path = released(tmp_path / "all.h5")
    with h5py.File(path, "a") as file:
        file["p1/labels"][2] = np.nan
    first, _, _ = run(path, tmp_path / "one")
    second, _, _ = run(tmp_path / "one/shard.h5", tmp_path / "two/deeper")
    (tmp_path / "one/shard.h5").unlink()
    np.testing.assert_array_equal(
        FacesReader(second.paths).pixels(np.arange(11)), first.pixels(np.arange(11))
    )


def test_a_link_to_rows_that_are_gone_is_named(tmp_path):
    path = released(tmp_path / "all.h5")
    first, _, _ = run(path, tmp_path / "one")
    with h5py.File(path, "a") as file:
        few = file["p1/pixels"][:4]
        del file["p1/pixels"]
        file["p1/pixels"] = few
    reader, rejected, _ = run(tmp_path / "one/shard.h5", tmp_path / "two")
    assert reader.persons == ["p2"] and {one["reason"] for one in rejected} == {"bad_shape"}
    assert len(rejected) == first.count("p1") == 6
    words = r"shard.h5: p1: .*all.h5: p1/pixels: expected 6 rows or more, .*\(4, 32, 32, 3\)"
    assert re.search(words, rejected[0]["detail"])


def test_person_that_is_not_there_and_unknown_check(tmp_path):
    source = open_source(
        {"source": "faces_hdf5", "root": str(released(tmp_path / "a.h5")), "variant": "sted"}
    )
    out = (tmp_path / "s.h5", tmp_path / "r.parquet")
    counts = link_shard(source, ["p1", "p7"], *out)
    assert (counts.rows_in, counts.rows_out) == (7, 6)
    (row,) = read_rejected(out[1])[0].to_pylist()
    assert (row["person"], row["source_index"], row["reason"]) == ("p7", -1, "missing_person")


def assembled(path, fill, count=6):
    """A file of one person whose pixels are virtual; ``fill`` maps them."""
    layout = h5py.VirtualLayout((count, SIZE, SIZE, 3), np.uint8)
    fill(layout)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("p/pixels", layout)
        file["p/labels"] = np.random.default_rng(2).uniform(-1, 1, (count, 8)).astype(np.float32)
    return path


def pixels_of(path, person, shape=(6, SIZE, SIZE, 3)):
    return h5py.VirtualSource(path.name, f"{person}/pixels", shape=shape)


@pytest.mark.parametrize("copy", [False, True])
def test_pixels_of_several_files_are_linked_to_where_they_lie(tmp_path, copy):
    first, second = released(tmp_path / "1.h5"), released(tmp_path / "2.h5", ["p9"])

    def fill(layout):
        layout[0:2] = pixels_of(first, "p2")[3:5]
        layout[2:5] = pixels_of(second, "p9")[0:6:2]

    made = assembled(tmp_path / "all.h5", fill)
    reader, rejected, counts = run(made, tmp_path / "out", copy=copy)
    wanted = FacesReader([first]).pixels([9, 10]), FacesReader(second).pixels([0, 2, 4])
    np.testing.assert_array_equal(reader.pixels(np.arange(5)), np.concatenate(wanted))
    # The row that is mapped to nothing would be black.
    ((row, detail),) = [(one["source_index"], one["detail"]) for one in rejected]
    assert row == 5 and "mapped to no file" in detail and counts.rows_in == 6
    # The file in between plays no part any more.
    made.unlink()
    np.testing.assert_array_equal(FacesReader(reader.paths).pixels([4]), wanted[1][2:])
    assert len({path for path, _ in reader._sources}) == (0 if copy else 2)


def test_all_of_another_dataset_is_h5py_s_usual_link(tmp_path):
    first = released(tmp_path / "1.h5")

    def fill(layout):
        layout[:] = pixels_of(first, "p2")

    reader, rejected, _ = run(assembled(tmp_path / "all.h5", fill), tmp_path / "out")
    assert not rejected
    np.testing.assert_array_equal(
        reader.pixels(np.arange(6)), FacesReader(first).pixels(np.arange(6, 12))
    )
    first.unlink()
    with pytest.raises(FileNotFoundError, match="1.h5: no such file, but the pixels of person p"):
        FacesReader(reader.paths)
    _, rejected, counts = run(tmp_path / "all.h5", tmp_path / "again")
    assert counts.rows_in == len(rejected) == 6
    assert re.search(r"all.h5: p: p/pixels: .*1.h5: no such file", rejected[0]["detail"])


def test_every_picture_may_be_a_dataset_of_its_own(tmp_path):
    pictures = np.random.default_rng(3).integers(0, 256, (6, SIZE, SIZE, 3), dtype=np.uint8)

    def fill(layout):
        for number, picture in enumerate(pictures):
            with h5py.File(tmp_path / f"{number}.h5", "w") as file:
                file["picture"] = picture
                layout[number] = h5py.VirtualSource(file["picture"])

    made = assembled(tmp_path / "all.h5", fill)
    for copy in (False, True):
        reader, rejected, _ = run(made, tmp_path / f"out-{copy}", copy=copy, check_pixels="all")
        assert not rejected
        np.testing.assert_array_equal(reader.pixels([5, 0, 3]), pictures[[5, 0, 3]])


def test_released_patches_may_be_virtual(tmp_path):
    eth_xgaze_hdf5(tmp_path / "set")
    path = tmp_path / "set/train/subject0000.h5"
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "set/pixels.h5", "w") as other:
        pixels = file["face_patch"][:]
        other["x"] = pixels
        layout = h5py.VirtualLayout((len(pixels) + 2, *pixels.shape[1:]), np.uint8)
        layout[: len(pixels)] = h5py.VirtualSource("../pixels.h5", "x", shape=pixels.shape)
        del file["face_patch"]
        file.create_virtual_dataset("face_patch", layout)
        for name in ("face_gaze", "face_head_pose"):
            values = file[name][:]
            del file[name]
            file[name] = np.concatenate([values, values[:2]])
    source = open_source({"source": "eth_xgaze_hdf5", "root": str(tmp_path / "set")})
    out = (tmp_path / "o/s.h5", tmp_path / "o/r.parquet")
    counts = link_shard(source, ["subject0000"], *out)
    assert (counts.rows_in, counts.rows_out) == (len(pixels), len(pixels))
    reader = FacesReader(out[0])
    np.testing.assert_array_equal(reader.pixels(reader.rows()), pixels[..., ::-1])


def cut(path, share):
    os.truncate(path, int(path.stat().st_size * share))


@pytest.mark.parametrize("share", [0.99, 0.9, 0.3])
def test_rows_of_a_file_that_was_cut_off_are_counted(tmp_path, share):
    eth_xgaze_hdf5(tmp_path / "set")
    entry = {"source": "eth_xgaze_hdf5", "root": str(tmp_path / "set")}
    source = open_source(entry)
    out = tmp_path / "s.h5", tmp_path / "r.parquet"
    whole = link_shard(source, source.persons, *out)
    assert whole.persons == 2 and whole.lost == {}
    cut(tmp_path / "set/train/subject0004.h5", share)
    counts = link_shard(open_source(entry), source.persons, *out)
    assert counts.rows_in == whole.rows_in and counts.lost == {"subject0004": 4}
    with pytest.raises(TooManyRejected) as error:
        gather_rejected([out[1]], None, tmp_path / "all.parquet", 0.4)
    assert "1 of 2 persons were lost with all of their rows (4 known): subject0004" in str(
        error.value
    )


def test_persons_are_limited_apart_from_rows(tmp_path):
    released(tmp_path / "1.h5", ["p1"], count=50)
    path = tmp_path / "1.h5"
    with h5py.File(path, "r+") as file:
        file["p2/pixels"], file["p2/labels"] = np.zeros((1, SIZE, SIZE, 3), "u1"), [[np.nan] * 8]
        file.create_group("p3")
    _, rejected, counts = run(path, tmp_path / "out")
    assert counts.persons == 3 and counts.lost == {"p2": 1, "p3": None}
    assert (counts.rows_in, counts.rows_out, len(rejected)) == (52, 50, 2)
    table, everything = tmp_path / "out/rejected.parquet", tmp_path / "all.parquet"
    words = (
        "2 of 3 persons were lost with all of their rows (1 known, of 1 of them nobody knows how "
        "many): p2, p3; max_lost, by default as max_rejected, allows 0.05"
    )
    with pytest.raises(TooManyRejected) as error:
        gather_rejected([table], None, everything, 0.05)
    assert str(error.value).startswith(words) and "missing_key: 1, first person p3" in str(
        error.value
    )
    assert not everything.exists()
    left = {"not in the split": ["p9"]}
    total = gather_rejected([table], None, everything, 0.05, max_lost=0.7, left_out=left)
    assert read_rejected(everything)[1] == total and total.left_out == left
    assert inputs.read_rejected([everything])[1] == [
        "2 of 3 persons were lost with all of their rows (1 known, of 1 of them nobody knows how "
        "many): p2, p3.",
        "Persons left out, not in the split (1): p9.",
    ]
