"""What is really in an HDF5 file that others wrote."""

import h5py
import numpy as np
import pytest

from regaze.sources.hdf5 import (
    has,
    last_stored,
    member,
    names_in,
    numbers,
    opened,
    rows_dataset,
    stored_rows,
)
from regaze.sources.records import SourceError


@pytest.fixture
def file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        yield file


def test_stored_rows_of_every_layout(file):
    values = np.arange(70.0).reshape(7, 2, 5)
    file["plain"] = values
    file.create_dataset("rows", data=values, chunks=(1, 2, 5), compression="gzip")
    file.create_dataset("pieces", (7, 2, 5), float, chunks=(3, 2, 2))
    file["pieces"][:4] = values[:4]
    file.create_dataset("gaps", (7, 2, 5), float, chunks=(1, 2, 5))
    file["gaps"][2] = 1
    file["gaps"][5] = 1
    file.create_dataset("nothing", (7, 2), float)
    tiny = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    tiny.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((7,))
    h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_DOUBLE, space, tiny)
    file.flush()
    found = {name: stored_rows(file[name]).tolist() for name in file}
    whole = [True] * 7
    assert found["plain"] == found["rows"] == found["compact"] == whole
    assert found["pieces"] == [True] * 6 + [False], "a chunk of three rows is written as one"
    assert found["gaps"] == [False, False, True, False, False, True, False]
    assert found["nothing"] == [False] * 7
    assert [last_stored(file[name]) for name in ("plain", "gaps", "nothing")] == [7, 6, 0]
    read = numbers("a", file, "gaps", ((2, 5),), 6)
    assert np.isnan(read[[0, 1, 3, 4]]).all() and (read[[2, 5]] == 1).all()


def test_a_piece_that_is_missing_makes_the_row_missing(file):
    data = file.create_dataset("pieces", (4, 6), float, chunks=(2, 3))
    data[:, :3] = 1
    data[2:, 3:] = 1
    file.flush()
    assert stored_rows(data).tolist() == [False, False, True, True]


def test_links_are_not_followed(file):
    file["real"] = np.zeros(3)
    file["soft"] = h5py.SoftLink("/real")
    file["outside"] = h5py.ExternalLink("other.h5", "x")
    assert has(file, "outside") and not has(file, "none") and member("a", file, "none") is None
    for name, words in (("soft", "a link to '/real'"), ("outside", "a link to 'other.h5'")):
        with pytest.raises(SourceError, match=words):
            rows_dataset("a", file, name, 0)
    file.create_dataset("far", (3,), float, external=[("raw.bin", 0, 24)])
    with pytest.raises(SourceError, match="far: expected data in the file itself"):
        rows_dataset("a", file, "far", 0)


def test_names_and_forms(file, tmp_path):
    file[b"p\xff"] = np.zeros(3)
    with pytest.raises(SourceError, match=r"UTF-8 names of persons, found 'p\\xff'"):
        names_in("a", file)
    file["text"] = np.array([b"x"])
    for name, ndim in (("text", 0), ("none", 0)):
        with pytest.raises(SourceError, match=f"a: {name}: expected"):
            rows_dataset("a", file, name, ndim)
    with pytest.raises(SourceError, match=r"expected shape \(4,\) or \(4, 2\), found \(3,\)"):
        file["three"] = np.zeros(3)
        numbers("a", file, "three", ((), (2,)), 4)
    with pytest.raises(SourceError, match="b.h5: no such file"), opened(tmp_path / "b.h5"):
        pass
    with (
        pytest.raises(SourceError, match="expected readable HDF5, found damage"),
        opened(tmp_path / "a.h5"),
    ):
        raise OSError("a broken chunk")
