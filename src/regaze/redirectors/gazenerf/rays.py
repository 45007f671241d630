"""Cameras, rays, samples on them and how they add up: the functions without weights.

The world is the head's: x to the image's right, y up, z out of the face, in units of which 75 mm
are taken as one. A camera has the axes x right, y down, z forward. The definitions are those of
HeadNeRF (Hong et al., CVPR 2022; ``CrisHY1995/headnerf``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from regaze.angles import angles_from_vector, rotation_from_angles, vector_from_angles
from regaze.rotations import camera_flip, euler_to_matrix

NEAR, FAR = 2.5, -3.5
"""World z of the planes between which rays are sampled, as published."""
POINT_BANDS, DIRECTION_BANDS = 10, 4
_GUARD = 1e-10


@dataclass(frozen=True)
class Camera:
    """Where pictures are taken from.

    Attributes:
        rotation: (B,3,3), camera to world.
        centre: (B,3,1), in the world.
        inverse: (B,3,3), the inverse of the intrinsic matrix in pixels of the feature map.
    """

    rotation: Tensor
    centre: Tensor
    inverse: Tensor

    def refined(self, turn: Tensor, shift: Tensor) -> Camera:
        """The camera turned about the head by Euler angles (B,3) radians, and moved by (B,3,1)."""
        turned = euler_to_matrix(turn.flip(-1), "ZYX")
        centre = turned @ self.centre + shift
        return Camera(turned @ self.rotation, centre, self.inverse)

    def rolled(self, angle: Tensor) -> Camera:
        """The camera turned clockwise about the way it looks, by (B,) radians."""
        turn = torch.zeros(len(angle), 3).to(self.rotation)
        turn[:, 0] = angle
        turned = self.rotation @ euler_to_matrix(turn, "ZYX")
        return Camera(turned, self.centre, self.inverse)


def patch_camera(
    head: Tensor, side: int, *, focal: float, distance: float, unit: float = 75.0
) -> Camera:
    """The camera that normalised patches are seen by.

    Args:
        head: (B,2) pitch and yaw of the head in radians.
        side: of the feature map in pixels.
        focal: focal length over the side of the patch.
        distance: from the camera to the face in mm.
        unit: mm of a unit of the world.
    """
    flip = torch.diag(camera_flip(head))
    rotation = flip @ rotation_from_angles(head).transpose(1, 2)
    ahead = head.new_tensor((0.0, 0.0, distance / unit))
    centre = -(rotation @ ahead)[..., None]
    matrix = torch.diag(head.new_tensor((focal * side, focal * side, 1.0)))
    matrix[:2, 2] = side / 2
    return Camera(rotation, centre, inverse_intrinsics(matrix.expand(len(head), 3, 3)))


def inverse_intrinsics(matrix: Tensor, scale: float = 1.0) -> Tensor:
    """Inverses (B,3,3) of intrinsic matrices without skew, in pixels ``scale`` times as many.

    Args:
        matrix: (B,3,3) in pixels of a picture.
        scale: side of the feature map over that of the picture.
    """
    focal = matrix.diagonal(dim1=1, dim2=2)[:, :2]
    made = torch.zeros_like(matrix)
    made[:, 0, 0], made[:, 1, 1] = (1 / (scale * focal)).unbind(1)
    made[:, :2, 2] = -matrix[:, :2, 2] / focal
    made[:, 2, 2] = 1
    return made


def gaze_in_head(gaze: Tensor, head: Tensor) -> Tensor:
    """Gaze (B,2) of the camera's frame in the head's, radians, pitch positive looking down.

    That is the frame and the sign in which GazeNeRF (``AlessandroRuzzi/GazeNeRF``) is told it.
    """
    turned = rotation_from_angles(head).transpose(1, 2) @ vector_from_angles(gaze)[..., None]
    return angles_from_vector(turned[..., 0]) * gaze.new_tensor((-1.0, 1.0))


def turn_features(features: Tensor, gaze: Tensor) -> Tensor:
    """Turn triples of channels of maps (B,C,H,W) by a gaze (B,2) of the head's frame.

    A row of three is multiplied by Ry(yaw) Rx(pitch).
    """
    rotation = rotation_from_angles(gaze * gaze.new_tensor((-1.0, 1.0)))
    triples = features.unflatten(1, (-1, 3))
    return torch.einsum("bji,bnjhw->bnihw", rotation, triples).flatten(1, 2)


def pixel_grid(side: int, device=None) -> Tensor:
    """Pixels (side^2, 2), x and y, of a map; whole numbers, row by row."""
    line = torch.arange(side, dtype=torch.float32, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


@dataclass(frozen=True)
class Window:
    """A square part of the feature map, in its pixels."""

    left: int
    top: int
    side: int

    def rows(self, side: int, device=None) -> Tensor:
        """Numbers (R,) of its pixels in a map of a side."""
        line = torch.arange(self.side, device=device)
        return ((self.top + line)[:, None] * side + self.left + line).flatten()

    def cut(self, maps: Tensor) -> Tensor:
        """That part of maps (...,H,W)."""
        return maps[..., self.top :, self.left :][..., : self.side, : self.side]


def ray_directions(camera: Camera, pixels: Tensor) -> Tensor:
    """Unit directions (B,R,3) through pixels (R,2) of the feature map.

    Raises:
        ValueError: a ray does not go towards the head; the camera looks away.
    """
    points = torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1).T.to(camera.inverse.dtype)
    directions = _times(camera.rotation, _times(camera.inverse, points[None]))
    directions = (directions / directions.norm(dim=1, keepdim=True)).transpose(1, 2)
    away = (directions[..., 2] >= 0).flatten(1).any(1)
    if away.any():
        raise ValueError(
            f"camera {int(away.nonzero()[0])}: expected one that looks at the head, found a ray "
            "that goes away from its face; is the head turned by more than about 80 degrees?"
        )
    return directions


def _times(matrix: Tensor, points: Tensor) -> Tensor:
    """Matrices (B,3,3) times columns (B or 1,3,R), rounded alike everywhere.

    Products of matrices are rounded as a machine's kernels like it, and a last bit is seen: the
    highest frequency of points is 512.
    """
    return (matrix[..., None] * points[:, None]).sum(2)


@dataclass(frozen=True)
class Samples:
    """Points on rays.

    Attributes:
        points: (B,R,N,3).
        depths: (B,R,N+1), distances along world z from the camera to the points and a last node.
        lengths: (B,R,N), from one node to the next along the ray.
        directions: (B,R,3) of the rays.
        centres: (B,3) of the cameras.
    """

    points: Tensor
    depths: Tensor
    lengths: Tensor
    directions: Tensor
    centres: Tensor

    def of(self, row: int) -> Samples:
        """Those of one camera, as of a batch of one."""
        return Samples(*(value[row : row + 1] for value in vars(self).values()))

    def finer(self, depths: Tensor) -> Samples:
        """Others on the same rays."""
        return _samples(self.centres, self.directions, depths)


def plane_depths(camera: Camera, count: int, near: float = NEAR, far: float = FAR) -> Tensor:
    """Depths (B,1,N+1) of equally spaced planes between two world z."""
    share = torch.linspace(0, 1, count + 1).to(camera.centre)
    height = camera.centre[:, 2, None]
    return (height - near) * (1 - share) + (height - far) * share


def jittered(depths: Tensor, draws: Tensor) -> Tensor:
    """Every node moved to somewhere between the middles to its neighbours.

    Args:
        depths: (B,R,N+1).
        draws: of the same shape, uniform in [0, 1).
    """
    middles = (depths[..., 1:] + depths[..., :-1]) / 2
    low = torch.cat([depths[..., :1], middles], -1)
    high = torch.cat([middles, depths[..., -1:]], -1)
    return low + (high - low) * draws


def samples_at(camera: Camera, directions: Tensor, depths: Tensor) -> Samples:
    """The points of depths (B,R or 1,N+1) on rays (B,R,3); the last node is the end of the rays."""
    depths = depths.expand(-1, directions.shape[1], -1)
    return _samples(camera.centre[..., 0], directions, depths)


def _samples(centres: Tensor, directions: Tensor, depths: Tensor) -> Samples:
    stretch = -1 / directions[..., 2:]
    step = (directions * stretch)[:, :, None]
    points = centres[:, None, None] + step * depths[..., :-1, None]
    lengths = (depths[..., 1:] - depths[..., :-1]) * stretch
    return Samples(points, depths, lengths, directions, centres)


def finer(depths: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Depths (B,R,N+M+1) in order: the nodes, and others where the weights are.

    Args:
        depths: (B,R,N+1) nodes.
        weights: (B,R,N) of the samples at all nodes but the last.
        draws: (B,R,M+1) or (M+1,) shares of the weight below which a node comes.
    """
    nodes = depths[..., :-1]
    edges = (nodes[..., 1:] + nodes[..., :-1]) / 2
    inner = weights[..., 1:-1]
    share = inner / (inner + 1e-5).sum(-1, keepdim=True)
    below = torch.cat([torch.zeros_like(share[..., :1]), share.cumsum(-1)], -1)
    draws = draws.expand(*below.shape[:-1], -1).contiguous()
    last = below.shape[-1] - 1
    high = torch.searchsorted(below.contiguous(), draws, right=True)
    low, high = (high - 1).clamp(0, last), high.clamp(0, last)
    start, end = below.gather(-1, low), below.gather(-1, high)
    span = torch.where(end - start < 1e-5, torch.ones_like(end), end - start)
    first = edges.gather(-1, low)
    moved = first + (draws - start) / span * (edges.gather(-1, high) - first)
    return torch.cat([nodes, moved], -1).sort(-1).values


def encoded(values: Tensor, bands: int) -> Tensor:
    """Values (...,3) with their sines and cosines of frequencies 1, 2, 4, ...: (...,3+6 bands)."""
    scales = 2.0 ** torch.arange(bands, device=values.device)
    angles = values[..., None, :] * scales[:, None]
    waves = torch.stack([angles.sin(), angles.cos()], -2)
    return torch.cat([values, waves.flatten(-3)], -1)


def sample_weights(densities: Tensor, lengths: Tensor) -> Tensor:
    """Shares (B,R,N) that samples have in their rays' colour; what is left is the background's."""
    alpha = 1 - torch.exp(-densities * lengths)
    clear = torch.cumprod(1 - alpha + _GUARD, -1)
    return alpha * torch.cat([torch.ones_like(clear[..., :1]), clear[..., :-1]], -1)
