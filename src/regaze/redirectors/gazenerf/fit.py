"""The fit of a head to one photo: descent on its codes and its camera, the field as it is.

Learning rates, their decay and the losses are HeadNeRF's (``CrisHY1995/headnerf``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from regaze.redirectors.gazenerf.heads import offsets_of
from regaze.redirectors.gazenerf.objective import Objective, Photos
from regaze.redirectors.gazenerf.settings import LOSSES

RATES = {"shape": 0.015, "colours": 0.010, "camera": 0.001}
_DECAY_STEPS = 300
"""After so many steps rates are a tenth."""
_TERMS = Objective(**{**LOSSES["fit"], "background": 0.0})


def fitted(
    drawn: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    photos: Photos,
    sizes: tuple[int, ...],
    *,
    steps: int,
    rate: float = 1.0,
    told: Callable[[int, float], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes and a camera that draw a photo.

    Args:
        drawn: codes (1,D) and camera offsets (1,6) to a picture (1,3,S,S) in [0,1].
        start: codes (1,D) to begin at.
        photos: the photo.
        sizes: numbers of the parts of codes.
        steps: of Adam; 0 leaves the codes as they are.
        rate: factor of :data:`RATES`.
        told: given every step's number and its loss.

    Returns:
        ``(codes, camera)``: (1,D) with the offsets, and the camera's offsets (1,6).
    """
    form = sum(sizes[:2])
    parts = {
        "shape": start.new_zeros(1, form),
        "colours": start.new_zeros(1, sum(sizes[2:])),
        "camera": start.new_zeros(1, 6),
    }
    if steps:
        with torch.enable_grad():
            _descend(drawn, start, photos, sizes, parts, steps, rate, told)
    moved = torch.cat([parts["shape"], parts["colours"]], 1).detach()
    return start + moved, parts["camera"].detach()


def _descend(drawn, start, photos, sizes, parts, steps, rate, told) -> None:
    groups = [
        {"params": [value.requires_grad_()], "lr": rate * RATES[name]}
        for name, value in parts.items()
    ]
    optimiser = torch.optim.Adam(groups)
    slower = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.1 ** (1 / _DECAY_STEPS))
    for step in range(steps):
        moved = torch.cat([parts["shape"], parts["colours"]], 1)
        made = {"image": drawn(start + moved, parts["camera"])}
        offsets = offsets_of(moved, parts["camera"], sizes)
        loss = _TERMS.total(_TERMS.terms(made, photos) | _TERMS.offset_terms(offsets))
        # Of the codes alone: weights keep their gradients, and cost none.
        slopes = torch.autograd.grad(loss, list(parts.values()))
        for value, slope in zip(parts.values(), slopes, strict=True):
            value.grad = slope
        optimiser.step()
        slower.step()
        if told is not None:
            told(step, float(loss.detach()))
