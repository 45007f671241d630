"""Fingerprints: of sources, files and values."""

import shutil
import subprocess
from importlib import metadata

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


def test_revision_is_dirty_by_what_decides_results_and_not_by_results(tmp_path):
    def git(*line):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *line], check=True, capture_output=True)

    for name in ("Snakefile", "src/a.py", "results/metrics.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    clean = provenance.git_revision(tmp_path)
    assert len(clean) == 12
    (tmp_path / "results/metrics.json").write_text("2")
    (tmp_path / "notes.txt").write_text("2")
    assert provenance.git_revision(tmp_path) == clean
    (tmp_path / "src/new.py").write_text("2")
    assert provenance.git_revision(tmp_path) == f"{clean}-dirty"


def test_packages_that_are_not_there_are_told(monkeypatch):
    installed = metadata.version

    def version(name):
        if name == "embreex":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(metadata, "version", version)
    found = provenance.versions()
    assert found["embreex"] == "not installed" and found["numpy"] == installed("numpy")
