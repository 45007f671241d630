"""Evaluation pairs: kinds mean what they say, draws do not depend on how many are asked for."""

import h5py
import numpy as np
import pandas as pd
import pytest

from regaze.angles import angular_error
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.pairs import draw_pairs, read_pairs, write_pairs


@pytest.fixture
def reader(tmp_path):
    """Three persons, 3 head poses x 4 gazes each; a fourth with one picture."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for person in ("a", "b", "c", "lonely"):
            heads, gazes = rng.uniform(-0.3, 0.3, (3, 2)), rng.uniform(-0.3, 0.3, (4, 2))
            labels = np.zeros((12, 8), np.float32)
            labels[:, :2], labels[:, 2:4] = np.tile(gazes, (3, 1)), np.repeat(heads, 4, 0)
            labels = labels[:1] if person == "lonely" else labels
            file[f"{person}/labels"] = labels
            file[f"{person}/pixels"] = np.zeros((len(labels), 4, 4, 3), np.uint8)
    return FacesReader(tmp_path / "faces.h5")


COUNTS = {"gaze_and_head": 20, "gaze_only": 15, "head_only": 10, "sweep": 2}


def draw(reader, counts=COUNTS, **kwargs):
    options = {"seed": 0, "dataset": "d", "sweep_steps": 8} | kwargs
    return draw_pairs(reader, reader.persons, counts, **options)


def test_kinds_mean_what_they_say(reader):
    pairs = draw(reader)
    assert pairs["kind"].value_counts().to_dict() == {
        "gaze_and_head": 20, "gaze_only": 15, "head_only": 10, "sweep": 16,
    }  # fmt: skip
    assert (pairs["pair"] == np.arange(len(pairs))).all()
    assert "lonely" not in set(pairs["person"])
    for _, row in pairs.iterrows():
        gaze = angular_error(row["source_gaze"], row["target_gaze"])
        head = angular_error(row["source_head"], row["target_head"])
        assert row["kind"] in ("gaze_and_head", "sweep") or (gaze < 0.05) == (
            row["kind"] == "head_only"
        )
        assert row["kind"] != "gaze_only" or head < 0.05
        if row["kind"] == "sweep":
            assert row["target_index"] == -1 and head == 0
            continue
        label = reader.labels[reader.global_index(row["person"], row["target_index"])]
        np.testing.assert_array_equal(row["target_gaze"], label[:2])
        np.testing.assert_array_equal(row["target_head"], label[2:4])


def test_pairs_are_distinct_and_survive_asking_for_more(reader):
    few, many = draw(reader, {"gaze_and_head": 5}), draw(reader, {"gaze_and_head": 30})
    pd.testing.assert_frame_equal(few, many.head(5))
    keys = many[["person", "source_index", "target_index"]]
    assert not keys.duplicated().any()
    assert not draw(reader, seed=1)["source_index"].equals(draw(reader)["source_index"])


def test_asking_for_more_than_exist_gives_what_exists(reader):
    assert len(draw_pairs(reader, ["a"], {"head_only": 500}, seed=0, dataset="d")) == 24


def test_round_trip_and_bytes(reader, tmp_path):
    pairs = draw(reader)
    for name in ("one", "two"):
        write_pairs(tmp_path / name, pairs)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    back = read_pairs(tmp_path / "one")
    np.testing.assert_array_equal(
        np.stack(back["target_gaze"].to_list()), np.stack(pairs["target_gaze"].to_list())
    )


def test_faults_are_named(reader, tmp_path):
    with pytest.raises(ValueError, match="unknown kind of pair 'any'"):
        draw(reader, {"any": 1})
    with pytest.raises(ValueError, match="none of 1 persons has two pictures"):
        draw_pairs(reader, ["lonely"], {"gaze_and_head": 1}, seed=0, dataset="d")
    pd.DataFrame({"pair": [1]}).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="column 'person' is missing"):
        read_pairs(tmp_path / "bad.parquet")


def test_a_set_without_gaze_cannot_be_evaluated(tmp_path):
    attributes = FacesAttributes("sted", (8, 8), 31.25, 600.0, "none", "folder", gaze="absent")
    labels = np.full((2, 8), np.nan, np.float32)
    labels[:, 2:4] = 0.1
    with FacesWriter(tmp_path / "f.h5", attributes) as writer:
        writer.add_person("p", np.zeros((2, 8, 8, 3), np.uint8), labels)
    with pytest.raises(ValueError, match="'photos' has no gaze labels"):
        draw_pairs(
            FacesReader(tmp_path / "f.h5"), ["p"], {"gaze_and_head": 1}, seed=0, dataset="photos"
        )


def test_a_tolerance_makes_pairs_of_heads_that_never_rest(reader):
    reader.labels[:, 2:4] += np.random.default_rng(1).uniform(-0.005, 0.005, (len(reader), 2))
    assert draw(reader, {"gaze_only": 3}, same_deg=1e-4).empty
    pairs = draw(reader, {"gaze_only": 3}, same_deg=1.0)
    moved = [angular_error(row["source_head"], row["target_head"]) for _, row in pairs.iterrows()]
    assert len(moved) == 3 and 0 < max(moved) < 1.0


def test_tables_that_are_no_pairs_are_named(reader, tmp_path):
    path = tmp_path / "pairs.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="pairs.parquet: not a readable parquet file .*delete it"):
        read_pairs(path)
    pairs = draw(reader, {"gaze_and_head": 2})
    write_pairs(path, pairs.assign(kind=["gaze_and_head", "any"]))
    with pytest.raises(ValueError, match="pairs.parquet: unknown kind of pair 'any'"):
        read_pairs(path)
    pairs.assign(pair=["0", "1"]).to_parquet(path)
    with pytest.raises(ValueError, match="column 'pair': expected int64, found (large_)?string"):
        read_pairs(path)
