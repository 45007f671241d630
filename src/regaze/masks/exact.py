"""Exact masks of rendered photos: the renderer's own part of every pixel, seen in the patch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import h5py
import numpy as np

from regaze.faces import FacesReader
from regaze.hdf5 import open_hdf5
from regaze.masks import NUMBER, MasksError, MasksWriter
from regaze.normalise.camera import pad_distortion
from regaze.normalise.geometry import Variant, normalise
from regaze.normalise.warp import patch_map
from regaze.sources.records import PersonRecords

PARAMETERS = "parameters.h5"
"""File of the exact parameters in a rendered capture."""


def write_exact(
    faces: str | os.PathLike,
    capture: str | os.PathLike,
    read: Callable[[str], PersonRecords],
    out: str | os.PathLike,
) -> int:
    """Write the masks of one faces file from the label maps of the photos.

    A label map is looked up where the patch was: through the same rotation, perspective and lens,
    each patch pixel taking the label of the photo's pixel nearest to where it lies.

    Args:
        faces: the faces HDF5.
        capture: folder of the rendered capture.
        read: gives the records of a person, as ``open_source(...).read`` does.
        out: the masks HDF5.

    Returns:
        Number of rows.

    Raises:
        MasksError: the capture has no label maps, or rows do not belong to it.
    """
    reader = FacesReader(faces)
    path = Path(capture) / PARAMETERS
    if not path.is_file():
        raise MasksError(f"{path}: expected the label maps of a rendered capture, found no file")
    with open_hdf5(path) as truth:
        numbers = _numbers(path, truth.attrs.get("labels"))
        told = [name for name, number in NUMBER.items() if number in numbers]
        size = reader.patch_size or (0, 0)
        with MasksWriter(
            out, method="exact", version="renderer", told_apart=told, patch_size=size
        ) as writer:
            for person in reader.persons:
                rows = reader.rows([person])
                writer.start_person(person, len(rows))
                if len(rows):
                    _person(reader, rows, _maps(path, truth, person), read(person), numbers, writer)
    return len(reader)


def _numbers(path: Path, labels) -> np.ndarray:
    """Lookup (256,) from the renderer's labels to part numbers."""
    try:
        known: Mapping[str, int] = json.loads(labels)
        table = np.zeros(256, np.uint8)
        for name, label in known.items():
            table[label] = NUMBER[name]
    except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
        raise MasksError(
            f"{path}: attribute labels: expected names of parts and their labels, found {labels!r}"
        ) from error
    return table


def _maps(path: Path, truth: h5py.File, person: str) -> h5py.Dataset:
    maps = truth[person].get("mask") if person in truth else None
    if not isinstance(maps, h5py.Dataset) or maps.ndim != 3 or maps.dtype != np.uint8:
        raise MasksError(f"{path}: {person}/mask: expected (N, H, W) uint8 label maps, found none")
    return maps


def _person(reader, rows, maps, records: PersonRecords, numbers, writer: MasksWriter) -> None:
    attributes, person = reader.attributes, records.person
    variant = Variant.named(
        attributes["variant"],
        tuple(attributes["patch_size"]),
        attributes["focal"],
        attributes["distance"],
    )
    index = reader.dataset("source_index", rows).astype(int)
    if len(maps) != len(records) or index.min() < 0 or index.max() >= len(records):
        raise MasksError(
            f"{maps.file.filename}: {person}/mask: expected {len(records)} maps, one per photo, "
            f"and faces of these photos; found {len(maps)} maps, faces of photos "
            f"{index.min()} to {index.max()}"
        )
    geometry = normalise(
        records.camera_parameters[index],
        records.head_pose[index],
        None,
        variant,
        records.face_model,
    )
    distortion = pad_distortion(records.distortion[index])
    for place, photo in enumerate(index):
        labels = numbers[maps[photo]]
        points = patch_map(
            geometry.homography[place],
            records.camera_parameters[photo],
            distortion[place],
            (labels.shape[1], labels.shape[0]),
            variant.size,
            attributes.get("undistort_camera", "same"),
        )
        if records.turned is not None and records.turned[photo]:
            # as in make_patch: the turned photo's pixel (x, y) is the photo's (w - x, h - y)
            points = np.array([labels.shape[1], labels.shape[0]], np.float32) - points
        patch = cv2.remap(labels, points, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
        writer.add(patch[None])
