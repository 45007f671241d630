"""HDF5 files that others hold, and rows of chunks that are inflated once."""

import errno
import subprocess
import sys

import h5py
import numpy as np
import pytest
from captures.files import being_written

from regaze import faces, hdf5
from regaze.faces import FacesReader
from regaze.hdf5 import InUse, hdf5_file, open_dataset, read_rows
from regaze.inspection import InspectError, inspect_file
from regaze.masks import MasksReader
from regaze.normalise.linked import link_shard
from regaze.normalise.stage import make_faces
from regaze.samples import Samples
from regaze.sources import open_source
from regaze.sources.mpiifacegaze import read_camera
from regaze.tracing.claims import claims

SIZE = 8


@pytest.fixture
def released(tmp_path):
    """Two persons of 40 pictures, 16 to a chunk."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for person in ("p1", "p2"):
            pixels = rng.integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
            chunks = (16, SIZE, SIZE // 2, 3)
            file.create_dataset(f"{person}/pixels", data=pixels, chunks=chunks, compression="gzip")
            file[f"{person}/labels"] = rng.uniform(-1, 1, (40, 8)).astype(np.float32)
    return tmp_path / "a.h5"


def faces_of(path):
    return open_source({"source": "faces_hdf5", "root": str(path), "variant": "sted"})


OPENED = {
    "faces": FacesReader,
    "masks": lambda path: MasksReader(path, FacesReader([])),
    "samples": Samples,
    "a data set": faces_of,
    "labels of photos": lambda path: open_source(
        {"source": "gazecapture", "root": str(path.parent), "supplementary": str(path)}
    ),
    "poses": lambda path: make_faces(
        {"source": "folder", "root": str(path.parent / "photos")},
        path.parent / "out.h5",
        path.parent / "out.parquet",
        shard=0,
        shards=1,
        poses=path,
    ),
    "a calibration": read_camera,
}


@pytest.mark.parametrize("what", OPENED)
def test_a_file_that_is_being_written_is_in_use_and_not_damaged(released, what):
    (released.parent / "photos/anna").mkdir(parents=True)
    with being_written(released), pytest.raises(InUse) as caught:
        OPENED[what](released)
    words = str(caught.value)
    assert words.startswith(f"{released}: in use, another process has it open for writing")
    assert "HDF5_USE_FILE_LOCKING" in words and "delete" not in words


def test_commands_say_so_too(released):
    with being_written(released):
        with pytest.raises(InspectError, match="a.h5: in use, another process"):
            inspect_file(released)
        samples = released.rename(released.parent / "samples.h5")
        record = {"outputs": ["samples.h5"], "inputs": {}}
        (claim,) = claims(released.parent, record)
    assert claim.fault and claim.text.startswith(f"{samples}: in use")


def test_nobody_is_lost_because_a_file_is_being_written(tmp_path, released):
    folder = tmp_path / "set"
    folder.mkdir()
    for person in ("subject0000", "subject0001"):
        with h5py.File(folder / f"{person}.h5", "w") as file:
            file["face_patch"] = np.zeros((2, 224, 224, 3), np.uint8)
            file["face_gaze"] = file["face_head_pose"] = np.zeros((2, 2))
    source = open_source({"source": "eth_xgaze_hdf5", "root": str(folder)})
    out = (tmp_path / "s.h5", tmp_path / "r.parquet")
    with being_written(folder / "subject0001.h5"), pytest.raises(InUse, match="subject0001.h5"):
        link_shard(source, source.persons, *out)
    assert not any(path.exists() for path in out)
    assert link_shard(source, source.persons, *out).rows_out == 4


def test_the_mark_of_a_writer_that_was_killed(tmp_path):
    path = tmp_path / "a.h5"
    lines = "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f.flush()"
    subprocess.run([sys.executable, "-c", f"{lines}; os._exit(0)", path], check=True)
    with pytest.raises(InUse, match=r"a.h5: in use, it is marked as open for writing.*h5clear -s"):
        hdf5_file(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EAGAIN, "in use, another process"),
        (errno.ENOLCK, "in use or on a file system without locks .*No locks available"),
        (errno.ENOSYS, "in use or on a file system without locks"),
    ],
)
def test_file_systems_without_locks(monkeypatch, number, words):
    def refuse(path, *_, **__):
        raise OSError(number, f"Unable to open file (unable to lock file, errno = {number})")

    monkeypatch.setattr(hdf5.h5py, "File", refuse)
    with pytest.raises(InUse, match=words):
        hdf5_file("a.h5")


def test_other_errors_pass(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"no")
    for name in ("a.h5", "none.h5"):
        with pytest.raises(OSError) as caught:
            hdf5_file(tmp_path / name)
        assert not isinstance(caught.value, InUse)


@pytest.fixture
def reads(monkeypatch):
    """How often a dataset is read from."""
    counted = []
    plain = h5py.Dataset.__getitem__

    def counting(self, *args, **kwargs):
        counted.append(args)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    return counted


@pytest.mark.parametrize("rows", [[], [5], [5, 5], range(40), [39, 0, 17, 1, 38, 17], [3, 4, 5, 0]])
@pytest.mark.parametrize("chunks", [(16, 3), (1, 3), (7, 2), None])
def test_rows_come_in_the_order_asked_for(tmp_path, rows, chunks, reads):
    values = np.arange(120).reshape(40, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", data=values, chunks=chunks)
        rows = np.array(rows, int)
        np.testing.assert_array_equal(read_rows(data, rows), values[rows])
    if chunks and chunks[0] > 1:
        assert len(reads) == len(set((rows // chunks[0]).tolist()))


def test_each_chunk_of_a_foreign_file_is_inflated_once(released, reads, monkeypatch):
    with h5py.File(released) as file:
        pixels = {person: file[person]["pixels"][:] for person in file}
    reader = FacesReader(released)
    reads.clear()
    rows = np.random.default_rng(1).permutation(80)
    everything = np.concatenate([pixels["p1"], pixels["p2"]])
    np.testing.assert_array_equal(reader.pixels(rows), everything[rows])
    assert len(reads) == 6
    # Rows that are asked for one by one find their chunks inflated.
    data, size = open_dataset(h5py.File(released, "r", rdcc_nbytes=0)["p1"], "pixels")
    assert size == 16 * SIZE * SIZE * 3
    assert data.id.get_access_plist().get_chunk_cache()[1] == size
    # Never more of them than so much memory holds.
    monkeypatch.setattr(faces, "_CACHED_BYTES", size)
    reader = FacesReader(released)
    for row in (0, 79, 1, 78):
        np.testing.assert_array_equal(reader.pixels([row])[0], everything[row])
        assert len(reader._cached) == 1


def test_files_beyond_a_number_are_closed_and_opened_again(released, monkeypatch):
    paths = [released]
    for name in ("b", "c"):
        paths.append(released.parent / f"{name}.h5")
        with h5py.File(released) as old, h5py.File(paths[-1], "w") as new:
            old.copy("p1", new, name=f"{name}1")
    monkeypatch.setattr(faces, "_MOST_OPEN", 2)
    reader = FacesReader(paths)
    whole = reader.pixels(np.arange(len(reader)))
    for row in (0, 159, 41, 100, 1):
        np.testing.assert_array_equal(reader.pixels([row])[0], whole[row])
        assert len(reader._files) <= 2


@pytest.mark.parametrize("copy", [False, True])
def test_checks_and_copies_inflate_each_chunk_once(released, tmp_path, reads, copy):
    source = faces_of(released)
    reads.clear()
    out = (tmp_path / "s.h5", tmp_path / "r.parquet")
    link_shard(source, ["p1"], *out, copy=copy, check_pixels="all")
    pictures = [one for one in reads if isinstance(one[0], slice | int)]
    # Three chunks, once to be checked, once to be copied; and a reading of the labels.
    assert len(pictures) <= (6 if copy else 3) + 1
    np.testing.assert_array_equal(
        FacesReader(out[0]).pixels(np.arange(40)), FacesReader(released).pixels(np.arange(40))
    )
