"""CSV tables of photos: read by person, and what each fault says."""

import numpy as np
import pytest

from regaze.sources import SourceError
from regaze.sources.tables import LANDMARKS, Table

LAYOUTS = [("x", "y"), ("pitch",)]


def write(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_lines_are_read_by_person_in_the_order_of_the_layout(tmp_path):
    text = (
        '\ufefffile_name, y ,x\r\np1/a.jpg,1,2\r\n"p2/b, c.jpg",3,4\r\n\r\np1/d.jpg,,-1e3\r\n*,5,6'
    )
    table = Table(write(tmp_path, text), LAYOUTS)
    assert table.columns == ("x", "y") and table.persons == ["p1", "p2"]
    rows = table.read("p1")
    assert list(rows) == ["*", "p1/a.jpg", "p1/d.jpg"]
    np.testing.assert_array_equal(rows["p1/a.jpg"], [2, 1])
    np.testing.assert_array_equal(rows["p1/d.jpg"], [-1000, np.nan])
    np.testing.assert_array_equal(table.read("p2")["p2/b, c.jpg"], [4, 3])
    assert list(table.read("p3")) == ["*"]


def test_the_name_may_be_any_column(tmp_path):
    table = Table(write(tmp_path, "pitch,file_name\n3,p1/a.jpg\n"), LAYOUTS)
    np.testing.assert_array_equal(table.read("p1")["p1/a.jpg"], [3])


def test_every_line_may_be_one_persons(tmp_path):
    table = Table(write(tmp_path, "file_name,pitch\na.jpg,3\nb/c.jpg,4\n"), LAYOUTS, "anna")
    assert sorted(table.read("anna")) == ["a.jpg", "b/c.jpg"] and table.persons == ["anna"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "line 1: expected a header"),
        ("\n", "line 1: expected a header"),
        ("file_name,x\n", "line 1: expected the columns file_name, x, y or file_name, pitch"),
        ("file_name,x,y,z\n", "found file_name, x, y, z"),
        ("file_name,x,x\n", "line 1: expected the columns"),
        (b"file_name,x,\xff\n", "line 1: expected UTF-8"),
        ("file_name,pitch\np1/a.jpg\n", "line 2: expected 2 fields, found 1"),
        ("file_name,pitch\np1/a.jpg,1,2\n", "line 2: expected 2 fields, found 3"),
        ("file_name,pitch\np1/a.jpg,1\n\np1/b.jpg,ten\n", "line 4: pitch: .* a number.*'ten'"),
        ("file_name,pitch\np1/a.jpg,1\np1/a.jpg,2\n", "line 3: file_name: .* in line 2 too"),
        (b"file_name,pitch\np1/\xff.jpg,1\n", "line 2: expected UTF-8"),
        ('file_name,pitch\n"p1/a.jpg,1\n', "line 2: expected a line of CSV"),
        (
            b"file_name,pitch\n" + b"x" * 3_000_000,
            "line 2: expected a line of CSV, found 1048577 bytes",
        ),
        (b"x" * 3_000_000, "line 1: expected a line of CSV"),
    ],
)
def test_a_fault_names_file_line_and_column(tmp_path, text, words):
    with pytest.raises(SourceError, match=rf"table.csv: (.*){words}"):
        Table(write(tmp_path, text), LAYOUTS).read("p1")


@pytest.mark.parametrize(
    "line, words",
    [
        ("0,1", "x: expected a number above 0, found '0'"),
        ("nan,1", "x: expected a number above 0"),
        (",1", "x: expected a number above 0, found ''"),
        ("1,inf", "y: expected a finite number, found 'inf'"),
    ],
)
def test_numbers_of_a_camera_are_checked(tmp_path, line, words):
    path = write(tmp_path, f"file_name,x,y\np1/a.jpg,{line}\n")
    with pytest.raises(SourceError, match=f"line 2: {words}"):
        Table(path, LAYOUTS, positive=("x",)).read("p1")


def test_a_missing_table_and_a_folder(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(SourceError, match=str(path)):
            Table(path, LAYOUTS)


def test_landmarks_are_named_by_point(tmp_path):
    assert LANDMARKS[:3] == ("x0", "y0", "x1") and LANDMARKS[-1] == "y67"
    header = ",".join(["file_name", *LANDMARKS[:-1], "y68"])
    with pytest.raises(SourceError, match=r"x0, y0, x1, \.\.\., x67, y67, found .*x67, y68"):
        Table(write(tmp_path, header), [LANDMARKS])
