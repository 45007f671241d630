"""Eye regions with classes in the LMDB that ``naranjuelo/GC-GAN`` trains on, written and read.

All records are in the unnamed database: ``image-<i>-<label>`` and ``label-<i>-<label>`` are PNGs of
pictures and of class numbers, ``i`` of seven digits and the label ``<pitch>_<yaw>`` in radians, and
``image-length`` and ``label-length`` are their number. ``labels_gaze.npy`` beside them is a pickled
dictionary of the labels by number, which is read by an allow-list.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from regaze.face3d.pickles import read_npy_object
from regaze.faces import FacesReader
from regaze.landmarks.mesh import MeshDetector
from regaze.lmdb_folders import new_folder, reading_from, writing_to
from regaze.masks.painting import canvas_of, eye_region, painted, parts_of_mesh, strip_picture
from regaze.outputs import replacing

log = logging.getLogger(__name__)

_LABELS = "labels_gaze.npy"
_KEY = re.compile(r"(image|label)-(\d{7})-(-?\d+(?:\.\d+)?)_(-?\d+(?:\.\d+)?)")


def region_of(patch: np.ndarray, detector: MeshDetector) -> tuple[np.ndarray, np.ndarray] | None:
    """Picture (250,250,3) uint8 and classes (250,250) uint8 of a patch (H,W,3), as published.

    None where no face is found.
    """
    canvas = canvas_of(patch)
    face = detector.filling(canvas)
    if face is None:
        return None
    size = canvas.shape[1::-1]
    parts = parts_of_mesh((face.points + 0.5) / size, size)
    region = eye_region(parts, size, "compat")
    labels = painted(parts, size, painting="compat")
    return strip_picture(canvas, region), strip_picture(labels, region)


def _png(array: np.ndarray, size: int, how: Image.Resampling) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).resize((size, size), how).save(stream, format="PNG")
    return stream.getvalue()


def export_lmdb(
    faces: Sequence[str | PathLike], out: str | PathLike, size: int = 256
) -> tuple[int, int]:
    """Write the LMDB of the faces of a data set.

    Args:
        faces: shards.
        out: folder, new or empty.
        size: side of the pictures.

    Returns:
        How many were written, and in how many patches no face was found.

    Raises:
        ValueError: the folder has something in it.
    """
    folder = new_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    reader, detector, labels, lost = FacesReader(faces), MeshDetector(), {}, 0
    with writing_to(folder) as env:
        for row, (pitch, yaw) in enumerate(reader.labels[:, :2].tolist()):
            found = region_of(reader.pixels([row])[0], detector)
            if found is None:
                lost += 1
                continue
            number, label = len(labels), f"{pitch:.4f}_{yaw:.4f}"
            pictures = (
                ("image", _png(found[0], size, Image.Resampling.LANCZOS)),
                ("label", _png(found[1], size, Image.Resampling.NEAREST)),
            )
            with env.begin(write=True) as writing:
                for kind, stored in pictures:
                    writing.put(f"{kind}-{number:07d}-{label}".encode(), stored)
            labels[number] = label
        with env.begin(write=True) as writing:
            for kind in ("image", "label"):
                writing.put(f"{kind}-length".encode(), str(len(labels)).encode())
    with replacing(folder / _LABELS) as part, open(part, "wb") as stream:
        np.save(stream, np.array(labels, object), allow_pickle=True)
    if lost:
        log.warning("%s: no face found in %d of %d patches", folder, lost, len(reader))
    return len(labels), lost


def read_labels(path: str | PathLike) -> dict[int, tuple[float, float]]:
    """Gazes (pitch, yaw) in radians by number, of a ``labels_gaze.npy``; nothing is executed.

    Raises:
        OSError, ValueError: the file cannot be read, or is no dictionary of numbers and labels.
    """
    found = read_npy_object(path)
    labels = {}
    for number, label in found.items():
        parts = _KEY.fullmatch(f"label-{number:07d}-{label}") if type(number) is int else None
        if parts is None or number < 0:
            raise ValueError(
                f"{path}: expected numbers from 0 and labels <pitch>_<yaw>, found {number!r}: "
                f"{str(label)[:40]!r}"
            )
        labels[number] = (float(parts[3]), float(parts[4]))
    return labels


def read_lmdb(folder: str | PathLike) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Number, picture (S,S,3) and classes (S,S) uint8, and gaze (2,) of every record, in order.

    Raises:
        FileNotFoundError: there is no LMDB.
        ValueError: a record is missing or no PNG, or its picture and classes differ in size.
    """
    folder = Path(folder)
    with reading_from(folder) as reading:
        keys = [bytes(key).decode("utf-8", "replace") for key, _ in reading.cursor()]
        found = [match for key in keys if (match := _KEY.fullmatch(key))]
        pictures = {match[2]: match for match in found if match[1] == "image"}
        stated = reading.get(b"image-length")
        if stated != str(len(pictures)).encode():
            raise ValueError(
                f"{folder}: image-length: expected {len(pictures)}, as there are pictures, found "
                f"{stated!r}"
            )
        for number, match in sorted(pictures.items()):
            image = _array(folder, reading, match[0], "RGB")
            labels = _array(folder, reading, match[0].replace("image", "label", 1), "L")
            if image.shape[:2] != labels.shape:
                raise ValueError(
                    f"{folder}: {match[0]}: expected classes of {image.shape[:2]} as its picture, "
                    f"found {labels.shape}"
                )
            yield int(number), image, labels, np.array([float(match[3]), float(match[4])])


def _array(folder: Path, reading, key: str, mode: str) -> np.ndarray:
    stored = reading.get(key.encode())
    if stored is None:
        raise ValueError(f"{folder}: {key}: expected a PNG of mode {mode}, found none")
    try:
        with Image.open(io.BytesIO(stored), formats=["PNG"]) as picture:
            if picture.mode != mode:
                raise ValueError(
                    f"{folder}: {key}: expected a PNG of mode {mode}, found {picture.mode}"
                )
            return np.asarray(picture)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{folder}: {key}: expected a PNG of mode {mode} ({error})") from None


def import_lmdb(folder: str | PathLike, out: str | PathLike) -> int:
    """Write the records of an LMDB as ``rgb/<i>.png``, ``mask/<i>.png`` and ``labels.parquet``.

    Args:
        folder: of the LMDB; its ``labels_gaze.npy``, if there is one, has to say the same.
        out: folder, new or empty.

    Returns:
        How many records there are.

    Raises:
        FileNotFoundError, ValueError: it cannot be used, labels differ, or ``out`` is not empty.
    """
    made = new_folder(out)
    stated = Path(folder) / _LABELS
    labels = read_labels(stated) if stated.is_file() else None
    rows = []
    for name in ("rgb", "mask"):
        (made / name).mkdir(parents=True, exist_ok=True)
    for number, image, classes, gaze in read_lmdb(folder):
        if labels is not None and labels.get(number) != tuple(gaze):
            raise ValueError(
                f"{stated}: {number}: expected {tuple(gaze.tolist())}, found {labels.get(number)}"
            )
        cv2.imwrite(str(made / f"rgb/{number:07d}.png"), image[..., ::-1])
        cv2.imwrite(str(made / f"mask/{number:07d}.png"), classes)
        rows.append((number, *gaze.tolist()))
    with replacing(made / "labels.parquet") as part:
        pd.DataFrame(rows, columns=["index", "pitch", "yaw"]).to_parquet(part)
    return len(rows)
