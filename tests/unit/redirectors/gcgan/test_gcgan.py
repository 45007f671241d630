"""GC-GAN: stages, what they train, published files, places of eye regions, samples."""

import argparse

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from regaze.estimators.settings import EstimatorSettings
from regaze.faces import FacesReader
from regaze.images import to_uint8
from regaze.masks.painting import (
    band,
    eye_region,
    painted,
    parts_of_landmarks,
    parts_of_mesh,
    place_of,
    shown_box,
)
from regaze.redirectors.base import build_redirector
from regaze.redirectors.bench import _LANDMARKS, Bench
from regaze.redirectors.checks import CHECKS, NotApplicable
from regaze.redirectors.declaration import declared
from regaze.redirectors.gcgan.encoder import Encoder, divergence
from regaze.redirectors.gcgan.generator import SemanticGenerator
from regaze.redirectors.gcgan.layout import Layout
from regaze.redirectors.gcgan.objective import one_hot, repeated
from regaze.redirectors.gcgan.places import cut, feathered, pasted, usual_place
from regaze.redirectors.gcgan.sampling import Draws, drawn_codes, interpolation, write_samples
from regaze.redirectors.gcgan.settings import ModelSettings
from regaze.training.phases import Progress

VGG = {"vgg": EstimatorSettings(arch="vgg", persons="train-redirector", preprocess="none")}
PUBLISHED = {"reconstruction": 0.0, "path": 0.5, "r1_every": 16}
SECOND = {
    "stage": 2,
    "train": {"transfer": "results/models/gcgan"},
    "objective": {**PUBLISHED, "mixing": 0.5},
}


def settings(**changes):
    return ModelSettings(**{"class": "gcgan"} | changes)


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    folder, models = tmp_path_factory.mktemp("gcgan"), {}
    models = {"first": settings(objective=PUBLISHED), "second": settings(**SECOND)}
    models["coded"] = settings(crop="eyes")
    return {name: Bench(name, models, VGG, folder) for name in models}


LONG = ("reloading", "resuming")


@pytest.mark.parametrize(
    "check", [pytest.param(one, marks=[pytest.mark.whole] * (one in LONG)) for one in CHECKS]
)
def test_the_second_stage_keeps_the_contract(benches, check):
    try:
        CHECKS[check](benches["second"])
    except NotApplicable as reason:
        pytest.skip(str(reason))


def moved_by(redirector, batch, phase):
    redirector.network.zero_grad(set_to_none=True)
    at = Progress(0, 0, torch.Generator().manual_seed(0))
    found = redirector.losses(batch, phase, at)
    found["loss"].backward()
    names = {
        name
        for name, one in redirector.network.named_parameters()
        if one.grad is not None and one.grad.abs().sum() > 0
    }
    return names, found


def test_lazy_steps_share_the_optimiser_of_what_they_train(benches):
    for name in ("first", "second"):
        redirector, batch = benches[name].built(), benches[name].batch()
        phases = {phase.name: phase for phase in redirector.phases()}
        assert {key: (one.every, one.shares) for key, one in phases.items()} == {
            "discriminator": (1, ""), "r1": (16, "discriminator"),
            "generator": (1, ""), "path": (4, "generator"),
        }  # fmt: skip
        assert phases["r1"].parameters == phases["discriminator"].parameters
        for key, phase in phases.items():
            names, _ = moved_by(redirector, batch, key)
            judged = key in ("discriminator", "r1")
            assert names and all(one.startswith("judge.") == judged for one in names), (name, key)
            assert len(phase.parameters)


def test_the_second_stage_leaves_classes_and_coarse_levels_and_keeps_masks(benches):
    bench = benches["second"]
    unlimited = {**bench.config["objective"], "broken_share": 1.0}
    redirector, batch = bench.built(objective=unlimited), bench.batch()
    names, found = moved_by(redirector, batch, "generator")
    begun = ("pos_embed", "style", "render_net")
    assert {name.split(".")[2] for name in names} == set(begun)
    coarse = [name for name in names if "render_net.convs." in name]
    assert coarse and all(int(name.split(".")[4]) > 3 for name in coarse)
    # At its start it is the frozen copy; other noise alone tells them apart.
    with torch.no_grad():
        redirector.generator.render_net.to_segs[-1].bias += 1
    _, later = moved_by(redirector, batch, "generator")
    assert later["kept_mask"] > found["kept_mask"] + 0.5


def test_frozen_masks_are_those_of_the_weights_that_are_begun_at(benches):
    first, second = benches["first"].built(seed=3), benches["second"].built(seed=4)
    for state in (first.saved.state_dict(), first.network.state_dict()):
        second.load_start(state)
        kept = second._frozen[0].state_dict()
        for key, value in first.generator.state_dict().items():
            assert torch.equal(kept[key], value)


@pytest.mark.parametrize("lazy", ["r1_img", "path"])
def test_terms_that_are_left_out_leave_an_optimiser_that_can_be_built(benches, lazy):
    off = {"path": 0.0} if lazy == "path" else {"r1_img": 0.0, "r1_seg": 0.0}
    redirector = benches["first"].built(objective={**benches["first"].config["objective"], **off})
    phases = redirector.phases()
    assert len(phases) == 3
    for phase in phases:
        torch.optim.Adam(phase.parameters, phase.options["lr"], phase.options["betas"])
    rate = redirector.config["train"]["lr"]
    owner = phases[-1] if lazy == "path" else phases[0]
    assert owner.options["lr"] == rate and owner.options["betas"] == (0.0, 0.99)


# With an encoder.


def test_an_encoder_and_the_generator_learn_from_pictures_without_the_discriminator(benches):
    redirector, batch = benches["coded"].built(), benches["coded"].batch()
    phases = {phase.name: phase for phase in redirector.phases()}
    assert {key: (one.every, one.shares) for key, one in phases.items()} == {
        "discriminator": (8, ""), "r1": (32, "discriminator"), "generator": (1, ""),
    }  # fmt: skip
    found = {}
    for step in (0, 1):
        redirector.network.zero_grad(set_to_none=True)
        at = Progress(step, 0, torch.Generator().manual_seed(0))
        found[step] = redirector.losses(batch, "generator", at)
        found[step]["loss"].backward()
        names = {n for n, one in redirector.network.named_parameters() if one.grad is not None}
        parts = {".".join(name.split(".")[:2]) for name in names}
        assert parts == {"model.generator", "model.encoder"}
    assert "generator" in found[0] and "generator" not in found[1]
    weights = redirector.objective
    wanted = weights["reconstruction"] * found[1]["repeated"] + weights["prior"] * found[1]["nats"]
    assert float(found[1]["loss"].detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_targets_of_the_same_head_are_drawn_of_the_code_of_the_source(benches):
    redirector, batch = benches["coded"].built(), dict(benches["coded"].batch())

    def cost(**changes):
        at = Progress(1, 0, torch.Generator().manual_seed(0))
        return float(redirector.losses({**batch, **changes}, "generator", at)["repeated"])

    same = {"target_head": batch["source_head"]}
    known = batch["target_eye_regions_known"]
    assert known.all()
    turned = {"target_head": batch["source_head"] + 0.2}
    dark = {"target": torch.full_like(batch["target"], -1)}
    assert cost(**turned) == cost(**turned, **dark)
    assert cost(**same) != cost(**same, **dark)
    unknown = {"target_eye_regions_known": torch.zeros_like(known)}
    assert cost(**same, **unknown) == cost(**turned)


def test_classes_that_are_wrong_cost_more_where_they_are_eyes():
    images, labels = torch.zeros(1, 3, 16, 16), torch.ones(1, 16, 16)
    labels[:, 4:8, 4:8] = 5
    masks = one_hot(labels, 6)
    coarse = torch.nn.functional.adaptive_avg_pool2d(masks, 8)
    exact = float(repeated(images, masks, coarse, images, masks))
    wrong = {name: images.clone() for name in ("iris", "skin")}
    wrong["iris"][:, :, 4:8, 4:8] = 1
    wrong["skin"][:, :, 8:12, 4:8] = 1
    costs = {key: float(repeated(one, masks, coarse, images, masks)) for key, one in wrong.items()}
    assert exact == pytest.approx(0, abs=1e-6)
    assert costs["iris"] == pytest.approx(6 * costs["skin"], rel=1e-5)
    blind = torch.zeros_like(coarse) + 2 / 6 - 1
    assert float(repeated(images, masks, blind, images, masks)) > 0.2


def test_codes_of_an_encoder_are_as_far_from_noise_as_their_distributions():
    mean, spread = torch.tensor([[0.5, -1.0], [0.0, 2.0]]), torch.tensor([[0.0, -1.0], [0.3, 0.0]])
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, (spread / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, spread), wanted.sum(1).mean())


def test_a_model_with_an_encoder_is_a_start_of_the_second_stage(benches):
    first, second = benches["coded"].built(seed=3), benches["second"].built(seed=4)
    second.load_start(first.saved.state_dict())
    assert torch.equal(second.generator.pos_embed.weights, first.generator.pos_embed.weights)
    # One that keeps the encoder does not train it, and refuses a first stage without.
    on = {**benches["second"].config["objective"], "reconstruction": 10.0}
    kept = benches["second"].built(objective=on)
    kept.load_start(first.saved.state_dict())
    assert torch.equal(kept.saved["encoder"].head.weight, first.saved["encoder"].head.weight)
    learnt = {id(one) for phase in kept.phases() for one in phase.parameters}
    assert not any(id(one) in learnt for one in kept.saved["encoder"].parameters())
    with pytest.raises(ValueError, match="encoder.head.weight"):
        kept.load_start(benches["first"].built(seed=6).saved.state_dict())
    other = benches["coded"].built(seed=5)
    other.load_start(benches["first"].built(seed=6).saved.state_dict())


# Published files are of a generator alone.
@pytest.mark.parametrize("check", [one for one in CHECKS if one not in (*LONG, "published")])
def test_a_model_with_an_encoder_keeps_the_contract(benches, check):
    try:
        CHECKS[check](benches["coded"])
    except NotApplicable as reason:
        pytest.skip(str(reason))


class EyesOfBatch(torch.nn.Module):
    """Reads the brightness of the middle, which is where eyes are."""

    preprocess, size_px = "none", 32

    def forward(self, images):
        return images[:, :, 12:16].mean((1, 2, 3))[:, None].expand(-1, 4)


def test_readings_teach_the_generator_in_every_second_step(benches):
    bench = benches["first"]
    on = {**bench.config["objective"], "reading": 2.0}
    redirector, batch = bench.built(objective=on), bench.batch()
    redirector.attach({"estimator": EyesOfBatch()})
    found = [
        redirector.losses(batch, "generator", Progress(step, 0, torch.Generator().manual_seed(0)))
        for step in (0, 1)
    ]
    assert "further" in found[0] and "further" not in found[1]
    losses = [float(one["loss"].detach()) for one in found]
    assert losses[0] == pytest.approx(losses[1] + float(found[0]["further"]), rel=1e-5)
    other = EyesOfBatch()
    other.size_px = 64
    with pytest.raises(ValueError, match="size_px: expected 32 as this model has, found 64"):
        redirector.attach({"estimator": other})


@pytest.mark.whole
def test_a_training_that_was_killed_between_lazy_steps_ends_as_an_unbroken_one(tmp_path):
    lazy = {**PUBLISHED, "r1_every": 3, "path_every": 2}
    CHECKS["resuming"](Bench("lazy", {"lazy": settings(objective=lazy)}, VGG, tmp_path))


def test_a_first_stage_of_other_classes_is_no_start(benches):
    classes = {**benches["first"].config["network"], "seg_dim": 7}
    other = benches["first"].built(network=classes)
    with pytest.raises(ValueError, match="local_nets.6"):
        benches["second"].built().load_start(other.saved.state_dict())


def test_the_mean_path_is_kept_with_the_training_and_not_with_the_model(benches):
    redirector, batch = benches["first"].built(), benches["first"].batch()
    moved_by(redirector, batch, "path")
    assert float(redirector.net.path_mean) > 0
    assert "path_mean" in redirector.network.state_dict()
    assert not any("path_mean" in key for key in redirector.saved.state_dict())


def test_a_published_file_is_read_if_it_is_of_the_sizes_asked_for(benches, tmp_path):
    redirector = benches["first"].woken(seed=5)
    state = redirector.reference_state()
    options = {"size": 32, **benches["first"].config["network"]}
    path = tmp_path / "000010.pt"
    content = {"g_ema": state, "args": argparse.Namespace(**options)}
    torch.save(content, path)
    other = benches["first"].built(seed=6)
    other.load_reference(other.read_reference(path), {})
    assert all(torch.equal(other.reference_state()[key], value) for key, value in state.items())
    wrong = argparse.Namespace(**{**options, "depth_layers": 4, "residual_refine": False})
    torch.save({**content, "args": wrong}, path)
    with pytest.raises(ValueError, match=r"depth_layers: expected 6, found 4.*residual_refine"):
        other.read_reference(path)
    seven = SemanticGenerator(32, **{**benches["first"].config["network"], "seg_dim": 7})
    torch.save({"g_ema": seven.state_dict()}, path)
    with pytest.raises(ValueError, match=r"network.seg_dim: expected 6, found 7"):
        other.read_reference(path)
    torch.save({"g": state}, path)
    with pytest.raises(ValueError, match=r"000010.pt: expected a checkpoint with g_ema"):
        other.read_reference(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size_px": 48}, "size_px: expected a power of two, found 48"),
        ({"network": {"coarse_size": 24}}, r"network.coarse_size: expected network.min_feat_size"),
        ({"network": {"coarse_size": 64}}, "network.coarse_size: expected less than size_px 64"),
        ({"network": {"depth_layers": 12}}, "local_layers: expected each at least"),
        ({"network": {"gaze_ids": [6]}}, "network.gaze_ids: expected classes 0 to 5, found 6"),
        ({"stage": 2}, "train.transfer: stage 2 begins at the weights of a stage 1"),
        ({"train": {"batch": 6}}, "train.batch: expected up to 4, or a multiple of 4, found 6"),
        ({"restyle": "a.pt"}, "restyle needs 256 and 512, found 64 and 64"),
        (
            {"objective": {"r1_every": 6}},
            "objective.r1_every: .* multiple of .* 8, found 6",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        settings(**changes).resolve()


def test_what_is_declared():
    first, second = declared(settings()), declared(settings(**SECOND))
    assert first.factors == ("gaze",) and not first.unlabelled
    assert second.unlabelled and second.inputs[0].sides == ("source", "unlabelled")
    seen = declared(settings(likeness="lpips_vgg16"))
    networks = [("vgg", False), ("lpips_vgg16", True)]
    assert [(one.entry, one.always) for one in seen.networks] == networks


# Classes and places.


def landmarks(size=128, shift=0):
    return (_LANDMARKS + 1) / 2 * (size - 1) + shift


def test_irises_go_where_the_gaze_goes_and_stay_in_the_eyes():
    found = {}
    for yaw in (-0.4, 0.0, 0.4):
        parts = parts_of_landmarks(landmarks(), np.array([0, yaw]), np.zeros(2))
        labels = painted(parts, (128, 128))
        found[yaw] = np.nonzero(labels == 5)[1].mean()
        eyes = painted(parts_of_landmarks(landmarks(), np.array([0, 2.0]), np.zeros(2)), (128, 128))
        assert set(np.unique(eyes[labels == 5])) <= {2, 5}
    # Positive yaw looks towards the left of the picture.
    assert found[0.4] < found[0.0] - 1 < found[-0.4] - 2


def test_parts_that_are_known_decide_what_is_skin_and_eye():
    parts = parts_of_landmarks(landmarks(), np.zeros(2), np.zeros(2))
    known = np.zeros((128, 128), np.uint8)
    known[:, 30:] = 1
    known[50:54, 80:90] = 3
    labels = painted(parts, (128, 128), known=known)
    assert not labels[:, :30].any() and (labels[100:, 40:] > 0).all()
    assert set(np.unique(labels[50:54, 80:90])) <= {2, 5}
    assert not np.isin(labels[known != 3], (2, 5)).any()


def test_seven_classes_have_a_mouth_and_six_have_skin_there():
    parts = parts_of_landmarks(landmarks(), np.zeros(2), np.zeros(2))
    six, seven = (painted(parts, (128, 128), classes) for classes in (6, 7))
    assert (seven == 6).any() and (six[seven == 6] == 1).all()
    assert np.array_equal(six[seven != 6], seven[seven != 6])


def test_points_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"points: expected \(478, 2\), found \(68, 2\)"):
        parts_of_mesh(landmarks(), (128, 128))


def test_a_region_that_is_cut_out_is_pasted_back_where_it_was():
    parts = parts_of_landmarks(landmarks(shift=6), np.zeros(2), np.zeros(2))
    box = shown_box(eye_region(parts, (128, 128)), (128, 128))
    place = torch.from_numpy(box).float()[None]
    y, x = torch.meshgrid(*(torch.linspace(-0.9, 0.9, 128),) * 2, indexing="ij")
    source = torch.stack([x, y, (x * y)])[None]
    drawn = cut(source, place, 64, strip=True)
    first, last = band(64)
    assert (drawn[:, :, :first] == -1).all() and (drawn[:, :, last:] == -1).all()
    seg = torch.zeros(1, 6, 64, 64)
    seg[:, 1] = 1
    weight = feathered(seg, strip=True)
    assert float(weight.max()) == 1 and not weight[:, :, :first].any()
    made = pasted(source, drawn, weight, place)
    assert float((made - source).abs().max()) < 0.03
    other = pasted(source, torch.ones_like(drawn), weight, place)
    changed = (other - source).abs().amax((0, 1)) > 1e-6
    rows = changed.any(1).nonzero()[:, 0].float() / 128
    middle = (box[3] - box[1]) * np.array([first, last]) / 64 + box[1]
    assert middle[0] - 0.02 < float(rows.min()) and float(rows.max()) < middle[1] + 0.02


def test_the_shown_half_of_a_strip_fills_the_picture_and_is_pasted_back():
    parts = parts_of_landmarks(landmarks(shift=6), np.zeros(2), np.zeros(2))
    size = (128, 128)
    boxes = {crop: place_of(parts, size, crop) for crop in ("eye_strip", "eyes", "face")}
    assert boxes["face"].tolist() == [0, 0, 1, 1]
    places = {name: torch.from_numpy(box).float()[None] for name, box in boxes.items()}
    source = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    source = torch.nn.functional.interpolate(source, size, mode="bicubic").clamp(0, 1)
    strip = cut(source, places["eye_strip"], 500, strip=True)
    eyes = cut(source, places["eyes"], 250, strip=False)
    first, last = band(500)
    assert (first, last) == (124, 374)
    assert float((strip[:, :, first:last, ::2] - eyes).abs().max()) < 0.02
    seg = torch.zeros(1, 6, 250, 250)
    seg[:, 1] = 1
    made = pasted(source, eyes, feathered(seg, strip=False), places["eyes"])
    assert float((made - source).abs().max()) < 0.03
    near = usual_place(torch.zeros(1), strip=False)
    whole = usual_place(torch.zeros(1))
    assert float(near[3] - near[1]) == pytest.approx(float(whole[3] - whole[1]) / 2)


def test_faces_without_landmarks_have_the_usual_place():
    place = usual_place(torch.zeros(1))
    left, top, right, bottom = place.tolist()
    assert right - left == pytest.approx(bottom - top) and left + right == pytest.approx(1, abs=0.1)
    assert 0.8 < right - left < 1.2


# Codes and samples.


def test_rows_of_codes_have_names_and_places():
    layout = Layout(seg_dim=6, local_layers=10, base_layers=2, depth_layers=6)
    assert (layout.rows, layout.spread_rows) == (14, 60)
    assert layout.names[:4] == ("coarse_1", "coarse_2", "background_shape", "background_texture")
    assert layout.names[-2:] == ("iris_shape", "iris_texture")
    with pytest.raises(ValueError, match="expected 1, 14 or 60 rows, found 13"):
        layout.spread(torch.zeros(1, 13, 4))


class Reader(torch.nn.Module):
    preprocess, size_px = "none", 32

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return torch.tanh(images.mean((2, 3)) @ torch.ones(3, 4)) + self.weight


@pytest.fixture(scope="module")
def model(benches):
    benches["first"].write_untrained()
    return benches["first"].folder / "models/first"


def test_samples_are_a_data_set_whose_codes_draw_them_again(model, tmp_path):
    gazes = np.array([(0, 0.3), (0.1, -0.3), (0.2, 0), (0, 0), (0, 0.1)])
    out = tmp_path / "drawn"
    assert write_samples(model, Draws(gazes, per_code=2, seed=4), out, Reader()) == 5
    faces = FacesReader(out / "faces.h5")
    assert [faces.count(one) for one in faces.persons] == [2, 2, 1]
    np.testing.assert_allclose(faces.labels[:, :2], gazes, atol=1e-6)
    assert np.isfinite(faces.labels[:, 2:4]).all()
    table = pd.read_parquet(out / "samples.parquet")
    with h5py.File(out / "classes.h5") as file:
        assert file.attrs["scheme"] == "gcgan6"
        assert file["drawn000001/mask"].shape == (2, 32, 32)
    from regaze.redirectors.gcgan.sampling import open_generator, pictures_of

    generator, _ = open_generator(model)
    code = torch.tensor(np.stack(table["code"][[3]])).float()
    gaze = torch.tensor(table.loc[[3], ["gaze_pitch", "gaze_yaw"]].to_numpy()).float()
    image, _ = pictures_of(generator, code, gaze)
    assert np.array_equal(to_uint8(image)[0], faces.pixels([3])[0])
    kept = (out / "faces.h5").read_bytes()
    with pytest.raises(ValueError, match="expected a folder that is new or empty"):
        write_samples(model, Draws(gazes), out, Reader())
    assert (out / "faces.h5").read_bytes() == kept


def test_a_code_is_the_same_however_many_are_drawn(model):
    generator = SemanticGenerator(32, **settings(preset="tiny", size_px=32).resolve()["network"])
    few, many = (drawn_codes(generator, count, 0.7, 5) for count in (2, 5))
    torch.testing.assert_close(many[:2], few)


@pytest.mark.parametrize("component", ["gaze", "iris_texture"])
def test_what_moves_is_shown_beside_its_classes(model, component):
    made = interpolation(model, component, frames=3, keys=2)
    assert [one.shape for one in made] == [(64, 130, 3)] * 3
    assert {one.dtype for one in made} == {np.dtype(np.uint8)}


def test_a_component_that_there_is_not_is_refused(model):
    with pytest.raises(ValueError, match="component: expected one of coarse_1.*found 'ears'"):
        interpolation(model, "ears", frames=2)


def test_the_code_of_a_source_is_found_for_its_gaze_and_edited(benches):
    bench = benches["first"]
    redirector = build_redirector(bench.config, {**bench.sampling, "steps": 30, "near": 0.0})
    torch.manual_seed(0)
    with torch.no_grad():
        for one in redirector.generator.parameters():
            if not one.any():
                one.normal_(0, 0.05)
    asked = bench.asked()
    source = {key: value[:1] for key, value in asked.items() if key.startswith("source")}
    gaze = source["source_gaze"].float()
    code = torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    generator, noise = redirector.generator.eval(), redirector.generator.stored_noise()
    with torch.no_grad():
        drawn = generator.drawn(generator.style(code), gaze, noise).rgb.clamp(-1, 1)
        source["source"] = drawn
        source["source_place"] = torch.tensor([[0.0, 0, 1, 1]])
        source["source_eye_regions_known"] = torch.tensor([True])
        start = redirector.invert(source, seed=0)["codes"]
        first = generator.drawn(generator.mean_code(10_000)[None], gaze, noise).rgb
        found = generator.drawn(start, gaze, noise).rgb
    rows = slice(*band(32))
    apart = [float((one - drawn)[:, :, rows].square().mean()) for one in (first, found)]
    assert apart[1] < 0.5 * apart[0]


def test_drawn_noise_is_put_where_the_noise_vectors_of_pictures_are():
    encoder, draws = Encoder(32, 4), torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 4, generator=draws)
    torch.testing.assert_close(encoder.placed(noise), noise, atol=1e-3, rtol=1e-3)
    mixed = torch.tensor([[1.0, 0, 0, 0], [0.9, 0.2, 0, 0], [0, 0, 0.5, 0], [0, 0, 0, 2]]).T
    wanted = noise @ mixed + torch.tensor([1.0, -2, 0, 3])
    for part in wanted.split(8) * 4:
        encoder.follow(part)
    placed = encoder.placed(noise)
    torch.testing.assert_close(placed.mean(0), wanted.mean(0), atol=0.3, rtol=0)
    torch.testing.assert_close(placed.T.cov(), wanted.T.cov(), atol=0.8, rtol=0.2)
    # The same by hand: running moments of one step.
    encoder, codes = Encoder(32, 4), torch.randn(8, 4, generator=draws)
    encoder.follow(codes)
    torch.testing.assert_close(encoder.centre, 0.01 * codes.mean(0))
    torch.testing.assert_close(encoder.spread, 0.99 * torch.eye(4) + 0.01 * codes.T @ codes / 8)


def test_codes_are_drawn_where_pictures_are_and_those_of_the_model_are_kept(benches):
    redirector = benches["coded"].built(seed=3)
    generator = redirector.generator
    before = drawn_codes(generator, 2, 1.0, 0)
    redirector.saved["encoder"].centre += 2
    after = drawn_codes(generator, 2, 1.0, 0)
    assert not torch.allclose(before, after)
    other = benches["coded"].built(seed=4)
    other.load_start(redirector.saved.state_dict())
    assert torch.equal(drawn_codes(other.generator, 2, 1.0, 0), after)
    published = benches["first"].built(seed=5).generator
    noise = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(published.mapped(noise), published.style(noise))


def test_moments_of_codes_are_kept_in_full_precision_where_networks_are_not():
    plain, low = Encoder(16, 8), Encoder(16, 8)
    codes = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    plain.follow(codes)
    with torch.autocast("cpu", torch.bfloat16):
        low.follow(codes)
    assert torch.equal(low.spread, plain.spread)
    assert torch.equal(low.centre, plain.centre)
