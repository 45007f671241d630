"""An X-UNet that is told 3-D codes: whose they are, where they enter, what is saved of them."""

import pytest
import torch
from combinations import each_of
from pydantic import ValidationError

from regaze.codes import TARGET_CODES, code_columns, code_dim
from regaze.codes.condition import code_statistics
from regaze.redirectors.base import build_redirector
from regaze.redirectors.declaration import declared, declared_by
from regaze.redirectors.xunet.settings import DecaSettings, ModelSettings
from regaze.training.phases import Progress

SAMPLING = {
    "sampler": "dpmpp_2m", "steps": 2, "sigma_min": 0.5, "sigma_max": 20.0, "guidance": 0.0,
}  # fmt: skip
PARTS = ("shape", "pose")
DIM = code_dim(PARTS)
CODES = ("film", "concatenate", "stack")


def settings(code="film", kind="source", **changes):
    told = {} if code == "none" else {"network": {"code": code}}
    deca = {"parts": PARTS, "target_code": kind}
    entry = {"class": "xunet", "preset": "tiny", "size_px": 16, "deca": deca}
    return ModelSettings(**(entry | told | changes))


def batch(count=4):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand((2, count, 3, 16, 16), generator=rng) * 2 - 1
    angles = torch.rand((4, count, 2), generator=rng) * 0.6 - 0.3
    codes = torch.randn((2, count, DIM), generator=rng)
    names = ("source_gaze", "target_gaze", "source_head", "target_head")
    return {
        **dict(zip(("source", "target"), images, strict=True)),
        **dict(zip(names, angles, strict=True)),
        **dict(zip(("source_code", "target_code"), codes, strict=True)),
        "pair": torch.arange(count) + 10,
    }


def built(code="film", kind="source", seed=0, awake=True, **changes):
    torch.manual_seed(seed)
    redirector = build_redirector(settings(code, kind, **changes).resolve(), SAMPLING)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in redirector.parameters() if awake else ():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.where(parameter == 0, noise, parameter))
    return redirector.eval()


def pictures(redirector, data):
    with torch.no_grad():
        return redirector.redirect(data, seed=0)


def loss(redirector, data):
    at = Progress(0, 0, torch.Generator().manual_seed(0))
    return redirector.losses(data, "main", at)["loss"]


def test_settings_fill_in_what_follows_from_the_parts():
    done = settings().resolve()
    assert done["network"]["code_dim"] == 106 and done["network"]["code"] == "film"
    assert done["deca"] == {"encoder": "deca", "parts": ["shape", "pose"], "target_code": "source"}
    told = declared(settings()).input("codes")
    assert told.options == {"encoder": "deca", "parts": ["shape", "pose"]}
    # The preset mirrors faces, whose codes nobody knows.
    assert settings("none").resolve()["objective"]["flip"] and not done["objective"]["flip"]
    plain = settings("none")
    assert "deca" not in plain.resolve() and plain.resolve()["network"]["code_dim"] == 0
    assert declared(plain).inputs == ()
    for preset in ("reference", "paper", "modern", "small"):
        entry = ModelSettings(**{"class": "xunet", "preset": preset}).resolve()
        assert entry["network"]["code"] == "none"
    assert set(TARGET_CODES) == set(DecaSettings.model_fields["target_code"].annotation.__args__)
    default = ModelSettings(**{"class": "xunet", "network": {"code": "stack"}}).resolve()
    assert default["network"]["code_dim"] == 156


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"flip": True}}, "objective.flip: expected false with network.code 'film'"),
        ({"deca": {"parts": ["hair"]}}, "code parts: expected different ones of shape, texture"),
        ({"deca": {"parts": []}}, "code parts: expected different ones"),
        ({"deca": {"parts": ["pose", "pose"]}}, "code parts: expected different ones"),
        (
            {"deca": {"parts": ["shape"], "target_code": "target_pose_only"}},
            "'target_pose_only' needs the pose, parts are shape",
        ),
        ({"deca": {"target_code": "oracle"}}, "target_code"),
        ({"network": {"code": "stack"}, "size_px": 36}, "36 is not divisible by 8"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises((ValidationError, ValueError), match=message):
        settings(**changes).resolve()


@pytest.mark.parametrize(("code", "kind"), each_of(CODES, TARGET_CODES))
def test_a_target_photo_is_looked_at_only_where_the_configuration_says(code, kind):
    redirector, data = built(code, kind), batch()
    declaration = declared_by(redirector.config)
    assert declaration.condition == TARGET_CODES[kind]
    sides = ("source",) if kind == "source" else ("source", "target")
    assert declaration.input("codes").sides == sides
    first, error = pictures(redirector, data), loss(redirector, data)
    root = code_columns(PARTS)["pose"].start + torch.arange(3)
    turned, whole = data["target_code"].clone(), data["target_code"] + 1
    turned[:, root] += 1
    seen = {"source": (), "target": (turned, whole), "target_pose_only": (turned, whole)}[kind]
    for other in (turned, whole):
        again = data | {"target_code": other}
        same = torch.equal(pictures(redirector, again), first)
        assert same == (not any(other is one for one in seen))
        assert (loss(redirector, again) == error) == same
    rest = whole.clone()
    rest[:, root] = data["target_code"][:, root]
    same = torch.equal(pictures(redirector, data | {"target_code": rest}), first)
    assert same == (kind != "target")
    if kind == "source":
        without = {key: value for key, value in data.items() if key != "target_code"}
        assert torch.equal(pictures(redirector, without), first)
    other = data | {"source_code": data["source_code"] + 1}
    assert not torch.equal(pictures(redirector, other), first)


@pytest.mark.parametrize("code", CODES)
def test_a_picture_does_not_depend_on_its_batch(code):
    redirector, data = built(code), batch()
    whole = pictures(redirector, data)
    order = torch.tensor([2, 0])
    part = pictures(redirector, {key: value[order] for key, value in data.items()})
    torch.testing.assert_close(part, whole[order], atol=1e-4, rtol=0)
    assert (whole[2] - whole[0]).abs().max() > 0.1


@pytest.mark.parametrize("code", CODES)
def test_a_start_from_a_network_without_codes_gives_its_pictures_exactly(code):
    vanilla, data = built("none", seed=3), batch()
    redirector = built(code, awake=False)
    codes = torch.randn((20, DIM), generator=torch.Generator().manual_seed(2)) * 3 + 1
    redirector.fit_input("codes", {"code": codes})
    redirector.load_start({f"module.{k}": v for k, v in vanilla.network.state_dict().items()})
    assert torch.equal(pictures(redirector, data), pictures(vanilla, data))
    mean, std = code_statistics(codes)
    processor = redirector.network.codeprocessor
    assert torch.equal(processor.mean, mean) and torch.equal(processor.std, std)
    # One with codes is taken as it is, with the statistics that it was trained with.
    other = built(code, seed=7)
    other.fit_input("codes", {"code": codes + 2})
    redirector.load_start(other.network.state_dict())
    assert torch.equal(pictures(redirector, data), pictures(other, data))
    torch.testing.assert_close(redirector.network.codeprocessor.mean, mean + 2)
    plain = built("none", awake=False)
    plain.load_start(vanilla.network.state_dict())
    assert torch.equal(pictures(plain, data), pictures(vanilla, data))
    with pytest.raises(ValueError, match="missing conv.weight"):
        built(code, awake=False).load_start({"conv.bias": torch.zeros(16)})


def test_the_mean_code_tells_nothing():
    redirector, data = built(), batch()
    codes = torch.randn((50, DIM), generator=torch.Generator().manual_seed(2)) * 3 + 1
    redirector.fit_input("codes", {"code": codes})
    torch.testing.assert_close(redirector.network.codeprocessor.mean, codes.mean(0))
    seen = []
    redirector.network.codeprocessor.mlp[0].register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    mean = redirector.network.codeprocessor.mean.expand(4, -1)
    pictures(redirector, data | {"source_code": mean})
    assert not seen[0][:, 0].any()


@pytest.mark.parametrize("code", CODES)
def test_training_reaches_the_weights_that_read_codes(code):
    redirector, data = built(code, objective={"drop_prob": 0.0}), batch()
    redirector.load_start(built("none").network.state_dict())
    loss(redirector.train(), data).backward()
    found = dict(redirector.network.named_parameters())
    assert all(parameter.grad is not None for parameter in found.values())
    if code == "film":
        assert found["codeprocessor.mlp.2.weight"].grad.any()
    for name, extra, groups in redirector.network.code_inputs():
        columns = found[name].grad.unflatten(1, (groups, -1))[:, :, -extra:]
        assert not found[name].unflatten(1, (groups, -1))[:, :, -extra:].any()
        assert columns.any(), name
