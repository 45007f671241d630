"""Published files of DiffusionRig: state dicts of stage 1 and stage 2, without a configuration.

What the networks are made of is read off the shapes (``model<steps>.pt`` of
``adobe-research/diffusion-rig``). Shapes say nothing of dropout, of how many heads there are, of
blocks of pixels and of the order of query, key and value; these stay as a configuration has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from regaze.redirectors.diffusionrig.network import GROUPS, RigConfig
from regaze.weights import state_dict_of, torch_content

PUBLISHED_INPUTS = 12
"""Channels that published networks see: the noisy picture and nine of buffers."""

_UNET = "denoisingUNet."
_WIDTHS = {512: "resnet18", 2048: "resnet50", 64: "compact"}


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The weights of a file of either stage.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, is cut off or holds more than plain tensors; the message
            says which file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected weights of DiffusionRig, found no such file")
    return state_dict_of(torch_content(path), path)


def inferred(state: Mapping[str, Tensor], unseen: RigConfig | None = None) -> RigConfig:
    """What networks of these weights are made of.

    Args:
        state: weights under their published names.
        unseen: has what shapes do not say; None: the published defaults.

    Raises:
        ValueError: a weight that tells it is missing or cannot be one of these networks; the
            message names it.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise ValueError(f"missing {key}: expected weights of DiffusionRig")
        return tuple(state[key].shape)

    channels, stem = shape(f"{_UNET}time_embed.0.weight"), shape(f"{_UNET}input_blocks.0.0.weight")
    last, code = shape(f"{_UNET}out.2.weight"), shape("encoder.fc.weight")
    for key, found, axes in (
        ("time_embed.0.weight", channels, 2),
        ("input_blocks.0.0.weight", stem, 4),
        ("out.2.weight", last, 4),
    ):
        if len(found) != axes or (axes == 2 and found[1] % GROUPS):
            raise ValueError(f"{_UNET}{key}: unexpected shape {found}")
    if len(code) != 2 or code[1] not in _WIDTHS:
        known = ", ".join(f"{name} ({width})" for width, name in _WIDTHS.items())
        raise ValueError(f"encoder.fc.weight: expected columns of {known}, found {code}")
    levels, blocks = _layout(state)
    firsts = [1 + level * (blocks + 1) for level in range(levels)]
    sizes = [shape(f"{_UNET}input_blocks.{i}.0.out_layers.3.weight")[0] for i in firsts]
    attending = [f"{_UNET}input_blocks.{i}.1.qkv.weight" in state for i in firsts]
    downs = f"{_UNET}input_blocks.{blocks + 1}.0.op.weight"
    factors = [size / channels[1] for size in sizes]
    unseen = unseen or RigConfig()
    return replace(
        unseen,
        channels=channels[1],
        factors=tuple(int(one) if one == int(one) else one for one in factors),
        blocks=blocks,
        attention=tuple(2**level for level, attends in enumerate(attending) if attends),
        block_resampling=downs not in state,
        latent=code[0],
        inputs=stem[1] // unseen.unshuffle**2,
        outputs=last[0] // unseen.unshuffle**2,
        encoder=_WIDTHS[code[1]],
    )


def widened(state: Mapping[str, Tensor], inputs: int) -> dict[str, Tensor]:
    """Published weights with zero columns for channels that they do not know, up to ``inputs``."""
    done = {key.removeprefix("module."): value for key, value in state.items()}
    weight = done.get(key := f"{_UNET}input_blocks.0.0.weight")
    if weight is not None and weight.ndim == 4 and weight.shape[1] == PUBLISHED_INPUTS < inputs:
        done[key] = F.pad(weight, (0, 0, 0, 0, 0, inputs - weight.shape[1]))
    return done


def _layout(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Levels of the U-Net, and residual blocks of each."""
    entries, ups = _entries(state, "input_blocks"), _entries(state, "output_blocks")
    ends = [
        number
        for number in range(ups)
        if any(
            f"{_UNET}output_blocks.{number}.{child}.{part}.weight" in state
            for child in (1, 2)
            for part in ("in_layers.0", "conv")
        )
    ]
    per_level = ends[0] + 1 if ends else ups
    if entries != ups or per_level < 2 or ups % per_level or len(ends) != ups // per_level - 1:
        raise ValueError(
            f"{_UNET}output_blocks: expected as many entries as input_blocks ({entries}) in levels "
            f"of equal length, found {ups} with levels that end at {ends}"
        )
    return ups // per_level, per_level - 1


def _entries(state: Mapping[str, Tensor], name: str) -> int:
    start = f"{_UNET}{name}."
    found = {key.removeprefix(start).split(".")[0] for key in state if key.startswith(start)}
    return len(found)
