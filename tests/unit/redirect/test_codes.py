"""``regaze redirect`` with a model that is told 3-D codes: stored ones, encoded ones, neither."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from regaze.capture.head import HeadConfig, build_head
from regaze.cli import app
from regaze.face3d.deca import Deca, encoder_identity, load_encoder
from regaze.face3d.encode import encode_shard
from regaze.face3d.model import from_head, load_flame, model_hash, save_flame
from regaze.faces import FacesAttributes, FacesWriter
from regaze.redirectors.base import build_redirector
from regaze.redirectors.xunet.settings import ModelSettings


@pytest.fixture
def results(tmp_path, textured, monkeypatch):
    """A folder of results: an encoder, a model told its codes, two faces and their latents."""
    monkeypatch.chdir(tmp_path)
    head = from_head(build_head(HeadConfig.tiny()))
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
    record = {
        "name": "told", "kind": "redirector", "config": config,
        "encoder": encoder_identity(encoder),
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(record))
    return tmp_path / "results"


def run(place, out):
    options = ("--model", "told", "--gaze", "5", "5", "--out", out, "--device", "cpu", "--steps", 1)
    return CliRunner().invoke(app, ["redirect", str(place), *(str(one) for one in options)])


def made(place, out):
    done = run(place, out)
    assert done.exit_code == 0, done.output
    (face,) = json.loads((out / "redirect.json").read_text())["faces"]
    return face["source_code_from"], (out / face["results"][0]["files"][0]).read_bytes()


def test_a_row_has_the_same_code_from_the_latents_and_from_the_encoder(results, tmp_path):
    row = f"{results}/set/faces/shard-000.h5:p/1"
    stored = made(row, tmp_path / "a")
    other = made(f"{results}/set/faces/shard-000.h5:p/0", tmp_path / "b")
    shutil.rmtree(results / "set/latents")
    encoded = made(row, tmp_path / "c")
    assert stored[0] == "latents" and encoded[0] == "encoder deca"
    assert stored[1] == encoded[1] != other[1]


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
