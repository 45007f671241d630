"""Directions: relative and absolute, tables, sweeps."""

import numpy as np
import pytest

from regaze.redirect.angles import Request, read_table, sweep

GAZE, HEAD = np.radians([5.0, -10.0]), np.radians([1.0, 2.0])


def degrees(request):
    return [np.degrees(one).round(6).tolist() for one in request.resolve(GAZE, HEAD)]


def test_absolute_relative_and_kept():
    assert degrees(Request((10, -15))) == [[10, -15], [1, 2]]
    assert degrees(Request((10, -15), relative=True)) == [[15, -25], [1, 2]]
    assert degrees(Request(head=(0, 20))) == [[5, -10], [0, 20]]
    assert degrees(Request(head=(0, 20), relative=True)) == [[5, -10], [1, 22]]


@pytest.mark.parametrize("angles", [(91, 0), (0, float("nan")), (0, float("inf")), (0, -100)])
def test_impossible_angles_are_refused(angles):
    with pytest.raises(ValueError, match="expected degrees from -90 to 90"):
        Request(angles)


def test_offsets_must_stay_possible():
    with pytest.raises(ValueError, match="head yaw: expected degrees"):
        Request(head=(0, 89), relative=True).resolve(GAZE, HEAD)


def test_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "file_name,gaze_pitch,gaze_yaw,head_pitch,head_yaw\r\na.jpg,1,-2,,\r\n\r\n"
        "a.jpg, 3.5 ,4,5,6\r\nb/c.jpg,,,0,-7\r\n"
    )
    assert read_table(path) == [
        ("a.jpg", Request((1, -2))),
        ("a.jpg", Request((3.5, 4), (5, 6))),
        ("b/c.jpg", Request(None, (0, -7))),
    ]
    path.write_bytes(b"\xef\xbb\xbfgaze_yaw,file_name,gaze_pitch\n2,x.png,1\n")
    assert read_table(path, True) == [("x.png", Request((1, 2), relative=True))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns"),
        ("file,pitch\n", "expected the columns"),
        ("file_name,gaze_pitch,gaze_yaw\n", "expected lines with angles"),
        ("file_name,gaze_pitch,gaze_yaw\na.jpg,1\n", "line 2: expected 3 cells, found 2"),
        ("file_name,gaze_pitch,gaze_yaw\na.jpg,up,1\n", "line 2: gaze_pitch: expected degrees"),
        ("file_name,gaze_pitch,gaze_yaw\na.jpg,1,\n", "line 2: gaze_yaw: expected degrees"),
        ("file_name,gaze_pitch,gaze_yaw\na.jpg,1,200\n", "line 2: gaze yaw: expected degrees"),
        ("file_name,gaze_pitch,gaze_yaw\n,1,2\n", "line 2: file_name"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"t.csv: .*{message}|t.csv: {message}"):
        read_table(path)


def test_a_table_of_another_encoding(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"file_name,gaze_pitch\xff")
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_table(tmp_path / "t.csv")


def test_sweeps_are_closed_paths():
    around = np.array([one.gaze for one in sweep("ellipse", 8, (10, 20), (1, 2))])
    assert np.allclose(around[0], (1, 22)) and np.allclose(around[2], (11, 2))
    assert np.allclose(((around - (1, 2)) / (10, 20)) ** 2 @ [1, 1], 1)
    through = np.array([one.gaze for one in sweep("line", 8, (10, 20))])
    assert np.allclose(through[0], (-10, -20)) and np.allclose(through[4], (10, 20))
    assert np.allclose(through[1], through[-1])
    for bad in (("circle", 8), ("line", 1), ("line", 8, (100, 0))):
        with pytest.raises(ValueError, match="expected"):
            sweep(*bad)
