"""ReDirTrans-GAN: what is frozen, what is learnt from, its files, its options."""

import pytest
import torch

from regaze.estimators.build import build_estimator
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.inversion.settings import ModelSettings as Inversion
from regaze.redirectors.redirtrans.module import Fusion, Projector
from regaze.redirectors.redirtrans_gan.settings import ModelSettings
from regaze.training.phases import Progress

TINY = {"preset": "tiny", "size_px": 32}


def settings(**changes):
    return ModelSettings(**{"class": "redirtrans_gan", "inverter": "inverter", **TINY} | changes)


def inverter(seed=3):
    torch.manual_seed(seed)
    made = build_redirector(Inversion(**{"class": "inversion", **TINY}).resolve())
    torch.nn.init.normal_(made.saved.encoder.deltas.weight, std=0.1)
    return made.eval().requires_grad_(False)


def built(seed=0, **changes):
    torch.manual_seed(seed)
    made = build_redirector(settings(**changes).resolve())
    made.attach({"inverter": inverter(), "estimator": build_estimator("vgg", "tiny", 32).eval()})
    return made


def batch(count=4):
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, 32, 32), generator=drawn) * 2 - 1
    angles = torch.rand((4, count, 2), generator=drawn) * 0.6 - 0.3
    names = ("source_gaze", "target_gaze", "source_head", "target_head")
    return {"source": images[0], "target": images[1], **dict(zip(names, angles, strict=True))}


def losses(made, data):
    return made.losses(data, "main", Progress(0, 0, torch.Generator().manual_seed(0)))


def test_only_the_edit_is_trained_and_saved():
    made = built()
    assert {name.split(".")[1] for name, _ in made.saved.named_parameters()} == {
        "projector", "deprojector"
    }  # fmt: skip
    made.frozen.inverter.requires_grad_(True)
    found = losses(made, batch())
    found["loss"].backward()
    grown = {name for name, p in made.saved.named_parameters() if p.grad is not None}
    assert grown == {name for name, _ in made.saved.named_parameters()}
    assert float(made.net.decoder.deprojector.fc1.weight.grad.abs().max()) > 0


def test_pictures_are_those_of_inversions():
    made, data = built(network={"code_of": "inversion"}).eval(), batch()
    torch.nn.init.normal_(made.net.encoder.projector.label_branch.weight)
    inversions = made.frozen.inverted(data["source"])
    with torch.no_grad():
        state = made.invert(data, seed=0)
        again = made.frozen.inverted(inversions)
        drawn = made.reconstruct(state, seed=0).clamp(-1, 1)
    # What is inverted is rounded to 8 bits, what is drawn here is not.
    torch.testing.assert_close(drawn, again, rtol=0, atol=1.01 / 255)
    assert not torch.allclose(inversions, data["source"], atol=0.1)
    with torch.no_grad():
        own = made.transfer(data["source"], data["source"])
        moved = made.transfer(data["source"], data["target"])
    torch.testing.assert_close(own, again, rtol=0, atol=1.01 / 255)
    assert not torch.allclose(own, moved, atol=1e-4)


def test_the_code_of_the_picture_draws_its_inversion():
    made, data = built(network={"code_of": "picture"}).eval(), batch()
    with torch.no_grad():
        drawn = made.reconstruct(made.invert(data, seed=0), seed=0).clamp(-1, 1)
        own = made.transfer(data["source"], data["source"])
    inversions = made.frozen.inverted(data["source"])
    torch.testing.assert_close(drawn, inversions, rtol=0, atol=1.01 / 255)
    torch.testing.assert_close(own, inversions, rtol=0, atol=1.01 / 255)
    twice = built(network={"code_of": "inversion"}).eval()
    with torch.no_grad():
        other = twice.reconstruct(twice.invert(data, seed=0), seed=0).clamp(-1, 1)
    assert not torch.allclose(drawn, other, atol=0.05)


def test_labels_are_the_estimators_or_the_data_sets():
    data = batch()
    other = {
        **data,
        "source_gaze": data["source_gaze"] + 0.5,
        "target_head": data["target_head"] - 1,
    }
    read, told = built(), built(objective={"label_source": "dataset"})
    assert torch.equal(losses(read, data)["gaze_a"], losses(read, other)["gaze_a"])
    assert not torch.equal(losses(told, data)["gaze_a"], losses(told, other)["gaze_a"])


def test_published_parts_are_loaded_whatever_else_a_file_holds(tmp_path):
    made, other, path = built(), built(seed=1), tmp_path / "40000.pt"
    torch.save({**made.reference_state(), "fusion": Fusion(24).state_dict()}, path)
    other.load_reference(other.read_reference(str(path)), other.config)
    pairs = zip(made.saved.parameters(), other.saved.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    state = {**made.reference_state(), "redirtrans_p": Projector(24).state_dict()}
    with pytest.raises(ValueError, match=r"redirtrans_p: .*pseudo.weight expected \(16, 256\)"):
        other.load_reference(state, other.config)


def test_edits_of_rows_have_weights_of_their_own():
    plain, weighted = built(), built(network={"row_weights": 8})
    assert plain.saved.state_dict().keys() < weighted.saved.state_dict().keys()
    weighted.load_reference(plain.reference_state(), weighted.config)
    # Weights of one: the same edits, added in another order.
    torch.testing.assert_close(losses(plain, batch())["loss"], losses(weighted, batch())["loss"])
    losses(weighted, batch())["loss"].backward()
    part = weighted.net.decoder.deprojector
    assert part.row_weights.shape == (8,) and part.row_weights.grad.abs().min() > 0
    with torch.no_grad():
        part.row_weights[2:] = 0
    drawn = torch.Generator().manual_seed(0)
    codes, own, moved = (torch.randn(3, size, generator=drawn) for size in (256, 96, 96))
    change = (part.edited(codes, own, moved) - codes).detach().unflatten(1, (8, 32))
    assert not change[:, 2:].any() and change[:, :2].abs().amin((0, 2)).gt(0).all()
    fitting = Inversion(**{"class": "inversion", **TINY}).resolve()
    ModelSettings.check_networks(weighted.config, {"inverter": fitting})
    with pytest.raises(
        ValueError, match="network.row_weights: expected 0 or 8, the rows.* found 4"
    ):
        other = settings(network={"row_weights": 4}).resolve()
        ModelSettings.check_networks(other, {"inverter": fitting})


def test_networks_that_it_needs():
    roles = [(one.role, one.section, one.always) for one in declared(settings()).networks]
    assert roles == [("inverter", "models", True), ("estimator", "estimators", False)]
    quiet = {"redirection_feature": 0, "redirection_gaze": 0, "label_source": "dataset"}
    assert [one.role for one in declared(settings(objective=quiet)).networks] == ["inverter"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"class": "sted"}, "inverter: expected class inversion, found 'sted'"),
        ({"size_px": 64}, "size_px: expected 64 as its inverter has, found 32"),
        (
            {"network": {"generator_px": 64, "style_dim": 32}},
            "expected 320, the 10 x 32 of its inv",
        ),
    ],
)
def test_an_inverter_that_does_not_fit(changes, told):
    config = settings().resolve()
    fitting = Inversion(**{"class": "inversion", **TINY}).resolve()
    ModelSettings.check_networks(config, {"inverter": fitting})
    with pytest.raises(ValueError, match=told):
        ModelSettings.check_networks(config, {"inverter": {**fitting, **changes}})


def test_terms_that_contradict_an_option():
    with pytest.raises(ValueError, match="objective.mixing: expected true"):
        settings(objective={"disentangle_embedding": 1}).resolve()


def test_the_published_sizes_are_those_of_the_published_inverter():
    config = settings(preset="reference", size_px=256).resolve()
    published = Inversion(**{"class": "inversion", "preset": "reference", "size_px": 256}).resolve()
    ModelSettings.check_networks(config, {"inverter": published})
    assert config["objective"]["gaze"] == 80
