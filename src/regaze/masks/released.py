"""Masks that a data set brings, in the layouts of :mod:`regaze.sources.gazenerf_hdf5`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from regaze.faces import FacesReader
from regaze.masks import EYES, NUMBER, MasksWriter
from regaze.sources import open_source

_ROWS = 64


def write_released(
    faces: str | os.PathLike, source: Mapping[str, Any], out: str | os.PathLike
) -> int:
    """Write the masks of one faces file as its data set has them.

    What is head and no eye is skin, as nothing more is told; the subject's left eye is at the right
    of the picture.

    Args:
        faces: the faces HDF5.
        source: the entry of ``datasets``.
        out: the masks HDF5.

    Returns:
        Number of rows.

    Raises:
        regaze.sources.SourceError: the data set, or a mask of it, cannot be used.
    """
    reader, released = FacesReader(faces), open_source(dict(source))
    told = ["skin", *EYES]
    size = reader.patch_size or (0, 0)
    options = {"method": "released", "version": released.layout, "told_apart": told}
    with MasksWriter(out, patch_size=size, **options) as writer:
        for rows in writer.parts(reader, _ROWS):
            if len(rows):
                person = reader.persons[reader.person_of[rows[0]]]
                places = reader.dataset("source_index", rows).astype(int)
                writer.add(parted(*released.read_masks(person, places)))
    return len(reader)


def parted(head: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Part numbers (N, H, W) uint8 of masks of head and eyes (N, H, W)."""
    right_half = np.arange(head.shape[2]) >= head.shape[2] / 2
    side = np.where(right_half, NUMBER["left_eye"], NUMBER["right_eye"])
    return np.where(eyes, side, np.where(head, NUMBER["skin"], 0)).astype(np.uint8)
