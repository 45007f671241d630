"""Masks by a face parser, whose weights the user brings."""

from __future__ import annotations

import os

import numpy as np
import torch

from regaze.face3d.parsing import CLASSES, load_parser, parse_faces
from regaze.faces import FacesReader
from regaze.masks import NAMES, NUMBER, MasksWriter, derive
from regaze.masks.clean import FACE, HAIR, ROUNDS, in_pixels, without_fringes
from regaze.provenance import file_sha256

PARTS = {
    "skin": "skin", "l_brow": "brows", "r_brow": "brows", "l_eye": "left_eye",
    "r_eye": "right_eye", "eye_g": "glasses", "l_ear": "ears", "r_ear": "ears", "ear_r": "ears",
    "nose": "nose", "mouth": "mouth", "u_lip": "lips", "l_lip": "lips", "neck": "neck",
    "neck_l": "neck", "cloth": "clothes", "hair": "hair", "hat": "hat",
}  # fmt: skip
"""Parts by the parser's classes; what is not named is background."""

_ROWS = 16


def part_numbers() -> np.ndarray:
    """Part number (19,) uint8 of every class of the parser."""
    return np.array([NUMBER[PARTS.get(name, "background")] for name in CLASSES], np.uint8)


def assign_eyes(parts: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
    """Part numbers with every eye pixel given to the side where it lies.

    Parsers mix up the two eyes now and then; the subject's left eye is at the right of the
    picture.

    Args:
        parts: (N, H, W) uint8.
        landmarks: (N, 68, 2) pixels; the line between the eyes separates the sides where they are
            known, else the middle column.
    """
    width = parts.shape[2]
    middle = np.full(len(parts), (width - 1) / 2)
    if landmarks is not None:
        eyes = landmarks[:, 36:48, 0].reshape(-1, 2, 6).mean(2).mean(1)
        middle = np.where(np.isfinite(eyes), eyes, middle)
    eye = (parts == NUMBER["left_eye"]) | (parts == NUMBER["right_eye"])
    left = np.arange(width)[None, None] > middle[:, None, None]
    sides = np.where(left, NUMBER["left_eye"], NUMBER["right_eye"]).astype(np.uint8)
    return np.where(eye, sides, parts)


def tidied(parts: np.ndarray) -> np.ndarray:
    """Part numbers (N, H, W) whose heads have no stray pieces and no fringes of hair.

    What :func:`regaze.masks.clean.without_fringes` takes away becomes background.
    """
    labels = np.where(parts == NUMBER["hair"], HAIR, np.where(derive(parts)[0], FACE, 0))
    rounds = in_pixels(ROUNDS, parts.shape[1])
    kept = np.stack([without_fringes(one, rounds) for one in labels.astype(np.uint8)])
    return np.where((labels != 0) & (kept == 0), NUMBER["background"], parts).astype(np.uint8)


def write_parsed(
    faces: str | os.PathLike,
    weights: str | os.PathLike,
    out: str | os.PathLike,
    *,
    device: str = "auto",
) -> int:
    """Write the masks of one faces file by the parser of :mod:`regaze.face3d.parsing`.

    Args:
        faces: the faces HDF5.
        weights: the parser's ``79999_iter.pth``.
        out: the masks HDF5.
        device: ``auto`` takes the GPU when there is one.

    Returns:
        Number of rows.

    Raises:
        FileNotFoundError: no weights.
        ValueError: weights of another network.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    parser, reader = load_parser(weights, device), FacesReader(faces)
    numbers = part_numbers()
    told = [NAMES[number] for number in np.unique(numbers)]
    size = reader.patch_size or (0, 0)
    with MasksWriter(
        out, method="parsing", version=file_sha256(weights), told_apart=told, patch_size=size
    ) as writer:
        for part in writer.parts(reader, _ROWS):
            classes = parse_faces(parser, torch.from_numpy(reader.pixels(part))).numpy()
            marks = reader.dataset("landmarks", part) if reader.has("landmarks") else None
            writer.add(assign_eyes(tidied(numbers[classes]), marks))
    return len(reader)
