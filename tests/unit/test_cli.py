"""The command line: schema and configuration checks."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from regaze.cli import app

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_schema_is_printed_and_compared(tmp_path):
    printed = run("schema")
    assert printed.exit_code == 0
    (tmp_path / "schema.json").write_text(printed.output)
    assert run("schema", "--check", tmp_path / "schema.json").exit_code == 0
    (tmp_path / "schema.json").write_text("{}")
    stale = run("schema", "--check", tmp_path / "schema.json")
    assert stale.exit_code != 0 and "make schema" in stale.output


def test_overlays_are_merged_before_they_are_checked(tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("models: {xunet: {train: {images: 10}}}")
    bad.write_text("models: {xunet: {train: {imges: 10}}}")
    models = len(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["models"])
    assert f"valid: {models} models" in run("validate", ROOT / "config.yaml", good).output
    refused = run("validate", ROOT / "config.yaml", bad)
    assert refused.exit_code != 0 and "models.xunet.train.imges: unknown key" in refused.output
    bad.write_text("- 1")
    assert "expected a mapping, found list" in run("validate", bad).output


def test_inspect_prints_or_fails_in_one_line(tmp_path):
    (tmp_path / "split.json").write_text('{"train": ["a"], "val": [], "test": ["b"]}')
    found = run("inspect", tmp_path / "split.json")
    assert found.exit_code == 0 and "split of a data set" in found.output
    (tmp_path / "half.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    refused = run("inspect", tmp_path / "half.h5")
    assert refused.exit_code == 1 and "half.h5: expected readable HDF5" in refused.output
    assert len(refused.output.strip().splitlines()) == 1
