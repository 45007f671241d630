"""The X-UNet and its diffusion process against the reference's numbers."""

from __future__ import annotations

import re

import numpy as np
import torch
from kit import adapter, assert_close, assert_relative, not_covered

from regaze.redirectors.xunet.network import XUNet, XUNetConfig
from regaze.redirectors.xunet.rays import (
    POSE_CHANNELS,
    camera_rays,
    gaze_poses,
    noise_encoding,
    posenc,
)
from regaze.weights import load_strictly


def tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def network_config(config: dict, **options) -> XUNetConfig:
    """The manifest's ``config`` in this project's names."""
    names = {"H": "height", "W": "width", "attn_resolutions": "attn_levels"}
    known = XUNetConfig.model_fields
    left_out = ("mode", "code_dim")
    fields = {names.get(key, key): value for key, value in config.items() if key not in left_out}
    unknown = sorted(set(fields) - set(known))
    if unknown:
        not_covered(f"configuration keys {', '.join(unknown)}")
    return XUNetConfig(**fields, **options)


def _kept(description: str) -> tuple:
    """The slices in a description such as ``kept [:, :, ::64, ::4, ::4]``."""
    parts = re.search(r"kept \[(.*?)\]", description).group(1).split(",")
    return tuple(slice(None, None, int(part.strip().strip(":") or 1)) for part in parts)


def _probes(model: XUNet) -> dict:
    """Modules whose output (or, for ``film``, whose next input) an intermediate's name means."""
    levels = model.config.levels

    def last(block):
        names = ("attnblock_cross", "resnetblock")
        return next(getattr(block, name) for name in names if hasattr(block, name))

    probes = {"film_down0_block0": model.xunetblocks[0][0].resnetblock.conv2}
    deepest = model.xunetblocks[-1][0]
    for kind in ("self", "cross"):
        if hasattr(deepest, f"attnblock_{kind}"):
            probes[f"attn_{kind}_deepest"] = getattr(deepest, f"attnblock_{kind}")
    for level in range(levels):
        probes[f"down{level}_block0"] = last(model.xunetblocks[level][0])
        blocks = [block for block in model.upsample[str(level)] if hasattr(block, "resnetblock")]
        probes[f"up{level}_last"] = last(blocks[-1])
    probes["middle"] = last(model.middle)
    return probes


def code_options(table: dict) -> dict:
    """How the code enters the network that a manifest's state table describes."""
    if "codeprocessor.mean" not in table:
        return {}
    dim = table["codeprocessor.mean"]["shape"][0]
    if "codeprocessor.mlp.0.weight" in table:
        return {"code": "film", "code_dim": dim}
    rays = table["conditioningprocessor.convs.0.weight"]["shape"][1]
    return {"code": "concatenate" if rays > POSE_CHANNELS else "stack", "code_dim": dim}


def whole_state(case) -> dict:
    """The case's state with the constants in it that the manifest states in words."""
    text = case.manifest.get("constants_value", "")
    state = {}
    for key, entry in case.manifest["state"].items():
        if key in case.state:
            state[key] = case.state[key]
            continue
        name = key.rsplit(".", 1)[-1]
        stated = re.search(rf"\b{name} (-?[\d.]+(?:e[-+]?\d+)?)", text)
        if stated is None:
            not_covered(f"constant {key}")
        state[key] = torch.full(entry["shape"], float(stated.group(1)))
    return state


@adapter("xunet-diffusion/xunet-*")
def check_network(case):
    golden, manifest = case.golden, case.manifest
    options, state = code_options(manifest["state"]), whole_state(case)
    model = XUNet(network_config(case.config, **options))
    assert list(model.state_dict()) == list(manifest["state"]), "keys or their order differ"
    load_strictly(model, state)
    model.train(case.config.get("mode") == "train")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == manifest.get("parameter_count", parameters)

    batch = {name: tensor(value) for name, value in case.inputs.items()}
    cond_mask = batch.pop("cond_mask", None)
    tolerance = case.tolerance("out", 2e-4)
    with torch.inference_mode():
        assert_relative(model(batch, cond_mask), golden["out"], tolerance, "out")

    seen: dict[str, list] = {}
    plain = XUNet(network_config(case.config, prune=False, **options))
    load_strictly(plain, state)
    plain.eval()
    for name, module in _probes(plain).items():
        if name.startswith("film"):
            module.register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, []).append(args[0])
            )
        else:
            module.register_forward_hook(
                lambda _, __, out, name=name: seen.setdefault(name, []).append(out)
            )
    size = len(batch["z"])
    with torch.inference_mode():
        assert_relative(plain(batch, cond_mask), golden["out"], tolerance, "out, not pruned")
        processor = plain.conditioningprocessor
        codes = None
        if options.get("code") == "concatenate":
            codes = plain.codeprocessor(batch["code"], cond_mask)
        maps = processor.pose_maps(batch["R"], batch["t"], batch["K"], cond_mask, codes)
        seen |= {f"pose_emb_{level}": [out] for level, out in enumerate(maps)}
        embedding = processor.noise_embedding(batch["logsnr"])
    for key in (key for key in golden if key.startswith("int_")):
        expected, name = golden[key], key.removeprefix("int_")
        text = manifest["outputs"][key]
        if name == "logsnr_emb":
            step = int(re.search(r"::(\d+)", text).group(1))
            assert_relative(embedding[..., ::step], expected, tolerance, key)
            continue
        both = torch.cat(seen[name]).unflatten(0, (2, size)).transpose(0, 1)
        assert_relative(both[_kept(text)], expected, tolerance, key)


@adapter("xunet-diffusion/rays*")
def check_rays(case):
    height, width = case.golden["dir"].shape[2:4]
    pos, direction = camera_rays(*(tensor(case.inputs[k]) for k in "RtK"), height, width)
    assert_close(pos, case.golden["pos"], case.tolerance(), name="pos")
    assert_close(direction, case.golden["dir"], case.tolerance(), name="dir")


def _named(text: str, name: str) -> float:
    """The number that follows ``name`` in a tolerance such as ``nerf15 2e-3, nerf8 1e-4``."""
    return float(re.search(rf"{name} ([\d.e-]+\d)", text).group(1))


@adapter("xunet-diffusion/posenc*")
def check_posenc(case):
    golden, text = case.golden, case.manifest["tolerance"]
    description = case.manifest["outputs"]["ddpm"]
    channels = int(re.search(r"emb_ch (\d+)", description).group(1))
    step = int(re.search(r"::(\d+)", description).group(1))
    found = noise_encoding(tensor(golden["logsnr"]), channels)[..., ::step]
    assert_close(found, golden["ddpm"], _named(text, "ddpm"), name="ddpm")
    for name in (name for name in golden if re.fullmatch(r"nerf\d+", name)):
        found = posenc(tensor(golden["nerf_in"]), int(name.removeprefix("nerf")))
        assert_close(found, golden[name], _named(text, name), name=name)
    order = golden["nerf_order"]
    octaves = (len(order) - 3) // 6
    assert_close(posenc(tensor(golden["nerf_order_in"]), octaves), order, 1e-5, name="nerf_order")


@adapter("xunet-diffusion/gaze-pose*")
def check_gaze_pose(case):
    golden = case.golden
    gaze, head = tensor(case.inputs["gaze"]), tensor(case.inputs["head"])
    height, width = golden["dir"].shape[2:4]
    labels = (gaze[:, 0], gaze[:, 1], head[:, 0], head[:, 1])
    tolerance = case.tolerance()
    expected = {
        "gaze_head": ("R", "t_gaze_head"),
        "gaze_orbit": ("R", "t_gaze_orbit"),
        "relative": ("R_relative", "t_relative"),
    }
    for mode, (rotation, centre) in expected.items():
        R, t, K = gaze_poses(*labels, (height, width), mode)
        assert_close(R, golden[rotation], tolerance, name=rotation)
        assert_close(t, golden[centre], tolerance, name=centre)
        assert_close(K[0], golden["K"], tolerance, name="K")
        if mode == "gaze_head":
            assert_close(R.transpose(-1, -2), golden["G"], tolerance, name="G")
            directions = camera_rays(R, t, K, height, width)[1]
            assert_close(directions, golden["dir"], tolerance, name="dir")
