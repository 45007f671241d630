"""Sampling of the X-UNet: savings equal the plain way, weights, sources, intervals, paths."""

import numpy as np
import pytest
import torch
from combinations import each_of

from regaze.diffusion.guidance import guided
from regaze.diffusion.noise import image_noise
from regaze.diffusion.preconditioning import per_image
from regaze.diffusion.samplers import ancestral, asked_levels, evaluations, sample
from regaze.diffusion.schedules import (
    alpha_sigma,
    cosine_grid,
    karras_sigmas,
    sigma_from_logsnr,
)
from regaze.images import to_uint8
from regaze.redirectors.base import build_redirector, divided
from regaze.redirectors.xunet import sampling
from regaze.redirectors.xunet.memory import bytes_per_image
from regaze.redirectors.xunet.network import XUNetConfig
from regaze.redirectors.xunet.settings import ModelSettings

SAMPLING = {
    "sampler": "dpmpp_2m", "steps": 3, "sigma_min": 0.05, "sigma_max": 20.0, "guidance": 0.0,
    "precision": "fp32",
}  # fmt: skip
CODES = ("none", "film", "concatenate", "stack")
EDM = {"parameterization": "edm", "base": "none"}
PARTS = ("pose", "camera")
SIZE = 16


def redirector(sampling=None, seed=1, **changes):
    """A model whose every weight counts."""
    network = {"ch": 8, "norm_groups": 4, "emb_ch": 8} | changes.pop("network", {})
    if network.get("code", "none") != "none":
        changes["deca"] = {"parts": PARTS}
    options = {"class": "xunet", "preset": "tiny", "size_px": SIZE, "network": network} | changes
    torch.manual_seed(seed)
    made = build_redirector(ModelSettings(**options).resolve(), SAMPLING | (sampling or {}))
    with torch.no_grad():
        for parameter in made.parameters():
            noise = 0.05 * torch.randn(parameter.shape)
            parameter.copy_(torch.where(parameter == 0, noise, parameter))
    return made.eval()


def batch(count=3, sources=1):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((sources, count, 3, SIZE, SIZE), generator=rng) * 2 - 1
    angles = torch.rand((2, count, 2), generator=rng) * 0.6 - 0.3
    seen = torch.rand((2, sources, count, 2), generator=rng) * 0.6 - 0.3
    codes = 0.5 * torch.randn((sources, count, 9), generator=rng)
    made = {"pair": torch.arange(count) + 10}
    made |= {"target_gaze": angles[0], "target_head": angles[1], "target_code": codes[0]}
    several = {"": images, "_gaze": seen[0], "_head": seen[1], "_code": codes}
    for name, values in several.items():
        made["source" + name] = values[0]
        if sources > 1:
            made["sources" + name] = values.transpose(0, 1).contiguous()
    return made


def rows(data, index):
    return {name: value[index] for name, value in data.items()}


def way(model, data, seed):
    source, target = divided(data)
    return model.record_path(model.invert(source, seed=seed), target, seed=seed)


class Recorder:
    """An objective that keeps what it is asked and what it answers."""

    def __init__(self, objective):
        self.objective, self.calls = objective, []

    def __getattr__(self, name):
        return getattr(self.objective, name)

    def denoise(self, network, z, sigma, base):
        made = self.objective.denoise(network, z, sigma, base)
        self.calls.append((z, sigma, base, made))
        return made


def recorded(monkeypatch, model, data):
    """The pictures of a model, its evaluations on the way, and all noise that was drawn."""
    noises, recorder = [], Recorder(model.objective)

    def kept(*arguments):
        noises.append(image_noise(*arguments))
        return noises[-1]

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "image_noise", kept)
        patch.setattr(model, "objective", recorder)
        return model.redirect(data, seed=5), recorder.calls, noises


def errors_of(model, data):
    """Of an evaluation: how far off it is, per picture, from that of a network without savings.

    The network is built anew without pruning, and computes everything anew in every evaluation.
    """
    config = model.config | {"network": {**model.config["network"], "prune": False}}
    plain = build_redirector(config, model.sampling).eval()
    plain.network.load_state_dict(model.network.state_dict())
    base = {name: value for name, value in plain._inputs(data).items() if name == "base"}

    def off(call, conditioned, **source):
        z, sigma, counted_from, made = call
        assert (counted_from is None) == (not base)
        assert not base or torch.equal(counted_from, base["base"])
        inputs = plain._inputs({**data, **source}) | base
        network = plain._network(inputs, torch.full((len(z),), conditioned))
        whole = plain.objective.denoise(network, z, sigma, base.get("base"))
        return (whole - made).abs().amax((1, 2, 3))

    return off


def check_way(monkeypatch, model, data, weight, interval=(-1.0, 1e9), atol=2e-5):
    """Hold each evaluation on the way to pictures against the plain network, and then the way.

    Which source an evaluation saw, and which noise, is found by what comes out.
    """
    pictures, calls, noises = recorded(monkeypatch, model, data)
    off, calls = errors_of(model, data), iter(calls)
    several = "sources" in data and model.sampler.sees_sources
    names = [name for name in data if name == "source" or name.startswith("source_")]
    sources = [{}]
    if several:
        each = range(data["sources"].shape[1])
        sources = [{name: data["sources" + name[6:]][:, n] for name in names} for n in each]
    estimates, noisy, blanks, seen = [], [], [], {}
    for step, level in asked_levels(model.sampling["sampler"], model.sampler.sigmas()):
        z, sigma, _, made = call = next(calls)
        assert sigma.tolist() == pytest.approx([level] * len(pictures))
        near = torch.stack([off(call, True, **one) for one in sources]) < atol
        assert near.sum(0).tolist() == [1] * len(pictures)  # one of the sources, and no other
        seen.setdefault(step, set()).add(tuple(near.int().argmax(0).tolist()))
        if interval[0] < level < interval[1]:
            free = next(calls)
            assert torch.equal(free[0], z) and torch.equal(free[1], sigma)
            near = [bool((off(free, False, source=one) < atol).all()) for one in noises]
            # A network that does not look at its source makes the same of every noise.
            if not (all(near) and model.sampler.net.config.frames == 1):
                assert sum(near) == 1
                blanks.append(near.index(True))
            made = guided(made, free[3], weight)
        estimates.append(made.clamp(-1, 1))
        noisy.append(z)
    assert next(calls, None) is None
    # Both evaluations of one of Heun's steps see the same; other steps see others.
    assert all(len(choices) == 1 for choices in seen.values())
    assert not several or len(set().union(*seen.values())) > 1
    fresh = model.sampling.get("uncond_source") == "fresh"
    assert len(set(blanks)) == (len(blanks) if fresh else min(1, len(blanks)))
    made = gone(model, data, noisy, estimates, noises, blanks)
    torch.testing.assert_close(pictures, made.clamp(-1, 1), atol=atol, rtol=0)


def gone(model, data, noisy, estimates, noises, blanks):
    """Where a sampler ends that has estimates told, and asks for them at noisy pictures."""
    told = iter(zip(noisy, estimates, strict=True))

    def denoise(z, sigma):
        expected, made = next(told)
        torch.testing.assert_close(z, expected, atol=2e-5, rtol=1e-5)
        return made

    def predict(z, logsnr):
        alpha, sigma = (per_image(value, z) for value in alpha_sigma(logsnr))
        return (z - alpha * denoise(z / alpha, sigma_from_logsnr(logsnr))) / sigma

    # The way begins at noise that nobody saw as a source; later steps add what is left.
    base = model._inputs(data).get("base", 0)
    origin = (noisy[0] - base).flatten()
    along = [float(torch.cosine_similarity(one.flatten(), origin, dim=0)) for one in noises]
    first = int(np.argmax(along))
    assert along[first] > 0.999 and first not in blanks
    added = (one for number, one in enumerate(noises) if number not in (first, *blanks))
    options = model.sampling
    if options["sampler"] == "ancestral":
        grid, end = cosine_grid(options["steps"]), options.get("final_step", "mean")
        made = ancestral(predict, noises[first], grid, lambda step: next(added), end)
        assert next(added, None) is None
    else:
        sigmas = karras_sigmas(options["steps"], options["sigma_min"], options["sigma_max"])
        start = base + float(sigmas[0]) * noises[first]
        made = sample(options["sampler"], denoise, start, sigmas)
    assert next(told, None) is None
    return made


SETUPS = [
    {},
    {"network": {"frames": 1}},
    {"objective": EDM},
    {"objective": EDM, "network": {"concat_source": False, "attn_levels": (0, 2)}},
    {"objective": EDM, "network": {"attn_levels": ()}},
    {"objective": EDM, "network": {"frames": 1}},
    {"objective": EDM, "pose": {"mode": "relative"}},
]


def told(value):
    return value if isinstance(value, str) else str(value)[1:-1].replace("'", "") or "small"


@torch.no_grad()
@pytest.mark.parametrize(("setup", "code"), each_of(SETUPS, CODES, name=told))
def test_savings_change_nothing(monkeypatch, setup, code):
    setup = {**setup, "network": {**setup.get("network", {}), "code": code}}
    for blank, sources in (("fixed", 1), ("fresh", 3)):
        model = redirector({"uncond_source": blank, "guidance": 0.7}, **setup)
        check_way(monkeypatch, model, batch(2, sources), 0.7)


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ancestral", "euler", "heun", "dpmpp_2m"])
def test_every_sampler_goes_the_plain_way(monkeypatch, sampler):
    for interval, end in ((None, "mean"), ((0.3, 10.0), "compat")):
        options = {"sampler": sampler, "guidance": 1.2, "guidance_interval": interval, "steps": 4}
        model = redirector(options | {"final_step": end}, objective=EDM)
        check_way(monkeypatch, model, batch(2, 2), 1.2, interval or (-1.0, 1e9))


@torch.no_grad()
@pytest.mark.parametrize("blank", ["fixed", "fresh"])
@pytest.mark.parametrize("frames", [1, 2])
def test_weights_side_by_side_equal_single_ones(frames, blank):
    data, weights = batch(3, 2), (0.0, 1.0, 2.5)
    for objective in ({}, EDM):
        options = {"uncond_source": blank, "guidance_interval": (0.1, 15.0)}
        setup = {"network": {"frames": frames}, "objective": objective}
        model = redirector(options, **setup)
        together = model.redirect(data, seed=2, weights=weights)
        assert together.shape == (3, *data["source"].shape)
        for weight, found in zip(weights, together, strict=True):
            alone = redirector(options | {"guidance": weight}, **setup).redirect(data, seed=2)
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
        assert (together[0] - together[2]).abs().max() > 1e-3


@torch.no_grad()
def test_work_is_left_out_where_it_has_no_effect(monkeypatch):
    calls = []
    model = redirector({"steps": 4, "guidance_interval": (0.5, 15.0)})
    forward = model.network.forward

    def counted(given, *rest):
        calls.append(len(given["z"]))
        return forward(given, *rest)

    monkeypatch.setattr(model.network, "forward", counted)
    monkeypatch.setattr(type(model.network), "__call__", lambda self, *a: counted(*a))
    model.redirect(batch(), seed=0)
    assert calls == [3] * 4  # nothing unconditioned
    calls.clear()
    model.redirect(batch(), seed=0, weights=(0.0, 1.0))
    sigmas = karras_sigmas(4, 0.05, 20.0)[:-1]
    acting = [0.5 < float(sigma) < 15.0 for sigma in sigmas]
    assert 0 < sum(acting) < 4
    assert calls == [n for act in acting for n in ([6, 3] if act else [6])]
    guidance = redirector({"steps": 4, "guidance_interval": (0.5, 15.0), "guidance": 1.0})
    assert guidance.evaluations_per_image() == 4 + sum(acting)
    assert guidance.describe_sampling()["guidance_interval"] == "0.5 to 15"
    assert model.evaluations_per_image() == evaluations("dpmpp_2m", 4)


@torch.no_grad()
def test_one_source_among_several_is_the_usual_picture_bit_for_bit():
    model, data = redirector(), batch(3, 4)
    alone = {k: v for k, v in data.items() if not k.startswith("sources")}
    one = {k: v[:, :1] if k.startswith("sources") else v for k, v in data.items()}
    same = {k: v[:, :1].expand_as(v) if k.startswith("sources") else v for k, v in data.items()}
    usual = model.redirect(alone, seed=0)
    assert torch.equal(model.redirect(one, seed=0), usual)
    torch.testing.assert_close(model.redirect(same, seed=0), usual, atol=1e-6, rtol=0)
    assert (model.redirect(data, seed=0) - usual).abs().max() > 1e-4
    lite = redirector(network={"frames": 1})
    assert torch.equal(lite.redirect(data, seed=0), lite.redirect(alone, seed=0))


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"guidance": 1.5}, {"guidance": 1.5, "sampler": "ancestral"}], ids=str
)
def test_pictures_do_not_depend_on_chunks_order_or_threads(options, frames):
    options = {"uncond_source": "fresh", "steps": 2} | options
    model = redirector(options, network={"frames": frames})
    data = batch(16, 2)
    expected = model.redirect(data, seed=9)

    def close(chosen):
        # Rounding alone, of a thousandth of a grey level.
        made = model.redirect(rows(data, chosen), seed=9)
        torch.testing.assert_close(made, expected[chosen], rtol=0, atol=1e-5)

    for picture in range(3):
        close(torch.tensor([picture]))
    close(torch.arange(7, 14))
    close(torch.randperm(16, generator=torch.Generator().manual_seed(0))[:9])


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"guidance": 1.5}, {"network": {"frames": 1}}),
        ({"sampler": "ancestral"}, {"objective": EDM}),
        *(({}, {"network": {"code": code}, "objective": {"flip": False}}) for code in CODES[1:]),
    ],
    ids=str,
)
def test_a_sweep_of_one_source_is_its_requests_one_by_one(options, changes):
    """One noise and one head for more requests than are made at a time."""
    model, count = redirector({"steps": 2} | options, **changes), sampling._ON_CPU + 4
    source, target = divided(batch(count))
    target |= {name: target[name][:1].expand(count, -1) for name in ("target_head", "target_code")}
    target["pair"] = torch.full((count,), 3)
    state = model.invert({name: value[:1] for name, value in source.items()}, seed=9)
    made = model.edit(state, target, seed=9)
    for row in (0, 5, count - 1):
        alone = model.edit(state, rows(target, torch.tensor([row])), seed=9)
        torch.testing.assert_close(made[[row]], alone, rtol=0, atol=1e-5)
    assert (made[0] - made[1]).abs().max() > 1e-3


@torch.no_grad()
def test_pictures_do_not_depend_on_threads():
    model, data = redirector({"guidance": 1.5, "steps": 1}), batch(3, 2)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(to_uint8(model.redirect(data, seed=9)).astype(int))
    finally:
        torch.set_num_threads(threads)
    off = np.abs(found[0] - found[1])
    assert off.max() <= 1 and (off > 0).mean() <= 1e-3


@torch.no_grad()
def test_paths_end_in_the_picture_and_have_few_frames():
    for options in ({}, {"sampler": "heun"}, {"sampler": "ancestral", "steps": 60}):
        model, data = redirector(options), batch(2)
        path = way(model, data, seed=1)
        frames = min(40, options.get("steps", 3))
        assert path.shape == (frames, *data["source"].shape) and path.abs().max() <= 1
        torch.testing.assert_close(path[-1], model.redirect(data, seed=1))
        assert (path[0] - path[-1]).abs().max() > 1e-3
    plain = redirector(objective={"parameterization": "regression"}, network={"frames": 1})
    assert torch.equal(way(plain, data, seed=1)[0], plain.redirect(data, seed=1))


@torch.no_grad()
def test_low_precision_is_asked_for_and_close():
    data = batch(2)
    exact = redirector().redirect(data, seed=0)
    rough = redirector({"precision": "bf16"})
    found = rough.redirect(data, seed=0)
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    assert (found - exact).abs().mean() < 0.02
    assert not redirector({"precision": "auto"}).sampler.low_precision  # on a CPU
    assert 2 * rough.bytes_per_image() == redirector().bytes_per_image()


def test_guidance_weights_need_a_model_trained_for_them():
    model = redirector(objective={"drop_prob": 0.0})
    with pytest.raises(ValueError, match="objective.drop_prob above 0"):
        model.redirect(batch(), seed=0, weights=(0.0, 1.0))
    with pytest.raises(ValueError, match="at least one guidance weight"):
        redirector().redirect(batch(), seed=0, weights=())


def test_memory_per_picture_grows_with_what_is_kept():
    published = XUNetConfig(height=64, width=64, ch=128)
    big = XUNetConfig(height=128, width=128, ch=128)
    least = 28e6  # the caches alone: maps 22 MB and modulations 6 MB
    assert least < bytes_per_image(published) < 10 * least
    assert bytes_per_image(big) == pytest.approx(4 * bytes_per_image(published), rel=0.01)
    assert bytes_per_image(published, weights=4) > 2 * bytes_per_image(published)
    more = bytes_per_image(published, sources=3) - bytes_per_image(published)
    assert more >= 2 * least


@torch.no_grad()
@pytest.mark.parametrize("code", CODES)
def test_a_kept_state_has_what_is_the_same_for_all_targets(monkeypatch, code):
    model, data = redirector(network={"frames": 1, "code": code}), batch()
    plain = [model.net.prepare({**model._inputs(data), "logsnr": torch.full((3, 2), 20.0)})]
    state = model.invert(data, seed=0)
    usual = model.redirect(data, seed=0)
    made = model.sampler.branch(state, data).prepared
    for ours, theirs in zip(made.maps, plain[0].maps, strict=True):
        assert torch.equal(ours, theirs)

    def again():
        raise AssertionError("the learned maps were made anew")

    monkeypatch.setattr(model.net.conditioningprocessor, "_learned", lambda *_: again())
    assert torch.equal(model.edit(state, data, seed=0), usual)
    with pytest.raises(AssertionError, match="anew"):
        model.redirect(data, seed=0)
