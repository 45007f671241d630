"""Checks of weights that trainings start from, and of a published layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from regaze.redirectors.bench import Bench, Failed
from regaze.redirectors.checks.common import (
    expect,
    pictures_of,
    same,
)


def check_start(bench: Bench) -> None:
    """Weights to start from are taken whole or refused."""
    redirector, other = bench.built(seed=1), bench.woken(seed=2)
    _loads(bench, redirector, other, other.saved.state_dict(), redirector.load_start)


def check_published(bench: Bench) -> None:
    """Weights in the published layout are taken whole or refused."""
    redirector, other = bench.built(seed=1), bench.woken(seed=2)

    def load_reference(state: Mapping) -> None:
        redirector.load_reference(state, bench.config)

    _loads(bench, redirector, other, other.reference_state(), load_reference)


def _loads(bench, redirector, other, state: Mapping, load: Callable[[Mapping], None]) -> None:
    """Whole weights of another redirector make its pictures, others are refused."""
    state = _copied(state)
    _refuses(state, load, load.__name__)
    load(state)
    batch = bench.asked()
    told = "pictures of loaded weights, and of those that they are of"
    same(pictures_of(redirector.eval(), batch), pictures_of(other, batch), told)


def _copied(state: Mapping) -> dict:
    return {k: _copied(v) if isinstance(v, Mapping) else v.clone() for k, v in state.items()}


def _leaves(state: dict) -> Iterator[tuple[dict, str]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _leaves(value)
        elif value.is_floating_point():
            yield state, key


def _refuses(state: dict, load: Callable[[dict], None], what: str) -> None:
    """A key missing, one too many or of another shape, the first and the last, each named."""
    for end in (0, -1):
        for fault in ("missing", "unexpected", "of another shape"):
            wrong = _copied(state)
            part, key = list(_leaves(wrong))[end]
            value = part[key]
            if fault == "missing":
                del part[key]
            elif fault == "unexpected":
                key = f"{key}_too_many"
                part[key] = value
            else:
                part[key] = torch.zeros(*value.shape, 2)
            try:
                load(wrong)
            except ValueError as error:
                expect(key in str(error), f"{what}: {key} is {fault}: not named in: {error}")
            else:
                raise Failed(f"{what}: expected a refusal, {key} is {fault}")
