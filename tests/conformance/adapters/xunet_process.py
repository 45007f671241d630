"""The diffusion process of the X-UNet against the reference's numbers."""

from __future__ import annotations

import re

import numpy as np
import torch
from kit import adapter, assert_close

from regaze.diffusion.averages import (
    inverse_root_rate,
    posthoc_coefficients,
    power_decay,
    power_exponent,
    warmup_rate,
)
from regaze.diffusion.guidance import guided
from regaze.diffusion.losses import error, network_batch, p_losses
from regaze.diffusion.preconditioning import Preconditioning
from regaze.diffusion.samplers import SAMPLERS, ancestral, ancestral_moments, sample
from regaze.diffusion.schedules import alpha_sigma, cosine_grid, cosine_logsnr


def tensors(arrays: dict) -> dict:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def stated(text: str, phrase: str, default: float) -> float:
    """The number that follows ``phrase`` in a manifest's text, or ``default``."""
    found = re.search(re.escape(phrase) + r"\s*([\d.]+(?:[eE][-+]?\d+)?)", text)
    return float(found.group(1).rstrip(".")) if found else default


def stand_in(manifest: dict):
    """The stand-in network that the manifest's ``denoiser`` writes down as a formula."""
    formula = manifest["denoiser"].split("=", 1)[1].split("  ")[0]
    a, b, c, d, e = (float(number) for number in re.findall(r"\d+\.\d+", formula))

    def predict(x, z, logsnr, t, mask):
        mask = mask.float().reshape(-1, 1, 1, 1)
        pose = t[:, 1].mean(-1).reshape(-1, 1, 1, 1)
        level = logsnr[:, 1].reshape(-1, 1, 1, 1)
        return (a + b * mask) * z + c * x + d * level + e * mask * pose

    return predict


def guided_denoiser(denoiser, z, logsnr, x, replacement, t, w):
    """Guided prediction: the condition against noise in place of the source."""
    both = logsnr[:, None].expand(-1, 2)
    kept = torch.ones(len(z), dtype=torch.bool)
    return guided(denoiser(x, z, both, t, kept), denoiser(replacement, z, both, t, ~kept), w)


@adapter("xunet-diffusion/schedule*")
def check_schedule(case):
    golden, t = case.golden, case.inputs["t"]
    # The manifest's two tolerances: float32 costs the reference precision at both ends.
    near = np.minimum(t, 1 - t) < 1e-3
    allowed = np.where(near, 5e-3, case.tolerance())

    def close(found, expected, bound):
        assert np.all(np.abs(found.numpy() - expected) <= bound), np.abs(found - expected).max()

    logsnr = cosine_logsnr(torch.from_numpy(t))
    close(logsnr, golden["logsnr"], allowed)
    alpha, sigma = alpha_sigma(logsnr)
    assert_close(alpha, golden["alpha"], case.tolerance(), name="alpha")
    assert_close(sigma, golden["sigma"], case.tolerance(), name="sigma")
    for name in golden:
        if name.startswith("logsnr_m"):
            low, high = name.removeprefix("logsnr_m").split("_")
            close(
                cosine_logsnr(torch.from_numpy(t), -float(low), float(high)), golden[name], allowed
            )
    if "grid" in golden:
        steps = len(golden["grid"]) - 1
        times = np.linspace(1, 0, steps + 1)
        near = np.minimum(times, 1 - times) < 1e-3
        close(cosine_grid(steps), golden["grid"], np.where(near, 5e-3, case.tolerance()))


@adapter("xunet-diffusion/p-losses*")
def check_p_losses(case):
    g = tensors(case.golden | case.inputs)
    denoiser = stand_in(case.manifest)
    note = case.manifest["inputs"]["mask_uniform"].get("note", "")
    drop = {"drop_prob": stated(note, "draw >", 0.1)}
    assert_close(cosine_logsnr(g["u"]), g["logsnr"], 5e-3, name="logsnr")
    draws = (g["img"][:, 1], g["u"], g["noise"], g["mask_uniform"], g["x_replacement"])
    batch = {"x": g["img"][:, 0], "t": g["t"]}
    received, keep = network_batch(batch, *draws, **drop)
    tolerance = case.tolerance()
    assert_close(received["x"], g["net_x"], tolerance, name="net_x")
    assert_close(received["z"], g["net_z"], tolerance, name="net_z")
    assert_close(received["logsnr"], g["net_logsnr"], 5e-3, name="net_logsnr")
    assert_close(keep, g["cond_mask"], name="cond_mask")

    def network(batch, keep):
        return denoiser(batch["x"], batch["z"], batch["logsnr"], batch["t"], keep)

    for kind in ("l1", "l2", "huber"):
        found = p_losses(network, batch, *draws, kind=kind, **drop)
        expected = g[f"loss_{kind}"]
        assert_close(found, expected, tolerance * max(1.0, float(expected)), name=kind)
    # The same loss of exactly what the reference's network received.
    predicted = denoiser(g["net_x"], g["net_z"], g["net_logsnr"], g["t"], g["cond_mask"])
    assert_close(error(predicted, g["noise"], "l2"), g["loss_l2"], tolerance, tolerance)


@adapter("xunet-diffusion/ancestral-step*")
def check_ancestral_step(case):
    g = tensors(case.golden | case.inputs)
    grid = cosine_grid(int(g["n_steps"]), dtype=torch.float32)
    denoiser = stand_in(case.manifest)
    for index in g["step_index"].tolist():
        now, after = grid[index], grid[index + 1]
        assert_close(torch.stack([now, after]), g[f"logsnr_{index}"], 5e-3, name="logsnr")
        noise = guided_denoiser(
            denoiser, g["z"], now.expand(len(g["z"])), g["x"], g["uncond_x"], g["t"], g["w"]
        )
        mean, variance = ancestral_moments(g["z"], noise, now, after)
        tolerance = case.tolerance()
        assert_close(mean, g[f"mean_{index}"], tolerance, tolerance, name=f"mean_{index}")
        assert_close(variance, g[f"var_{index}"], tolerance, tolerance, name=f"var_{index}")
        found = mean + variance.sqrt() * g["step_noise"]
        assert_close(found, g[f"next_{index}"], tolerance, tolerance, name=f"next_{index}")


@adapter("xunet-diffusion/ancestral-loop*")
def check_ancestral_loop(case):
    g = tensors(case.golden | case.inputs)
    steps = len(g["trajectory"])
    noises = iter(g["noises"])
    denoiser = stand_in(case.manifest)
    used = []

    def take(_=None):
        used.append(next(noises))
        return used[-1]

    def predict(z, logsnr):
        return guided_denoiser(denoiser, z, logsnr, g["x"], take(), g["t"], g["w"])

    trajectory = []
    grid = cosine_grid(steps, dtype=torch.float32)
    ancestral(
        predict,
        take(),
        grid,
        take,
        final_step="compat",
        callback=lambda step, z: trajectory.append(z),
    )
    assert len(used) == int(g["noise_used"])
    tolerance = case.tolerance()
    assert_close(torch.stack(trajectory), g["trajectory"], tolerance, tolerance, name="trajectory")


@adapter("xunet-diffusion/edm-precond*")
def check_edm(case):
    g = tensors(case.golden | case.inputs)
    sigma, tolerance = g["sigma"], case.tolerance()
    source = str(case.manifest["source"]) + str(case.config)
    edm = Preconditioning("edm", stated(source, "sigma_data", 0.5))
    gain, slope = (float(n) for n in re.findall(r"\d+\.\d+", case.manifest["raw_network"]))
    for name, found in zip(("c_skip", "c_out", "c_in"), edm.coefficients(sigma), strict=True):
        assert_close(found, g[name], tolerance, tolerance, name=name)
    noisy = g["clean"] + sigma.reshape(-1, 1, 1, 1) * g["noise"]
    output = gain * edm.network_input(noisy, sigma) + slope * sigma.log().reshape(-1, 1, 1, 1)
    denoised = edm.denoised(output, noisy, sigma)
    assert_close(denoised, g["denoised"], tolerance, tolerance, name="denoised")
    target = edm.target(g["clean"], noisy, sigma)
    assert_close(target, g["target"], 10 * tolerance, tolerance, name="target")
    weight = edm.image_weight(sigma)
    assert_close(weight, g["edm_weight"], tolerance, tolerance, name="edm_weight")
    loss = (weight.reshape(-1, 1, 1, 1) * (denoised - g["clean"]) ** 2).mean()
    assert_close(loss, g["edm_loss"], tolerance, tolerance, name="edm_loss")
    for name in (name for name in g if "_weight_minsnr" in name):
        kind, gamma = name.split("_weight_minsnr")
        found = Preconditioning(kind, 1.0).loss_weight(sigma, "min_snr", float(gamma))
        assert_close(found, g[name], tolerance, tolerance, name=name)
    soft = edm.loss_weight(sigma, "soft_min_snr")
    assert_close(soft, g["soft_minsnr"], tolerance, tolerance, name="soft_minsnr")


@adapter("xunet-diffusion/few-step-samplers*")
def check_samplers(case):
    g = tensors(case.golden | case.inputs)
    centres = g["centres"]
    variance = stated(case.manifest["denoiser"], "standard deviation", 0.2) ** 2

    def denoise(z, sigma):
        total = (variance + sigma**2).reshape(-1, 1)
        offsets = (z[:, None] - centres).flatten(2)
        weights = torch.softmax(-offsets.square().sum(-1) / (2 * total), 1)
        mean = (weights[..., None] * centres.flatten(1)).sum(1).reshape(z.shape)
        shrink = (variance / total).reshape(-1, 1, 1, 1)
        return mean + shrink * (z - mean)

    tolerance = case.tolerance()
    for name in SAMPLERS:
        if name not in g:
            continue
        path = []
        found = sample(
            name,
            denoise,
            g["x_init"],
            g["sigmas"],
            callback=lambda step, z, _, path=path: path.append(z),
        )
        assert_close(found, g[name], tolerance, tolerance, name=name)
        path, expected = torch.stack(path[1:]), g[f"{name}_traj"]
        for step, (a, b) in enumerate(zip(path, expected, strict=True)):
            peak = float(b.abs().max())
            assert_close(a, b, tolerance * peak, name=f"{name} before step {step + 1}")


@adapter("xunet-diffusion/warmup*")
def check_warmup(case):
    g = case.golden
    text = case.manifest["outputs"]["lr"]
    rate, images = float(text.split("*")[0]), float(text.split("/")[1].strip(" )"))
    assert_close(warmup_rate(g["step"], int(g["batch"]), rate, images), g["lr"], case.tolerance())


@adapter("xunet-diffusion/posthoc-ema*")
def check_posthoc(case):
    g = case.golden
    tolerance = case.tolerance()
    outputs = case.manifest["outputs"]
    batch = int(stated(outputs["beta_*"], "batch", 128))
    assert_close(power_exponent(g["std"]), g["exp"], rtol=tolerance, name="exp")
    for name in (name for name in g if name.startswith("beta_")):
        std = int(name.removeprefix("beta_")) / 100
        found = power_decay(g["t_next"], batch, std)
        assert_close(found, g[name], 1e-12, tolerance, name=name)
    found = posthoc_coefficients(g["in_ofs"], g["in_std"], g["out_ofs"], g["out_std"])
    assert_close(found, g["coeff"], 1e-4, name="coeff")
    found = inverse_root_rate(
        g["lr_nimg"],
        int(stated(outputs["lr"], "batch", 128)),
        stated(outputs["lr"], "ref_lr", 0.01),
        stated(outputs["lr"], "ref_batches", 70e3),
        1e6 * stated(outputs["lr"], "warmup", 10),
    )
    assert_close(found, g["lr"], rtol=tolerance, name="lr")
