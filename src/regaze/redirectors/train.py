"""The stage of a redirector: train it, or take over a published one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.evaluate import predict_rows
from regaze.estimators.quality import warn_of_blind
from regaze.faces import FacesReader
from regaze.outputs import several
from regaze.provenance import code_version, content_hash, fingerprint, versions
from regaze.redirectors.base import Redirector, build_redirector
from regaze.redirectors.declaration import TRANSFER, Declaration, declared_by
from regaze.redirectors.inputs import (
    FaceInput,
    NetworkFile,
    given_inputs,
    given_networks,
    open_inputs,
)
from regaze.redirectors.networks import about_networks, load_network, network_file
from regaze.redirectors.pairs import PairBatches, PictureBatches
from regaze.redirectors.patches import KEY, describe_patches
from regaze.redirectors.transfer import begin_from
from regaze.redirectors.validation import Redirections, few_steps
from regaze.training.averages import prefix_of
from regaze.training.context import START, ModelFiles, Training, published, write_model
from regaze.training.labels import SHARED, labelled_numbers
from regaze.training.phases import Progress
from regaze.training.settings import RedirectorTraining
from regaze.views import told_view

log = logging.getLogger("regaze.training")


@dataclass(frozen=True)
class TrainingData:
    """What a redirector is trained on and with.

    Attributes:
        faces: shards of the data set.
        split: split JSON.
        inputs: shards by kind of what the method reads of pictures besides pixels.
        networks: model folders of the networks that it uses, or where else they lie, by role.
        unlabelled: of the data set whose pictures it learns from without labels: ``faces``,
            ``split`` and ``inputs``; None without one.
    """

    faces: Sequence[str]
    split: str
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    networks: Mapping[str, str | NetworkFile] = field(default_factory=dict)
    unlabelled: TrainingData | None = None

    @classmethod
    def of_job(cls, job) -> TrainingData:
        """Named inputs and ``networks`` among the parameters of a rule.

        See :func:`given_inputs` and :func:`given_networks`.
        """
        files, unlabelled = job.input, None
        if files.get("unlabelled"):
            unlabelled = cls(
                several(files["unlabelled"]),
                str(files["unlabelled_split"]),
                given_inputs(files, "unlabelled_input_"),
            )
        return cls(
            faces=list(files["faces"]),
            split=str(files["split"]),
            inputs=given_inputs(files),
            networks=given_networks(files, job.params["networks"]),
            unlabelled=unlabelled,
        )


@dataclass(frozen=True)
class Album:
    """Pictures of one person whom a model is trained for.

    Attributes:
        person: name.
        rows: of the person's own, counted from the first.
    """

    person: str
    rows: tuple[int, ...]


def train_redirector(
    name: str,
    config: Mapping,
    data: TrainingData,
    *,
    seed: int,
    files: ModelFiles,
    code: str | None = None,
    album: Album | None = None,
    build: Callable[[Mapping, Mapping], Redirector] = build_redirector,
) -> None:
    """Train a redirector on the list ``train-redirector`` of the split and write its folder.

    Or on an album: then it is validated on the album as well, of whose person nothing else may be
    looked at, and its state stays until :func:`regaze.training.state.mark_finished` is called.

    Args:
        name: entry of ``models:``.
        config: that entry resolved to plain values (``ModelSettings.resolve``).
        data: what it is trained on and with.
        seed: seed of initial weights, order and noise.
        files: what is written.
        code: version of the sources that decide the weights; None takes all of the library.
        album: what is trained on in place of the list.
        build: makes the untrained redirector of ``config`` and options of sampling.
    """
    declaration = declared_by(config)
    about = {"kind": "redirector", "class": config["class"], "told": declaration.condition}
    about["versions"] = versions(config["class"])
    if not declaration.factors:
        about["reconstructs"] = True
    if declaration.published is not None:
        config, weights, told = _published(config, declaration, data)
        view = told_view(FacesReader(data.faces[:1]).attributes)
        used = about_networks(declaration, data.networks)
        about |= {**told, "inputs": {}, "networks": used, "view": view}
        write_model(name, config, weights, START, about, files=files, seed=seed)
        return
    training = Training(
        name,
        config,
        faces=data.faces,
        split=data.split,
        seed=seed,
        files=files,
        code=code or code_version(".", f"redirectors/{config['class']}"),
    )
    options = RedirectorTraining(**config["train"])
    redirector = build(config, few_steps(config["class"], options.validate_steps))
    networks = _networks(declaration, data)
    redirector.attach(networks)
    for one in declaration.used:
        training.use(one.role, network_file(data.networks[one.role]).weights)
    reader, persons = training.reader, training.learn_from(SHARED)
    inputs = open_inputs(declaration, data.inputs, reader)
    chosen = None
    if album is not None:
        persons, chosen = [album.person], np.array(album.rows)
        training.data |= {"persons": album.person, "album": list(album.rows)}
    fit(redirector, inputs, reader, persons, chosen)
    bare = None if data.unlabelled is None else Unlabelled(declaration, data.unlabelled)
    if bare is not None:
        redirector.fit_unlabelled_rows(len(bare.reader))
        training.data["unlabelled"] = bare.told
    begin, own = None, {}
    for one in declaration.starts:
        if one.key == TRANSFER:
            begin = begin_from(redirector, one.path, options.transfer_optimizer)
            training.data["transfer"] = fingerprint(begin.path)
        else:
            own[one.key] = one.path
            training.data[one.key] = fingerprint(one.path)
    redirector.begin_with(own)
    objective = config.get("objective", {})
    given = {"size": config["size_px"], "declaration": declaration, "inputs": inputs}
    given["chosen"] = chosen
    labels = pair_labels(reader, persons, config.get("labels"), networks.get("labeller"))

    def batches(rank, world):
        common = {**training.share(rank, world), "flip": objective.get("flip", False)}
        return PairBatches(
            reader,
            persons,
            **given,
            **common,
            **labels,
            same_head_fraction=objective.get("same_head_fraction", 0.0),
            unlabelled=bare and bare.batches(size=config["size_px"], **common),
            jitter=options.jitter,
        )

    val = persons if album is not None else training.persons("val")

    def held(count):
        return PairBatches(reader, val, **given, batch=count, seed=seed, cache="none")

    losses = held(16)
    estimator = networks.get("estimator")
    shown = Redirections(redirector, held(options.validate_pairs), seed=seed, estimator=estimator)

    def validate():
        if options.validate_estimator is not None:
            return {**shown.errors(), "loss": _validation_loss(redirector, losses)}
        return {"score": _validation_loss(redirector, losses)}

    training.data |= {kind: one.identity for kind, one in inputs.items()}
    more = {f"{k} of rows": one.fingerprint() for k, one in inputs.items()}
    identity = training.identity(more | (bare.fingerprints() if bare is not None else {}))
    weights, points = training.run(
        redirector,
        batches,
        identity=identity,
        validate=validate,
        show=shown.picture,
        show_every=options.image_every_images,
        begin=None if begin is None else begin.restore,
    )
    about["inputs"] = {
        one.kind: {**one.options, "identity": inputs[one.kind].identity}
        for one in declaration.inputs
    }
    about["networks"] = about_networks(declaration, data.networks)
    rows = reader.rows(persons)
    labelled = rows[labels["labelled"]] if "labelled" in labels else None
    about[KEY] = describe_patches(
        reader, rows if chosen is None else rows[chosen], labelled, objective.get("flip", False)
    )
    if training.settings.ema_std:
        about["snapshots"] = content_hash(identity)
        if prefix := prefix_of(redirector.averaged, redirector.saved):
            about["averaged"] = prefix
    training.write(weights, points, about)
    if album is None:
        training.finish()


class Unlabelled:
    """The data set that a training learns from without labels, opened.

    Args:
        declaration: of the method.
        data: its faces, split and inputs.

    Attributes:
        reader, persons: faces, and whose of them are learnt from.
        told: what ``model.json`` tells of it.

    Raises:
        ValueError: none of these persons has a picture.
    """

    def __init__(self, declaration: Declaration, data: TrainingData):
        self.reader = FacesReader(data.faces)
        people = json.loads(Path(data.split).read_text(encoding="utf-8"))
        self.persons = people[SHARED]
        if not len(self.reader.rows(self.persons)):
            raise ValueError(
                f"{data.split}: split: {SHARED}: expected somebody with unlabelled pictures, found "
                f"no face of {len(self.persons)} persons"
            )
        own = [one for one in declaration.inputs if "unlabelled" in one.sides]
        self.declaration = replace(declaration, inputs=tuple(own))
        self.inputs = open_inputs(self.declaration, data.inputs, self.reader)
        self.told = {
            "persons": SHARED,
            "rows": len(self.reader),
            "split": fingerprint(data.split),
            **{kind: one.identity for kind, one in self.inputs.items()},
        }

    def fingerprints(self) -> dict[str, str]:
        """Of all that batches may have of it."""
        found = {
            f"unlabelled {kind} of rows": one.fingerprint() for kind, one in self.inputs.items()
        }
        return {"unlabelled faces": self.reader.fingerprint(), **found}

    def batches(self, **options) -> PictureBatches:
        """Its pictures, batch by batch."""
        given = {"declaration": self.declaration, "inputs": self.inputs}
        return PictureBatches(self.reader, self.persons, **given, **options)


def _networks(declaration: Declaration, data: TrainingData) -> dict[str, torch.nn.Module]:
    """The networks by role; of estimators that hardly see changes of gaze the log tells."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {one.role: load_network(data.networks[one.role], device) for one in declaration.used}
    for role, network in found.items():
        if isinstance(network, GazeHeadEstimator):
            warn_of_blind(log, network.record, f"as {role} of this training it says little of that")
    return found


def fit(
    redirector: Redirector,
    inputs: Mapping[str, FaceInput],
    reader: FacesReader,
    persons: Sequence[str],
    chosen: np.ndarray | None = None,
) -> None:
    """Show an untrained redirector what it may see of the data before it is trained on them.

    ``chosen`` are numbers of the rows of ``persons`` that are trained on, None: all of them.
    """
    redirector.fit_rows(len(reader))
    rows = reader.rows(persons)
    rows = rows if chosen is None else rows[chosen]
    for kind, one in inputs.items():
        known = rows[one.known[rows]]
        if not len(known):
            raise ValueError(f"{kind}: none of {len(rows)} training faces has any")
        if len(known) < len(rows):
            log.info(
                "%d of %d training faces have no %s and are not drawn",
                *(len(rows) - len(known), len(rows), kind),
            )
        if one.in_memory:
            redirector.fit_input(kind, one.read(known))


def _validation_loss(redirector: Redirector, batches: PairBatches) -> float:
    device = next(redirector.network.parameters()).device
    values = []
    for step in range(8):
        batch = {key: value.to(device) for key, value in batches.load(step).items()}
        generator = torch.Generator(device).manual_seed(step)
        at = Progress(step, 0, generator)
        values.append(redirector.validation_loss(batches.finish(batch), at))
    return float(torch.stack(values).mean())


def pair_labels(
    reader, persons: Sequence[str], labels: Mapping[str, Any] | None, labeller=None
) -> dict[str, Any]:
    """Arguments of :class:`regaze.redirectors.pairs.PairBatches` for a section ``labels``.

    Args:
        reader: faces of the data set.
        persons: whom to train on.
        labels: ``count``, ``seed`` and ``targets`` (``labelled`` or ``any``); None: all labels.
        labeller: a trained estimator that labels the pictures without labels, or None.

    Raises:
        ValueError: there are fewer samples than labels asked for.
    """
    if labels is None:
        return {}
    numbers = labelled_numbers(reader, persons, labels)
    if labeller is None:
        return {"labelled": numbers, "targets": labels["targets"]}
    rows = reader.rows(persons)
    table = predict_rows(labeller, reader, rows)
    table[numbers] = reader.labels[rows[numbers], :4]
    return {"labelled": numbers, "labels": table}


def _published(
    config: Mapping, declaration: Declaration, data: TrainingData
) -> tuple[Mapping, Mapping[str, torch.Tensor], dict[str, Any]]:
    """Configuration and weights of a published file in the layout of the method, and about them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not the weights of these networks.
    """
    redirector = build_redirector(config)
    redirector.attach(_networks(declaration, data))
    path = declaration.published
    try:
        state = redirector.read_reference(path)
        found = redirector.reference_config(state, config)
        if found != config:
            redirector = build_redirector(found)
        redirector.load_reference(state, found)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    return found, redirector.saved.state_dict(), published(path)
