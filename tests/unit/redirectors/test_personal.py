"""A model per person: trained on their album from common weights, sampled for their pairs alone."""

import json
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import regaze.redirectors.personal as personal
from regaze.albums import write_albums
from regaze.metrics.disentanglement import perturb_redirector
from regaze.metrics.induced import read_perturbed
from regaze.pairs import draw_pairs, write_pairs
from regaze.redirect.models import model_folder
from regaze.redirectors.bench import Bench
from regaze.redirectors.declaration import Network, Sampling
from regaze.redirectors.networks import load_redirector
from regaze.redirectors.personal import folder_of, gather_albums, train_albums
from regaze.redirectors.sample import sample_redirector
from regaze.redirectors.train import TrainingData
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.weights import models_folder, read_record

ALBUMS = {"f": [4, 1, 2], "g": [0, 5, 3]}
SAMPLING = Sampling(batch=3).model_dump() | {
    "sampler": "dpmpp_2m", "steps": 1, "sigma_min": 1.0, "sigma_max": 20.0, "guidance": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A bench of a small model that is trained for all, its albums and pairs."""
    folder = tmp_path_factory.mktemp("personal")
    options = {"class": "xunet", "preset": "tiny", "size_px": 16, "network": {"frames": 1}}
    bench = Bench("base", {"base": ModelSettings(**options)}, {}, folder)
    base, _ = bench.unbroken
    config = {**bench.config, "train": {**bench.config["train"], "transfer": str(base), "lr": 0.01}}
    write_albums(folder / "albums.json", ALBUMS)
    pairs = draw_pairs(
        bench.reader, list("fg"), {"gaze_and_head": 6, "sweep": 1}, seed=0, dataset="d",
        sweep_steps=2, albums=ALBUMS,
    )  # fmt: skip
    write_pairs(folder / "pairs.parquet", pairs)
    return bench, base, config, pairs


def trained(world, folder, state, **options):
    bench, _, config, _ = world
    data = TrainingData(bench.faces, bench.split, bench.input_files, bench.networks)
    given = {"albums": bench.folder / "albums.json", "size": None, "seed": 0, "state": state}
    for shard in (0, 1):
        where = {"shard": shard, "shards": 2, "folder": folder / f"album-{shard:03d}"}
        train_albums("mine", config, data, **where, **(given | options))
    folders = [folder / f"album-{shard:03d}" for shard in (0, 1)]
    gather_albums("mine", folders, folder / "model.json", folder / "curve.csv")
    return folder


@pytest.fixture(scope="module")
def mine(world, tmp_path_factory):
    return trained(world, world[0].folder / "models" / "mine", tmp_path_factory.mktemp("state"))


def test_everybody_has_a_model_that_began_with_the_common_weights(world, mine):
    _, base, _, _ = world
    record = read_record(mine / "model.json")
    assert list(record["albums"]) == ["f", "g"] and record["name"] == "mine"
    assert {one["folder"] for one in record["albums"].values()} == {"album-000/f", "album-001/g"}
    assert "3 pictures of each person" in record["told"]
    weights = [load_file(folder_of(mine, record, one) / "model.safetensors") for one in "fg"]
    start = load_file(base / "model.safetensors")
    assert weights[0].keys() == start.keys()
    for one in weights:
        assert any(not torch.equal(one[key], start[key]) for key in start)
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in start)
    own = read_record(mine / "album-000" / "f" / "model.json")
    assert own["data"]["persons"] == "f" and own["data"]["album"] == ALBUMS["f"]
    curves = [pd.read_csv(mine / f"album-00{n}" / p / "curve.csv") for n, p in enumerate("fg")]
    mean = pd.read_csv(mine / "curve.csv")
    np.testing.assert_allclose(mean["loss"], (curves[0]["loss"] + curves[1]["loss"]) / 2, rtol=1e-5)


def test_nothing_but_the_album_is_learnt_from(world, mine, tmp_path, monkeypatch):
    """Weights are the same when all other pictures of the set are others."""
    bench, _, config, _ = world
    with h5py.File(bench.faces[0]) as file, h5py.File(tmp_path / "faces.h5", "w") as other:
        for key, value in file.attrs.items():
            other.attrs[key] = value
        for person in file:
            pixels, labels = file[person]["pixels"][:], file[person]["labels"][:]
            seen = np.isin(np.arange(len(pixels)), ALBUMS.get(person, []))
            pixels[~seen] = 255 - pixels[~seen]
            labels[~seen, :4] *= -1
            other[f"{person}/pixels"], other[f"{person}/labels"] = pixels, labels
    monkeypatch.setitem(bench.__dict__, "faces", [str(tmp_path / "faces.h5")])
    again = trained(world, tmp_path / "mine", tmp_path / "state")
    for person, at in (("f", "album-000"), ("g", "album-001")):
        one, two = (
            load_file(folder / at / person / "model.safetensors") for folder in (mine, again)
        )
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_interrupted_shard_trains_nobody_again_who_was_done(world, tmp_path, monkeypatch):
    trainings = []
    train = personal.train_redirector

    def dying(name, *args, **options):
        if name == "mine/g" and len(trainings) == 1:
            trainings.append(("killed",))
            raise KeyboardInterrupt
        train(name, *args, **options)
        curve = pd.read_csv(options["files"].curve)
        trainings.append((name, curve["seconds"].iloc[-1]))

    monkeypatch.setattr(personal, "train_redirector", dying)
    bench, _, config, _ = world
    data = TrainingData(bench.faces, bench.split)
    given = {"albums": bench.folder / "albums.json", "size": 2, "seed": 0, "shard": 0, "shards": 1}
    given |= {"folder": tmp_path / "album-000", "state": tmp_path / "state"}
    with pytest.raises(KeyboardInterrupt):
        train_albums("mine", config, data, **given)
    assert not list((tmp_path / "album-000").iterdir())
    train_albums("mine", config, data, **given)
    # The first is taken from its state, with the seconds of before.
    assert [one[0] for one in trainings] == ["mine/f", "killed", "mine/f", "mine/g"]
    assert trainings[0] == trainings[2]
    assert sorted(path.name for path in (tmp_path / "album-000").iterdir()) == ["f", "g"]
    assert len(list((tmp_path / "state").glob("*/finished.json"))) == 2


def sampled(world, folder, out, **options):
    bench = world[0]
    files = {"samples": out / "samples.h5", "speed": out / "speed.json"}
    sample_redirector(
        folder, faces=bench.faces, pairs=bench.folder / "pairs.parquet", sampling=SAMPLING,
        **files, **options,
    )  # fmt: skip
    with h5py.File(out / "samples.h5") as file:
        order = np.argsort(file["pair"][:])
        return file["pixels"][:][order], file["pair"][:][order], dict(file.attrs)


def test_samples_of_a_person_are_those_of_their_model(world, mine, tmp_path):
    pairs = world[3]
    made, numbers, attributes = sampled(world, mine, tmp_path, gif=tmp_path / "way.gif")
    assert numbers.tolist() == pairs["pair"].tolist() and attributes["model"] == "mine"
    assert attributes["fingerprint"] == read_record(mine / "model.json")["fingerprint"]
    assert (tmp_path / "way.gif").stat().st_size
    own = {}
    for person, at in (("f", "album-000"), ("g", "album-001")):
        (tmp_path / person).mkdir()
        own[person], _, told = sampled(world, mine / at / person, tmp_path / person)
        assert told["model"] == f"mine/{person}"
    assert set(pairs["person"]) == {"f", "g"}
    for number, person in enumerate(pairs["person"]):
        assert np.abs(made[number].astype(int) - own[person][number]).max() <= 1
    assert (own["f"] != own["g"]).any()


def test_turned_factors_are_those_of_the_persons_models(world, mine, tmp_path):
    bench = world[0]
    judge = SimpleNamespace(arch="vgg", preprocess="none")
    one = Network("judge", "estimators", "judge")
    estimator = Bench("base", bench.models, {"judge": judge}, bench.folder)._network(one)
    out = tmp_path / "perturbed.parquet"
    perturb_redirector(
        mine, faces=bench.faces, split=bench.split, persons="test", dataset="d",
        estimator=estimator, sampling=SAMPLING, pictures=20, seed=0, output=out,
        albums=bench.folder / "albums.json",
    )  # fmt: skip
    table, told = read_perturbed(out)
    seen = {(person, index) for person, index in zip(table["person"], table["index"], strict=True)}
    assert seen == {(p, n) for p in "fg" for n in range(6) if n not in ALBUMS[p]}
    assert told["model"] == read_record(mine / "model.json")["fingerprint"]


def test_a_person_is_named_behind_the_entry(world, mine):
    models = mine.parent
    found = model_folder(models, "mine/g")
    assert found == mine / "album-001/g" and models_folder(found) == models.resolve()
    assert models_folder(mine) == models.resolve()
    assert load_redirector(found)[1]["name"] == "mine/g"
    with pytest.raises(ValueError, match="expected a model of 'z', found those of f, g"):
        model_folder(models, "mine/z")
    with pytest.raises(ValueError, match="is a model per person; expected one of mine/f, mine/g"):
        model_folder(models, "mine")


def test_albums_without_anybody_are_told(tmp_path):
    (tmp_path / "album-000").mkdir()
    with pytest.raises(ValueError, match="expected models of persons in"):
        gather_albums("mine", [tmp_path / "album-000"], tmp_path / "model.json", tmp_path / "c.csv")
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["album-000"]'
