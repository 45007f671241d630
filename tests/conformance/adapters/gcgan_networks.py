"""Generators and discriminators of naranjuelo/GC-GAN and seasonSH/SemanticStyleGAN."""

from __future__ import annotations

import torch
from gcgan_cases import built_discriminator, built_generator, with_weights
from kit import Case, adapter, assert_close

from regaze.redirectors.gcgan.checkpoints import sizes_of
from regaze.redirectors.gcgan.layout import truncated
from regaze.redirectors.gcgan.objective import gradient_penalties


def close(found, case: Case, name: str) -> None:
    assert_close(found, case.golden[name], atol=2e-4, rtol=1e-4, name=name)


@adapter("gcgan/generator*")
@torch.no_grad()
def generator(case):
    config = case.config
    network = with_weights(built_generator(config), case.manifest, case.seed)
    assert network.layout.spread_map() == case.manifest["expand_map"]
    told = sizes_of(network.state_dict())
    assert {name: told[name] for name in told if name in config} == {
        name: config[name] for name in told if name in config
    }
    given = {name: torch.from_numpy(value).float() for name, value in case.inputs.items()}
    gaze = given["gaze"] if network.local_nets.told else None
    noise, codes = network.stored_noise(), network.style(given["z"])
    close(codes, case, "w")
    part, thin = (8, 16) if "::8" in case.manifest["subsample"] else (1, 1)

    def same(found, name):
        step = part if found.shape[-1] > 8 else 1
        close(found[..., ::step, ::step], case, name)

    made = network.drawn(codes, gaze, noise)
    for name, found in (
        ("rgb", made.rgb),
        ("seg", made.seg),
        ("seg_coarse", made.coarse),
        ("depths", made.depths),
    ):
        same(found, name)
    features, _, _ = network.composed(codes, gaze)
    same(features[:1, ::thin], "composite_feat")
    embedding = network.pos_embed()
    sides = (network.coarse_size,) * 2
    same(embedding.unflatten(-1, sides)[None], "pos_embed")
    maps, _ = network.local_nets(embedding, network.layout.spread(codes), gaze)
    second = network.local_nets[2].to_feat(maps[:1, 2].unflatten(-1, sides))
    same(second[:, ::thin], "local2_feat")
    moved = truncated(codes, given["w_mean"], 0.7)
    same(network.drawn(moved, gaze, noise).rgb, "rgb_truncated")
    whole = network.drawn(given["w_plus"], gaze, noise)
    same(whole.rgb, "rgb_wplus")
    same(whole.seg, "seg_wplus")
    masked = network.drawn(codes, gaze, noise, composition=given["composition_mask"])
    same(masked.rgb, "rgb_masked")
    same(masked.seg, "seg_masked")
    if gaze is not None:
        same(network.drawn(codes, -gaze, noise).rgb, "rgb_neg_gaze")


@adapter("gcgan/discriminator*")
def discriminator(case):
    told = any(key.startswith("embed.") for key in case.manifest["state"])
    network = with_weights(built_discriminator(case.config, told), case.manifest, case.seed)
    given = {name: torch.from_numpy(value) for name, value in case.inputs.items()}
    image, mask = given["image"].requires_grad_(), given["mask"].requires_grad_()
    gaze = given["gaze"] if told else None
    score = network(image, mask, gaze)
    penalties = gradient_penalties(score, image, mask)
    (slope,) = torch.autograd.grad(network(image, mask, gaze).sum(), image)
    with torch.no_grad():
        close(score, case, "score")
        close(network(image, None, gaze), case, "score_no_mask")
        if told:
            close(network(image, mask, -gaze), case, "score_neg_gaze")
        close(network.convs_img(image)[:, ::4], case, "img_feat")
        close(network.convs_seg(mask)[:, ::4], case, "seg_feat")
    step = image.shape[-1] // case.golden["grad_img"].shape[-1]
    close(slope[:1, :, ::step, ::step], case, "grad_img")
    for name, found in zip(("r1_img", "r1_seg"), penalties, strict=True):
        close(found.detach()[None], case, name)
    ((10 / 2 * penalties[0] + 1000 / 2 * penalties[1]) * 16).backward()
    parameters = dict(network.named_parameters())
    norms = [
        float(grad.norm()) if (grad := parameters[key].grad) is not None else 0.0
        for key in case.manifest["grad_keys"]
    ]
    wanted = case.golden["r1_grad_norms"]
    assert_close(norms, wanted, rtol=1e-3, atol=1e-6 * float(wanted.max()), name="r1_grad_norms")
