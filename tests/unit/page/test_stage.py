"""Atlases of evaluated persons: which methods have one, what is in it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from browser import CHROMIUM, opened
from page_command import READY

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.page.settings import atlased
from regaze.page.stage import write_atlas
from regaze.pairs import draw_pairs, write_pairs
from regaze.settings import load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two shards of faces of three persons, and pairs."""
    folder = tmp_path_factory.mktemp("people")
    attributes = FacesAttributes("sted", (64, 64), 500.0, 600.0, "ellipsoid", "synthetic")
    draw = np.random.default_rng(0)
    for shard, names in enumerate((["a", "c"], ["b"])):
        with FacesWriter(folder / f"shard-{shard:03d}.h5", attributes) as writer:
            for name in names:
                labels = np.zeros((4, 8), np.float32)
                labels[:, :2] = draw.uniform(-0.2, 0.2, (4, 2))
                coarse = draw.integers(0, 255, (4, 8, 8, 3), np.uint8)
                writer.add_person(name, coarse.repeat(8, 1).repeat(8, 2), labels)
    faces = sorted(folder.glob("*.h5"))
    reader = FacesReader([str(one) for one in faces])
    drawn = draw_pairs(reader, ["b", "a", "c"], {"gaze_only": 9}, seed=0, dataset="synthetic")
    write_pairs(folder / "pairs.parquet", drawn)
    return folder, faces, drawn


def test_the_first_persons_are_drawn_and_measured(people, models, tmp_path):
    folder, faces, drawn = people
    out = tmp_path / "atlas" / "photo.html"
    options = {"batch": 50, "seed": 0}
    write_atlas(
        *(out, models / "photo"),
        faces=faces,
        pairs=folder / "pairs.parquet",
        estimator=models / "judge",
        sampling=options,
        persons=2,
    )
    text = out.read_text(encoding="utf-8")
    told = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    wanted = list(dict.fromkeys(drawn["person"]))[:2]
    assert [one["name"].split("_")[0] for one in told["faces"]] == wanted
    assert all(np.shape(one["measured"]) == (121, 2) for one in told["faces"])
    if CHROMIUM is not None:
        with opened(out.as_uri()) as tab:
            tab.wait(READY)
            assert tab.run('document.querySelectorAll("canvas").length') == 2
            assert tab.errors == []


def test_methods_that_take_a_picture_and_its_angles_have_atlases():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    assert config["evaluation"]["atlas"] == 2
    found = atlased(load_settings(config))
    # Not what reads codes as well, and no pseudo-model.
    assert found == ["xunet", "xunet_lite", "xunet_student", "regression", "sted", "redirtrans"]
    config["models"]["xunet"]["sampling"]["steps"] = 9
    assert "xunet" not in atlased(load_settings(config))
    config["evaluation"]["atlas"] = 0
    assert atlased(load_settings(config)) == []
