"""The stages of ``dvc.yaml``, made of the workflow's own jobs.

What a stage reads and makes, and the sources that it depends on, are those of its jobs; the tables
here say only which rules make a stage together, and which keys of the configuration they read.
DVC's own loops give every turn the same dependencies, while models differ in theirs; so the file is
written out by ``regaze dvc``. Each command has Snakemake run the rules of its stage and no others.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from regaze.landmarks.settings import fetched_weights
from regaze.methods import distribution_of, method_folder, methods
from regaze.redirectors.facts import facts_file
from regaze.settings import Settings, load_settings
from regaze.versioning.code import EXEMPT, LIBRARY, Sources
from regaze.versioning.picks import picks
from regaze.versioning.workflow import ROOT, Job, jobs
from regaze.views import DEFAULT, divided

HEADER = """\
# Written by `regaze dvc > dvc.yaml` from config.yaml; write it again when models, data sets or
# options come or go (`make lint` tells). Versions and experiments: docs/versions.md.
# Each command lets Snakemake run the rules of one stage only; after a direct Snakemake run,
# `dvc commit -f` records what was made.
"""
_RUN = "snakemake --cores all --allowed-rules"

# Names of stages, in their order, and the rules that they run. ``{on}`` names the data set unless
# it is the one that is trained on.
_STAGES = {
    "capture{on}": "render_capture",
    "landmarks{on}": "detect_landmarks estimate_poses",
    "faces{on}": "normalise_shard gather_faces write_split",
    "albums{on}": "draw_albums",
    "pairs{on}": "fix_pairs",
    "head": "make_head",
    "train-{encoder}": "train_deca",
    "latents-{encoder}{on}": "encode_shard",
    "train-{estimator}": "train_estimator",
    "train-identity": "train_identity",
    "masks{on}": "mask_shard draw_masks",
    "inversions-{inverter}{on}": "invert_shard",
    "train-{model}": "train_model train_albums gather_albums",
    "evaluate-{model}": "sample_model perturb_model measure_model measure_inverted "
    "measure_inverter draw_path draw_atlas sample_weights measure_weights",
    "study-{model}": "sample_study measure_study",
    "report": "write_report",
    "augmentation": "train_labelled_redirector augment_faces export_augmented "
    "train_labelled_estimator write_augmentation",
}
_STAGE_OF = {rule: stage for stage, rules in _STAGES.items() for rule in rules.split()}

_MEASURED = "seed assets evaluation.encoder evaluation.bootstrap "
_MEASURED += "evaluation.remove_background evaluation.background"
_SAMPLED = "sampling.*-max_w-sample_only-save_gif models.{model}.sampling models.{model}.data "
_SAMPLED += "evaluation.remove_background evaluation.background"
_FACES = "seed shards datasets.{dataset} faces.*-threads views.{view}"
_LANDMARKS = "shards datasets.{dataset} landmarks assets"
_FEW = "seed augmentation sampling evaluation.split evaluation.bootstrap estimators"
# Keys of the configuration that rules read: ``section.*`` all of a section, but for those after -.
_KEYS = {
    "render_capture": "seed capture.* datasets.{dataset}.capture",
    "detect_landmarks": _LANDMARKS,
    "estimate_poses": _LANDMARKS,
    "normalise_shard": _FACES,
    "gather_faces": _FACES,
    "write_split": _FACES,
    "draw_albums": "seed evaluation.split evaluation.albums",
    "fix_pairs": "seed evaluation.encoder evaluation.split evaluation.pairs evaluation.same_deg",
    "make_head": "capture.head_model",
    "train_deca": "seed encoders.{encoder}",
    "encode_shard": "shards encoders.{encoder}.class encoders.{encoder}.head_sha256",
    "train_estimator": "seed estimators.{estimator}",
    "train_identity": "seed identity estimators.{judge}.size_px",
    "mask_shard": "shards masks datasets.{dataset} encoders.{masking}.rasterizer",
    "invert_shard": "shards",
    # How it samples decides no weights.
    "train_model": "seed models.{model}.*-sampling assets",
    "train_albums": "seed shards models.{model}.*-sampling assets",
    "measure_model": _MEASURED,
    "sample_model": f"{_SAMPLED} estimators.{{judge}}.size_px",
    "perturb_model": f"{_SAMPLED} evaluation.split evaluation.perturbed",
    "draw_path": _SAMPLED,
    "draw_atlas": f"{_SAMPLED} evaluation.atlas",
    "sample_weights": f"{_SAMPLED} sampling.max_w",
    "measure_weights": f"{_MEASURED} sampling.max_w",
    "measure_inverted": _MEASURED,
    "measure_inverter": "seed evaluation.split evaluation.remove_background evaluation.background",
    "measure_study": f"{_MEASURED} evaluation.study.*-models",
    "sample_study": f"{_SAMPLED} evaluation.study.*-models",
    # It prints the configuration; what jobs may use of a machine changes nothing in it.
    "write_report": "*-resources",
    "train_labelled_redirector": f"{_FEW} models.{{redirector}}",
    "augment_faces": f"{_FEW} models.{{redirector}}",
    "train_labelled_estimator": _FEW,
    "write_augmentation": _FEW,
}
# Outputs that are kept as whole folders.
_FOLDER = re.compile(
    r"results/(augmentation|study/[^/]+|evaluation/[^/]+/[^/]+/w[^/]+"
    r"|(?!models/)[^/]+/(capture|landmarks|supplementary|faces|masks|latents/[^/]+|inversions/[^/]+))(?=/|$)"
)
# Small texts, which git keeps.
_TEXTS = {"model.json", "curve.csv", "speed.json", "comparison.csv", "study.csv"}


def dvc_yaml(config: Mapping, augmentation: bool = False) -> str:
    """Return the text of ``dvc.yaml``.

    Args:
        config: what ``config.yaml`` holds. DVC reads parameters from that file and knows no
            overlays, so what the workflow shall run with stands there.
        augmentation: also the study of few labels, which the default target leaves out.

    Raises:
        ConfigurationError: the configuration is invalid.
        FileNotFoundError: the library was installed without its rules.
    """
    settings = load_settings(dict(config))
    targets = ["all", *(["augmentation"] if augmentation else [])]
    stages = _stages(config, settings, jobs(config, settings, targets))
    content = {
        "vars": [{"run": _RUN}],
        "stages": stages,
        "plots": _plots(settings, stages),
        "artifacts": {
            name.replace("_", "-"): {
                "path": f"results/models/{name}/model.safetensors",
                "type": "model",
                "desc": f"redirector of class {entry.class_}",
            }
            for name, entry in settings.models.items()
            if name not in settings.personal
        },
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=100)


def _stages(config: Mapping, settings: Settings, found: Sequence[Job]) -> dict[str, dict]:
    """Stages by name, in the order of work."""
    grouped: dict[str, list[Job]] = {}
    order = [*_STAGES]
    names = [*settings.datasets, *settings.encoders, *settings.estimators, *settings.rows]
    names += [*settings.models]

    def place(job: Job) -> tuple[int, ...]:
        values = (names.index(v) if v in names else 0 for _, v in sorted(job.wildcards.items()))
        return order.index(_STAGE_OF[job.rule]), *values

    # What is fetched belongs to the stage that needs it, and to no data set.
    for job in sorted((job for job in found if job.rule != "fetch_asset"), key=place):
        dataset, view = divided(job.wildcards.get("dataset", settings.dataset))
        on = "" if dataset == settings.dataset else f"-{dataset}"
        on += "" if view == DEFAULT else f"-in-{view}"
        name = _STAGE_OF[job.rule].format(**job.wildcards, on=on)
        grouped.setdefault(name, []).append(job)
    made = {path: job for job in found for path in job.outputs}
    sources = Sources()
    return {name: _stage(config, settings, group, made, sources) for name, group in grouped.items()}


def _stage(
    config: Mapping,
    settings: Settings,
    group: Sequence[Job],
    made: Mapping[str, Job],
    sources: Sources,
) -> dict:
    group = sorted(group, key=lambda job: [*_STAGE_OF].index(job.rule))
    own = {path for job in group for path in job.outputs}
    read = [path for job in group for path in job.inputs if path not in own]
    # The architecture of a network stands beside its weights, single pairs beside their means.
    weights = [path for job in group for path in job.networks]
    read += [_beside(one, "model.json") for one in weights if _name(one) == "model.safetensors"]
    read += [_beside(path, "per_pair.parquet") for path in read if _name(path) == "metrics.json"]
    # Their checksums are parameters; only the machine's own folder tells where they lie.
    assets = {asset["path"] for asset in settings.assets.model_dump().values()}
    deps = {_folded(path) if path in made else path for path in read if path not in assets}
    rules = list(dict.fromkeys(job.rule for job in group))
    if "detect_landmarks" in rules and fetched_weights(settings.landmarks, settings.assets):
        rules.append("fetch_asset")
    inner = {path for job in group for path in job.inputs}
    last = [path for job in group for path in _asked(job, inner)]
    code = set()
    for job in group:
        script = ROOT / "workflow_scripts" / job.script
        code |= sources.files(script, picks(settings, job.rule, job.wildcards))
    if "write_report" in rules:
        code |= {facts_file(entry.class_) for entry in settings.models.values()} - {None}
    scripts = {f"workflow_scripts/{job.script}" for job in group}
    stage: dict = {"cmd": f"${{run}} {' '.join(rules)} -- {shlex.join(last)}"}
    stage["deps"] = [*sorted(deps), *sorted({*_sources(code), *scripts})]
    if keys := _keys(config, settings, group):
        stage["params"] = [{"config.yaml": keys}]
    outs = list(dict.fromkeys(_folded(path) for job in group for path in job.outputs))
    whole = [path for path in outs if _name(path) not in {*_TEXTS, "metrics.json"}]
    stage["outs"] = [*whole, *({path: _UNCACHED} for path in outs if _name(path) in _TEXTS)]
    if metrics := [{path: _UNCACHED} for path in outs if _name(path) == "metrics.json"]:
        stage["metrics"] = metrics
    return stage


def _asked(job: Job, inner: Collection[str]) -> list[str]:
    """What Snakemake is asked for: a file of the last jobs, and drawings of jobs before them."""
    if not {*inner} & {*job.outputs}:
        return [job.outputs[0]]
    return [path for path in job.outputs if path.endswith("contact-sheet.png")]


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _beside(path: str, name: str) -> str:
    return str(PurePosixPath(path).with_name(name))


def _folded(path: str) -> str:
    """The folder in whose place a file stands, or the file."""
    found = _FOLDER.match(path)
    return found[0] if found else path


def _sources(files: Collection[Path]) -> set[str]:
    """Paths of sources; a folder stands for its files where they are most of it.

    A method's folder where they are all of it: what makes its pictures is no part of its training.
    """
    found = set(files)
    for folder in sorted({path.parent for path in files}, key=lambda one: -len(one.parts)):
        # Methods are no part of each other.
        if folder in (LIBRARY, LIBRARY / "redirectors") or not folder.is_relative_to(LIBRARY):
            continue
        inside = {path for path in folder.rglob("*.py") if not _decides_nothing(path)}
        missing = inside - set(files)
        of_method = folder.is_relative_to(LIBRARY / "redirectors")
        most = not missing if of_method else 2 * len(missing) < len(inside)
        if len(inside) > 1 and most:
            found = {path for path in found if not path.is_relative_to(folder)} | {folder}
    # Of a method elsewhere its folder, which need not be below the repository.
    outer = {method_folder(name) for name in methods() if distribution_of(name)}
    found = {next((f for f in outer if path.is_relative_to(f)), path) for path in found}
    return {
        f"src/regaze/{path.relative_to(LIBRARY).as_posix()}"
        if path.is_relative_to(LIBRARY)
        else os.path.relpath(path)
        for path in found
    }


def _decides_nothing(path: Path) -> bool:
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return name in EXEMPT or path.name in ("settings.py", "__init__.py")


def _keys(config: Mapping, settings: Settings, group: Sequence[Job]) -> list[str]:
    """Keys of the configuration that jobs read; what it does not have is at its default."""
    found: list[str] = []
    values = {
        "judge": settings.evaluation.estimator,
        "masking": settings.masks.encoder or next(iter(settings.encoders), ""),
    }
    rules = {job.rule for job in group}
    for rule in (rule for rule in _KEYS if rule in rules):
        for job in (job for job in group if job.rule == rule):
            for pattern in _KEYS[rule].split():
                if _unread(settings, job, pattern):
                    continue
                names = {**values, **job.wildcards}
                names["dataset"], names["view"] = divided(names.get("dataset", ""))
                found += _expanded(config, pattern.format(**names))
    return list(dict.fromkeys(found))


def _unread(settings: Settings, job: Job, pattern: str) -> bool:
    """Whether a job does not read a key that others of its rule do."""
    if job.rule == "sample_model":
        # Pictures of pseudo-models have the judge's size, and nothing is sampled.
        pseudo = job.wildcards["model"] not in settings.models
        return pattern.startswith(("sampling", "models") if pseudo else "estimators")
    if job.rule == "encode_shard" and pattern.startswith("encoders"):
        return settings.encoders[job.wildcards["encoder"]].published is None
    if job.rule in ("train_model", "train_albums") and pattern == "assets":
        used = settings.declarations[job.wildcards["model"]].networks
        return not any(one.section == "assets" for one in used)
    if job.rule == "mask_shard" and pattern.startswith("encoders"):
        source = settings.options_of(job.wildcards["dataset"]).source
        return settings.masks.method_for(source) != "mesh"
    return False


def _expanded(config: Mapping, pattern: str) -> list[str]:
    section, star, without = pattern.partition("*")
    here = config
    for part in filter(None, section.split(".")):
        if not isinstance(here, Mapping) or part not in here:
            return []
        here = here[part]
    if not star:
        return [section]
    inner = here if isinstance(here, Mapping) else {}
    return [f"{section}{key}" for key in inner if key not in without.split("-")]


def _plots(settings: Settings, stages: Mapping[str, Mapping]) -> list[dict]:
    """Curves of all trainings, which the top of ``dvc.yaml`` cannot loop over."""
    found = []
    for title, names, y in (
        ("validation of redirectors", settings.models, "val_score"),
        ("training loss of estimators", settings.estimators, "loss"),
        ("training loss of 3-D encoders", settings.encoders, "loss"),
    ):
        curves = {f"results/models/{n}/curve.csv": y for n in names if f"train-{n}" in stages}
        found += [{title: {"x": "images", "y": curves}}] if curves else []
    return found


_UNCACHED = {"cache": False}
