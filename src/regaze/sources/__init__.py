"""Raw data sets: one module per lay-out, all handing out the records of ``records.py``.

A further data set is a module with a class that meets :class:`~regaze.sources.records.Source`
and one entry in :data:`KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regaze.sources.records import CaptureRecord, PersonRecords, Source, SourceError

__all__ = ["KINDS", "CaptureRecord", "PersonRecords", "Source", "SourceError", "open_source"]


def _gazecapture(root: str | Path, **options) -> Source:
    from regaze.sources.gazecapture import GazeCapture

    return GazeCapture(root, **options)


def _synthetic(root: str | Path, **options) -> Source:
    return _gazecapture(root, kind="synthetic", **options)


KINDS: dict[str, Callable[..., Source]] = {
    "gazecapture": _gazecapture,
    "synthetic": _synthetic,
}
"""Opener by kind; each takes the root folder and the kind's own options."""


def open_source(kind: str, root: str | Path, **options) -> Source:
    """Open the raw data set of ``kind`` below ``root``.

    ``options`` are those of the kind's class, for ``gazecapture`` and ``synthetic``
    :class:`regaze.sources.gazecapture.GazeCapture`.

    Raises:
        SourceError: an unknown kind, or the data set cannot be opened.
    """
    if kind not in KINDS:
        raise SourceError(f"source kind: expected one of {sorted(KINDS)}, found {kind!r}")
    return KINDS[kind](root, **options)
