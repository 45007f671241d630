"""Edits of 3-D face codes and the physical buffers that show them.

The buffers are those of DiffusionRig (Ding et al. 2023, DiffusionRig: learning personalized
priors for facial appearance editing; ``adobe-research/diffusion-rig``): the shaded head, its
world normals and its albedo, all aligned with the picture. Everything here is a pure function of
rows of codes; eye poses are this project's addition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from regaze.face3d.crop import CROP_SIZE, to_image_space, to_photo
from regaze.face3d.flame import Flame
from regaze.face3d.render import Renderer, Rendering

Codes = Mapping[str, Tensor]

MODES = ("pose", "exp", "light", "gaze")
"""What :func:`transfer` can take from another face; several are joined by ``+``."""

BUFFERS = ("rendered", "normal", "albedo")
"""Order of the buffers where they are stacked into nine channels."""


def edit(
    codes: Codes,
    *,
    exp: Tensor | None = None,
    jaw: Tensor | None = None,
    pose: Tensor | None = None,
    light: Tensor | None = None,
    eye_pose: Tensor | None = None,
    shape: Tensor | None = None,
) -> dict[str, Tensor]:
    """Codes with some blocks replaced; the given dictionary and its tensors stay as they are.

    Args:
        codes: rows of codes, first axis B; see :mod:`regaze.face3d`.
        exp: (B or 1, 50) expression.
        jaw: (B or 1, 3) jaw axis-angle, which belongs to an expression taken from a face.
        pose: (B or 1, 3) axis-angle of the head, or (B or 1, 6) with the jaw.
        light: (B or 1, 9, 3) or (B or 1, 27).
        eye_pose: (B or 1, 6) axis-angles of the left and the right eye.
        shape: (B or 1, 100) identity, such as the mean over a person's album.

    Raises:
        ValueError: a block of another width or number of rows.
    """
    out = dict(codes)
    batch = len(codes["pose"])

    def block(value: Tensor, name: str, *widths: int) -> Tensor:
        flat = value.flatten(1)
        if flat.shape[0] not in (1, batch) or flat.shape[1] not in widths:
            expected = " or ".join(str(width) for width in widths)
            raise ValueError(
                f"{name}: expected {batch} (or 1) rows of {expected} numbers, "
                f"found {tuple(value.shape)}"
            )
        return flat.expand(batch, -1)

    for name, value in {"exp": exp, "shape": shape, "eye_pose": eye_pose}.items():
        if value is not None:
            out[name] = block(value, name, 6 if name == "eye_pose" else codes[name].shape[1])
    if light is not None:
        out["light"] = block(light, "light", 27).unflatten(1, (9, 3))
    if pose is not None:
        new = block(pose, "pose", 3, 6)
        out["pose"] = torch.cat([new, out["pose"][:, new.shape[1] :]], 1)
    if jaw is not None:
        out["pose"] = torch.cat([out["pose"][:, :3], block(jaw, "jaw", 3)], 1)
    return out


def transfer(source: Codes, target: Codes, mode: str) -> dict[str, Tensor]:
    """Source codes with what ``mode`` names taken from target codes.

    ``pose`` is the head's rotation alone (camera and jaw stay), ``exp`` the expression and the
    jaw, ``light`` the lighting, ``gaze`` the eye poses; ``pose+light`` takes both, an empty mode
    nothing.

    Raises:
        ValueError: an unknown mode, or gaze without eye poses in the target.
    """
    parts = set(filter(None, mode.split("+")))
    if not parts <= set(MODES):
        raise ValueError(f"mode: expected some of {MODES} joined by '+', found {mode!r}")
    blocks = {}
    if "pose" in parts:
        blocks["pose"] = target["pose"][:, :3]
    if "exp" in parts:
        blocks.update(exp=target["exp"], jaw=target["pose"][:, 3:])
    if "light" in parts:
        blocks["light"] = target["light"]
    if "gaze" in parts:
        if target.get("eye_pose") is None:
            raise ValueError("mode 'gaze': the target codes have no eye_pose")
        blocks["eye_pose"] = target["eye_pose"]
    return edit(source, **blocks)


def face_centre(landmarks: Tensor) -> Tensor:
    """The point (B, 3) that framing holds still: between the eyes, a tenth of the way down.

    Args:
        landmarks: (B, 68, 3) the posed head's 68 points with the moving contour, world frame.
    """
    eyes = (landmarks[:, 36:42].mean(1) + landmarks[:, 42:48].mean(1)) / 2
    mouth = (landmarks[:, 48] + landmarks[:, 54]) / 2
    return eyes + 0.1 * (mouth - eyes)


def recentre(vertices: Tensor, centre: Tensor, wanted: Tensor) -> Tensor:
    """Vertices (B, V, 3) moved so that ``centre`` (B, 3) comes to ``wanted`` (B or 1, 3)."""
    return vertices + (wanted - centre)[:, None]


def to_picture(
    vertices: Tensor, cam: Tensor, tform: Tensor | None, height: int, width: int
) -> Tensor:
    """World points (B, V, 3) as image points over a picture.

    Args:
        cam: (B, 3) s, tx, ty.
        tform: (B or 1, 3, 3) picture pixel to pixel of the encoder's crop; None: the picture is
            the crop.
        height, width: of the picture.
    """
    points = to_image_space(vertices, cam)
    if tform is None:
        return points
    return to_photo(points, tform.expand(len(points), -1, -1), width, height, CROP_SIZE)


def physical_buffers(
    codes: Codes,
    flame: Flame,
    texture: Callable[[Tensor], Tensor],
    renderer: Renderer,
    image_size: int | tuple[int, int] = 256,
    tform: Tensor | None = None,
    recentre_to: Tensor | None = None,
) -> dict[str, Tensor]:
    """Render rows of codes.

    Args:
        codes: ``shape, tex, exp, pose, cam, light`` and, where eyes turn, ``eye_pose``.
        flame, texture, renderer: of one head model; ``texture`` makes maps of codes.
        image_size: side, or (height, width), of the picture in pixels.
        tform: (B or 1, 3, 3), see :func:`to_picture`; its pixels are those of a picture of
            ``image_size``.
        recentre_to: (B or 1, 3) where the :func:`face_centre` has to be, usually that of the
            unedited face; None leaves the head where its codes put it.

    Returns:
        ``rendered`` (albedo under the light, not clamped), ``normal`` (world axes: x the
        subject's left, y up, z towards the viewer, in [-1, 1]) and ``albedo``, each float32
        (B, 3, H, W), zero off the head. The whole head is drawn, without displacement.

    Raises:
        ValueError: a code is missing.
    """
    return buffers_of(drawn_codes(codes, flame, texture, renderer, image_size, tform, recentre_to))


def buffers_of(drawn: Rendering) -> dict[str, Tensor]:
    """The buffers of :func:`physical_buffers` of what :func:`drawn_codes` has drawn."""
    return {"rendered": drawn.images, "normal": drawn.normals, "albedo": drawn.albedo}


def drawn_codes(
    codes: Codes,
    flame: Flame,
    texture: Callable[[Tensor], Tensor],
    renderer: Renderer,
    image_size: int | tuple[int, int] = 256,
    tform: Tensor | None = None,
    recentre_to: Tensor | None = None,
) -> Rendering:
    """All that is rendered of rows of codes; arguments as of :func:`physical_buffers`."""
    needed = ("shape", "tex", "exp", "pose", "cam", "light")
    missing = [name for name in needed if codes.get(name) is None]
    if missing:
        raise ValueError(f"codes: lack {', '.join(missing)}")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    head = flame(codes["shape"], codes["exp"], codes["pose"], codes.get("eye_pose"))
    vertices = head.vertices
    if recentre_to is not None:
        vertices = recentre(vertices, face_centre(head.landmarks2d), recentre_to)
    flat = to_picture(vertices, codes["cam"], tform, height, width)
    light = codes["light"].reshape(-1, 9, 3)
    return renderer(vertices, flat, texture(codes["tex"]), light, size=(height, width))


def code_centre(codes: Codes, flame: Flame) -> Tensor:
    """The :func:`face_centre` (B, 3) of rows of codes: what an edit is recentred to."""
    head = flame(codes["shape"], codes["exp"], codes["pose"], codes.get("eye_pose"))
    return face_centre(head.landmarks2d)
