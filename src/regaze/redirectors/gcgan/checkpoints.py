"""Published files: ``ckpt/NNNNNN.pt`` of naranjuelo/GC-GAN and seasonSH/SemanticStyleGAN.

They hold state dicts ``g``, ``d`` and ``g_ema``, optimisers, and the options of the training as a
namespace. Nothing in them is executed.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regaze.weights import state_dict_of, torch_content

SAID = ("base_layers", "depth_layers", "residual_refine", "detach_texture", "transparent_dims")
"""Options that shapes do not tell; files without options are taken for those of the entry."""


def read_published(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The averaged generator of a published file, and what its training was told.

    Returns:
        ``(state, args)``: the state dict, and the options, empty where the file has none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off or has no ``g_ema``.
    """
    content = published_content(path, "g_ema")
    args = content.get("args") or {}
    args = vars(args) if isinstance(args, Namespace) else dict(args)
    return state_dict_of(content["g_ema"], f"{path}: g_ema"), args


def published_content(path: str | Path, *parts: str) -> Mapping[str, Any]:
    """What a torch file of plain values holds, some parts of which have to be there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off or lacks a part.
    """
    told = " and ".join(parts)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a checkpoint with {told}, found no such file")
    with torch.serialization.safe_globals([Namespace]):
        content = torch_content(path)
    there = sorted(map(str, content)) if isinstance(content, Mapping) else []
    if not set(parts) <= set(there):
        found = there or type(content).__name__
        raise ValueError(f"{path}: expected a checkpoint with {told}, found {found}")
    return content


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of :class:`regaze.redirectors.gcgan.generator.SemanticGenerator` that shapes tell.

    Raises:
        ValueError: it is no state dict of such a generator.
    """
    try:
        return _sizes(state)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"expected the weights of a compositional generator (pos_embed, local_nets, "
            f"render_net, style), found {len(state)} others ({error})"
        ) from None


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    local, coarse = state["local_nets.0.linears.0.conv.weight"], state["render_net.convs.0.weight"]
    levels = _count(state, r"render_net\.to_rgbs\.(\d+)\.")
    first = state["render_net.noises.noise_0"].shape[-1]
    features = coarse.shape[1]
    widths = [state[f"render_net.convs.{2 * n}.weight"].shape[:2] for n in range(levels)]
    befores = [features, *(outputs for outputs, _ in widths[:-1])]
    wide = [n for n, (_, inputs) in enumerate(widths) if inputs != befores[n]]
    told = sorted({int(found[1]) for key in state if (found := re.match(_EMBED, key))})
    return {
        "size": first * 2 ** (levels - 1),
        "style_dim": state["style.1.weight"].shape[0],
        "n_mlp": _count(state, r"style\.(\d+)\."),
        "seg_dim": _count(state, r"local_nets\.(\d+)\."),
        "coarse_size": first // 2 * 2 ** wide[0],
        "min_feat_size": first // 2,
        "local_layers": _count(state, r"local_nets\.0\.linears\.(\d+)\."),
        "local_channel": local.shape[1],
        "coarse_channel": features,
        "gaze_ids": told,
    }


_EMBED = r"local_nets\.(\d+)\.embed\."


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for key in state if (found := re.match(pattern, key))})


def check_sizes(
    state: Mapping[str, Tensor], args: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Refuse a file of another generator than the entry's, all differences named.

    Args:
        state: of the generator.
        args: what its training was told.
        wanted: options of the entry's generator.

    Raises:
        ValueError: sizes differ, or what its training was told does.
    """
    found = sizes_of(state) | {name: args[name] for name in SAID if name in args}
    apart = []
    for name, value in found.items():
        pair = (value, wanted[name])
        theirs, ours = (list(v) if isinstance(v, list | tuple) else v for v in pair)
        if theirs != ours:
            apart.append(f"network.{name}: expected {ours}, found {theirs}")
    if apart:
        raise ValueError("; ".join(apart))
