"""Drawn pictures as a data set, and ways through codes and gazes as pictures that move."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from regaze.animation import tiled
from regaze.estimators.base import GazeHeadEstimator
from regaze.estimators.evaluate import read_images
from regaze.faces import COMPRESSION, FacesAttributes, FacesReader, FacesWriter
from regaze.hdf5 import ShardWriter
from regaze.images import to_uint8
from regaze.masks.painting import CLASSES, PALETTE, coloured
from regaze.outputs import replacing
from regaze.redirectors.gcgan.fit import MEAN_OF
from regaze.redirectors.gcgan.generator import SemanticGenerator
from regaze.redirectors.gcgan.latents import between, read_latent, replaced
from regaze.redirectors.gcgan.layout import truncated
from regaze.redirectors.gcgan.redirector import GcGan
from regaze.redirectors.networks import load_redirector

_FOCAL, _DISTANCE = 500 / 128, 600.0
"""Of the usual camera of patches: focal length over their side, and mm to the face."""
FRAME_MS = 60
"""How long each picture of an interpolation is shown."""
_BATCH = 16


def open_generator(folder: str | PathLike) -> tuple[SemanticGenerator, dict]:
    """The generator of a model folder of class ``gcgan``, and its record.

    Raises:
        FileNotFoundError, ValueError: the folder holds no such model.
    """
    found, record = load_redirector(folder)
    if not isinstance(found, GcGan):
        raise ValueError(f"{folder}: class: expected gcgan, found {record['config']['class']!r}")
    return found.generator, record


def known_latent(folder: str | PathLike, path: str | PathLike) -> Tensor:
    """The code of a file for the generator of a model folder.

    Raises:
        FileNotFoundError, ValueError: no such model, or no code of its size.
    """
    generator, _ = open_generator(folder)
    return read_latent(Path(path), generator.layout, generator.style_dim)


def new_folder(path: str | PathLike) -> Path:
    """A folder that is made here; nothing that is there is ever deleted.

    Raises:
        ValueError: it has something in it already.
    """
    folder = Path(path)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: expected a folder that is new or empty; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def grid_of_gazes(limit: float, step: float) -> np.ndarray:
    """Gazes (n,2) on a square grid, pitch by pitch, from ``-limit`` to ``limit`` radians."""
    count = 2 * int(round(limit / step)) + 1
    line = np.linspace(-limit, limit, count)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


def gazes_of_faces(faces: Sequence[str | PathLike], count: int, seed: int) -> np.ndarray:
    """``count`` gazes (n,2) radians drawn from the labels of faces, with replacement."""
    labels = FacesReader(faces).labels[:, :2]
    return labels[np.random.default_rng([seed, 1]).integers(len(labels), size=count)]


@dataclass(frozen=True)
class Draws:
    """What is drawn.

    Attributes:
        gazes: (n,2) radians, one per picture.
        per_code: pictures in a row that are of one code, which counts as a person.
        truncation: below 1, codes move towards the mean code.
        seed: of codes.
    """

    gazes: np.ndarray
    per_code: int = 1
    truncation: float = 0.7
    seed: int = 0

    @property
    def codes(self) -> int:
        """How many codes there are."""
        return -(-len(self.gazes) // self.per_code)


def drawn_codes(generator: SemanticGenerator, count: int, truncation: float, seed: int) -> Tensor:
    """Codes (count,D) of drawn noise; code k is the same however many are drawn."""
    each = [
        torch.randn(generator.style_dim, generator=torch.Generator().manual_seed(seed * 2**20 + k))
        for k in range(count)
    ]
    with torch.no_grad():
        codes = generator.mapped(torch.stack(each))
    return truncated(codes, generator.mean_code(MEAN_OF), truncation)


@torch.no_grad()
def pictures_of(generator: SemanticGenerator, codes: Tensor, gazes: Tensor):
    """Pictures (n,3,S,S) and class numbers (n,S,S) uint8 of codes (n,...), with stored noise."""
    images, labels = [], []
    for part, gaze in zip(codes.split(_BATCH), gazes.split(_BATCH), strict=True):
        made = generator.drawn(part, gaze, generator.stored_noise())
        images.append(made.rgb.clamp(-1, 1))
        labels.append(made.seg.argmax(1).to(torch.uint8))
    return torch.cat(images), torch.cat(labels).numpy()


class ClassesWriter(ShardWriter):
    """Write classes of pictures: ``mask`` (n,S,S) uint8 per person.

    Args:
        path: the HDF5 file.
        classes: how many there are.
        painting: how they came about.
    """

    def __init__(self, path: str | PathLike, classes: int, painting: str):
        told = {"scheme": f"gcgan{classes}", "names": json.dumps(CLASSES[:classes])}
        told |= {"palette": PALETTE[:classes], "painting": painting}
        super().__init__(path, told)

    def add(self, person: str, labels: np.ndarray) -> None:
        """Write the rows of a person."""
        chunks = (1, *labels.shape[1:])
        self._file.create_dataset(f"{person}/mask", data=labels, chunks=chunks, **COMPRESSION)


def write_samples(
    folder: str | PathLike, draws: Draws, out: str | PathLike, estimator: GazeHeadEstimator
) -> int:
    """Draw pictures and write them as a data set.

    ``faces.h5`` has pictures and labels in the layout of :mod:`regaze.faces` (source
    ``faces_hdf5``): gazes are those asked for, heads what an estimator reads in the pictures.
    ``classes.h5`` has their segmentations, ``samples.parquet`` the code of every row, which with
    its gaze draws the picture again.

    Args:
        folder: of the model.
        draws: what is drawn.
        out: folder that is new or empty.
        estimator: reads the heads.

    Returns:
        How many pictures were written.

    Raises:
        FileNotFoundError, ValueError: no such model, or a folder with something in it.
    """
    generator, _ = open_generator(folder)
    out, size = new_folder(out), generator.size
    codes = drawn_codes(generator, draws.codes, draws.truncation, draws.seed)
    attributes = FacesAttributes("custom", (size, size), _FOCAL * size, _DISTANCE, "none", "gcgan")
    rows = []
    with (
        FacesWriter(out / "faces.h5", attributes) as faces,
        ClassesWriter(out / "classes.h5", generator.layout.seg_dim, "drawn") as classes,
    ):
        for number, code in enumerate(codes):
            part = slice(number * draws.per_code, (number + 1) * draws.per_code)
            gazes = torch.from_numpy(np.float32(draws.gazes[part]))
            images, masks = pictures_of(generator, code.expand(len(gazes), -1), gazes)
            labels = np.full((len(gazes), 8), np.nan, np.float32)
            labels[:, :2], labels[:, 2:4] = gazes, read_images(estimator, images)[:, 2:]
            person = f"drawn{number:06d}"
            faces.add_person(person, to_uint8(images), labels)
            classes.add(person, masks)
            rows += [
                (person, row, *gaze.tolist(), draws.seed, draws.truncation, code.tolist())
                for row, gaze in enumerate(gazes)
            ]
    names = ["person", "row", "gaze_pitch", "gaze_yaw", "seed", "truncation", "code"]
    with replacing(out / "samples.parquet") as path:
        pd.DataFrame(rows, columns=names).to_parquet(path)
    return len(rows)


def gaze_arrow(gaze: np.ndarray, width: int, height: int, length: float) -> np.ndarray:
    """(4,) from x, y to x, y in pixels: a gaze as an arrow from the picture's middle."""
    pitch, yaw = gaze
    start = np.array([int(width / 2), int(height / 2)], np.float64)
    return np.concatenate(
        [start, start - length * np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch)])]
    )


def interpolation(
    folder: str | PathLike,
    component: str,
    *,
    code: Tensor | None = None,
    gaze: tuple[float, float] = (0.0, 0.0),
    frames: int = 48,
    keys: int = 5,
    truncation: float = 0.7,
    seed: int = 0,
) -> list[np.ndarray]:
    """Pictures (H,W,3) uint8 beside their classes, in which one component or the gaze moves.

    Args:
        folder: of the model.
        component: a name of :attr:`regaze.redirectors.gcgan.layout.Layout.names`, or ``gaze``,
            which goes around an ellipse while the code stands still.
        code: (1,...) that is begun at; drawn by ``seed`` without one.
        gaze: radians, where it does not move; the middle of the ellipse where it does.
        frames: pictures, the last before the first again.
        keys: drawn codes that a component goes through.
        truncation, seed: of drawn codes.

    Raises:
        FileNotFoundError, ValueError: no such model, or no such component.
    """
    generator, _ = open_generator(folder)
    layout = generator.layout
    codes = drawn_codes(generator, keys + 1, truncation, seed)
    base = layout.whole(codes[:1]) if code is None else code
    turn = 2 * np.pi * np.arange(frames) / frames
    if component == "gaze":
        gazes = np.array(gaze) + np.stack([0.3 * np.sin(turn), 0.5 * np.cos(turn)], 1)
        path = base.expand(frames, *base.shape[1:])
    else:
        gazes = np.tile(gaze, (frames, 1))
        steps = [replaced(base, layout, component, one[None]) for one in codes[1:]]
        path = between(torch.cat([*steps, steps[0]]), frames + 1)[:-1]
    images, labels = pictures_of(generator, path, torch.from_numpy(np.float32(gazes)))
    shown = [
        _with_arrow(picture, one) if component == "gaze" else picture
        for picture, one in zip(to_uint8(images), gazes, strict=True)
    ]
    pairs = zip(shown, coloured(labels), strict=True)
    return [np.asarray(tiled(np.stack(pair), 2, 2)) for pair in pairs]


def _with_arrow(picture: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    made = Image.fromarray(picture)
    height, width = picture.shape[:2]
    ends = gaze_arrow(gaze, width, height, width / 3)
    ImageDraw.Draw(made).line(ends.tolist(), fill=(255, 220, 60), width=max(1, width // 64))
    return np.asarray(made)
