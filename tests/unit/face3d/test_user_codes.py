"""Codes of a user's own encoder: tables that are refused, rows that have no face."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regaze.codes.latents import LatentsError, LatentsReader
from regaze.codes.tables import import_codes, read_user_codes, rename_codes
from regaze.faces import FacesAttributes, FacesReader, FacesWriter

ENCODER = {"encoder": "mine", "checkpoint_sha256": "a" * 64, "head_sha256": "b" * 64}


def codes(count):
    rng = np.random.default_rng(0)
    widths = {"shape": 100, "exp": 50, "pose": 6}
    return {name: rng.normal(size=(count, width)) for name, width in widths.items()}


@pytest.fixture
def faces(tmp_path):
    attributes = FacesAttributes("sted", (8, 8), 190.0, 600.0, "none", "folder")
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        writer.add_person("00001", np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 8)))
    return tmp_path / "faces.h5"


def test_codes_that_are_no_numbers_are_named():
    with pytest.raises(LatentsError, match="mine: pose: expected numbers, found <U1"):
        rename_codes({**codes(2), "pose": np.array(["a", "b"])}, "mine")
    with pytest.raises(LatentsError, match="expected 'deca' or 'emoca', found 'flame'"):
        rename_codes(codes(2), expression="flame")


def test_files_that_are_no_tables_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        read_user_codes(tmp_path / "none.npz")
    with pytest.raises(LatentsError, match=r"a\.csv: expected a \.parquet or \.npz file"):
        read_user_codes(tmp_path / "a.csv")
    pq.write_table(pa.table({"exp": [[1.0, 2.0], [1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(LatentsError, match=r"a\.parquet: exp: expected lists of one length"):
        read_user_codes(tmp_path / "a.parquet")


def test_rows_said_to_have_no_face_get_no_codes(tmp_path, faces):
    np.savez(tmp_path / "mine.npz", **codes(3), detected=np.array([True, False, True]))
    assert import_codes(tmp_path / "mine.npz", faces, tmp_path / "out.parquet", ENCODER) == 2
    found = LatentsReader(tmp_path / "out.parquet", FacesReader(faces))
    assert found.detected.tolist() == [True, False, True]
    shape = found.read(np.arange(3))["shape"]
    np.testing.assert_allclose(shape[[0, 2]], codes(3)["shape"][[0, 2]], rtol=1e-6)
    assert not shape[1].any()


@pytest.mark.parametrize(
    "columns, name",
    [
        ({"person": np.array(["00001"] * 2), "index": np.arange(3)}, "person"),
        ({"person": np.array(["00001"] * 3), "index": np.arange(2)}, "index"),
        ({"detected": np.ones(2, bool)}, "detected"),
    ],
)
def test_columns_that_do_not_go_with_the_codes_are_named(tmp_path, faces, columns, name):
    np.savez(tmp_path / "mine.npz", **codes(3), **columns)
    words = rf"mine\.npz: {name}: expected \(3,\), one per row of codes, found \(2,\)"
    with pytest.raises(LatentsError, match=words):
        import_codes(tmp_path / "mine.npz", faces, tmp_path / "out.parquet", ENCODER)
    assert not (tmp_path / "out.parquet").exists()
