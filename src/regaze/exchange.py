"""Faces, masks and codes of the workflow as files that other systems train on.

The two layouts are those of :mod:`regaze.sources.gazenerf_hdf5`, which reads them again. What they
cannot say is an attribute of each file: whose it is, the order of channels, the frame of the gaze,
the virtual camera, and of which head model the codes are. Pictures are compressed by gzip where
upstream uses lzf; readers do not see the difference.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regaze.angles import angles_from_vector, rotation_from_angles, vector_from_angles
from regaze.codes import CODES
from regaze.codes.latents import LatentsReader
from regaze.face3d.nl3dmm_fit import HeadFit
from regaze.faces import COMPRESSION, FacesReader
from regaze.hdf5 import ShardWriter
from regaze.masks import MasksReader
from regaze.masks.clean import EYE_KERNEL, dilated_eyes, in_pixels
from regaze.sources import open_source
from regaze.sources.gazenerf_hdf5 import DOWN, FLIP, NL3DMM, PIXELS, TEST, TRAIN

log = logging.getLogger(__name__)

LAYOUTS = ("gazenerf", "seed")
UNIT_MM = 75.0
"""Of a unit of the fields' world."""
TEST_SHARE = 0.1
"""Of a person's rows in the seed's file for tests."""

_ROWS = 64


@dataclass(frozen=True)
class Material:
    """What is exported.

    Attributes:
        faces: the rows.
        masks: of them.
        latents: of them, or None, for codes of zeros that are marked as not fitted.
    """

    faces: FacesReader
    masks: MasksReader
    latents: LatentsReader | None = None

    @classmethod
    def opened(
        cls, faces: Sequence[str | Path], masks: Sequence[str | Path], latents: Sequence[str | Path]
    ) -> Material:
        """The material of shards of faces, masks and latents; no latents: codes are not known.

        Raises:
            FileNotFoundError, ValueError: a file is missing, is something else, or belongs to
                other faces; the faces are no square patches of a virtual camera with known gaze.
        """
        reader = FacesReader(faces)
        width, height = reader.patch_size or (0, 0)
        said = reader.attributes
        told = ""
        if width != height or not width:
            told = f"expected square patches, found {width} x {height} px"
        elif said.get("focal") is None or said.get("distance") is None:
            framing = said.get("framing", "normalised")
            told = f"expected patches of a virtual camera, found framing {framing!r}"
        if told:
            raise ValueError(f"{reader.paths[0]}: {told}")
        codes = None if not latents else LatentsReader(latents, reader, columns=[*NL3DMM])
        return cls(reader, MasksReader(masks, reader), codes)


def shards_of(
    results: str | Path, encoder: str | None = None
) -> tuple[list[Path], list[Path], list[Path]]:
    """Shards of faces, masks and latents below the folder of a data set's results.

    Args:
        results: such as ``results/gazecapture``.
        encoder: whose latents; None: those of the only encoder, or ``none`` for none.

    Raises:
        FileNotFoundError: there are no faces, masks or latents.
        ValueError: there are latents of several encoders.
    """
    home = Path(results)
    found = [sorted(home.glob(f"{name}/shard-*.h5")) for name in ("faces", "masks")]
    for name, shards in zip(("faces", "masks"), found, strict=True):
        if not shards:
            raise FileNotFoundError(
                f"{home / name}: expected shard-000.h5 and so on, found none; run "
                f"`snakemake {name}`"
            )
    known = sorted(path.parent.name for path in home.glob("latents/*/part-000.parquet"))
    if encoder is None and len(known) > 1:
        raise ValueError(f"{home / 'latents'}: encoder: expected one of {', '.join(known)}")
    chosen = encoder or (known[0] if known else "none")
    if chosen == "none":
        return *found, []
    parts = sorted(home.glob(f"latents/{chosen}/part-*.parquet"))
    if not parts:
        there = ", ".join(known) or "none"
        raise FileNotFoundError(f"{home / 'latents' / chosen}: no latents; there are: {there}")
    return *found, parts


def row_fit(root: str | Path, person: str, row: int) -> HeadFit:
    """Code and camera of a row of files in either layout, as a fit to a photo has them.

    Raises:
        regaze.sources.SourceError: the files cannot be used, or there is no such person.
        ValueError: there is no such row, or its code is not known.
    """
    options = {"source": "gazenerf_hdf5", "root": str(root)}
    found = open_source(options).read_codes(person)
    if row >= len(found.known):
        raise ValueError(f"{root}: {person}: expected a row below {len(found.known)}, found {row}")
    if not found.known[row]:
        raise ValueError(
            f"{root}: {person}: row {row}: expected a code, found that none was fitted"
        )
    numbers = {"code": np.concatenate([one[row] for one in found.codes.values()])}
    numbers |= {name: values[row] for name, values in found.cameras.items()}
    return HeadFit(**{name: torch.from_numpy(one).float() for name, one in numbers.items()})


def export(
    material: Material,
    folder: str | Path,
    layout: str,
    *,
    persons: Sequence[str] | None = None,
    prefix: str = "xgaze_",
    seed: int = 0,
) -> list[Path]:
    """Write the files of a layout.

    Args:
        material: faces with masks and codes.
        folder: where files are written; each appears when it is complete.
        layout: one of :data:`LAYOUTS`. ``gazenerf``: ``<prefix>subject0000.h5``, a file for each
            person; ``seed``: ``processed_subject0000`` and ``processed_test_subject0000``, of
            which the second has a tenth of the rows.
        persons: whose; default of everybody, who are numbered in the order of their names.
        prefix: of the names of GazeNeRF's files; its loaders know ``xgaze_``, ``mpii_``,
            ``columbia_`` and ``gaze_capture_``.
        seed: of the deal of rows to the seed's two files.

    Returns:
        The files.

    Raises:
        ValueError: an unknown layout or person, no gaze labels for ``gazenerf``, or none of the
            rows has a face.
        OSError: a file cannot be written, or rows cannot be read.
    """
    faces = material.faces
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, found {layout!r}")
    if layout == "gazenerf" and not faces.gaze_known:
        raise ValueError(f"{faces.paths[0]}: expected gaze labels, found faces without any")
    if unknown := sorted(set(persons or ()) - set(faces.persons)):
        raise ValueError(f"person: expected one of {faces.paths[0]}, found {unknown[0]!r}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    made = []
    for number, person in enumerate(faces.persons):
        rows = faces.rows([person])
        if (persons is not None and person not in persons) or not len(rows):
            continue
        subject = f"subject{number:04d}"
        if layout == "gazenerf":
            width = 5 if prefix == "gaze_capture_" else 4
            parts = {Path(folder, f"{prefix}subject{number:0{width}d}.h5"): rows}
        else:
            trained, tested = dealt(rows, seed, person)
            parts = {
                Path(folder, f"{TRAIN}{subject}"): trained,
                Path(folder, f"{TEST}{subject}"): tested,
            }
        for path, chosen in parts.items():
            if len(chosen):
                _write(path, material, person, chosen, layout)
                made.append(path)
                log.info("%s: person %s, %d rows", path, person, len(chosen))
    if not made:
        raise ValueError(f"{faces.paths[0]}: expected rows of faces, found none")
    return made


def dealt(rows: np.ndarray, seed: int, person: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a person in two parts, in order: those trained on, and a tenth for tests."""
    order = np.random.default_rng([seed, zlib.crc32(person.encode())]).permutation(rows)
    tests = round(TEST_SHARE * len(rows))
    return np.sort(order[tests:]), np.sort(order[:tests])


def patch_cameras(
    head: np.ndarray, *, side: int, focal: float, distance: float
) -> dict[str, np.ndarray]:
    """Cameras of normalised patches in units of the fields' world, under the names of the files.

    Args:
        head: (N,2) pitch and yaw of the head in radians.
        side: of the patches in pixels.
        focal: focal length in pixels.
        distance: from the camera to the face in mm.
    """
    rotation = rotation_from_angles(np.asarray(head, np.float64)) @ FLIP
    back = np.swapaxes(rotation, 1, 2)
    ahead = np.tile([0.0, 0.0, distance / UNIT_MM], (len(head), 1))
    matrix = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1.0]])
    return {
        "w2c_Rmat": rotation,
        "w2c_Tvec": ahead,
        "c2w_Rmat": back,
        "c2w_Tvec": -(back @ ahead[..., None])[..., 0],
        "inmat": np.tile(matrix, (len(head), 1, 1)),
        "inv_inmat": np.tile(np.linalg.inv(matrix), (len(head), 1, 1)),
    }


def _write(path: Path, material: Material, person: str, rows: np.ndarray, layout: str) -> None:
    faces, count, seed = material.faces, len(rows), layout == "seed"
    side = faces.patch_size[0]
    attributes = _attributes(material, person, layout)
    if seed:
        attributes["mode"] = "test" if path.name.startswith(TEST) else "train"
    names = ("mask", "eye_mask") if seed else _GAZENERF_MASKS
    pictures = {PIXELS: (side, side, 3)} | dict.fromkeys(names, (side, side))
    with _Writer(path, attributes) as writer:
        writer.make_room(count, pictures)
        for start in range(0, count, _ROWS):
            part = rows[start : start + _ROWS]
            masks = (mask.astype(np.uint8) * 255 for mask in _masks(material.masks, part, seed))
            made = {PIXELS: faces.pixels(part)[..., ::-1]} | dict(zip(names, masks, strict=True))
            writer.fill(start, made)
        writer.add(_numbers(material, rows, seed))


class _Writer(ShardWriter):
    """Datasets in the root of a file."""

    def make_room(self, count: int, pictures: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in pictures.items():
            options = {"chunks": (1, *shape), **COMPRESSION}
            self._file.create_dataset(name, (count, *shape), np.uint8, **options)

    def fill(self, start: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, values in pictures.items():
            self._file[name][start : start + len(values)] = values

    def add(self, numbers: Mapping[str, np.ndarray]) -> None:
        for name, values in numbers.items():
            self._file.create_dataset(name, data=values)


_GAZENERF_MASKS = ("head_mask", "left_eye_mask", "right_eye_mask")


def _masks(masks: MasksReader, rows: np.ndarray, seed: bool) -> list[np.ndarray]:
    found = masks.read(rows, ("head", "eyes"))
    head, eyes = found["head"], found["eyes"]
    side = head.shape[-1]
    if seed:
        kernel = in_pixels(EYE_KERNEL, side)
        grown = [dilated_eyes(one.astype(np.uint8), kernel) for one in eyes]
        return [head, np.stack(grown).astype(bool) & head]
    left = np.arange(side) < side / 2
    return [head, eyes & left, eyes & ~left]


def _numbers(material: Material, rows: np.ndarray, seed: bool) -> dict[str, np.ndarray]:
    """Datasets without pictures."""
    faces, count = material.faces, len(rows)
    gaze, head = np.split(faces.labels[rows, :4].astype(np.float64), 2, axis=1)
    said = faces.attributes
    given = {"side": faces.patch_size[0], "focal": said["focal"], "distance": said["distance"]}
    cameras = patch_cameras(head, **given)
    codes, known = _codes(material, rows)
    marks = np.full((count, 68, 2), np.nan)
    if faces.has("landmarks"):
        marks = faces.dataset("landmarks", rows).astype(np.float64)
    places = faces.row_of[rows]
    taken = faces.dataset("source_index", rows) if faces.has("source_index") else places
    found = {
        "frame_index": np.asarray(taken, np.int32)[:, None],
        "cam_index": np.zeros((count, 1), np.int32),
    }
    if seed:
        found |= {f"nl3dmm/{name}": values for name, values in cameras.items()}
        found |= {"nl3dmm/code": codes, "lm2d": marks.reshape(count, 136), "valid_mask": known}
        found["train_test_split"] = places.astype(np.int64)
        return found | ({"face_gaze": gaze} if faces.gaze_known else {})
    back = np.swapaxes(rotation_from_angles(head), 1, 2)
    looking = (back @ vector_from_angles(gaze)[..., None])[..., 0]
    found |= {**cameras, "latent_codes": codes, "facial_landmarks": marks}
    found |= {"pitchyaw_head": angles_from_vector(looking) * DOWN, "face_head_pose": head}
    return found


def _codes(material: Material, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N,n) of shape, expression, texture and light, NaN without a face, and which are."""
    sizes = _sizes()
    if material.latents is None:
        return np.full((len(rows), sum(sizes.values())), np.nan), np.zeros(len(rows), bool)
    read = material.latents.read(rows)
    codes = np.concatenate([read[name] for name in sizes], 1).astype(np.float64)
    known = material.latents.detected[rows]
    codes[~known] = np.nan
    return codes, known


def _sizes() -> dict[str, int]:
    return {name: CODES[name] for name in NL3DMM}


def _attributes(material: Material, person: str, layout: str) -> Mapping[str, object]:
    said = material.faces.attributes
    found = {
        "person": person,
        "channel_order": "bgr",
        "gaze_frame": "head, pitch down" if layout == "gazenerf" else "camera, pitch up",
        "focal": float(said["focal"]),
        "distance": float(said["distance"]),
        "unit_mm": UNIT_MM,
        "code_type": "flame",
        "code_sizes": json.dumps(_sizes()),
    }
    if material.latents is not None:
        found |= {f"code_{name}": value for name, value in material.latents.identity.items()}
    return found
