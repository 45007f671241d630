"""DiffusionRig: files, edits of codes, buffers, what stages train, options."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from regaze.capture.head import HeadConfig, build_head
from regaze.face3d.crop_rows import place_of_crops
from regaze.face3d.deca import Deca
from regaze.face3d.model import model_hash
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.diffusionrig.checkpoints import inferred, read_checkpoint
from regaze.redirectors.diffusionrig.redirector import edited
from regaze.redirectors.diffusionrig.rendering import Rendered, eye_poses, in_light, kept_codes
from regaze.redirectors.diffusionrig.settings import ModelSettings
from regaze.training.phases import Progress

NOISE = {"base": "none", "predict": "noise", "eye_weight": 0.0}
"""Options of the published objective."""


def entry(**changes):
    return ModelSettings(**{"class": "diffusionrig", "preset": "tiny", "size_px": 32} | changes)


@pytest.fixture(scope="module")
def face():
    torch.manual_seed(0)
    return Deca(build_head(HeadConfig.tiny()), "tiny").eval()


def rig(face, sampling=None, **changes):
    torch.manual_seed(0)
    options = sampling or {"steps": 2}
    config = entry(sampling=options, **changes)
    made = build_redirector(config.resolve(), config.sampling.model_dump())
    made.attach({"face": face})
    for parameter in made.network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return made.eval()


def batch(count=3):
    draw = torch.Generator().manual_seed(0)
    codes = 0.3 * torch.randn(count, 236, generator=draw)
    codes[:, 200:206] *= 0.3
    codes[:, 206:209] = torch.tensor([8.0, 0.0, 0.0])
    found = {"pair": torch.arange(count)}
    for side in ("source", "target"):
        found[side] = torch.rand(count, 3, 32, 32, generator=draw) * 2 - 1
        found |= {f"{side}_code": codes, f"{side}_row": torch.arange(count)}
        crop = torch.tensor([[112.0, 0, 112], [0, 112, 112], [0, 0, 1]])
        found[f"{side}_crop"] = crop.expand(count, 3, 3)
        for name in ("gaze", "head"):
            found[f"{side}_{name}"] = 0.3 * torch.randn(count, 2, generator=draw)
    return found


def loss(redirector, data):
    return redirector.losses(data, "main", Progress(0, 0, torch.Generator().manual_seed(0)))


def test_published_files_tell_their_network(face, tmp_path):
    published = rig(face, network={"blocks": 2, "factors": (1, 2, 2), "latent": 24})
    path = tmp_path / "model000010.pt"
    torch.save(published.reference_state(), path)
    found = read_checkpoint(path)
    assert inferred(found, published.net.config) == published.net.config
    own = rig(face)
    config = own.reference_config(found, own.config)
    assert config["network"] | {"factors": [1, 2, 2]} == {
        **own.config["network"], "blocks": 2, "latent": 24, "factors": [1, 2, 2],
        "attention_px": [16],
    }  # fmt: skip
    loaded = build_redirector(config, {**own.sampling})
    loaded.load_reference(found, config)
    for one, other in zip(loaded.net.parameters(), published.net.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("key", "told"),
    [("encoder.fc.weight", "missing encoder.fc.weight"),
     ("denoisingUNet.output_blocks.1.0.in_layers.0.weight", "missing denoisingUNet.output")],
)  # fmt: skip
def test_files_that_lack_a_weight_are_refused(face, key, told):
    own = rig(face)
    state = {name: value for name, value in own.reference_state().items() if name != key}
    with pytest.raises(ValueError, match=told):
        own.load_reference(state, own.reference_config(state, own.config))


def test_weights_of_another_size_are_told_what_they_are_of(face):
    with pytest.raises(ValueError, match="they are of .*latent=24"):
        rig(face).load_start(rig(face, network={"latent": 24}).reference_state())


def test_weights_without_a_gaze_buffer_begin_where_they_were(face):
    published = {"network": {"unshuffle": 1}, "objective": NOISE}
    plain, data = rig(face, **published), batch()
    gaze = {"variant": "gaze", "objective": {"code_of": "own", **NOISE}}
    wide = rig(face, **{**published, **gaze})
    wide.load_start(plain.saved.state_dict())
    told = {"x": torch.randn(2, 3, 32, 32), "t": torch.tensor([3, 900]), "z": torch.randn(2, 16)}
    buffers = torch.randn(2, 12, 32, 32)
    with torch.no_grad():
        own = plain.net(told["x"], told["t"], buffers[:, :9], told["z"])
        torch.testing.assert_close(wide.net(told["x"], told["t"], buffers, told["z"]), own)
    assert loss(wide, data)["loss"].detach() > 0


def test_losses_are_computed_in_bfloat16_too(face):
    made, data = rig(face, variant="gaze"), batch()
    with torch.autocast("cpu", torch.bfloat16):
        low = loss(made, data)["loss"].detach()
    torch.testing.assert_close(low, loss(made, data)["loss"].detach(), rtol=0.1, atol=0)


def test_an_untrained_network_has_the_published_first_loss():
    # Its output is zero: what is left is the mean of 1 - abar, with weights, and 1 without.
    for gamma, wanted in ((1.0, 0.7245), (0.0, 1.0)):
        chain = build_redirector(entry(objective={"p2_gamma": gamma}).resolve())
        assert np.mean(chain.weights) == pytest.approx(wanted, abs=1e-4)


def test_edits_replace_what_is_told_and_nothing_else():
    own, count = kept_codes(batch()["source_code"]), 3
    head = torch.zeros(count, 2)
    same = edited(own, head, {"target_head": head})
    for name, value in own.items():
        torch.testing.assert_close(same[name], value, atol=1e-5, rtol=0)
    light = torch.full((count, 27), 2.0)
    light[1] = torch.nan
    told = {"target_head": head, "target_light": light, "target_jaw": torch.ones(count, 3)}
    found = edited(own, head, told)
    assert torch.equal(found["light"][0], light[0])
    assert torch.equal(found["light"][1], own["light"][1])
    assert torch.equal(found["pose"][:, 3:], torch.ones(count, 3))
    turned = edited(own, head, {"target_head": head + 0.2})
    assert (turned["pose"][:, :3] - own["pose"][:, :3]).abs().amax() > 0.1
    assert torch.equal(turned["exp"], own["exp"])


def test_eyes_turn_by_60_degrees_at_most():
    poses = eye_poses(torch.tensor([[0.0, 1.5], [0.1, 0.2]]), torch.zeros(2, 3)).unflatten(
        1, (2, 3)
    )
    angles = poses.norm(dim=-1)
    assert float(angles[0].max()) == pytest.approx(np.deg2rad(60), abs=1e-5)
    assert 0.1 < float(angles[1].max()) < 0.3


def test_gaze_buffers_are_where_eyes_are_and_say_where_they_look(face):
    data = batch()
    codes, crop = kept_codes(data["source_code"]), data["source_crop"]
    known, gaze = torch.tensor([True, True, False]), torch.zeros(3, 2)
    made = Rendered(face, 32, True).edited(codes, codes, crop, known, gaze).buffers
    assert not made[2].any() and made[0, :9].any()
    eyes = made[0, 9:].any(0)
    assert 0 < int(eyes.sum()) < 100
    # Into the camera: towards the viewer.
    torch.testing.assert_close(
        made[0, 9:, eyes], torch.tensor([[0.0], [0], [1]]).expand(3, int(eyes.sum()))
    )


def test_buffers_of_rows_are_rendered_once(face):
    data, kept = batch(), Rendered(face, 32, False, cache_mb=1)
    given = kept_codes(data["target_code"]), data["target_crop"], torch.ones(3, dtype=torch.bool)
    given = (*given, data["target_gaze"])
    first = kept.of_rows(data["target_row"], *given)
    # Bit by bit what each is alone, so that a resumed training sees the same.
    rows, *others = data["target_row"], *given
    other = Rendered(face, 32, False)
    last = [
        {k: v[2:] for k, v in one.items()} if isinstance(one, dict) else one[2:] for one in others
    ]
    second = other.of_rows(rows[2:], *last)
    assert all(torch.equal(a, b[2:]) for a, b in zip(second.parts(), first.parts(), strict=True))
    kept.edited = None
    again = kept.of_rows(data["target_row"], *given)
    assert all(torch.equal(a, b) for a, b in zip(again.parts(), first.parts(), strict=True))


@pytest.mark.parametrize(
    "sampling",
    [{"sampler": "ddpm"}, {"sampler": "heun"}, {"sampler": "dpmpp_2m"}, {"eta": 1.0},
     {"start": "inverted"}, {"respacing": "2,1"}],
)  # fmt: skip
def test_samplers_depend_on_pair_and_seed_alone(face, sampling):
    made, data = rig(face, {"steps": 2, **sampling}), batch(2)
    with torch.no_grad():
        whole = made.redirect(data, seed=1)
        one = made.redirect({name: value[1:] for name, value in data.items()}, seed=1)
    torch.testing.assert_close(one, whole[1:], atol=1e-4, rtol=0)
    assert made.evaluations_per_image() >= 2


def test_the_second_stage_trains_no_encoder_and_has_the_mean_shape(face):
    options = {"stage": 2, "mean_shape": True, "train": {"transfer": "stage1"}}
    made, data = rig(face, network={"encoder": "resnet18"}, **options), batch()
    made.load_start(rig(face, network={"encoder": "resnet18"}).saved.state_dict())
    made.fit_input("codes", {"code": data["source_code"]})
    torch.testing.assert_close(made.net.mean_shape, data["source_code"][:, :100].mean(0))
    made.network.train()
    before = {key: value.clone() for key, value in made.net.encoder.state_dict().items()}
    loss(made, data)["loss"].backward()
    for key, value in made.net.encoder.state_dict().items():
        assert torch.equal(value, before[key]), key
    (phase,) = made.phases()
    trained = set(phase.parameters)
    assert not trained & set(made.net.encoder.parameters())
    assert trained == set(made.net.denoisingUNet.parameters())


def test_what_variants_edit():
    assert "gaze" not in declared(entry()).factors
    assert declared(entry(variant="gaze")).factors == ("gaze", "head", "expression", "jaw", "light")
    assert entry(variant="gaze").resolve()["objective"]["code_of"] == "other"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stage": 2}, "train.transfer: expected the weights of stage 1"),
        ({"network": {"learned_range": True}}, "learned_range: expected false without checkpoint"),
        ({"network": {"factors": (1.5,)}}, "network.factors: 1.5 x 32 = 48 channels"),
        ({"network": {"attention_px": (5,)}}, "network.attention_px: expected sides that divide"),
        ({"preset": "reference"}, "network.factors: none are published for size_px 32"),
        ({"size_px": 33}, "size_px: expected a multiple of 4"),
        ({"objective": {"base": "none"}}, "objective.predict: residual, but objective.base"),
        ({"sampling": {"kept": (5, 1000), "steps": 2}}, "sampling.kept: expected steps below 1000"),
        ({"checkpoint": "a.pt", "mean_shape": True}, "mean_shape: expected false with checkpoint"),
        ({"head_sha256": "0" * 64}, "head_sha256: is for a checkpoint"),
    ],
)
def test_options_that_contradict_each_other(changes, told):
    with pytest.raises(ValueError, match=told):
        entry(**changes).resolve()


def test_published_weights_want_the_head_model_that_they_belong_to(face):
    def attach(**stated):
        config = entry(checkpoint="model050000.pt", **stated).resolve()
        build_redirector(config, {"steps": 2}).attach({"face": face})

    with pytest.raises(ValueError, match=r"model050000\.pt: expected FLAME 2020 .* procedural"):
        attach()
    with pytest.raises(ValueError, match=f"head_sha256: the weights belong to {'0' * 64}"):
        attach(head_sha256="0" * 64)
    attach(head_sha256=model_hash(face.head))


def test_noise_of_steps_is_ddims():
    with pytest.raises(ValidationError, match="eta: is of sampler ddim"):
        entry(sampling={"eta": 0.5, "sampler": "heun"})


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        ({"kept": (300, 300), "steps": 2}, "kept: expected numbers of steps, rising, found"),
        ({"kept": (300, 900)}, r"kept: expected 20 numbers \(steps\) and no respacing, found 2"),
        ({"kept": (3, 9), "steps": 2, "respacing": "2"}, "and no respacing"),
    ],
)
def test_kept_steps_rise_and_are_as_many_as_steps(sampling, told):
    with pytest.raises(ValidationError, match=told):
        entry(sampling=sampling)


def test_other_numbers_of_steps_are_spaced_evenly(face):
    kept = {"kept": (300, 900), "steps": 2}
    made = rig(face, kept)
    assert made.sampler.chain.steps.tolist() == [300, 900]
    made.sampling = {**made.sampling, "steps": 4}
    assert made.sampler.chain.steps.tolist() == [0, 250, 500, 750]


def test_the_base_is_the_source_where_nothing_is_edited(face):
    made, data = rig(face, variant="gaze"), batch(2)
    data["source"] = smooth(data["source"])
    state = made.invert(data, seed=0)
    same = {"target_head": data["source_head"], "target_gaze": data["source_gaze"]}
    base = made.predicts.base(made._edited_buffers(state, same))
    torch.testing.assert_close(base, data["source"], atol=0.03, rtol=0)
    # An untrained network adds nothing to it.
    torch.nn.init.zeros_(made.net.denoisingUNet.out[2].weight)
    torch.nn.init.zeros_(made.net.denoisingUNet.out[2].bias)
    torch.testing.assert_close(made.edit(state, {**data, **same}, seed=0), base)
    # With no face nothing is known of where to carry it.
    lost = {**state, "known": torch.tensor([True, False])}
    turned = {**same, "target_head": data["source_head"] + 0.3}
    moved = made.predicts.base(made._edited_buffers(lost, turned))
    assert (moved[0] - data["source"][0]).abs().mean() > 0.02
    torch.testing.assert_close(moved[1], data["source"][1], atol=1e-5, rtol=0)


def test_the_base_is_carried_to_where_the_mesh_goes_and_lit(face):
    made, data = rig(face), batch(1)
    codes, crop, known = kept_codes(data["source_code"]), data["source_crop"], torch.ones(1).bool()
    codes["light"] = torch.zeros(1, 27).unflatten(1, (9, 3))
    codes["light"][:, 0] = 3.0
    before = made.face.edited(codes, None, crop, known, data["source_gaze"])
    moved = {**codes, "cam": codes["cam"] + torch.tensor([0.0, 0.05, 0.0])}
    after = made.face.edited(moved, None, crop, known, data["source_gaze"])
    ramp = torch.linspace(-0.5, 0.5, 32).expand(1, 3, 32, 32)
    base = made.face.base(ramp, before, after)
    seen = (before.faces[0] >= 0) & (after.faces[0] >= 0)
    step = (base - ramp)[0, 0][seen]
    # 0.05 x scale 8 is 0.4 of a half side of the crop, which is the picture.
    assert float(step.median()) == pytest.approx(-0.2, abs=0.03)
    bright = in_light(before, 2 * codes["light"].flatten(1))
    lit = made.face.base(torch.full((1, 3, 32, 32), -0.5), before, bright)
    there = (before.faces[0] >= 0) & (before.buffers[0, :3] > 0.1).all(0)
    assert there.any() and float(lit[0, :, there].mean()) > -0.2
    torch.testing.assert_close(in_light(before, codes["light"].flatten(1)).buffers, before.buffers)


def smooth(pictures):
    return torch.nn.functional.avg_pool2d(pictures, 9, 1, 4, count_include_pad=False)


def test_crops_lie_where_landmarks_are():
    rng = np.random.default_rng(0)
    marks = rng.uniform(30, 90, (2, 68, 2))
    marks[1] = np.nan
    places, known = place_of_crops(marks, (128, 128))
    assert known.tolist() == [True, False]
    # The middle of the landmarks, as a place of the picture, is about that of the crop.
    low, high = marks[0].min(0), marks[0].max(0)
    middle = torch.tensor([*((low + high + 1) / 128 - 1), 1.0]).float()
    assert (places[0] @ middle)[:2].sub(112).abs().max() < 16
