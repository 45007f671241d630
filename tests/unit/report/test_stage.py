"""A run's files are found where the workflow lays them."""

import pandas as pd
import pytest

from regaze.report import stage
from regaze.report.page import write_report


def test_files_are_sorted_by_data_set(finished, abroad, tmp_path):
    for name in ("xunet", "copy", "truth"):
        folder = tmp_path / "evaluation" / name
        folder.mkdir(parents=True)
        (folder / "test").symlink_to(finished.root / "evaluation" / name)
        (folder / "photos").symlink_to(finished.root / "abroad" / name)
    (tmp_path / "models").symlink_to(finished.root / "models")
    home = tmp_path / "test" / "faces"
    home.mkdir(parents=True)
    (home / "shard-000.h5").symlink_to(finished.root / "shard-000.h5")
    photos = finished.root / "photos"
    settings = {
        "seed": 3,
        "dataset": "test",
        "models": {"xunet": {"class": "xunet", "data": {"labelled": "mine"}}},
    }
    datasets = stage.dataset_entries(
        ["test", "photos"],
        rows=["xunet", "copy", "truth"],
        results=tmp_path,
        settings=settings,
        faces=[photos / "faces" / "shard-000.h5", home / "shard-000.h5"],
        pairs=[finished.root / "pairs.parquet", photos / "pairs.parquet"],
        rejected=[finished.root / "rejected.parquet"] * 2,
        sheets=[finished.root / "sheet.png"] * 2,
    )
    records = [tmp_path / "models" / "xunet" / "model.json", finished.root / "resnet.json"]
    estimators = stage.estimator_entries(records, "xunet")
    assert [(one.purpose, one.curve is None) for one in estimators] == [
        (stage.MEASURES, False),
        (stage.TRAINS, True),
    ]
    out = tmp_path / "report"
    write_report(
        out / "index.html",
        out / "comparison.csv",
        datasets,
        estimators=estimators,
        config=settings,
    )
    text = (out / "index.html").read_text(encoding="utf-8")
    assert stage.TRAINS in text and "seed: 3" in text and "Training loss of xunet" in text
    # It learnt from another data set than the others.
    assert "xunet (trained on mine)" in text
    table = pd.read_csv(out / "comparison.csv")
    assert list(table)[:5] == ["dataset", "model", "title", "role", "kind"]
    assert list(table["dataset"].unique()) == ["test", "photos"]


def test_files_of_no_data_set_are_refused(finished):
    faces = ["results/a/faces/shard-000.h5", "results/b/faces/shard-000.h5"]
    files = {"pairs": ["p"], "rejected": ["r"]}
    run = {"rows": ["xunet"], "results": "results", "settings": {}}
    with pytest.raises(ValueError, match="expected faces of a, found 'b'"):
        stage.dataset_entries(["a"], faces=faces, **files, **run)
    with pytest.raises(ValueError, match="pairs: expected 2 files, one each of a, b, found 1"):
        stage.dataset_entries(["a", "b"], faces=faces, **files, **run)
    two = {"pairs": ["p", "q"], "rejected": ["r", "s"]}
    with pytest.raises(ValueError, match="expected shards in b/faces/, found none"):
        stage.dataset_entries(["a", "b"], faces=faces[:1], **two, **run)
    faces = str(finished.root / "photos" / "faces" / "shard-000.h5")
    (found,) = stage.dataset_entries(["photos"], faces=faces, pairs="p", rejected="r", **run)
    assert found.contact_sheet is None and found.rejected == ["r"]
