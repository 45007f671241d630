"""What the workflow notices of raw data sets: other photos, foreign files, persons left out."""

import json
import shutil

import h5py
import pytest
import yaml
from captures import eth_xgaze, gazecapture
from running import planned, snakemake

from regaze.normalise.rejections import read_rejected
from regaze.tracing.chain import trace

WANTED = ("--", "results/phones/pairs.parquet", "results/phones/faces/contact-sheet.png")
NOTHING = "Nothing to be done"


def overlay(folder, name, source, root, **more):
    content = {"datasets": {name: {"source": source, "root": str(root), **more}}}
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(content | {"evaluation": {"datasets": [name]}}))
    return [path]


def overwrite(photo, by):
    photo.write_bytes(by.read_bytes())


def test_exactly_what_is_affected_runs_again(tmp_path):
    root = tmp_path / "phones"
    gazecapture.gazecapture(root)
    files = overlay(tmp_path, "phones", "gazecapture", root)
    done = snakemake(tmp_path, *WANTED, overlays=files)
    assert done.returncode == 0, done.output[-5000:]
    assert NOTHING in snakemake(tmp_path, "-n", *WANTED, overlays=files).output
    (root / "notes.txt").touch()
    (root / "other").mkdir()
    (root / "00002/frames/notes.txt").touch()
    assert NOTHING in snakemake(tmp_path, "-n", *WANTED, overlays=files).output
    chain = trace(tmp_path / "results/phones/pairs.parquet")
    assert not chain.faults
    assert any("phones: given" in line and "4 files" in line for line in chain.lines)

    photo = root / "00517/frames/00001.jpg"
    overwrite(photo, root / "00517/frames/00002.jpg")
    again = snakemake(tmp_path, "-n", *WANTED, overlays=files)
    # The shard of 00517, and what is made of all shards.
    shard, whole = ("normalise_shard", "encode_shard"), ("gather_faces", "write_split", "fix_pairs")
    jobs = {name: 1 for name in (*shard, *whole)}
    assert planned(again) == jobs and "dataset=phones, shard=001" in again.output
    assert "another version was read" in str(trace(tmp_path / "results/phones/faces").faults)

    # Where the photos are gone, what was made of them counts.
    assert snakemake(tmp_path, *WANTED, overlays=files).returncode == 0
    root.rename(tmp_path / "away")
    assert NOTHING in snakemake(tmp_path, "-n", *WANTED[:2], overlays=files).output


def test_gazecapture_in_part_is_dealt_and_named(tmp_path):
    root = tmp_path / "phones"
    gazecapture.gazecapture(root)
    split = {"train": ["00002"], "val": ["01203"], "test": ["00999"]}
    (root / "split.json").write_text(json.dumps(split))
    # One has no labels, and one is not unpacked, of whom nobody asks.
    with h5py.File(root / "GazeCapture_supplementary.h5", "r+") as file:
        del file["01203"]
    shutil.rmtree(root / "00517")
    (root / "00517.tar.gz").touch()
    files = overlay(tmp_path, "phones", "gazecapture", root)
    # Nobody is left to be evaluated on, who would be missed otherwise.
    wanted = ("--config", "evaluation={split: train}", "--", "results/phones/split.json")
    done = snakemake(tmp_path, *wanted, overlays=files)
    assert done.returncode == 0, done.output[-5000:]
    for line in (
        "phones: 1 of 4 persons are left out, not in the split: 00517",
        "phones: 1 of 4 persons are left out, with photos but without labels: 01203",
        "phones: 1 of 4 persons are left out, in the split but not in the data set: 00999",
    ):
        assert done.output.count(line) == 1
    _, counts = read_rejected(tmp_path / "results/phones/faces/rejected.parquet")
    assert (counts.rows_in, counts.rows_out, counts.persons) == (4, 4, 1)
    assert len(counts.left_out) == 3
    made = json.loads((tmp_path / "results/phones/split.json").read_text())
    assert (made["train"], made["val"], made["test"]) == (["00002"], [], [])
    # Without a split nobody says that the archive is of no matter.
    (root / "split.json").unlink()
    refused = snakemake(tmp_path, "-n", *wanted, overlays=files)
    assert refused.returncode and "found 1 archives that are not unpacked" in refused.output


def test_archives_come_before_weights(tmp_path):
    root = tmp_path / "phones"
    root.mkdir()
    for number in range(4):
        (root / f"0000{number}.tar.gz").touch()
    files = overlay(tmp_path, "phones", "gazecapture", root)
    done = snakemake(tmp_path, "-n", "--", "results/phones/split.json", overlays=files)
    assert done.returncode and "Traceback" not in done.output
    assert "datasets.phones: " in done.output and "unpack them first" in done.output
    assert "2DFAN4" not in done.output


@pytest.mark.parametrize("limit", [None, 0.6])
def test_a_lost_person_is_counted_and_in_no_list(tmp_path, limit):
    root = tmp_path / "xgaze"
    eth_xgaze.eth_xgaze_hdf5(root)
    path = root / "train/subject0004.h5"
    with open(path, "r+b") as file:
        file.truncate(int(path.stat().st_size * 0.9))
    files = overlay(tmp_path, "xgaze", "eth_xgaze_hdf5", root, split={"test": 0.5})
    options = ["--config", "evaluation={split: train}"]
    options += [] if limit is None else [f"faces={{max_rejected: {limit}}}"]
    wanted = ("--", "results/xgaze/split.json")
    done = snakemake(tmp_path, *options, *wanted, overlays=files)
    if limit is None:
        assert done.returncode != 0 and "4 of 12 rows were rejected" in done.output
        assert "1 of 2 persons were lost with all of their rows (4 known)" in done.output
        assert not (tmp_path / "results/xgaze/split.json").exists()
        return
    assert done.returncode == 0, done.output[-5000:]
    made = json.loads((tmp_path / "results/xgaze/split.json").read_text())
    assert sum(made.values(), []).count("subject0000") and "subject0004" not in str(made)
