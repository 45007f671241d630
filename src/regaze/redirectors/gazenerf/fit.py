"""The fit of a head to one photo: descent on its codes and its camera, the field as it is.

Several are fitted side by side, each as if it were alone: by its own loss, and Adam has a step size
for every number.

Learning rates, their decay and the losses are HeadNeRF's (``CrisHY1995/headnerf``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from regaze.redirectors.gazenerf.heads import SLOW, offsets_of
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
    """Codes and cameras that draw photos, each its own.

    Args:
        drawn: codes (B,D) and camera offsets (B,6) to pictures (B,3,S,S) in [0,1].
        start: codes (B,D) to begin at.
        photos: the photos.
        sizes: numbers of the parts of codes.
        steps: of Adam; 0 leaves the codes as they are.
        rate: factor of :data:`RATES`.
        told: given every step's number and its mean loss.

    Returns:
        ``(codes, camera)``: (B,D) with the offsets, and the cameras' offsets (B,6).
    """
    count, form = len(start), sum(sizes[:2])
    parts = {
        "shape": start.new_zeros(count, form),
        "colours": start.new_zeros(count, sum(sizes[2:])),
        "camera": start.new_zeros(count, 6),
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
        made = drawn(start + moved, parts["camera"])
        loss = sum(
            _loss(made[own], moved[own], parts["camera"][own], photos.of(own), sizes)
            for own in (slice(row, row + 1) for row in range(len(start)))
        )
        # Of the codes alone: weights keep their gradients, and cost none.
        slopes = torch.autograd.grad(loss, list(parts.values()))
        for value, slope in zip(parts.values(), slopes, strict=True):
            value.grad = slope
        optimiser.step()
        slower.step()
        if told is not None:
            told(step, float(loss.detach()) / len(start))


def _loss(made, moved, camera, photos: Photos, sizes: tuple[int, ...]) -> Tensor:
    """Of one photo."""
    offsets = offsets_of(moved, camera, sizes)
    return _TERMS.total(_TERMS.terms({"image": made}, photos) | _TERMS.offset_terms(offsets))


@contextmanager
def borrowed(parameters: Sequence[nn.Parameter], weights: Tensor | None = None) -> Iterator[None]:
    """Weights that may be changed in a block, or others (P,) in it; they are as before then."""
    own = [(one.data, one.requires_grad) for one in parameters]
    try:
        if weights is None:
            for one in parameters:
                one.data = one.data.clone()
        else:
            vector_to_parameters(weights, parameters)
        yield
    finally:
        for one, (value, learns) in zip(parameters, own, strict=True):
            one.data = value
            one.requires_grad_(learns)


def tuned(
    parameters: Sequence[nn.Parameter],
    drawn: Callable[[Tensor, Tensor], dict[str, Tensor]],
    found: tuple[Tensor, Tensor],
    photos: Photos,
    sizes: tuple[int, ...],
    objective: Objective,
    *,
    steps: int,
    rate: float,
    told: Callable[[int, float], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (1,D), a camera (1,6) and weights (P,) that draw a photo, after :func:`fitted`.

    All of a field descends at once, as in GazeNeRF's evaluation (``AlessandroRuzzi/GazeNeRF``), by
    the terms that it was trained with. The field itself is afterwards as it was.

    Args:
        parameters: all weights of the field.
        drawn: codes and a camera to pictures (1,3,S,S) by name, those of the objective.
        found: what :func:`fitted` found.
        photos: the photo.
        sizes: numbers of the parts of codes.
        objective: the terms; offsets are those from what was found.
        steps: of Adam.
        rate: its learning rate, a tenth of it for the camera.
        told: given every step's number and its loss.
    """
    codes, camera = (one.clone().requires_grad_() for one in found)
    with torch.enable_grad(), borrowed(parameters):
        for one in parameters:
            one.requires_grad_()
        groups = (([*parameters, codes], rate), ([camera], SLOW * rate))
        optimiser = torch.optim.Adam([{"params": own, "lr": lr} for own, lr in groups])
        for step in range(steps):
            offsets = offsets_of(codes - found[0], camera - found[1], sizes)
            terms = objective.terms(drawn(codes, camera), photos)
            loss = objective.total(terms | objective.offset_terms(offsets))
            learnt = [*parameters, codes, camera]
            slopes = torch.autograd.grad(loss, learnt, allow_unused=True)
            for value, slope in zip(learnt, slopes, strict=True):
                value.grad = slope
            optimiser.step()
            if told is not None:
                told(step, float(loss.detach()))
        for one in parameters:
            one.grad = None
        weights = parameters_to_vector(parameters).detach().clone()
    return codes.detach(), camera.detach(), weights
