"""Files that others wrote are read whole, or not at all."""

import os

import pytest

from regaze.sources.regular import link_out, read_regular


def test_a_file_of_at_most_so_many_bytes_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_regular(path, most=5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, more than 4: .*a.json"):
        read_regular(path, most=4)


def test_a_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file: .*pipe"):
        read_regular(tmp_path / "pipe")


def test_links_may_end_below_the_root_or_in_dvcs_cache(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "elsewhere" / "a.jpg"
    (root / "anna").mkdir(parents=True)
    for path in (outside, root / "anna/1.jpg"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    (tmp_path / "name").symlink_to(root)
    md5 = "0b3bbde4d5f3a8e5a9a3aab2bf2d2ac7"
    ends = {
        "within": "../anna/1.jpg",
        "by another name of the root": tmp_path / "name" / "anna" / "1.jpg",
        "nowhere": "gone.jpg",
        "round": "round",
        "cache": f"/store/files/md5/{md5[:2]}/{md5[2:]}",
        "old cache": tmp_path / ".dvc/cache" / md5[:2] / md5[2:],
    }
    out = {
        "out": outside,
        "up": "../../elsewhere/a.jpg",
        "beside": tmp_path / "root2.jpg",
        "device": "/dev/zero",
        "short sum": f"/store/files/md5/{md5[:2]}/{md5[2:-1]}",
        "sum alone": f"/store/{md5}",
    }
    for name, end in (ends | out).items():
        (root / "anna" / name).symlink_to(end)
    for home in (root, tmp_path / "name"):
        assert not any(link_out(home / "anna" / name, home) for name in ends)
        assert all(link_out(home / "anna" / name, home) for name in out)
    assert link_out(root / "anna/1.jpg", root) == link_out(root / "none.jpg", root) == ""
    # folders on the way may be links: large data sets lie on several disks
    (root / "bert").symlink_to(outside.parent)
    assert link_out(root / "bert/a.jpg", root) == ""
