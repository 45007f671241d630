"""Stages of ``dvc.yaml`` from the photos to trained networks."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from regaze.landmarks.settings import fetched_weights
from regaze.methods import distribution_of, method_folder
from regaze.outputs import several
from regaze.redirectors.declaration import declared
from regaze.redirectors.inputs import folder_of
from regaze.settings import Settings
from regaze.training.settings import transfer_file

_PICTURES = ["estimators/batches.py", "estimators/preprocess.py"]
_TRAINING = ["training", "diffusion/averages.py", "images.py", "angles.py"]


class TrainingStages:
    """Collects the stages of a configuration up to its trained networks, in the order of work."""

    def __init__(self, config: Mapping, settings: Settings):
        self.config, self.settings = config, settings
        self.found: dict[str, dict] = {}

    def add(
        self,
        name: str,
        rules: Sequence[str],
        targets: Sequence[str],
        *,
        deps: Sequence[str | None] = (),
        code: Sequence[str],
        scripts: Sequence[str],
        params: Sequence[str] = (),
        outs: Sequence[str] = (),
        texts: Sequence[str] = (),
        metrics: Sequence[str] = (),
    ) -> None:
        """Add one stage.

        Args:
            name: of the stage.
            rules: that Snakemake may run.
            targets: of Snakemake.
            deps: results and files of the user's; None is left out.
            code: sources below ``src/regaze``.
            scripts: of ``workflow_scripts``.
            params: keys of the configuration; what it does not have is at its default and left
                out.
            outs: that go into the cache.
            texts, metrics: small text results, which git keeps.
        """
        sources = [_source(path) for path in _outermost(code)]
        sources += [f"workflow_scripts/{script}.py" for script in scripts]
        stage: dict = {"cmd": f"${{run}} {' '.join(rules)} -- {shlex.join(targets)}"}
        stage["deps"] = sorted({path for path in deps if path}) + sorted(set(sources))
        if known := [key for key in params if self._has(key)]:
            stage["params"] = [{"config.yaml": known}]
        stage["outs"] = [*outs, *({path: {"cache": False}} for path in texts)]
        if metrics:
            stage["metrics"] = [{path: {"cache": False}} for path in metrics]
        self.found[name] = stage

    def _has(self, key: str) -> bool:
        here = self.config
        for part in key.split("."):
            if not isinstance(here, Mapping) or part not in here:
                return False
            here = here[part]
        return True

    def _below(self, section: str, without: set[str]) -> list[str]:
        here = self.config
        for part in section.split("."):
            here = here.get(part) or {}
        return [f"{section}.{key}" for key in here if key not in without]

    def data(self) -> None:
        """Capture, landmarks, faces and pairs of every data set."""
        settings = self.settings
        faces = ["normalise", "sources", "faces.py", "hdf5.py", "links.py", "angles.py"]
        for name in self._datasets():
            options, folder = settings.datasets[name], f"results/{name}"
            about = f"datasets.{name}"
            root = options.root or f"{folder}/capture"
            raw = [root, *options.files().values()]
            if options.source == "synthetic":
                self.add(
                    _named("capture", name, settings),
                    ["render_capture"],
                    [root],
                    deps=[settings.capture.head_model],
                    code=["capture", "face3d/model.py", "face3d/checks.py", "angles.py"],
                    scripts=["render_capture"],
                    params=["seed", *self._below("capture", set())],
                    outs=[root],
                )
            poses = []
            if options.needs_landmarks():
                poses = [f"{folder}/supplementary"]
                fetching = ["fetch_asset"] if self._fetched() else []
                found = [] if options.brings_landmarks() else [f"{folder}/landmarks"]
                self.add(
                    _named("landmarks", name, settings),
                    ["detect_landmarks", "estimate_poses", *fetching],
                    [f"{poses[0]}/shard-{shard:03d}.h5" for shard in range(settings.shards)],
                    deps=raw,
                    code=["landmarks", *faces],
                    scripts=["detect_landmarks", "estimate_poses"],
                    params=["shards", about, "landmarks", "assets"],
                    outs=found + poses,
                )
            split = options.split if isinstance(options.split, str) else None
            made = f"{folder}/split.json"
            self.add(
                _named("faces", name, settings),
                ["normalise_shard", "gather_faces", "write_split"],
                [f"{folder}/faces/contact-sheet.png", made],
                deps=[*raw, *poses, split, settings.faces.sfm_mesh],
                code=faces,
                scripts=["normalise_shard", "gather_faces", "write_split"],
                params=["seed", "shards", about, *self._below("faces", {"threads"})],
                outs=[f"{folder}/faces", made],
            )
            if name not in settings.evaluated:
                continue
            self.add(
                _named("pairs", name, settings),
                ["fix_pairs"],
                [f"{folder}/pairs.parquet"],
                deps=[f"{folder}/faces", made],
                code=["pairs.py", "factors.py", "angles.py", "faces.py"],
                scripts=["fix_pairs"],
                params=["seed", *(f"evaluation.{key}" for key in ("split", "pairs", "same_deg"))],
                outs=[f"{folder}/pairs.parquet"],
            )

    def _datasets(self) -> list[str]:
        """Data sets with faces: those evaluated on, and that of the encoders that are trained."""
        settings = self.settings
        learning = any(self._encoded(n) and not e.published for n, e in settings.encoders.items())
        return list(dict.fromkeys([*settings.evaluated, *([self._rendered()] * learning)]))

    def _rendered(self) -> str | None:
        """The data set that encoders are trained on."""
        datasets = self.settings.datasets.items()
        return next((name for name, options in datasets if options.source == "synthetic"), None)

    def _fetched(self) -> bool:
        return bool(fetched_weights(self.settings.landmarks, self.settings.assets))

    def _learnt_from(self) -> list[str]:
        trained_on = f"results/{self.settings.dataset}"
        return [f"{trained_on}/faces", f"{trained_on}/split.json"]

    def _trained(self, name: str, rule: str, section: str | Sequence[str], **rest) -> None:
        """A stage that makes a model folder."""
        folder = f"results/models/{name}"
        rest["outs"] = [f"{folder}/{file}" for file in rest.get("outs", ["model.safetensors"])]
        self.add(
            f"train-{name}",
            [rule],
            [f"{folder}/model.safetensors"],
            scripts=[rule],
            params=["seed", *several(section), *rest.pop("params", [])],
            texts=[f"{folder}/model.json", f"{folder}/curve.csv"],
            **rest,
        )

    def networks(self) -> None:
        """Head model, encoders and their codes, estimators, the face recogniser, masks."""
        settings = self.settings
        encoders = {name: e for name, e in settings.encoders.items() if self._encoded(name)}
        if encoders:
            self.add(
                "head",
                ["make_head"],
                ["results/face3d/head.npz"],
                deps=[settings.capture.head_model],
                code=["capture", "face3d/model.py", "face3d/checks.py"],
                scripts=["make_head"],
                params=["capture.head_model"],
                outs=["results/face3d/head.npz"],
            )
        for name, entry in encoders.items():
            weights = f"results/models/{name}"
            if entry.published is None:
                home = f"results/{self._rendered()}"
                self._trained(
                    name,
                    "train_deca",
                    f"encoders.{name}",
                    deps=[
                        *(f"{home}/{made}" for made in ("capture", "faces", "split.json")),
                        "results/face3d/head.npz",
                    ],
                    code=["face3d", "rotations.py", "faces.py", *_PICTURES, *_TRAINING],
                    outs=["model.safetensors", "quality.png"],
                )
            for dataset in self._encoded(name):
                folder = f"results/{dataset}/latents/{name}"
                given = [entry.published or f"{weights}/model.safetensors"]
                given += [] if entry.published else [f"{weights}/model.json"]
                stated = [f"encoders.{name}.class"] if entry.published else []
                stated += [f"encoders.{name}.head_sha256"] if entry.head_sha256 else []
                self.add(
                    _named(f"latents-{name}", dataset, settings),
                    ["encode_shard"],
                    [f"{folder}/part-{shard:03d}.parquet" for shard in range(settings.shards)],
                    deps=[f"results/{dataset}/faces", "results/face3d/head.npz", *given],
                    code=["face3d", "rotations.py", "codes", "faces.py"],
                    scripts=["encode_shard"],
                    params=["shards", *stated],
                    outs=[folder],
                )
        for name, entry in settings.estimators.items():
            self._trained(
                name,
                "train_estimator",
                f"estimators.{name}",
                deps=[*self._learnt_from(), entry.checkpoint],
                code=["estimators", "faces.py", *_TRAINING],
            )
        if settings.identity:
            self._trained(
                "identity",
                "train_identity",
                "identity",
                params=[f"estimators.{settings.evaluation.estimator}.size_px"],
                deps=[*self._learnt_from(), settings.identity.checkpoint],
                code=["identity", "estimators", "faces.py", *_TRAINING],
            )
        for dataset in settings.evaluated:
            if self._masked(dataset):
                options, folder = settings.datasets[dataset], f"results/{dataset}"
                deps = [options.root or f"{folder}/capture"]
                params = ["shards", "masks", f"datasets.{dataset}"]
                if settings.masks.method_for(options.source) == "mesh":
                    encoder = settings.masks.encoder or next(iter(settings.encoders))
                    deps = [f"{folder}/latents/{encoder}", "results/face3d/head.npz"]
                    params.append(f"encoders.{encoder}.rasterizer")
                self.add(
                    _named("masks", dataset, settings),
                    ["mask_shard", "draw_masks"],
                    [f"{folder}/masks/contact-sheet.png"],
                    deps=[f"{folder}/faces", *deps, settings.masks.parsing],
                    code=[
                        "masks",
                        "normalise",
                        "face3d",
                        *("rotations.py", "codes", "faces.py", "sources"),
                    ],
                    scripts=["mask_shard", "draw_masks"],
                    params=params,
                    outs=[f"{folder}/masks"],
                )

    def _masked(self, dataset: str) -> bool:
        needed = any(one.input("masks") for one in self.settings.declarations.values())
        trained_on = dataset == self.settings.dataset
        return (needed and trained_on) or self.settings.without_background(dataset)

    def _encoded(self, encoder: str) -> list[str]:
        """Data sets whose codes by this encoder the default target makes."""
        settings = self.settings
        found = []
        for name in settings.evaluated:
            at_home = name == settings.dataset and settings.datasets[name].source == "synthetic"
            told = any(
                one.options.get("encoder") == encoder
                for entry in settings.declarations.values()
                for one in entry.inputs
            )
            chosen = settings.masks.encoder or next(iter(settings.encoders))
            masks = settings.masks.method_for(settings.datasets[name].source) == "mesh"
            if at_home or told or (masks and self._masked(name) and encoder == chosen):
                found.append(name)
        return found

    def models(self) -> None:
        """One stage per redirector; its dependencies are what its own training reads."""
        settings = self.settings
        for name, entry in settings.models.items():
            deps: list = [getattr(entry, "checkpoint", None)]
            if deps == [None]:
                deps += self.beside(entry, settings.dataset)
            if start := getattr(entry.train, "transfer", None):
                deps.append(transfer_file(start))
            self._trained(
                name,
                "train_model",
                # How it samples decides no weights.
                self._below(f"models.{name}", {"sampling"}),
                deps=[*self._learnt_from(), *deps],
                code=model_code(entry.class_),
            )

    def beside(self, entry, dataset: str, making: bool = False) -> list[str]:
        """What a model of an entry reads besides faces, in training or while making pictures."""
        declaration = declared(entry)
        deps = [folder_of(one, dataset) for one in declaration.inputs]
        for one in declaration.networks:
            if one.always or not making:
                # The architecture of a network that is loaded stands beside its weights.
                files = ("model.safetensors", "model.json")
                deps += [f"results/models/{one.entry}/{file}" for file in files]
        return deps


def _source(path: str) -> str:
    """Where sources below ``src/regaze`` are; ``redirectors/<name>`` may be from outside of it."""
    folder, _, name = path.partition("/")
    if folder == "redirectors" and distribution_of(name):
        return os.path.relpath(method_folder(name))
    return f"src/regaze/{path}"


_LEARNING = ["base", "batches", "inputs", "networks", "pairs", "train", "transfer", "validation"]


def model_code(class_: str) -> list[str]:
    return [
        f"redirectors/{class_}",
        *(f"redirectors/{name}.py" for name in _LEARNING),
        *("codes", "faces.py", "factors.py", "masks/condition.py"),
        *("face3d/gaze.py", "rotations.py"),
        *("diffusion", *_TRAINING),
    ]


def _named(stage: str, dataset: str, settings: Settings) -> str:
    """Of the data set that is trained on a stage has the plain name."""
    return stage if dataset == settings.dataset else f"{stage}-{dataset}"


def _outermost(paths: Sequence[str]) -> list[str]:
    """Paths without those that lie in another one, in order and once."""
    found = sorted(set(paths))
    return [
        path
        for path in found
        if not any(str(parent) in found for parent in PurePosixPath(path).parents)
    ]
