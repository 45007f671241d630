"""The contract that every redirection method meets.

A method is a folder with a ``settings.py`` (its ``ModelSettings``, importable without torch, which
declares what the method reads and uses) and a ``redirector.py`` (its ``build(config, sampling) ->
Redirector``). It is found by name, see :func:`regaze.methods.methods`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from regaze.methods import method_module
from regaze.redirectors.declaration import Sampling
from regaze.training.phases import Phase, Progress
from regaze.weights import load_strictly

Batch = Mapping[str, Tensor]
"""What methods are given of pictures, tensors by name.

Of sources: ``source`` (B,3,H,W) in [-1,1], ``source_gaze`` and ``source_head`` (B,2) radians,
``source_row`` (B,) int64, the picture's number in its data set or -1; per declared input a column
``source_<column>`` and ``source_<kind>_known`` (B,) bool. With several pictures of the source
``sources``, ``sources_gaze``, ... (B,K,...), of which number 0 is the source itself.

Of targets: ``target_gaze``, ``target_head``, of pairs ``target_<name>`` of every other factor that
is evaluated (:mod:`regaze.factors`), ``target_row`` (-1 where there is no picture of it),
inputs as above, and ``pair`` (B,) int64, the identity that a picture's noise is seeded by. While
training also ``target`` (B,3,H,W) and ``target_labelled`` (B,) bool.

While training with an unlabelled data set also ``unlabelled`` (B,3,H,W), ``unlabelled_row`` (B,)
int64, their numbers in that data set, and declared inputs of that side: pictures of no pair."""

State = Any
"""What :meth:`Redirector.invert` keeps of sources: tensors whose first axis is the sources', in
mappings, sequences and dataclasses; anything else in them is shared by all sources."""


class Redirector(nn.Module):
    """A trainable method that turns a source picture towards another gaze and head pose."""

    @property
    def network(self) -> nn.Module:
        """All that training changes; phases train parts of it."""
        raise TypeError(f"{type(self).__name__} defines no network")

    @property
    def saved(self) -> nn.Module:
        """The module in :attr:`network` whose weights are the model's."""
        return self.network

    @property
    def averaged(self) -> nn.Module:
        """The module in :attr:`saved` whose weights are averaged over the training."""
        return self.saved

    def attach(self, networks: Mapping[str, nn.Module]) -> None:
        """Take the frozen networks that the method declared, by role.

        They are no part of :attr:`network`: neither trained nor saved. Those declared as
        ``always`` are given before pictures are made as well, the others before training only.

        Raises:
            ValueError: one that the method cannot use.
        """

    def fit_rows(self, count: int) -> None:
        """Learn how many pictures the data set has, before training only.

        Values that are learnt per picture are looked up by ``source_row`` and ``target_row``. They
        are a part of :attr:`network`, but not of :attr:`saved`: other data sets have other rows.
        """

    def fit_unlabelled_rows(self, count: int) -> None:
        """The same of the unlabelled data set, looked up by ``unlabelled_row``, where there is one.

        Called after :meth:`fit_rows`.
        """

    def fit_input(self, kind: str, values: Batch) -> None:
        """Take an input's values (N, ...) by column of all rows that are trained on.

        Called before training only; statistics of them belong to the state of :attr:`network`.
        Not called for inputs that are read from disk batch by batch.
        """

    def load_start(self, state: Mapping[str, Tensor]) -> None:
        """Start from trained weights; before training, after :meth:`fit_input`.

        Args:
            state: state dict of :attr:`saved`, of this project or a published checkpoint's.

        Raises:
            ValueError: keys are missing or unexpected, or shapes differ; all are listed.
        """
        load_strictly(self.saved, state)

    def begin_with(self, files: Mapping[str, str]) -> None:
        """Take weights of parts from files; before training, after all others of its kind.

        Args:
            files: paths by the options that the method declares as ``starts``; it checks what is
                in them, and reads nothing but plain tensors.

        Raises:
            FileNotFoundError, ValueError: a file is missing, or does not fit.
        """

    def phases(self) -> Sequence[Phase]:
        """In the order in which they run within a step."""
        return [Phase("main", list(self.network.parameters()))]

    def losses(self, batch: Batch, phase: str, at: Progress) -> dict[str, Tensor]:
        """Scalar losses of a training batch; ``loss`` is minimised."""
        raise TypeError(f"{type(self).__name__} defines no losses")

    def validation_loss(self, batch: Batch, at: Progress) -> Tensor:
        """The loss that checkpoints are chosen by where no estimator reads the pictures.

        That of the last phase; adversarial methods name one that means something by itself.
        """
        return self.losses(batch, self.phases()[-1].name, at)["loss"]

    def invert(self, source: Batch, *, seed: int) -> State:
        """What the method needs of sources, computed once however many pictures are asked for.

        The default keeps the batch as it is. Called without gradients; a method that fits
        something to the source turns them on itself.
        """
        return dict(source)

    def edit(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """Pictures (B,3,H,W) in [-1,1] of sources as targets describe them.

        Args:
            state: of as many sources as targets, or of one source.
            target: see :data:`Batch`. Methods with guidance also take ``weights``, a sequence of
                W guidance weights in place of the configured one, and return (W,B,3,H,W).
            seed: each picture depends on its own row, its ``pair`` number and this, never on the
                size or order of the batch.
        """
        raise TypeError(f"{type(self).__name__} defines no edit")

    def redirect(self, batch: Batch, *, seed: int, **options) -> Tensor:
        """:meth:`edit` of :meth:`invert`, for a batch that holds sources and targets."""
        source, target = divided(batch)
        return self.edit(self.invert(source, seed=seed), target, seed=seed, **options)

    def record_path(self, state: State, target: Batch, *, seed: int) -> Tensor:
        """The way to the pictures of :meth:`edit`, (T,B,3,H,W), the pictures last.

        Methods that denoise have their estimates on the way, at most 40 frames; others nothing.
        """
        return self.edit(state, target, seed=seed)[None]

    def bytes_per_image(self, weights: int = 1) -> int | None:
        """About how much memory a picture takes while it is made with so many guidance weights.

        None: so little that nobody needs to ask.
        """
        return None

    def read_reference(self, path: str) -> Mapping:
        """Read a file of the method's published layout, for :meth:`load_reference`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another file.
        """
        raise TypeError(f"{type(self).__name__} knows no published files")

    def reference_state(self) -> Mapping:
        """The weights in the method's published layout, as :meth:`load_reference` takes them."""
        return self.saved.state_dict()

    def reference_config(self, state: Mapping[str, Tensor], config: Mapping) -> Mapping:
        """The configuration that published weights are of, where they tell more than its entry.

        Raises:
            ValueError: they are of no such networks.
        """
        return config

    def load_reference(self, state: Mapping[str, Tensor], config: Mapping) -> None:
        """Load the method's published checkpoint layout.

        Raises:
            ValueError: keys are missing or unexpected; the message lists them.
        """
        load_strictly(self.saved, state)

    def noise_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Columns of targets that may give noise in place of a seed, and their shapes per picture.

        With all of them :meth:`edit` draws nothing, and so can be a graph.

        Raises:
            ValueError: it draws something that cannot be given; the message says what.
        """
        return {}

    def evaluations_per_image(self) -> int:
        """Network evaluations that one redirected picture costs."""
        return 1

    @property
    def sources(self) -> int:
        """Pictures of the person that a source is shown by, itself among them."""
        return 1

    def describe_sampling(self) -> dict[str, str | float | int]:
        """What decides the pictures besides weights and seed: sampler, steps, guidance."""
        return {"sampler": "none", "guidance": 0.0}


@dataclass(frozen=True)
class Moves:
    """Pictures whose pixels were moved, and how.

    Attributes:
        pictures: (B, 3, H, W) in [-1, 1].
        flow: (B, 2, H, W) pixels x, y from a pixel to where it was taken from in the source, there
            bilinearly.
        share: (B, 1, H, W) how much of the source's own detail goes with it; the rest was painted.
    """

    pictures: Tensor
    flow: Tensor
    share: Tensor


@runtime_checkable
class Fitting(Protocol):
    """What a redirector also has when sources are fitted, which takes long and is worth keeping.

    States are flat mappings of tensors, one of which is ``codes`` (B, D).
    """

    @property
    def code_parts(self) -> Mapping[str, int]:
        """Names of the parts of codes, in order, and how many numbers each has."""
        ...

    def fit(
        self, source: Batch, *, seed: int, told: Callable[[int, float], None] | None = None
    ) -> State:
        """:meth:`Redirector.invert`; ``told`` is given every step's number and its loss."""
        ...

    def read_codes(self, path: str | os.PathLike) -> Tensor:
        """Codes (1, D) of a published file, which a fit may start at as ``source_start``.

        Raises:
            FileNotFoundError, ValueError: there is none, or codes of another kind or length.
        """
        ...

    def published_codes(self, state: State) -> Mapping:
        """The state of one source in the published container of codes, for ``torch.save``."""
        ...


@runtime_checkable
class Moving(Protocol):
    """What a redirector also has when it moves pixels of its source: photos keep their detail."""

    def moves(self, state: State, target: Batch, *, seed: int) -> Moves:
        """:meth:`Redirector.edit` with where the pixels are from."""
        ...


@runtime_checkable
class Perturbable(Protocol):
    """What a redirector also has when it describes a face by separate factors that can be turned.

    The induced errors of ST-ED are measured on it (:mod:`regaze.metrics.disentanglement`): pictures
    are those of the decoder, not clipped, and each row depends on itself and ``seed`` alone.
    """

    def angles(self) -> Mapping[str, int]:
        """Factors that can be turned and their numbers of angles; ``gaze`` and ``head`` are two."""
        ...

    def reconstruct(self, state: State, *, seed: int) -> Tensor:
        """The sources of :meth:`Redirector.invert` with nothing changed: (B,3,H,W)."""
        ...

    def perturb(self, state: State, factor: str, change: Tensor, *, seed: int) -> Tensor:
        """The sources with one factor turned from its own angles by ``change`` (B,n) radians."""
        ...


def divided(batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parts of a batch that are of sources and of targets."""
    source = {name: value for name, value in batch.items() if name.startswith("source")}
    return source, {name: value for name, value in batch.items() if name not in source}


def selected(state: State, rows: Tensor) -> State:
    """The state of chosen sources, ``rows`` (B,) int64."""
    if isinstance(state, Tensor):
        return state.index_select(0, rows.to(state.device))
    if isinstance(state, Mapping):
        return {name: selected(value, rows) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [selected(value, rows) for value in state]
    if is_dataclass(state) and not isinstance(state, type):
        own = {one.name: getattr(state, one.name) for one in fields(state)}
        return type(state)(**{name: selected(value, rows) for name, value in own.items()})
    return state


def build_redirector(config: Mapping, sampling: Mapping | None = None) -> Redirector:
    """Build an untrained redirector.

    Args:
        config: the resolved model configuration (``class`` names the method).
        sampling: the entry's options of sampling, by default the method's; those of the workflow
            may be among them.

    Raises:
        ValueError: no such method.
    """
    build: Callable = method_module(config["class"], "redirector").build
    shared = Sampling.model_fields
    own = {name: value for name, value in (sampling or {}).items() if name not in shared}
    return build(dict(config), own)


@runtime_checkable
class CodeEditor(Protocol):
    """What a redirector also has when it edits W+ codes of a generator.

    Codes are those that the generator takes: a row of numbers for each of its layers.
    """

    def w_plus(self, state: State) -> Tensor:
        """Codes (B, rows, numbers) of sources that are inverted."""
        ...

    def of_w_plus(self, codes: Tensor) -> State:
        """The state of sources with these codes, as :meth:`Redirector.edit` takes it."""
        ...

    def inversion(self, state: State) -> Tensor:
        """Pictures (B,3,S,S) in [-1, 1] of sources as their codes are drawn, unedited."""
        ...
