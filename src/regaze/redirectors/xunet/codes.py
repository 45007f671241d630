"""3-D face codes as a second condition: which columns are told, and whose the target's are.

A code row is some columns of the latents (:mod:`regaze.latents`) side by side, always in the
order in which DECA writes them. The source frame is told its own row. What the target frame is
told decides what the network knows of the target, see :data:`TARGET_CODES`; without the target's
photo its row is the source's with the head turned as the labels say.

Codes and their uses are this project's definitions; DECA is Feng et al. 2021, Learning an
animatable detailed 3D face model from in-the-wild images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from regaze.angles import rotation_from_angles
from regaze.codes import CODES, DEFAULT_PARTS, SHORT, code_columns, code_dim, code_parts
from regaze.face3d.gaze import root_from_camera
from regaze.face3d.rotations import axis_angle_to_matrix, matrix_to_axis_angle

TARGET_CODES = {
    "source": "gaze and head angles",
    "target": "gaze and head angles; the target photo's own 3-D code (upper bound)",
    "target_pose_only": "gaze and head angles; the head rotation in the target photo's 3-D code",
}
"""Whose code the target frame is told, and what a method so told knows about the target.

``source``: the source's, turned from its head label to the target's. ``target``: that of the
target photo, which shows an upper bound and is not comparable with methods told angles alone.
``target_pose_only``: the source's, with the target photo's rotation of the head in it; jaw and
all else stay the source's."""


def code_rows(latents: Mapping[str, Tensor], parts: Sequence[str] = DEFAULT_PARTS) -> Tensor:
    """Put columns of latents side by side.

    Args:
        latents: (N, length) numbers per part under the names of ``regaze.codes.CODES`` or their
            short forms, or (N, 9, 3) for light; others are left out.

    Returns:
        (N, Dc) float32.

    Raises:
        ValueError: a part is missing or has another length, naming it.
    """
    given = {SHORT.get(name, name): value for name, value in latents.items()}
    found = []
    for name in code_parts(parts):
        if name not in given:
            raise ValueError(f"latents: {name} is missing, found {', '.join(given) or 'nothing'}")
        values = torch.as_tensor(given[name], dtype=torch.float32)
        if values.ndim < 2 or values[:1].numel() not in (0, CODES[name]):
            raise ValueError(
                f"latents: {name} has shape {tuple(values.shape)}, expected (N, {CODES[name]})"
            )
        found.append(values.reshape(len(values), CODES[name]))
    if len({len(values) for values in found}) > 1:
        raise ValueError(f"latents: parts differ in rows, {[len(values) for values in found]}")
    return torch.cat(found, 1)


def code_statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (Dc,), float32, of training rows (N, Dc), to standardise codes with.

    Columns that do not vary get a deviation of 1, so that they tell nothing and divide nothing
    by zero.

    Raises:
        ValueError: no rows.
    """
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"code rows: expected (N, Dc) with N > 0, found {tuple(rows.shape)}")
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

    Raises:
        ValueError: unknown kind, rows of another shape, rows or parts that the kind needs missing.
    """
    if kind not in TARGET_CODES:
        raise ValueError(f"target_code: expected one of {', '.join(TARGET_CODES)}, found {kind!r}")
    columns = code_columns(parts)
    expected = (len(source), code_dim(parts))
    if tuple(source.shape) != expected:
        raise ValueError(f"source codes: expected {expected}, found {tuple(source.shape)}")
    if kind != "source" and (target is None or tuple(target.shape) != expected):
        found = None if target is None else tuple(target.shape)
        raise ValueError(f"target codes: target_code {kind!r} expects {expected}, found {found}")
    if kind == "target":
        return target.clone()
    made = source.clone()
    if "pose" not in columns:
        if kind == "target_pose_only":
            raise ValueError(f"target_code: {kind!r} needs the pose, parts are {list(columns)}")
        return made
    start = columns["pose"].start
    root = slice(start, start + 3)
    if kind == "target_pose_only":
        made[:, root] = target[:, root]
    else:
        made[:, root] = turned_root(source[:, root], source_head, target_head)
    return made
