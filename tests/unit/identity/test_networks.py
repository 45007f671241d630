"""Recognisers: shapes, strict loading, placing of patches."""

import json

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.identity import NETWORKS
from regaze.identity.align import (
    TEMPLATE_EYES_112,
    align,
    describe,
    embed_patches,
    why_not_sted_view,
)
from regaze.identity.base import FaceRecogniser
from regaze.identity.mobilefacenet import MobileFaceNet
from regaze.identity.settings import IdentitySettings
from regaze.identity.store import build_recogniser, load_published, load_recogniser
from regaze.images import EYE_BOXES_64
from regaze.provenance import file_sha256


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "mobilefacenet.pt"
    torch.manual_seed(0)
    network = MobileFaceNet().eval()
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "head.weight": torch.zeros(3)}}, path)
    return path, network


def test_every_name_is_built_and_gives_unit_vectors():
    for name in NETWORKS:
        if name in ("irse50", "iresnet50"):
            continue  # large; the conformance cases run them
        network = build_recogniser(name)
        patches = torch.rand(3, 3, 64, 64) * 2 - 1
        found = embed_patches(network, patches)
        assert found.shape == (3, network.embedding_size)
        assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
        assert torch.allclose(embed_patches(network, patches[1:2])[0], found[1], atol=1e-5)
    with pytest.raises(ValueError, match="expected one of"):
        build_recogniser("facenet")


def test_a_bare_recogniser_is_refused():
    bare = type("Bare", (FaceRecogniser,), {})()
    with pytest.raises(TypeError, match="Bare does not define forward"):
        bare(torch.zeros(1, 3, 32, 32))


def test_eyes_land_on_the_template():
    network = MobileFaceNet()
    size = 64
    for (left, top, right, bottom), (x, y) in zip(EYE_BOXES_64, TEMPLATE_EYES_112, strict=True):
        image = torch.full((1, 3, size, size), -1.0)
        column, row = (left + right) / 2, (top + bottom) / 2
        image[..., int(row), int(column) - 1 : int(column) + 1] = 1.0
        placed = (align(image, network)[0, 0] + 1).double()
        places = torch.arange(112).double()
        found = [(placed.sum(axis) * places).sum() / placed.sum() for axis in (0, 1)]
        assert abs(found[0] - x) < 0.2 and abs(found[1] - y) < 0.2
    assert "template" in describe(network, True) and "112" in describe(network, False)


def test_patches_without_a_template_are_resized_whole():
    network = build_recogniser("tiny", 32)
    halves = torch.cat([torch.full((1, 3, 64, 32), value) for value in (-0.5, 0.5)], 3)
    found = align(halves, network)
    assert found.shape == (1, 3, 32, 32) and found.mean() == pytest.approx(0, abs=1e-6)
    assert (found[..., :14] == -0.5).all() and (found[..., 18:] == 0.5).all()
    assert torch.equal(align(found, network), found)


@pytest.mark.parametrize(
    ("size", "focal", "wanted"),
    [((32, 32), 125.0, ""), ((32, 24), 125.0, "32x24 patches"), ((32, 32), 250.0, "wide")],
)
def test_other_views_than_steds_are_told(tmp_path, size, focal, wanted):
    with FacesWriter(
        tmp_path / "faces.h5", FacesAttributes("wide", size, focal, 600.0, "none", "test")
    ) as writer:
        pixels = np.zeros((1, size[1], size[0], 3), np.uint8)
        writer.add_person("a", pixels, np.zeros((1, 8), np.float32))
    assert why_not_sted_view(FacesReader(tmp_path / "faces.h5")) == wanted


def test_square_patches_of_upstreams_files_are_steds_view(tmp_path):
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        file["a/pixels"] = np.zeros((1, 32, 32, 3), np.uint8)
        file["a/labels"] = np.zeros((1, 4), np.float32)
    assert why_not_sted_view(FacesReader(tmp_path / "faces.h5")) == ""


def test_a_published_checkpoint_is_loaded_strictly(published, tmp_path):
    path, network = published
    found = load_published(path, "mobilefacenet", file_sha256(path))
    image = torch.rand(1, 3, 112, 112)
    assert torch.equal(found.embed(image), network.embed(image))
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_published(tmp_path / "none.pt", "mobilefacenet")
    with pytest.raises(ValueError, match="sha256"):
        load_published(path, "mobilefacenet", "0" * 64)
    with pytest.raises(ValueError, match="not the weights of irse50"):
        load_published(path, "irse50")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match="not a torch file"):
        load_published(tmp_path / "text.pt", "mobilefacenet")
    torch.save(network.state_dict(), tmp_path / "bare.pt")
    assert torch.equal(
        load_published(tmp_path / "bare.pt", "mobilefacenet").embed(image), network.embed(image)
    )
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt: expected a state dict of tensors, found list"):
        load_published(tmp_path / "list.pt", "mobilefacenet")
    torch.save({"a": torch.zeros(1), "step": 3}, tmp_path / "step.pt")
    with pytest.raises(ValueError, match="of tensors, found 'step' which is no tensor"):
        load_published(tmp_path / "step.pt", "mobilefacenet")


def test_a_model_folder_is_loaded(tmp_path):
    network = build_recogniser("tiny", 32)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    record = {"kind": "identity", "config": {"network": "tiny", "size_px": 32}}
    (tmp_path / "model.json").write_text(json.dumps(record))
    found = load_recogniser(tmp_path)
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.embed(image), network.embed(image)) and len(found.fingerprint) == 16
    (tmp_path / "model.json").write_text(json.dumps({**record, "kind": "estimator"}))
    with pytest.raises(ValueError, match="expected 'identity'"):
        load_recogniser(tmp_path)
    other = {**record, "config": {"network": "small", "size_px": 32}}
    (tmp_path / "model.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="model.safetensors: .* keys do not fit"):
        load_recogniser(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors: no such file"):
        load_recogniser(tmp_path)


def test_settings_ask_for_weights_where_they_are_needed():
    assert IdentitySettings().network == "small"
    with pytest.raises(ValueError, match="needs its published weights"):
        IdentitySettings(network="irse50")
    with pytest.raises(ValueError, match="trained by the workflow"):
        IdentitySettings(network="small", checkpoint="x.pt")
    assert np.isclose(IdentitySettings().margin, 0.3)
