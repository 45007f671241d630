"""Weights of another X-UNet as a start: where they were stored, and at which image size.

Of all weights only the learned position map knows the size of the images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger("regaze.redirectors")

POSITIONS = "conditioningprocessor.pos_emb"


def fitted(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return a state dict with plain names whose position map (C,h,w) has the network's size.

    DataParallel's ``module.`` is stripped. A map of another height or width is resized bicubically,
    pixel corners staying corners; everything else is returned as it is, fitting or not.
    """
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    wanted, found = network.state_dict().get(POSITIONS), plain.get(POSITIONS)
    if wanted is None or found is None or found.ndim != 3 or found.shape == wanted.shape:
        return plain
    if found.shape[0] != wanted.shape[0]:
        return plain
    size = tuple(wanted.shape[1:])
    log.info("position map of %s resized to %s", tuple(found.shape[1:]), size)
    plain[POSITIONS] = F.interpolate(
        found[None].float(), size, mode="bicubic", align_corners=False
    )[0].to(found.dtype)
    return plain
