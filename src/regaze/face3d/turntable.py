"""A turntable of an acquired face: the head turns, then stands still while the eyes look round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from regaze.animation import gif
from regaze.face3d.buffers import edit, face_centre
from regaze.face3d.crop import to_image_space
from regaze.face3d.deca import Deca
from regaze.face3d.drawing import to_uint8
from regaze.face3d.gaze import eye_pose_from_labels
from regaze.rotations import rodrigues

TURN, SWAY = np.radians(50.0), np.radians(8.0)
"""How far the head turns to either side, and how much it nods meanwhile, radians."""

LOOK = (np.radians(14.0), np.radians(24.0))
"""Half axes, in pitch and yaw, of the ellipse along which the gaze goes round, radians."""

FACE = 0.46
"""Share of the picture's height between chin and brow."""

_BATCH = 8


def poses(turning: int, looking: int) -> tuple[np.ndarray, np.ndarray]:
    """Head turns (n, 3) axis-angles and gaze labels (n, 2) relative to the head, n the sum.

    Args:
        turning: frames of the turn to one side, to the other and back.
        looking: frames of the gaze's way round, with the head straight.
    """
    phase = 2 * np.pi * np.arange(turning) / max(turning, 1)
    turn = np.stack([SWAY * np.sin(2 * phase), TURN * np.sin(phase), 0 * phase], 1)
    round_ = 2 * np.pi * np.arange(looking) / max(looking, 1)
    # out to the ellipse and back to the middle, so that the animation joins without a jump
    reach = np.minimum(1, 3 * np.sin(round_ / 2))[:, None]
    look = reach * np.stack([LOOK[0] * np.sin(round_), LOOK[1] * np.cos(round_)], 1)
    heads = np.concatenate([turn, np.zeros((looking, 3))])
    return heads, np.concatenate([np.zeros((turning, 2)), look])


@torch.no_grad()
def turntable(
    encoder: Deca,
    codes: dict[str, Tensor],
    texture: Tensor | None = None,
    size: int = 192,
    turning: int = 24,
    looking: int = 24,
) -> list[np.ndarray]:
    """Frames (size, 2 size, 3) uint8 RGB: the head with its texture, and its form in grey.

    Shape, expression and jaw are those of the codes; head pose, camera and gaze are the
    turntable's.

    Args:
        encoder: with the head model.
        codes: one row.
        texture: (1, 3, R, R) colours of the chart with the light in them; None draws the codes'
            albedo under their light.
        size: height of a frame in pixels.
        turning, looking: numbers of frames, see :func:`poses`.
    """
    heads, labels = poses(turning, looking)
    like = codes["pose"]
    still = edit(codes, pose=like.new_zeros(1, 3), eye_pose=like.new_zeros(1, 6))
    straight = encoder.flame(still["shape"], still["exp"], still["pose"])
    centre = face_centre(straight.landmarks2d)
    marks = straight.landmarks2d[0, :, 1]
    scale = 2 * FACE / (marks.max() - marks.min()).clamp_min(1e-4)
    middle = (straight.vertices.amin(1) + straight.vertices.amax(1)) / 2
    # about an upright axis between the head's middle and the face, which then stays in view
    depth = (2 * middle[:, 2] + centre[:, 2]) / 3
    height = (marks.max() + 2 * marks.mean()).view(1) / 3
    axis = torch.stack([centre[:, 0], height, depth], 1)
    cam = torch.stack([scale, scale * 0, scale * 0]).view(1, 3)
    renderer = encoder.renderer()
    frames: list[np.ndarray] = []
    for start in range(0, len(heads), _BATCH):
        turns = like.new_tensor(heads[start : start + _BATCH])
        gaze = like.new_tensor(labels[start : start + _BATCH])
        count = len(turns)
        rows = {name: value.expand(count, *value.shape[1:]) for name, value in still.items()}
        # relative to the head, which is not turned yet
        rows["eye_pose"] = eye_pose_from_labels(gaze)
        posed = encoder.decode(rows).vertices
        vertices = (posed - axis[:, None]) @ rodrigues(turns).transpose(1, 2)
        flat = to_image_space(vertices, cam.expand(count, -1))
        if texture is None:
            chart, light = encoder.albedo(rows["tex"]), rows["light"].reshape(-1, 9, 3)
        else:
            chart, light = texture.expand(count, -1, -1, -1), None
        drawn = renderer(vertices, flat, chart, light, size=size)
        shape = renderer.shape_image(vertices, flat, size=size)
        for image, form in zip(drawn.images, shape, strict=True):
            frames.append(np.concatenate([to_uint8(image), to_uint8(form)], 1))
    return frames


def write_gif(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames (H, W, 3) uint8 RGB as an endless GIF; see :func:`regaze.animation.gif`."""
    path.write_bytes(gif([Image.fromarray(frame) for frame in frames], 70))
