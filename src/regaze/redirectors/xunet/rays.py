"""Poses, camera rays and their encodings: how two directions of gaze reach the X-UNet.

The network of 3DiM (Watson et al. 2022) is told camera poses. Turning an eyeball in front of a
fixed camera is the same as turning the camera the other way about the eye, so a gaze label
becomes the rotation of a camera, and its rays enter the network at every pixel. Key layout and
encodings follow ``a6o/3d-diffusion-pytorch``; the mapping from labels is this project's own.
"""

from __future__ import annotations

import math

import torch

from regaze.angles import rotation_from_angles

POSE_MODES = ("gaze_head", "gaze_orbit", "relative")

# Octaves of the position and direction encodings, fixed by the layout of the checkpoints.
POSITION_OCTAVES = 15
DIRECTION_OCTAVES = 8
POSITION_CHANNELS = 3 + 6 * POSITION_OCTAVES
DIRECTION_CHANNELS = 3 + 6 * DIRECTION_OCTAVES
POSE_CHANNELS = POSITION_CHANNELS + DIRECTION_CHANNELS


def camera_rays(R, t, K, height: int, width: int):
    """Return the rays through every pixel centre.

    Args:
        R: (B, F, 3, 3) rotations, world from camera.
        t: (B, F, 3) camera centres in the world.
        K: (B, 3, 3) pinhole intrinsics in pixels of the ``height`` x ``width`` grid, skew allowed.

    Returns:
        ``(pos, dir)``, both (B, F, height, width, 3) float32: the camera centre (the same for all
        pixels) and unit directions. Pixel centres lie at half integers; x right, y down, z forward.
    """
    directions = ray_directions(R, K, height, width)
    positions = t.to(directions.dtype)[:, :, None, None, :].expand_as(directions)
    return positions, directions


def ray_directions(R, K, height: int, width: int):
    """Return the unit directions of :func:`camera_rays`, (B, F, height, width, 3) float32."""
    device = R.device
    v = torch.arange(height, device=device, dtype=torch.float64) + 0.5
    u = torch.arange(width, device=device, dtype=torch.float64) + 0.5
    # Double precision up to here costs nothing (one small grid) and keeps the highest octaves,
    # which multiply a rounding error by 2**7, equal on every machine. Solved by hand rather than by
    # an inverse, which graphs of ONNX do not have.
    K = K.double()[:, None, None]
    y = (v[:, None].expand(height, width) - K[..., 1, 2]) / K[..., 1, 1]
    x = (u.expand(height, width) - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    camera = torch.stack([x, y, torch.ones_like(x)], -1).flatten(1, 2).float()
    world = camera[:, None] @ R.float().transpose(-1, -2)
    world = world / world.norm(dim=-1, keepdim=True)
    return world.unflatten(2, (height, width))


def posenc(x, octaves: int, active: int | None = None):
    """Encode coordinates (..., 3) as (..., 3 + 6 * octaves): the coordinates, sines, cosines.

    The angles are 2**k times the coordinates, ordered octave by octave and within an octave
    x, y, z. Octaves from ``active`` on are zero in both the sine and the cosine slots.
    """
    scales = 2.0 ** torch.arange(octaves, device=x.device, dtype=x.dtype)
    angles = (x[..., None, :] * scales[:, None]).flatten(-2)
    encoded = torch.cat([angles.sin(), (angles + math.pi / 2).sin()], -1)
    if active is not None and active < octaves:
        keep = torch.arange(2 * 3 * octaves, device=x.device) % (3 * octaves) < 3 * active
        encoded = encoded * keep
    return torch.cat([x, encoded], -1)


def noise_encoding(logsnr, channels: int, squashed: bool = False):
    """Encode log signal-to-noise ratios (...) as (..., channels) sines then cosines, float32.

    ``squashed`` first maps the ratio to [0, 1] by (2/pi) arctan(exp(-l/2)) as the 3DiM paper
    does. The published port computes that value and then uses the raw ratio, so its checkpoints
    need ``squashed=False``.
    """
    level = logsnr.float().clamp(-20.0, 20.0)
    if squashed:
        level = torch.arctan(torch.exp(-level / 2)) * (2 / math.pi)
    half = channels // 2
    steps = torch.arange(half, device=level.device, dtype=torch.float32)
    frequencies = torch.exp(steps * (-math.log(10000.0) / (half - 1)))
    # The order of the products matters: angles reach 20,000 rad in float32.
    angles = (1000.0 * level)[..., None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def patch_intrinsics(size, focal: float = 500.0, patch: float = 128.0):
    """Return K (3, 3) float32 of a normalised patch resized to ``size`` = pixels or (h, w).

    ``focal`` and ``patch`` describe the stored patch: focal length and side in pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    return torch.tensor(
        [
            [focal * width / patch, 0.0, width / 2],
            [0.0, focal * height / patch, height / 2],
            [0.0, 0.0, 1.0],
        ]
    )


def gaze_poses(
    source_gaze,
    target_gaze,
    source_head,
    target_head,
    size,
    mode: str = "gaze_head",
    focal: float = 500.0,
    patch: float = 128.0,
):
    """Turn gaze and head labels of a pair into the poses that the network is told.

    Args:
        source_gaze, target_gaze, source_head, target_head: (B, 2) pitch, yaw in radians.
        size: pixels, or (height, width), of the image that the network sees.
        mode: ``gaze_head`` turns the rays by the gaze and places the camera by the head;
            ``gaze_orbit`` does both by the gaze; ``relative`` tells only the differences between
            target and source, for inputs without a trusted source label.

    Returns:
        ``R`` (B, 2, 3, 3) world from camera, ``t`` (B, 2, 3) camera centres in units of the
        normalised distance, ``K`` (B, 3, 3); frame 0 is the source, frame 1 the target.

    Raises:
        ValueError: unknown mode.
    """
    if mode not in POSE_MODES:
        raise ValueError(f"pose.mode: expected one of {', '.join(POSE_MODES)}, found {mode!r}")
    gaze = torch.stack([torch.as_tensor(source_gaze), torch.as_tensor(target_gaze)], 1)
    head = torch.stack([torch.as_tensor(source_head), torch.as_tensor(target_head)], 1)
    G, H = rotation_from_angles(gaze.double()), rotation_from_angles(head.double())
    if mode == "relative":
        eye = torch.eye(3, dtype=G.dtype, device=G.device).expand(G.shape[0], 3, 3)
        R = torch.stack([eye, G[:, 1].transpose(-1, -2) @ G[:, 0]], 1)
        turn = torch.stack([eye, H[:, 1].transpose(-1, -2) @ H[:, 0]], 1)
    else:
        R = G.transpose(-1, -2)
        turn = H.transpose(-1, -2) if mode == "gaze_head" else R
    K = patch_intrinsics(size, focal, patch).to(R.device)
    return R.float(), -turn[..., 2].float(), K.expand(R.shape[0], 3, 3)
