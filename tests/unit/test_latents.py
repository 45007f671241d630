"""Latents: bytes that repeat, rows joined to faces, everything that does not belong is refused."""

import pickle
import resource
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regaze.codes.latents import (
    CODES,
    IDENTITY,
    ROWS_PER_GROUP,
    LatentsError,
    LatentsReader,
    LatentsWriter,
)
from regaze.faces import FacesAttributes, FacesReader, FacesWriter

ENCODER = {"encoder": "deca", "checkpoint_sha256": "a" * 64, "head_sha256": "b" * 64}


def codes_of(seed, count):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=(count, w)).astype(np.float32) for n, w in CODES.items()}


def write(path, persons, identity=ENCODER, index=None):
    """Rows of persons; every third row is not detected."""
    with LatentsWriter(path, identity) as writer:
        for person, count in persons.items():
            rows = np.arange(count) if index is None else np.asarray(index)
            writer.add([person] * count, rows, codes_of(int(person), count), rows % 3 != 2)
    return path


def write_faces(path, persons, **columns):
    with FacesWriter(path, FacesAttributes("sted", (4, 4), 1.0, 1.0, "none", "folder")) as writer:
        for person, count in persons.items():
            writer.add_person(
                person,
                np.zeros((count, 4, 4, 3), np.uint8),
                np.zeros((count, 8)),
                file_name=[f"{person}/{row}.jpg" for row in range(count)],
                **columns,
            )
    return path


def expected_codes(person, count, name):
    values = codes_of(int(person), count)[name]
    values[np.arange(count) % 3 == 2] = 0
    return values


def test_rows_join_to_faces_lazily_whatever_the_shards(tmp_path):
    people = {"00001": 3, "00002": ROWS_PER_GROUP + 5, "00007": 2}
    faces = FacesReader(write_faces(tmp_path / "faces.h5", people))
    one = LatentsReader(write(tmp_path / "one.parquet", people), faces, expect=ENCODER)
    parts = [
        write(tmp_path / "a.parquet", {"00002": ROWS_PER_GROUP + 5}),
        write(tmp_path / "b.parquet", {"00001": 3, "00007": 2}),
    ]
    two = LatentsReader(parts, faces, columns=["pose", "detail"])
    assert len(one) == len(two) == len(faces)
    rows = np.random.default_rng(0).permutation(len(faces))[:50]
    for name in ("pose", "detail"):
        wanted = np.concatenate([expected_codes(p, n, name) for p, n in people.items()])
        np.testing.assert_array_equal(one.read(rows)[name], wanted[rows])
        np.testing.assert_array_equal(two.read(rows)[name], wanted[rows])
    np.testing.assert_array_equal(one.detected, [faces.row_of[r] % 3 != 2 for r in range(len(one))])
    assert one.row("00002", 4) == faces.global_index("00002", 4)
    assert list(two.read([0])) == ["pose", "detail"]
    with pytest.raises(KeyError, match="no row 3 of person '00001'"):
        one.row("00001", 3)
    copy = pickle.loads(pickle.dumps(one))
    np.testing.assert_array_equal(copy.read([5])["shape"], one.read([5])["shape"])


def test_the_same_rows_give_the_same_bytes_in_any_pieces(tmp_path):
    count = 2 * ROWS_PER_GROUP + 3
    codes, detected = codes_of(1, count), np.ones(count, bool)
    for name, step in (("a", count), ("b", 7), ("c", 300)):
        with LatentsWriter(tmp_path / name, ENCODER) as writer:
            for start in range(0, count, step):
                part = slice(start, start + step)
                few = {n: v[part] for n, v in codes.items()}
                rows = np.arange(count)[part]
                writer.add(["00001"] * len(rows), rows, few, detected[part])
    first = (tmp_path / "a").read_bytes()
    assert first == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    file = pq.ParquetFile(tmp_path / "a")
    assert [file.metadata.row_group(g).num_rows for g in range(3)] == [256, 256, 3]
    field = file.schema_arrow.field("shape").type
    assert pa.types.is_fixed_size_list(field) and field.list_size == 100


def test_a_failed_writer_leaves_nothing(tmp_path):
    codes = codes_of(1, 2)
    codes["pose"][1, 3] = np.nan
    with (
        pytest.raises(LatentsError, match="pose: person 00001 row 1: expected finite"),
        LatentsWriter(tmp_path / "x.parquet", ENCODER) as writer,
    ):
        writer.add(["00001"] * 2, np.arange(2), codes, np.ones(2, bool))
    assert not list(tmp_path.iterdir())
    codes["pose"] = codes["pose"][:, :5]
    with (
        pytest.raises(LatentsError, match=r"pose: expected \(2, 6\), found \(2, 5\)"),
        LatentsWriter(tmp_path / "x.parquet", ENCODER) as writer,
    ):
        writer.add(["00001"] * 2, np.arange(2), codes, np.ones(2, bool))
    with pytest.raises(LatentsError, match="lacks head_sha256"):
        LatentsWriter(tmp_path / "x.parquet", {k: ENCODER[k] for k in IDENTITY[:2]})
    assert not list(tmp_path.iterdir())


@contextmanager
def files_of_at_most(size):
    """The system refuses larger files, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("written", ["nothing", "some rows", "all but the end"])
def test_a_full_disk_leaves_nothing(tmp_path, written):
    path = write(tmp_path / "x.parquet", {"00001": 9})
    size = {"nothing": 0, "some rows": 999, "all but the end": path.stat().st_size - 1}[written]
    path.unlink()
    with files_of_at_most(size), pytest.raises(OSError, match="File too large") as caught:
        write(path, {"00001": 9})
    assert caught.value.filename == str(path) and not list(tmp_path.iterdir())


def test_a_missing_code_is_named(tmp_path):
    codes = codes_of(1, 2)
    del codes["pose"]
    with (
        pytest.raises(LatentsError, match="x.parquet: codes lack pose"),
        LatentsWriter(tmp_path / "x.parquet", ENCODER) as writer,
    ):
        writer.add(["00001"] * 2, np.arange(2), codes, np.ones(2, bool))
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_has_to_exist(tmp_path):
    with pytest.raises(LatentsError, match="latents: expected at least one file, found none"):
        LatentsReader([])
    path = write(tmp_path / "one.parquet", {"00001": 2})
    with pytest.raises(LatentsError, match="columns: expected some of shape, .* found 'exp'"):
        LatentsReader(path, columns=["pose", "exp"])


def test_an_empty_shard_is_no_error(tmp_path):
    path = write(tmp_path / "none.parquet", {})
    faces = FacesReader(write_faces(tmp_path / "faces.h5", {}))
    reader = LatentsReader(path, faces)
    assert len(reader) == 0 and reader.read([])["pose"].shape == (0, 6)
    assert reader.identity == ENCODER


@pytest.mark.parametrize("name", IDENTITY)
def test_another_encoder_than_expected_is_refused(tmp_path, name):
    path = write(tmp_path / "one.parquet", {"00001": 2}, {**ENCODER, name: "other"})
    with pytest.raises(LatentsError, match=f"{name}: expected {ENCODER[name]}, found other"):
        LatentsReader(path, expect=ENCODER)
    with pytest.raises(LatentsError, match="expected the encoder of"):
        LatentsReader([write(tmp_path / "two.parquet", {"00002": 1}), path])


def test_other_rows_than_those_of_the_faces_are_refused(tmp_path):
    faces = FacesReader(write_faces(tmp_path / "faces.h5", {"00001": 3, "00002": 1}))
    for people, words in (
        ({"00001": 3}, "person 00002: expected 1 rows .* found 0"),
        ({"00001": 2, "00002": 1}, "person 00001: expected 3 rows .* found 2"),
        ({"00001": 3, "00002": 1, "00003": 1}, "person 00003: expected 0 rows .* found 1"),
    ):
        with pytest.raises(LatentsError, match=words):
            LatentsReader(write(tmp_path / "one.parquet", people), faces)


@pytest.mark.parametrize("index", [[0, 2, 3], [0, 1, 1], [1, 0, 2]])
def test_gaps_repeats_and_disorder_are_refused(tmp_path, index):
    path = write(tmp_path / "one.parquet", {"00001": 3}, index=index)
    with pytest.raises(LatentsError, match="person 00001: expected rows 0, 1, 2"):
        LatentsReader(path)
    twice = [write(tmp_path / f"{i}.parquet", {"00002": 1}) for i in range(2)]
    with pytest.raises(LatentsError, match="person 00002 is already in"):
        LatentsReader(twice)


def rewrite(path, change):
    table = change(pq.read_table(path))
    pq.write_table(table, path)
    return path


def test_damage_is_named(tmp_path):
    path = write(tmp_path / "one.parquet", {"00001": 2})
    full = path.read_bytes()
    path.write_bytes(full[: len(full) // 2])
    with pytest.raises(LatentsError, match="one.parquet: expected a parquet file of latents"):
        LatentsReader(path)
    with pytest.raises(FileNotFoundError, match="no such latents file"):
        LatentsReader(tmp_path / "two.parquet")
    path.write_bytes(full)
    rewrite(path, lambda t: t.drop_columns(["light"]))
    with pytest.raises(LatentsError, match="column 'light' is missing"):
        LatentsReader(path)
    path.write_bytes(full)
    rewrite(path, lambda t: t.replace_schema_metadata({}))
    with pytest.raises(LatentsError, match="expected metadata encoder"):
        LatentsReader(path)

    def short(table):
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(6, np.float32)), 3)
        at = table.schema.get_field_index("pose")
        return table.set_column(at, "pose", column)

    path.write_bytes(full)
    rewrite(path, short)
    with pytest.raises(LatentsError, match=r"column 'pose': expected fixed_size_list.*\[6\]"):
        LatentsReader(path)

    def blank(table):
        values = np.full(12, np.nan, np.float32)
        at = table.schema.get_field_index("pose")
        return table.set_column(at, "pose", pa.FixedSizeListArray.from_arrays(pa.array(values), 6))

    path.write_bytes(full)
    reader = LatentsReader(rewrite(path, blank))
    with pytest.raises(LatentsError, match="pose: row 0 of the file: expected finite"):
        reader.read([1])


def replaced(name, values, kind):
    def change(table):
        at = table.schema.get_field_index(name)
        return table.set_column(at, name, pa.array(values, kind))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            replaced("detected", [True, None], pa.bool_()),
            "expected person, index, detected in every row, found nulls",
        ),
        (
            lambda t: t.replace_schema_metadata({**t.schema.metadata, b"layout": b"2"}),
            "layout: expected 1, found 2",
        ),
        (
            replaced("pose", [[0.0] * 6, None], pa.list_(pa.float32(), 6)),
            "pose: expected no nulls, found some",
        ),
    ],
)
def test_tables_of_another_make_are_refused(tmp_path, change, words):
    path = rewrite(write(tmp_path / "one.parquet", {"00001": 2}), change)
    with pytest.raises(LatentsError, match=f"one.parquet: {words}"):
        LatentsReader(path).read([0])


def test_rows_that_cannot_be_read_are_named(tmp_path):
    path = write(tmp_path / "one.parquet", {"00001": ROWS_PER_GROUP + 2})
    reader = LatentsReader(path)
    column = pq.read_metadata(path).row_group(1).column(2)
    with open(path, "r+b") as file:
        file.seek(column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)
    assert reader.read([0])["shape"].shape == (1, 100)
    words = f"(?s)one.parquet: rows {ROWS_PER_GROUP} and following cannot be read .*delete it"
    with pytest.raises(OSError, match=words):
        reader.read([ROWS_PER_GROUP])
