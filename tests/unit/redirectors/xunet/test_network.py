import copy
import itertools

import pytest
import torch

from regaze.redirectors.xunet.kernels import attention
from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.rays import gaze_poses
from regaze.redirectors.xunet.settings import ModelSettings

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


def build(seed=0, **options):
    torch.manual_seed(seed)
    model = XUNet(XUNetConfig(**(SMALL | options)))
    for parameter in model.parameters():
        if not parameter.any():  # zero-initialised: every path must count
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def batch_for(model, size=3, seed=1, base=False):
    generator = torch.Generator().manual_seed(seed)
    c = model.config
    labels = 0.3 * torch.randn(4, size, 2, generator=generator)
    R, t, K = gaze_poses(*labels, (c.height, c.width))
    image = (size, c.in_channels, c.height, c.width)
    level = 4 * torch.randn(size, generator=generator)
    batch = {
        "x": torch.randn(image, generator=generator),
        "z": torch.randn(image, generator=generator),
        "logsnr": torch.stack([torch.full_like(level, 20.0), level], 1),
        "R": R,
        "t": t,
        "K": K,
    }
    if base:
        batch["base"] = torch.randn(image, generator=generator)
    return batch, torch.tensor([True, False, True][:size])


@pytest.mark.parametrize("levels", [(1, 2, 3), (3,), (0, 2), ()])
def test_pruning_changes_nothing(levels):
    plain = build(attn_levels=levels, prune=False)
    pruned = build(attn_levels=levels, prune=True)
    pruned.load_state_dict(plain.state_dict())
    batch, mask = batch_for(plain)
    expected, found = plain(batch, mask), pruned(batch, mask)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=2e-6)
    for output in (expected, found):
        output.square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), pruned.parameters(), strict=True):
        if a.grad is None or b.grad is None:  # without attention frame 0 is unused
            assert not levels or (a.grad is None) == (b.grad is None), name
            continue
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_every_parameter_gets_a_gradient():
    for frames in (1, 2):
        model = build(frames=frames)
        batch, mask = batch_for(model)
        model(batch, mask).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_pruning_leaves_frame_0_out_after_the_last_cross_attention():
    model = build()
    sizes = []
    for module in (model.upsample["0"][0].resnetblock, model.xunetblocks[0][0].resnetblock):
        module.register_forward_hook(lambda _, args, out: sizes.append(len(out)))
    batch, mask = batch_for(model)
    model(batch, mask)
    assert sizes == [3, 3, 3]  # source and target apart on the way down, target alone on the way up


@pytest.mark.parametrize("options", [{}, {"frames": 1}, {"concat_source": True}, {"unshuffle": 2}])
def test_prepared_calls_equal_whole_calls(options):
    model = build(**options)
    batch, mask = batch_for(model, base=True)
    with torch.no_grad():
        prepared = model.prepare(batch, mask)
        for level in (-3.0, 5.0):
            logsnr = batch["logsnr"].clone()
            logsnr[:, 1] = level
            call = batch | {"z": batch["z"] * level, "logsnr": logsnr}
            expected = model(call, mask)
            torch.testing.assert_close(model(call, mask, prepared), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frames": 1},
        {"concat_source": True},
        {"frames": 1, "concat_source": True, "unshuffle": 2},
        {"unshuffle": 2, "use_pos_emb": False, "use_ref_pose_emb": False},
        {"film_activation": "silu", "logsnr_input": "squashed"},
        {"pos_octaves": 2, "dir_octaves": 3},
    ],
)
def test_images_do_not_depend_on_the_batch(options):
    model = build(**options)
    batch, mask = batch_for(model, base=True)
    whole = model(batch, mask)
    assert whole.shape == batch["z"].shape
    for row in range(3):
        one = model({k: v[row : row + 1] for k, v in batch.items()}, mask[row : row + 1])
        torch.testing.assert_close(one[0], whole[row], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"frames": 1}, {"code": "film", "code_dim": 5}])
def test_without_gradients_nothing_that_is_used_again_is_overwritten(options):
    """Intermediate results are then overwritten in their place; pictures stay the same bits."""
    model = build(**options)
    batch, mask = batch_for(model)
    if "code" in options:
        batch["code"] = torch.randn(3, 2, 5)
    expected = model(batch, mask).detach()
    with torch.no_grad():
        prepared = model.prepare(batch, mask)
        for _ in range(2):
            assert torch.equal(model(batch, mask, prepared), expected)


def test_new_networks_start_at_zero():
    model = XUNet(XUNetConfig(**SMALL))
    batch, mask = batch_for(model)
    assert torch.equal(model(batch, mask), torch.zeros_like(batch["z"]))


@pytest.mark.parametrize("frames", [1, 2])
def test_both_poses_reach_the_output(frames):
    model = build(frames=frames, concat_source=True)
    batch, mask = batch_for(model)
    plain = model(batch, torch.ones(3, dtype=torch.bool))
    for frame, name in itertools.product((0, 1), ("R", "t")):
        changed = batch[name].clone()
        changed[:, frame] = changed[:, frame].roll(1, 0)
        moved = model(batch | {name: changed}, torch.ones(3, dtype=torch.bool))
        assert (moved - plain).abs().amax(dim=(1, 2, 3)).min() > 1e-4, (frame, name)


def test_unconditioned_images_do_not_see_the_poses():
    model = build()
    batch, mask = batch_for(model)
    moved = batch | {"R": batch["R"].flip(0), "t": batch["t"].flip(0)}
    difference = (model(batch, mask) - model(moved, mask)).abs().amax(dim=(1, 2, 3))
    assert difference[1] == 0 and difference[0] > 0


def test_base_is_used_and_falls_back_to_the_source():
    for frames in (1, 2):
        model = build(frames=frames, concat_source=True)
        batch, mask = batch_for(model, base=True)
        with_base = model(batch, mask)
        without = model({k: v for k, v in batch.items() if k != "base"}, mask)
        same = model(batch | {"base": batch["x"]}, mask)
        assert not torch.allclose(with_base, without)
        assert torch.equal(without, same)


def test_a_base_stands_in_for_the_source_of_one_frame():
    model = build(frames=1, concat_source=True)
    batch, mask = batch_for(model, base=True)
    found = model({key: value for key, value in batch.items() if key != "x"}, mask)
    assert torch.equal(found, model(batch, mask))


@pytest.mark.parametrize("tokens", [1024, 1025])
def test_attention_is_the_same_for_small_and_large_maps(tokens):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 8, generator=generator) for n in (3, tokens, tokens))
    parts = (part.chunk(2, -1) for part in (q, k, v))
    heads = [torch.softmax(a @ b.mT / 2, -1) @ c for a, b, c in zip(*parts, strict=True)]
    torch.testing.assert_close(attention(q, k, v, 2), torch.cat(heads, -1))


def test_higher_octaves_are_zero():
    coarse, fine = build(pos_octaves=3, dir_octaves=2), build()
    weights = copy.deepcopy(fine.state_dict())
    for name in weights:
        if name.startswith("conditioningprocessor.convs") and name.endswith("weight"):
            for start, octaves, active in ((3, 15, 3), (96, 8, 2)):
                for slot in (0, 1):
                    first = start + slot * 3 * octaves
                    weights[name][:, first + 3 * active : first + 3 * octaves] = 0
    for model in (coarse, fine):
        model.load_state_dict(weights)
    batch, mask = batch_for(fine)
    # Learned maps reach all channels in both, rays only the active ones.
    torch.testing.assert_close(coarse(batch, mask), fine(batch, mask), atol=1e-5, rtol=1e-4)


def test_bfloat16_stays_close():
    for frames in (1, 2):
        model = build(frames=frames, concat_source=True)
        batch, mask = batch_for(model)
        exact = model(batch, mask)
        exact.square().mean().backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(batch, mask)
        rough.float().square().mean().backward()
        assert (rough.float() - exact).norm() < 0.05 * exact.norm()
        for (name, parameter), expected in zip(model.named_parameters(), gradients, strict=True):
            error = (parameter.grad - expected).norm()
            assert error < 0.2 * expected.norm() + 1e-5, name


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"ch_mult": (1, 1, 1, 1, 1, 1, 1)}, "size_px: 64 is not divisible by 128"),
        (
            {"norm_groups": 7},
            "32 channels are not divisible by norm_groups 7",
        ),
        ({"ch_mult": (1, 1.3)}, "network.ch: 32 x 1.3 = 41.6 channels"),
        ({"ch_mult": (1, -1)}, "greater than 0"),
        ({"ch_mult": ()}, "at least 1 item"),
        ({"attn_heads": 5}, "network.ch: .* attn_heads 5"),
        ({"attn_levels": (4,)}, "network.attn_levels: 4 is not a level; expected 0 to 3"),
        ({"frames": 3}, "frames"),
        ({"film_activation": "relu"}, "film_activation"),
        ({"emb_ch": 15}, "multiple of 2"),
        ({"dropout": 1.0}, "less than 1"),
        ({"ch": 0}, "greater than or equal to 8"),
        ({"code": "add"}, "network.code"),
    ],
)
def test_bad_configurations_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        ModelSettings.model_validate({"class": "xunet", "network": network}).resolve()


def test_stacked_codes_need_whole_cells():
    entry = {
        "class": "xunet",
        "size_px": 36,
        "network": {"code": "stack", "ch_mult": (1, 2), "attn_levels": ()},
    }
    with pytest.raises(ValueError, match="size_px: 36 is not divisible by 8"):
        ModelSettings.model_validate(entry).resolve()


def test_bad_batches_are_refused():
    model = build()
    batch, mask = batch_for(model)
    with pytest.raises(ValueError, match="logsnr has shape"):
        model(batch | {"logsnr": batch["logsnr"][:, 0]}, mask)
    with pytest.raises(ValueError, match="K is missing"):
        model({k: v for k, v in batch.items() if k != "K"}, mask)


def test_parameter_count_of_the_published_checkpoint():
    with torch.device("meta"):
        model = XUNet(XUNetConfig(height=64, width=64, ch=128))
    assert sum(parameter.numel() for parameter in model.parameters()) == 136_670_627
