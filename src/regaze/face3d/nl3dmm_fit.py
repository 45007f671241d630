"""The fit of HeadNeRF's head model to a photo: its codes and camera, by descent.

Losses, rates and stages are those of ``CrisHY1995/headnerf``. First the camera alone follows the
landmarks, then codes, light and camera are fitted together.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from regaze.face3d.drawing import write_png
from regaze.face3d.nl3dmm import PARTS, Drawing, NonlinearHead
from regaze.face3d.photo_faces import PhotoFace
from regaze.face3d.pickles import read_pickle
from regaze.normalise.ffhq import framed, require_shown, square_of
from regaze.normalise.warp import transform_points
from regaze.outputs import replacing
from regaze.rotations import euler_to_matrix

STAGES = ((50, 100.0), (200, 25.0))
"""Steps and weight of the landmarks: of the camera alone, then of everything."""
WEIGHTS = {"photo": 10.0, "light": 0.01, "codes": 0.001, "skin": 0.1}
"""Of the terms besides the landmarks."""
MATRICES, VECTORS = ("w2c_Rmat", "inmat", "c2w_Rmat", "inv_inmat"), ("w2c_Tvec", "c2w_Tvec")

_CAMERA_RATE, _CODE_RATE = 0.01, 0.005
_FOCAL = 812 / 400
_ROTATION = (
    (0.9988, 0.0097, -0.0486),
    (0.0105, -0.9998, 0.0149),
    (-0.0485, -0.0154, -0.9987),
)
_SHIFT = (0.0255, 0.1288, 6.2085)
_AMBIENT = 0.8
_HEAVY, _HEAVY_WEIGHT = (*range(28, 31), *range(60, 68)), 20.0
_CODES = 2.5


def landmark_weights(like: Tensor | None = None) -> Tensor:
    """Weights (68,) of the landmarks, of sum 1: bridge of the nose and inner lips weigh more."""
    weights = torch.ones(68, device=None if like is None else like.device)
    weights[list(_HEAVY)] = _HEAVY_WEIGHT
    return weights / weights.sum()


def terms(
    drawn: Drawing, image: Tensor, landmarks: Tensor, skin: Tensor, codes: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Terms of the loss.

    Args:
        drawn: the head as it is.
        image: (B,3,S,S) in [0,1].
        landmarks: (B,68,2) pixels.
        skin: (V,) bool.
        codes: (B,n) by :data:`regaze.face3d.nl3dmm.PARTS`.
    """
    shown = drawn.mask.expand_as(image)
    apart = (drawn.landmarks - landmarks).square().sum(-1)
    light = codes["illu"].view(-1, 9, 3)
    colours = drawn.colours[:, skin] / 255
    even = (colours - colours.mean(1, keepdim=True)).square().sum((1, 2)) / colours.shape[1]
    forms = (codes[name].square().mean() for name in ("iden", "expr", "text"))
    return {
        "photo": (drawn.image - image)[shown].square().mean(),
        "landmarks": (apart * landmark_weights(apart)).sum(-1).mean() / 68,
        "light": (light - light.mean(2, keepdim=True)).square().mean(),
        "codes": _CODES * sum(forms),
        "skin": even.mean(),
    }


def total(found: Mapping[str, Tensor], landmarks: float) -> Tensor:
    """The loss, with a weight of the landmarks."""
    weights = {**WEIGHTS, "landmarks": landmarks}
    return sum(weights[name] * value for name, value in found.items())


def head_rotation(angles: Tensor) -> Tensor:
    """Rotations (B,3,3) of a head by Euler angles (B,3), as the fit has them."""
    return euler_to_matrix(angles.flip(-1), "ZYX").transpose(1, 2)


@dataclass(frozen=True)
class HeadFit:
    """Codes and camera of one photo, under the published names.

    Attributes:
        code: (n,) of :data:`regaze.face3d.nl3dmm.PARTS`.
        w2c_Rmat, w2c_Tvec, c2w_Rmat, c2w_Tvec: (3,3) and (3,), head to camera and back.
        inmat, inv_inmat: (3,3), intrinsic matrix in pixels of the photo.
    """

    code: Tensor
    w2c_Rmat: Tensor
    w2c_Tvec: Tensor
    inmat: Tensor
    c2w_Rmat: Tensor
    c2w_Tvec: Tensor
    inv_inmat: Tensor


def fit_head(
    model: NonlinearHead,
    image: Tensor,
    landmarks: Tensor,
    *,
    scale: float = 1.0,
    stages: tuple[tuple[int, float], ...] = STAGES,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> HeadFit:
    """Fit a head.

    Args:
        model: the head model.
        image: (3,S,S) in [0,1], the square photo as it is compared.
        landmarks: (68,2) pixels of it.
        scale: its side over that of the photo, in whose pixels the fit's camera is.
        stages: steps and weight of the landmarks.
        told: called with the number of the step and the loss.

    Raises:
        ValueError: the photo is not square, landmarks are not finite, or the fit is lost.
    """
    side = image.shape[-1]
    if image.shape != (3, side, side):
        raise ValueError(f"photo: expected a square one, found {tuple(image.shape[1:])} pixels")
    if landmarks.shape != (68, 2) or not torch.isfinite(landmarks).all():
        raise ValueError("landmarks: expected 68 finite points of the photo")
    base, shift = torch.tensor([_ROTATION]), torch.tensor([_SHIFT])
    matrix = torch.diag(torch.tensor([_FOCAL * side, _FOCAL * side, 1.0]))[None]
    matrix[:, :2, 2] = side // 2
    codes = {name: torch.zeros(1, size) for name, size in zip(PARTS, model.sizes, strict=True)}
    codes["illu"][:, :3] = _AMBIENT
    camera = [torch.zeros(1, 3), torch.zeros(1, 3)]
    for one in (*codes.values(), *camera):
        one.requires_grad_()
    groups = [{"params": camera, "lr": _CAMERA_RATE}]
    done = 0
    for number, (steps, weight) in enumerate(stages):
        if number:
            groups.append({"params": list(codes.values()), "lr": _CODE_RATE})
        optimiser = torch.optim.Adam([dict(group) for group in groups])
        for _ in range(steps):
            turned = head_rotation(camera[0])
            rotation, moved = base @ turned, shift + (base @ camera[1][..., None])[..., 0]
            drawn = model.draw(tuple(codes.values()), rotation, moved, matrix, side)
            found = terms(drawn, image[None], landmarks[None], model.skin, codes)
            loss = total(found, weight)
            if not torch.isfinite(loss):
                raise ValueError(
                    f"fit: lost after {done} steps: the head is outside of the photo; are the "
                    "landmarks those of this photo?"
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
            told(done, float(loss.detach()))
    with torch.no_grad():
        turned = head_rotation(camera[0])
        rotation, moved = (base @ turned)[0], (shift + (base @ camera[1][..., None])[..., 0])[0]
    matrix = matrix[0].clone()
    matrix[:2] /= scale
    inverse = torch.eye(3)
    inverse[:2] = torch.cat([torch.eye(2), -matrix[:2, 2:]], 1) / matrix.diagonal()[:2, None]
    code = torch.cat([one.detach()[0] for one in codes.values()])
    back = rotation.T
    return HeadFit(code, rotation, moved, matrix, back, -back @ moved, inverse)


def square_photo(face: PhotoFace, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A face's square (size,size,3) uint8 and its landmarks (68,2) in it, framed as FFHQ is.

    Raises:
        ValueError: the photo's edge cuts the face.
    """
    square = square_of(face.landmarks)
    require_shown(face.landmarks, square, (face.picture.shape[1], face.picture.shape[0]))
    picture, matrix = framed(face.picture, square, size)
    return picture, transform_points(matrix, face.landmarks)


def fit_square(
    model: NonlinearHead,
    square: np.ndarray,
    landmarks: np.ndarray,
    compared: int,
    told: Callable[[int, float], None] = lambda step, loss: None,
) -> HeadFit:
    """Fit a head to a square photo (S,S,3) uint8, compared at a side of ``compared`` pixels."""
    scale = compared / len(square)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(square, (compared, compared), interpolation=how)
    image = torch.from_numpy(small).permute(2, 0, 1).float() / 255
    marks = torch.from_numpy(landmarks * scale).float()
    return fit_head(model, image, marks, scale=scale, stages=STAGES, told=told)


def write_square(
    folder: str | os.PathLike, name: str, square: np.ndarray, landmarks: np.ndarray, fit: HeadFit
) -> list[Path]:
    """Write a square, its landmarks and its fit under the published names; returns the files."""
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    paths = [home / f"{name}{end}" for end in (".png", "_lm2d.txt", "_nl3dmm.pkl")]
    write_png(paths[0], square)
    with replacing(paths[1]) as part:
        np.savetxt(part, landmarks.reshape(-1), fmt="%.4f")
    write_fit(paths[2], fit)
    return paths


def write_fit(path: str | os.PathLike, fit: HeadFit) -> None:
    """Write a fit as HeadNeRF's programs read it: a pickled dictionary of tensors."""
    content = {name: value.detach().cpu().clone() for name, value in vars(fit).items()}
    with replacing(path) as part:
        part.write_bytes(pickle.dumps(content))


def read_fit(path: str | os.PathLike, count: int | None = None) -> HeadFit:
    """A fit that HeadNeRF's programs or :func:`write_fit` wrote; nothing in it is executed.

    Args:
        path: ``<photo>_nl3dmm.pkl``.
        count: numbers that its code has to have; None takes any.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is something else, lacks a part, or has one of another shape or with NaN.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a fit of HeadNeRF's head model, found no file")
    content = read_pickle(path)
    shapes: dict[str, tuple[int | None, ...]] = {"code": (count,)}
    shapes |= dict.fromkeys(MATRICES, (3, 3)) | dict.fromkeys(VECTORS, (3,))
    found = {}
    for name, shape in shapes.items():
        values = np.squeeze(np.asarray(content.get(name, ())))
        size = tuple(a if b is None else b for a, b in zip(values.shape, shape, strict=False))
        if values.dtype.kind != "f" or values.size == 0 or values.shape != size[: len(shape)]:
            told = tuple("n" if one is None else one for one in shape)
            raise ValueError(f"{path}: {name}: expected numbers {told}, found {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
        found[name] = torch.from_numpy(np.array(values, np.float32))
    return HeadFit(**found)
