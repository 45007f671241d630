"""The stage finds a run's files where the workflow lays them."""

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
        dataset="test",
        evaluator="resnet",
        settings={"seed": 3, "models": {"xunet": {"class": "xunet"}}},
        estimators=[finished.root / "models" / "xunet" / "model.json"],
        faces=[finished.root / "shard-000.h5"],
        pairs=finished.root / "pairs.parquet",
        rejected=finished.root / "rejected.parquet",
        pictures=out / "pictures",
    )
    text = (out / "index.html").read_text(encoding="utf-8")
    assert stage.TRAINS in text and "seed: 3" in text and "Training loss of xunet" in text
    assert (out / "comparison.csv").read_text().startswith("dataset,model,title,role,kind")
    assert sorted(path.name for path in (out / "pictures").iterdir()) == [
        "grid-free.png",
        "grid-gaze_only.png",
        "grid-head_only.png",
        "sweep-xunet.gif",
    ]
