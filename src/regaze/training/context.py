"""One training, from its configuration to its model folder: what all kinds of networks share."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from regaze.faces import FacesReader
from regaze.outputs import replacing, write_json
from regaze.provenance import code_version, content_hash, fingerprint, git_revision, versions
from regaze.training.loop import resolve_precision, train
from regaze.training.phases import Task
from regaze.training.settings import TrainSettings
from regaze.training.state import mark_finished
from regaze.views import told_view
from regaze.weights import read_record

# How often something is written or told decides no result. Of the file that training starts from
# the content counts, which is part of the data; precision and processes are looked at by the loop.
_QUIET = {
    *("state_every_images", "log_every_images", "tensorboard", "workers", "cache", "transfer"),
    *("ema_snapshot_images", "image_every_images", "precision", "gpus", "nodes"),
}


@dataclass(frozen=True)
class ModelFiles:
    """Where a training writes.

    Attributes:
        model: ``model.safetensors``, the weights.
        record: ``model.json``, what they are and how they came about.
        curve: ``curve.csv``, a row per logged point.
        state: folder of the resumable state, which is no output of the rule.
        quality: picture of what a 3-D encoder makes; None draws none.
    """

    model: str | Path
    record: str | Path
    curve: str | Path
    state: str | Path
    quality: str | Path | None = None

    @classmethod
    def of_job(cls, job) -> ModelFiles:
        """Those of a rule: its named outputs, and its parameter ``state``."""
        return cls(**dict(job.output.items()), state=job.params["state"])


class Training:
    """A training of an entry of the configuration on faces of one data set.

    Args:
        name: of the entry.
        config: the entry as plain values, with ``train``.
        faces: shards of the data set.
        split: split JSON.
        seed: of initial weights, order and noise.
        files: what is written.
        code: version of the sources that decide the weights; None takes all of the library.

    Attributes:
        settings: the shared part of ``train``.
        reader: the faces.
        data: what ``model.json`` tells of the data.

    Raises:
        ValueError: the data set has no gaze labels.
    """

    def __init__(
        self,
        name: str,
        config: Mapping,
        *,
        faces: Sequence[str],
        split: str,
        seed: int,
        files: ModelFiles,
        code: str | None = None,
    ):
        self.name, self.config, self.seed, self.files = name, config, seed, files
        self.split, self._code = split, code
        shared = TrainSettings.model_fields
        values = {key: value for key, value in config["train"].items() if key in shared}
        self.settings = TrainSettings(**values)
        torch.set_num_threads(self.settings.threads)
        torch.manual_seed(seed)
        self.reader = labelled_faces(faces)
        self._people = json.loads(Path(split).read_text(encoding="utf-8"))
        self.data: dict[str, Any] = {}
        self._frozen: dict[str, Mapping] = {}
        self._sources: set[str] = {"faces.py", "links.py"}

    def persons(self, part: str, key: str = "split") -> list[str]:
        """Persons of a list of the split.

        Raises:
            ValueError: there is no such list, or none of its persons has a face.
        """
        if part not in self._people:
            raise ValueError(
                f"{self.split}: {key} is {part!r}; the file has {', '.join(sorted(self._people))}"
            )
        found = self._people[part]
        if not len(self.reader.rows(found)):
            told = f"no face of its {len(found)} persons" if found else "nobody"
            raise ValueError(f"{self.split}: split: {part}: expected somebody, found {told}")
        return found

    def learn_from(self, part: str, key: str = "split") -> list[str]:
        """Persons of the list that is trained on, and say in ``data`` which one.

        Args:
            part: name of the list.
            key: where the configuration names it, for messages.
        """
        persons = self.persons(part, key)
        # Content, not files: another number of shards is the same data.
        labels = np.ascontiguousarray(self.reader.labels).tobytes().hex()
        self.data |= {
            "persons": part,
            "rows": len(self.reader),
            "labels": content_hash([self.reader.persons, labels]),
            "split": fingerprint(self.split),
        }
        return persons

    def use(self, role: str, weights: str | Path) -> None:
        """Name a frozen network: its role and the file of its weights, in a model folder or not."""
        self.data[role] = fingerprint(weights)
        if Path(weights).name != "model.safetensors":
            self._frozen[role] = {"weights": self.data[role]}
            return
        record = read_record(Path(weights).with_name("model.json"))
        options = {key: value for key, value in record["config"].items() if key != "train"}
        self._frozen[role] = options
        known = {"estimator": "estimators", "identity": "identity", "encoder": "face3d"}
        self._sources.add(known.get(record["kind"]) or f"redirectors/{options['class']}")

    def share(self, rank: int, world: int) -> dict[str, Any]:
        """Arguments of a process' batches."""
        if self.settings.batch % world:
            raise ValueError(
                f"train.batch: {self.settings.batch} is not divisible by {world} processes"
            )
        return {
            "batch": self.settings.batch // world,
            "seed": self.seed,
            "rank": rank,
            "world": world,
            "cache": self.settings.cache,
        }

    def identity(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """What a saved state must agree with.

        Args:
            more: of the data, beside what is told in ``model.json``.
        """
        options = {key: value for key, value in self.config["train"].items() if key not in _QUIET}
        return {
            **self.config,
            "train": options,
            "seed": self.seed,
            "data": {**self.data, "faces": self.reader.fingerprint(), **more},
            # Rules leave the second out of their version: a change makes their inputs anew.
            "code": [self._code or code_version("."), code_version(*sorted(self._sources))],
            "networks": self._frozen,
        }

    def run(
        self,
        task: Task,
        batches: Callable,
        *,
        identity: Mapping[str, Any] | None = None,
        **options,
    ) -> tuple[dict[str, Tensor], list[dict]]:
        """:func:`regaze.training.loop.train` this task; it is not over until :meth:`finish`."""
        return train(
            task,
            batches,
            self.settings,
            seed=self.seed,
            state=self.files.state,
            config=dict(identity or self.identity({})),
            finished=False,
            **options,
        )

    def write(
        self, weights: Mapping[str, Tensor], points: Sequence[Mapping], about: Mapping[str, Any]
    ) -> None:
        """Write the model folder; see :func:`write_model`."""
        view = {"view": told_view(self.reader.attributes)}
        write_model(
            self.name,
            self.config,
            weights,
            points,
            {"data": self.data, **view, **about},
            files=self.files,
            seed=self.seed,
        )

    def finish(self) -> None:
        """Say that all results are written; another call begins anew."""
        mark_finished(self.files.state)


START = ({"step": 0, "images": 0, "lr": 0.0, "seconds": 0.0},)
"""The curve of a model that is not trained here."""


def write_model(
    name: str,
    config: Mapping,
    weights: Mapping[str, Tensor],
    points: Sequence[Mapping],
    about: Mapping[str, Any],
    *,
    files: ModelFiles,
    seed: int,
) -> None:
    """Write ``model.safetensors``, ``curve.csv`` and, last, ``model.json``.

    Args:
        name: of the entry.
        config: the entry as plain values.
        weights: state dict.
        points: rows of the curve, :data:`START` for a model that is not trained here.
        about: what else ``model.json`` tells.
        files: where.
        seed: of the training.
    """
    names = {key: None for point in points for key in point}
    with replacing(files.curve) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        # `dvc plots` draws an empty cell as 0.
        writer = csv.DictWriter(stream, list(names), restval="nan", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in point.items()}
            for point in points
        )
    weights = {key: weights[key].detach().cpu().contiguous() for key in sorted(weights)}
    with replacing(files.model) as part:
        part.write_bytes(save(weights, {"format": "pt"}))
    content = {
        "name": name,
        "config": config,
        "seed": seed,
        "parameters": sum(v.numel() for v in weights.values() if v.is_floating_point()),
        "images_seen": points[-1]["images"],
        "data": {},
        "computed_in": resolve_precision(config["train"]["precision"]),
        "fingerprint": fingerprint(files.model),
        "versions": versions(),
        "revision": git_revision(),
        **about,
    }
    write_json(files.record, content)


def published(path: str) -> dict[str, Any]:
    """What ``model.json`` tells of weights that were not trained here."""
    about = {"source": "published", "checkpoint": Path(path).name}
    if Path(path).is_file():
        about["checkpoint_fingerprint"] = fingerprint(path)
    return about


def labelled_faces(faces: Sequence[str]) -> FacesReader:
    """The faces of a data set with gaze labels.

    Raises:
        ValueError: it has none.
    """
    reader = FacesReader(faces)
    if not reader.gaze_known:
        raise ValueError(
            f"{faces[0]}: expected gaze labels to train on, found a data set without any"
        )
    return reader
