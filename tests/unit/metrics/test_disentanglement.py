"""Induced errors on a redirector that leaks by a known amount."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.evaluate import read_images
from regaze.faces import FacesAttributes, FacesWriter
from regaze.metrics import disentanglement
from regaze.metrics.disentanglement import (
    LIMIT,
    changes,
    perturb_redirector,
    turn,
)
from regaze.metrics.induced import induced_values, read_perturbed
from regaze.metrics.redirection import Reading
from regaze.metrics.targets import kde_targets
from regaze.redirectors import sample
from regaze.redirectors.base import Perturbable, Redirector
from regaze.redirectors.declaration import Declaration

LEAK = 0.25


class Corner(GazeHeadEstimator):
    """Reads four angles out of four pixels."""

    arch, preset, size_px, preprocess, fingerprint = "corner", "tiny", 32, "none", "corner"

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def embed(self, images):
        return images[:, 0, 0, :4]

    def head(self, embedding):
        return embedding


class Leaky(Redirector):
    """Draws its target angles; a change of gaze moves the head's pitch by a quarter of it."""

    network = nn.Identity()

    def edit(self, state, target, *, seed):
        return self._draw(
            state["source"],
            target["target_gaze"],
            target["target_head"] + LEAK * (target["target_gaze"] - state["source_gaze"]),
        )

    def _draw(self, source, gaze, head):
        made = source.clone()
        made[:, 0, 0, :4] = torch.cat([gaze, head], 1)
        return made


class LeakyFactors(Leaky):
    """The same with factors, one of which turns both."""

    def angles(self):
        return {"hue": 1, "gaze": 2, "head": 2}

    def reconstruct(self, state, *, seed):
        return self._draw(state["source"], state["source_gaze"], state["source_head"])

    def perturb(self, state, factor, change, *, seed):
        gaze, head = state["source_gaze"], state["source_head"]
        if factor == "hue":
            return self._draw(state["source"], gaze + change, head)
        if factor == "gaze":
            return self._draw(state["source"], gaze + change, head)
        return self._draw(state["source"], gaze, head + change)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("turned")
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (32, 32), 125.0, 600.0, "none", "test")
    with FacesWriter(root / "faces.h5", attributes) as writer:
        for person in ("a", "b", "c"):
            labels = np.zeros((4, 8), np.float32)
            labels[:, 1] = rng.uniform(-0.2, 0.2, 4)
            writer.add_person(person, rng.integers(0, 256, (4, 32, 32, 3), np.uint8), labels)
    (root / "split.json").write_text(json.dumps({"test": ["b", "a"], "val": ["c"]}))
    (root / "model.safetensors").write_bytes(b"weights")
    return root


def run(world, monkeypatch, redirector, **changed):
    record = {"name": "leaky", "config": {"size_px": 32}, "inputs": {}}
    monkeypatch.setattr(sample, "load_redirector", lambda *a: (redirector, record))
    monkeypatch.setattr(sample, "declared_by", lambda config: Declaration())
    monkeypatch.setattr(disentanglement, "load_estimator", lambda *a: Corner())
    options = {"pictures": 100, "seed": 1, "batch": 3, "dataset": "drawn", "persons": "test"}
    options |= {"faces": [str(world / "faces.h5")], "split": world / "split.json", **changed}
    perturb_redirector(
        world,
        estimator=world,
        sampling={"threads": 1, "batch": options.pop("batch"), "seed": 0},
        output=world / "perturbed.parquet",
        **options,
    )
    return read_perturbed(world / "perturbed.parquet")


def test_the_leak_is_found(world, monkeypatch):
    table, told = run(world, monkeypatch, Leaky())
    assert told["limit_deg"] == pytest.approx(18) and told["estimator"] == "corner"
    assert len(table) == 2 * 8 and set(table["person"]) == {"a", "b"}
    values = induced_values(table)
    assert set(values) == {"gaze_to_head_deg", "head_to_gaze_deg"}
    assert values["head_to_gaze_deg"]["value"].max() < 1e-4
    turns = [turn(1, "drawn", sample, "gaze", 2) for sample in range(8)]
    # From a head at (0, 0), by a quarter of each turn.
    pixels = np.zeros((8, 1, 1, 3), np.uint8)
    turned = np.concatenate([np.zeros((8, 2)), LEAK * np.stack(turns)], 1)
    wanted = changes(Reading(np.zeros((8, 4)), None, pixels), Reading(turned, None, pixels))
    found = table[table["factor"] == "gaze"].sort_values("sample")["head_change_deg"]
    assert np.allclose(found, wanted["head"], atol=1e-3)


def test_factors_are_turned_as_st_ed_does(world, monkeypatch):
    assert isinstance(LeakyFactors(), Perturbable) and not isinstance(Leaky(), Perturbable)
    table, _ = run(world, monkeypatch, LeakyFactors())
    values = {name: rows["value"].mean() for name, rows in induced_values(table).items()}
    assert values["factor_gaze_to_head_deg"] < 1e-4 > values["factor_head_to_gaze_deg"]
    assert values["others_to_gaze_deg"] > 1 and values["others_to_head_deg"] < 1e-4


def test_neither_batch_nor_number_of_pictures_changes_a_reading(world, monkeypatch):
    whole, _ = run(world, monkeypatch, LeakyFactors())
    other, _ = run(world, monkeypatch, LeakyFactors(), batch=8)
    pd.testing.assert_frame_equal(whole, other, rtol=1e-4)
    fewer, _ = run(world, monkeypatch, LeakyFactors(), pictures=4)
    assert fewer["sample"].unique().tolist() == [0, 2, 4, 6]
    same = whole[whole["sample"] % 2 == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, same, rtol=1e-4)


@pytest.mark.parametrize(("size", "seen"), [(32, 1.25), (16, 1.0)])
def test_only_an_estimator_of_the_same_size_sees_what_overshoots(monkeypatch, size, seen):
    monkeypatch.setattr(Corner, "size_px", size)
    assert read_images(Corner(), torch.full((2, 3, 32, 32), 1.25)).tolist() == [[seen] * 4] * 2


def test_turns_are_drawn_per_picture_and_factor():
    drawn = np.stack([turn(0, "set", sample, "gaze", 2) for sample in range(2000)])
    assert np.abs(drawn).max() <= LIMIT and np.abs(drawn.mean(0)).max() < 0.02
    assert np.allclose(drawn.std(0), LIMIT / math.sqrt(3), rtol=0.05)
    assert (drawn[5] == turn(0, "set", 5, "gaze", 2)).all()
    for other in (("set", 5, "head"), ("mpi", 5, "gaze"), ("set", 6, "gaze")):
        assert (drawn[5] != turn(0, *other, 2)).all()


def test_unknown_lists_and_other_files_are_refused(world, monkeypatch):
    with pytest.raises(ValueError, match="expected a list 'train'"):
        run(world, monkeypatch, Leaky(), persons="train")
    (world / "empty.json").write_text(json.dumps({"test": ["d"]}))
    with pytest.raises(ValueError, match="empty.json: test: none of 1 persons has pictures"):
        run(world, monkeypatch, Leaky(), split=world / "empty.json")
    pd.DataFrame({"sample": [1]}).to_parquet(world / "other.parquet")
    with pytest.raises(ValueError, match="expected columns"):
        read_perturbed(world / "other.parquet")
    with pytest.raises(FileNotFoundError):
        read_perturbed(world / "none.parquet")


def test_faces_without_gaze_have_nothing_to_turn(world, monkeypatch):
    attributes = FacesAttributes("sted", (32, 32), 125.0, 600.0, "none", "test", gaze="absent")
    with FacesWriter(world / "blind.h5", attributes) as writer:
        labels = np.full((1, 8), np.nan, np.float32)
        labels[:, 2:4] = 0
        writer.add_person("a", np.zeros((1, 32, 32, 3), np.uint8), labels)
    with pytest.raises(ValueError, match="blind.h5: data set 'drawn' has no gaze labels"):
        run(world, monkeypatch, Leaky(), faces=[str(world / "blind.h5")])


def test_targets_follow_the_density_and_their_number():
    rng = np.random.default_rng(0)
    labels = rng.normal(0, [0.1, 0.2, 0.05, 0.3], (400, 4))
    drawn = kde_targets(labels, 3, np.arange(2000))
    assert drawn.shape == (2000, 4) and drawn.dtype == np.float32
    # The density's spread is that of the labels widened by Scott's factor.
    widened = labels.std(0) * np.sqrt(1 + 400 ** (-2 / 8))
    assert np.allclose(drawn.std(0), widened, rtol=0.1)
    assert (kde_targets(labels, 3, [7, 2]) == drawn[[7, 2]]).all()
    assert (kde_targets(labels, 3, 7) == drawn[7]).all()
    assert (kde_targets(labels, 4, 7) != drawn[7]).all()
    assert np.abs(kde_targets(10 * labels, 3, np.arange(200))).max() <= np.float32(np.pi / 2)
