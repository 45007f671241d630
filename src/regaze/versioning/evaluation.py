"""Stages of ``dvc.yaml`` from trained networks to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import regaze
from regaze.redirectors.declaration import declared
from regaze.redirectors.facts import facts_file
from regaze.redirectors.inputs import folder_of
from regaze.report.settings import weight_variants
from regaze.versioning.training import TrainingStages, model_code

_SAMPLING = [*(f"redirectors/{n}.py" for n in ("sample", "base", "batches", "inputs", "networks"))]
_SAMPLING += ["codes", "face3d/gaze.py", "rotations.py", "diffusion", "images.py"]
_SAMPLING += ["masks/background.py", "masks/condition.py", "factors.py"]
# Options of sampling that change no picture of the main samples.
_OTHER_SAMPLES = {"max_w", "sample_only", "save_gif"}


class Stages(TrainingStages):
    """Collects all stages of a configuration."""

    def evaluation(self) -> None:
        """Samples and metrics of every method, the study of sampling, the report."""
        settings = self.settings
        reported = []
        judge = f"results/models/{settings.evaluation.estimator}/model.safetensors"
        judges = [judge]
        if settings.identity:
            judges.append("results/models/identity/model.safetensors")
        measuring = ["metrics", "identity", "estimators"]
        measuring += ["samples.py", "images.py", "angles.py", "factors.py"]
        sampling = self._below("sampling", _OTHER_SAMPLES)
        background = ["evaluation.remove_background", "evaluation.background"]
        measuring_params = ["seed", "assets", "evaluation.bootstrap", *background]
        for model in settings.rows:
            own = settings.models.get(model)
            deps = list(judges)
            rules = ["sample_model", "measure_model"]
            scripts, outs, texts, metrics, targets = list(rules), [], [], [], []
            params, code = list(measuring_params), [*_SAMPLING, *measuring]
            if own is None:
                params.append(f"estimators.{settings.evaluation.estimator}.size_px")
            else:
                deps += [f"results/models/{model}/{f}" for f in ("model.safetensors", "model.json")]
                params += [*sampling, f"models.{model}.sampling"]
                code.append(f"redirectors/{own.class_}")
            perturbed = own is not None and bool(settings.evaluation.perturbed)
            if perturbed:
                rules.insert(1, "perturb_model")
                scripts.insert(1, "perturb_model")
                params += ["evaluation.split", "evaluation.perturbed"]
            for dataset in settings.evaluated:
                folder = f"results/evaluation/{model}/{dataset}"
                deps += self._shown(dataset, own)
                files = ["samples.h5", "per_pair.parquet"]
                files += ["perturbed.parquet"] if perturbed else []
                outs += [f"{folder}/{file}" for file in files]
                metrics.append(f"{folder}/metrics.json")
                texts.append(f"{folder}/speed.json")
                targets.append(f"{folder}/metrics.json")
                if model in settings.animated:
                    rules.append("draw_path")
                    scripts.append("draw_path")
                    code.append("animation.py")
                    outs.append(f"{folder}/samples.gif")
                    targets.append(f"{folder}/samples.gif")
                if model in settings.weighted:
                    rules += ["sample_weights", "measure_weights"]
                    scripts.append("sample_variants")
                    params.append("sampling.max_w")
                    weights = list(weight_variants(settings.sampling.weights))
                    outs += [f"{folder}/{weight}" for weight in weights]
                    targets.append(f"{folder}/{weights[0]}/metrics.json")
                    reported += [f"{folder}/{weight}" for weight in weights]
            reported += [*outs, *texts, *metrics]
            self.add(
                f"evaluate-{model}",
                list(dict.fromkeys(rules)),
                targets,
                deps=deps,
                code=code,
                scripts=list(dict.fromkeys(scripts)),
                params=params,
                outs=outs,
                texts=texts,
                metrics=metrics,
            )
        reported += self._study(judges, sampling, measuring_params, measuring)
        self._report(reported)

    def _shown(self, dataset: str, own) -> list[str]:
        """What sampling and measuring read of a data set."""
        folder = f"results/{dataset}"
        deps = [f"{folder}/faces", f"{folder}/split.json", f"{folder}/pairs.parquet"]
        if own is not None:
            deps += self.beside(own, dataset, making=True)
        if self.settings.without_background(dataset):
            deps.append(f"{folder}/masks")
        return deps

    def _study(self, judges, sampling, measuring_params, measuring) -> list[str]:
        settings = self.settings
        study, dataset, made = settings.evaluation.study, settings.dataset, []
        for model in study.models or []:
            if model not in settings.rows:
                continue
            own = settings.models.get(model)
            folder = f"results/study/{model}"
            files = ("model.safetensors", "model.json")
            self.add(
                f"study-{model}",
                ["sample_study", "measure_study"],
                [f"{folder}/{dataset}/{next(iter(study.variants()))}/metrics.json"],
                deps=[
                    *judges,
                    *(f"results/models/{model}/{file}" for file in files),
                    *self._shown(dataset, own),
                ],
                code=[*_SAMPLING, *measuring, f"redirectors/{own.class_}"],
                scripts=["sample_variants", "measure_model"],
                params=[
                    *(*measuring_params, *sampling, f"models.{model}.sampling"),
                    *self._below_study(),
                ],
                outs=[folder],
            )
            made.append(folder)
        return made

    def _below_study(self) -> list[str]:
        given = self.config.get("evaluation", {}).get("study", {})
        return [f"evaluation.study.{key}" for key in given if key != "models"]

    def _report(self, reported: Sequence[str]) -> None:
        settings = self.settings
        deps = [f"results/models/{name}/model.json" for name in settings.models]
        deps += [f"results/models/{name}/model.json" for name in settings.estimators]
        for name, entry in settings.encoders.items():
            home = settings.datasets[settings.dataset].source == "synthetic"
            deps += [f"results/models/{name}/model.json"] if home and not entry.published else []
        for dataset in settings.evaluated:
            deps += [f"results/{dataset}/faces", f"results/{dataset}/pairs.parquet"]
            deps += [f"results/{dataset}/masks"] if settings.without_background(dataset) else []
        self.add(
            "report",
            ["write_report"],
            ["results/report/index.html"],
            deps=[*deps, *reported],
            code=[
                *("report", "samples.py", "metrics/bootstrap.py", "metrics/disentanglement.py"),
                *("masks/background.py", "angles.py", "animation.py", "factors.py"),
                "redirectors/facts.py",
                *self._facts(),
            ],
            scripts=["write_report"],
            # It prints the configuration; what jobs may use of a machine changes nothing in it.
            params=[key for key in self.config if key != "resources"],
            outs=["results/report/index.html"],
            texts=["results/report/comparison.csv", "results/report/study.csv"],
        )

    def _facts(self) -> list[str]:
        """Facts of the methods of this package, below it."""
        root = Path(regaze.__file__).parent
        found = {facts_file(entry.class_) for entry in self.settings.models.values()}
        own = [path for path in found if path is not None and path.is_relative_to(root)]
        return sorted(path.relative_to(root).as_posix() for path in own)

    def augmentation(self) -> None:
        """The study of few labels as one stage."""
        settings = self.settings
        code = ["few_labels", "metrics", "estimators", "report/figures.py"]
        networks = []
        for name in settings.augmentation.redirectors:
            entry = settings.models[name]
            code += model_code(entry.class_)
            networks.append(f"results/models/{name}/model.safetensors")
            inputs = declared(entry).inputs
            networks += [folder_of(one, settings.dataset) for one in inputs]
        rules = ["train_labelled_redirector", "augment_faces", "export_augmented"]
        rules += ["train_labelled_estimator", "write_augmentation"]
        scripts = ["train_model", *rules[1:]]
        params = ["seed", "augmentation", "sampling", "evaluation.split", "evaluation.bootstrap"]
        params += [f"models.{name}" for name in settings.augmentation.redirectors]
        params += ["estimators"]
        self.add(
            "augmentation",
            [*rules, "augmentation"],
            ["augmentation"],
            deps=[*self._learnt_from(), *networks],
            code=[*code, *_SAMPLING],
            scripts=scripts,
            params=params,
            outs=["results/augmentation"],
        )

    def plots(self) -> list[dict]:
        """Curves of all trainings, which the top of ``dvc.yaml`` cannot loop over."""

        def curves(names, x, y):
            ys = {f"results/models/{name}/curve.csv": y for name in names}
            return {"x": x, "y": ys} if ys else None

        found = {
            "validation of redirectors": curves(self.settings.models, "images", "val_score"),
            "training loss of estimators": curves(self.settings.estimators, "images", "loss"),
            "training loss of 3-D encoders": curves(
                [n for n in self.settings.encoders if f"train-{n}" in self.found],
                "images",
                "loss",
            ),
        }
        return [{title: plot} for title, plot in found.items() if plot]
