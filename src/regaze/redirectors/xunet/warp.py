"""Turn a face picture by a head rotation: a closed-form guess at the redirected picture.

The head is an ellipsoid about the face centre. Each pixel of the target view is followed to the
ellipsoid in its target pose, the same skin point is found on the ellipsoid in its source pose,
and the source picture is read where that point projects. Equal poses give the source unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from regaze.angles import rotation_from_angles

SEMI_AXES = (74.0, 100.0, 86.0)
"""Half axes of the head in millimetres: width, height, depth."""
CENTRE = (0.0, -4.0, 72.0)
"""Its centre in model axes (x image right, y down, z into the head) from the face centre, mm."""
REACH = 1.6
"""Where the background begins to stay, in units of the ellipsoid's silhouette."""
DISTANCE = 600.0
"""From the virtual camera to the face centre, mm (sted normalisation)."""


def warp_head(
    source: torch.Tensor,
    source_head: torch.Tensor,
    target_head: torch.Tensor,
    focal: float | None = None,
) -> torch.Tensor:
    """Re-render ``source`` as if its head had turned; gaze and light turn with it.

    Args:
        source: pictures (B, C, H, W) of the sted normalisation, any range.
        source_head: head labels (B, 2) of the pictures, radians.
        target_head: head labels (B, 2) to turn to, radians.
        focal: focal length of the virtual camera in pixels; default 500/128 of the width.

    Returns:
        (B, C, H, W) float32. What lies around the head moves less the farther it is from the
        head's outline; from :data:`REACH` outlines on the background stays.
    """
    with torch.autocast(source.device.type, enabled=False):
        grid = warp_places(source_head, target_head, source.shape[-2:], focal)
        return F.grid_sample(
            source.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
        )


def warp_places(
    source_head: torch.Tensor,
    target_head: torch.Tensor,
    size: tuple[int, int],
    focal: float | None = None,
) -> torch.Tensor:
    """Where :func:`warp_head` reads a source of (height, width): (B, H, W, 2), x then y.

    -1 and 1 are the outer edges of the picture.
    """
    height, width = size
    focal = 500.0 / 128.0 * width if focal is None else focal
    # Double precision up to the grid: at the outline a root halves the digits, and machines that
    # round sines otherwise would read single pixels elsewhere.
    exact = {"device": source_head.device, "dtype": torch.float64}
    with torch.autocast(source_head.device.type, enabled=False):
        to_source = rotation_from_angles(source_head.double())
        to_target = rotation_from_angles(target_head.double())
        v, u = torch.meshgrid(
            torch.arange(height, **exact) + 0.5, torch.arange(width, **exact) + 0.5, indexing="ij"
        )
        own = torch.stack([u, v]).flatten(1)
        middle = torch.tensor([[width / 2], [height / 2]], **exact)
        rays = torch.cat([(own - middle) / focal, torch.ones_like(own[:1])])
        axes, centre = torch.tensor(SEMI_AXES, **exact), torch.tensor(CENTRE, **exact)
        face = torch.tensor([0.0, 0.0, DISTANCE], **exact)
        # In the head's own axes, scaled so that the ellipsoid is the unit sphere. Coordinates come
        # before pixels, (B, 3, N), which is how they are quickly worked on.
        rays_head = (to_target / axes).mT @ rays
        origin = ((-face @ to_target - centre) / axes)[..., None]
        a = (rays_head**2).sum(1, keepdim=True)
        b = (rays_head * origin).sum(1, keepdim=True)
        c = (origin**2).sum(1, keepdim=True) - 1
        discriminant = b**2 - a * c
        depth = (-b - discriminant.clamp(min=0).sqrt()) / a
        # Rays that miss are followed to where they pass closest, so the displacement runs on
        # smoothly over hair and ears, and fades out towards the background.
        miss = (c + 1 - b**2 / a).clamp(min=1).sqrt()
        fade = ((REACH - miss) / (REACH - 1)).clamp(0, 1)
        camera = ((-face @ to_source - centre) / axes)[..., None]
        skin = _visible(origin + depth * rays_head, camera)
        seen = (to_source * axes) @ skin + (to_source @ centre + face)[..., None]
        place = seen[:, :2] / seen[:, 2:] * focal + middle
        place = own + fade * (place - own)
        return (place / middle - 1).float().mT.unflatten(1, (height, width))


def _visible(points: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Move points that the unit sphere hides from ``camera`` along it to the sphere's outline.

    A hidden point would read the front of the face that covers it, and double it; its outline
    reads the nearest skin that can be seen.

    Args:
        points: (B, 3, N) at radius 1 or more.
        camera: (B, 3, 1) outside the sphere.
    """
    distance = _length(camera)
    towards = camera / distance
    radius = _length(points)
    cosine = (points * towards).sum(1, keepdim=True) / radius
    sideways = points / radius - cosine * towards
    sideways = sideways / _length(sideways).clamp(min=1e-6)
    outline = 1 / distance
    seen = outline * towards + (1 - outline**2).sqrt() * sideways
    return torch.where(cosine < outline, seen * radius, points)


def _length(vectors: torch.Tensor) -> torch.Tensor:
    """Lengths (B, 1, N) of vectors (B, 3, N); a norm along a middle axis is slow."""
    return (vectors**2).sum(1, keepdim=True).sqrt()
