"""3-D face codes as a condition: rows of them for a data set's faces, and whose the target's are.

A code row is some columns of the latents (:mod:`regaze.codes.latents`) side by side, always in the
order in which DECA writes them. The source is described by its own row. Which row describes the
target decides what a network knows of it, see :data:`regaze.codes.TARGET_CODES`; without the
target's photo its row is the source's with the head turned as the labels say.

Codes and their uses are this project's definitions; DECA is Feng et al. 2021, Learning an
animatable detailed 3D face model from in-the-wild images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from regaze.angles import rotation_from_angles
from regaze.codes import CODES, DEFAULT_PARTS, code_columns, code_dim, code_parts
from regaze.codes.latents import IDENTITY, LatentsReader, LatentsWriter
from regaze.faces import FacesReader
from regaze.rotations import axis_angle_to_matrix, matrix_to_axis_angle, root_from_camera

_BLOCK = 4096
"""Rows read at a time, so that columns that are not used take no memory."""


def code_rows(latents: Mapping[str, Tensor], parts: Sequence[str] = DEFAULT_PARTS) -> Tensor:
    """Put columns of latents side by side.

    Args:
        latents: (N, length) float32 per part under the names of ``regaze.codes.CODES``; others are
            left out.

    Returns:
        (N, Dc) float32.
    """
    return torch.cat([torch.as_tensor(latents[name]) for name in code_parts(parts)], 1)


def code_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (Dc,), float32, of training rows (N, Dc), to standardise codes with.

    Columns that do not vary get a deviation of 1, so that they tell nothing and divide nothing
    by zero.

    """
    mean, std = rows.double().mean(0), rows.double().std(0, correction=0)
    # Rounding alone gives constant float32 columns a deviation of about 1e-8 of their size.
    steady = std <= 1e-6 * mean.abs() + 1e-12
    return mean.float(), torch.where(steady, torch.ones_like(std), std).float()


def turned_root(root: Tensor, source_head: Tensor, target_head: Tensor) -> Tensor:
    """Turn axis-angles of heads (B, 3) from their labels (B, 2) to others (B, 2).

    The turn is G'(target) G'(source)^T from the left, with G' the label's rotation in the head
    model's world (y up, z out of the face). What the source's root has beside its label, such as
    roll, is kept. Labels are pitch and yaw of the head in radians; results are of at most pi.
    """
    world = [rotation_from_angles(head.double()) for head in (target_head, source_head)]
    turn = axis_angle_to_matrix(root_from_camera(world[0] @ world[1].transpose(-1, -2)))
    return matrix_to_axis_angle(turn @ axis_angle_to_matrix(root.double())).to(root.dtype)


def target_code(
    source: Tensor,
    target: Tensor | None,
    source_head: Tensor,
    target_head: Tensor,
    kind: str = "source",
    parts: Sequence[str] = DEFAULT_PARTS,
) -> Tensor:
    """Return what the target frame is told as its code, (B, Dc).

    Args:
        source: (B, Dc) rows of the source photos.
        target: (B, Dc) rows of the target photos; not looked at, and may be None, with ``source``.
        source_head, target_head: (B, 2) head labels in radians, needed for ``source`` only.
        kind: one of :data:`TARGET_CODES`.
        parts: what the rows hold. Without the pose, ``source`` is a copy of the source's row.

    """
    columns = code_columns(parts)
    if kind == "target":
        return target.clone()
    made = source.clone()
    if "pose" not in columns:
        return made
    start = columns["pose"].start
    root = slice(start, start + 3)
    if kind == "target_pose_only":
        made[:, root] = target[:, root]
    else:
        made[:, root] = turned_root(source[:, root], source_head, target_head)
    return made


class CodeRows:
    """Rows of codes of the faces of a data set; an input, see :mod:`regaze.redirectors.inputs`.

    Args:
        options: ``parts``, see :func:`regaze.codes.code_parts`.
        files: shards of the data set's latents.
        faces: its faces; rows are numbered as there.
        expect: the encoder that the codes must be of, as a model's record names it; None takes
            any.

    Attributes:
        known: (N,) bool, rows that have codes.
        identity: the encoder, see :data:`regaze.codes.latents.IDENTITY`.

    Raises:
        FileNotFoundError, regaze.codes.latents.LatentsError: latents that cannot be used, or of
            another encoder or other faces.
        ValueError: unknown parts.
    """

    columns, in_memory = ("code",), True

    def __init__(
        self,
        options: Mapping,
        files: Sequence[str | PathLike],
        faces: FacesReader,
        expect: Mapping[str, str] | None = None,
    ):
        self.parts = code_parts(options["parts"])
        self._reader = LatentsReader(files, faces, expect=expect, columns=self.parts)
        self.known, self.identity = self._reader.detected, dict(self._reader.identity)

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """``code`` (n, Dc) float32 of rows; zeros where no face was detected.

        Memory: the result, 624 bytes per row with the default parts.
        """
        rows = np.asarray(rows, np.int64)
        made = torch.empty(len(rows), code_dim(self.parts))
        for start in range(0, len(rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            made[part] = code_rows(self._reader.read(rows[part]), self.parts)
        return {"code": made}

    def fingerprint(self) -> str:
        """Return 16 hex digits over the codes of all rows, and over which rows have any."""
        digest = hashlib.sha256(self.known.tobytes())
        for start in range(0, len(self.known), _BLOCK):
            rows = np.arange(start, min(start + _BLOCK, len(self.known)))
            digest.update(self.read(rows)["code"].numpy())
        return digest.hexdigest()[:16]

    @staticmethod
    def write_example(
        path: str | PathLike, options: Mapping, faces: FacesReader, known: np.ndarray
    ) -> None:
        """Write random codes; see :class:`regaze.redirectors.inputs.FaceInput`."""
        rng = np.random.default_rng(0)
        codes = {
            name: 0.3 * rng.standard_normal((len(faces), width)) for name, width in CODES.items()
        }
        # A head fills most of its crop.
        codes["camera"] = codes["camera"] * [1.0, 0.02, 0.02] + [8.0, 0.0, 0.0]
        persons = [faces.persons[person] for person in faces.person_of]
        with LatentsWriter(path, dict.fromkeys(IDENTITY, "example")) as writer:
            writer.add(persons, faces.row_of, codes, known)

    @staticmethod
    def finish(values: Tensor, size_px: int, flip: Tensor | None) -> Tensor:
        """Codes as they are; those of mirrored faces are not known."""
        return values
