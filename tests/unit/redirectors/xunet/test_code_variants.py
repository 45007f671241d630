"""Networks told codes: equal to those told none at first, masked, cached and pruned alike."""

import itertools

import pytest
import torch
from combinations import each_of

from regaze.redirectors.xunet.face_codes import VARIANTS, warm_start
from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.rays import gaze_poses

SMALL = dict(
    height=16,
    width=16,
    ch=8,
    ch_mult=(1, 1.5, 2),
    num_res_blocks=1,
    attn_levels=(1, 2, 3),
    attn_heads=2,
    dropout=0.0,
    emb_ch=16,
    norm_groups=4,
)
DIM = 5
INJECTIONS = ("film", "concatenate", "stack")
SHAPES = [
    {},
    {"frames": 1},
    {"concat_source": True, "unshuffle": 2},
    {"frames": 1, "concat_source": True, "unshuffle": 2, "ch_mult": (1, 2), "attn_levels": (1,)},
    {"use_pos_emb": False, "use_ref_pose_emb": False, "pos_octaves": 2, "dir_octaves": 3},
    {"prune": False},
]


def new(code="none", seed=0, **options):
    torch.manual_seed(seed)
    return XUNet(
        XUNetConfig(**(SMALL | options), code=code, code_dim=DIM if code != "none" else 0)
    ).eval()


def woken(model, seed=3):
    """Give every weight that starts at zero a number, columns that read codes too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.where(parameter == 0, noise, parameter))
    return model


def batch_for(model, size=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    c = model.config
    R, t, K = gaze_poses(*(0.3 * torch.randn(4, size, 2, generator=generator)), c.height)
    level = 4 * torch.randn(size, generator=generator)
    images = torch.randn(3, size, 3, c.height, c.width, generator=generator)
    batch = dict(zip(("x", "z", "base"), images, strict=True)) | {"R": R, "t": t, "K": K}
    batch["logsnr"] = torch.stack([torch.full_like(level, 20.0), level], 1)
    batch["code"] = torch.randn(size, 2, DIM, generator=generator)
    return batch, torch.tensor([True, False, True][:size])


def told(value):
    return value if isinstance(value, str) else "-".join(value) or "plain"


@pytest.mark.parametrize(("options", "code"), each_of(SHAPES, INJECTIONS, name=told))
def test_warm_started_networks_equal_the_vanilla_one_exactly(code, options):
    vanilla = woken(new(seed=5, **options))
    model = woken(new(code, **options))  # trained on something else before
    own = {k: v.clone() for k, v in model.state_dict().items() if k.startswith("codeprocessor.")}
    state = {f"module.{key}": value for key, value in vanilla.state_dict().items()}
    warm_start(model, state)
    batch, mask = batch_for(model)
    for keep in (mask, None):
        assert torch.equal(model(batch, keep), vanilla(batch, keep))
    louder = batch | {"code": 100 * batch["code"]}
    assert torch.equal(model(louder, mask), vanilla(batch, mask))
    for key, value in own.items():
        kept = model.state_dict()[key]
        assert torch.equal(kept, value) or (code == "film" and ".mlp.2." in key)


@pytest.mark.parametrize(("code", "precision"), each_of(INJECTIONS, ("fp32", "bf16")))
def test_new_networks_equal_the_vanilla_one_of_their_seed(code, precision):
    vanilla, model = new(), new(code)
    for key, value in vanilla.state_dict().items():
        if "lastconv" not in key:
            found = model.state_dict()[key]
            assert torch.equal(found[:, : value.shape[1]] if value.ndim > 1 else found, value)
    state = {k: torch.where(v == 0, 0.1, v) for k, v in vanilla.state_dict().items()}
    vanilla.load_state_dict(state)
    warm_start(model, state)
    batch, mask = batch_for(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        assert torch.equal(model(batch, mask), vanilla(batch, mask))


@pytest.mark.parametrize("code", INJECTIONS)
def test_warm_start_leaves_every_code_weight_able_to_learn(code):
    model = new(code)
    warm_start(model, woken(new()).state_dict())
    batch, _ = batch_for(model)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    before = {k: v.clone() for k, v in model.named_parameters()}
    for _ in range(2):  # at first only the layer that starts at zero has a slope
        optimiser.zero_grad()
        (model(batch) - batch["x"]).square().mean().backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        if name.startswith("codeprocessor."):
            assert not torch.equal(parameter, before[name]), name
    for name, extra, groups in model.code_inputs():
        columns = dict(model.named_parameters())[name].unflatten(1, (groups, -1))[:, :, -extra:]
        assert columns.any(), name


def test_warm_start_refuses_other_weights_and_then_changes_nothing():
    model = woken(new("concatenate"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    vanilla = new().state_dict()
    with pytest.raises(ValueError, match="without codes, found"):
        warm_start(model, model.state_dict())
    with pytest.raises(ValueError, match="missing lastconv.bias; unexpected extra"):
        warm_start(
            model,
            {k: v for k, v in vanilla.items() if k != "lastconv.bias"} | {"extra": torch.zeros(1)},
        )
    with pytest.raises(ValueError, match=r"convs.0.weight expected .* found \(32, "):
        warm_start(model, new(emb_ch=32).state_dict())
    stacked = new("stack")
    with pytest.raises(
        ValueError, match=r"1 keys .*: conv.weight expected .* found \(\d+, 6, 3, 3\)"
    ):
        warm_start(stacked, new(concat_source=True).state_dict())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_network_without_codes_takes_a_warm_start_too():
    vanilla, model = woken(new(seed=5)), new()
    warm_start(model, vanilla.state_dict())
    batch, mask = batch_for(model)
    assert torch.equal(model(batch, mask), vanilla(batch, mask))


@pytest.mark.parametrize(("options", "code"), each_of(SHAPES, INJECTIONS, name=told))
def test_prepared_calls_equal_whole_calls_and_images_are_apart(code, options):
    model = woken(new(code, **options))
    batch, mask = batch_for(model)
    with torch.no_grad():
        prepared = model.prepare(batch, mask)
        for level in (-3.0, 5.0):
            logsnr = torch.stack([batch["logsnr"][:, 0], torch.full((3,), level)], 1)
            call = batch | {"z": batch["z"] * level, "logsnr": logsnr}
            whole = model(call, mask)
            torch.testing.assert_close(model(call, mask, prepared), whole)
            # Only what was prepared tells the code.
            again = model({k: v for k, v in call.items() if k != "code"}, mask, prepared)
            torch.testing.assert_close(again, whole)
        for row in range(3):
            one = model({k: v[row : row + 1] for k, v in call.items()}, mask[row : row + 1])
            torch.testing.assert_close(one[0], whole[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("levels", "code"), each_of([(1, 2, 3), (3,), (0, 2)], INJECTIONS))
def test_pruning_changes_nothing(code, levels):
    plain = woken(new(code, attn_levels=levels, prune=False))
    pruned = new(code, attn_levels=levels)
    pruned.load_state_dict(plain.state_dict())
    batch, mask = batch_for(plain)
    expected, found = plain(batch, mask), pruned(batch, mask)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=5e-6)
    for output in (expected, found):
        output.square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), pruned.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None, name
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("code", INJECTIONS)
def test_both_frames_codes_reach_conditioned_images_only(code):
    model = woken(new(code))
    batch, mask = batch_for(model)
    plain = model(batch, mask)
    for frame in (0, 1):
        changed = batch["code"].clone()
        changed[:, frame] = changed[:, frame].roll(1, 0)
        moved = (model(batch | {"code": changed}, mask) - plain).abs().amax(dim=(1, 2, 3))
        assert moved[1] == 0 and moved[[0, 2]].min() > 1e-5, frame


def test_codes_reach_a_network_of_one_frame():
    for code in INJECTIONS:
        model = woken(new(code, frames=1))
        batch, mask = batch_for(model)
        moved = model(batch | {"code": batch["code"] + 1}, mask) - model(batch, mask)
        assert moved[1].abs().max() == 0 and moved[0].abs().max() > 1e-4, code


@pytest.mark.parametrize("code", INJECTIONS)
def test_codes_are_standardised(code):
    model = woken(new(code))
    batch, mask = batch_for(model)
    expected = model(batch, mask)
    mean, std = torch.linspace(-1, 2, DIM), torch.linspace(0.5, 3, DIM)
    model.codeprocessor.standardise(mean, std)
    found = model(batch | {"code": batch["code"] * std + mean}, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for bad, message in (
        ((mean[1:], std), "mean: expected"),
        ((mean, 0 * std), "std: expected above 0"),
        ((mean / 0, std), "mean: expected finite"),
    ):
        with pytest.raises(ValueError, match=message):
            model.codeprocessor.standardise(*bad)


def test_stacked_cells_are_row_major_and_eight_pixels_wide():
    processor = new("stack").codeprocessor
    told = torch.arange(16.0)[None]
    maps = processor.stacked(told)
    assert maps.shape == (1, 4, 16, 16)
    for channel, row, column in itertools.product(range(4), (0, 1), (0, 1)):
        cell = maps[0, channel, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert (cell == 4 * channel + 2 * row + column).all()


def test_published_names_and_counts():
    counts = {}
    for name, code in VARIANTS.items():
        with torch.device("meta"):
            config = XUNetConfig(
                height=64, width=64, ch=128, code=code, code_dim=156 if code != "none" else 0
            )
            counts[name] = sum(parameter.numel() for parameter in XUNet(config).parameters())
    vanilla = counts["xunet"]
    assert vanilla == 136_670_627
    assert counts["xunet_deca"] - vanilla == 157 * 1024 + 1025 * 1024
    assert counts["xunet_deca_v1"] - vanilla == 157 * 64 + 4 * 64 * 9 * 1024
    assert counts["xunet_deca_v2"] - vanilla == 157 * 256 + 4 * 9 * 128


def test_batches_without_the_code_are_refused():
    model = new("film")
    batch, mask = batch_for(model)
    with pytest.raises(ValueError, match="code is missing"):
        model({k: v for k, v in batch.items() if k != "code"}, mask)
    with pytest.raises(ValueError, match=r"code has shape \(3, 5\), expected \(3, 2, 5\)"):
        model(batch | {"code": batch["code"][:, 0]}, mask)
