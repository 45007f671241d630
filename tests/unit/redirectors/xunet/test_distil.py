"""Students: they reach the teacher's pictures in fewer steps, and refuse what does not fit."""

from pathlib import Path

import pytest
import torch
import yaml
from combinations import each_of
from torch import nn

from regaze.diffusion.noise import image_noise
from regaze.diffusion.samplers import sample
from regaze.diffusion.schedules import karras_sigmas
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared, declared_by
from regaze.redirectors.sted import settings as sted
from regaze.redirectors.xunet.distil import XUNetStudent
from regaze.redirectors.xunet.settings import ModelSettings, SamplingSettings
from regaze.settings import ConfigurationError, load_settings
from regaze.training.phases import Progress

SAMPLING = SamplingSettings().model_dump()
DISTIL = {"teacher": "big", "steps": 1, "teacher_steps": 4}
OBJECTIVES = {
    "residual_x0": {},
    "edm": {"parameterization": "edm", "base": "none"},
    "v": {"parameterization": "v", "noise": "uniform_t", "base": "none"},
    "eps": {"parameterization": "eps", "noise": "uniform_t", "base": "none"},
}


class Toy(nn.Module):
    """In place of the X-UNet, so that teachers and students are fitted within a second."""

    source_apart = True

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(nn.Conv2d(8, 24, 3, padding=1), nn.SiLU(), nn.Conv2d(24, 3, 1))

    def prepare(self, batch, keep=None):
        return None

    def prepare_source(self, batch, logsnr):
        return None

    def prepare_target(self, look, batch):
        return None

    def forward(self, batch, keep, prepared=None):
        z = batch["z"]
        keep = torch.ones(len(z), dtype=torch.bool) if keep is None else keep
        told = torch.stack([batch["logsnr"][:, 1] / 10, keep.to(z)], 1)[..., None, None]
        source = batch["x"] * keep.to(z)[:, None, None, None]
        return self.layers(torch.cat([z, source, told.expand(-1, -1, *z.shape[2:])], 1))


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr("regaze.redirectors.xunet.redirector.XUNet", Toy)


def entry(**changes):
    return ModelSettings(**{"class": "xunet", "preset": "tiny", "size_px": 16} | changes)


def batch(count=4, size=16, codes=0):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, size, size), generator=rng) * 2 - 1
    angles = torch.rand((4, count, 2), generator=rng) * 0.6 - 0.3
    made = dict(zip(("source", "target"), images, strict=True)) | {"pair": torch.arange(count) + 10}
    names = ("source_gaze", "target_gaze", "source_head", "target_head")
    made |= dict(zip(names, angles, strict=True))
    if codes:
        made["source_code"], made["target_code"] = torch.randn(2, count, codes, generator=rng)
    return made


def teacher(seed=1, **changes):
    """A network that has something to say: every weight is random."""
    torch.manual_seed(seed)
    made = build_redirector(entry(**changes).resolve(), SAMPLING)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    return made.eval()


def student(of, distil, seed=2, **changes):
    torch.manual_seed(seed)
    made = build_redirector(entry(distil=DISTIL | distil, **changes).resolve(), {})
    made.attach({"teacher": of})
    return made


def loss_of(made, data, seed):
    at = Progress(0, 0, torch.Generator().manual_seed(seed))
    return made.losses(data, "main", at)["loss"]


def fitted(made, data, steps, lr=2e-3):
    optimiser = torch.optim.Adam(made.network.parameters(), lr)
    found = []
    for step in range(steps):
        loss = loss_of(made, data, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    return found


@pytest.mark.parametrize("frames", [1, 2])
def test_a_student_draws_in_low_precision_as_it_does_on_gpus(frames):
    network = {"frames": frames}
    made = {}
    for precision in ("fp32", "bf16"):
        config = entry(distil=DISTIL, network=network).resolve()
        torch.manual_seed(2)
        one = build_redirector(config, {"precision": precision}).eval()
        with torch.no_grad():
            for parameter in one.parameters():
                if not parameter.any():
                    parameter.fill_(0.01)
        made[precision] = pictures(one, batch())
    assert made["bf16"].dtype == torch.float32
    assert 0 < (made["fp32"] - made["bf16"]).abs().mean() < 0.02


def pictures(redirector, data, seed=0):
    with torch.no_grad():
        return redirector.redirect(data, seed=seed)


def sampled(redirector, data, sampler="dpmpp_2m", steps=4, guidance=0.0, seed=0):
    """The pictures of a network, with nothing but its own estimates."""
    pairs, shape = data["pair"].tolist(), data["source"].shape[1:]
    inputs = redirector._inputs(data)
    blank = {**inputs, "x": image_noise(seed, pairs, shape, 1)}

    def denoise(z, sigma):
        def estimate(told, keep):
            network = redirector._network(told, torch.full((len(z),), keep))
            return redirector.objective.denoise(network, z, sigma, inputs.get("base")).clamp(-1, 1)

        return (1 + guidance) * estimate(inputs, True) - guidance * estimate(blank, False)

    sigmas = karras_sigmas(steps, 0.05, 20.0)
    start = float(sigmas[0]) * image_noise(seed, pairs, shape) + inputs.get("base", 0)
    with torch.no_grad():
        return sample(sampler, denoise, start, sigmas).clamp(-1, 1)


def distance(a, b):
    return float(((a - b) ** 2).mean().sqrt())


@pytest.fixture
def learnt(toys):
    """Make a teacher that has learnt its pictures to some degree."""

    def make(**changes):
        torch.manual_seed(1)
        made = build_redirector(entry(**changes).resolve(), SAMPLING)
        fitted(made, batch(2), 80, lr=1e-2)
        return made.eval()

    return make


@pytest.mark.parametrize(("kind", "steps"), each_of(OBJECTIVES, (1, 2)))
def test_a_student_is_nearer_to_the_teacher_than_the_teachers_own_few_steps(kind, steps, learnt):
    options = {"objective": OBJECTIVES[kind]}
    big, data = learnt(**options), batch(2)
    wanted = sampled(big, data)
    made = student(big, {"steps": steps}, **options)
    # Untrained, it is the teacher with the student's steps.
    few = distance(pictures(made, data), wanted)
    losses = fitted(made, data, 100, lr=5e-3)
    assert sum(losses[-16:]) < 0.8 * sum(losses[:16])
    assert distance(pictures(made.eval(), data), wanted) < (0.7 if steps == 1 else 0.96) * few


def test_it_starts_as_the_teacher_and_its_few_steps_are_those_of_euler():
    big = teacher()
    made = student(big, {"steps": 4, "teacher_steps": 4}).eval()
    big.sampling = SAMPLING | {"sampler": "euler"}
    torch.testing.assert_close(pictures(made, batch()), pictures(big, batch()), atol=1e-5, rtol=0)


def test_with_as_many_steps_as_the_teacher_there_is_nothing_to_learn():
    made = student(teacher(), {"steps": 4, "teacher_steps": 4})
    data = batch() | {"target": batch()["target"] * 0.1}
    for seed in range(4):
        loss = loss_of(made, data, seed)
        # All but rounding: the teacher's estimates are clamped, the student's in training not.
        assert float(loss.detach()) < 2e-2


def test_guidance_is_folded_into_one_evaluation(learnt):
    big, data = learnt(objective={"drop_prob": 0.3}), batch(2)
    plain, wanted = (sampled(big, data, guidance=weight) for weight in (0.0, 1.0))
    made = student(big, {"guidance": 1.0})
    fitted(made, data, 100, lr=5e-3)
    found = pictures(made.eval(), data)
    assert made.evaluations_per_image() == 1
    assert made.describe_sampling()["teacher_evaluations"] == 8
    assert distance(found, wanted) < 0.85 * distance(plain, wanted)


def test_a_smaller_network_may_learn_from_random_weights():
    big = teacher(network={"frames": 2})
    made = student(big, {"start": "random"}, network={"frames": 1, "ch": 8, "attn_levels": [2]})
    losses = fitted(made, batch(2), 15, lr=5e-3)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    sizes = [sum(p.numel() for p in side.network.parameters()) for side in (made, big)]
    assert sizes[0] < sizes[1]


def test_codes_are_told_as_the_teacher_is_told_them():
    told = {"network": {"code": "film"}, "deca": {"parts": ["exp"]}}
    big, data = teacher(**told), batch(2, codes=50)
    for start in ("teacher", "random"):
        made = student(big, {"start": start}, **told)
        codes = torch.randn(20, 50, generator=torch.Generator().manual_seed(3)) + 2
        made.fit_input("codes", {"code": codes})
        kept = big.net.codeprocessor.mean if start == "teacher" else codes.mean(0)
        torch.testing.assert_close(made.net.codeprocessor.mean, kept)
        declaration = declared_by(made.config)
        assert declaration.input("codes").options["parts"] == ["expression"]
        assert declaration.condition == "gaze and head angles; learnt from big"
        losses = fitted(made, data, 6)
        assert sum(losses[-3:]) < sum(losses[:3])
        changed = data | {"source_code": data["source_code"] + 1}
        assert not torch.equal(pictures(made, data), pictures(made, changed))


def test_pictures_do_not_depend_on_the_batch_and_losses_repeat():
    big = teacher()
    made = student(big, {"steps": 2})
    data = batch()
    together = pictures(made.eval(), data, seed=5)
    for row in (0, 3):
        alone = {key: value[row : row + 1] for key, value in data.items()}
        torch.testing.assert_close(
            pictures(made, alone, seed=5), together[row : row + 1], atol=1e-5, rtol=0
        )
    first, second = (float(loss_of(made, data, 4).detach()) for _ in range(2))
    assert first == second
    assert any(first != float(loss_of(made, data, seed).detach()) for seed in (5, 6))


def test_the_way_of_a_student_is_its_picture():
    made, data = student(teacher(), {}).eval(), batch()
    with torch.no_grad():
        way = made.record_path(made.invert(data, seed=5), data, seed=5)
    assert torch.equal(way, pictures(made, data, seed=5)[None])


def test_the_teacher_is_neither_trained_nor_saved():
    big = teacher()
    before = {key: value.clone() for key, value in big.network.state_dict().items()}
    made = student(big, {})
    fitted(made, batch(), 3)
    assert all(torch.equal(before[key], value) for key, value in big.network.state_dict().items())
    assert isinstance(made, XUNetStudent)
    assert set(made.state_dict()) == {f"net.{key}" for key in before}
    assert not any(parameter.requires_grad for parameter in big.parameters())


@pytest.mark.parametrize(
    ("changes", "distil", "of", "message"),
    [
        ({"size_px": 32}, {}, {}, "size_px: 32, but the teacher 'big' has 16"),
        ({"pose": {"mode": "gaze_orbit"}}, {}, {}, "pose.mode: 'gaze_orbit'.*'gaze_head'"),
        ({"network": {"frames": 1}}, {}, {}, "network.frames: 1.* 2"),
        ({"objective": {"base": "source"}}, {"start": "random"}, {}, "objective.base: 'source'"),
        (
            {"network": {"code": "film"}},
            {"start": "random"},
            {},
            "network.code: 'film', but the teacher 'big' has 'none'",
        ),
        ({}, {}, {"objective": {"parameterization": "regression"}}, "one step already"),
        ({}, {"guidance": 1.0}, {"objective": {"drop_prob": 0.0}}, "objective.drop_prob above 0"),
        ({}, {}, {"distil": DISTIL | {"teacher": "bigger"}}, "student itself.*'bigger'"),
    ],
    ids=["size", "pose", "network", "base", "codes", "regression", "guidance", "student"],
)
def test_a_teacher_that_does_not_fit_is_refused_before_any_job(changes, distil, of, message):
    learner, learnt = entry(distil=DISTIL | distil, **changes), entry(**of)
    with pytest.raises(ValueError, match=message):
        learner.check_networks(learner.resolve(), {"teacher": learnt.resolve()})
    with pytest.raises(ValueError, match=message):
        build_redirector(learner.resolve(), {}).attach(
            {"teacher": build_redirector(learnt.resolve(), {})}
        )


def test_a_teacher_of_another_method_is_refused():
    other = sted.ModelSettings(**{"class": "sted", "preset": "tiny", "size_px": 32})
    with pytest.raises(ValueError, match="'big' is of class 'sted', expected xunet"):
        ModelSettings.check_networks(entry(distil=DISTIL).resolve(), {"teacher": other.resolve()})


def test_faults_of_the_section_name_it():
    with pytest.raises(ValueError, match="teacher_steps: 5 is not a multiple of steps 2"):
        entry(distil=DISTIL | {"steps": 2, "teacher_steps": 5})
    with pytest.raises(ValueError, match="sigma_min: 30.0 must be below sigma_max 20.0"):
        entry(distil=DISTIL | {"sigma_min": 30})
    with pytest.raises(ValueError, match="'regression' takes one step already"):
        entry(distil=DISTIL, objective={"parameterization": "regression"}).resolve()
    with pytest.raises(ValueError, match="drop_prob: expected 0 with distil, found 0.2"):
        entry(distil=DISTIL, objective={"drop_prob": 0.2}).resolve()
    made = build_redirector(entry(distil=DISTIL).resolve(), {"guidance": 3.0})
    made.attach({})  # pictures are made without it
    with pytest.raises(ValueError, match="distil.teacher: expected 'big', found none attached"):
        loss_of(made, batch(), 0)
    declaration = declared(entry(distil=DISTIL))
    assert declaration.network("teacher") == "big" and not declaration.networks[0].always
    assert not declaration.denoises and not declaration.guidable


def test_the_default_student_is_refused_when_its_teacher_changes():
    config = yaml.safe_load((Path(__file__).parents[4] / "config.yaml").read_text())
    name = next(name for name, model in config["models"].items() if "distil" in model)
    taught = config["models"][name]["distil"]["teacher"]
    assert declared(load_settings(config).models[name]).network("teacher") == taught
    config["models"][taught]["network"] = {"frames": 1, "ch": 48}
    with pytest.raises(ConfigurationError, match=f"models.{name}.network.ch: 32, but .* has 48"):
        load_settings(config)
    config["models"][name]["distil"]["teacher"] = "nobody"
    with pytest.raises(ConfigurationError, match="its teacher: 'nobody' is not defined"):
        load_settings(config)
