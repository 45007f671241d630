"""ST-ED as a redirector: phases, terms, what reaches which network, files, latent walks."""

import pytest
import torch

from regaze.estimators.build import build_estimator
from regaze.images import equalise, reduce_patches, to_uint8
from regaze.redirectors.base import Perturbable, build_redirector
from regaze.redirectors.declaration import declared, declared_by
from regaze.redirectors.sted.checkpoints import PARTS, read_checkpoint
from regaze.redirectors.sted.settings import ModelSettings
from regaze.redirectors.sted.walks import STEPS, walks
from regaze.training.phases import Progress


def settings(**changes):
    return ModelSettings(**{"class": "sted", "preset": "tiny", "size_px": 32} | changes)


def batch(count=4, size=32):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, size, size), generator=rng) * 2 - 1
    angles = torch.rand((4, count, 2), generator=rng) * 0.6 - 0.3
    return {
        "source": images[0],
        "target": images[1],
        "pair": torch.arange(count) + 10,
        "source_gaze": angles[0],
        "target_gaze": angles[1],
        "source_head": angles[2],
        "target_head": angles[3],
    }


def estimator_of(redirector):
    return declared_by(redirector.config).network("estimator")


def phases_of(redirector):
    return {phase.name: phase.parameters for phase in redirector.phases()}


def built(seed=0, **changes):
    torch.manual_seed(seed)
    redirector = build_redirector(settings(**changes).resolve())
    for parameter in redirector.net.decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    if estimator_of(redirector):
        redirector.attach({"estimator": frozen()})
    return redirector


def frozen(arch="vgg", size=32, **options):
    torch.manual_seed(3)
    return build_estimator(arch, "tiny", size, **options).eval().requires_grad_(False)


def losses(redirector, data, phase="generator", seed=0, step=0):
    at = Progress(step, 4 * step, torch.Generator().manual_seed(seed))
    return redirector.losses(data, phase, at)


def test_phases_and_their_gradients():
    redirector, data = built(), batch()
    phases = phases_of(redirector)
    assert list(phases) == ["discriminator", "generator"]
    found = losses(redirector, data, "discriminator")
    found["loss"].backward()
    assert all(p.grad is not None for p in phases["discriminator"])
    assert all(p.grad is None for p in phases["generator"])
    before = [p.grad.clone() for p in phases["discriminator"]]
    found = losses(redirector, data)
    found["loss"].backward()
    assert all(p.grad is not None for p in phases["generator"])
    assert all(torch.equal(p.grad, b) for p, b in zip(phases["discriminator"], before, strict=True))
    assert set(found) == {
        "loss", "l1", "gaze_a", "head_a", "discrim_coeff", "embedding_consistency",
        "embedding_disentangle", "label_disentangle", "redirection_feature_loss",
        "gaze_redirection", "head_redirection",
    }  # fmt: skip


def test_generator_sees_the_discriminator_after_its_step():
    redirector, data = built(objective={"discriminator_ramp_steps": 0}), batch()
    before = losses(redirector, data)["loss"]
    with torch.no_grad():
        redirector.net.discriminator.conv5.bias += 3.0
    assert losses(redirector, data)["loss"] > before + 1.0


def test_adversarial_weight_grows_with_steps():
    redirector, data = built(objective={"discriminator_ramp_steps": 4}), batch()
    found = [losses(redirector, data, step=step) for step in range(6)]
    assert [float(one["discrim_coeff"]) for one in found] == [0, 0.25, 0.5, 0.75, 1, 1]
    # It is the step that counts, not how often losses were asked for.
    assert float(losses(redirector, data, step=1)["discrim_coeff"]) == 0.25


def test_terms_of_zero_are_left_out():
    names = ("disentangle_embedding", "disentangle_pseudo_label", "discriminator")
    names += ("redirection_feature", "redirection_gaze", "embedding_consistency")
    redirector = built(objective=dict.fromkeys(names, 0.0))
    assert list(phases_of(redirector)) == ["main"] and redirector.net.discriminator is None
    assert set(losses(redirector, batch(), "main")) == {"loss", "l1", "gaze_a", "head_a"}
    assert estimator_of(redirector) is None


@pytest.mark.parametrize(
    ("off", "lost"),
    [
        ("disentangle_embedding", {"embedding_disentangle"}),
        ("disentangle_pseudo_label", {"label_disentangle"}),
        ("redirection_feature", {"redirection_feature_loss"}),
        ("redirection_gaze", {"gaze_redirection", "head_redirection"}),
    ],
)
def test_each_term_can_be_left_out_alone(off, lost):
    whole, data = built(), batch()
    some = built(objective={off: 0.0})
    some.net.load_state_dict(whole.net.state_dict())
    wanted, found = losses(whole, data), losses(some, data)
    assert set(wanted) - set(found) == lost
    for name in set(found) - {"loss"}:
        torch.testing.assert_close(found[name], wanted[name], msg=name)
    assert found["loss"] < wanted["loss"]


def test_the_estimator_may_be_asked_in_some_steps_only():
    redirector, data = built(objective={"redirection_every": 3}), batch()
    seen = {"redirection_feature_loss", "gaze_redirection", "head_redirection"}
    asked = [seen <= set(losses(redirector, data, step=step)) for step in range(5)]
    assert asked == [True, False, False, True, False]
    assert not seen & set(losses(redirector, data, step=1))


def test_without_mixing_no_mask_is_drawn():
    off = {"mixing": False, "disentangle_embedding": 0.0, "disentangle_pseudo_label": 0.0}
    redirector, generator = built(objective=off), torch.Generator().manual_seed(0)
    before = generator.get_state()
    found = redirector.losses(batch(), "generator", Progress(0, 0, generator))
    assert torch.equal(generator.get_state(), before)
    assert not {"embedding_disentangle", "label_disentangle"} & set(found)
    with pytest.raises(ValueError, match="objective.mixing: expected true"):
        built(objective={"mixing": False})


def test_loss_learns():
    names = ("disentangle_embedding", "disentangle_pseudo_label", "discriminator")
    names += ("redirection_feature", "redirection_gaze")
    redirector, data = built(objective=dict.fromkeys(names, 0.0)), batch()
    optimiser = torch.optim.Adam(redirector.network.parameters(), lr=2e-3)
    first = None
    for _ in range(40):
        optimiser.zero_grad()
        loss = losses(redirector, data, "main")["loss"]
        loss.backward()
        optimiser.step()
        first = loss.detach() if first is None else first
    assert loss.detach() < 0.8 * first


def test_a_redirection_may_keep_an_angle():
    redirector, data = built().eval(), batch()
    with torch.no_grad():
        kept = {key: data[key] for key in ("source", "target_gaze")}
        angles = redirector.encode(data["source"])[0]
        own = {"target_head": angles[:, redirector.net.factors.angles_of("head")]}
        assert torch.allclose(
            redirector.redirect(kept, seed=0), redirector.redirect(kept | own, seed=0), atol=1e-5
        )


def test_turning_back_uses_predicted_angles_not_labels():
    redirector, data = built().eval(), batch()
    other = data | {"source_gaze": data["source_gaze"] + 1, "source_head": data["source_head"] - 1}
    with torch.no_grad():
        assert torch.equal(redirector.redirect(data, seed=0), redirector.redirect(other, seed=0))


def test_targets_out_of_reach_are_limited():
    redirector, data = built().eval(), batch()
    far = data | {"target_gaze": torch.full((4, 2), 2.0)}
    most = data | {"target_gaze": torch.full((4, 2), torch.pi / 2)}
    with torch.no_grad(), pytest.warns(UserWarning, match=r"target gaze of 2\.00 rad"):
        found = redirector.redirect(far, seed=0)
    with torch.no_grad():
        assert torch.equal(found, redirector.redirect(most, seed=0))


def test_factors_that_can_be_turned():
    redirector = built(network={"num_1d_units": 1, "num_2d_units": 3})
    assert isinstance(redirector, Perturbable)
    assert redirector.angles() == {"one_1": 1, "two_1": 2, "head": 2, "gaze": 2}


def test_transfer_to_itself_is_reconstruction():
    redirector, data = built().eval(), batch()
    with torch.no_grad():
        found = redirector.transfer(data["source"], data["source"])
        decoded = redirector.decode(redirector.encode(data["source"])[1])
    assert torch.allclose(found, decoded.clamp(-1, 1), atol=1e-5)


def test_equalised_pictures_go_in():
    redirector, data = built(preprocess="none").eval(), batch()
    bright = build_redirector(
        settings(
            preprocess="equalise", objective={"redirection_feature": 0, "redirection_gaze": 0}
        ).resolve()
    ).eval()
    bright.net.load_state_dict(redirector.net.state_dict())
    wanted = reduce_patches(equalise(to_uint8(data["source"])))
    with torch.no_grad():
        found = bright.redirect(data, seed=0)
        assert torch.equal(found, redirector.redirect(data | {"source": wanted}, seed=0))


def test_estimators_that_do_not_fit():
    redirector = build_redirector(settings().resolve())
    redirector.attach({})
    with pytest.raises(ValueError, match="found none attached"):
        losses(redirector, batch())
    with pytest.raises(ValueError, match="size_px: expected 32"):
        redirector.attach({"estimator": frozen(size=64)})
    with pytest.raises(ValueError, match="preprocess: expected 'none'"):
        redirector.attach({"estimator": frozen(preprocess="equalise")})
    with pytest.raises(ValueError, match="expected arch 'vgg'"):
        redirector.attach({"estimator": frozen("resnet")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "reference"}, "works on 128 px, found 32"),
        ({"size_px": 48}, "multiple of 32, found 48"),
        ({"network": {"size_0d_unit": 100}}, "multiple of 16"),
        ({"objective": {"mixing": False}}, "disentangle_embedding is on"),
        ({"checkpoint": "a.pt"}, "need 'reference'"),
    ],
)
def test_configurations_that_contradict(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes).resolve()


def test_what_training_requires():
    assert declared(settings()).network("estimator") == "vgg"
    assert declared(settings(estimator="other")).network("estimator") == "other"
    off = {"redirection_feature": 0.0, "redirection_gaze": 0.0}
    assert declared(settings(objective=off)).network("estimator") is None
    reference = settings(preset="reference", size_px=128)
    assert declared(reference).unlabelled_targets
    assert reference.resolve()["network"]["size_0d_unit"] == 1024
    published = settings(preset="reference", size_px=128, checkpoint="1.pt")
    assert published.resolve()["checkpoint"] == "1.pt"
    assert declared(published).network("estimator") is None


def test_checkpoints_of_the_published_layout(tmp_path):
    first, second = built(seed=0), built(seed=1)
    home = tmp_path / "checkpoints"
    home.mkdir()
    published = {name: getattr(first.net, name).state_dict() for name in PARTS}
    torch.save(published, home / "000010.pt")
    torch.save({"encoder": {}}, home / "9.pt")
    content = read_checkpoint(tmp_path)
    assert sorted(content) == ["decoder", "discriminator", "encoder"]
    # Several GPUs prefix the keys.
    content["encoder"] = {f"module.{key}": value for key, value in content["encoder"].items()}
    second.load_reference(content, second.config)
    for name in ("encoder", "decoder", "discriminator"):
        own = getattr(first.net, name).state_dict()
        found = getattr(second.net, name).state_dict()
        assert all(torch.equal(found[key], own[key]) for key in own)
    del content["discriminator"]
    with pytest.raises(ValueError, match=r"part 'discriminator', found \['decoder', 'encoder'\]"):
        second.load_reference(content, second.config)
    # Who does not learn against one needs none.
    alone = built(seed=2, objective={"discriminator": 0.0})
    alone.load_reference(content, alone.config)
    own = first.net.decoder.state_dict()
    assert all(
        torch.equal(value, own[key]) for key, value in alone.net.decoder.state_dict().items()
    )
    del content["decoder"]["last.bias"]
    with pytest.raises(ValueError, match=r"checkpoint: decoder: .*missing last\.bias"):
        second.load_reference(content, second.config)


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="found none"):
        read_checkpoint(tmp_path / "absent.pt")
    with pytest.raises(FileNotFoundError, match="<step>.pt"):
        read_checkpoint(tmp_path)
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="expected the parts encoder"):
        read_checkpoint(tmp_path / "other.pt")


def test_walks_go_through_every_factor_and_back():
    redirector, data = built(network={"num_1d_units": 1}).eval(), batch(2)
    found = dict(walks(redirector, data["source"][:1], data["source"][1:]))
    assert tuple(found) == ("appearance", "one_1", "head", "gaze")
    for frames in found.values():
        assert frames.shape == (2 * STEPS, 32, 32, 3) and frames.dtype == "uint8"
        assert (frames[0] == frames[-1]).all() and (frames != frames[0]).any()
    with torch.no_grad():
        # Half way the appearance is the first picture's: (1 - 0) a + 0 b.
        state = redirector.invert({"source": data["source"][:1]}, seed=0)
        own = to_uint8(redirector.reconstruct(state, seed=0))
    nearest = abs(found["appearance"][STEPS // 2].astype(int) - own[0].astype(int)).max()
    assert nearest < 40


def test_size_of_the_published_networks():
    with torch.device("meta"):
        network = build_redirector(settings(preset="reference", size_px=128).resolve()).net
    counts = {
        name: sum(value.numel() for value in getattr(network, name).parameters())
        for name in ("encoder", "decoder", "discriminator")
    }
    assert counts == {"encoder": 17_315_052, "decoder": 21_115_584, "discriminator": 2_765_633}
