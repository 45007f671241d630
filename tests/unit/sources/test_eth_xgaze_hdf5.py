"""ETH-XGaze's released patches: what is read, test files without labels, unfilled rows."""

import h5py
import numpy as np
import pytest
from captures.eth_xgaze import eth_xgaze_hdf5

from regaze.sources import SourceError, open_source


def opened(path, **options):
    return open_source({"source": "eth_xgaze_hdf5", "root": str(path), **options})


@pytest.mark.parametrize(("size", "distance"), [(224, 600.0), (448, 300.0)])
def test_both_releases_are_understood(tmp_path, size, distance):
    truth = eth_xgaze_hdf5(tmp_path / "set", size=size)
    source = opened(tmp_path / "set")
    assert source.persons == list(truth)
    a = source.attributes
    assert (a.patch_size, a.focal, a.distance) == ((size, size), 960.0, distance)
    assert (a.channel_order, a.source, a.variant) == ("bgr", "eth_xgaze_hdf5", "xgaze")
    assert source.split() == {"train": ["subject0000"], "val": [], "test": ["subject0004"]}
    for person, shots in truth.items():
        rows = source.read_faces(person)
        wanted = np.radians([shot.labels()[:4] for shot in shots])
        np.testing.assert_allclose(rows.labels[:, :4], wanted, atol=1e-6)
        assert np.isnan(rows.labels[:, 4:]).all()
        for row, shot in enumerate(shots):
            np.testing.assert_allclose(rows.columns["rotation"][row], shot.view())
            marks = shot.patch_landmarks(size, 960.0, distance)
            np.testing.assert_allclose(rows.columns["landmarks"][row], marks)
    assert rows.file_name[1] == "data/train/subject0004/frame0001/cam03.JPG"
    assert opened(tmp_path / "set/train").persons == source.persons
    assert opened(tmp_path / "set", channel_order="rgb").attributes.channel_order == "rgb"


def patches(path, room=3, rows=3, side=224, leave_out=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    columns = {
        "face_patch": rng.integers(0, 256, (rows, side, side, 3), dtype=np.uint8),
        "face_gaze": rng.uniform(-1, 1, (rows, 2)),
        "face_head_pose": rng.uniform(-1, 1, (rows, 2)),
    }
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if name not in leave_out:
                shape, chunk = (room, *values.shape[1:]), (1, *values.shape[1:])
                file.create_dataset(name, shape, values.dtype, chunks=chunk, compression="lzf")
                file[name][:rows] = values
    return path


def test_rows_that_were_never_written_do_not_count(tmp_path):
    """The release's own script makes room for 18 times as many rows as it fills."""
    patches(tmp_path / "subject0000.h5", room=54)
    source = opened(tmp_path)
    rows = source.read_faces("subject0000")
    assert len(rows) == 3 and np.isfinite(rows.labels[:, :4]).all()
    assert rows.file_name == () and rows.columns == {}
    assert source.split() == {"train": ["subject0000"], "val": [], "test": []}


def test_test_files_without_labels_are_refused(tmp_path):
    patches(tmp_path / "subject0001.h5", leave_out=["face_gaze", "face_head_pose"])
    words = "subject0001.h5: face_gaze: .* the test files of the release come without labels"
    with pytest.raises(SourceError, match=words):
        opened(tmp_path)
    patches(tmp_path / "subject0002.h5")
    source = opened(tmp_path)
    with pytest.raises(SourceError, match=words) as error:
        source.read_faces("subject0001")
    assert error.value.reason == "missing_key" and len(error.value.file_names) == 3


def test_other_faults(tmp_path):
    with pytest.raises(SourceError, match="expected the data set's folder"):
        opened(tmp_path / "nothing")
    with pytest.raises(SourceError, match="expected subject0000.h5 and so on"):
        opened(tmp_path)
    patches(tmp_path / "s1.h5", side=64)
    with pytest.raises(SourceError, match="expected patches of 224 x 224 or 448 x 448 px"):
        opened(tmp_path)
    patches(tmp_path / "s1.h5")
    (tmp_path / "s0.h5").write_text("no")
    source = opened(tmp_path)
    assert source.persons == ["s0", "s1"]
    with pytest.raises(SourceError, match="s0.h5: expected an HDF5 file"):
        source.read_faces("s0")
    with pytest.raises(SourceError, match="person s9"):
        source.read_faces("s9")
    with h5py.File(tmp_path / "s1.h5", "a") as file:
        file["face_mat_norm"] = np.zeros((3, 9))
    with pytest.raises(SourceError, match="face_mat_norm: expected") as error:
        source.read_faces("s1")
    assert error.value.reason == "bad_shape" and len(error.value.file_names) == 3
    entry = {"source": "eth_xgaze_hdf5", "root": str(tmp_path)}
    with pytest.raises(SourceError, match="'eth_xgaze_hdf5' takes no supplementary file"):
        open_source(entry, supplementary="x.h5")
