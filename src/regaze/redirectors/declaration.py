"""What an entry of ``models:`` reads, uses and does, said once; importable without torch.

Rules, DVC stages, provenance, loaders, report and commands iterate over the declaration, so a
new role of a network or a new input is one line of the method's ``declare()``, and for an input a
class in :mod:`regaze.redirectors.inputs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from regaze.methods import method_module
from regaze.training.labels import SHARED, PairLabels
from regaze.training.settings import Jitter, transfer_file
from regaze.views import EntryData

TRANSFER = "train.transfer"
"""The option of weights that a training starts from, by which methods without any begin."""


@dataclass(frozen=True)
class Network:
    """A network that a method uses as it is, frozen.

    Attributes:
        role: the name under which the method is given it: ``estimator``, ``teacher``, ...
        section: of the configuration: ``estimators``, ``encoders``, ``models``, ``identity``, or
            ``assets`` for the networks of :data:`regaze.assets.NETWORKS`.
        entry: its name there, ``identity`` of the section without names. What is trained lies in
            ``results/models/<entry>``.
        always: it is needed to make pictures as well; without it in training only.
    """

    role: str
    section: Literal["estimators", "encoders", "models", "identity", "assets"]
    entry: str
    always: bool = False


@dataclass(frozen=True)
class StartFile:
    """A file of weights that a model begins with.

    Attributes:
        key: the option that names it, such as ``train.transfer``.
        path: of the file.
        published: it holds the weights of the model, and nothing is trained.
    """

    key: str
    path: str
    published: bool = False


@dataclass(frozen=True)
class Input:
    """Something that a method reads of every picture besides pixels and labels.

    Attributes:
        kind: a name of :data:`regaze.redirectors.inputs.KINDS`.
        options: what of it, as the class of the kind takes it.
        sides: of which pictures it is read: ``source``, or ``target`` as well, and ``unlabelled``
            where the method learns from an unlabelled data set.
        always: it is needed to make pictures as well; without it in training only.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sides: tuple[str, ...] = ("source", "target")
    always: bool = True


@dataclass(frozen=True)
class Declaration:
    """What an entry reads, uses and does.

    Attributes:
        condition: what of the target the method is conditioned on, in words for the report.
        factors: what it can edit, names of :data:`regaze.factors.FACTORS` and
            :data:`regaze.factors.CODED`; the latter are evaluated where an entry edits them.
        inputs: what it reads of every picture, each kind once.
        networks: what it uses, each role once.
        starts: files of weights that it begins with, besides ``checkpoint`` and ``train.transfer``,
            which every method may have; see :meth:`regaze.redirectors.base.Redirector.begin_with`.
        unlabelled_targets: it can learn from targets without labels. Where few samples have
            labels, its batches then pair labelled sources with any target of the person, whose
            labels are zeros unless ``target_labelled`` (B,) bool says otherwise.
        unlabelled: it can learn from pictures of another data set without labels besides; see
            :data:`regaze.redirectors.base.Batch`.
        denoises: its pictures are made from noise in steps.
        guidable: it was also trained without its condition, so that guidance is possible.
        several_sources: it can be shown several pictures of the person at a time.
        no_graph: why its pictures cannot be made by graphs of ONNX, in words for the user; empty
            where they can.
        unused: ``module:name`` below the method's package that a model of these options never
            uses; a change of it runs nothing again.
        kept: names of :data:`regaze.factors.CODED` that it should leave as they are, which are
            evaluated as well.
    """

    condition: str = "gaze and head angles"
    factors: tuple[str, ...] = ("gaze", "head")
    inputs: tuple[Input, ...] = ()
    networks: tuple[Network, ...] = ()
    starts: tuple[StartFile, ...] = ()
    unlabelled_targets: bool = False
    unlabelled: bool = False
    denoises: bool = False
    guidable: bool = False
    several_sources: bool = False
    no_graph: str = ""
    unused: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def network(self, role: str) -> str | None:
        """The entry that has a role, None without one."""
        return next((one.entry for one in self.networks if one.role == role), None)

    def input(self, kind: str) -> Input | None:
        """The input of a kind, None without one."""
        return next((one for one in self.inputs if one.kind == kind), None)

    def making(self) -> Declaration:
        """The same without inputs that are read in training only."""
        return replace(self, inputs=tuple(one for one in self.inputs if one.always))

    @property
    def published(self) -> str | None:
        """The file that has the weights of the model, None where it is trained."""
        return next((one.path for one in self.starts if one.published), None)

    @property
    def used(self) -> tuple[Network, ...]:
        """The networks that its model is made with: of published weights, those of pictures."""
        return tuple(one for one in self.networks if one.always or self.published is None)

    def using(self, *networks: Network) -> Declaration:
        """The same with further networks."""
        return replace(self, networks=(*self.networks, *networks))


class Sampling(BaseModel):
    """The section ``sampling:``: what the workflow makes, with which noise and which resources.

    How a method makes a picture is its own, see :class:`SamplingOptions`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_w: float = Field(
        0.0, ge=0, le=20, description="also sample guidance weights 0, 1, ... up to this; 0: none"
    )
    sample_only: bool = Field(False, description="stop the default target after the samples")
    save_gif: bool = Field(False, description="also animate how a few samples lose their noise")
    seed: int = Field(0, ge=0, description="seed of the noise, with the pair's number")
    batch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        50,
        description="images per chunk, or auto: as many as memory_mb holds; no influence on the "
        "result",
    )
    memory_mb: int = Field(
        1000, ge=50, description="for batch auto: memory of a chunk besides the network's weights"
    )
    threads: int = Field(1, ge=1, description="CPU threads of the job")
    gpus: int = Field(0, ge=0, description="GPUs of the job")

    @property
    def weights(self) -> list[float]:
        """Guidance weights that are sampled besides the entry's: 0, 1, ... up to ``max_w``."""
        return [float(w) for w in range(int(self.max_w) + 1)] if self.max_w >= 1 else []


class SamplingOptions(BaseModel):
    """The section ``sampling:`` of an entry of ``models:``; this one is of methods without any.

    A method that ``denoises`` has ``steps``, one that is ``guidable`` has ``guidance``. No option
    decides weights: while training, pictures are made with the defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs):
        if both := cls.model_fields.keys() & Sampling.model_fields.keys():
            raise TypeError(f"{cls.__name__}: the workflow has these itself: {sorted(both)}")


class MethodSettings(BaseModel):
    """What every entry of ``models:`` has; a method's ``ModelSettings`` adds its own options.

    A method defines ``class_``, ``size_px``, ``train`` and whatever it likes, :meth:`options` and
    :meth:`declare`; and where its pictures can be made in several ways, ``sampling`` with a class
    of its own and a default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    labels: PairLabels | None = Field(
        None, description="learn with the labels of so many samples; default all"
    )
    data: EntryData = EntryData()
    sampling: SamplingOptions = SamplingOptions()

    def options(self) -> dict:
        """What a training goes by, complete, presets filled in, as plain values.

        Raises:
            ValueError: options contradict each other; the message starts with the key's path.
        """
        return self.model_dump(by_alias=True, exclude={"labels", "data", "sampling"})

    def tiny(self) -> Self:
        """The same with networks as small as they can be, on which `regaze test-method` works."""
        return self

    @staticmethod
    def declare(config: Mapping[str, Any]) -> Declaration:
        """What a model of these :meth:`options` reads, uses and does."""
        return Declaration()

    @staticmethod
    def check_networks(config: Mapping[str, Any], networks: Mapping[str, Mapping]) -> None:
        """Refuse networks that a model of these options cannot use.

        Args:
            config: resolved.
            networks: resolved configurations of the entries that :meth:`declare` names, by role.

        Raises:
            ValueError: all reasons; the message starts with the key's path.
        """

    def resolve(self) -> dict:
        """:meth:`options`, with ``labels`` (``count``, ``seed``, ``estimator``, and ``targets``:
        ``labelled``, or ``any`` where the method learns from unlabelled ones) if it is set.

        Raises:
            ValueError: as of :meth:`options`; pairs are moved of which more is read than pixels.
        """
        done = self.options()
        jitter = done["train"].get("jitter")
        if jitter and Jitter(**jitter).moves and (inputs := self.declare(done).inputs):
            raise ValueError(
                "train.jitter: expected shift, zoom and roll_deg of 0, since "
                f"{', '.join(one.kind for one in inputs)} of moved faces are not known"
            )
        if self.labels is not None:
            targets = "any" if self.declare(done).unlabelled_targets else "labelled"
            done["labels"] = {**self.labels.model_dump(), "targets": targets}
        return done


def declared_by(config: Mapping[str, Any]) -> Declaration:
    """The declaration of a resolved configuration, with what its common options use.

    Raises:
        ValueError: its losses and its validation name different estimators.
    """
    own = method_module(config["class"], "settings").ModelSettings.declare(config)
    validating = config["train"].get("validate_estimator")
    learning = own.network("estimator")
    if validating is not None and learning is None:
        own = own.using(Network("estimator", "estimators", validating))
    elif validating not in (None, learning):
        raise ValueError(
            f"train.validate_estimator: {validating!r}, but the method learns from "
            f"{learning!r}; expected the same one"
        )
    labeller = (config.get("labels") or {}).get("estimator")
    if labeller is not None:
        own = own.using(Network("labeller", "estimators", labeller))
    starts = []
    if checkpoint := config.get("checkpoint"):
        starts.append(StartFile("checkpoint", checkpoint, published=True))
    elif (start := config["train"].get("transfer")) is not None:
        starts.append(StartFile(TRANSFER, transfer_file(start)))
    return replace(own, starts=(*starts, *own.starts))


def sampling_defaults(method: str) -> dict[str, Any]:
    """The options of sampling of a method where its entry says nothing."""
    field = method_module(method, "settings").ModelSettings.model_fields["sampling"]
    return field.get_default(call_default_factory=True).model_dump()


def declared(entry: MethodSettings) -> Declaration:
    """The declaration of an entry of ``models:``; see :func:`declared_by`."""
    return declared_by(entry.resolve())


def check_labels(
    path: str, entry: MethodSettings, sections: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a model with few labels that would get others through a network it learns from.

    Args:
        path: where the entry stands in the configuration, for the message.
        entry: of ``models:``; one without ``labels`` has nothing to hide.
        sections: ``estimators`` and ``models``: the entries that it may refer to, by name.

    Raises:
        ValueError: one of its networks has seen other labels; the message names both.
    """
    labels = entry.labels
    if labels is None:
        return
    for one in declared(entry).networks:
        other = sections.get(one.section, {}).get(one.entry)
        if other is None or one.section not in ("estimators", "models"):
            continue
        theirs = getattr(other, "labels", None)
        persons = getattr(other, "persons", SHARED)
        if theirs is not None and theirs.within(labels) and persons == SHARED:
            continue
        found = "all labels" if theirs is None else f"{theirs.count} labels of seed {theirs.seed}"
        raise ValueError(
            f"{path}: it may use {labels.count} labels of seed {labels.seed}, but its {one.role} "
            f"{one.section}.{one.entry} learns with {found} of {persons}, which would leak; give "
            f"that one labels: {{count: {labels.count}, seed: {labels.seed}}} of {SHARED} too"
        )
