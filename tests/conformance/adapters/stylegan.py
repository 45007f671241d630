"""StyleGAN2, e4e and their discriminators (omertov/encoder4editing, lintsao/2023_Summer_Intern)."""

from __future__ import annotations

import numpy as np
import torch
from kit import adapter, assert_close

from regaze.stylegan.checkpoints import Inverter
from regaze.stylegan.discriminator import Discriminator, LatentDiscriminator
from regaze.stylegan.encoder import Encoder4Editing
from regaze.stylegan.generator import Generator
from regaze.stylegan.ops import (
    EqualConv2d,
    EqualLinear,
    FusedLeakyReLU,
    ModulatedConv2d,
    NoiseInjection,
    PixelNorm,
    make_kernel,
    upfirdn2d,
)
from regaze.weights import load_strictly


def loaded(network, case, prefix: str = ""):
    """The network with the case's weights; filters are those that it is built with."""
    own = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    state = {key: own[key] for key in case.manifest["constants"] if key in own} | case.state
    kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    load_strictly(network, kept)
    return network.eval()


def close(found, case, name: str) -> None:
    """Tolerances of these cases are relative to the output's own rms where they say so."""
    wanted, told = case.golden[name], case.manifest["tolerance"]
    unit = float(np.sqrt((wanted.astype(np.float64) ** 2).mean())) if "note" in told else 1.0
    assert_close(found, wanted, atol=told["atol"] * unit, rtol=told["rtol"], name=name)


@adapter("redirtrans/stylegan2_ops*")
@torch.no_grad()
def ops(case):
    given = {name: torch.from_numpy(value) for name, value in case.inputs.items()}
    config = case.config
    close(make_kernel([1, 3, 3, 1]), case, "kernel")
    for name, told in config["upfirdn_cases"].items():
        for label, taps in (("", [1, 3, 3, 1]), ("asym_", [1, 2, 5, 1])):
            kernel = told["kernel_gain"] * make_kernel(taps)
            found = upfirdn2d(given["x"], kernel, told["up"], told["down"], tuple(told["pad"]))
            close(found, case, f"upfirdn_{label}{name}")
    sizes = [config["modconv"][name] for name in ("in", "out")]
    style = config["modconv"]["style_dim"]
    for name, size, options in (
        ("plain", 3, {}),
        ("up", 3, {"resample": "up"}),
        ("down", 3, {"resample": "down"}),
        ("rgb", 1, {"demodulate": False}),
    ):
        layer = loaded(ModulatedConv2d(*sizes, size, style, **options), case, f"{name}.")
        close(layer(given["feat"], given["style"]), case, f"modconv_{name}")
    linear = loaded(EqualLinear(16, 8, 0.01, activation=True), case, "lin.")
    close(linear(given["style"]), case, "equal_linear_lrelu")
    close(loaded(EqualLinear(16, 8, bias=1), case, "lin2.")(given["style"]), case, "equal_linear")
    convolution = loaded(EqualConv2d(*sizes, 3, 2, 1), case, "conv.")
    close(convolution(given["feat"]), case, "equal_conv")
    activation = loaded(FusedLeakyReLU(6), case, "act.")
    close(activation(given["feat"]), case, "fused_leaky_relu")
    noisy = loaded(NoiseInjection(), case, "noise.")
    close(noisy(given["feat"], given["noise"]), case, "noise_injection")
    close(PixelNorm()(given["z"]), case, "pixel_norm")


@adapter("redirtrans/stylegan2_generator*")
@torch.no_grad()
def generator(case):
    config = case.config
    names = ("size", "style_dim", "n_mlp", "channel_multiplier")
    network = loaded(Generator(*(config[name] for name in names)), case)
    assert network.n_latent == config["n_latent"]
    given = {name: torch.from_numpy(value) for name, value in case.inputs.items()}
    stored = network.stored_noise()
    image, features = network.drawn(given["w_plus"], stored)
    close(image, case, "image")
    close(features[:, ::16], case, "features")
    first, second = (network.mapping(given[name]) for name in ("z1", "z2"))
    close(first, case, "w")
    truncated = network.codes(first, truncation=0.7, truncation_latent=given["truncation_latent"])
    close(network(truncated, stored), case, "image_truncated")
    mixed = network.codes(first, second, inject_index=config["inject_index"])
    close(network(mixed, stored), case, "image_mixed")
    noise = [given[f"noise_{number}"] for number in range(config["num_noise_layers"])]
    close(network(given["w_plus"], noise), case, "image_explicit_noise")


@adapter("redirtrans/stylegan2_discriminator*")
@torch.no_grad()
def discriminator(case):
    config = case.config
    network = loaded(Discriminator(config["size"], config["channel_multiplier"]), case)
    image = torch.from_numpy(case.inputs["image"])
    close(network.convs(image)[:, ::8], case, "trunk")
    close(network(image), case, "logit")


@adapter("redirtrans/e4e_encoder*")
@torch.no_grad()
def e4e(case):
    config = case.config
    network = Encoder4Editing(
        config["stylegan_size"], config["num_layers"], config["mode"] == "ir_se"
    )
    network, image = loaded(network, case), torch.from_numpy(case.inputs["image"])
    for name, step, found in zip(
        ("c1", "c2", "c3"), (8, 4, 2), network.features(image), strict=True
    ):
        close(found[:, ::16, ::step, ::step], case, name)
    for name, stage in (("w", None), ("w_stage4", 4), ("w_stage0", 0)):
        close(network(image, stage), case, name)


@adapter("redirtrans/e4e_checkpoint*")
def e4e_checkpoint(manifest):
    with torch.device("meta"):
        network = Inverter(Generator(manifest["config"]["stylegan_size"]))
    found = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert found.pop("latent_avg") == manifest["container"]["latent_avg"]
    assert found == {key: entry["shape"] for key, entry in manifest["state"].items()}
    for name, count in manifest["parameters"].items():
        assert sum(one.numel() for one in getattr(network, name).parameters()) == count


@adapter("redirtrans/latent_discriminator*")
@torch.no_grad()
def latent_discriminator(case):
    given = torch.from_numpy(case.inputs["w"])
    style_dim, n_mlp = case.config["style_dim"], case.config["n_mlp"]
    flat = given.shape[1] if "first_layer" in case.config else None
    close(loaded(LatentDiscriminator(style_dim, n_mlp, flat), case)(given), case, "logit")
