"""What entries of a configuration have to have in common: names, sizes, views, networks.

``settings`` is a :class:`regaze.settings.Settings`, which looks here when it is validated.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from regaze.assets import NETWORKS
from regaze.entry_data import check_data, check_estimator, known
from regaze.identity.settings import TRAINED
from regaze.redirectors.declaration import check_labels
from regaze.redirectors.inputs import KINDS as INPUT_KINDS
from regaze.redirectors.inputs import check_names
from regaze.report.settings import StudySettings
from regaze.views import DEFAULT, in_view

PSEUDO_MODELS = ("copy", "truth")
"""Evaluated like models: the source itself, and the true target; ceiling and floor of errors."""

_ROLES = {"estimator": "training estimator", "labeller": "estimator of labels"}
"""What roles of networks are called in messages, where that is not their name."""


def check_references(settings) -> None:
    """Refuse names that are not defined, and entries that do not go with each other.

    Raises:
        ValueError: the message begins with the key's path.
    """
    known("dataset", settings.dataset, settings.datasets)
    for name in settings.evaluation.datasets or []:
        known("evaluation.datasets", name, settings.datasets)
    _check_captures(settings)
    if settings.acquire.photos is not None and not settings.encoders:
        raise ValueError("acquire.photos: needs an entry of encoders, found none")
    for section in ("masks", "acquire"):
        if (encoder := getattr(settings, section).encoder) is not None:
            known(f"{section}.encoder", encoder, settings.encoders)
    known("evaluation.estimator", settings.evaluation.estimator, settings.estimators)
    if settings.evaluation.encoder is not None:
        known("evaluation.encoder", settings.evaluation.encoder, settings.encoders)
    for name in settings.evaluation.models or []:
        known("evaluation.models", name, [*PSEUDO_MODELS, *settings.models])
    _check_study(settings, settings.evaluation.study)
    if not isinstance(settings.evaluation.remove_background, bool):
        for name in settings.evaluation.remove_background:
            known("evaluation.remove_background", name, settings.evaluated)
    for name in settings.views:
        _check_view(settings, name)
    for name in settings.estimators:
        check_estimator(settings, name)
    for name, entry in settings.models.items():
        check_data(settings, name)
        _check_declaration(settings, f"models.{name}", name)
        sections = {"estimators": settings.estimators, "models": settings.models}
        check_labels(f"models.{name}", entry, sections)
    if settings.coded and settings.coder is None:
        raise ValueError(
            f"evaluation.encoder: {', '.join(settings.coded)}, which an entry of models edits, "
            "is read by an entry of encoders, found none"
        )
    settings.augmentation.check(settings.estimators, settings.models)
    for name in settings.augmentation.redirectors:
        own = settings.data_of(name).labelled
        if own != settings.dataset and settings.augmentation.redirector_labels == "subset":
            raise ValueError(
                f"augmentation.redirectors: {name!r} is trained on {own!r}, but the labelled "
                f"samples of the study are of {settings.dataset!r}; set redirector_labels: all"
            )
    taken = {"identity": "identity"} if settings.identity else {}
    for section in ("encoders", "estimators", "models"):
        for name in getattr(settings, section):
            if name in taken:
                raise ValueError(f"{section}: {name!r} is also a name in {taken[name]}")
            taken[name] = section
    if settings.faces.size[0] != settings.faces.size[1]:
        # An eye strip: its faces can be made, training on them is refused by its own stage.
        return
    _check_sizes(settings)


def _check_captures(settings) -> None:
    """Refuse options of a rendered data set's own that do not go with those of ``capture``."""
    for name, entry in settings.datasets.items():
        if entry.source == "synthetic":
            try:
                settings.capture_of(name)
            except ValidationError as error:
                lines = lines_of(error, f"datasets.{name}.capture.")
                raise ValueError("; ".join(lines)) from None


def _check_sizes(settings) -> None:
    whole = settings.faces.size
    sizes = {
        f"models.{n}": (m.size_px, settings.faces_of(n).size) for n, m in settings.models.items()
    }
    for name, entry in settings.estimators.items():
        seen = settings.faces_of(name, "estimators").size
        sizes[f"estimators.{name}"] = (entry.size_px, seen)
    if settings.identity and settings.identity.network in TRAINED:
        sizes["identity"] = (settings.identity.size_px, whole)
    for path, (size, (width, height)) in sizes.items():
        if width % size and width == height:
            raise ValueError(f"{path}.size_px: {size} does not divide the patch width {width}")
    measured = settings.estimators[settings.evaluation.estimator].size_px
    for name, model in settings.models.items():
        # Pictures of another view are resampled to a size that fits.
        if model.size_px % measured and settings.data_of(name).view == DEFAULT:
            raise ValueError(
                f"models.{name}.size_px: {model.size_px}, but the evaluation estimator "
                f"{settings.evaluation.estimator!r} works on {measured} px; expected a multiple"
            )


def _check_view(settings, name: str) -> None:
    """Refuse a view that no camera has, or whose labels would be others than those of faces."""
    if name == DEFAULT:
        raise ValueError(f"views: {DEFAULT!r} is the view of `faces`; expected another name")
    try:
        faces = settings.faces_in(in_view(settings.dataset, name))
    except ValidationError as error:
        raise ValueError("; ".join(lines_of(error, f"views.{name}."))) from None
    if (faces.variant == "faze") != (settings.faces.variant == "faze"):
        raise ValueError(
            f"views.{name}.variant: {faces.variant!r} looks at another point of the face than "
            f"{settings.faces.variant!r} of faces, from which labels are measured"
        )


def _check_study(settings, study: StudySettings) -> None:
    for name in study.models or []:
        known("evaluation.study.models", name, settings.models)
        if not settings.declarations[name].denoises:
            raise ValueError(
                f"evaluation.study.models: {name!r} samples without noise: it has neither "
                "steps nor guidance"
            )
        own = settings.models[name].sampling
        for variant, changes in study.variants().items():
            told = {key: value for key, value in changes.items() if key != "pairs"}
            try:
                type(own).model_validate(own.model_dump() | told)
            except ValidationError as error:
                at = f"evaluation.study: {variant} of models.{name}: sampling."
                raise ValueError("; ".join(lines_of(error, at))) from None
        if any(study.weights) and not settings.declarations[name].guidable:
            raise ValueError(
                f"evaluation.study.weights: {name!r} cannot be guided: it was trained with its "
                "condition only (drop_prob 0); expected [0] or [], found "
                f"{study.weights}"
            )


def _check_declaration(settings, path: str, name: str) -> None:
    """Refuse names that are not defined, a judge as a teacher, and circles of networks."""
    own = settings.declarations[name]
    try:
        check_names(own)
    except ValueError as error:
        raise ValueError(f"{path}: its class {settings.models[name].class_!r} {error}") from None
    for one in own.inputs:
        for option, section in INPUT_KINDS[one.kind].sections.items():
            known(f"{path}: its {option}", one.options[option], getattr(settings, section))
    for one in own.networks:
        where = f"{path}: its {_ROLES.get(one.role, one.role)}"
        if one.role == "labeller":
            where = f"{path}.labels.estimator"
        known(where, one.entry, _networks_of(settings, one.section))
        if one.section == "estimators" and one.entry == settings.evaluation.estimator:
            raise ValueError(
                f"{path}: its {_ROLES.get(one.role, one.role)} {one.entry!r} also measures all "
                "methods "
                "(evaluation.estimator); learn from another one"
            )
        # The others crop and resize the face themselves.
        framed = one.section in ("estimators", "models")
        seen = settings.faces_of(one.entry, one.section) if framed else None
        if seen is not None and not seen.shows_as(settings.faces_of(name)):
            raise ValueError(
                f"{where} {one.entry!r} knows faces in another view than "
                f"{path}.data.view {settings.data_of(name).view!r}; expected one that shows as much"
            )
    _check_circles(settings, path, [name])
    configs = {
        one.role: settings.models[one.entry].resolve()
        for one in own.networks
        if one.section == "models"
    }
    try:
        settings.models[name].check_networks(settings.models[name].resolve(), configs)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from error


def _check_circles(settings, path: str, chain: list[str]) -> None:
    for one in settings.declarations[chain[-1]].networks:
        if one.section != "models":
            continue
        known(f"models.{chain[-1]}: its {one.role}", one.entry, settings.models)
        if one.entry in chain:
            raise ValueError(f"{path}: its {one.role} {one.entry!r} learns from itself")
        _check_circles(settings, path, [*chain, one.entry])


def _networks_of(settings, section: str) -> Iterable[str]:
    """Names of what methods may use of a section."""
    if section == "assets":
        return NETWORKS
    if section == "identity":
        return ["identity"] if settings.identity else []
    return getattr(settings, section)


def lines_of(error: ValidationError, prefix: str = "") -> list[str]:
    """A line for each fault, which begins with ``prefix`` and the key's path."""
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"] if part != "[key]"]
        path = (prefix + ".".join(location)).removesuffix(".")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        elif item["type"] != "value_error":
            message = f"{message}, found {item['input']!r}"
        if item["type"] == "string_type" and not isinstance(item["input"], dict | list):
            message += "; text that YAML takes for something else needs quotes"
        # Faults of one model or data set come from its own settings and start with its name.
        separator = "." if path in ("models", "datasets") else ": " if path else ""
        lines.append(f"{path}{separator}{message}")
    return lines
