"""The latents stage: faces of one shard to their 3-D codes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from regaze.codes.latents import CODES, SHORT, LatentsWriter
from regaze.face3d.deca import Deca, encoder_identity, load_encoder, load_published
from regaze.face3d.model import load_flame
from regaze.face3d.patches import crop_patches
from regaze.faces import FacesReader

log = logging.getLogger(__name__)

MIN_EXTENT = 8
"""Least size in pixels of a face, as its landmarks span it, that is encoded."""

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class EncodeCounts:
    """Rows of a shard, and those whose face was encoded."""

    rows: int
    detected: int


def open_encoder(
    head: str | os.PathLike,
    *,
    folder: str | os.PathLike | None = None,
    rasterizer: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    **published,
) -> Deca:
    """An encoder ready to use, trained in the workflow or published.

    Args:
        head: the head model's ``.npz``.
        folder: ``results/models/<encoder>``; None for published weights.
        rasterizer: see :mod:`regaze.face3d.rasterize`.
        device: ``auto`` takes the GPU when there is one.
        threads: of the process on a CPU; None leaves them as they are.
        published: ``deca`` or ``emoca``, and ``head_sha256``, as
            :func:`regaze.face3d.deca.load_published` takes them.

    Raises:
        ValueError: not exactly one of folder, deca and emoca is given, a file does not fit, or an
            unknown device.
        FileNotFoundError: a file of the folder is missing.
    """
    if device not in DEVICES:
        raise ValueError(f"device: expected one of {', '.join(DEVICES)}, found {device!r}")
    if folder is not None and "head_sha256" in published:
        raise ValueError("head_sha256: is for deca and emoca; a model folder has its own")
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_flame(head)
    if folder is not None:
        made = load_encoder(folder, model, rasterizer)
    else:
        made = load_published(model, **published, rasterizer=rasterizer)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return made.to(device)


def usable_landmarks(landmarks: np.ndarray, patch_size: tuple[int, int]) -> np.ndarray:
    """Which faces (N,) bool can be encoded.

    The landmarks are finite, span at least :data:`MIN_EXTENT` pixels, and their middle lies in
    the patch: eye strips, which hold a part of the face only, pass as well.

    Args:
        landmarks: (N, 68, 2) pixels of the patch.
        patch_size: (width, height).
    """
    with np.errstate(invalid="ignore"):
        # numbers of that size are no pixels, and would overflow
        finite = (np.abs(landmarks) < 1e5).all((1, 2))
    points = np.where(finite[:, None, None], landmarks, 0.0)
    low, high = points.min(1), points.max(1)
    middle = (low + high) / 2
    inside = ((middle >= 0) & (middle <= np.array(patch_size))).all(1)
    return finite & inside & ((high - low).mean(1) >= MIN_EXTENT)


def codes_of_faces(
    encoder: Deca, pixels: np.ndarray, landmarks: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Codes of patches, and which rows (N,) bool have any.

    Args:
        encoder: in evaluation mode, on any device.
        pixels: (N, H, W, 3) uint8 RGB.
        landmarks: (N, 68, 2) patch pixels, NaN where unknown.

    Returns:
        float32 (N, length) by the names of :data:`regaze.codes.latents.CODES`, zero without a face.
    """
    detected = usable_landmarks(landmarks, (pixels.shape[2], pixels.shape[1]))
    codes = {name: np.zeros((len(pixels), width), np.float32) for name, width in CODES.items()}
    if detected.any():
        crops = crop_patches(pixels[detected], landmarks[detected], encoder.size_px)
        for name, values in encoder.encode(crops.images.to(encoder.device)).items():
            codes[SHORT.get(name, name)][detected] = values.flatten(1).cpu().numpy()
    return codes, detected


def encode_shard(
    faces: str | os.PathLike,
    encoder: Deca,
    out: str | os.PathLike,
    *,
    batch: int = 256,
    identity: Mapping[str, str] | None = None,
) -> EncodeCounts:
    """Write the latents of one faces file; see :mod:`regaze.codes.latents`.

    Every face is cropped around its landmarks as in training; rows without usable landmarks (see
    :func:`usable_landmarks`) are written as not detected. Memory holds ``batch`` patches and
    their crops.

    Args:
        faces: the faces HDF5, with ``landmarks``.
        encoder: in evaluation mode, on any device.
        out: the parquet file.
        batch: rows held at a time; no influence on the result.
        identity: what is recorded, by default that of the encoder.

    Raises:
        ValueError: the encoder gives codes that are not finite.
    """
    reader = FacesReader(faces)
    known = reader.has("landmarks")
    found = 0
    with LatentsWriter(out, identity or encoder_identity(encoder)) as writer:
        for start in range(0, len(reader), batch):
            rows = np.arange(start, min(start + batch, len(reader)))
            landmarks = np.full((len(rows), 68, 2), np.nan, np.float32)
            if known:
                landmarks = reader.dataset("landmarks", rows)
            codes, detected = codes_of_faces(encoder, reader.pixels(rows), landmarks)
            persons = [reader.persons[code] for code in reader.person_of[rows]]
            writer.add(persons, reader.row_of[rows], codes, detected)
            found += int(detected.sum())
    if found < len(reader):
        why = "" if known else ": the faces have no landmarks"
        log.warning("%s: %d of %d rows not encoded%s", faces, len(reader) - found, len(reader), why)
    return EncodeCounts(len(reader), found)
