"""A capture drawn on the spot through the shard function: rows, reasons, shards, bytes."""

import hashlib

import cv2
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regaze.faces import FacesReader
from regaze.normalise.contact_sheet import choose_rows, contact_sheet
from regaze.normalise.geometry import Variant
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.rejections import TooManyRejected, gather_rejected, read_rejected
from regaze.sources import open_source
from regaze.sources.splits import deal

WIDTH, HEIGHT, ROWS = 320, 240, 5
CAMERA = (300.0, 300.0, 160.0, 120.0)


def draw_capture(root, persons=("p1", "p2", "p3")):
    random = np.random.default_rng(5)
    with h5py.File(root / "supplementary.h5", "w") as labels:
        for person in persons:
            (root / person / "frames").mkdir(parents=True)
            names = [f"{person}/frames/{i:05d}.jpg" for i in range(ROWS)]
            for name in names:
                small = random.integers(0, 255, (6, 8, 3), dtype=np.uint8)
                photo = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(root / name), photo)
            pose = random.normal(size=(ROWS, 6)) * [0.1, 0.1, 0.1, 10, 10, 20]
            labels[f"{person}/file_name"] = np.array(names, dtype="S")
            labels[f"{person}/camera_parameters"] = np.tile(CAMERA, (ROWS, 1))
            labels[f"{person}/distortion_parameters"] = np.full((ROWS, 5), 0.001)
            labels[f"{person}/head_pose"] = pose + [0, 0, 0, 0, -30, 500]
            labels[f"{person}/3d_gaze_target"] = random.normal(size=(ROWS, 3)) * [60, 60, 5]
    with h5py.File(root / "parameters.h5", "w") as file:
        for person in persons:
            file[f"{person}/landmarks"] = np.full((ROWS, 68, 2), CAMERA[2:])
    return root


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    return draw_capture(tmp_path_factory.mktemp("capture"))


def run(root, out, shards, **options):
    source = open_source({"source": "synthetic", "root": str(root)})
    options = {"frame_check": "ellipsoid", "patch_size": 64} | options
    faces, rejected, counts = [], [], []
    for number, persons in enumerate(deal(source.persons, shards)):
        faces.append(out / f"shard-{number}.h5")
        rejected.append(out / f"rejected-{number}.parquet")
        counts.append(normalise_shard(source, persons, faces[-1], rejected[-1], **options))
    total = gather_rejected(
        rejected, [one.rows_out for one in counts], out / "rejected.parquet", max_rejected=0.9
    )
    return FacesReader(faces), total


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_rows_labels_and_extras(capture, tmp_path):
    reader, total = run(capture, tmp_path, 1)
    assert (total.rows_in, total.rows_out, len(reader)) == (15, 15, 15)
    assert reader.patch_size == (64, 64)
    assert reader.attributes["focal"] == 250.0 and reader.attributes["distance"] == 600.0
    assert reader.attributes["frame_check"] == "ellipsoid"
    assert reader.attributes["source"] == "synthetic"
    assert np.isfinite(reader.labels).all()
    rows = reader.rows()
    assert list(reader.dataset("source_index", rows[:5])) == [0, 1, 2, 3, 4]
    rotation = reader.dataset("rotation", rows)
    eyes = np.tile(np.eye(3), (15, 1, 1))
    np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), eyes, atol=1e-12)
    # The principal point of the photo, undistorted, is on the camera's axis.
    axis = rotation @ np.array([0.0, 0.0, 1.0])
    found = reader.dataset("landmarks", rows)[:, 0]
    scale = 600.0 / np.linalg.norm(reader.dataset("gaze_origin", rows), axis=1)
    wanted = 250.0 * axis[:, :2] / (axis[:, 2:] * scale[:, None]) + 32.0
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_shards_threads_and_repetition_change_nothing(capture, tmp_path):
    folders = []
    for name, shards, threads in [("a", 1, 1), ("b", 3, 2), ("c", 2, 1), ("d", 5, 1)]:
        (tmp_path / name).mkdir()
        folders.append(run(capture, tmp_path / name, shards, threads=threads)[0])
    first = folders[0]
    for other in folders[1:]:
        assert other.persons == first.persons
        np.testing.assert_array_equal(other.labels, first.labels)
        np.testing.assert_array_equal(other.pixels(other.rows()), first.pixels(first.rows()))
    tables = {digest(tmp_path / name / "rejected.parquet") for name in "abcd"}
    assert len(tables) == 1
    (tmp_path / "again").mkdir()
    run(capture, tmp_path / "again", 1)
    assert digest(tmp_path / "again" / "shard-0.h5") == digest(tmp_path / "a" / "shard-0.h5")


def test_a_virtual_camera_of_ones_own_is_used_as_it_is(capture, tmp_path):
    reader, _ = run(capture, tmp_path, 1, variant=Variant("mine", (32, 48), 90.0, 700.0))
    attributes = reader.attributes
    assert (attributes["variant"], attributes["focal"], attributes["distance"]) == ("mine", 90, 700)
    assert reader.patch_size == (32, 48) and len(reader) == 15


def test_large_persons_go_through_a_file_with_the_same_result(capture, tmp_path, monkeypatch):
    plain, _ = run(capture, tmp_path, 1)
    wanted = plain.pixels(plain.rows())
    monkeypatch.setattr("regaze.normalise.pipeline._BYTES_IN_MEMORY", 1000)
    other = tmp_path / "other"
    other.mkdir()
    reader, _ = run(capture, other, 1)
    np.testing.assert_array_equal(reader.pixels(reader.rows()), wanted)
    assert sorted(path.name for path in other.iterdir()) == [
        "rejected-0.parquet",
        "rejected.parquet",
        "shard-0.h5",
    ]


@pytest.fixture
def broken(tmp_path):
    root = tmp_path / "capture"
    root.mkdir()
    draw_capture(root, ("p1", "p2", "p3", "p4"))
    first = root / "p1" / "frames"
    (first / "00000.jpg").write_bytes((first / "00000.jpg").read_bytes()[:300])
    (first / "00001.jpg").unlink()
    with h5py.File(root / "supplementary.h5", "r+") as file:
        file["p1/3d_gaze_target"][2, 0] = np.nan
        file["p1/head_pose"][3, 5] = -500.0
        file["p1/head_pose"][4, 3] = 400.0
        del file["p2/head_pose"]
        names = file["p3/file_name"][()]
        names[0] = b"../secret.jpg"
        file["p3/file_name"][...] = names
        file["p3/distortion_parameters"][1, 0] = np.inf
        file["p3/camera_parameters"][2, 0] = 0.0
    return root


def test_every_fault_is_a_rejected_row_with_its_reason(broken, tmp_path):
    reader, total = run(broken, tmp_path, 2)
    assert (total.rows_in, total.rows_out, total.rejected) == (20, 7, 13)
    assert reader.persons == ["p3", "p4"]
    table, _ = read_rejected(tmp_path / "rejected.parquet")
    rows = [(r["person"], r["source_index"], r["reason"]) for r in table.to_pylist()]
    assert rows == [
        ("p1", 0, "unreadable_image"),
        ("p1", 1, "unreadable_image"),
        ("p1", 2, "non_finite_label"),
        ("p1", 3, "behind_camera"),
        ("p1", 4, "out_of_frame"),
        *[("p2", row, "missing_key") for row in range(5)],
        ("p3", 0, "bad_file_name"),
        ("p3", 1, "non_finite_label"),
        ("p3", 2, "bad_camera"),
    ]
    details = {r["reason"]: r["detail"] for r in table.to_pylist()}
    assert "320 x 240" in details["out_of_frame"] and "head_pose" in details["missing_key"]
    assert list(reader.dataset("source_index", reader.rows(["p3"]))) == [3, 4]


def test_the_limit_names_the_dominating_reasons(broken, tmp_path):
    source = open_source({"source": "synthetic", "root": str(broken)})
    counts = normalise_shard(
        source,
        [*source.persons, "p9"],
        tmp_path / "f.h5",
        tmp_path / "r.parquet",
        frame_check="none",
    )
    assert counts.rows_in == 21
    with pytest.raises(TooManyRejected) as error:
        gather_rejected([tmp_path / "r.parquet"], None, tmp_path / "all.parquet", 0.1)
    text = str(error.value)
    assert text.index("missing_key: 5") < text.index("unreadable_image: 2")
    assert "0.1" in text and not (tmp_path / "all.parquet").exists()
    with pytest.raises(ValueError, match="kept rows"):
        gather_rejected([tmp_path / "r.parquet"], [3], tmp_path / "all.parquet", 1.0)
    assert gather_rejected([tmp_path / "r.parquet"], None, tmp_path / "all.parquet", 0.9).rows_in


def test_what_is_no_table_of_rejected_rows_is_refused(tmp_path):
    path = tmp_path / "r.parquet"
    path.write_text("person,reason\n")
    with pytest.raises(ValueError, match="r.parquet: expected a parquet table, found"):
        read_rejected(path)
    pq.write_table(pa.table({"person": ["p1"]}), path)
    with pytest.raises(ValueError, match=r"r.parquet: .*\(person, .*found columns \['person'\]"):
        read_rejected(path)


def test_wrong_options_are_refused(capture, tmp_path):
    source = open_source({"source": "synthetic", "root": str(capture)})
    for options in (
        {"frame_check": "sphere"},
        {"variant": "stet"},
        {"variant": "custom"},
        {"resampling": "x"},
        {"undistort_camera": "x"},
    ):
        with pytest.raises(ValueError, match="expected"):
            normalise_shard(source, ["p1"], tmp_path / "f.h5", tmp_path / "r.parquet", **options)
    assert not list(tmp_path.iterdir())


def test_contact_sheet(capture, tmp_path):
    reader, _ = run(capture, tmp_path, 2)
    rows = choose_rows(reader, 7)
    assert len(set(rows)) == 7 and set(reader.person_of[rows]) == {0, 1, 2}
    assert len(choose_rows(reader, 2)) == 2 and len(choose_rows(reader, 99)) == 15
    assert choose_rows(reader, 0).tolist() == []
    contact_sheet(reader, tmp_path / "a.png", count=7, columns=4, title="drawn")
    contact_sheet(reader, tmp_path / "b.png", count=7, columns=4, title="drawn")
    assert digest(tmp_path / "a.png") == digest(tmp_path / "b.png")
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] >= 4 * 160
