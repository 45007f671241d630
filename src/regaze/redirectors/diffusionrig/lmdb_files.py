"""Buffers in the LMDB that ``adobe-research/diffusion-rig`` trains on, written and read.

Of record i, six digits, there are ``image_<i>``, a PNG, and ``rendered_<i>``, ``normal_<i>`` and
``albedo_<i>``, pickled float32 tensors (3, S, S); ``length`` is their number as text. Pickles are
read by an allow-list.
"""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from regaze.codes.latents import LatentsReader
from regaze.face3d.buffers import BUFFERS
from regaze.face3d.crop_rows import CropRows
from regaze.face3d.deca import Deca, encoder_identity
from regaze.face3d.pickles import read_pickled
from regaze.faces import FacesReader
from regaze.images import reduce_patches, to_uint8
from regaze.lmdb_folders import new_folder, reading_from, writing_to
from regaze.outputs import replacing
from regaze.redirectors.diffusionrig.rendering import Rendered, kept_codes
from regaze.redirectors.diffusionrig.settings import PARTS

log = logging.getLogger(__name__)

FILE = "buffers.h5"
_BLOCK = 16


def export_buffers(
    faces: Sequence[str | PathLike],
    latents: Sequence[str | PathLike],
    face: Deca,
    out: str | PathLike,
    size: int = 256,
) -> tuple[int, int]:
    """Write pictures of a data set with the buffers of their codes.

    Args:
        faces: shards, with landmarks.
        latents: their codes, of this encoder.
        face: the encoder with its head model.
        out: folder, new or empty.
        size: side of the pictures, which divides that of the patches.

    Returns:
        How many were written, and how many have no codes and were left out.

    Raises:
        ValueError: the folder has something in it, files do not belong together, or there is
            nothing to write.
    """
    reader = FacesReader(faces)
    codes = LatentsReader(latents, reader, columns=PARTS, expect=encoder_identity(face))
    crops = CropRows({}, faces, reader)
    rows = np.flatnonzero(codes.detected & crops.known)
    if not len(rows):
        raise ValueError(f"{reader.paths[0]}: none of {len(reader)} faces has codes")
    drawing = Rendered(face, size, False)
    with replacing(new_folder(out)) as folder:
        folder.mkdir()
        with writing_to(folder) as env:
            for start in range(0, len(rows), _BLOCK):
                part = rows[start : start + _BLOCK]
                values = codes.read(part)
                whole = np.concatenate([values[name].reshape(len(part), -1) for name in PARTS], 1)
                drawn = _drawn(drawing, whole, crops.read(part)["crop"])
                pictures = to_uint8(reduce_patches(torch.from_numpy(reader.pixels(part)), size))
                with env.begin(write=True) as writing:
                    for number, pair in enumerate(zip(pictures, drawn, strict=True), start):
                        _put(writing, number, *pair)
            with env.begin(write=True) as writing:
                writing.put(b"length", str(len(rows)).encode())
    return len(rows), len(reader) - len(rows)


def _drawn(drawing: Rendered, codes: np.ndarray, crop: torch.Tensor) -> torch.Tensor:
    """Buffers (B, 9, S, S) of rows of codes (B, 236)."""
    known, gaze = torch.ones(len(codes), dtype=torch.bool), torch.zeros(len(codes), 2)
    return drawing.edited(kept_codes(torch.from_numpy(codes)), None, crop, known, gaze).buffers


def _put(writing, number: int, picture: np.ndarray, buffers: torch.Tensor) -> None:
    writing.put(f"image_{number:06d}".encode(), _png(picture))
    for name, buffer in zip(BUFFERS, buffers.split(3), strict=True):
        # a copy: else the whole batch would be pickled with each
        writing.put(f"{name}_{number:06d}".encode(), pickle.dumps(buffer.clone()))


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(stream, format="PNG")
    return stream.getvalue()


def import_buffers(folder: str | PathLike, out: str | PathLike) -> int:
    """Write the records of an LMDB as ``rgb/<i>.png`` and ``buffers.h5``.

    The latter has ``buffers`` (N, 9, S, S) float16: rendered, normal, albedo. If that
    fails there is nothing.

    Args:
        folder: of the LMDB.
        out: folder, new or empty.

    Returns:
        How many records there are.

    Raises:
        FileNotFoundError, ValueError: there is no LMDB, a key is missing or holds something else,
            or ``out`` is not empty.
    """
    folder = Path(folder)
    with reading_from(folder) as reading:
        stated = reading.get(b"length")
        if stated is None or not bytes(stated).isdigit() or not int(stated):
            raise ValueError(f"{folder}: length: expected a number of records, found {stated!r}")
        count, names = int(stated), ("image", *BUFFERS)
        for number in range(count):
            for name in names:
                if reading.get(key := f"{name}_{number:06d}".encode()) is None:
                    raise ValueError(f"{folder}: {key.decode()}: expected a record, found none")
        first = _picture(folder, reading, 0)
        size = first.shape[0]
        with replacing(new_folder(out)) as made:
            (made / "rgb").mkdir(parents=True)
            shape = (count, 3 * len(BUFFERS), size, size)
            with h5py.File(made / FILE, "w") as file:
                stored = file.create_dataset("buffers", shape, np.float16, chunks=(1, *shape[1:]))
                for number in range(count):
                    picture = _picture(folder, reading, number, size)
                    buffers = [_buffer(folder, reading, name, number, size) for name in BUFFERS]
                    stored[number] = np.concatenate(buffers)
                    Image.fromarray(picture).save(made / f"rgb/{number:06d}.png")
    return count


def _picture(folder: Path, reading, number: int, size: int | None = None) -> np.ndarray:
    key, wanted = f"image_{number:06d}", f"{size} x {size}" if size else "a square"
    try:
        with Image.open(io.BytesIO(reading.get(key.encode())), formats=["PNG"]) as picture:
            found = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{folder}: {key}: expected a PNG ({error})") from None
    if found.shape[:2] != (size or found.shape[1],) * 2:
        raise ValueError(f"{folder}: {key}: expected {wanted} pixels, found {found.shape[:2]}")
    return found


def _buffer(folder: Path, reading, name: str, number: int, size: int) -> np.ndarray:
    key = f"{name}_{number:06d}"
    raw = bytes(reading.get(key.encode()))
    found = read_pickled(raw, f"{folder}: {key}", expected=np.ndarray)
    if found.shape != (3, size, size) or found.dtype != np.float32:
        raise ValueError(
            f"{folder}: {key}: expected float32 (3, {size}, {size}), found {found.dtype} "
            f"{found.shape}"
        )
    return found
