"""What entries of ``models`` and ``estimators`` may say of their data and views.

Functions take the whole :class:`regaze.settings.Settings`, which calls them, and raise ValueError
with the key's path.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from regaze.views import DEFAULT

_OF_A_CAMERA = ("codes", "masks")
"""Kinds of inputs that are made of patches of a virtual camera alone."""


def known(path: str, name: str, names: Iterable[str]) -> None:
    """Refuse a name that is not defined; ``path`` is where it stands."""
    if name not in names:
        raise ValueError(f"{path}: {name!r} is not defined; expected one of {', '.join(names)}")


def check_estimator(settings: Any, name: str) -> None:
    """Refuse an estimator in a view that is not there, or that measures in another one."""
    path, view = f"estimators.{name}.view", settings.estimators[name].view
    known(path, view, [DEFAULT, *settings.views])
    if view == DEFAULT:
        return
    for key in ("evaluation", "augmentation"):
        if getattr(settings, key).estimator == name:
            raise ValueError(
                f"{path}: {view!r}, but it is {key}.estimator, which reads all pictures in the "
                f"view {DEFAULT!r}"
            )
    _check_photos(settings, path, view, settings.dataset)


def check_data(settings: Any, name: str) -> None:
    """Refuse data that are not defined, or cannot be had in the view of an entry."""
    path, data = f"models.{name}.data", settings.data_of(name)
    known(f"{path}.labelled", data.labelled, settings.datasets)
    known(f"{path}.view", data.view, [DEFAULT, *settings.views])
    if data.unlabelled is not None:
        known(f"{path}.unlabelled", data.unlabelled, settings.datasets)
        if not settings.declarations[name].unlabelled:
            raise ValueError(
                f"{path}.unlabelled: {data.unlabelled!r}, but class "
                f"{settings.models[name].class_!r} learns from labelled data alone; leave it out"
            )
    for dataset in settings.seen_by(name):
        _check_photos(settings, f"{path}.view", data.view, dataset)
    if settings.faces_of(name).aligned:
        _check_aligned(settings, name)
    if data.per is not None:
        _check_personal(settings, name)


def _check_photos(settings: Any, path: str, view: str, dataset: str) -> None:
    """Refuse a view of a data set without photos."""
    if view != DEFAULT and settings.datasets[dataset].normalised:
        raise ValueError(
            f"{path}: {view!r}, but datasets.{dataset} was released as patches, which have the "
            f"one view; expected {DEFAULT!r}"
        )


def _check_aligned(settings: Any, name: str) -> None:
    """Refuse what is known of patches of a virtual camera alone, of an entry in framing ffhq."""
    path, entry, view = f"models.{name}", settings.models[name], settings.data_of(name).view
    because = f"but its view {view!r} has framing 'ffhq'"
    inputs = [one.kind for one in settings.declarations[name].inputs if one.kind in _OF_A_CAMERA]
    if inputs:
        raise ValueError(
            f"{path}.data.view: class {entry.class_!r} reads {' and '.join(inputs)} of patches, "
            f"{because}, for which they are not made"
        )
    if settings.data_of(name).per is not None:
        raise ValueError(
            f"{path}.data.per: 'person', {because}, in which rows are not numbered as in albums"
        )
    if weight := entry.resolve().get("objective", {}).get("eye_weight"):
        raise ValueError(
            f"{path}.objective.eye_weight: {weight:g}, {because}, in which eyes lie elsewhere than "
            "in the fixed boxes; expected 0"
        )
    removed = settings.evaluation.remove_background
    if removed if isinstance(removed, bool) else set(removed) & set(settings.evaluated):
        raise ValueError(
            f"{path}.data.view: {view!r} has framing 'ffhq', of which no masks are made; expected "
            "evaluation.remove_background: false"
        )


def _check_personal(settings: Any, name: str) -> None:
    """Refuse an entry with a model per person that has no albums, or has to be one model."""
    path, entry, data = f"models.{name}.data", settings.models[name], settings.data_of(name)
    albums = settings.evaluation.albums
    if albums is None:
        raise ValueError(f"{path}.per: 'person' needs evaluation.albums, found none")
    if data.album is not None and data.album > albums.size:
        raise ValueError(
            f"{path}.album: {data.album}, but albums have {albums.size} pictures "
            "(evaluation.albums.size)"
        )
    if settings.evaluated != [data.labelled]:
        raise ValueError(
            f"{path}.per: a model per person of {data.labelled!r}, but evaluated is on "
            f"{', '.join(settings.evaluated)}; expected that data set alone"
        )
    for key in ("labels", "checkpoint"):
        if getattr(entry, key, None) is not None:
            raise ValueError(f"models.{name}.{key}: not with a model per person; leave it out")
    if entry.train.gpus > 1 or entry.train.nodes > 1:
        raise ValueError(
            f"models.{name}.train: a model per person is trained by one process; expected gpus "
            "of at most 1 on one machine; persons are trained side by side (shards)"
        )
    if name in settings.augmentation.redirectors:
        raise ValueError(f"augmentation.redirectors: {name!r} has a model per person, none for all")
    for other, declaration in settings.declarations.items():
        used = [net.entry for net in declaration.networks if net.section == "models"]
        starts = [file for begun in declaration.starts for file in Path(begun.path).parts[-2:]]
        if name in used or name in starts and other != name:
            raise ValueError(
                f"models.{other}: {name!r} has a model per person, none that {other!r} could "
                "learn from"
            )
