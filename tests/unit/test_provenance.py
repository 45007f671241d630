"""Fingerprints: of sources, files and values."""

import shutil

import pytest

from regaze import provenance


def test_code_version_follows_the_sources_it_names_and_no_others(tmp_path, monkeypatch):
    copy = tmp_path / "regaze"
    shutil.copytree(provenance._SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "_SOURCE", copy)
    before = provenance.code_version("diffusion"), provenance.code_version("metrics", "angles.py")
    (copy / "diffusion" / "noise.py").write_text("# changed\n")
    after = provenance.code_version("diffusion"), provenance.code_version("metrics", "angles.py")
    assert before[0] != after[0] and before[1] == after[1]
    (copy / "metrics" / "__pycache__").mkdir()
    (copy / "metrics" / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert provenance.code_version("metrics", "angles.py") == after[1]
    with pytest.raises(FileNotFoundError, match="no sources below"):
        provenance.code_version("nothing")


def test_hashes_do_not_depend_on_order_of_keys_or_place_of_files(tmp_path):
    assert provenance.content_hash({"a": 1, "b": 2}) == provenance.content_hash({"b": 2, "a": 1})
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
    assert provenance.fingerprint(tmp_path / "one") == provenance.fingerprint(tmp_path / "two")


def test_revision_is_unknown_outside_git(tmp_path):
    assert provenance.git_revision(tmp_path) == "unknown"
