"""Records of jobs, and the chain from a result to raw files that is read from them."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
import torch
from typer.testing import CliRunner

from regaze import jobs
from regaze.cli import app
from regaze.provenance import fingerprint
from regaze.provenance.record import describe, machine, record_path, write_record
from regaze.tracing.chain import ProvenanceError, trace

MODEL = "results/models/m"
SAMPLES = "results/evaluation/m/d/samples.h5"
METRICS = "results/evaluation/m/d/metrics.json"


def job(rule, inputs, outputs, **params):
    write_record(rule, {}, inputs=inputs, outputs=outputs, params=params, threads=1)


def train(weights="weights"):
    Path(MODEL).mkdir(parents=True, exist_ok=True)
    Path(MODEL, "model.safetensors").write_text(weights)
    told = {"fingerprint": fingerprint(f"{MODEL}/model.safetensors")}
    Path(MODEL, "model.json").write_text(json.dumps(told))
    outputs = [f"{MODEL}/model.safetensors", f"{MODEL}/model.json"]
    job("train", ["results/faces.h5"], outputs, config={"lr": 0.1}, code="abc", state="s")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A chain of photos, faces, model, samples and metrics, with its records."""
    monkeypatch.chdir(tmp_path)
    Path("photos/p1").mkdir(parents=True)
    Path("photos/p1/a.jpg").write_text("picture")
    for path in (SAMPLES, METRICS):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path("results/faces.h5").write_text("faces")
    job("normalise", ["photos"], ["results/faces.h5"], code=["x", "y"])
    train()
    with h5py.File(SAMPLES, "w") as file:
        file.attrs["fingerprint"] = fingerprint(f"{MODEL}/model.safetensors")
    job("sample", [f"{MODEL}/model.safetensors", "results/faces.h5"], [SAMPLES])
    Path(METRICS).write_text("{}")
    job("measure", [SAMPLES, "results/faces.h5"], [METRICS])
    return tmp_path


def test_a_result_is_followed_to_raw_files(made):
    chain = trace(METRICS)
    assert chain.faults == []
    text = "\n".join(chain.lines)
    order = [
        METRICS,
        "| measure:",
        SAMPLES,
        "| sample:",
        "| normalise:",
        "photos: given",
        "| train:",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "1 files, 0.0 MB, by content" in text and "code x+y" in text
    # What was told already is told shortly.
    assert text.count("| normalise:") == 1 and "results/faces.h5: ok" in text
    assert "(see above)" in text
    # A folder is all that was made in it; from elsewhere the answer is the same.
    assert trace(MODEL).lines[1].startswith(f"{MODEL}/model.safetensors: ok")
    os.chdir("/")
    assert trace(made / METRICS).lines == chain.lines


def test_a_record_says_what_the_job_was(made):
    record = json.loads(Path("results/provenance/train.json").read_text())
    assert record["params"] == {"config": {"lr": 0.1}} and record["code"] == "abc"
    assert set(record["versions"]) > {"regaze", "torch", "numpy", "python"}
    assert record["revision"] and record["threads"] == 1
    assert record["machine"]["cores"] == os.cpu_count() and record["machine"]["cpu"]
    assert set(machine()) == {"cpu", "cores", "memory_gb", "gpus", "system"}
    assert os.uname().nodename not in json.dumps(record["machine"])
    before = Path("results/provenance/train.json").read_bytes()
    train()
    assert Path("results/provenance/train.json").read_bytes() == before


def change(path):
    def tamper():
        with open(path, "ab") as stream:
            stream.write(b" ")

    return tamper


def cut(path):
    def tamper():
        os.truncate(path, os.path.getsize(path) - 1)

    return tamper


def rename_model():
    Path(MODEL, "model.json").write_text('{"fingerprint": "0123456789abcdef"}')
    outputs = [f"{MODEL}/model.safetensors", f"{MODEL}/model.json"]
    job("train", ["results/faces.h5"], outputs)


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (change(METRICS), f"{METRICS}: changed since it was made: was "),
        (cut(METRICS), f"{METRICS}: changed since it was made: was "),
        (cut(SAMPLES), f"{SAMPLES}: changed since it was made: was "),
        (change("results/faces.h5"), "results/faces.h5: changed since it was made: was "),
        (change("photos/p1/a.jpg"), "photos: another version was read: "),
        (Path("results/faces.h5").unlink, "results/faces.h5: missing"),
        (lambda: train("other"), f"{MODEL}/model.safetensors: another version was read: "),
        (lambda: train("other"), f"{SAMPLES}: names model "),
        (rename_model, f"{MODEL}/model.json: names weights 0123456789abcdef; {MODEL}/model"),
        (
            Path("results/provenance/normalise.json").unlink,
            "results/faces.h5: no record of what made it, is ",
        ),
    ],
)
def test_what_is_not_as_it_was_is_named(made, tamper, told):
    tamper()
    assert any(fault.startswith(told) for fault in trace(METRICS).faults), trace(METRICS).faults
    done = CliRunner().invoke(app, ["provenance", METRICS])
    assert done.exit_code == 1 and f"wrong: {told}" in done.output


def test_a_whole_chain_ends_well(made):
    done = CliRunner().invoke(app, ["provenance", METRICS, MODEL])
    assert done.exit_code == 0 and "wrong" not in done.output


@pytest.mark.parametrize("content", ["{", "[]", '{"rule": "x"}'])
def test_a_broken_record_is_named(made, content):
    Path("results/provenance/sample.json").write_text(content)
    with pytest.raises(ProvenanceError, match=r"sample\.json: expected the record of a job"):
        trace(METRICS)


def test_what_has_no_record_is_refused(made, tmp_path_factory):
    with pytest.raises(ProvenanceError, match="none of the 4 records below .* is of it"):
        trace("results/unknown.txt")
    with pytest.raises(ProvenanceError, match="expected a folder results/provenance beside it"):
        trace(tmp_path_factory.mktemp("other") / "file")


def test_large_folders_are_told_by_names_and_sizes(tmp_path):
    (tmp_path / "a").write_text("one")
    small = describe(tmp_path)
    assert small | {"fingerprint": 0} == {"fingerprint": 0, "files": 1, "bytes": 3, "by": "content"}
    large = describe(tmp_path, limit=2)
    (tmp_path / "a").write_text("two")
    assert describe(tmp_path) != small and describe(tmp_path, limit=2) == large
    assert large["by"] == "names and sizes"
    assert describe(tmp_path / "nothing") == {"fingerprint": None}


def test_failed_jobs_and_other_processes_leave_no_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert write_record("r", {}, inputs=[], outputs=["none"], params={}, threads=1) is None
    assert not Path("results").exists()
    registered = []
    monkeypatch.setattr(jobs.atexit, "register", lambda function, job: registered.append(job))
    monkeypatch.setattr(jobs, "_RECORDED", set())
    first = SimpleNamespace(rule="r")
    jobs.recorded(SimpleNamespace())
    monkeypatch.setenv("RANK", "1")
    jobs.recorded(first)
    assert registered == []
    monkeypatch.setenv("RANK", "0")
    jobs.recorded(first)
    jobs.recorded(first)
    assert registered == [first]


def test_records_stay_in_their_folder():
    assert record_path("r", {"a": "x", "b": "y"}) == Path("results/provenance/r/x/y.json")
    for bad in ("..", "a/b", ""):
        with pytest.raises(ValueError, match="expected names without slashes"):
            record_path("r", {"a": bad})


def test_of_many_files_that_are_well_the_first_and_the_last_are_named(made):
    names = [f"results/many/{number}" for number in range(6)]
    Path("results/many").mkdir()
    for name in names:
        Path(name).write_text(name)
    job("many", [], names)
    lines = trace("results/many").lines
    assert [line.split(": ok")[0] for line in lines[:3]] == [
        names[0],
        "... 4 more, all well",
        names[5],
    ]
    assert lines[3].startswith("| many: ")
    Path(names[2]).unlink()
    chain = trace("results/many")
    assert f"{names[2]}: !! missing" in chain.lines and "... 3 more, all well" in chain.lines


def test_a_machine_is_told_by_its_cards_and_without_what_it_does_not_say(monkeypatch):
    card = SimpleNamespace(name="Card", total_memory=79.6 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    assert machine()["gpus"] == [{"name": "Card", "memory_gb": 80}] * 2

    def unknown(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "sysconf", unknown)
    found = machine()
    assert found["memory_gb"] is None and found["cpu"]
