"""What the jobs of the workflow pick of the library, by the entries that their wildcards name."""

from __future__ import annotations

from collections.abc import Mapping

from regaze.methods import methods
from regaze.redirectors.declaration import Network
from regaze.settings import Settings
from regaze.versioning.code import Picked

# Landmarks are looked for in photos; what reads their labels does not change them.
_LABELS = [
    f"regaze.{name}"
    for name in (
        *("faces", "hdf5", "sources.devices", "sources.hdf5", "sources.supplementary"),
        *("sources.files", "sources.tables"),
    )
]


def picks(settings: Settings, rule: str, wildcards: Mapping[str, str]) -> Picked:
    """What a job picks.

    Args:
        settings: of the workflow.
        rule: the job's.
        wildcards: their values.
    """
    # A network that was trained by another job is that job's: where its architecture changes, it is
    # trained again, and what uses it follows.
    found: dict[str, list[str]] = {"estimators": [], "recognisers": []}
    found["coded labels"] = ["latents"] if settings.coded else []
    found["coded readings"] = ["encoder"] if settings.coded else []
    without = list(_LABELS) if rule == "detect_landmarks" else []
    names = [wildcards[one] for one in ("model", "redirector", "inverter") if one in wildcards]
    name = names[0] if names else None
    if name is not None:
        training = rule in ("train_model", "train_albums", "train_labelled_redirector")
        models, networks = _used(settings, name, training)
        about = [settings.declarations[one] for one in models]
        sections = {one.section for one in networks}
        if rule == "train_labelled_redirector" and not about[0].unlabelled_targets:
            sections |= {"estimators"} if settings.augmentation.pseudo_labels else set()
        found["methods"] = [settings.models[one].class_ for one in models]
        found["networks"] = sorted(sections)
        found["inputs"] = [given.kind for one in about for given in one.inputs]
        if training:
            scored = getattr(settings.models[name].train, "validate_estimator", None)
            found["validation"] = ["pictures"] if scored else []
        idle = [
            {f"{methods()[kind]}.{path}" for path in one.unused}
            for kind, one in zip(found["methods"], about, strict=True)
        ]
        without += set.intersection(*idle) if idle else ()
    if "estimator" in wildcards:
        found["estimators"] = [settings.estimators[wildcards["estimator"]].arch]
    if rule in ("detect_landmarks", "acquire_faces"):
        given = rule == "acquire_faces" and settings.acquire.landmarks is not None
        found["detectors"] = [] if given else [settings.landmarks.detector]
    if rule.startswith("measure_"):
        # A detector looks for faces in the pictures of listed pairs alone.
        found["detectors"] = ["mediapipe"] if settings.evaluation.pairs.gazenerf_paper else []
    if rule == "train_identity":
        found["recognisers"] = [settings.identity.network]
    if "dataset" in wildcards:
        source = settings.options_of(wildcards["dataset"]).source
        found["sources"] = [source]
        if rule == "mask_shard":
            found["masks"] = [settings.masks.method_for(source)]
    return Picked(found, without)


def _used(settings: Settings, name: str, training: bool) -> tuple[list[str], list[Network]]:
    """A model and the models that it uses, and all networks that they use."""
    models, networks, todo = [], [], [(name, training)]
    while todo:
        model, learning = todo.pop()
        if model in models or model not in settings.models:
            continue
        models.append(model)
        used = [one for one in settings.declarations[model].used if one.always or learning]
        networks += used
        todo += [(one.entry, False) for one in used if one.section == "models"]
    return models, networks
