"""Unusable inputs are refused with file, field and finding."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest

from regaze.report import citations, inputs


def test_roles_order_and_slots(finished):
    found = inputs.read_results(finished.models)
    assert [one.role for one in found] == ["floor", "method", "method", "method", "ceiling"]
    assert [one.slot for one in found] == [-1, 0, 1, 2, -1]


def test_absent_files_are_left_out_of_folders(tmp_path):
    entry = inputs.ModelEntry.from_folders("xunet", tmp_path)
    assert entry.per_pair is None and entry.metrics == tmp_path / "metrics.json"
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        inputs.read_results([entry])


def test_a_name_twice_is_refused(finished):
    with pytest.raises(ValueError, match="'xunet' is listed 2 times"):
        inputs.read_results([finished.models[0], finished.models[0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ("[]", "expected a JSON object, found list"),
        (
            json.dumps({"gaze_and_head": {"psnr": {"value": None}}}),
            r"gaze_and_head\.psnr: expected 'mean'",
        ),
        (
            '{"gaze_and_head": {"psnr": {"mean": NaN}}}',
            r"gaze_and_head\.psnr\.mean: expected a number, found nan",
        ),
        (json.dumps({"gaze_and_head": 3}), "gaze_and_head: expected an object"),
    ],
)
def test_bad_metrics(tmp_path, content, message):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        inputs.read_metrics(path)


def test_both_forms_of_null_are_read(tmp_path):
    path = tmp_path / "metrics.json"
    null = {"a": {"value": None, "reason": "x"}, "b": {"mean": None, "reason": "y"}, "pairs": 3}
    path.write_text(json.dumps({"kinds": {"gaze_and_head": null}}))
    found = inputs.read_metrics(path)["gaze_and_head"]
    assert {name: value["reason"] for name, value in found.items()} == {"a": "x", "b": "y"}


def test_bad_tables(tmp_path):
    pd.DataFrame({"pair": [1], "kind": ["gaze_and_head"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="column 'person' is missing"):
        inputs.read_per_pair(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="expected a table of rejected rows"):
        inputs.read_rejected([tmp_path / "a.parquet"])
    (tmp_path / "curve.csv").write_text("step,images\n1,2\n")
    with pytest.raises(ValueError, match="column 'loss' is missing"):
        inputs.read_curve(tmp_path / "curve.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"pixels": np.zeros((2, 4, 4), np.uint8), "pair": np.arange(2)},
            r"pixels: expected \(2,H,W,3\) uint8, found \(2, 4, 4\)",
        ),
        ({"pixels": np.zeros((2, 4, 4, 3), np.uint8)}, "expected a data set 'pair'"),
        (
            {"pixels": np.zeros((2, 4, 4, 3), np.uint8), "pair": np.arange(3)},
            r"pixels: expected \(3,H,W,3\) uint8, found \(2, 4, 4, 3\)",
        ),
    ],
)
def test_bad_samples(tmp_path, content, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in content.items():
            file[name] = values
    with pytest.raises(ValueError, match=rf"a\.h5: {message}"):
        inputs.Samples(tmp_path / "a.h5")


def test_every_cited_key_is_a_work():
    keys = set(citations.ALWAYS)
    for _, used in citations._METHODS + citations._DATA:
        keys |= set(used)
    assert keys <= set(citations.WORKS)
    assert citations.works_of_model("mine", "regression") == ("unet",)
    assert citations.works_of_model("xunet_deca_v2")[0] == "cho"
    assert citations.works_of_model("mine", "own") == ()
    assert citations.works_of_dataset("ETH-XGaze") == ("xgaze",)
