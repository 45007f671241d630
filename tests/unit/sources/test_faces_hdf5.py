"""Released files of normalised faces: attributes, channel order, and what each fault says."""

import h5py
import numpy as np
import pytest
from captures.faces_hdf5 import faces_hdf5

from regaze.sources import SourceError, open_source, source_options


def opened(path, **options):
    return open_source({"source": "faces_hdf5", "root": str(path), **options})


def write(path, persons=("p1", "p2"), *, size=(16, 16), labels=8, count=3, **attributes):
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for key, value in attributes.items():
            file.attrs[key] = value
        for person in persons:
            pixels = rng.integers(0, 256, (count, size[1], size[0], 3), dtype=np.uint8)
            file.create_dataset(f"{person}/pixels", data=pixels, chunks=(1, *pixels.shape[1:]))
            values = rng.uniform(-1, 1, (count, labels)).astype(np.float32)
            file.create_dataset(f"{person}/labels", data=values, chunks=(1, labels))
    return path


@pytest.mark.parametrize("variant", ["sted", "faze"])
def test_upstream_files_are_understood(tmp_path, variant):
    people = faces_hdf5(tmp_path / "GazeCapture.h5", variant=variant)
    source = opened(tmp_path / "GazeCapture.h5")
    assert source.persons == sorted(people) and source.kind == "faces_hdf5"
    a = source.attributes
    wanted = {"sted": ((128, 128), 500.0), "faze": ((256, 64), 1300.0)}[variant]
    assert (a.variant, a.patch_size, a.focal, a.distance) == (variant, *wanted, 600.0)
    assert (a.frame_check, a.channel_order, a.gaze) == ("unknown", "rgb", "known")
    rows = source.read_faces(source.persons[0])
    truth = np.radians([shot.labels() for shot in people[rows.person]])
    known = 8 if variant == "sted" else 4
    np.testing.assert_allclose(rows.labels[:, :known], truth[:, :known], atol=1e-6)
    assert np.isnan(rows.labels[:, known:]).all() and rows.file_name == ()
    assert rows.pixels == f"{rows.person}/pixels" and not rows.columns
    assert source_options({"source": "faces_hdf5", "root": "x"}).normalised


@pytest.mark.parametrize(
    ("attribute", "option", "found"),
    [
        (None, "auto", "rgb"),
        ("bgr", "auto", "bgr"),
        ("bgr", "rgb", "rgb"),
        (None, "bgr", "bgr"),
    ],
)
def test_channel_order(tmp_path, attribute, option, found):
    said = {} if attribute is None else {"channel_order": attribute}
    path = write(tmp_path / "a.h5", size=(128, 128), count=1, **said)
    assert opened(path, channel_order=option).attributes.channel_order == found


def test_virtual_camera_from_options_file_or_size(tmp_path):
    other = write(tmp_path / "a.h5")
    with pytest.raises(SourceError, match="a.h5: patches of 16 x 16 px: .* give variant, or"):
        opened(other)
    a = opened(other, variant="sted").attributes
    assert (a.focal, a.distance) == (62.5, 600.0)
    a = opened(other, focal=80, distance=500).attributes
    assert (a.variant, a.focal, a.distance) == ("custom", 80.0, 500.0)
    with pytest.raises(SourceError, match="virtual camera is not known"):
        opened(other, variant="custom", focal=80)
    own = {"variant": "custom", "focal": 90.0, "distance": 700.0, "frame_check": "ellipsoid"}
    said = write(tmp_path / "b.h5", **own)
    a = opened(said).attributes
    assert (a.variant, a.focal, a.distance, a.frame_check) == tuple(own.values())
    a = opened(said, variant="sted").attributes
    assert (a.variant, a.focal, a.distance) == ("sted", 62.5, 600.0)


def test_a_folder_is_one_data_set(tmp_path):
    write(tmp_path / "a.h5", ["p3"])
    write(tmp_path / "b.h5", ["p1"])
    source = opened(tmp_path, variant="sted")
    assert source.persons == ["p1", "p3"]
    assert source.read_faces("p1").path == tmp_path / "b.h5"
    write(tmp_path / "c.h5", ["p3"])
    with pytest.raises(SourceError, match=r"c.h5: person p3: .*found it in .*a.h5"):
        opened(tmp_path, variant="sted")
    write(tmp_path / "c.h5", ["p4"], channel_order="bgr")
    with pytest.raises(SourceError, match="c.h5: channel_order: expected None as in the other"):
        opened(tmp_path, variant="sted")


def test_columns_of_our_own_files_are_kept(tmp_path):
    path = write(tmp_path / "a.h5", ["p1"], size=(128, 128))
    with h5py.File(path, "a") as file:
        file["p1/rotation"] = np.tile(np.eye(3), (3, 1, 1))
        file["p1/source_index"] = np.array([4, 5, 9])
        file["p1/file_name"] = np.array([b"a", b"\xff", b"c"])
    rows = opened(path).read_faces("p1")
    assert sorted(rows.columns) == ["rotation", "source_index"]
    assert rows.columns["source_index"].tolist() == [4, 5, 9]
    assert rows.file_name == ("a", "\\xff", "c")


def huge(file):
    del file["p1/labels"]
    file.create_dataset("p1/labels", (10**12, 8), np.float32, chunks=(1, 8))


def claimed(file):
    del file["p1/labels"]
    file.create_dataset("p1/labels", (900_000, 8), np.float32, chunks=(1, 8))


def outside(file):
    del file["p1/labels"]
    file["p1/labels"] = h5py.ExternalLink("/etc/passwd", "x")


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (lambda f: f.pop("p1/labels"), "missing_key", "labels: expected a dataset"),
        (lambda f: f.pop("p1/pixels"), "missing_key", "pixels: expected a dataset"),
        (lambda f: f.move("p1/labels", "p1/label"), "missing_key", "labels: expected a dataset"),
        (lambda f: f.__setitem__("p1/rotation", np.zeros((3, 9))), "bad_shape", "rotation: exp"),
        (lambda f: f.__setitem__("p1/file_name", np.zeros(3)), "bad_shape", "file_name: expected"),
        (huge, "bad_shape", "at most 1000000 rows"),
        (outside, "bad_source", "found a link to '/etc/passwd'"),
    ],
)
def test_a_fault_names_file_person_and_dataset(tmp_path, damage, reason, words):
    path = write(tmp_path / "a.h5", ["p0", "p1"], size=(128, 128))
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(SourceError, match=words) as error:
        opened(path).read_faces("p1")
    assert error.value.reason == reason
    assert "a.h5: person p1" in str(error.value)


def test_room_that_was_never_filled_is_no_row(tmp_path):
    path = write(tmp_path / "a.h5", ["p0", "p1"], size=(128, 128))
    with h5py.File(path, "a") as file:
        claimed(file)
        file["p1/labels"][0] = 0.25
        file["p1/labels"][2] = 0.5
    rows = opened(path).read_faces("p1")
    assert len(rows) == 3 and np.isnan(rows.labels[1]).all() and rows.labels[2, 0] == 0.5


def test_faults_of_the_whole_file(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        opened(tmp_path / "a.h5")
    with pytest.raises(SourceError, match="expected HDF5 files"):
        opened(tmp_path)
    (tmp_path / "a.h5").write_text("no")
    with pytest.raises(SourceError, match="a.h5: expected an HDF5 file"):
        opened(tmp_path / "a.h5")
    with pytest.raises(SourceError, match="group per person"):
        opened(write(tmp_path / "a.h5", []))
    with pytest.raises(SourceError, match="channel_order: expected rgb or bgr, found 'grb'"):
        opened(write(tmp_path / "a.h5", channel_order="grb"))
    with pytest.raises(SourceError, match="gaze: expected known or absent"):
        opened(write(tmp_path / "a.h5", gaze="no"))
    with pytest.raises(SourceError, match="a.h5: framing: expected patches of a virtual camera"):
        opened(write(tmp_path / "a.h5", size=(128, 128), framing="ffhq"))
    path = write(tmp_path / "a.h5", size=(128, 128))
    with pytest.raises(SourceError, match="person p9") as error:
        opened(path).read_faces("p9")
    assert error.value.reason == "missing_person"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match="a.h5: expected an HDF5 file"):
        opened(path)
    entry = {"source": "faces_hdf5", "root": str(path)}
    with pytest.raises(SourceError, match="'faces_hdf5' takes no supplementary file"):
        open_source(entry, supplementary="x.h5")
    with h5py.File(path, "w") as file:
        file["p1/pixels"] = np.zeros((3, 16, 16))
        file["p2/pixels"] = np.zeros((3, 16, 16), np.uint8)
    with pytest.raises(SourceError, match=r"a.h5: pixels: expected \(N,H,W,3\) of some person"):
        opened(path)
