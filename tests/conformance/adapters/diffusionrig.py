"""diffusionrig: networks, chains, steps and the alignment of album photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from kit import adapter, assert_close, assert_relative, not_covered

from regaze.diffusion.chains import Chain, kept_steps
from regaze.diffusion.preconditioning import per_image
from regaze.diffusion.samplers import sample
from regaze.normalise.ffhq import TooSmall, plan_of, square_of, through
from regaze.redirectors.diffusionrig.checkpoints import inferred
from regaze.redirectors.diffusionrig.network import RigConfig, RigNetwork, step_embedding
from regaze.redirectors.diffusionrig.process import denoiser
from regaze.redirectors.diffusionrig.settings import FACTORS_OF
from regaze.weights import load_strictly

_KNOWN = {
    *("image_size", "learn_sigma", "num_channels", "num_res_blocks", "channel_mult"),
    *("num_heads", "num_head_channels", "num_heads_upsample", "attention_resolutions"),
    *("dropout", "use_checkpoint", "use_scale_shift_norm", "resblock_updown"),
    *("use_new_attention_order", "latent_dim", "in_channels", "encoder_type"),
}


def network_of(options: dict) -> RigConfig:
    """The project's configuration for upstream's arguments."""
    if unknown := set(options) - _KNOWN:
        not_covered(f"configuration keys {', '.join(sorted(unknown))}")
    size, word = options["image_size"], options["channel_mult"]
    factors = FACTORS_OF[size] if word == "" else tuple(int(one) for one in word.split(","))
    places = [int(one) for one in options["attention_resolutions"].split(",")]
    per_head, up = options["num_head_channels"], options["num_heads_upsample"]
    return RigConfig(
        channels=options["num_channels"],
        factors=factors,
        blocks=options["num_res_blocks"],
        attention=tuple(sorted(size // one for one in places)),
        heads=options["num_heads"],
        head_channels=None if per_head == -1 else per_head,
        upsample_heads=None if up == -1 else up,
        dropout=options["dropout"],
        block_resampling=options["resblock_updown"],
        new_attention=options["use_new_attention_order"],
        latent=options["latent_dim"],
        inputs=options["in_channels"],
        outputs=6 if options["learn_sigma"] else 3,
        encoder=options["encoder_type"],
    )


@adapter("diffusionrig/*resnet*", "diffusionrig/tiny_variant", "diffusionrig/default*")
@torch.no_grad()
def networks(case):
    config = network_of(case.config)
    # What shapes do not tell is given, the rest is read off them.
    there = tuple(one for one in config.attention if one < 2 ** len(config.factors))
    assert inferred(case.state, config) == replace(config, attention=there)
    network = RigNetwork(config).eval()
    load_strictly(network, case.state)
    x = {name: torch.from_numpy(np.asarray(value)) for name, value in case.inputs.items()}
    seen = {}
    unet = network.denoisingUNet
    watched = {"time_emb": unet.time_embed, "middle": unet.middle_block}
    for kind in ("input", "output"):
        for number, block in enumerate(getattr(unet, f"{kind}_blocks")):
            watched[f"{kind}_{number}"] = block
    for name, module in watched.items():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    code = network.encode(x["image"])
    buffers = torch.cat([x[name] for name in ("rendered", "normal", "albedo")], 1)
    eps = network(x["x_t"], x["timesteps"], buffers, code)
    assert_close(code, case.golden["latent"], 1e-4, 1e-4, "latent")
    assert_close(eps, case.golden["eps"], 1e-4, 1e-4, "eps")
    for name in ("time_emb", "middle"):
        if name in case.golden:
            assert_close(seen[name], case.golden[name], 1e-4, 1e-4, name)
    for kind in ("input", "output"):
        if (name := f"{kind}_block_absmean") in case.golden:
            found = [float(seen[f"{kind}_{n}"].abs().mean()) for n in range(len(case.golden[name]))]
            assert_close(np.array(found, np.float32), case.golden[name], 1e-4, 1e-4, name)
    if "ddim20_sample" in case.golden:
        _sampled(network, x, buffers, code, case.golden)


def _sampled(network, x, buffers, code, golden):
    """20 steps of DDIM, which are Euler's in the variance-exploding description."""
    chain = Chain.made("linear", 1000, "ddim20")
    levels = np.append(chain.sigmas[::-1], 0.0)
    states = {}

    def watch(step, z, _):
        states[step] = z

    denoise = denoiser(network, chain, buffers, code, clip=True)
    start = x["noise"] * float(chain.shares[-1] ** -0.5)
    made = sample("euler", denoise, start, levels, watch)
    half = states[10] * float(chain.shares[9] ** 0.5)
    assert_close(half, golden["ddim20_x500"], 2e-3, name="ddim20_x500")
    assert_close(made, golden["ddim20_sample"], 2e-3, name="ddim20_sample")


_CONSTANTS = {
    "betas": "betas",
    "alphas_cumprod": "shares",
    "alphas_cumprod_prev": "shares_before",
    "alphas_cumprod_next": "shares_after",
    "posterior_variance": "variances",
    "posterior_log_variance_clipped": "log_variances",
    "posterior_mean_coef1": "clean_share",
    "posterior_mean_coef2": "noisy_share",
    "snr": "snr",
}


@adapter("diffusionrig/schedule*")
def schedule(case):
    golden = case.golden
    for key, wanted in golden.items():
        head, _, name = key.partition("/")
        if head in ("respaced", "timestep_embedding") or name == "index":
            continue
        word = head.rstrip("0123456789")
        chain = Chain.made(word, int(head.removeprefix(word)))
        if name.startswith("p2_k"):
            k, gamma = (float(one) for one in name.removeprefix("p2_k").split("_gamma"))
            found = chain.p2_weights(k, gamma)
        else:
            found = getattr(chain, _CONSTANTS[name])
        # The golden 1 / (1 - abar) - 1 has fewer digits where abar is small.
        atol = 1e-15 if name == "snr" else 1e-300
        assert_close(found[golden[f"{head}/index"]], wanted, atol, 1e-10, key)
    for one in _respaced(case):
        chain = Chain.made(one["schedule"], one["num_timesteps"], one["respacing"])
        place = f"respaced/{one['case']}"
        assert len(chain) == one["kept"]
        assert np.array_equal(chain.steps, golden[f"{place}/timesteps"]), one
        for name in ("betas", "alphas_cumprod", "posterior_log_variance_clipped"):
            found = getattr(chain, _CONSTANTS[name])
            assert_close(found, golden[f"{place}/{name}"], 0, 1e-10, f"{place}/{name}")
    for word in case.config.get("rejected_respacings_of_1000", ()):
        with pytest.raises(ValueError, match="respacing"):
            kept_steps(1000, word)
    for key, wanted in golden.items():
        if key.startswith("timestep_embedding/dim"):
            steps = torch.from_numpy(golden["timestep_embedding/timesteps"])
            found = step_embedding(steps, int(key.partition("dim")[2]))
            # An angle of step 999 is rounded by 6e-5.
            assert_close(found, wanted, 1e-4, name=key)


def _respaced(case):
    return case.config.get("respaced_cases", ())


@adapter("diffusionrig/steps*")
def steps(case):
    config, golden = case.config, case.golden
    x = {name: torch.from_numpy(np.asarray(value)) for name, value in case.inputs.items()}
    z, eps, draw = x["x_t"], x["model_eps"], x["noise"]
    for name, respacing in config["chains"].items():
        chain, index = Chain.made(config["schedule"], config["steps"], respacing), x[f"{name}/t"]
        clean, loose = (chain.clean(z, eps, index, clip) for clip in (True, False))
        log_variance = chain.log_variance(index, z)
        weights = {
            "p20_gamma1": np.ones(len(chain)),
            "p21_gamma1": chain.p2_weights(),
            "p21_gamma0.5": chain.p2_weights(1, 0.5),
        }
        found = {
            "model_t": chain.steps[index.numpy()],
            "p_mean": chain.posterior_mean(z, clean, index),
            "p_pred_xstart": clean,
            "p_variance": log_variance.exp().flatten(),
            "p_log_variance": log_variance.flatten(),
            "p_mean_noclip": chain.posterior_mean(z, loose, index),
            "ddim_eta0": chain.ddim_step(z, clean, index),
            "ddim_eta0_noclip": chain.ddim_step(z, loose, index),
            "ddim_eta1": chain.ddim_step(z, clean, index, 1.0, draw),
            "ddpm_sample": chain.ddpm_step(z, clean, index, draw),
            "ddim_reverse": chain.inverse_step(z, clean, index),
            "q_sample": chain.diffused(x["x_0"], draw, index),
            "learned_log_variance": chain.log_variance(index, z, x["model_var"]),
        }
        for word, table in weights.items():
            error = (draw - eps).square() * per_image(torch.from_numpy(table)[index], draw)
            found[f"loss_{word}"] = error.mean((1, 2, 3))
        for key, value in golden.items():
            if key.partition("/")[0] == name:
                part = key.partition("/")[2]
                assert_close(np.asarray(found[part]), value, 2e-5, 1e-4, key)
        # Without noise DDIM is Euler's step in the variance-exploding description.
        levels = np.append(0.0, chain.sigmas)
        for row, place in enumerate(index.tolist()):
            one = slice(row, row + 1)
            here = [levels[place + 1], levels[place]]
            scale = float(chain.shares[place] ** -0.5)
            stepped = sample("euler", lambda *_, own=clean[one]: own, z[one] * scale, here)
            stepped = stepped * float(chain.shares_before[place] ** 0.5)
            assert_relative(stepped, golden[f"{name}/ddim_eta0"][one], 1e-4, f"{name} euler")


@adapter("diffusionrig/align*")
def align(case):
    side, golden = case.config["transform_size"], case.golden
    photo = golden["image"]
    for name, told in case.config["cases"].items():
        square, size = square_of(golden[f"{name}/landmarks"]), told["output_size"]
        assert_close(square.corners, golden[f"{name}/quad"], 1e-6, name=f"{name}/quad")
        assert_close(square.side, golden[f"{name}/qsize"], 1e-6, name=f"{name}/qsize")
        if not told["written"]:
            with pytest.raises(TooSmall):
                through(photo, square, size, side)
            continue
        plan = plan_of(square, (photo.shape[1], photo.shape[0]), size)
        assert_close(np.array(plan.crop), golden[f"{name}/crop"], name=f"{name}/crop")
        assert (plan.lacking is not None) == told["padded"]
        if told["padded"]:
            assert_close(plan.lacking, golden[f"{name}/pad"], name=f"{name}/pad")
        corners = (plan.quad + 0.5).flatten()
        assert_close(corners, golden[f"{name}/transform_quad"], 1e-6, name=name)
        found = through(photo, square, size, side)[0].astype(int)
        apart = np.abs(found - golden[f"{name}/output"].astype(int))
        assert apart.mean() < 0.5 and apart.max() < 4, name
