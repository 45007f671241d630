"""Codes of faces on their way to a model: joined by row, of the right encoder, never missing."""

import json

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regaze.codes import CODES, code_columns, code_dim
from regaze.codes.condition import target_code
from regaze.codes.latents import LatentsError, LatentsWriter
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.pairs import draw_pairs, read_pairs, write_pairs
from regaze.redirectors.base import build_redirector
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import Declaration, Input, declared_by
from regaze.redirectors.inputs import open_inputs
from regaze.redirectors.networks import load_redirector
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.sample import sample_redirector
from regaze.redirectors.train import TrainingData, train_redirector
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.training.context import ModelFiles

IDENTITY = {"encoder": "deca-tiny", "checkpoint_sha256": "a" * 64, "head_sha256": "b" * 64}
PARTS = ("pose", "shape")
PEOPLE = {"a": 6, "b": 6, "c": 6}
UNSEEN = {("a", 1), ("a", 4), ("b", 0)}
SAMPLING = {
    "sampler": "dpmpp_2m", "steps": 2, "sigma_min": 1.0, "sigma_max": 20.0, "guidance": 0.0,
    "seed": 0, "batch": 5, "threads": 1,
}  # fmt: skip
TRAIN = {
    "images": 24, "batch": 4, "warmup_images": 4, "ema_halflife_images": 8, "precision": "fp32",
}  # fmt: skip


def codes_of(person):
    rng = np.random.default_rng(ord(person))
    return {
        name: rng.normal(2, 3, (PEOPLE[person], width)).astype(np.float32)
        for name, width in CODES.items()
    }


def write_latents(path, people, identity=IDENTITY):
    with LatentsWriter(path, identity) as writer:
        for person in people:
            count = PEOPLE[person]
            detected = np.array([(person, row) not in UNSEEN for row in range(count)])
            writer.add([person] * count, np.arange(count), codes_of(person), detected)
    return path


def row_of(person, index):
    codes = codes_of(person)
    return np.concatenate([codes["shape"][index], codes["pose"][index]])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Faces of three persons, 2 heads x 3 gazes, their latents in one file and in two."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    attributes = FacesAttributes("sted", (64, 64), 250.0, 600.0, "none", "synthetic")
    with FacesWriter(folder / "faces.h5", attributes) as writer:
        for person, count in PEOPLE.items():
            labels = np.zeros((count, 8), np.float32)
            labels[:, :2] = np.tile(rng.uniform(-0.3, 0.3, (3, 2)), (2, 1))
            labels[:, 2:4] = np.repeat(rng.uniform(-0.3, 0.3, (2, 2)), 3, 0)
            pixels = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
            writer.add_person(person, pixels, labels)
    write_latents(folder / "all.parquet", PEOPLE)
    write_latents(folder / "one.parquet", "c")
    write_latents(folder / "two.parquet", "ab")
    write_latents(folder / "other.parquet", PEOPLE, IDENTITY | {"checkpoint_sha256": "c" * 64})
    split = {"train-redirector": ["a", "b"], "val": ["c"], "test": ["c"]}
    (folder / "split.json").write_text(json.dumps(split))
    reader = FacesReader(folder / "faces.h5")
    counts = {"gaze_and_head": 8, "gaze_only": 4, "head_only": 4, "sweep": 1}
    pairs = draw_pairs(reader, PEOPLE, counts, seed=0, dataset="d", sweep_steps=3)
    write_pairs(folder / "pairs.parquet", pairs)
    return folder


@pytest.fixture(scope="module")
def reader(files):
    return FacesReader(files / "faces.h5")


TOLD = Declaration(inputs=(Input("codes", {"encoder": "deca", "parts": PARTS}),))


def opened(reader, *latents, expect=None):
    expect = None if expect is None else {"codes": expect}
    return open_inputs(TOLD, {"codes": latents}, reader, expect)["codes"]


def test_rows_are_those_of_the_faces_however_the_latents_are_cut(files, reader):
    whole = opened(reader, files / "all.parquet")
    parts = opened(reader, files / "one.parquet", files / "two.parquet")
    rows = np.array([17, 3, 0, 9, 3])
    made = whole.read(rows)["code"]
    assert made.dtype == torch.float32 and made.shape == (5, code_dim(PARTS))
    assert torch.equal(made, parts.read(rows)["code"])
    assert whole.fingerprint() == parts.fingerprint()
    np.testing.assert_array_equal(made[0], row_of("c", 5))
    np.testing.assert_array_equal(made[3], row_of("b", 3))
    assert (~whole.known).sum() == len(UNSEEN) and whole.identity == IDENTITY
    with pytest.raises(LatentsError, match="checkpoint_sha256: expected aaa.*found ccc"):
        opened(reader, files / "other.parquet", expect=IDENTITY)


def test_batches_carry_codes_and_never_draw_a_face_without(files, reader):
    codes = {"codes": opened(reader, files / "two.parquet", files / "one.parquet")}
    options = {"size": 32, "batch": 7, "seed": 0, "same_head_fraction": 0.5, "declaration": TOLD}
    batches = PairBatches(reader, ["a", "b"], inputs=codes, **options)
    others = {"codes": opened(reader, files / "all.parquet")}
    again = PairBatches(reader, ["a", "b"], inputs=others, **options)
    known = {
        reader.pixels([reader.global_index(person, row)]).tobytes(): row_of(person, row)
        for person in "ab"
        for row in range(6)
        if (person, row) not in UNSEEN
    }
    seen = set()
    for step in range(8):
        loaded = batches.load(step)
        for key, value in again.load(step).items():
            assert torch.equal(value, loaded[key]), key
        for side in ("source", "target"):
            for image, code in zip(loaded[side], loaded[f"{side}_code"], strict=True):
                key = image.numpy().tobytes()
                np.testing.assert_array_equal(code, known[key])
                seen.add(key)
        done = batches.finish(loaded)
        assert torch.equal(done["target_code"], loaded["target_code"])
    assert len(seen) == len(known) == 9
    with pytest.raises(ValueError, match="codes of mirrored faces are not known"):
        PairBatches(reader, ["a"], inputs=codes, flip=True, **options)


def told(kind, mean):
    """The part of a network's redirector that decides what both frames are told."""
    redirector = build_redirector(config(kind=kind), SAMPLING)
    redirector.net.codeprocessor.standardise(mean, torch.ones_like(mean))
    return lambda batch: redirector._codes(batch).unbind(1)


def test_pairs_without_a_code_are_told_the_mean_and_targets_without_the_turned_source(
    files, reader
):
    inputs = {"codes": opened(reader, files / "all.parquet")}
    mean = torch.arange(code_dim(PARTS), dtype=torch.float32)
    sources, targets = np.array([0, 1, 2, 3]), np.array([2, 3, 4, -1])
    heads = torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    builder = BatchBuilder(32, TOLD, inputs, reader.pixels)
    batch = {}
    for side, rows, head in zip(("source", "target"), (sources, targets), heads, strict=True):
        labels = np.concatenate([np.zeros((4, 2), np.float32), head], 1)
        batch |= builder.finish(builder.load(side, rows, labels, picture=False))
    assert batch["source_codes_known"].tolist() == [True, False, True, True]
    assert batch["target_codes_known"].tolist() == [True, True, False, False]
    source, target = told("target", mean)(batch)
    assert torch.equal(source[1], mean)
    np.testing.assert_array_equal(source[0], row_of("a", 0))
    np.testing.assert_array_equal(target[1], row_of("a", 3))
    turned = target_code(source, None, *heads, "source", PARTS)
    assert torch.equal(target[:2], batch["target_code"][:2])
    assert torch.equal(target[2:], turned[2:])
    pose = code_columns(PARTS)["pose"]
    assert torch.equal(turned[:, : pose.start], source[:, : pose.start])
    assert not torch.equal(turned[:, pose], source[:, pose])
    without = {key: value for key, value in batch.items() if not key.startswith("target_code")}
    assert torch.equal(told("target", mean)(without)[1], turned)
    # One source stands for as many requests as there are.
    one = {key: value[:1] if key.startswith("source") else value for key, value in batch.items()}
    alone, asked = told("target", mean)(one)
    assert torch.equal(alone, source[:1].expand(4, -1)) and torch.equal(asked[1], target[1])


def config(code="film", kind="source"):
    entry = {
        "class": "xunet", "preset": "tiny", "size_px": 32, "train": TRAIN,
        "network": {"code": code}, "deca": {"parts": PARTS, "target_code": kind},
    }  # fmt: skip
    return ModelSettings(**entry).resolve()


def trained(files, folder, latents="all.parquet", **options):
    outputs = ModelFiles(
        folder / "model.safetensors", folder / "model.json", folder / "curve.csv", folder / "state"
    )
    data = TrainingData(
        faces=[str(files / "faces.h5")],
        split=str(files / "split.json"),
        inputs={"codes": [str(files / latents)]} if latents else {},
    )
    train_redirector("told", config(**options), data, seed=0, files=outputs)
    return folder


def sampled(files, folder, out, latents="all.parquet", **changes):
    sample_redirector(
        folder,
        faces=[files / "faces.h5"],
        pairs=files / "pairs.parquet",
        sampling=SAMPLING | changes,
        inputs={"codes": [files / latents]} if latents else {},
        samples=out,
        speed=out.with_suffix(".json"),
    )
    with h5py.File(out) as file:
        return file["pixels"][:], dict(file.attrs)


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    return trained(files, tmp_path_factory.mktemp("told"), kind="target")


def test_training_saves_the_statistics_of_the_rows_trained_on_and_the_encoder(files, model):
    record = json.loads((model / "model.json").read_text())
    about = record["inputs"]["codes"]
    assert about["identity"] == IDENTITY == record["data"]["codes"]
    assert about["parts"] == ["shape", "pose"] and about["encoder"] == "deca"
    assert record["config"]["deca"]["target_code"] == "target" and "upper bound" in record["told"]
    rows = [row_of(p, n) for p in "ab" for n in range(6) if (p, n) not in UNSEEN]
    weights = load_file(model / "model.safetensors")
    # The moving average of the weights leaves them alone.
    np.testing.assert_allclose(weights["codeprocessor.mean"], np.mean(rows, 0), rtol=1e-5)
    np.testing.assert_allclose(weights["codeprocessor.std"], np.std(rows, 0), rtol=1e-5)
    redirector, _ = load_redirector(model, SAMPLING)
    assert torch.equal(redirector.net.codeprocessor.mean, weights["codeprocessor.mean"])
    assert weights["codeprocessor.mlp.2.weight"].any()


def test_targets_are_told_their_own_codes_where_nothing_is_said_of_them():
    rng = torch.Generator().manual_seed(0)
    source, target = torch.randn((2, 3, code_dim(PARTS)), generator=rng)
    batch = {"source_head": torch.zeros(3, 2), "target_head": torch.full((3, 2), 0.2)}
    batch |= {"source_code": source, "target_code": target}
    found = told("target", torch.zeros(code_dim(PARTS)))(batch)
    assert torch.equal(found[0], source) and torch.equal(found[1], target)


def test_training_refuses_what_it_cannot_tell(files, tmp_path):
    with pytest.raises(
        ValueError, match="codes: this model is conditioned on them; expected their files"
    ):
        trained(files, tmp_path, latents=None)


def test_samples_need_latents_of_the_recorded_encoder_and_count_those_without(
    files, model, reader, tmp_path
):
    with pytest.raises(
        ValueError, match="codes: this model is conditioned on them; expected their files"
    ):
        sampled(files, model, tmp_path / "a.h5", latents=None)
    with pytest.raises(LatentsError, match="checkpoint_sha256: expected aaa"):
        sampled(files, model, tmp_path / "a.h5", latents="other.parquet")
    first, attributes = sampled(files, model, tmp_path / "a.h5")
    second, _ = sampled(files, model, tmp_path / "b.h5", batch=16)
    assert np.abs(first.astype(int) - second).max() <= 1
    assert attributes["target_code"] == "target"
    table = read_pairs(files / "pairs.parquet")
    unseen = [
        sum((p, int(n)) in UNSEEN for p, n in zip(table["person"], table[column], strict=True))
        for column in ("source_index", "target_index")
    ]
    assert attributes["sources_without_codes"] == unseen[0] > 0
    without_photo = int((table["target_index"] < 0).sum())
    assert attributes["targets_without_codes"] == unseen[1] + without_photo > unseen[1] > 0
    record = json.loads((model / "model.json").read_text())
    declaration = declared_by(record["config"])
    several = {"codes": opened(reader, files / "all.parquet")}
    builder = BatchBuilder(32, declaration, several, reader.pixels)
    rows = np.array([[0, 2], [7, 1]])
    made = builder.load("sources", rows, np.zeros((2, 2, 4), np.float32))
    assert made["sources_code"].shape == (2, 2, code_dim(PARTS))
    assert made["sources_codes_known"].tolist() == [[True, True], [True, False]]
    assert not made["sources_code"][1, 1].any()
    np.testing.assert_array_equal(made["sources_code"][1, 0], row_of("b", 1))


def test_a_model_without_codes_is_sampled_without_latents(files, tmp_path):
    plain = ModelSettings(**{"class": "xunet", "preset": "tiny", "size_px": 32}).resolve()
    redirector = build_redirector(plain, SAMPLING)
    save_file(redirector.network.state_dict(), tmp_path / "model.safetensors")
    record = {"name": "plain", "kind": "redirector", "config": plain, "inputs": {}}
    (tmp_path / "model.json").write_text(json.dumps(record))
    _, attributes = sampled(files, tmp_path, tmp_path / "a.h5", latents=None)
    assert "target_code" not in attributes
