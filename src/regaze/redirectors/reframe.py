"""Pictures of a model's own view, resampled into the view in which all methods are compared.

Both views show one photo. Virtual cameras at the same place see it so that the way from one picture
to the other is an exact homography; a view of framing ``ffhq`` is a piece of the photo itself, so
that the way there leads through the photo's lens. What the model's view does not show is taken from
the source, and of a photo that the view does not have all of it: a model that leaves these pixels
alone is neither helped by the true picture nor blamed for more than ``copy`` is.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.faces import FacesReader
from regaze.images import reduce_patches
from regaze.normalise.camera import distort, intrinsic_matrix
from regaze.views import is_ffhq

_NEEDED = ("rotation", "gaze_origin", "source_index")
_NEEDED_OF_FFHQ = ("alignment", "camera", "distortion", "source_index")


class Reframing:
    """The way from pictures of one view of a data set to those of another.

    Args:
        own: faces in the model's view.
        compared: faces in the view of evaluation.
        size_px: side of the pictures that a model makes.

    Attributes:
        own, compared, size_px: as given.
        covered: mean share of the compared pictures that the model's view shows, of all so far.

    Raises:
        ValueError: patches that are not square, or faces without the rows' geometry.
    """

    def __init__(self, own: FacesReader, compared: FacesReader, size_px: int):
        for reader in (own, compared):
            width, height = reader.patch_size or (1, 1)
            if width != height:
                raise ValueError(
                    f"{reader.paths[0]}: expected square patches, found {width} x {height}"
                )
            needed = _NEEDED_OF_FFHQ if is_ffhq(reader.attributes) else _NEEDED
            if lacking := [name for name in needed if not reader.has(name)]:
                raise ValueError(
                    f"{reader.paths[0]}: {lacking[0]}: expected it of every person, to see how "
                    "patches lie in their photos; found none"
                )
        if is_ffhq(compared.attributes):
            raise ValueError(
                f"{compared.paths[0]}: expected faces of a virtual camera to compare in, found "
                "framing ffhq"
            )
        self.own, self.compared, self.size_px = own, compared, size_px
        self._shares: list[Tensor] = []
        self._known: dict[int, np.ndarray] = {}

    @property
    def covered(self) -> float:
        """See above; 1 before there are any."""
        return float(torch.cat(self._shares).mean()) if self._shares else 1.0

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n,) of the model's view that show the photos of compared rows (n,); -1 for none.

        Raises:
            ValueError: the view has no photo of a person, and is one of a virtual camera, in which
                all or none are lost.
        """
        codes = self.compared.person_of[rows]
        for code in np.unique(codes):
            if code not in self._known:
                self._known[code] = self._matched(self.compared.persons[code])
        places = self.compared.row_of[rows]
        found = [self._known[code][place] for code, place in zip(codes, places, strict=True)]
        return np.array(found, np.int64)

    def _matched(self, person: str) -> np.ndarray:
        """Rows of the model's view of all compared rows of a person, -1 where it has none."""
        wanted = self.compared.dataset("source_index", self.compared.rows([person])).tolist()
        mine = self.own.rows([person])
        there = dict(zip(self.own.dataset("source_index", mine).tolist(), mine, strict=True))
        absent = [number for number in wanted if number not in there]
        if absent and not is_ffhq(self.own.attributes):
            raise ValueError(
                f"{self.own.paths[0]}: person {person}: expected the faces of "
                f"{self.compared.paths[0]} in another view, found none of photo {absent[0]}"
            )
        return np.array([there.get(number, -1) for number in wanted], np.int64)

    def places(self, rows: np.ndarray, size: int, points: np.ndarray) -> np.ndarray:
        """Where points (..., 2) of compared pictures of ``size`` lie in the model's, (n, ..., 2).

        Pixels whose centres are whole numbers; NaN where the model's view does not have the photo.
        """
        to_ray = np.linalg.inv(_resized(self.compared, size) @ _from_rays(self.compared, rows))
        own, flat = self.rows(rows), points.reshape(-1, 2)
        found = np.full((len(rows), len(flat), 2), np.nan)
        for number in np.flatnonzero(own >= 0):
            rays = _mapped(to_ray[number], flat)
            found[number] = _mapped(_resized(self.own, self.size_px), self._seen(own[number], rays))
        return found.reshape(len(rows), *points.shape)

    def _seen(self, row: int, rays: np.ndarray) -> np.ndarray:
        """Pixels (m, 2) of the model's patch of its row on rays (m, 2), x/z and y/z."""
        if not is_ffhq(self.own.attributes):
            return _mapped(_from_rays(self.own, np.array([row]))[0], rays)
        columns = (self.own.dataset(name, [row])[0] for name in _NEEDED_OF_FFHQ[:3])
        alignment, camera, lens = columns
        x, y = distort(rays[:, 0], rays[:, 1], lens)
        return _mapped(alignment @ intrinsic_matrix(camera), np.stack([x, y], -1))

    @cached_property
    def _resolution(self) -> float:
        """Pixels of the model's pictures along a side of the compared patch, in its middle.

        Of the first photo that the model's view has; faces are about as large in all of them.
        """
        width = self.compared.patch_size[0]
        middle = (width - 1) / 2
        points = np.array([[middle, middle], [middle + 1, middle]])
        for row in np.arange(len(self.compared))[:, None]:
            if self.rows(row)[0] >= 0:
                one, other = self.places(row, width, points)[0]
                return width * float(np.linalg.norm(other - one))
        return float(self.size_px)

    def size(self, least: int) -> int:
        """Side of the compared pictures: as fine as the model's, but no less than ``least``.

        It is a multiple of ``least`` that divides the stored patch, as pictures are compared by
        means over blocks.
        """
        width = self.compared.patch_size[0]
        fits = [side for side in range(least, width + 1, least) if width % side == 0]
        return max([side for side in fits if side <= self._resolution * (1 + 1e-6)], default=least)

    def __call__(self, pictures: Tensor, rows: np.ndarray, size: int) -> Tensor:
        """Pictures (n, 3, S, S) in [-1, 1] of the model as compared pictures (n, 3, size, size).

        Args:
            pictures: of the model, at its ``size_px``.
            rows: (n,) compared rows of their sources.
            size: side of the result.
        """
        # Finer pictures are averaged, so that nothing folds over.
        fine = max(1, int(np.ceil(self._resolution / size - 1e-6)))
        steps = (np.arange(size * fine) + 0.5) / fine - 0.5
        points = np.stack(np.meshgrid(steps, steps), -1)
        # What no picture shows lies outside of it.
        places = np.nan_to_num(self.places(rows, size, points), nan=-10.0 * self.size_px)
        grid = (2 * torch.from_numpy(places) + 1) / self.size_px - 1
        inside = (grid.abs() <= 1).all(-1)[:, None].float()
        grid = grid.to(pictures.device, torch.float32)
        made = F.grid_sample(
            pictures.float(), grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        made = F.avg_pool2d(made.clamp(-1, 1), fine)
        share = F.avg_pool2d(inside, fine)
        self._shares.append(share.mean((1, 2, 3)))
        share = share.to(pictures.device)
        source = reduce_patches(self.compared.pixels(rows), size).to(pictures.device)
        return made * share + source * (1 - share)


def _from_rays(reader: FacesReader, rows: np.ndarray) -> np.ndarray:
    """(n, 3, 3): rays of the photo's camera to pixels of patches of virtual cameras."""
    width, height = reader.patch_size
    focal, distance = float(reader.attributes["focal"]), float(reader.attributes["distance"])
    virtual = intrinsic_matrix(np.array([focal, focal, width / 2.0, height / 2.0]))
    away = np.linalg.norm(reader.dataset("gaze_origin", rows), axis=1)
    scale = np.zeros((len(rows), 3, 3))
    scale[:, 0, 0] = scale[:, 1, 1] = 1.0
    scale[:, 2, 2] = distance / away
    return virtual @ scale @ reader.dataset("rotation", rows)


def _resized(reader: FacesReader, size: int) -> np.ndarray:
    """(3, 3): pixels of patches, their centres whole numbers, to those of pictures of ``size``."""
    factor = size / reader.patch_size[0]
    shift = (factor - 1) / 2
    return np.array([[factor, 0, shift], [0, factor, shift], [0, 0, 1]])


def _mapped(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (m, 2) through a homography (3, 3)."""
    there = points @ matrix[:, :2].T + matrix[:, 2]
    return there[:, :2] / there[:, 2:]
