"""Inversions: phases, terms, rows of codes, published files, options."""

import pytest
import torch

from regaze.estimators.build import build_estimator
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.inversion.redirector import CompactEncoder
from regaze.redirectors.inversion.settings import ModelSettings, rows_of
from regaze.training.phases import Progress


def settings(**changes):
    return ModelSettings(**{"class": "inversion", "preset": "tiny", "size_px": 32} | changes)


def built(seed=0, **changes):
    torch.manual_seed(seed)
    return build_redirector(settings(**changes).resolve())


def batch(count=4, size=32):
    drawn = torch.Generator().manual_seed(0)
    return {"source": torch.rand((count, 3, size, size), generator=drawn) * 2 - 1}


def losses(inversion, phase, images=0, **changes):
    at = Progress(0, images, torch.Generator().manual_seed(0))
    return inversion.losses({**batch(), **changes}, phase, at)


def test_phases_and_what_each_reaches():
    inversion = built(objective={"path": 2.0})
    found = {phase.name: phase for phase in inversion.phases()}
    assert {name: phase.every for name, phase in found.items()} == {
        "discriminator": 1, "r1": 16, "generator": 1, "path": 4, "codes": 1, "encoder": 1
    }  # fmt: skip
    for name, phase in found.items():
        inversion.network.zero_grad(set_to_none=True)
        losses(inversion, name)["loss"].backward()
        own = {id(one) for one in phase.parameters}
        moved = {id(p) for p in inversion.network.parameters() if p.grad is not None}
        # The way to a code or a picture passes through networks that others train.
        assert moved & own, name
        if name in ("discriminator", "r1", "generator", "codes"):
            assert moved <= own, name
    judge = {id(p) for p in inversion.net["discriminator"].parameters()}
    losses(inversion, "generator")["loss"].backward()
    inversion.network.zero_grad(set_to_none=True)
    losses(inversion, "encoder")["loss"].backward()
    assert not any(p.grad is not None for p in inversion.network.parameters() if id(p) in judge)


def test_the_adversary_may_step_less_often():
    inversion = built(objective={"path": 2.0, "adversarial_every": 4})
    assert {phase.name: phase.every for phase in inversion.phases()} == {
        "discriminator": 4, "r1": 64, "generator": 4, "path": 16, "codes": 1, "encoder": 1
    }  # fmt: skip


def test_the_generator_learns_from_inversions_at_its_own_rate():
    inversion = built(objective={"joint": True, "joint_rate": 4.0})
    *_, encoder = inversion.phases()
    shares = {id(p): group["share"] for group in encoder.groups() for p in group["params"]}
    assert {shares[id(p)] for p in inversion.saved.decoder.parameters()} == {4.0}
    assert {shares[id(p)] for p in inversion.saved.encoder.parameters()} == {1.0}
    assert len(shares) == len(list(encoder.parameters))


def test_a_generator_apart_is_not_moved_by_inversions_nor_before_its_turn():
    inversion = built(objective={"joint": False, "encoder_after": 40})
    found = {phase.name: phase for phase in inversion.phases()}
    assert found["encoder"].after == found["codes"].after == 40
    decoder = {id(p) for p in inversion.saved.decoder.parameters()}
    assert not decoder & {id(p) for p in found["encoder"].parameters}
    assert decoder == {id(p) for p in found["generator"].parameters}


def test_the_average_code_follows_the_mapping():
    inversion = built()
    assert not inversion.saved.latent_avg.any()
    losses(inversion, "generator")
    first = inversion.saved.latent_avg.clone()
    assert torch.equal(first[0], first[-1])
    assert first.any()
    z = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        styles = inversion.saved.decoder.mapping(z)
    torch.testing.assert_close(first[0], 0.01 * styles.mean(0))


def test_rows_differ_one_after_the_other():
    encoder = CompactEncoder(5, 8, 32, 16, 16)
    images = batch()["source"]
    torch.nn.init.normal_(encoder.deltas.weight)
    whole, first, third = (encoder(images, stage) for stage in (None, 0, 3))
    assert torch.equal(first, first[:, :1].expand_as(first))
    torch.testing.assert_close(third[:, :4], whole[:, :4])
    assert torch.equal(third[:, 4], third[:, 0])
    inversion = built(objective={"row_images": 100})
    torch.nn.init.normal_(inversion.saved.encoder.deltas.weight)
    assert float(losses(inversion, "encoder", images=0)["delta"]) == 0
    assert float(losses(inversion, "encoder", images=250)["delta"]) > 0


def test_a_target_changes_nothing_but_how_many_there_are():
    inversion = built().eval()
    with torch.no_grad():
        state = inversion.invert(batch(1), seed=0)
        made = inversion.edit(
            state, {"pair": torch.arange(3), "target_gaze": torch.rand(3, 2)}, seed=0
        )
    assert made.shape == (3, 3, 32, 32)
    assert torch.equal(made[0], made[2])


def test_features_need_an_estimator_of_the_same_pictures():
    inversion = built(objective={"features": 1.0})
    with pytest.raises(ValueError, match="objective.features: expected a trained estimator"):
        losses(inversion, "encoder")
    with pytest.raises(ValueError, match=r"expected \(32, 'none', 'vgg'\), found \(64, 'none'"):
        inversion.attach({"estimator": build_estimator("vgg", "tiny", 64)})
    inversion.attach({"estimator": build_estimator("vgg", "tiny", 32)})
    assert float(losses(inversion, "encoder")["features"]) > 0
    assert [one.entry for one in declared(settings(objective={"features": 1.0})).networks] == [
        "vgg"
    ]


def test_readings_are_compared_of_faces_and_their_inversions():
    inversion = built(objective={"readings": 0.5})
    with pytest.raises(ValueError, match="objective.readings: expected a trained estimator"):
        losses(inversion, "encoder")
    torch.manual_seed(3)
    estimator = build_estimator("vgg", "tiny", 32).eval().requires_grad_(False)
    inversion.attach({"estimator": estimator})
    found, without = (losses(one, "encoder") for one in (inversion, built()))
    assert 0 < float(found["readings"]) < 180
    difference = float((found["loss"] - without["loss"]).detach())
    assert difference == pytest.approx(0.5 * float(found["readings"]), rel=1e-3)
    assert [one.entry for one in declared(settings(objective={"readings": 0.5})).networks] == [
        "vgg"
    ]


def test_the_encoder_sees_what_the_trunk_of_an_estimator_sees():
    inversion = built(network={"trunk": "tiny"})
    torch.manual_seed(3)
    estimator = build_estimator("vgg", "tiny", 32).eval()
    for name, one in estimator.named_buffers():
        if name.endswith("running_mean"):
            one.normal_()
    inversion.attach({"estimator": estimator})
    encoder, faces = inversion.saved.encoder.train(), batch()["source"]
    seen, wanted = encoder.trunk.state_dict(), estimator.state_dict()
    losses(inversion, "encoder")["loss"].backward()
    assert seen.keys() == wanted.keys()
    assert all(torch.equal(seen[name], wanted[name]) for name in wanted)
    trained = {id(p) for phase in inversion.phases() for p in phase.parameters}
    assert not trained & {id(p) for p in encoder.trunk.parameters()}
    assert all(p.grad is None for p in encoder.trunk.parameters())
    # Weights go with the model: nobody who uses it needs the estimator.
    other = built(seed=1, network={"trunk": "tiny"})
    other.saved.load_state_dict(inversion.saved.state_dict())
    other.network.eval(), inversion.network.eval()
    assert torch.equal(other.code(faces), inversion.code(faces))
    with torch.no_grad():
        encoder.trunk.FC1.weight.zero_()
    assert not torch.allclose(other.code(faces), inversion.code(faces))


def test_the_trunk_is_of_the_estimators_preset():
    inversion = built(network={"trunk": "small"})
    with pytest.raises(ValueError, match="preset: expected 'small' as network.trunk, found 'tiny'"):
        inversion.attach({"estimator": build_estimator("vgg", "tiny", 32)})
    assert [one.entry for one in declared(settings(network={"trunk": "tiny"})).networks] == ["vgg"]


def test_a_file_of_its_layout_is_loaded_and_another_size_refused(tmp_path):
    trained, other = built(), built(seed=1)
    state = trained.saved.state_dict()
    path = tmp_path / "e4e.pt"
    torch.save({"state_dict": {k: v for k, v in state.items() if k != "latent_avg"}}, path)
    with pytest.raises(ValueError, match="e4e.pt: latent_avg: expected the average code"):
        other.read_reference(str(path))
    other.load_reference(state, other.config)
    with torch.no_grad():
        first, second = (one.saved.invert(batch()["source"]) for one in (trained, other))
    assert torch.equal(first, second)
    larger = built(network={"generator_px": 64})
    with pytest.raises(ValueError, match="style_count of 10, .* 64 px, found 8, of 32 px"):
        larger.load_reference(state, larger.config)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"preset": "reference", "size_px": 64},
            "encoder 'e4e' needs 256 and 512, found 64 and 512",
        ),
        (
            {"preset": "reference", "size_px": 256, "network": {"trunk": "small"}},
            "network.trunk: expected 'none' of network.encoder 'e4e'",
        ),
        ({"size_px": 48}, "encoder 'compact' needs a multiple of 32, found 48"),
        ({"network": {"generator_px": 48}}, "generator_px: expected a power of two .* found 48"),
        ({"network": {"generator_px": 16}}, "generator_px: expected a power of two .* found 16"),
        ({"objective": {"encoder_after": 8}}, "encoder_after: expected 0 while objective.joint"),
        ({"checkpoint": "e4e.pt"}, "preset: published weights need 'reference', found 'tiny'"),
    ],
)
def test_options_that_do_not_fit(changes, told):
    with pytest.raises(ValueError, match=told):
        settings(**changes).resolve()


def test_it_edits_nothing_and_says_what_codes_it_has():
    assert declared(settings()).factors == ()
    assert rows_of(settings().resolve()) == (8, 32)
    published = settings(preset="reference", size_px=256, checkpoint="e4e.pt")
    assert rows_of(published.resolve()) == (18, 512)
    assert not declared(published).networks
