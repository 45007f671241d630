"""Radiance fields as redirectors: what they learn from, fits, published files, options."""

import argparse
import pickle
import random
import sys
import types

import numpy as np
import pytest
import torch

from regaze.estimators.build import build_estimator
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared
from regaze.redirectors.gazenerf.checkpoints import read_checkpoint
from regaze.redirectors.gazenerf.objective import source_photos
from regaze.redirectors.gazenerf.rays import patch_camera
from regaze.redirectors.gazenerf.settings import LOSSES, ModelSettings
from regaze.training.phases import Progress


def settings(**changes):
    return ModelSettings(**{"class": "gazenerf", "preset": "tiny", "size_px": 32} | changes)


def built(rows=8, sampling=None, **changes):
    torch.manual_seed(0)
    made = build_redirector(settings(**changes).resolve(), sampling or {"steps": 2, "rate": 1.0})
    made.fit_rows(rows)
    return made


def batch(count=3, size=32):
    drawn = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.rand(shape, generator=drawn)

    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    head = (x**2 + y**2 < 0.7).float()
    eyes = (((x.abs() - 0.3) ** 2 + (y + 0.2) ** 2) < 0.03).float()
    masks = torch.stack([head, eyes]).expand(count, -1, -1, -1)
    made = {}
    for number, side in enumerate(("source", "target")):
        face = torch.stack([0.6 * head - 0.8 * eyes, 0.2 * head, -0.3 * head])
        made |= {
            side: (face * (0.8 + 0.2 * numbers(count, 1, 1, 1))).clamp(-1, 1),
            f"{side}_gaze": 0.4 * numbers(count, 2) - 0.2,
            f"{side}_head": 0.2 * numbers(count, 2) - 0.1,
            f"{side}_masks": masks,
            f"{side}_masks_known": torch.ones(count, dtype=torch.bool),
            f"{side}_code": numbers(count, 227) - 0.5,
            f"{side}_codes_known": torch.ones(count, dtype=torch.bool),
            f"{side}_row": torch.arange(count) + number * count,
        }
    return {**made, "pair": torch.arange(count)}


def losses(method, given=None, phase="field", images=0):
    at = Progress(0, images, torch.Generator().manual_seed(0))
    return method.losses(given or batch(), phase, at)


def test_terms_of_the_three_publications():
    data = {"background", "head", "nonhead"}
    offsets = {"turn", "shift", "identity", "expression", "appearance"}
    found = {
        variant: losses(built(variant=variant)).keys() - {"loss"}
        for variant in ("headnerf", "headnerf_gaze", "gazenerf")
    }
    assert found["headnerf"] == data | offsets
    assert found["headnerf_gaze"] == data | {"eye_region", "template", "template_eyes"}
    assert found["gazenerf"] == data | offsets | {"face", "eyes"}


def test_offsets_of_pictures_are_learnt_by_row_and_not_saved():
    method = built(objective={"codes": "source"})
    losses(method)["loss"].backward()
    learnt = method.net["learnt"]
    moved = [one.weight.grad.abs().sum(1).nonzero()[:, 0].tolist() for one in (
        learnt.heads, learnt.cameras)]  # fmt: skip
    assert moved == [[0, 1, 2], [3, 4, 5]]
    assert not [key for key in method.saved.state_dict() if "learnt" in key or "heads" in key]
    sides = [declared(settings(objective={"codes": one})).input("codes").sides for one in (
        "source", "own")]  # fmt: skip
    assert sides == [("source",), ("source", "target")]
    own = built(objective={"codes": "own"})
    losses(own)["loss"].backward()
    assert own.net["learnt"].heads.weight.grad.abs().sum(1).nonzero()[:, 0].tolist() == [3, 4, 5]


def trained(method, steps, given=None):
    """Losses of so many steps of Adam."""
    (phase,) = method.phases()
    optimiser, found = torch.optim.Adam(phase.parameters, lr=3e-3), []
    for step in range(steps):
        at = Progress(step, 8 * step, torch.Generator().manual_seed(step))
        loss = method.losses(given or batch(), "field", at)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    return found


def test_the_loss_falls_to_a_tenth_in_200_steps():
    network = {"samples": 16}
    found = trained(built(network=network, objective={"codes": "source"}), 200)
    assert np.mean(found[-5:]) < 0.1 * found[0], found[::20]


def test_rows_that_are_added_leave_the_others_as_they_are():
    """A person who is added later gets offsets of their own and moves nobody else's."""
    one, more = (built(rows) for rows in (6, 9))
    more.saved.load_state_dict(one.saved.state_dict())
    for method in (one, more):
        trained(method, 3)
    for name in ("heads", "cameras"):
        few, many = (getattr(m.net["learnt"], name).weight for m in (one, more))
        assert torch.equal(few, many[:6]) and bool(few[3:].any()) and not many[6:].any()


@pytest.mark.parametrize("variant", ["gazenerf", "headnerf_gaze"])
def test_a_fit_comes_closer_to_its_source_and_changes_no_weight(variant):
    given = batch()
    source = {name: value for name, value in given.items() if name.startswith("source")}
    asked = {f"target_{name}": source[f"source_{name}"] for name in ("gaze", "head")}
    apart, states = [], []
    for steps in (0, 20):
        method = built(sampling={"steps": steps, "rate": 10.0}, variant=variant).eval()
        before = {key: value.clone() for key, value in method.saved.state_dict().items()}
        with torch.no_grad():
            states.append(method.invert(source, seed=0))
            made = method.edit(states[-1], asked, seed=0)
        head = source["source_masks"][:, :1] >= 0.5
        wanted = torch.where(head, source["source"], torch.ones(()))
        apart.append((made - wanted).square().mean((1, 2, 3)))
        assert all(torch.equal(before[key], v) for key, v in method.saved.state_dict().items())
        assert all(one.grad is None for one in method.network.parameters())
    assert bool((apart[1] < apart[0]).all()), apart
    assert not states[0]["camera"].any() and states[1]["camera"].all()


@pytest.mark.parametrize("variant", ["gazenerf", "headnerf_gaze"])
def test_sources_that_are_fitted_together_are_fitted_as_alone(variant, monkeypatch):
    given = batch()
    source = {name: value for name, value in given.items() if name.startswith("source")}
    method = built(sampling={"steps": 8, "rate": 10.0}, variant=variant).eval()
    calls, own = [], method.field.forward
    monkeypatch.setattr(method.field, "forward", lambda *a, **k: calls.append(1) or own(*a, **k))
    with torch.no_grad():
        together = method.fit(source, seed=0)
        assert len(calls) == 8
        monkeypatch.setattr("regaze.redirectors.gazenerf.redirector._FITTED_SAMPLES", 1)
        alone = method.fit(source, seed=0)
    assert len(calls) == 8 + 3 * 8
    assert bool(together["codes"].any()) and bool(together["camera"].all())
    # Adam makes as much of a slope of rounding errors as of any other: few numbers differ.
    for name in ("codes", "camera"):
        apart = (together[name] - alone[name]).abs()
        assert float(apart.quantile(0.95)) < 1e-3 * float(alone[name].abs().max()), name


@pytest.mark.parametrize("variant", ["gazenerf", "headnerf_gaze"])
def test_weights_learn_from_each_source_and_are_the_sources_own(variant):
    given = batch()
    source = {name: value for name, value in given.items() if name.startswith("source")}
    asked = {f"target_{name}": source[f"source_{name}"] for name in ("gaze", "head")}
    sampling = {"steps": 1, "rate": 1.0, "fine_tune": 30, "fine_tune_rate": 0.003}
    method = built(sampling=sampling, variant=variant).eval().requires_grad_(False)
    before = {key: value.clone() for key, value in method.saved.state_dict().items()}
    steps = []
    with torch.no_grad():
        state = method.fit(source, seed=0, told=lambda step, _: steps.append(step))
        made = method.edit(state, asked, seed=0)
        plain = method.edit({n: v for n, v in state.items() if n != "weights"}, asked, seed=0)
    count = sum(one.numel() for one in method.field.parameters())
    assert state["weights"].shape == (3, count)
    # All are fitted side by side, then each field is tuned by itself.
    assert steps == [0, *[*range(1, 31)] * 3]
    assert all(torch.equal(before[key], v) for key, v in method.saved.state_dict().items())
    assert all(not one.requires_grad and one.grad is None for one in method.field.parameters())
    head = source["source_masks"][:, :1] >= 0.5
    wanted = torch.where(head, source["source"], torch.ones(()))
    apart = [(one - wanted).square().mean((1, 2, 3)) for one in (made, plain)]
    assert bool((apart[0] < 0.7 * apart[1]).all()), apart
    # Each by itself, whichever others are fitted and drawn with it: to half a grey level.
    alone = {name: value[1:2] for name, value in source.items()}
    with torch.no_grad():
        one = method.edit(
            method.invert(alone, seed=0), {n: v[1:2] for n, v in asked.items()}, seed=0
        )
    torch.testing.assert_close(one, made[1:2], rtol=0, atol=4e-3)
    method.sampling = {**sampling, "fine_tune": 0}
    assert "weights" not in method.invert(source, seed=0)
    less = method.bytes_per_image()
    method.sampling = sampling
    assert method.bytes_per_image() == less + 4 * count


def test_pictures_of_one_head_share_what_does_not_depend_on_the_gaze(monkeypatch):
    method = built(variant="headnerf_gaze").eval()
    prepared, own = [], method.field.prepare
    monkeypatch.setattr(method.field, "prepare", lambda *given: prepared.append(1) or own(*given))
    target = {"target_gaze": 0.3 * torch.randn(5, 2), "target_head": torch.zeros(5, 2)}
    target["target_head"][3:] += 0.1
    with torch.no_grad():
        one = {n: v[:1] for n, v in batch().items() if n.startswith("source")}
        state = method.invert(one, seed=0)
        prepared.clear()
        made = method.edit(state, target, seed=0)
    assert len(prepared) == 2 and len({float(one.sum()) for one in made}) == 5


def test_codes_are_told_in_units_of_the_spread_of_their_part_and_unknown_ones_are_the_mean():
    method, given = built(network={"spread": 0.5}), batch()
    drawn = torch.Generator().manual_seed(1)
    stored = 5 + torch.linspace(0.1, 3, 227) * torch.randn(64, 227, generator=drawn)
    stored[:, 150:200] = 7.0
    method.fit_input("codes", {"code": stored})
    told = method.saved.codes(stored, torch.ones(64, dtype=torch.bool))
    torch.testing.assert_close(told.mean(0), torch.zeros(227), rtol=0, atol=1e-4)
    # DECA's order is shape, texture, expression, light; the field's has the expression second.
    for own, there in ((slice(0, 100), slice(0, 100)), (slice(150, 200), slice(100, 150))):
        one, wanted = told[:, own].std(0, correction=0), stored[:, there].std(0, correction=0)
        assert float(one.square().mean().sqrt()) == pytest.approx(0.5, rel=1e-4)
        torch.testing.assert_close(one / one[0], wanted / wanted[0], rtol=1e-4, atol=0)
    # Numbers that never vary tell nothing.
    assert not told[:, 100:150].any()
    unknown = method.saved.codes(given["source_code"], torch.zeros(3, dtype=torch.bool))
    assert not unknown.any()


def test_without_offsets_the_field_alone_is_learnt():
    method = built(objective={"offsets": False})
    assert "learnt" not in method.net
    found = losses(method)
    assert not found.keys() & {"turn", "shift", "identity", "expression", "appearance"}
    assert len(method.phases()[0].parameters) == len(list(method.field.parameters()))


def test_doubtful_parts_of_a_mask_are_neither_head_nor_background():
    image = torch.zeros(1, 3, 4, 4)
    masks = torch.zeros(1, 2, 4, 4)
    masks[:, 0, :2] = 1.0
    doubt = torch.zeros(1, 1, 4, 4)
    doubt[..., 3, :] = 1.0
    known = torch.ones(1, dtype=torch.bool)
    given = {"source": image, "source_masks": masks, "source_masks_known": known}
    photos = source_photos(given | {"source_masks_doubt": doubt})
    assert [int(one.sum()) for one in (photos.head, photos.outside)] == [8, 4]
    assert not photos.eyes.any()
    photos = source_photos(given | {"source_masks_known": ~known})
    assert [int(one.sum()) for one in (photos.head, photos.outside)] == [16, 0]


def test_a_camera_rolls_about_the_way_it_looks():
    camera = patch_camera(torch.tensor([[0.1, -0.2]]), 8, focal=4.0, distance=600.0)
    turned = camera.rolled(torch.tensor([torch.pi / 2]))
    axes, before = turned.rotation[0].T, camera.rotation[0].T
    torch.testing.assert_close(axes, torch.stack([before[1], -before[0], before[2]]))
    assert torch.equal(turned.centre, camera.centre)
    same = camera.rolled(torch.zeros(1))
    assert torch.equal(same.rotation, camera.rotation)


def test_without_an_encoder_nothing_but_masks_is_read():
    entry = settings(encoder=None)
    own = declared(entry)
    assert [one.kind for one in own.inputs] == ["masks"] and not own.networks
    given = {k: v for k, v in batch().items() if "code" not in k}
    assert float(losses(built(encoder=None), given)["loss"]) > 0
    assert declared(settings(variant="headnerf")).factors == ("head",)
    (estimator,) = declared(settings(objective={"angular": 1e-4})).networks
    assert (estimator.role, estimator.entry, estimator.always) == ("estimator", "vgg", False)
    assert not declared(settings(objective={"perceptual": 1.0}, vgg16="vgg16.pth")).networks


def test_terms_of_networks():
    estimator = build_estimator("vgg", "tiny", 32).eval().requires_grad_(False)
    method = build_redirector(
        settings(objective={"perceptual": 1.0, "perceptual_parts": 1.0, "angular": 1e-4}).resolve()
    )
    with pytest.raises(ValueError, match=r"expected \(32, 'none'\), found \(64, 'none'\)"):
        method.attach({"estimator": build_estimator("vgg", "tiny", 64)})
    method.attach({"estimator": estimator})
    method.fit_rows(8)
    found = losses(method)
    assert all(float(found[name]) > 0 for name in ("perceptual", "perceptual_parts", "angular"))
    missing = build_redirector(settings(objective={"perceptual": 1.0}, vgg16="none.pth").resolve())
    with pytest.raises(FileNotFoundError, match="none.pth: vgg16: expected a file"):
        missing.fit_rows(8)


def test_a_discriminator_is_trained_in_a_phase_of_its_own():
    method = built(objective={"adversarial": 0.1, "adversarial_images": 100})
    judge, field = method.phases()
    assert (judge.name, judge.options) == ("adversary", {"weight_decay": 1e-4})
    losses(method, batch(1), "adversary")["loss"].backward()
    assert {id(p) for p in method.network.parameters() if p.grad is not None} == {
        id(p) for p in judge.parameters
    }
    method.network.zero_grad(set_to_none=True)
    found = losses(method, batch(1), images=5)
    plain = built()
    plain.saved.load_state_dict(method.saved.state_dict())
    total = float(losses(plain, batch(1))["loss"]) + 0.05 * float(found["adversarial"])
    assert float(found["loss"]) == pytest.approx(total, rel=1e-5)
    found["loss"].backward()
    assert not any(p.grad is not None for p in judge.parameters)
    assert not [key for key in method.saved.state_dict() if "conv" in key]


def test_a_part_of_the_map_is_learnt_from():
    method = built(variant="headnerf_gaze", objective={"crop": 6})
    found = losses(method)
    assert bool(found["loss"].isfinite()) and float(found["head"]) > 0
    whole = losses(built(variant="headnerf_gaze"))
    assert float(found["head"]) != float(whole["head"])


def of_options():
    """An object of the class that training scripts of GazeNeRF stored their options in."""
    module = types.ModuleType("configs.gazenerf_options")
    made = type("BaseOptions", (), {"__module__": module.__name__})
    module.BaseOptions = made
    sys.modules |= {"configs": types.ModuleType("configs"), module.__name__: module}
    options = made()
    options.featmap_size = 8
    return options


def files(state):
    """The three containers in which fields were published."""
    para = {"featmap_size": 8, "featmap_nc": 48, "pred_img_size": 32}
    yield "model_Reso32.pth", {"para": para, "net": state}
    yield (
        "epoch_3_0.80_20.00_0.10_ckpt.pth.tar",
        {
            **{"epoch": 3, "net": state, "optim_state": {"state": {}, "param_groups": []}},
            **{"scheule_state": {"last_epoch": 3}, "para": argparse.Namespace(**para)},
        },
    )
    yield (
        "gazenerf_4.json",
        {
            **{
                "torch_random_state": torch.get_rng_state(),
                "random_random_state": random.getstate(),
            },
            **{"numpy_random_state": np.random.get_state(), "net": state, "para": of_options()},
            **{"iden_offset": torch.zeros(4, 100), "checkpoint_epoch": 3, "checkpoint_loss": 0.5},
        },
    )


def test_published_files_are_read_and_their_objects_are_not_made(tmp_path):
    method, other = built(variant="headnerf_gaze"), built(variant="headnerf_gaze")
    for parameter in other.field.parameters():
        torch.nn.init.normal_(parameter)
    state = {f"module.{key}": v for key, v in other.field.state_dict().items()}
    try:
        for name, content in files(state):
            torch.save(content, tmp_path / name)
    finally:
        del sys.modules["configs"], sys.modules["configs.gazenerf_options"]
    for name, _ in zip(sorted(path.name for path in tmp_path.iterdir()), range(3), strict=True):
        found = method.read_reference(str(tmp_path / name))
        method.load_reference(found, method.config)
        for key, value in method.field.state_dict().items():
            assert torch.equal(value, other.field.state_dict()[key]), f"{name}: {key}"


@pytest.mark.parametrize("para", [dict, lambda **options: argparse.Namespace(**options)])
def test_a_file_of_another_size_says_which(tmp_path, para):
    path, config = tmp_path / "model_Reso64.pth", built().config
    torch.save({"net": {}, "para": para(featmap_size=64, pred_img_size=512)}, path)
    told = "model_Reso64.pth: featmap_size: expected 8, which network.side is, found 64"
    with pytest.raises(ValueError, match=told):
        read_checkpoint(path, config)
    assert read_checkpoint(path) == {}


def test_with_published_weights_heads_are_fitted_from_nothing():
    small = {"side": 8, "channels": 48, "hidden": 16, "samples": 8}
    entry = settings(preset="reference", encoder=None, checkpoint="a.json", network=small)
    given = {name: batch()[name] for name in ("source", "source_gaze", "source_head")}
    asked = {name: batch()[name] for name in ("target_gaze", "target_head")}
    method = build_redirector(entry.resolve(), {"steps": 1, "rate": 1.0}).eval()
    with torch.no_grad():
        state = method.invert(given, seed=0)
        made = method.edit(state, asked, seed=0)
    assert state["codes"].shape == (3, 306) and bool(state["codes"].any())
    assert made.shape == (3, 3, 32, 32) and bool(made.isfinite().all())


class Harm:
    def __reduce__(self):
        return (open, ("harm.txt", "w"))


def test_files_that_are_something_else_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"net": {}, "para": Harm()}, tmp_path / "harm.json")
    with pytest.raises(ValueError, match=r"harm.json: .*which is neither a tensor nor a plain"):
        read_checkpoint(tmp_path / "harm.json")
    assert not (tmp_path / "harm.txt").exists()
    torch.save({"weights": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth: expected a checkpoint with net, found \['w"):
        read_checkpoint(tmp_path / "other.pth")
    (tmp_path / "list.json").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="list.json: "):
        read_checkpoint(tmp_path / "list.json")
    with pytest.raises(FileNotFoundError, match="none.pth: expected a checkpoint with net"):
        read_checkpoint(tmp_path / "none.pth")


def test_weights_of_another_size_are_refused_by_name():
    method, other = built(), built(network={"hidden": 16})
    with pytest.raises(ValueError, match="fg_CD_predictor_face.FeaExt_module_0.weight expected"):
        method.load_reference(other.field.state_dict(), method.config)


def test_published_sizes():
    reference = {"preset": "reference", "encoder": None, "size_px": 512}
    for variant, side, channels in (("headnerf", 32, 256), ("gazenerf", 64, 258)):
        network = settings(variant=variant, **reference).resolve()["network"]
        assert (network["side"], network["channels"], network["hidden"]) == (side, channels, 384)
        assert [network[part] for part in ("shape", "expression", "texture", "light")] == [
            100, 79, 100, 27
        ]  # fmt: skip
    loaded = settings(**reference, checkpoint="gazenerf_75.json")
    assert not declared(loaded).inputs and "checkpoint" not in loaded.tiny().resolve()
    assert settings().resolve()["network"]["expression"] == 50


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size_px": 40}, "size_px: expected network.side 8 times 2, 4, 8, .* found 40"),
        ({"size_px": 8}, "size_px: expected network.side 8 times 2, 4, 8, .* found 8"),
        ({"network": {"channels": 64}}, "network.channels: .* a multiple of 3, found 64"),
        (
            {"variant": "headnerf", "objective": {"eyes": 1.0}},
            "objective.eyes: expected 0, it is a term of gazenerf, found 1.0",
        ),
        ({"objective": {"template": 1.0}}, "objective.template: expected 0, .* headnerf_gaze"),
        (
            {"variant": "headnerf", "objective": {"displaced": 1.0}},
            "objective.displaced: expected 0, headnerf is told no gaze",
        ),
        ({"objective": {"crop": 4}}, r"objective.crop: expected 0, or 5 to .* \(7\), found 4"),
        (
            {"objective": {"crop": 6, "angular": 1.0}},
            "objective.angular: expected 0 with objective.crop",
        ),
        (
            {"checkpoint": "gazenerf_75.json"},
            "checkpoint: .* preset 'reference' and encoder null, found 'tiny' and 'deca'",
        ),
    ],
)
def test_options_that_do_not_fit(changes, told):
    with pytest.raises(ValueError, match=told):
        settings(**changes).resolve()


def test_losses_are_the_variants_unless_others_are_asked_for():
    assert settings(variant="headnerf_gaze").resolve()["losses"] == "seed"
    other = settings(variant="headnerf_gaze", losses="fit", objective={"eye_region": 2.0})
    objective = other.resolve()["objective"]
    assert objective == {**LOSSES["fit"], "eye_region": 2.0}
