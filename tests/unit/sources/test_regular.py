"""Files that others wrote are read whole, or not at all."""

import os

import pytest

from regaze.sources.regular import read_regular


def test_a_file_of_at_most_so_many_bytes_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_regular(path, most=5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes: .*a.json"):
        read_regular(path, most=4)


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file: .*pipe"):
        read_regular(tmp_path / "pipe")
