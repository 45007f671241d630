"""A bench for a redirection method: its entry at tiny size, with everything made up that it reads.

It has what the method's declaration asks for: faces, inputs and untrained networks. Checks of
:mod:`regaze.redirectors.checks` and unit tests of methods work on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from regaze.capture.head import HeadConfig, build_head
from regaze.estimators.build import build_estimator
from regaze.face3d.deca import Deca
from regaze.face3d.model import model_hash, save_flame
from regaze.faces import FacesAttributes, FacesReader, FacesWriter
from regaze.factors import CODED, GAZE_AND_HEAD, factors_named
from regaze.identity.store import build_recogniser
from regaze.pairs import draw_pairs
from regaze.perceptual import example_weights
from regaze.provenance import file_sha256
from regaze.redirectors.base import Redirector, build_redirector, selected
from regaze.redirectors.batches import BatchBuilder
from regaze.redirectors.declaration import MethodSettings, Network, declared_by
from regaze.redirectors.inputs import KINDS, FaceInput, NetworkFile, open_inputs, reader_of
from regaze.redirectors.networks import HEAD, about_networks, load_network
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.train import TrainingData, Unlabelled, fit, pair_labels, train_redirector
from regaze.redirectors.validation import few_steps
from regaze.training.context import ModelFiles

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


def _landmarks() -> np.ndarray:
    """The 68 landmarks (68, 2) of the ovals that are drawn here, x and y from -1 to 1."""
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    jaw = np.stack([0.7 * np.cos(np.linspace(np.pi, 0, 17)), np.linspace(0, 1, 17)], 1)
    jaw[:, 1] = 0.9 * np.sin(np.linspace(0, np.pi, 17))
    brow = np.stack([np.linspace(-0.14, 0.14, 5), [-0.36, -0.4, -0.41, -0.4, -0.36]], 1)
    nose = np.stack([np.zeros(4), np.linspace(-0.2, 0.1, 4)], 1)
    base = np.stack([np.linspace(-0.1, 0.1, 5), np.full(5, 0.16)], 1)
    eye = np.float64([(-0.12, 0), (-0.05, -0.06), (0.05, -0.06), (0.12, 0), (0.05, 0.06)])
    eye = np.vstack([eye, [(-0.05, 0.06)]]) + [0, -0.2]
    left, right = np.float64([-0.3, 0]), np.float64([0.3, 0])
    mouth = np.float64([0, 0.45])
    lips = mouth + ring * [0.25, 0.1], mouth + ring[::3].repeat(2, 0) * [0.15, 0.04]
    return np.vstack([jaw, brow + left, brow + right, nose, base, eye + left, eye + right, *lips])


_LANDMARKS = _landmarks()


class Failed(AssertionError):
    """A method does not do what it has to; the message says what was found."""


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
    def networks(self) -> dict[str, str | NetworkFile]:
        """Untrained networks by role: model folders, of assets what they are."""
        return {one.role: self._network(one) for one in self.declaration.networks}

    def _network(self, one: Network) -> str | NetworkFile:
        if one.section == "assets":
            path = self.folder / f"{one.entry}.pth"
            if not path.exists():
                torch.save(example_weights(one.entry), path)
            return NetworkFile(str(path), {"asset": one.entry, "sha256": file_sha256(path)})
        return str(self._model_folder(one))

    def _model_folder(self, one: Network) -> Path:
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
        elif one.section == "identity":
            config = {"network": "tiny", "size_px": 32}
            torch.manual_seed(1)
            _write_model(folder, build_recogniser(**config), kind="identity", config=config)
        else:
            write_encoder(folder, self.folder / HEAD)
        return folder

    def write_untrained(self) -> None:
        """Write the model folder of this entry with random weights."""
        _write_model(
            self.folder / "models" / self.name,
            self.woken(seed=2).saved,
            kind="redirector",
            config=self.config,
            inputs={kind: {"identity": one.identity} for kind, one in self.inputs.items()},
            networks=about_networks(self.declaration, self.networks),
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
        told = self.declaration.making()
        builder = BatchBuilder(self.size, told, self.inputs, self.reader.pixels)
        return builder.requests(self.reader, self.table if table is None else table, count=count)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Evaluation pairs: four of two pictures each, and three of a sweep without a target."""
        counts = {GAZE_AND_HEAD: 4, "sweep": 1}
        factors, codes = factors_named(self.declaration.factors), self.folder / "codes.parquet"
        given = {"factors": factors, "seed": 0, "dataset": "example", "sweep_steps": 3}
        if set(factors) & set(CODED):
            reader_of("codes").write_example(
                codes, {}, self.reader, np.ones(len(self.reader), bool)
            )
            given["codes"] = [codes]
        return draw_pairs(self.reader, _LISTS["test"], counts, **given)

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


def write_encoder(folder: Path, head: Path) -> None:
    """Write the model folder of a tiny 3-D face encoder of random weights, and its head model."""
    model = build_head(HeadConfig.tiny())
    head.parent.mkdir(parents=True, exist_ok=True)
    save_flame(head, model)
    config = {"class": "deca", "preset": "tiny"}
    torch.manual_seed(1)
    about = {"kind": "encoder", "config": config, "head_sha256": model_hash(model)}
    _write_model(folder, Deca(model, "tiny"), **about)


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
            marks = (_LANDMARKS - 0.4 * labels[:, None, [3, 2]] + 1) / 2 * (size - 1)
            writer.add_person(person, pixels, labels, landmarks=marks)
