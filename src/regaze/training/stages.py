"""The training stages: an estimator, a 3-D encoder, a redirector. Each writes a model folder."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save

from regaze.damage import read_record
from regaze.estimators.build import build_estimator
from regaze.estimators.evaluate import held_out_error
from regaze.estimators.objective import Augmentation, EstimatorTask
from regaze.estimators.store import load_estimator
from regaze.face3d.deca import Deca
from regaze.face3d.ground_truth import read_ground_truth, read_views
from regaze.face3d.model import load_flame, model_hash
from regaze.face3d.quality import draw_sheet, measure
from regaze.face3d.training import EncoderTask, plain_weights
from regaze.faces import FacesReader
from regaze.jobs import replacing, write_json
from regaze.provenance import code_version, content_hash, fingerprint, git_revision, versions
from regaze.redirectors.base import build_redirector
from regaze.redirectors.sample import load_redirector
from regaze.training.codes import training_codes
from regaze.training.crops import CropBatches
from regaze.training.data import ImageBatches, PairBatches
from regaze.training.labels import labelled_numbers, pair_options
from regaze.training.loop import mark_finished, resolve_precision, train
from regaze.training.published import START, published_estimator, published_redirector
from regaze.training.settings import RedirectorTraining, TrainSettings, transfer_file
from regaze.training.transfer import begin_from
from regaze.training.validation import Redirections, few_steps

log = logging.getLogger("regaze.training")


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


@dataclass(frozen=True)
class TrainingData:
    """What a redirector is trained on and with.

    Attributes:
        faces: shards of the data set.
        split: split JSON.
        latents: shards of the 3-D face codes of ``faces``, for methods that need them.
        masks: shards of the masks of ``faces``.
        estimator: folder of the training estimator.
        teacher: folder of the model that is distilled.
        labeller: folder of the estimator that labels pictures without labels.
    """

    faces: Sequence[str]
    split: str
    latents: Sequence[str] = ()
    masks: Sequence[str] = ()
    estimator: str | None = None
    teacher: str | None = None
    labeller: str | None = None

    @classmethod
    def of_job(cls, job) -> TrainingData:
        """Named inputs of a rule; of a model the folder of its weights counts."""
        given = dict(job.input.items())
        folders = {
            name: str(Path(given[name]).parent)
            for name in ("estimator", "teacher", "labeller")
            if given.get(name)
        }
        shards = {name: list(given[name]) for name in ("latents", "masks") if given.get(name)}
        return cls(faces=list(given["faces"]), split=str(given["split"]), **shards, **folders)


def train_estimator(
    name: str,
    config: Mapping,
    *,
    faces: Sequence[str],
    split: str,
    seed: int,
    files: ModelFiles,
    augmented: str | Path | None = None,
    code: str | None = None,
    finished: bool = True,
) -> None:
    """Train a gaze and head estimator and write its model folder.

    Args:
        name: entry of ``estimators:``.
        config: that entry as plain values.
        faces: shards of the data set.
        split: split JSON; ``config["persons"]`` names the list trained on, ``val`` validates and
            ``test`` gives the held-out error of ``model.json``.
        seed: seed of initial weights, order and augmentation.
        files: what is written.
        augmented: faces file of :mod:`regaze.augmentation` to learn from in place of ``faces``.
        code: version of the sources that decide the weights; None takes all of the library.
        finished: whether nothing else is to be made of the training; see :func:`mark_finished`.
    """
    if config.get("checkpoint"):
        weights, about = published_estimator(config, faces, _people(split)["test"])
        about |= {"kind": "estimator", "class": config["arch"]}
        _write(name, Trained(weights, list(START)), config, {}, about, files, seed)
        return
    settings, reader, people = _begin(config, faces, split, seed)
    persons = _listed(people, config["persons"], split, f"estimators.{name}.persons")
    _expect_faces(reader, people, split, config["persons"], "val", "test")
    learnt, chosen = reader, None
    if augmented is not None:
        learnt = _labelled([str(augmented)])
    elif config.get("labels"):
        chosen = labelled_numbers(reader, persons, config["labels"])
    network = build_estimator(
        config["arch"], config["preset"], config["size_px"], preprocess=config["preprocess"]
    )
    augmentation = Augmentation() if config["augment"] else None
    task = EstimatorTask(network, loss=config["loss"], augmentation=augmentation)

    def batches(rank, world):
        return ImageBatches(
            learnt,
            persons,
            size=config["size_px"],
            **_share(settings, seed, rank, world),
            chosen=chosen,
            preprocess=config["preprocess"],
        )

    def validate():
        error = held_out_error(network, reader, reader.rows(people["val"]))
        return {"score": error["gaze_deg"] + error["head_deg"], **_degrees(error)}

    data = _data(config["persons"], reader, split)
    if augmented is not None:
        data["augmented"] = fingerprint(augmented)
    weights, points = train(
        task,
        batches,
        settings,
        seed=seed,
        state=files.state,
        config=_identity(config, seed, data, reader, code),
        validate=validate,
        finished=False,
    )
    network.load_state_dict(weights)
    network.cpu().eval()
    with torch.no_grad():
        held_out = held_out_error(network, reader, reader.rows(people["test"]))
    log.info("held out: gaze %.2f, head %.2f degrees", held_out["gaze_deg"], held_out["head_deg"])
    about = {
        "kind": "estimator",
        "class": config["arch"],
        "held_out": {"list": "test", **held_out},
    }
    _write(name, Trained(weights, points), config, data, about, files, seed)
    if finished:
        mark_finished(files.state)


def train_redirector(
    name: str,
    config: Mapping,
    data: TrainingData,
    *,
    seed: int,
    files: ModelFiles,
    code: str | None = None,
) -> None:
    """Train a redirector on the list ``train-redirector`` of the split and write its folder.

    Args:
        name: entry of ``models:``.
        config: that entry resolved to plain values (``ModelSettings.resolve``).
        data: what it is trained on and with.
        seed: seed of initial weights, order and noise.
        files: what is written.
        code: version of the sources that decide the weights; None takes all of the library.
    """
    if config.get("checkpoint"):
        weights, about = published_redirector(config)
        about |= {"kind": "redirector", "class": config["class"]}
        _write(name, Trained(weights, list(START)), config, {}, about, files, seed)
        return
    faces, split = data.faces, data.split
    settings, reader, people = _begin(config, faces, split, seed)
    options = RedirectorTraining(**config["train"])
    redirector = build_redirector(config, few_steps(options.validate_steps))
    given = _networks(data)
    redirector.attach(**given)
    objective = config.get("objective", {})
    _expect_faces(reader, people, split, "train-redirector", "val")
    persons = people["train-redirector"]
    labeller = None if data.labeller is None else load_estimator(data.labeller).to(_here())
    labels = pair_options(reader, persons, config.get("labels"), labeller)
    codes = training_codes(redirector, data.latents, reader, persons)
    begin = None
    if options.transfer is not None:
        begin = begin_from(redirector, transfer_file(options.transfer), options.transfer_optimizer)

    def batches(rank, world):
        return PairBatches(
            reader,
            persons,
            size=config["size_px"],
            **_share(settings, seed, rank, world),
            **labels,
            codes=codes,
            same_head_fraction=objective.get("same_head_fraction", 0.0),
            flip=objective.get("flip", False),
        )

    def held(count):
        options = {"size": config["size_px"], "seed": seed, "cache": "none", "codes": codes}
        return PairBatches(reader, people["val"], batch=count, **options)

    losses = held(16)
    shown = Redirections(
        redirector, held(options.validate_pairs), seed=seed, estimator=given.get("estimator")
    )

    def validate():
        if options.validate_estimator is not None:
            return {**shown.errors(), "loss": validation_loss()}
        return {"score": validation_loss()}

    def validation_loss():
        device = _device(redirector.network)
        values = []
        for step in range(8):
            batch = {key: value.to(device) for key, value in losses.load(step).items()}
            generator = torch.Generator(device).manual_seed(step)
            # The last phase trains what makes pictures; a discriminator has its own before it.
            phase = list(redirector.phases())[-1]
            values.append(redirector.losses(losses.finish(batch), phase, generator)["loss"])
        return float(torch.stack(values).mean())

    about_data = _data("train-redirector", reader, split)
    roles = ("estimator", "teacher", "labeller")
    folders = {role: Path(folder) for role in roles if (folder := getattr(data, role)) is not None}
    about_data |= {
        role: fingerprint(folder / "model.safetensors") for role, folder in folders.items()
    }
    if codes is not None:
        about_data["codes"] = codes.identity
    if begin is not None:
        about_data["transfer"] = fingerprint(begin.path)
    whole = _identity(config, seed, about_data, reader, code, folders)
    if codes is not None:
        whole["data"]["latents"] = codes.fingerprint()
    if data.masks:
        whole["data"]["masks"] = fingerprint(*data.masks)
    weights, points = train(
        redirector,
        batches,
        settings,
        seed=seed,
        state=files.state,
        config=whole,
        validate=validate,
        show=shown.picture,
        show_every=options.image_every_images,
        begin=None if begin is None else begin.restore,
        finished=False,
    )
    about = {
        "kind": "redirector",
        "class": config["class"],
        "told": redirector.needs.target,
    }
    if settings.ema_std:
        about["snapshots"] = content_hash(whole)
    if codes is not None:
        about |= {"target_code": config["deca"]["target_code"], "encoder": codes.identity}
    _write(name, Trained(weights, points), config, about_data, about, files, seed)
    mark_finished(files.state)


def train_encoder(
    name: str,
    config: Mapping,
    *,
    faces: Sequence[str],
    split: str,
    head: str | Path,
    parameters: str | Path,
    seed: int,
    files: ModelFiles,
    code: str | None = None,
) -> None:
    """Train a 3-D face encoder on the synthetic set, measure it on ``test`` and draw a sheet.

    Args:
        name: entry of ``encoders:``.
        config: that entry as plain values (``EncoderSettings.resolve``).
        faces: shards of the synthetic data set.
        split: split JSON; ``config["persons"]`` names the list trained on.
        head: the head model (``.npz``) that the capture was rendered with.
        parameters: ``parameters.h5`` of the capture.
        seed: seed of initial weights, order and jitter.
        files: what is written.
        code: version of the sources that decide the weights; None takes all of the library.
    """
    settings, reader, people = _begin(config, faces, split, seed)
    persons = _listed(people, config["persons"], split, f"encoders.{name}.persons")
    _expect_faces(reader, people, split, config["persons"], "val", "test")
    model = load_flame(head)
    known = read_ground_truth(parameters, reader, reader.rows(persons), model)
    views = read_views(known, reader, model, seed)
    log.info("%d rows in %d views, misfit %.2f px", len(known), len(views.uv), known.misfit.mean())
    deca = Deca(model, config["preset"], config["class"] == "emoca", config["rasterizer"])
    task = EncoderTask(deca, known, config["losses"])

    def batches(rank, world):
        return CropBatches(
            reader,
            persons,
            size=deca.size_px,
            known=known,
            views=views,
            jitter=config["jitter"],
            tint=config["tint"],
            **_share(settings, seed, rank, world),
        )

    def of(part):
        return read_ground_truth(parameters, reader, reader.rows(people[part]), model)

    def validate():
        found = measure(deca, reader, of("val"))
        return {"score": found["landmark_percent"], "rotation_deg": found["rotation_deg"]}

    data = _data(config["persons"], reader, split)
    data["parameters"], data["head"] = fingerprint(parameters), model_hash(model)
    weights, points = train(
        task,
        batches,
        settings,
        seed=seed,
        state=files.state,
        config=_identity(config, seed, data, reader, code),
        validate=validate,
        finished=False,
    )
    weights = plain_weights(deca, weights)
    deca = Deca(model, config["preset"], config["class"] == "emoca", config["rasterizer"]).eval()
    deca.load_state_dict(weights)
    test = of("test")
    quality = {"list": "test", **measure(deca, reader, test)}
    log.info(
        "test: landmarks %.2f %% of the crop, rotation %.2f degrees, PSNR %.5s dB",
        *(quality["landmark_percent"], quality["rotation_deg"], quality["psnr_db"]),
    )
    about = {
        "kind": "encoder",
        "class": config["class"],
        "source": "synthetic",
        "head_sha256": data["head"],
        "rasterizer": deca.renderer().backend_used,
        "quality": quality,
    }
    _write(name, Trained(weights, points), config, data, about, files, seed)
    if files.quality is not None:
        draw_sheet(files.quality, deca, reader, test)
    mark_finished(files.state)


def _networks(data: TrainingData) -> dict[str, torch.nn.Module]:
    """The frozen networks that training is given, by name, on the device that it uses."""
    found: dict[str, torch.nn.Module] = {}
    if data.estimator is not None:
        found["estimator"] = load_estimator(data.estimator)
    if data.teacher is not None:
        found["teacher"] = load_redirector(data.teacher)[0]
    return {name: network.to(_here()).requires_grad_(False) for name, network in found.items()}


def _here() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


class Trained(NamedTuple):
    """What the loop returns: the state dict to save, and the points of the curve."""

    weights: dict[str, torch.Tensor]
    points: list[dict]


def _begin(config: Mapping, faces: Sequence[str], split: str, seed: int):
    """What every training starts with: its settings, the faces, and the lists of persons."""
    shared = TrainSettings.model_fields
    settings = TrainSettings(**{key: v for key, v in config["train"].items() if key in shared})
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seed)
    return settings, _labelled(faces), _people(split)


def _share(settings: TrainSettings, seed: int, rank: int, world: int) -> dict:
    """Arguments of a process' batches."""
    return {
        "batch": _per_process(settings, world),
        "seed": seed,
        "rank": rank,
        "world": world,
        "cache": settings.cache,
    }


def _listed(people: dict[str, list[str]], persons: str, split: str, key: str) -> list[str]:
    if persons not in people:
        raise ValueError(f"{split}: {key} is {persons!r}; the file has {', '.join(sorted(people))}")
    return people[persons]


def _expect_faces(
    reader: FacesReader, people: Mapping[str, list[str]], split: str, *lists: str
) -> None:
    """Refuse a training before it begins whose lists would be found empty at its end."""
    for name in lists:
        persons = people.get(name, [])
        if not len(reader.rows(persons)):
            found = f"no face of its {len(persons)} persons" if persons else "nobody"
            raise ValueError(f"{split}: split: {name}: expected somebody, found {found}")


def _labelled(faces: Sequence[str]) -> FacesReader:
    reader = FacesReader(faces)
    if not reader.gaze_known:
        raise ValueError(
            f"{faces[0]}: expected gaze labels to train on, found a data set without any"
        )
    return reader


def _people(split: str) -> dict[str, list[str]]:
    return json.loads(Path(split).read_text(encoding="utf-8"))


def _per_process(settings: TrainSettings, world: int) -> int:
    if settings.batch % world:
        raise ValueError(f"train.batch: {settings.batch} is not divisible by {world} processes")
    return settings.batch // world


def _degrees(error: Mapping) -> dict[str, float]:
    return {key: float(value) for key, value in error.items() if key.endswith("_deg")}


def _data(persons: str, reader: FacesReader, split: str) -> dict:
    # Content, not files: another number of shards is the same data.
    labels = content_hash([reader.persons, np.ascontiguousarray(reader.labels).tobytes().hex()])
    return {"persons": persons, "rows": len(reader), "labels": labels, "split": fingerprint(split)}


def _identity(
    config: Mapping,
    seed: int,
    data: dict,
    reader: FacesReader,
    code: str | None,
    networks: Mapping[str, Path] = {},
) -> dict:
    """What a saved state must agree with; how often it is written does not matter.

    Args:
        config: of the entry.
        seed: of the training.
        data: what ``model.json`` tells of the data.
        reader: the faces.
        code: version of the rule's sources, None for all.
        networks: model folders of the frozen networks, by role.
    """
    quiet = {"state_every_images", "log_every_images", "tensorboard", "workers", "cache"}
    # Of the file that training starts from the content counts, which is part of the data.
    quiet |= {"ema_snapshot_images", "image_every_images", "transfer"}
    # Precision and number of processes are looked at by the loop.
    quiet |= {"precision", "gpus", "nodes"}
    training = {key: value for key, value in config["train"].items() if key not in quiet}
    # Rules leave these out of their version: a change makes their inputs anew, but not the state.
    sources = ["faces.py", "links.py", *(["estimators"] if networks else [])]
    frozen = {}
    for role, folder in networks.items():
        used = read_record(folder / "model.json")["config"]
        frozen[role] = {key: value for key, value in used.items() if key != "train"}
        if role == "teacher":
            sources.append(f"redirectors/{used['class']}")
    return {
        **config,
        "train": training,
        "seed": seed,
        "data": {**data, "faces": reader.fingerprint()},
        "code": [code or code_version("."), code_version(*sources)],
        "networks": frozen,
    }


def _write(
    name: str,
    trained: Trained,
    config: Mapping,
    data: dict,
    about: dict,
    files: ModelFiles,
    seed: int,
) -> None:
    weights, points = trained
    names = {key: None for point in points for key in point}
    with replacing(files.curve) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        # `dvc plots` draws an empty cell as 0.
        writer = csv.DictWriter(stream, list(names), restval="nan", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in point.items()}
            for point in points
        )
    weights = {key: weights[key].contiguous() for key in sorted(weights)}
    with replacing(files.model) as part:
        part.write_bytes(save(weights, {"format": "pt"}))
    content = {
        "name": name,
        "config": config,
        "seed": seed,
        "parameters": sum(v.numel() for v in weights.values() if v.is_floating_point()),
        "images_seen": points[-1]["images"],
        "data": data,
        "computed_in": resolve_precision(config["train"]["precision"]),
        "fingerprint": fingerprint(files.model),
        "versions": versions(),
        "revision": git_revision(),
        **about,
    }
    write_json(files.record, content)
