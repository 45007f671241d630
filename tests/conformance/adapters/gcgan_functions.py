"""Terms, composition, codes and scores of naranjuelo/GC-GAN, and its ReStyle encoder."""

from __future__ import annotations

import numpy as np
import torch
from gcgan_cases import built_generator, manifest_of, networks_of, with_weights
from kit import adapter, assert_close, fill_input

from regaze.images import to_uint8
from regaze.masks.painting import coloured
from regaze.metrics.frechet import Moments, frechet_distance
from regaze.metrics.inception import fid_gcgan, inception_score
from regaze.redirectors.gcgan.generator import shares_of
from regaze.redirectors.gcgan.latents import between, read_latent, replaced
from regaze.redirectors.gcgan.layout import Layout, truncated
from regaze.redirectors.gcgan.objective import (
    PathLength,
    mask_loss,
    path_length,
    swapped,
    unbroken,
)
from regaze.redirectors.gcgan.restyle import RestyleEncoder
from regaze.redirectors.gcgan.sampling import gaze_arrow
from regaze.stylegan.discriminator import discriminator_loss, generator_loss
from regaze.training.averages import smooth_into

LAYOUT = Layout(seg_dim=6, local_layers=10, base_layers=2, depth_layers=6)
COMPOSED = {
    "plain": ((), None),
    "inactive_transparent": ((10, 12), None),
    "transparent_3_5": ((3, 5), None),
    "masked": ((), True),
    "masked_transparent_4": ((4,), True),
}
CHOSEN = torch.tensor([[1, 1, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]]).float()


@adapter("gcgan/functions*")
def functions(case):
    def given(name, *shape, low=-1.0, high=1.0):
        return torch.from_numpy(fill_input(name, shape, case.seed, low, high))

    def same(found, name, within=1e-5):
        wanted = case.golden[name]
        assert_close(torch.as_tensor(found).reshape(wanted.shape), wanted, within, within, name)

    real, fake, wrong = (
        given(name, 6, 1, low=-3, high=3) for name in ("real_pred", "fake_pred", "fake_pred_gaze")
    )
    same(discriminator_loss(real, fake), "d_logistic")
    third = torch.nn.functional.softplus(wrong).mean()
    same(discriminator_loss(real, fake) + 0.5 * third, "d_logistic_v2")
    same(generator_loss(fake), "g_nonsaturating")
    _path(given, same)
    _second_stage(given, same)
    _composed(given, same)
    first, second = given("mix_a", 3, 4), given("mix_b", 3, 4)
    draws = torch.from_numpy(case.golden["mix_draws"]).long()
    same(LAYOUT.spread(LAYOUT.mixed(first, second, draws)), "mix_two")
    same(LAYOUT.spread(first), "mix_one")
    same(truncated(first, given("trunc_mean", 4), 0.7), "truncated")
    average = {"one": given("ema_a", 2, 3).clone()}
    smooth_into(average, {"one": given("ema_b", 2, 3)}, 0.5 ** (32 / 10_000))
    same(average["one"], "ema")
    same(between(given("keyframes", 5, 3, 4), 17), "cubic")
    # Colours are rounded here, and cut off there.
    levels = to_uint8(given("image_out", 2, 3, 8, 8, low=-1.3, high=1.3))
    assert np.abs(levels - case.golden["image_uint8"]).max() <= 1
    same(coloured(given("seg_out", 2, 6, 8, 8).argmax(1).numpy()).astype(float), "seg_color")
    _scores(case, same)
    gazes = np.array([(0.3, -0.4), (-0.2, 0.9), (0, 0)])
    same(np.stack([gaze_arrow(one, 256, 256, 128) for one in gazes]), "arrow_endpoints", 1)


def _path(given, same):
    codes = given("latents", 3, 60, 8).requires_grad_()
    flat = codes.reshape(3, 480) @ given("path_map", 480, 768, low=-0.2, high=0.2)
    images, noise = (
        flat.tanh().reshape(3, 3, 16, 16),
        given("path_noise", 3, 3, 16, 16, low=-1.7, high=1.7),
    )
    found: PathLength = path_length(images, codes, torch.tensor(0.35), noise)
    same(found.penalty.detach(), "path_penalty")
    same(found.mean.detach(), "path_mean")
    same(found.lengths.detach(), "path_lengths")
    (slope,) = torch.autograd.grad(found.penalty, codes)
    same(slope[:1], "path_penalty_grad")


def _second_stage(given, same):
    seg, coarse = given("fake_seg", 2, 6, 32, 32), given("fake_seg_coarse", 2, 6, 16, 16)
    same(mask_loss(coarse, seg), "mask_loss")
    seg = given("stage2_fake_seg", 3, 6, 64, 64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    seg = torch.nn.functional.pad(seg, (64,) * 4, value=-1)
    seg[1, 5] = 0.5
    seg[2, 5] = -1
    seg[2, 5, :100, :100] = 0.1
    kept = given("stage2_pre_seg", 3, 6, 32, 32).repeat_interleave(8, 2).repeat_interleave(8, 3)
    whole = unbroken(seg)
    same(whole.float(), "stage2_unbroken")
    masks = swapped(kept, seg, whole)
    same((seg - masks).square().mean(), "stage2_pmask_loss")
    same(masks.mean((2, 3)), "stage2_swapped_mean")


def _composed(given, same):
    features = torch.stack([given(f"feat{n}", 2, 5, 8, 8) for n in range(6)], 1)
    depths = [given(f"depth{n}", 2, 1, 8, 8, low=-3, high=3) for n in range(1, 6)]
    depths = torch.cat([torch.zeros_like(depths[0]), *depths], 1)
    for name, (transparent, masked) in COMPOSED.items():
        shares, weights = shares_of(depths, transparent, CHOSEN if masked else None)
        same(shares, f"composite_{name}_seg")
        same((weights[:, :, None] * features).sum(1), f"composite_{name}_feat")


def _scores(case, same):
    logits = fill_input("softmax_logits", (60, 10), case.seed, -3, 3).astype(np.float64)
    shares = np.exp(logits)
    same(np.array(inception_score(shares / shares.sum(1, keepdims=True))), "inception_score")
    sides = []
    for name, low, high in (("pool_a", -1, 1), ("pool_b", -0.8, 1.2)):
        sides.append(Moments(12))
        sides[-1].add(fill_input(name, (64, 12), case.seed, low, high))
    same(np.array([fid_gcgan(*sides), frechet_distance(*sides)]), "fid")


@adapter("gcgan/latents_io*")
@torch.no_grad()
def latents(case):
    (name,) = networks_of(case)
    network = with_weights(built_generator(case.config), manifest_of(case, name), case.seed)
    noise, layout = network.stored_noise(), network.layout
    gaze = torch.tensor(case.manifest["inputs"]["gaze"])

    def same(made, key):
        assert_close(made, case.golden[key], atol=2e-4, rtol=1e-4, name=key)

    codes = {}
    for kind in ("w", "w_plus", "w_expanded"):
        codes[kind] = read_latent(case.folder / f"{kind}.npy", layout, network.style_dim)
        made = network.drawn(codes[kind], gaze, noise)
        same(made.rgb, f"rgb_{kind}")
        same(made.seg, f"seg_{kind}")
    donor = torch.from_numpy(fill_input("lat_donor", (1, network.style_dim), case.seed))
    for key in case.golden:
        if key.startswith("rgb_swap_"):
            component = layout.names[int(key.removeprefix("rgb_swap_"))]
            changed = replaced(codes["w_plus"], layout, component, donor)
            same(network.drawn(changed, gaze, noise).rgb, key)


@adapter("gcgan/restyle_encoder*")
@torch.no_grad()
def restyle(case):
    config = case.config
    network = RestyleEncoder(config["n_styles"], config["num_layers"], config["mode"] == "ir_se")
    network = with_weights(network, case.manifest, case.seed)
    pair = torch.from_numpy(case.inputs["image_pair"])
    stem = network.input_layer(pair)
    assert_close(stem[..., ::32, ::32], case.golden["stem"], 1e-3, 1e-3, "stem")
    assert_close(network.body(stem)[:, ::16], case.golden["body"], 1e-3, 1e-3, "body")
    assert_close(network(pair), case.golden["codes"], 1e-3, 1e-3, "codes")
