"""What every redirection method has to do, checked at tiny size: ``regaze test-method``.

A check is a function of a :class:`Bench`, which has everything that the method's declaration asks
for, made up: faces, inputs and untrained networks. It raises :class:`Failed` (any other error is a
failure too) or :class:`NotApplicable`. The unit tests of methods call the same checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import regaze.redirectors
from regaze.estimators.build import build_estimator
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.factors import FACTORS, GAZE_AND_HEAD
from regaze.methods import methods
from regaze.pairs import draw_pairs
from regaze.provenance import fingerprint
from regaze.redirectors.base import (
    Batch,
    Perturbable,
    Redirector,
    build_redirector,
    divided,
    selected,
)
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import MethodSettings, Network, declared_by
from regaze.redirectors.inputs import KINDS, FaceInput, check_names, open_inputs, reader_of
from regaze.redirectors.networks import load_network, load_redirector
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.train import TrainingData, Unlabelled, fit, pair_labels, train_redirector
from regaze.redirectors.validation import few_steps
from regaze.training.context import ModelFiles
from regaze.training.phases import Progress

STEPS, BATCH = 8, 4
"""Of trainings here."""

_TRAIN = {
    "images": STEPS * BATCH,
    "batch": BATCH,
    "accumulate": 1,
    "warmup_images": 0,
    # The weights that a training ends with are those in memory then.
    "ema_halflife_images": 0,
    "ema_std": (),
    "precision": "fp32",
    "compile": False,
    "cache": "memory",
    "workers": 0,
    "log_every_images": BATCH,
    "state_every_images": 2 * BATCH,
    "validate_every_images": 0,
    "select": "last",
    "tensorboard": False,
    "threads": 1,
    "gpus": 0,
    "nodes": 1,
    "transfer": None,
    "transfer_optimizer": False,
    "validate_pairs": 3,
    "validate_steps": 2,
}
_LISTS = {"train-redirector": list("abcd"), "val": ["e"], "test": list("fg")}
_HEADS, _GAZES = 2, 3
_CLOSE = 2e-3
"""Of pictures in [-1, 1]: more than rounding makes of another batch, less than a grey level."""


class Failed(AssertionError):
    """A method does not do what it has to; the message says what was found."""


class NotApplicable(Exception):
    """A check asks for something that the method does not claim to do; the message says what."""


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    Attributes:
        check: its name.
        state: ``passed``, ``failed`` or ``not applicable``.
        reason: what was found, or why it does not apply; empty where it passed.
    """

    check: str
    state: str
    reason: str = ""


class Bench:
    """An entry of ``models:`` at tiny size, with made-up data and networks in a folder.

    Args:
        name: of the entry.
        models, estimators: entries of the configuration, as far as it uses them.
        folder: empty, or that of another bench whose networks this one shares.
    """

    def __init__(
        self,
        name: str,
        models: Mapping[str, MethodSettings],
        estimators: Mapping[str, object],
        folder: str | Path,
    ):
        self.name, self.models, self.estimators = name, models, estimators
        self.folder = Path(folder)
        self.config = self._config(models[name].tiny().resolve())
        self.declaration = declared_by(self.config)
        self.size = self.config["size_px"]
        self.sampling = few_steps(self.config["class"], 2)

    @staticmethod
    def _config(config: dict) -> dict:
        train = config["train"]
        few = {key: value for key, value in _TRAIN.items() if key in train}
        done = {key: value for key, value in config.items() if key != "checkpoint"}
        done["train"] = {**train, **few}
        if "labels" in done:
            done["labels"] = {**done["labels"], "count": 12}
        return done

    @cached_property
    def faces(self) -> list[str]:
        """Shards of the data set: seven persons in two head poses with three gazes each."""
        path = self.folder / f"faces-{self.size}.h5"
        if not path.exists():
            _write_faces(path, self.size if self.size > 64 else 2 * self.size)
        return [str(path)]

    @cached_property
    def reader(self) -> FacesReader:
        """The faces."""
        return FacesReader(self.faces)

    @cached_property
    def split(self) -> str:
        """Split JSON."""
        path = self.folder / "split.json"
        path.write_text(json.dumps(_LISTS), encoding="utf-8")
        return str(path)

    @cached_property
    def input_files(self) -> dict[str, list[str]]:
        """Shards by kind of what it reads; one picture in three has none of it."""
        found = {}
        for one in self.declaration.inputs:
            path = self.folder / f"{self.name}-{one.kind}{Path(KINDS[one.kind].shard).suffix}"
            known = np.arange(len(self.reader)) % 3 != 2
            reader_of(one.kind).write_example(path, one.options, self.reader, known)
            found[one.kind] = [str(path)]
        return found

    @cached_property
    def inputs(self) -> dict[str, FaceInput]:
        """What it reads, opened."""
        return open_inputs(self.declaration, self.input_files, self.reader)

    @cached_property
    def unlabelled(self) -> TrainingData | None:
        """The data set that it learns from without labels: other persons with fewer gazes."""
        if not self.declaration.unlabelled:
            return None
        path = self.folder / f"unlabelled-{self.size}.h5"
        if not path.exists():
            side = FacesReader(self.faces).patch_size[0]
            _write_faces(path, side, gazes=_GAZES - 1, first=len(_LISTS) * 10)
        reader, files = FacesReader(path), {}
        for one in self.declaration.inputs:
            if "unlabelled" not in one.sides:
                continue
            shard = self.folder / f"{self.name}-bare-{one.kind}{Path(KINDS[one.kind].shard).suffix}"
            reader_of(one.kind).write_example(
                shard, one.options, reader, np.arange(len(reader)) % 3 != 2
            )
            files[one.kind] = [str(shard)]
        return TrainingData([str(path)], self.split, files)

    @cached_property
    def networks(self) -> dict[str, str]:
        """Model folders of untrained networks by role."""
        return {one.role: str(self._network(one)) for one in self.declaration.networks}

    def _network(self, one: Network) -> Path:
        folder = self.folder / "models" / one.entry
        if (folder / "model.json").exists():
            return folder
        if one.section == "models":
            Bench(one.entry, self.models, self.estimators, self.folder).write_untrained()
        elif one.section == "estimators":
            entry = self.estimators[one.entry]
            config = {"arch": entry.arch, "preset": "tiny", "size_px": self.size}
            config["preprocess"] = entry.preprocess
            torch.manual_seed(1)
            _write_model(folder, build_estimator(**config), kind="estimator", config=config)
        else:
            raise Failed(f"{one.role}: networks of {one.section} cannot be used yet")
        return folder

    def write_untrained(self) -> None:
        """Write the model folder of this entry with random weights."""
        networks = {
            one.role: {
                "entry": one.entry,
                "always": one.always,
                "fingerprint": fingerprint(Path(self.networks[one.role]) / "model.safetensors"),
            }
            for one in self.declaration.networks
        }
        _write_model(
            self.folder / "models" / self.name,
            self.woken(seed=2).saved,
            kind="redirector",
            config=self.config,
            inputs={kind: {"identity": one.identity} for kind, one in self.inputs.items()},
            networks=networks,
        )

    def built(self, seed: int = 0, **changes) -> Redirector:
        """An untrained redirector as training begins with it; ``changes`` are of its options."""
        torch.manual_seed(seed)
        redirector = build_redirector({**self.config, **changes}, self.sampling)
        redirector.attach({role: load_network(folder) for role, folder in self.networks.items()})
        fit(redirector, self.inputs, self.reader, _LISTS["train-redirector"])
        if self.unlabelled is not None:
            redirector.fit_unlabelled_rows(len(FacesReader(self.unlabelled.faces)))
        return redirector

    def woken(self, seed: int = 0, **changes) -> Redirector:
        """The same in evaluation mode, its layers of zeros with weights as if they had learnt."""
        redirector = self.built(seed, **changes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in redirector.network.parameters():
                if not parameter.any():
                    parameter.normal_(0, 0.05, generator=generator)
        return redirector.eval()

    def pairs(self, part: str = "train-redirector", **options) -> PairBatches:
        """Training batches."""
        labels = pair_labels(self.reader, _LISTS[part], options.pop("labels", None))
        given = {"size": self.size, "batch": BATCH, "seed": 0, "declaration": self.declaration}
        if self.unlabelled is not None and part == "train-redirector":
            bare = Unlabelled(self.declaration, self.unlabelled)
            options["unlabelled"] = bare.batches(size=self.size, batch=BATCH, seed=0)
        return PairBatches(
            self.reader, _LISTS[part], **given, inputs=self.inputs, **labels, **options
        )

    def batch(self, step: int = 0, flip: Tensor | None = None, **options) -> dict[str, Tensor]:
        """A training batch; ``flip`` (B,) bool says which pairs are mirrored."""
        batches = self.pairs(**options)
        loaded = batches.load(step)
        return batches.builder.finish(loaded, flip) if flip is not None else batches.finish(loaded)

    def requests(self, table: pd.DataFrame | None = None, count: int = 1):
        """Requests of test persons, by default seven of three sources; some lack an input."""
        builder = BatchBuilder(self.size, self.declaration, self.inputs, self.reader.pixels)
        return builder.requests(self.reader, self.table if table is None else table, count=count)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Evaluation pairs: four of two pictures each, and three of a sweep without a target."""
        counts = {GAZE_AND_HEAD: 4, "sweep": 1}
        return draw_pairs(
            self.reader, _LISTS["test"], counts, seed=0, dataset="example", sweep_steps=3
        )

    def asked(self) -> dict[str, Tensor]:
        """Sources and targets of the requests in one batch, a row per request."""
        requests = self.requests()
        source, target = requests.to("cpu")
        return {**selected(source, requests.source_of), **target}

    def trained(self, name: str, build: Callable = build_redirector) -> Path:
        """The folder of a model that is trained for some steps."""
        folder = self.folder / "models" / name
        files = ModelFiles(
            *(folder / file for file in ("model.safetensors", "model.json", "curve.csv")),
            state=self.folder / "state" / name,
        )
        given = (self.faces, self.split, self.input_files, self.networks, self.unlabelled)
        data = TrainingData(*given)
        train_redirector(self.name, self.config, data, seed=0, files=files, build=build)
        return folder

    @cached_property
    def unbroken(self) -> tuple[Path, Redirector]:
        """A trained model's folder, and the redirector that was trained."""
        seen: list[Redirector] = []

        def build(config, sampling):
            seen.append(build_redirector(config, sampling))
            return seen[0]

        return self.trained(f"{self.name}-unbroken", build), seen[0].eval()


def _write_model(folder: Path, network: nn.Module, **record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    content = {"name": folder.name, **record}
    (folder / "model.json").write_text(json.dumps(content), encoding="utf-8")


def _write_faces(path: Path, size: int, gazes: int = _GAZES, first: int = 0) -> None:
    """Coloured ovals with eyes that look where the labels say."""
    attributes = FacesAttributes("sted", (size, size), 125.0, 600.0, "none", "example")
    y, x = np.ogrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    with FacesWriter(path, attributes) as writer:
        for number, person in enumerate(sorted(sum(_LISTS.values(), []))):
            rng = np.random.default_rng(first + number)
            labels = np.zeros((_HEADS * gazes, 8), np.float32)
            labels[:, :2] = np.tile(rng.uniform(-0.4, 0.4, (gazes, 2)), (_HEADS, 1))
            labels[:, 2:4] = np.repeat(rng.uniform(-0.4, 0.4, (_HEADS, 2)), gazes, 0)
            skin, light = rng.uniform(90, 220, 3), rng.uniform(-30, 30)
            pixels = np.empty((len(labels), size, size, 3), np.uint8)
            for row, (pitch, yaw, up, left) in enumerate(labels[:, :4]):
                u, v = x + 0.4 * left, y + 0.4 * up
                face = np.where(u**2 / 0.5 + v**2 / 0.8 < 1, 1.0, 0.2)
                for side in (-0.3, 0.3):
                    eye = (u - side + 0.15 * yaw) ** 2 + (v + 0.2 + 0.15 * pitch) ** 2
                    face = face * (1 - 0.9 * np.exp(-eye / 0.01))
                shown = face[..., None] * skin + light * x[..., None]
                pixels[row] = np.clip(shown + rng.normal(0, 4, shown.shape), 0, 255)
            writer.add_person(person, pixels, labels)


def _expect(fact: bool, told: str) -> None:
    if not fact:
        raise Failed(told)


def _same(found: Tensor, wanted: Tensor, told: str, within: float = _CLOSE) -> None:
    _expect(found.shape == wanted.shape, f"{told}: {tuple(found.shape)} and {tuple(wanted.shape)}")
    off = float((found.float() - wanted.float()).abs().max())
    _expect(off <= within, f"{told}: they differ by up to {off:.3g}, expected at most {within:g}")


def _rows(batch: Batch, rows) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in batch.items()}


def _pictures(redirector: Redirector, batch: Batch, seed: int = 0, **options) -> Tensor:
    with torch.no_grad():
        return redirector.redirect(batch, seed=seed, **options)


@cache
def _needs_torch(module: str, path: tuple[str, ...]) -> bool:
    program = (
        "import importlib, sys, regaze.redirectors as r; r.__path__ = sys.argv[2:]; "
        "importlib.import_module(sys.argv[1]); sys.exit(3 * ('torch' in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    line = [sys.executable, "-c", program, module, *path]
    return subprocess.run(line, env=environment, capture_output=True).returncode == 3


def check_declaration(bench: Bench) -> None:
    """It is made without torch, and of what a trained model's record keeps; its names are known."""
    own, config = bench.declaration, bench.config
    module = f"{methods()[config['class']]}.settings"
    _expect(
        not _needs_torch(module, tuple(regaze.redirectors.__path__)),
        f"{module} imports torch, which the Snakefile would wait for at every start",
    )
    kept = json.loads(json.dumps(config))
    again = declared_by(kept)
    _expect(
        json.dumps(_plain(again)) == json.dumps(_plain(own)),
        "it says something else of the options that model.json keeps, in which tuples are lists",
    )
    _expect(bool(own.condition.strip()), "condition: expected words for the report, found none")
    check_names(own)
    configs = {one.role: bench.models[one.entry].tiny().resolve() for one in own.networks
               if one.section == "models"}  # fmt: skip
    type(bench.models[bench.name]).check_networks(config, configs)


def _plain(declaration) -> dict:
    inputs = [replace(one, options=dict(one.options)) for one in declaration.inputs]
    return {"rest": repr(replace(declaration, inputs=())), "inputs": [vars(one) for one in inputs]}


def check_building(bench: Bench) -> None:
    """It is built of its options alone; what is trained, averaged and saved lie in one another."""
    redirector = bench.built()
    network = set(redirector.network.parameters())
    saved, averaged = set(redirector.saved.parameters()), set(redirector.averaged.parameters())
    _expect(averaged <= saved, "averaged: expected a part of what is saved")
    _expect(saved <= network, "saved: expected a part of network")
    phases = redirector.phases()
    names = [phase.name for phase in phases]
    _expect(len(set(names)) == len(names) > 0, f"phases: expected different names, found {names}")
    for phase in phases:
        own = list(phase.parameters)
        _expect(bool(own), f"phase {phase.name}: expected parameters, found none")
        _expect(set(own) <= network, f"phase {phase.name}: trains what is no part of network")
    again = build_redirector(json.loads(json.dumps(bench.config)), bench.sampling)
    wanted, found = (set(one.saved.state_dict()) for one in (redirector, again))
    _expect(wanted == found, f"saved: other weights after attach: {sorted(wanted ^ found)[:4]}")


def check_learning(bench: Bench) -> None:
    """Every phase has a finite loss whose gradient reaches what it trains, no frozen network."""
    redirector, batch = bench.built(), bench.batch()
    redirector.network.train()
    frozen = {role: load_network(folder) for role, folder in bench.networks.items()}
    redirector.attach(frozen)
    for phase in redirector.phases():
        for parameter in redirector.network.parameters():
            parameter.grad = None
        at = Progress(max(1, phase.every), phase.after, torch.Generator().manual_seed(0))
        found = redirector.losses(batch, phase.name, at)
        for name, value in found.items():
            _expect(value.ndim == 0, f"phase {phase.name}: {name}: expected a scalar")
            _expect(
                bool(value.isfinite()), f"phase {phase.name}: {name} is {float(value.detach())}"
            )
        found["loss"].backward()
        count = sum(p.grad is not None and bool(p.grad.any()) for p in phase.parameters)
        _expect(count > 0, f"phase {phase.name}: its loss reaches none of its parameters")
    for role, network in frozen.items():
        moved = [name for name, one in network.named_parameters() if one.grad is not None]
        _expect(not moved, f"{role}: expected frozen, found gradients of {', '.join(moved[:3])}")


def check_validation(bench: Bench) -> None:
    """The loss that checkpoints are chosen by is a number, without gradients, and repeatable."""
    redirector, batch = bench.built().eval(), bench.batch(part="val")
    found = []
    for _ in range(2):
        at = Progress(0, 0, torch.Generator().manual_seed(0))
        with torch.no_grad():
            value = redirector.validation_loss(batch, at)
        _expect(value.ndim == 0 and bool(value.isfinite()), f"expected a number, found {value}")
        found.append(float(value))
    _expect(found[0] == found[1], f"expected the same number again, found {found[0]}, {found[1]}")


def check_reloading(bench: Bench) -> None:
    """Trained for some steps it has changed; from disk it makes the pictures of before."""
    folder, trained = bench.unbroken
    start = {k: v.clone() for k, v in bench.built().saved.state_dict().items()}
    weights = load_file(folder / "model.safetensors")
    _expect(
        any(not torch.equal(weights[key], value) for key, value in start.items()),
        f"no weight has changed in {STEPS} steps",
    )
    batch = bench.asked()
    loaded, _ = load_redirector(folder, bench.sampling)
    _same(_pictures(loaded, batch), _pictures(trained, batch), "pictures of the reloaded model")


def check_resuming(bench: Bench) -> None:
    """A training that is killed in the middle and run again ends as an unbroken one, to the bit."""
    whole, _ = bench.unbroken
    name = f"{bench.name}-resumed"
    try:
        bench.trained(name, _dying(STEPS // 2 + 1))
        raise Failed(f"expected {STEPS} steps, found fewer than {STEPS // 2 + 1}")
    except _Killed:
        pass
    again = bench.trained(name)
    weights = [load_file(folder / "model.safetensors") for folder in (whole, again)]
    different = [key for key in weights[0] if not torch.equal(weights[0][key], weights[1][key])]
    _expect(not different, f"other weights after a resume: {', '.join(different[:4])}")
    curves = [
        pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (whole, again)
    ]
    _expect(curves[0].equals(curves[1]), "another curve after a resume")


class _Killed(Exception):
    pass


def _dying(step: int) -> Callable[[Mapping, Mapping], Redirector]:
    def build(config, sampling):
        redirector = build_redirector(config, sampling)
        losses = redirector.losses

        def dying(batch, phase, at):
            if at.step == step:
                raise _Killed
            return losses(batch, phase, at)

        redirector.losses = dying
        return redirector

    return build


def check_pictures(bench: Bench) -> None:
    """Pictures are (B, 3, H, W) in [-1, 1], and are told what they cost and came of."""
    redirector, batch = bench.woken(), bench.asked()
    made = _pictures(redirector, batch)
    wanted = (len(batch["pair"]), 3, bench.size, bench.size)
    _expect(tuple(made.shape) == wanted, f"expected {wanted}, found {tuple(made.shape)}")
    _expect(bool(made.isfinite().all()), "expected numbers, found NaN or infinity")
    most = float(made.abs().max())
    _expect(most <= 1 + 1e-6, f"expected values from -1 to 1, found {most:.4g}")
    cost = redirector.evaluations_per_image()
    _expect(isinstance(cost, int) and cost >= 1, f"evaluations_per_image: found {cost!r}")
    size = redirector.bytes_per_image()
    _expect(size is None or size > 0, f"bytes_per_image: expected None or bytes, found {size!r}")
    told = redirector.describe_sampling()
    missing = {"sampler", "guidance"} - set(told)
    _expect(not missing, f"describe_sampling: lacks {', '.join(sorted(missing))}")
    for name, value in told.items():
        plain = isinstance(value, str | int | float)
        _expect(plain, f"describe_sampling: {name}: expected text or a number, found {value!r}")


def check_rows_alone(bench: Bench) -> None:
    """A picture depends on its row, pair and seed, not on size or order of its batch."""
    redirector, batch = bench.woken(), bench.asked()
    torch.manual_seed(5)
    whole = _pictures(redirector, batch)
    count = len(whole)
    for rows in ([count - 1], [2, 0], list(range(count))[::-1]):
        torch.manual_seed(6 + len(rows))
        told = f"pictures of rows {rows} alone and among {count}"
        _same(_pictures(redirector, _rows(batch, rows)), whole[rows], told)


def check_seed(bench: Bench) -> None:
    """The same seed gives the same pictures, whatever else was drawn at random before."""
    redirector, batch = bench.woken(), bench.asked()
    torch.manual_seed(5)
    first = _pictures(redirector, batch)
    torch.manual_seed(6)
    _expect(torch.equal(first, _pictures(redirector, batch)), "other pictures of the same seed")


def check_edit_of_invert(bench: Bench) -> None:
    """``redirect`` is ``edit`` of ``invert``, which see neither target's picture nor each other."""
    redirector, batch = bench.woken(), bench.asked()
    whole = _pictures(redirector, batch)
    source, target = divided(batch)
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        first = redirector.edit(state, target, seed=0)
        # A sweep asks one state for many pictures.
        redirector.edit(state, {**target, "target_gaze": target["target_gaze"] + 0.2}, seed=0)
        again = redirector.edit(state, target, seed=0)
    _same(first, whole, "edit of invert, and redirect", 1e-5)
    _same(again, first, "the same edit after another one of the same state", 0)


def check_one_source(bench: Bench) -> None:
    """The state of one source makes the pictures that a row per target makes."""
    redirector, batch = bench.woken(), bench.asked()
    source, target = divided(batch)
    alone = {name: value[:1] for name, value in source.items()}
    many = {name: value[:1].expand_as(value) for name, value in source.items()}
    with torch.no_grad():
        wanted = redirector.edit(redirector.invert(many, seed=0), target, seed=0)
        found = redirector.edit(redirector.invert(alone, seed=0), target, seed=0)
        _same(found, wanted, "pictures of one source, and of as many of it as targets")
        requests = bench.requests()
        sources, targets = requests.to("cpu")
        chosen = requests.of_requests(redirector.invert(sources, seed=0))
        made = redirector.edit(chosen, targets, seed=0)
    _same(made, _pictures(redirector, batch), "pictures of the sources that a state holds in rows")


def check_mirroring(bench: Bench) -> None:
    """What is trained with mirrored pairs gets pictures, labels and inputs mirrored together.

    That a network makes the mirrored picture of them is what it learns by it, and nothing that an
    untrained one could be asked for.
    """
    if not bench.config.get("objective", {}).get("flip"):
        raise NotApplicable("objective.flip: it is not trained with mirrored pairs")
    bench.pairs(flip=True)
    everyone = torch.ones(BATCH, dtype=torch.bool)
    plain, turned = bench.batch(), bench.batch(flip=everyone)
    asked = {"pair": torch.arange(BATCH)}
    for name, value in plain.items():
        column = name.partition("_")[2]
        if column in ("gaze", "head"):
            value = value * value.new_tensor((1.0, -1.0))
        elif value.ndim > 2:
            value = value.flip(-1)
        _same(turned[name], value, f"{name} of mirrored pairs", 1e-6)
    redirector = bench.woken()
    for phase in redirector.phases():
        at = Progress(1, phase.after, torch.Generator().manual_seed(0))
        loss = redirector.losses(turned, phase.name, at)["loss"]
        told = f"phase {phase.name}: loss of mirrored pairs is {loss.detach()}"
        _expect(bool(loss.isfinite()), told)
    made = [_pictures(redirector, one | asked) for one in (plain, turned)]
    changed = float((made[1] - made[0]).abs().max())
    _expect(changed > _CLOSE, "pictures of mirrored pairs are those of the pairs")


def check_angles(bench: Bench) -> None:
    """Pitch and yaw exchanged change the picture, of every direction that it edits."""
    redirector, batch = bench.woken(), bench.asked()
    pitch_and_yaw = [name for name, one in FACTORS.items() if one.parts == ("pitch", "yaw")]
    named = [name for name in pitch_and_yaw if name in bench.declaration.factors]
    if not named:
        raise NotApplicable("factors: it edits no direction")
    whole = _pictures(redirector, batch)
    for name in named:
        key = f"target_{name}"
        other = _pictures(redirector, {**batch, key: batch[key].flip(1)})
        changed = float((other - whole).abs().max())
        _expect(changed > 1e-4, f"{name}: exchanged pitch and yaw change no picture")


def check_unknown_inputs(bench: Bench) -> None:
    """Pictures without an input are made all the same, whatever stands in its place."""
    if not bench.declaration.inputs:
        raise NotApplicable("inputs: it reads nothing besides pictures and labels")
    redirector, batch = bench.woken(), bench.asked()
    other = dict(batch)
    for one in bench.declaration.inputs:
        for side in ("source", *({"target"} & set(one.sides))):
            unknown = ~batch[f"{side}_{one.kind}_known"]
            for column in bench.inputs[one.kind].columns:
                other[f"{side}_{column}"] = batch[f"{side}_{column}"].clone()
                other[f"{side}_{column}"][unknown] += 1
    made = _pictures(redirector, batch)
    _expect(bool(made.isfinite().all()), "expected numbers, found NaN or infinity")
    told = "pictures of rows that are not known, of zeros and of ones in their place"
    _same(_pictures(redirector, other), made, told)


def check_unlabelled(bench: Bench) -> None:
    """Labels of unlabelled targets decide no loss."""
    if not bench.declaration.unlabelled_targets:
        raise NotApplicable("unlabelled_targets: it learns from labelled pairs alone")
    labels = {"count": 12, "seed": 0, "targets": "any"}
    redirector = bench.woken(labels=labels)
    batch = bench.batch(labels=labels)
    unknown = ~batch["target_labelled"]
    _expect(bool(unknown.any()), "expected a target without labels in the batch, found none")
    other = dict(batch)
    for name in ("target_gaze", "target_head"):
        other[name] = torch.where(unknown[:, None], torch.ones_like(batch[name]), batch[name])
    for phase in redirector.phases():
        told = []
        for one in (batch, other):
            at = Progress(1, phase.after, torch.Generator().manual_seed(0))
            told.append(redirector.losses(one, phase.name, at)["loss"].detach())
        _same(*told, f"phase {phase.name}: losses of unknown labels of 0 and of 1", 1e-6)


def check_unlabelled_set(bench: Bench) -> None:
    """Pictures of the unlabelled data set reach a loss."""
    if bench.unlabelled is None:
        raise NotApplicable("unlabelled: it learns from one data set")
    redirector, batch = bench.woken(), bench.batch()
    losses = []
    for changed in (batch, {**batch, "unlabelled": -batch["unlabelled"]}):
        losses.append([])
        for phase in redirector.phases():
            at = Progress(max(1, phase.every), phase.after, torch.Generator().manual_seed(0))
            losses[-1].append(float(redirector.losses(changed, phase.name, at)["loss"].detach()))
    _expect(losses[0] != losses[1], "other unlabelled pictures change no loss")


def check_guidance(bench: Bench) -> None:
    """One pass gives the pictures of every guidance weight."""
    if not bench.declaration.guidable:
        raise NotApplicable("guidable: it cannot be guided")
    redirector, batch = bench.woken(), bench.asked()
    whole = _pictures(redirector, batch)
    made = _pictures(redirector, batch, weights=[0.0, 1.0])
    _expect(made.shape == (2, *whole.shape), f"expected (2, B, 3, H, W), found {tuple(made.shape)}")
    _same(made[0], whole, "pictures of weight 0 among others, and alone")
    _expect(float((made[1] - made[0]).abs().max()) > 1e-4, "weights 0 and 1 make the same pictures")


def check_path(bench: Bench) -> None:
    """The way to the pictures ends in them and is at most 40 long."""
    redirector, batch = bench.woken(), bench.asked()
    source, target = divided(batch)
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        way = redirector.record_path(state, target, seed=0)
    _expect(1 <= len(way) <= 40, f"expected 1 to 40 frames, found {len(way)}")
    _same(way[-1], _pictures(redirector, batch), "the last frame, and the pictures")
    if bench.declaration.denoises:
        _expect(len(way) > 1, "expected estimates on the way, found the pictures alone")


def check_several_sources(bench: Bench) -> None:
    """With several pictures of a person it makes pictures that depend on their own rows alone."""
    if not bench.declaration.several_sources:
        raise NotApplicable("several_sources: it is shown one picture")
    several = {name: 2 for name in bench.sampling if name == "sources"}
    redirector = build_redirector(bench.config, {**bench.sampling, **several})
    _expect(redirector.sources > 1, f"sources: expected several, found {redirector.sources}")
    redirector.attach({role: load_network(folder) for role, folder in bench.networks.items()})
    redirector.network.load_state_dict(bench.woken().network.state_dict())
    requests = bench.requests(count=redirector.sources)
    source, target = requests.to("cpu")
    batch = {**selected(source, requests.source_of), **target}
    whole = _pictures(redirector.eval(), batch)
    _expect(bool(whole.isfinite().all()), "expected numbers, found NaN or infinity")
    told = "pictures of rows [2, 0] alone and among others"
    _same(_pictures(redirector, _rows(batch, [2, 0])), whole[[2, 0]], told)


def check_turning(bench: Bench) -> None:
    """A factor turned by nothing leaves the reconstruction as it is, by an angle it does not."""
    redirector = bench.woken()
    if not isinstance(redirector, Perturbable):
        raise NotApplicable("Perturbable: it has no separate factors")
    source, _ = divided(bench.asked())
    with torch.no_grad():
        state = redirector.invert(source, seed=0)
        plain = redirector.reconstruct(state, seed=0)
        for factor, angles in redirector.angles().items():
            nothing = torch.zeros(len(plain), angles)
            _same(redirector.perturb(state, factor, nothing, seed=0), plain, f"{factor} unturned")
            turned = redirector.perturb(state, factor, nothing + 0.3, seed=0)
            _expect(float((turned - plain).abs().max()) > 1e-4, f"{factor}: turning has no effect")


def check_start(bench: Bench) -> None:
    """Weights to start from are taken whole or refused."""
    redirector, other = bench.built(seed=1), bench.woken(seed=2)
    state = {key: value.clone() for key, value in other.saved.state_dict().items()}
    _refuses(state, redirector.load_start, "load_start")
    redirector.load_start(state)
    batch = bench.asked()
    told = "pictures of loaded weights, and of those that they are of"
    _same(_pictures(redirector.eval(), batch), _pictures(other, batch), told)


def check_published(bench: Bench) -> None:
    """Weights in the published layout are taken whole or refused."""
    redirector, other = bench.built(seed=1), bench.woken(seed=2)
    state = _copied(other.reference_state())
    _refuses(state, lambda wrong: redirector.load_reference(wrong, bench.config), "load_reference")
    redirector.load_reference(state, bench.config)
    batch = bench.asked()
    told = "pictures of loaded weights, and of those that they are of"
    _same(_pictures(redirector.eval(), batch), _pictures(other, batch), told)


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
                _expect(key in str(error), f"{what}: {key} is {fault}: not named in: {error}")
            else:
                raise Failed(f"{what}: expected a refusal, {key} is {fault}")


CHECKS: dict[str, Callable[[Bench], None]] = {
    function.__name__.removeprefix("check_").replace("_", " "): function
    for function in (
        check_declaration,
        check_building,
        check_learning,
        check_validation,
        check_reloading,
        check_resuming,
        check_pictures,
        check_rows_alone,
        check_seed,
        check_edit_of_invert,
        check_one_source,
        check_mirroring,
        check_angles,
        check_unknown_inputs,
        check_unlabelled,
        check_unlabelled_set,
        check_guidance,
        check_path,
        check_several_sources,
        check_turning,
        check_start,
        check_published,
    )
}
"""All checks by name, in the order in which they run."""


def run_checks(bench: Bench, names: Iterable[str] = tuple(CHECKS)) -> Iterator[Outcome]:
    """Run checks on a bench, by default all, one after the other."""
    for name in names:
        try:
            CHECKS[name](bench)
            yield Outcome(name, "passed")
        except NotApplicable as error:
            yield Outcome(name, "not applicable", str(error))
        except Failed as error:
            yield Outcome(name, "failed", str(error))
        except Exception as error:  # whatever a method raises
            told = (str(error).strip() or "no message").splitlines()[0]
            yield Outcome(name, "failed", f"{type(error).__name__}: {told}")


def table(outcome: Outcome, width: int = 100) -> str:
    """A row of the table of outcomes; a long reason takes several lines."""
    start = f"{outcome.check:{max(map(len, CHECKS)) + 2}}{outcome.state:16}"
    rest = {"initial_indent": start, "subsequent_indent": " " * len(start)}
    return textwrap.fill(outcome.reason, width, **rest) if outcome.reason else start.rstrip()
