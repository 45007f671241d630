"""The chain from a figure of the tiny run back to what was rendered."""

import json
import shutil
import subprocess

import h5py
from running import ROOT, snakemake
from typer.testing import CliRunner

from regaze.cli import app
from regaze.tracing.chain import trace


def test_every_step_from_the_report_to_the_capture_is_as_recorded(finished):
    chain = trace(finished / "results/report/index.html")
    assert chain.faults == []
    text = "\n".join(chain.lines)
    rules = ("write_report", "measure_model", "sample_model", "train_model", "train_estimator")
    rules += ("train_deca", "encode_shard", "fix_pairs", "normalise_shard", "render_capture")
    assert all(f"| {rule}" in text for rule in rules)
    # Every file of the run that is not a training's state has its record.
    made = {path for path in (finished / "results").rglob("*") if path.is_file()}
    apart = ("state", "provenance", "capture")
    known = set()
    for path in (finished / "results/provenance").rglob("*.json"):
        known |= set(json.loads(path.read_text())["outputs"])
    left = [path.relative_to(finished) for path in made if not set(apart) & set(path.parts)]
    assert [path for path in left if path.as_posix() not in known] == []


def test_models_samples_metrics_and_report_carry_their_record(finished):
    folder = finished / "results/provenance"
    revision = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    for name in (
        "train_model/xunet.json",
        "sample_model/synthetic/xunet.json",
        "measure_model/synthetic/xunet.json",
        "write_report.json",
    ):
        record = json.loads((folder / name).read_text())
        assert record["params"] and record["config"] and record["code"]
        assert record["machine"]["cpu"] and record["versions"]["torch"]
        assert len(record["revision"].removesuffix("-dirty")) == len(revision or "unknown")
        assert all(about["fingerprint"] for about in record["inputs"].values())


def test_other_files_are_noticed_where_they_are_used(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    target = again / "results/evaluation/xunet/synthetic/metrics.json"
    with h5py.File(again / "results/synthetic/faces/shard-000.h5", "r+") as file:
        person = next(iter(file))
        file[person]["pixels"][0, 0, 0] = 255 - file[person]["pixels"][0, 0, 0]
    (again / "results/models/xunet/model.safetensors").unlink()
    done = CliRunner().invoke(app, ["provenance", str(target)])
    assert done.exit_code == 1
    assert "wrong: results/synthetic/faces/shard-000.h5: changed since it was made" in done.output
    assert "wrong: results/models/xunet/model.safetensors: missing" in done.output
    # Other results are none the wiser where they do not come from these.
    assert trace(again / "results/face3d/head.npz").faults == []


def test_a_record_that_is_lost_runs_nothing_again(finished, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(finished, again)
    shutil.rmtree(again / "results/provenance/train_model")
    assert "Nothing to be done" in snakemake(again, "-n").output
    chain = trace(again / "results/evaluation/xunet/synthetic/metrics.json")
    lost = "results/models/xunet/model.safetensors: no record of what made it"
    assert any(fault.startswith(lost) for fault in chain.faults)
