"""Buffers of rows of codes: what DiffusionRig's network sees of a 3-D face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from regaze.angles import vector_from_angles
from regaze.codes import SHORT, code_columns
from regaze.face3d.buffers import BUFFERS, buffers_of, code_centre, drawn_codes
from regaze.face3d.deca import Deca
from regaze.face3d.gaze import eye_pose_from_labels
from regaze.face3d.shading import sh_shading
from regaze.masks import NUMBER
from regaze.masks.mesh import face_parts
from regaze.redirectors.carried import carried, displacement
from regaze.redirectors.diffusionrig.settings import PARTS
from regaze.rotations import camera_flip

_NAMES = {part: short for short, part in SHORT.items()}
PLACES = {_NAMES.get(part, part): place for part, place in code_columns(PARTS).items()}
"""Where the parts of a row of codes are, by the names of :mod:`regaze.face3d.buffers`."""
_FARTHEST = np.deg2rad(60.0)
"""Eyes turn no farther in the head."""


def kept_codes(rows: Tensor) -> dict[str, Tensor]:
    """Rows of codes (B, 236) by the names of :mod:`regaze.face3d.buffers`."""
    return {name: rows[:, place].float() for name, place in PLACES.items()}


def eye_poses(gaze: Tensor, root: Tensor) -> Tensor:
    """Eye poses (B, 6) of gaze labels (B, 2) in heads of axis-angles (B, 3), at most 60 degrees."""
    poses = eye_pose_from_labels(gaze.float(), root).unflatten(1, (2, 3))
    turn = poses.norm(dim=-1, keepdim=True)
    return (poses * (_FARTHEST / turn.clamp_min(1e-9)).clamp(max=1)).flatten(1)


@dataclass(frozen=True)
class Drawn:
    """Renderings of B faces.

    Attributes:
        buffers: (B, 9 or 12, S, S): rendered, normal, albedo, and where visible eyes look.
        faces: (B, S, S) int64 triangles that pixels see, -1 off the mesh.
        weights: (B, S, S, 3) of their corners.
        points: (B, V, 2) where vertices are in the picture, in [-1, 1].
    """

    buffers: Tensor
    faces: Tensor
    weights: Tensor
    points: Tensor

    def parts(self) -> tuple[Tensor, ...]:
        """All of it."""
        return self.buffers, self.faces, self.weights, self.points


def in_light(drawn: Drawn, light: Tensor) -> Drawn:
    """Renderings in another light (B, 27)."""
    buffers = drawn.buffers.clone()
    with torch.autocast(buffers.device.type, enabled=False):
        shading = sh_shading(buffers[:, 3:6], light.float().unflatten(1, (9, 3)))
        buffers[:, :3] = buffers[:, 6:9] * shading
    return replace(drawn, buffers=buffers)


class Rendered:
    """Renders buffers (B, 9 or 12, S, S); where nothing is known of a face they are zero.

    Args:
        face: the encoder of the codes with its head model.
        size: side of the pictures.
        gaze: eyes turn to where labels say, and three further channels hold that direction (x the
            person's left, y up, z towards the viewer) on visible eyeballs.
        cache_mb: renderings of rows that are kept in memory, buffers as float16.
    """

    def __init__(self, face: Deca, size: int, gaze: bool, cache_mb: int = 0):
        self.face, self.size, self.gaze = face, size, gaze
        self._channels = 3 * len(BUFFERS) + (3 if gaze else 0)
        points = 8 * face.head.v_template.shape[0]
        self._room = cache_mb * 10**6 // ((2 * self._channels + 10) * size**2 + points)
        self._kept: dict[int, Drawn] = {}
        parts = face_parts(face.head)
        eyes = np.isin(parts, [NUMBER["left_eye"], NUMBER["right_eye"]])
        self._eyes = torch.from_numpy(eyes)

    def of_rows(
        self, rows: Tensor, codes: Mapping[str, Tensor], crop: Tensor, known: Tensor, gaze: Tensor
    ) -> Drawn:
        """Renderings of rows (B,) of the data set that is trained on, unedited; made once.

        Args:
            rows: numbers; -1 of pictures that are of no data set.
            codes, crop, known, gaze: as for :meth:`edited`.
        """
        found = []
        for place, row in enumerate(rows.tolist()):
            made = self._kept.get(row)
            if made is None:
                # One at a time, and rounded whether it is kept or not: what a training sees must
                # not depend on what it was rendered with, or a resumed one would end elsewhere.
                one = slice(place, place + 1)
                own = {name: value[one] for name, value in codes.items()}
                full = self.edited(own, None, crop[one], known[one], gaze[one])
                made = Drawn(
                    full.buffers.half().cpu(),
                    full.faces.int().cpu(),
                    full.weights.half().cpu(),
                    full.points.cpu(),
                )
                if row >= 0 and len(self._kept) < self._room:
                    self._kept[row] = made
            found.append(made.parts())
        with torch.autocast("cpu", enabled=False):
            buffers, faces, weights, points = (
                torch.cat(part).to(rows.device) for part in zip(*found, strict=True)
            )
        return Drawn(buffers.float(), faces.long(), weights.float(), points)

    @torch.no_grad()
    def edited(
        self,
        codes: Mapping[str, Tensor],
        unedited: Mapping[str, Tensor] | None,
        crop: Tensor,
        known: Tensor,
        gaze: Tensor,
    ) -> Drawn:
        """Renderings of codes.

        Args:
            codes: B rows by name.
            unedited: those whose face's centre must stay where it is; None leaves heads where codes
                put them, as in training.
            crop: (B, 3, 3) picture in [-1, 1] to pixels of the encoder's crop.
            known: (B,) bool.
            gaze: (B, 2) labels.
        """
        count, device, size = len(known), known.device, self.size
        vertices = self.face.head.v_template.shape[0]
        made = Drawn(
            torch.zeros(count, self._channels, size, size, device=device),
            torch.full((count, size, size), -1, device=device),
            torch.zeros(count, size, size, 3, device=device),
            torch.zeros(count, vertices, 2, device=device),
        )
        at = known.nonzero()[:, 0]
        if not len(at):
            return made
        with torch.autocast(device.type, enabled=False):
            drawn = self._drawn(
                {name: value[at] for name, value in codes.items()},
                None if unedited is None else {n: value[at] for n, value in unedited.items()},
                crop[at].float(),
                gaze[at].float(),
            )
        for whole, part in zip(made.parts(), drawn.parts(), strict=True):
            whole[at] = part
        return made

    def base(self, sources: Tensor, before: Drawn, after: Drawn) -> Tensor:
        """Sources (B, 3, S, S) carried along; see :mod:`regaze.redirectors.carried`.

        Args:
            before: renderings of the sources.
            after: of what they become.
        """
        with torch.autocast(sources.device.type, enabled=False):
            seen = (after.faces >= 0) & (before.points.flatten(1).any(1)[:, None, None])
            corners = self.face.renderer().faces.to(seen.device)[after.faces.clamp(min=0)]
            flat = corners.flatten(1)[..., None].expand(-1, -1, 2)
            places = before.points.gather(1, flat).unflatten(1, corners.shape[1:])
            places = (places * after.weights[..., None]).sum(3).permute(0, 3, 1, 2)
            by = displacement(places, seen[:, None].float())
            lit = (
                one.buffers[:, :3] * seen.any((1, 2))[:, None, None, None]
                for one in (before, after)
            )
            return carried(sources.float(), *lit, by)

    def _drawn(self, codes, unedited, crop: Tensor, gaze: Tensor) -> Drawn:
        face, eyes = self.face, {}
        if self.gaze:
            eyes = {"eye_pose": eye_poses(gaze, codes["pose"][:, :3])}
        # Lids move with eyes a little; faces must not, so that both have the same eyes.
        centre = None if unedited is None else code_centre({**unedited, **eyes}, face.flame)
        codes = {**codes, **eyes}
        pixels = crop.new_tensor(
            [
                [2 / self.size, 0, 1 / self.size - 1],
                [0, 2 / self.size, 1 / self.size - 1],
                [0, 0, 1],
            ]
        )
        drawn = drawn_codes(
            codes, face.flame, face.albedo, face.renderer(), self.size, crop @ pixels, centre
        )
        buffers = buffers_of(drawn)
        found = torch.cat([buffers[name] for name in BUFFERS], 1)
        if self.gaze:
            seen = drawn.triangles
            eyes = self._eyes.to(seen.device)[seen.clamp(min=0)] & (seen >= 0)
            # Labels point from what is looked at to the eyes.
            towards = -vector_from_angles(gaze) * camera_flip(gaze)
            found = torch.cat([found, towards[:, :, None, None] * eyes], 1)
        weights = found.new_zeros(*drawn.hits.shape, 3)
        weights[drawn.hits.where] = drawn.hits.weights
        return Drawn(found, drawn.triangles[:, 0], weights, drawn.projected[..., :2])
