"""The worked example of docs/adding-a-data-set.md is a working source."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from captures.checks import assert_faces, faces_of, in_order
from captures.files import write_photo
from captures.studio import Cast, photograph
from captures.truth import turn

import regaze.settings
import regaze.sources
from regaze.normalise.rejections import read_rejected
from regaze.normalise.stage import make_faces
from regaze.settings import ConfigurationError, load_settings
from regaze.sources import SourceError, open_source

ROOT = Path(__file__).parents[3]


@pytest.fixture
def kiosk(tmp_path, monkeypatch):
    """The page's module, found as if it lay beside the other sources."""
    text = (ROOT / "docs/adding-a-data-set.md").read_text()
    folder = tmp_path / "modules"
    folder.mkdir()
    for name, code in re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL):
        (folder / name).write_text(code)
    monkeypatch.setattr(regaze.sources, "__path__", [*regaze.sources.__path__, str(folder)])
    kinds = (*regaze.sources.KINDS, "kiosk")
    monkeypatch.setattr(regaze.sources, "KINDS", kinds)
    monkeypatch.setattr(regaze.settings, "SOURCE_KINDS", kinds)
    yield "kiosk"
    sys.modules.pop("regaze.sources.kiosk", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Root of a small data set in the example's layout, and its shots by person and name."""
    root, truth = tmp_path_factory.mktemp("kiosk"), {}
    lens = (400.0, 402.0, 158.0, 121.0)
    for person, look in (("anna", 3), ("bert", 22)):
        photos = []
        for number, (head, target) in enumerate(
            [((5, -8, 4), (120, 60, 30)), ((-6, 10, -3), (-100, 140, -20))]
        ):
            name = f"{person}/{number}.jpg"
            shot = photograph(
                Cast(look), (320, 240), lens, np.zeros(5), turn(*head), (8, -6, 560), target
            )
            write_photo(root / name, shot.pixels)
            truth[person, name] = shot
            pose = shot.head_pose().tolist()
            photos.append({"file": name, "head": pose, "target": list(map(float, target))})
        content = {"camera": lens, "photos": photos}
        (root / f"{person}.json").write_text(json.dumps(content))
    return root, truth


def test_example_is_configured_and_normalised_like_any_data_set(kiosk, data, tmp_path):
    root, truth = data
    entry = {"source": kiosk, "root": str(root), "split": {"test": 1.0}}
    resnet = {"arch": "resnet", "persons": "train-evaluator"}
    settings = load_settings(
        {
            "datasets": {"synthetic": {"source": "synthetic"}, "kiosk": entry},
            "estimators": {"resnet": resnet},
            "models": {},
        }
    )
    entry = settings.datasets["kiosk"].model_dump()
    reader = faces_of(open_source(entry), tmp_path / "faces")
    assert_faces(reader, in_order(reader, truth))
    counts = make_faces(entry, tmp_path / "a.h5", tmp_path / "a.parquet", shard=1, shards=2)
    assert (counts.rows_in, counts.rows_out) == (2, 2)
    assert json.loads(regaze.settings.json_schema())["$defs"]


def test_example_refuses_what_it_does_not_know(kiosk):
    with pytest.raises(ConfigurationError, match="datasets.kiosk.inches: unknown key"):
        load_settings(
            {
                "datasets": {"kiosk": {"source": kiosk, "root": "x", "inches": True}},
                "dataset": "kiosk",
                "estimators": {"resnet": {"arch": "resnet", "persons": "train-evaluator"}},
                "models": {},
            }
        )


def test_example_loses_nothing(kiosk, data, tmp_path):
    root, _ = data
    content = json.loads((root / "anna.json").read_text())
    entry = {"source": kiosk, "root": str(tmp_path)}
    with pytest.raises(SourceError, match="found none"):
        open_source(entry)
    content["photos"][0]["target"][1] = None
    (tmp_path / "anna.json").write_text(json.dumps(content))
    del content["photos"][1]["head"]
    (tmp_path / "bert.json").write_text(json.dumps(content))
    (tmp_path / "carla.json").write_text("{")
    (tmp_path / "anna").symlink_to(root / "anna")
    rejected = tmp_path / "out/rejected.parquet"
    counts = make_faces(entry, tmp_path / "out/faces.h5", rejected, shard=0, shards=1)
    table, _ = read_rejected(rejected)
    reasons = [(row["person"], row["source_index"], row["reason"]) for row in table.to_pylist()]
    assert reasons == [
        ("anna", 0, "non_finite_label"),
        ("bert", 0, "missing_key"),
        ("bert", 1, "missing_key"),
        ("carla", -1, "bad_source"),
    ]
    assert (counts.rows_in, counts.rows_out) == (5, 1)
    with pytest.raises(SourceError) as error:
        open_source(entry).read("dora")
    assert error.value.reason == "missing_person"
