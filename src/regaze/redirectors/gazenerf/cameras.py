"""Cameras of published heads: the frontal one, an orbit, and what fits of a head model leave.

Heads of HeadNeRF (Hong et al., CVPR 2022; ``CrisHY1995/headnerf``) are seen from 12 units in front
of them by a camera whose numbers were the mean of its training pictures.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from regaze.redirectors.gazenerf.rays import Camera, inverse_intrinsics
from regaze.rotations import camera_flip, euler_to_matrix, matrix_to_rotation_6d

AWAY = 12.0
"""Units from the head to the published camera."""
CONE = 5.3
"""Units from the line of sight to the cameras of an orbit."""
_SIDE, _FOCAL, _CENTRE = 32, 128.3564453125, (16.1136474609375, 16.47128677368164)


def intrinsics(side: int) -> Tensor:
    """The inverse (1,3,3) of the published intrinsic matrix in pixels of a feature map.

    Args:
        side: of the map. As published, the principal point is that of a map of 32 px in units of
            the focal length, whatever the side.
    """
    made = torch.diag(torch.tensor([_FOCAL, _FOCAL, 1.0]))
    made[:2, 2] = torch.tensor(_CENTRE)
    return inverse_intrinsics(made[None] * torch.tensor([side / _SIDE] * 2 + [1.0])[:, None])


def frontal_camera(side: int, count: int = 1) -> Camera:
    """The published camera, ``count`` times, for a feature map of a side."""
    rotation = torch.diag(camera_flip(torch.empty(0))).expand(count, 3, 3)
    centre = torch.tensor([0.0, 0.0, AWAY])[:, None].expand(count, 3, 1)
    return Camera(rotation, centre, intrinsics(side).expand(count, 3, 3))


def orbit(side: int, count: int = 45) -> Camera:
    """Cameras on a circle about the frontal one that all look at the head's middle.

    The last one is where the first is.
    """
    angles = torch.linspace(0, 2 * math.pi, count, dtype=torch.float64)
    places = [CONE * angles.cos(), CONE * angles.sin(), torch.full_like(angles, AWAY)]
    centre = torch.stack(places, 1)
    ahead = torch.nn.functional.normalize(-centre, dim=1)
    down = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64).expand_as(ahead)
    right = torch.nn.functional.normalize(torch.linalg.cross(down, ahead), dim=1)
    below = torch.nn.functional.normalize(torch.linalg.cross(ahead, right), dim=1)
    rotation = torch.stack([right, below, ahead], 2)
    inverse = intrinsics(side).expand(count, 3, 3)
    return Camera(rotation.float(), centre[..., None].float(), inverse)


def turned_about_head(camera: Camera, angles: Tensor) -> Camera:
    """Cameras turned about the head so that it seems to turn by angles (B,3).

    Args:
        camera: B of them.
        angles: pitch, yaw, roll in radians, as the sliders of HeadNeRF's window have them.
    """
    return camera.refined(-angles, torch.zeros_like(camera.centre))


def fitted_camera(rotation: Tensor, centre: Tensor, matrix: Tensor, scale: float) -> Camera:
    """Cameras that a fit of a head model found.

    Args:
        rotation: (B,3,3) camera to world, ``c2w_Rmat`` of the files.
        centre: (B,3) in the world, ``c2w_Tvec``.
        matrix: (B,3,3) intrinsic matrices in pixels of the picture, ``inmat``.
        scale: side of the feature map over that of the picture.
    """
    return Camera(rotation, centre[..., None], inverse_intrinsics(matrix, scale))


def gaze_columns(gaze: Tensor) -> Tensor:
    """The first two columns (B,6), one after the other, of Rz(yaw) Ry(pitch) of gazes (B,2).

    The seed's other way to tell the gaze (``colincqian/GazeNeRF``, its 6-D rotation).
    """
    pitch, yaw = gaze.unbind(1)
    turns = euler_to_matrix(torch.stack([yaw, pitch, torch.zeros_like(yaw)], 1), "ZYX")
    return matrix_to_rotation_6d(turns.transpose(1, 2))
