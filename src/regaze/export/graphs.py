"""The contract's two verbs as modules of tensors alone, which can be written down as graphs.

A state is whatever a method likes: here it is taken apart into tensors with names, and put together
again. Tensors of a state that are columns of the source are not computed and so belong to no graph
but are given to ``edit`` under their own names; where nothing else is left, there is no ``invert``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace

import torch
from torch import Tensor, nn

from regaze.redirectors.base import Redirector, State

SOURCE = ("source", "source_gaze", "source_head")
"""Inputs of what is computed of a source: the picture, and its angles."""
TARGET = ("target_gaze", "target_head")
"""Inputs of what is asked for, besides noise."""
PICTURES = "pictures"
"""Output of ``edit``."""


def named_tensors(state: State, name: str = "state") -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a state, in an order that :func:`with_tensors` follows."""
    if isinstance(state, Tensor):
        yield name, state
    for key, value in _parts(state):
        yield from named_tensors(value, f"{name}_{key}")


def with_tensors(state: State, tensors: Iterator[Tensor]) -> State:
    """A state like this one with other tensors, in the order of :func:`named_tensors`."""
    if isinstance(state, Tensor):
        return next(tensors)
    made = {key: with_tensors(value, tensors) for key, value in _parts(state)}
    if isinstance(state, Mapping):
        return {key: made[str(key)] for key in state}
    if isinstance(state, list | tuple):
        return list(made.values())
    return replace(state, **made) if made else state


def _parts(state: State) -> Iterator[tuple[str, State]]:
    if isinstance(state, Mapping):
        yield from ((str(key), value) for key, value in state.items())
    elif isinstance(state, list | tuple):
        yield from ((str(place), value) for place, value in enumerate(state))
    elif is_dataclass(state) and not isinstance(state, type):
        yield from ((one.name, getattr(state, one.name)) for one in fields(state))


class Verbs:
    """A redirector's ``invert`` and ``edit`` on tensors.

    Args:
        redirector: in evaluation mode, on the CPU.
        source: a batch of :data:`SOURCE`, of two sources or more, that states are looked up on.

    Attributes:
        kept: names of tensors that ``invert`` computes.
        columns: names of :data:`SOURCE` that ``edit`` reads as they are.
        noise: names and shapes per picture of noise that ``edit`` reads.

    Raises:
        ValueError: pictures draw what cannot be given, see
            :meth:`regaze.redirectors.base.Redirector.noise_shapes`.
    """

    def __init__(self, redirector: Redirector, source: Mapping[str, Tensor]):
        self.redirector, self.noise = redirector, dict(redirector.noise_shapes())
        given = {name: source[name] for name in SOURCE}
        with torch.no_grad():
            self._like = redirector.invert(_with_row(given), seed=0)
        known = {id(value): name for name, value in given.items()}
        found = list(named_tensors(self._like))
        self._of = [known.get(id(value)) for _, value in found]
        computed = [name for (name, _), of in zip(found, self._of, strict=True) if of is None]
        # A row that is of no data set is the same for all.
        self.kept = [name for name in computed if not name.endswith("source_row")]
        self._constant = [name.endswith("source_row") for name, _ in found]
        self.columns = [name for name in SOURCE if name in self._of]

    @property
    def inverts(self) -> bool:
        """Whether anything is computed of a source that can be kept."""
        return bool(self.kept)

    def invert(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The tensors :attr:`kept` of :data:`SOURCE`, in that order."""
        state = self.redirector.invert(_with_row(dict(zip(SOURCE, given, strict=True))), seed=0)
        found = zip(named_tensors(state), self._of, self._constant, strict=True)
        # Of a graph no output may be a view of another, nor an input.
        return tuple(value.contiguous() for (_, value), of, same in found if not of and not same)

    def edit(self, *given: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] of what :meth:`edit_inputs` names, in that order."""
        told = dict(zip(self.edit_inputs(), given, strict=True))
        kept = iter([told[name] for name in self.kept])
        count = told[TARGET[0]].shape[0]

        def tensors() -> Iterator[Tensor]:
            for of, same in zip(self._of, self._constant, strict=True):
                if same:
                    yield torch.full((count,), -1)
                else:
                    yield next(kept) if of is None else told[of]

        target = {name: told[name] for name in (*TARGET, *self.noise)}
        target |= {"target_row": torch.full((count,), -1), "pair": torch.zeros(count).long()}
        return self.redirector.edit(with_tensors(self._like, tensors()), target, seed=0)

    def edit_inputs(self) -> list[str]:
        """Names of what :meth:`edit` is given."""
        return [*self.columns, *self.kept, *TARGET, *self.noise]


def _with_row(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch of sources that are of no data set."""
    return {**source, "source_row": torch.full((source["source"].shape[0],), -1)}


class Graph(nn.Module):
    """One verb as a module of tensors by position; its weights are the redirector's.

    Args:
        verbs: of the redirector.
        name: ``invert`` or ``edit``.
    """

    def __init__(self, verbs: Verbs, name: str):
        super().__init__()
        self.redirector, self._call = verbs.redirector, getattr(verbs, name)
        inverts = name == "invert"
        self.inputs: Sequence[str] = SOURCE if inverts else verbs.edit_inputs()
        self.outputs: Sequence[str] = verbs.kept if inverts else [PICTURES]

    def forward(self, *given: Tensor):
        """The verb of its inputs."""
        return self._call(*given)
