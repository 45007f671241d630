"""Raw data sets: one module per lay-out, all handing out the records of ``records.py``.

A further data set is one module here with a class ``Options`` (its part of the configuration) and
a function ``open_source(options, supplementary=None)``, and its name in :data:`KINDS`. Nothing
heavy is imported, since the Snakefile reads the options and opens the data sets.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from regaze.sources.options import SourceOptions
from regaze.sources.records import SourceError

__all__ = [
    "KINDS",
    "SourceError",
    "SourceOptions",
    "open_source",
    "options_class",
    "source_options",
]

KINDS = (
    "synthetic",
    "gazecapture",
    "mpiifacegaze",
    "eth_xgaze",
    "eth_xgaze_hdf5",
    "columbia",
    "faces_hdf5",
    "gazenerf_hdf5",
    "folder",
)
"""Kinds of data sets, each the name of a module of this package."""


def options_class(kind: str) -> type[SourceOptions]:
    """Return the class of a kind's part of the configuration.

    Raises:
        SourceError: an unknown kind.
    """
    if kind not in KINDS:
        raise SourceError(f"source: expected one of {', '.join(KINDS)}, found {kind!r}")
    return importlib.import_module(f"regaze.sources.{kind}").Options


def source_options(entry: Mapping[str, Any]) -> SourceOptions:
    """Return the options of one entry of ``datasets``, whose key ``source`` names the kind.

    Raises:
        SourceError: the kind is unknown or missing.
        pydantic.ValidationError: an option is unknown or has a wrong value.
    """
    return options_class(entry.get("source", "nothing"))(**entry)


def open_source(options: SourceOptions | Mapping[str, Any], supplementary=None):
    """Open a raw data set.

    Args:
        options: an entry of ``datasets``, checked or as a mapping.
        supplementary: file, or files, of head poses and targets in the layout of
            ``swook/faze_preprocess``, to be used instead of what the data set brings.

    Returns:
        A ``Source``, ``PhotoSource`` or, for kinds whose options have ``normalised``,
        ``NormalisedSource`` of :mod:`regaze.sources.records`; some are the first two at once.

    Raises:
        SourceError: the data set cannot be opened.
    """
    if not isinstance(options, SourceOptions):
        options = source_options(options)
    module = importlib.import_module(f"regaze.sources.{options.source}")
    return module.open_source(options, supplementary=supplementary)
