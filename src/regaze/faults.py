"""What a configuration asks for in vain: persons, memory and files that are not there.

``settings`` is a :class:`regaze.settings.Settings`, which looks here when it is loaded.
"""

from __future__ import annotations

from pathlib import Path

from regaze.capture_settings import Capture
from regaze.identity.settings import TRAINED
from regaze.sources.splits import PARTS, WAY, complete_split, read_split, without_anybody
from regaze.training.settings import patches_fault
from regaze.views import divided


def deserted(settings, name: str) -> list[str]:
    """A line for each list of a data set's split that is needed and has nobody, where it is known.

    Raises:
        SplitError: a split file cannot be used.
    """
    options = settings.datasets[name]
    needed, split, where = settings.needed_lists(name), options.split, ""
    if split is None and options.root is not None:
        default = Path(options.root, "split.json")
        split = str(default) if needed and default.is_file() else None
    if isinstance(split, str):
        if not Path(split).exists():
            return []
        lists, where = complete_split(read_split(split), settings.seed), f" in {split}"
    elif split is not None:
        # Of shares it is known who has one.
        shares = {"val": split.val, "test": split.test, "train": 1 - split.val - split.test}
        lists = complete_split({part: ["a", "b"][: 2 * (shares[part] > 1e-9)] for part in PARTS})
    else:
        lists = {name: [] if name in options.deserted else ["a"] for name in needed}
    faults = without_anybody(lists, needed)
    told = ((fault, needed[fault.partition(":")[0]]) for fault in faults)
    return [f"datasets.{name}.split: {fault}{where} (for {key}); {WAY}" for fault, key in told]


def memory_faults(settings) -> list[str]:
    """A line for each training on rendered patches that do not fit into the memory asked for.

    Of other data sets nobody knows the number of rows yet; their jobs look before they read.
    """
    trained: list[tuple] = [
        (
            *(f"models.{name}", "train_model", entry, "train-redirector"),
            *(settings.data_of(name).labelled, settings.faces_of(name).size),
        )
        for name, entry in settings.models.items()
    ]
    default = (settings.dataset, settings.faces.size)
    trained += [
        (
            *(f"estimators.{name}", "train_estimator", entry, entry.persons),
            *(settings.dataset, settings.faces_of(name, "estimators").size),
        )
        for name, entry in settings.estimators.items()
    ]
    trained += [
        (f"encoders.{name}", "train_deca", entry, entry.persons, *default)
        for name, entry in settings.encoders.items()
        if entry.published is None
    ]
    if settings.identity and settings.identity.network in TRAINED:
        own = ("identity", "train_identity", settings.identity, settings.identity.persons)
        trained.append((*own, *default))
    faults = []
    for key, rule, entry, persons, dataset, size in trained:
        if settings.datasets[dataset].source != "synthetic":
            continue
        # With few labels it may be fewer, which the job knows.
        given = any(getattr(entry, part, None) for part in ("checkpoint", "labels"))
        if not given and getattr(entry.train, "cache", None) == "memory":
            rows = _rendered_rows(settings.capture_of(dataset), persons)
            asked = settings.resources.mem_mb(rule)
            if fault := patches_fault(rows, size, asked):
                faults.append(f"{key}.{fault}")
    return faults


def missing_files(settings, results: str | Path = "results") -> list[str]:
    """Return a line for every file or folder that the configuration names and that is not there.

    Snakemake itself would not always tell: where an older result exists it takes that one instead.
    The raw files of a data set may be absent once its faces are made, as on a machine that only
    got the results.
    """
    named: dict[str, str | None] = {
        "capture.head_model": settings.capture.head_model,
        "masks.parsing": settings.masks.parsing,
        "acquire.photos": settings.acquire.photos,
        "acquire.landmarks": settings.acquire.landmarks,
        "faces.sfm_mesh": settings.faces.sfm_mesh,
    }
    for name, entry in settings.encoders.items():
        named[f"encoders.{name}"] = entry.published
    for name, entry in settings.estimators.items():
        named[f"estimators.{name}.checkpoint"] = entry.checkpoint
    if settings.identity:
        named["identity.checkpoint"] = settings.identity.checkpoint
    # Models of this configuration are trained first.
    own = [Path(results, "models", other) for other in settings.models]
    for name, declaration in settings.declarations.items():
        for one in declaration.starts:
            if not any(Path(one.path).is_relative_to(folder) for folder in own):
                named[f"models.{name}.{one.key}"] = one.path
        for one in declaration.used:
            if one.section == "assets":
                named[f"assets.{one.entry}"] = settings.network_weights(one)
    for name in settings.read:
        options = settings.datasets[name]
        if isinstance(options.split, str):
            named[f"datasets.{name}.split"] = options.split
        sets = [one for one in settings.face_sets if divided(one)[0] == name]
        shards = min(len(list(Path(results, s, "faces").glob("shard-*.h5"))) for s in sets)
        if options.source != "synthetic" and shards < settings.shards:
            named[f"datasets.{name}.root"] = options.root
            named |= {f"datasets.{name}.{key}": path for key, path in options.files().items()}
    hint = "; docs/datasets.md says how to get data sets and where they go"
    return [
        f"{key}: {path}: no such file or folder{hint if key.startswith('datasets.') else ''}"
        for key, path in named.items()
        if path is not None and not Path(path).exists()
    ]


def _rendered_rows(capture: Capture, persons: str) -> int:
    """How many photos are rendered of a list of persons."""
    people = capture.persons
    count = {"train-redirector": people.train_redirector, "train-evaluator": people.train_evaluator}
    count |= {"train": sum(count.values()), "val": people.val, "test": people.test}
    return count.get(persons, 0) * capture.photos_of_person
