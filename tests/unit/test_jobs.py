"""Atomic writing and stable JSON."""

import json
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from regaze.jobs import _check_dates, _record
from regaze.outputs import replacing, rounded, write_json


def test_failure_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "capture"
    path.mkdir()
    (path / "stale").touch()
    with replacing(path) as part:
        part.mkdir()
        (part / "fresh").touch()
    assert [p.name for p in path.iterdir()] == ["fresh"]


def test_leftover_of_a_killed_job_does_not_matter(tmp_path):
    (tmp_path / ".out.txt.part").write_text("half")
    with replacing(tmp_path / "out.txt") as part:
        assert not part.exists()
        part.write_text("whole")
    assert (tmp_path / "out.txt").read_text() == "whole"
    (tmp_path / ".out.txt.part").mkdir()
    (tmp_path / ".out.txt.part" / "half").touch()
    with replacing(tmp_path / "out.txt") as part:
        part.write_text("a file again")
    assert (tmp_path / "out.txt").read_text() == "a file again"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_json_is_sorted_rounded_and_finite(tmp_path):
    write_json(tmp_path / "m.json", {"b": np.float32(1 / 3), "a": [1.23456789e-7, 3, None]})
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text) == {"a": [1.23457e-07, 3, None], "b": 0.333333}
    assert text.index('"a"') < text.index('"b"')
    with pytest.raises(ValueError, match="nan"):
        rounded({"x": float("nan")})


def test_a_failed_write_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "out.txt"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out.txt") and list(tmp_path.iterdir()) == []


def test_inputs_from_the_future_are_refused(tmp_path):
    late = tmp_path / "faces.h5"
    late.touch()
    for inputs in ([late], {"faces": [str(late)]}):
        _check_dates(inputs)
        os.utime(late, (time.time() + 3600,) * 2)
        with pytest.raises(RuntimeError, match=r"faces.h5: dated in the future"):
            _check_dates(inputs)
        os.utime(late)


def test_a_record_that_cannot_be_written_is_no_failure(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").touch()
    # A file where the folder of records would be.
    (tmp_path / "results").touch()
    job = SimpleNamespace(rule="r", wildcards={}, input=[], output=["out"], params={}, threads=1)
    _record(job)
    assert "no record of this job: " in caplog.text and "results" in caplog.text
