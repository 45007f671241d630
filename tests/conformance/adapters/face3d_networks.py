"""Cases of DECA's and EMOCA's networks and landmark losses."""

from __future__ import annotations

import torch
from kit import adapter, assert_close

from regaze.face3d.detail import SCALE, DetailDecoder
from regaze.face3d.encoders import CODE, CodeEncoder, split_code
from regaze.face3d.losses import (
    eye_distance_loss,
    landmark_loss,
    landmark_weights,
    lip_distance_loss,
)
from regaze.weights import load_strictly

OUTPUT = 1e-4  # absolute, of codes; spec/face3d.md section 15
DISPLACEMENT = 1e-6


@adapter("face3d/*_encoder")
@torch.no_grad()
def encoder(manifest, state, inputs, golden):
    network = CodeEncoder(manifest["config"]["outsize"]).eval()
    load_strictly(network, state)
    images = torch.as_tensor(inputs["image"])
    assert_close(network.features(images), golden["features"], OUTPUT, name="features")
    code = network(images)
    assert_close(code, golden["parameters"], OUTPUT, name="parameters")
    if "split" in manifest["config"]:
        assert list(manifest["config"]["split"].items()) == list(CODE.items())
        parts = split_code(code)
        joined = torch.cat([parts[name].flatten(1) for name in CODE], 1)
        assert torch.equal(joined, code)


@adapter("face3d/deca_detail_decoder*")
@torch.no_grad()
def detail_decoder(manifest, state, inputs, golden):
    assert manifest["config"]["out_scale"] == SCALE
    network = DetailDecoder().eval()
    load_strictly(network, state)
    latent = torch.as_tensor(inputs["latent"])
    found = network(latent)
    assert_close(found[..., ::2, ::2], golden["map_sub2"], DISPLACEMENT, name="map_sub2")
    assert_close(found[..., 0, :], golden["map_row0"], DISPLACEMENT, name="map_row0")
    assert_close(found[..., :, 255], golden["map_col255"], DISPLACEMENT, name="map_col255")
    pose = torch.cat([torch.zeros(len(latent), 3), latent[:, :3]], 1)
    assert torch.equal(network.displacement(pose, latent[:, 3:53], latent[:, 53:]), found)


@adapter("face3d/landmark_losses*")
def landmark_losses(inputs, golden):
    found, true = torch.as_tensor(inputs["pred"]), torch.as_tensor(inputs["gt"])
    before = true.clone()
    losses = {
        "weighted_landmark": landmark_loss(found, true, landmark_weights()),
        "landmark": landmark_loss(found, true[..., :2]),
        "eye_distance": eye_distance_loss(found, true),
        "lip_distance": lip_distance_loss(found, true),
    }
    for name, value in losses.items():
        assert_close(value, golden[name], 1e-6, 1e-6, name=name)
    assert torch.equal(true, before), "the true landmarks were changed"
