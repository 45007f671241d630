"""The stage finds a run's files where the workflow lays them."""

import pandas as pd
import pytest
from PIL import Image

from regaze.report import stage


def test_stage_writes_page_table_and_pictures(finished, tmp_path):
    names = ["xunet", "copy", "truth"]
    out = tmp_path / "report"
    root = tmp_path
    for name in names:
        folder = root / "evaluation" / name
        folder.mkdir(parents=True)
        (folder / "test").symlink_to(finished.root / "evaluation" / name)
    (root / "models").symlink_to(finished.root / "models")
    stage.report_results(
        out / "index.html",
        out / "comparison.csv",
        rows=names,
        evaluator="resnet",
        settings={
            "seed": 3,
            "dataset": "test",
            "models": {"xunet": {"class": "xunet", "data": {"labelled": "mine"}}},
        },
        estimators=[finished.root / "models" / "xunet" / "model.json"],
        datasets=[
            stage.DatasetInputs(
                name="test",
                faces=[finished.root / "shard-000.h5"],
                pairs=finished.root / "pairs.parquet",
                rejected=finished.root / "rejected.parquet",
            )
        ],
        pictures=out / "pictures",
    )
    text = (out / "index.html").read_text(encoding="utf-8")
    assert stage.TRAINS in text and "seed: 3" in text and "Training loss of xunet" in text
    # It learnt from another data set than the others.
    assert "xunet (trained on mine)" in text
    assert (out / "comparison.csv").read_text().startswith("dataset,model,title,role,kind")
    assert sorted(path.name for path in (out / "pictures").iterdir()) == [
        "grid-gaze_and_head.png",
        "grid-gaze_only.png",
        "grid-head_only.png",
        "sweep-xunet.gif",
    ]


def test_files_are_sorted_by_data_set(finished, abroad, tmp_path):
    for name in ("xunet", "copy", "truth"):
        folder = tmp_path / "evaluation" / name
        folder.mkdir(parents=True)
        (folder / "test").symlink_to(finished.root / "evaluation" / name)
        (folder / "photos").symlink_to(finished.root / "abroad" / name)
    home = tmp_path / "test" / "faces"
    home.mkdir(parents=True)
    (home / "shard-000.h5").symlink_to(finished.root / "shard-000.h5")
    photos = finished.root / "photos"
    datasets = stage.dataset_inputs(
        ["test", "photos"],
        faces=[photos / "faces" / "shard-000.h5", home / "shard-000.h5"],
        pairs=[finished.root / "pairs.parquet", photos / "pairs.parquet"],
        rejected=[finished.root / "rejected.parquet"] * 2,
        sheets=[finished.root / "sheet.png"] * 2,
    )
    stage.report_results(
        tmp_path / "report" / "index.html",
        tmp_path / "report" / "comparison.csv",
        rows=["xunet", "copy", "truth"],
        datasets=datasets,
        evaluator="resnet",
        settings={},
        estimators=[],
        pictures=tmp_path / "pictures",
    )
    table = pd.read_csv(tmp_path / "report" / "comparison.csv")
    assert list(table["dataset"].unique()) == ["test", "photos"]
    assert (tmp_path / "pictures" / "photos" / "grid-gaze_and_head.png").exists()


def test_sweeps_of_several_methods_are_shown_together_too(finished, tmp_path):
    models = [entry for entry in finished.models if entry.name in ("xunet", "lite", "copy")]
    pairs = finished.pairs[finished.pairs["kind"] == "sweep"]
    stage.write_pictures(tmp_path, models, finished.reader, pairs)
    heights = {path.name: Image.open(path).height for path in tmp_path.iterdir()}
    assert heights == {
        "sweep-xunet.gif": 2 * 130 - 2,
        "sweep-lite.gif": 2 * 130 - 2,
        "sweep-all.gif": 3 * 130 - 2,
    }


def test_a_report_of_no_data_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="datasets: expected at least the one trained on"):
        stage.report_results(
            tmp_path / "report" / "index.html",
            tmp_path / "report" / "comparison.csv",
            rows=["xunet"],
            datasets=[],
            evaluator="resnet",
            settings={},
            estimators=[],
        )


def test_files_of_no_data_set_are_refused(tmp_path):
    faces = ["results/a/faces/shard-000.h5", "results/b/faces/shard-000.h5"]
    one = {"pairs": ["p"], "rejected": ["r"]}
    with pytest.raises(ValueError, match="expected faces of a, found 'b'"):
        stage.dataset_inputs(["a"], faces=faces, **one)
    with pytest.raises(ValueError, match="pairs: expected 2 files, one each of a, b, found 1"):
        stage.dataset_inputs(["a", "b"], faces=faces, **one)
    with pytest.raises(ValueError, match="expected shards in b/faces/, found none"):
        stage.dataset_inputs(["a", "b"], faces=faces[:1], pairs=["p", "q"], rejected=["r", "s"])
    found = stage.dataset_inputs(["a"], faces=faces[0], pairs="p", rejected="r")
    assert found[0].contact_sheet is None and found[0].faces == faces[:1]
