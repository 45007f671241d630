"""``regaze redirect`` with a model that is told 3-D codes: stored ones, encoded ones, neither."""

import json
import shutil

import numpy as np
import pytest
import torch
from heads import tiny_head
from safetensors.torch import save_file
from typer.testing import CliRunner

from regaze.cli import app
from regaze.codes.latents import CODES, LatentsReader, LatentsWriter
from regaze.face3d.deca import Deca, encoder_identity, load_encoder
from regaze.face3d.encode import encode_shard
from regaze.face3d.model import load_flame, model_hash, save_flame
from regaze.faces import FacesAttributes, FacesWriter
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared_by
from regaze.redirectors.xunet.settings import ModelSettings


@pytest.fixture(scope="module")
def built(tmp_path_factory, textured):
    """A folder of results: an encoder, a model told its codes, two faces and their latents."""
    tmp_path = tmp_path_factory.mktemp("built")
    head = tiny_head()
    save_flame(tmp_path / "results/face3d/head.npz", head)
    head = load_flame(tmp_path / "results/face3d/head.npz")
    torch.manual_seed(0)
    folder = tmp_path / "results/models/deca"
    folder.mkdir(parents=True)
    save_file(Deca(head, "tiny").state_dict(), folder / "model.safetensors")
    record = {
        "kind": "encoder", "head_sha256": model_hash(head),
        "config": {"preset": "tiny", "class": "deca"},
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(record))
    encoder = load_encoder(folder, head)

    faces = tmp_path / "results/set/faces/shard-000.h5"
    rng = np.random.default_rng(0)
    pixels = np.stack([textured(seed, (128, 128)) for seed in range(2)])
    marks = rng.uniform(30, 98, (2, 68, 2)).astype(np.float32)
    labels = np.zeros((2, 8), np.float32)
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(faces, attributes) as writer:
        writer.add_person("p", pixels, labels, landmarks=marks)
    encode_shard(faces, encoder, tmp_path / "results/set/latents/deca/part-000.parquet")

    entry = {"class": "xunet", "preset": "tiny", "size_px": 32, "network": {"code": "film"}}
    config = ModelSettings(**entry).resolve()
    redirector = build_redirector(config, {})
    with torch.no_grad():
        for parameter in redirector.parameters():
            noise = 0.1 * torch.randn(parameter.shape)
            parameter.copy_(torch.where(parameter == 0, noise, parameter))
    folder = tmp_path / "results/models/told"
    folder.mkdir()
    save_file(redirector.network.state_dict(), folder / "model.safetensors")
    codes = declared_by(config).input("codes")
    record = {
        "name": "told", "kind": "redirector", "config": config,
        "inputs": {"codes": {**codes.options, "identity": encoder_identity(encoder)}},
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(record))
    return tmp_path / "results"


@pytest.fixture
def results(tmp_path, built, monkeypatch):
    """The folder of results, to be damaged."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(built, tmp_path / "results")


def run(place, out, *more):
    options = ("--model", "told", "--gaze", "5", "5", "--out", out, "--device", "cpu", "--steps", 1)
    said = [str(one) for one in (place, *options, *more)]
    return CliRunner().invoke(app, ["redirect", *said])


def made(place, out):
    done = run(place, out)
    assert done.exit_code == 0, done.output
    (face,) = json.loads((out / "redirect.json").read_text())["faces"]
    return face["source_codes_from"], (out / face["results"][0]["files"][0]).read_bytes()


def test_a_row_has_the_same_code_from_the_latents_and_from_the_encoder(results, tmp_path):
    row = f"{results}/set/faces/shard-000.h5:p/1"
    stored = made(row, tmp_path / "a")
    other = made(f"{results}/set/faces/shard-000.h5:p/0", tmp_path / "b")
    shutil.rmtree(results / "set/latents")
    encoded = made(row, tmp_path / "c")
    assert stored[0] == "latents" and encoded[0] == "encoder deca"
    assert stored[1] == encoded[1] != other[1]
    # The encoder is opened once for all faces of a call.
    both = run(row, tmp_path / "d", f"{results}/set/faces/shard-000.h5:p/0")
    assert both.exit_code == 0, both.output
    found = [(tmp_path / "d" / f"p_{index}.patch.png").read_bytes() for index in (1, 0)]
    assert found == [stored[1], other[1]]


@pytest.mark.parametrize("change", ["another encoder", "not detected"])
def test_latents_that_do_not_fit_are_passed_over(results, tmp_path, change):
    file = results / "set/latents/deca/part-000.parquet"
    reader = LatentsReader(file)
    identity = dict(reader.identity)
    if change == "another encoder":
        identity["checkpoint_sha256"] = "0" * 64
    with LatentsWriter(file, identity) as writer:
        detected = np.full(2, change != "not detected")
        codes = {name: np.ones((2, width), np.float32) for name, width in CODES.items()}
        writer.add(["p", "p"], np.arange(2), codes, detected)
    found, _ = made(f"{results}/set/faces/shard-000.h5:p/1", tmp_path / "a")
    assert found == "encoder deca"


def test_a_photo_is_encoded(results, tmp_path, scene):
    done = run(scene.path, tmp_path / "a", "--landmarks", scene.marks, "--source-gaze", 0, 0)
    assert done.exit_code == 0, done.output
    (face,) = json.loads((tmp_path / "a/redirect.json").read_text())["faces"]
    assert face["source_codes_from"] == "encoder deca"


def test_faces_that_cannot_be_encoded_are_refused_with_the_reason(results, tmp_path, textured):
    row = f"{results}/set/faces/shard-000.h5:p/1"
    shutil.rmtree(results / "set/latents")
    weights = results / "models/deca/model.safetensors"
    torch.manual_seed(5)
    head = load_flame(results / "face3d/head.npz")
    save_file(Deca(head, "tiny").state_dict(), weights)
    refused = run(row, tmp_path / "a")
    assert refused.exit_code != 0
    assert "encoder 'deca': checkpoint_sha256: the model was trained with" in refused.output
    weights.unlink()
    assert "3-D codes of encoder 'deca'" in run(row, tmp_path / "a").output
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(tmp_path / "bare.h5", attributes) as writer:
        writer.add_person("p", textured(0, (128, 128))[None], np.zeros((1, 8), np.float32))
    bare = run(f"{tmp_path}/bare.h5:p/0", tmp_path / "a").output
    assert "need the face's 68 landmarks; found none" in bare


def test_landmarks_on_one_spot_and_a_missing_head_model_are_named(results, tmp_path, textured):
    attributes = FacesAttributes("sted", (128, 128), 500.0, 600.0, "none", "synthetic")
    with FacesWriter(tmp_path / "spot.h5", attributes) as writer:
        spot = np.full((1, 68, 2), 64.0, np.float32)
        pixels = textured(0, (128, 128))[None]
        writer.add_person("p", pixels, np.zeros((1, 8), np.float32), landmarks=spot)
    spot = run(f"{tmp_path}/spot.h5:p/0", tmp_path / "a")
    assert "spot.h5:p/0: expected landmarks of a face, found no usable ones" in spot.output
    (results / "face3d/head.npz").unlink()
    headless = run(f"{tmp_path}/spot.h5:p/0", tmp_path / "a")
    assert "head.npz: this model is told 3-D codes; expected the head model" in headless.output
