"""Supplementary HDF5 files: every accepted form, and what each fault says."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.sources import SourceError
from regaze.sources.hdf5 import MAX_ROWS
from regaze.sources.supplementary import Supplemented

ROWS = 3


def columns(rows=ROWS, coefficients=5):
    return {
        "file_name": np.array([f"p1/frames/{i:05d}.jpg".encode() for i in range(rows)]),
        "camera_parameters": np.tile([900.0, 900.0, 320.0, 240.0], (rows, 1)),
        "distortion_parameters": np.zeros((rows, coefficients)),
        "head_pose": np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 500.0], (rows, 1)),
        "3d_gaze_target": np.zeros((rows, 3)),
    }


def write(path, persons):
    with h5py.File(path, "w") as file:
        for person, data in persons.items():
            file.create_group(person)
            for key, values in data.items():
                file.create_dataset(f"{person}/{key}", data=values)
    return path


@pytest.fixture
def labels(tmp_path):
    return write(tmp_path / "labels.h5", {"p1": columns(), "p2": columns()})


def read(path, person="p1", **options):
    return Supplemented(path.parent, "gazecapture", path, **options).read(person)


@pytest.mark.parametrize("coefficients", [4, 5, 8, 12, 14])
@pytest.mark.parametrize("text", [False, True])
def test_every_accepted_form_is_read(tmp_path, coefficients, text):
    data = columns(coefficients=coefficients)
    data["camera_parameters"] = data["camera_parameters"].astype(">f4")
    data["head_pose"] = data["head_pose"].astype(np.int32)
    if text:
        names = [name.decode() for name in data["file_name"]]
        data["file_name"] = np.array(names, dtype=h5py.string_dtype())
    write(tmp_path / "labels.h5", {"p2": data, "p1": data})
    source = Supplemented(tmp_path, "gazecapture", tmp_path / "labels.h5")
    assert source.persons == ["p1", "p2"] and source.kind == "gazecapture"
    records = source.read("p1")
    assert len(records) == ROWS and records.distortion.shape == (ROWS, coefficients)
    assert records.camera_parameters.dtype == records.head_pose.dtype == np.float64
    assert records.root / records.file_name[1] == tmp_path / "p1/frames/00001.jpg"
    assert (records.person, records.landmarks) == ("p1", None)
    assert (records.gaze_known, records.status, records.face_model) == (True, None, "sfm14")


def test_upstreams_chunks_and_compression_are_read(tmp_path):
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        for key, values in columns().items():
            chunks = (1, *values.shape[1:])
            file.create_dataset(f"p1/{key}", data=values, chunks=chunks, compression="lzf")
    assert len(read(tmp_path / "labels.h5")) == ROWS


def test_several_files_share_nobody(tmp_path, labels):
    other = write(tmp_path / "other.h5", {"p0": columns(2)})
    source = Supplemented(tmp_path, "folder", [labels, other])
    assert source.persons == ["p0", "p1", "p2"]
    assert (len(source.read("p0")), len(source.read("p2"))) == (2, 3)
    twice = write(tmp_path / "twice.h5", {"p2": columns()})
    with pytest.raises(SourceError, match="twice.h5.*p2.*labels.h5"):
        Supplemented(tmp_path, "folder", [labels, twice])


def test_landmarks_and_status_of_the_pose_step(tmp_path):
    data = columns()
    marks = np.random.default_rng(0).random((ROWS, 68, 2)).astype(np.float32)
    status = np.array([b"", b"no_face", b""])
    path = write(tmp_path / "labels.h5", {"p1": data | {"landmarks": marks, "status": status}})
    records = read(path)
    np.testing.assert_array_equal(records.landmarks, marks)
    assert records.status == ("", "no_face", "")
    # its own landmarks come before those of a parameters file, which serve everybody else
    other = np.zeros((ROWS, 68, 2))
    extra = write(tmp_path / "parameters.h5", {"p1": {"landmarks": other}})
    np.testing.assert_array_equal(read(path, parameters=extra).landmarks, marks)
    path = write(tmp_path / "labels.h5", {"p1": data, "p2": data})
    np.testing.assert_array_equal(read(path, parameters=extra).landmarks, other)
    assert read(path, "p2", parameters=extra).landmarks is None
    write(tmp_path / "parameters.h5", {"p1": {"landmarks": other[:, :5]}})
    with pytest.raises(SourceError, match=r"parameters.h5: person p1: landmarks: .*\(68, 2\)"):
        read(path, parameters=extra)
    with pytest.raises(SourceError, match="nowhere.h5"):
        read(path, parameters=tmp_path / "nowhere.h5")


@pytest.mark.parametrize("place", ["/", "p1"])
@pytest.mark.parametrize("stored", [True, False])
def test_absent_gaze_is_told_by_an_attribute(tmp_path, place, stored):
    data = columns() | {"3d_gaze_target": np.full((ROWS, 3), np.nan)}
    if not stored:
        del data["3d_gaze_target"]
    path = write(tmp_path / "labels.h5", {"p1": data})
    with h5py.File(path, "a") as file:
        file[place].attrs["gaze"] = "absent"
    assert Supplemented(tmp_path, "folder", path).gaze_known == (place != "/")
    assert not Supplemented(tmp_path, "folder", path, gaze_known=False).gaze_known
    records = read(path)
    assert not records.gaze_known
    assert records.gaze_target.shape == (ROWS, 3) and np.isnan(records.gaze_target).all()


def test_absent_gaze_with_numbers_is_a_contradiction(labels):
    with h5py.File(labels, "a") as file:
        file.attrs["gaze"] = "absent"
    with pytest.raises(SourceError, match="3d_gaze_target: expected NaN throughout"):
        read(labels)


@pytest.mark.parametrize(
    "change, reason, words",
    [
        ({"head_pose": None}, "missing_key", ["head_pose"]),
        ({"3d_gaze_target": None}, "missing_key", ["3d_gaze_target"]),
        ({"file_name": None}, "missing_key", ["file_name"]),
        ({"head_pose": np.zeros((ROWS, 5))}, "bad_shape", ["head_pose", "6", "(5,)"]),
        ({"head_pose": np.zeros(ROWS)}, "bad_shape", ["head_pose", "6", "()"]),
        ({"head_pose": 3.0}, "bad_shape", ["head_pose", "expected rows"]),
        ({"head_pose": h5py.Empty("f8")}, "bad_shape", ["head_pose", "None"]),
        ({"3d_gaze_target": np.zeros((2, 3))}, "bad_shape", ["3d_gaze_target", "3 rows"]),
        ({"distortion_parameters": np.zeros((ROWS, 6))}, "bad_shape", ["4 or 5 or 8", "(6,)"]),
        ({"camera_parameters": np.full((ROWS, 4), b"x")}, "bad_shape", ["numbers", "S1"]),
        ({"camera_parameters": np.zeros((ROWS, 4), complex)}, "bad_shape", ["complex128"]),
        ({"camera_parameters": np.zeros((ROWS, 4), bool)}, "bad_shape", ["bool"]),
        ({"landmarks": np.zeros((ROWS, 67, 2))}, "bad_shape", ["landmarks", "(67, 2)"]),
        ({"status": np.zeros(ROWS)}, "bad_shape", ["status", "strings"]),
        ({"status": np.array([b"\xff", b"b", b"c"])}, "bad_shape", ["status", "UTF-8"]),
        ({"file_name": np.zeros(ROWS)}, "bad_shape", ["file_name", "strings"]),
        ({"file_name": np.zeros((ROWS, 2), "S3")}, "bad_shape", ["file_name", "(3, 2)"]),
    ],
)
def test_a_fault_names_file_person_and_dataset(tmp_path, change, reason, words):
    data = {key: values for key, values in (columns() | change).items() if values is not None}
    path = write(tmp_path / "labels.h5", {"p1": data, "p2": columns()})
    with pytest.raises(SourceError) as error:
        read(path)
    assert error.value.reason == reason
    for word in ["labels.h5", "p1", *words]:
        assert word in str(error.value)
    # every row of the person is known, so that none is lost in the table of rejected rows
    assert len(error.value.file_names) == ROWS
    assert all(name.isprintable() for name in error.value.file_names)
    assert len(read(path, "p2")) == ROWS


@pytest.mark.parametrize("key", ["head_pose", "file_name"])
@pytest.mark.parametrize("dtype", [h5py.ref_dtype, h5py.vlen_dtype(np.float64)])
def test_lists_and_references_are_no_numbers(tmp_path, key, dtype):
    path = write(tmp_path / "labels.h5", {"p1": columns()})
    with h5py.File(path, "a") as file:
        del file[f"p1/{key}"]
        file.create_dataset(f"p1/{key}", (ROWS,), dtype)
    with pytest.raises(SourceError, match=f"{key}: expected .* found type object") as error:
        read(path)
    assert error.value.reason == "bad_shape"


def test_links_are_not_followed(tmp_path, labels):
    path = tmp_path / "links.h5"
    for link in (
        h5py.SoftLink("/nowhere"),
        h5py.SoftLink("/good/head_pose"),
        h5py.ExternalLink("labels.h5", "p1/head_pose"),
        h5py.ExternalLink("gone.h5", "p1/head_pose"),
    ):
        write(path, {"p1": columns(), "good": columns()})
        with h5py.File(path, "a") as file:
            del file["p1/head_pose"]
            file["p1/head_pose"] = link
        with pytest.raises(SourceError, match="p1: head_pose: expected data in the file itself"):
            read(path)
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("labels.h5", "p2")
        file["dangling"] = h5py.SoftLink("/nowhere")
    for person in ("elsewhere", "dangling"):
        with pytest.raises(SourceError, match="expected data in the file itself, found a link"):
            read(path, person)


def test_data_of_other_files_are_refused(tmp_path, labels):
    path = write(tmp_path / "virtual.h5", {"p1": columns()})
    layout = h5py.VirtualLayout((ROWS, 6), np.float64)
    layout[:] = h5py.VirtualSource(str(labels), "p1/head_pose", (ROWS, 6))
    with h5py.File(path, "a") as file:
        del file["p1/head_pose"]
        file.create_virtual_dataset("p1/head_pose", layout)
    with pytest.raises(SourceError, match="head_pose: .* found data of another file"):
        read(path)
    (tmp_path / "raw.bin").write_bytes(bytes(ROWS * 48))
    with h5py.File(path, "a") as file:
        del file["p1/head_pose"]
        outside = [(str(tmp_path / "raw.bin"), 0, ROWS * 48)]
        file.create_dataset("p1/head_pose", (ROWS, 6), np.float64, external=outside)
    with pytest.raises(SourceError, match="head_pose: .* found data of another file"):
        read(path)


def test_a_person_that_is_no_group(tmp_path, labels):
    with h5py.File(labels, "a") as file:
        file["p3"] = np.zeros(3)
        file["p4"] = np.dtype("f8")
    for person in ("p3", "p4", "p9", "p1/head_pose", ".."):
        with pytest.raises(SourceError, match="expected a group, found") as error:
            read(labels, person)
        assert error.value.reason == "missing_person"


@pytest.mark.parametrize("chunks", [None, (1000, 4)])
@pytest.mark.parametrize("rows", [1_000_000_000, MAX_ROWS, ROWS])
def test_claimed_shapes_without_data_are_refused(tmp_path, chunks, rows):
    path = tmp_path / "labels.h5"
    with h5py.File(path, "w") as file:
        for key, values in columns().items():
            shape = (rows, *values.shape[1:])
            own = None if chunks is None else (chunks[0], *values.shape[1:])
            if own is not None and rows < own[0]:
                own = (1, *own[1:])
            file.create_dataset(f"p1/{key}", shape, values.dtype, chunks=own)
    with pytest.raises(SourceError, match="file_name: expected") as error:
        read(path)
    assert error.value.reason == "bad_shape"


def test_a_chunk_that_does_not_fit_into_memory_is_refused(tmp_path):
    path = write(tmp_path / "labels.h5", {"p1": columns()})
    with h5py.File(path, "a") as file:
        del file["p1/head_pose"]
        options = {"chunks": (50_000_000, 6), "maxshape": (None, 6), "compression": "gzip"}
        file.create_dataset("p1/head_pose", (ROWS, 6), "f8", **options)
    with pytest.raises(SourceError, match="head_pose: expected chunks"):
        read(path)


def test_unusable_files(tmp_path):
    root = tmp_path
    with pytest.raises(SourceError, match="none.h5: no such file"):
        Supplemented(root, "folder", root / "none.h5")
    (root / "text.h5").write_text("text")
    (root / "empty.h5").touch()
    for name in ("text.h5", "empty.h5"):
        with pytest.raises(SourceError, match=f"{name}: expected an HDF5 file"):
            Supplemented(root, "folder", root / name)
    with pytest.raises(SourceError, match="bare.h5: expected a group per person"):
        Supplemented(root, "folder", write(root / "bare.h5", {}))
    with pytest.raises(SourceError, match="expected a group per person"):
        Supplemented(root, "folder", [])
    with h5py.File(root / "latin.h5", "w") as file:
        file.create_group(b"p\xe9")
    with pytest.raises(SourceError, match=r"UTF-8 names of persons, found 'p\\xe9'"):
        Supplemented(root, "folder", root / "latin.h5")


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0, 1), seed=st.integers(0, 99), cut=st.booleans())
def test_damage_is_an_error_or_harmless(tmp_path_factory, share, seed, cut):
    root = tmp_path_factory.mktemp("damage")
    content = bytearray(write(root / "good.h5", {"p1": columns(), "p2": columns()}).read_bytes())
    place = int(share * (len(content) - 1))
    if cut:
        content = content[:place]
    else:
        noise = np.random.default_rng(seed).integers(0, 256, 16, np.uint8).tobytes()
        content[place : place + 16] = noise
    (root / "bad.h5").write_bytes(content)
    try:
        source = Supplemented(root, "folder", root / "bad.h5")
    except SourceError as error:
        assert "bad.h5" in str(error)
        return
    assert not cut or place == len(content)
    for person in source.persons:
        try:
            assert len(source.read(person).head_pose) == ROWS
        except SourceError as error:
            assert "bad.h5" in str(error)
