"""How good an encoder is on people it has not seen: numbers and a sheet of pictures.

All of it needs ground truth (:mod:`regaze.face3d.ground_truth`), that is, the synthetic set.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from regaze.face3d.crop import to_image_space
from regaze.face3d.deca import Deca
from regaze.face3d.drawing import write_png
from regaze.face3d.gaze import eye_pose_from_labels
from regaze.face3d.ground_truth import GroundTruth
from regaze.face3d.patches import crop_patches, crop_transforms, oversampling, sample_crops
from regaze.faces import FacesReader
from regaze.rotations import axis_angle_to_matrix

CORRELATED = 10
"""So many of the first shape codes are compared; later ones move a face by less than 0.5 mm."""

MOVING = 0.02
"""Least standard deviation of an expression code that counts as one that the capture varies."""

COLUMNS = ("photo", "landmarks", "shaded", "albedo", "normals", "rendered")
LANDMARKS, KNOWN_LANDMARKS, OUTLINE = (60, 220, 90), (255, 200, 40), (90, 170, 255)
TILE, TITLE = 192, 22


@torch.no_grad()
def measure(deca: Deca, reader: FacesReader, known: GroundTruth, batch: int = 64) -> dict:
    """Errors of an encoder on known faces.

    Returns:
        ``landmark_px`` and ``landmark_percent``: mean distance of the 68 projected landmarks from
        the known ones, in pixels and in percent of the crop's side; ``landmark_percent_inner``
        without the contour; ``landmark_percent_known``: what is left with the known codes, which
        only perspective makes; ``landmark_percent_mean``: of the mean codes, which look at
        nothing.
        ``rotation_deg``: angle between predicted and known head rotation; ``rotation_deg_mean``
        that of the mean rotation.
        ``shape_correlation``, ``expression_correlation``: lists over the first shape codes and
        over the expression codes that vary (``expression_codes`` numbers them), their means with
        ``_mean`` appended.
        ``psnr_db``: of the rendered head against the crop within the chart's face mask, on one
        row per head pose; ``psnr_db_mean``: that of the mean colour of each face.
        ``rows``, ``rendered_rows``: how many.
    """
    size = deca.size_px
    found, squares = [], []
    for start in range(0, len(known), batch):
        places = np.arange(start, min(start + batch, len(known)))
        crops = crop_patches(reader.pixels(known.rows[places]), known.landmarks[places], size)
        found.append(deca.encode(crops.images.to(deca.device)))
        squares.append(crops.transforms)
    codes = {name: torch.cat([part[name].cpu() for part in found]) for name in found[0]}
    transforms = np.concatenate(squares)
    everything = np.arange(len(known))
    wanted = known.targets(everything, transforms, size)
    cam = known.cam(everything, transforms, size)
    apart = (_landmarks(deca, codes, known.eye_pose) - wanted).norm(dim=-1) / 2
    mean = {name: value.mean(0, keepdim=True) for name, value in known.codes(everything).items()}
    mean["cam"] = cam.mean(0, keepdim=True)
    nothing = (_landmarks(deca, mean, mean["eye_pose"]) - wanted).norm(dim=-1) / 2
    turned = _angle(codes["pose"][:, :3], known.pose[:, :3])
    still = _angle(mean["pose"][:, :3].expand(len(known), -1), known.pose[:, :3])
    moving = np.flatnonzero(known.exp.std(0).numpy() > MOVING)
    shape = [_correlation(codes["shape"][:, i], known.shape[:, i]) for i in range(CORRELATED)]
    exp = [_correlation(codes["exp"][:, i], known.exp[:, i]) for i in moving]
    first = np.unique(known.view, return_index=True)[1]
    psnr, flat = _colours(deca, reader, known, codes, first)
    return {
        "landmark_px": float(apart.mean()) * size,
        "landmark_percent": 100 * float(apart.mean()),
        "landmark_percent_inner": 100 * float(apart[:, 17:].mean()),
        "landmark_percent_known": 100 * float((known.misfit * transforms[:, 0, 0]).mean()) / size,
        "landmark_percent_mean": 100 * float(nothing.mean()),
        "rotation_deg": float(turned.mean()),
        "rotation_deg_mean": float(still.mean()),
        "shape_correlation": shape,
        "shape_correlation_mean": _mean(shape),
        "expression_codes": moving.tolist(),
        "expression_correlation": exp,
        "expression_correlation_mean": _mean(exp),
        "psnr_db": psnr,
        "psnr_db_mean": flat,
        "rows": len(known),
        "rendered_rows": len(first),
    }


def _landmarks(deca: Deca, codes: dict[str, Tensor], eye_pose: Tensor) -> Tensor:
    """The 68 fixed landmarks (B, 68, 2) as image points, a part at a time."""
    device, out = deca.device, []
    for start in range(0, len(codes["pose"]), 64):
        part = {k: codes[k][start : start + 64].to(device) for k in ("shape", "exp", "pose")}
        head = deca.flame(*part.values(), eye_pose[start : start + 64].to(device))
        cam = codes["cam"][start : start + 64].to(device)
        out.append(to_image_space(head.landmarks3d, cam)[..., :2].cpu())
    return torch.cat(out)


def _angle(first: Tensor, second: Tensor) -> Tensor:
    """Angles (B,) in degrees between rotations given as axis-angles (B, 3)."""
    a, b = axis_angle_to_matrix(first.double()), axis_angle_to_matrix(second.double())
    # |R - I| = 2 sqrt(2) sin(angle / 2) keeps its digits at small angles
    chord = (a - b).flatten(1).norm(dim=1) / (2 * math.sqrt(2))
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def _correlation(found: Tensor, known: Tensor) -> float | None:
    """Pearson's correlation; None where one of the two does not vary."""
    a, b = (value.double() - value.double().mean() for value in (found, known))
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm > 1e-9 else None


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _colours(deca, reader, known, codes, places) -> tuple[float | None, float | None]:
    """PSNR in dB of renderings, and of one colour per face, within the face mask."""
    if deca.head.uvcoords is None:
        return None, None
    errors, flats = [], []
    for start in range(0, len(places), 16):
        part = places[start : start + 16]
        chosen = {name: value[part] for name, value in codes.items()}
        drawn = _drawn(deca, chosen, known.eye_pose[part], deca.size_px)
        photo, share = photos(reader, known, part, deca.size_px, deca.size_px), drawn["face"]
        weight = share / share.sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
        colour = (photo * weight).sum((2, 3), keepdim=True)
        for out, image in ((errors, drawn["image"].clamp(0, 1)), (flats, colour)):
            out.append((((image - photo) ** 2).mean(1, keepdim=True) * weight).sum((1, 2, 3)))
    psnr = [float((-10 * torch.cat(e).clamp_min(1e-10).log10()).mean()) for e in (errors, flats)]
    return psnr[0], psnr[1]


def _drawn(deca, codes, eye_pose, side: int, background: Tensor | None = None):
    """Renderings of rows of codes, on the CPU."""
    codes = {name: value.to(deca.device) for name, value in codes.items()}
    behind = None if background is None else background.to(deca.device)
    drawn = deca.render(codes, eye_pose.to(deca.device), side, background=behind)
    return {name: value.cpu() for name, value in drawn.items()}


def photos(reader: FacesReader, known: GroundTruth, places, size: int, side: int) -> Tensor:
    """The photos (B, 3, side, side) that lie under renderings of crops.

    Args:
        reader, known: the faces and what is known of them.
        places: rows of ``known``.
        size: side of the crops.
        side: of the renderings, in pixels.

    Crops number pixels by their centres, renderings span them from edge to edge.
    """
    transforms = crop_transforms(known.landmarks[places], reader.patch_size, size)[0]
    zoom = side / size
    transforms = np.array([[zoom, 0, -0.5], [0, zoom, -0.5], [0, 0, 1]]) @ transforms
    pixels = torch.from_numpy(np.ascontiguousarray(reader.pixels(known.rows[places])))
    return sample_crops(pixels, torch.from_numpy(transforms), side, oversampling(transforms))


def choose(reader: FacesReader, known: GroundTruth, count: int) -> np.ndarray:
    """Rows for the sheet: ``count`` persons evenly spread, each in another head and gaze."""
    people = np.unique(reader.person_of[known.rows])
    people = people[np.linspace(0, len(people) - 1, min(count, len(people))).round().astype(int)]
    places = []
    for number, person in enumerate(people):
        own = np.flatnonzero(reader.person_of[known.rows] == person)
        places.append(own[(number * 5 + 1) % len(own)])
    return np.array(places)


@torch.no_grad()
def draw_sheet(
    path: str | Path, deca: Deca, reader: FacesReader, known: GroundTruth, count: int = 6
) -> None:
    """Write a PNG with a row per person: photo, landmarks, form, albedo, normals, rendering.

    Landmarks are the predicted ones (green) over those of the data (yellow), with the outline of
    the predicted head (blue). Eyes look along the gaze labels.
    """
    places, size = choose(reader, known, count), deca.size_px
    crops = crop_patches(reader.pixels(known.rows[places]), known.landmarks[places], size)
    codes = {k: v.cpu() for k, v in deca.encode(crops.images.to(deca.device)).items()}
    gaze = torch.from_numpy(reader.labels[known.rows[places], :2].astype(np.float32))
    eye_pose = eye_pose_from_labels(gaze, codes["pose"][:, :3])
    photo = photos(reader, known, places, size, TILE)
    drawn = _drawn(deca, codes, eye_pose, TILE)
    over = _drawn(deca, codes, eye_pose, TILE, photo)
    found = _landmarks(deca, codes, eye_pose)
    wanted = known.targets(places, crops.transforms, size)
    marked = _pixels(photo)
    for row, picture in enumerate(marked):
        alpha = (drawn["alpha"][row, 0].numpy() > 0).astype(np.uint8)
        outline, _ = cv2.findContours(alpha, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outline, -1, OUTLINE, 1, cv2.LINE_AA)
        for points, colour, radius in ((wanted, KNOWN_LANDMARKS, 2), (found, LANDMARKS, 1)):
            for x, y in (points[row].numpy() * 0.5 + 0.5) * TILE * 8:
                # centres to an eighth of a pixel
                spot = round(float(x)) - 4, round(float(y)) - 4
                cv2.circle(picture, spot, radius * 8, colour, -1, cv2.LINE_AA, 3)
    normals = drawn["normals"] * 0.5 + 0.5
    made = map(_pixels, (over["shaded"], drawn["albedo"], normals, over["image"]))
    rows = [np.concatenate(row, 1) for row in zip(_pixels(photo), marked, *made, strict=True)]
    title = np.full((TITLE, rows[0].shape[1], 3), 255, np.uint8)
    for number, name in enumerate(COLUMNS):
        look = cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA
        cv2.putText(title, name, (number * TILE + 6, TITLE - 7), *look)
    write_png(path, np.concatenate([title, *rows]))


def _pixels(images: Tensor) -> np.ndarray:
    """Pictures (B, 3, H, W) in 0..1 as (B, H, W, 3) uint8."""
    levels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).numpy())
