"""Pictures of a model's own view, resampled into the view in which all methods are compared.

Both views show one photo through virtual cameras at the same place, so that the way from one
picture to the other is an exact homography. What the model's view does not show is taken from the
source: a model that leaves these pixels alone is neither helped by the true picture nor blamed for
more than ``copy`` is.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.faces import FacesReader
from regaze.images import reduce_patches
from regaze.normalise.camera import intrinsic_matrix

_NEEDED = ("rotation", "gaze_origin", "source_index")


class Reframing:
    """The way from pictures of one view of a data set to those of another.

    Args:
        own: faces in the model's view.
        compared: faces in the view of evaluation.
        size_px: side of the pictures that a model makes.

    Attributes:
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
            if lacking := [name for name in _NEEDED if not reader.has(name)]:
                raise ValueError(
                    f"{reader.paths[0]}: {lacking[0]}: expected it of every person, to see how "
                    "patches lie in their photos; found none"
                )
        self.own, self.compared, self.size_px = own, compared, size_px
        self._shares: list[Tensor] = []
        self._known: dict[int, np.ndarray] = {}

    @property
    def covered(self) -> float:
        """See above; 1 before there are any."""
        return float(torch.cat(self._shares).mean()) if self._shares else 1.0

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n,) of the model's view that show the photos of compared rows (n,).

        Raises:
            ValueError: the model's view has no patch of a photo.
        """
        codes = self.compared.person_of[rows]
        for code in np.unique(codes):
            if code not in self._known:
                self._known[code] = self._matched(self.compared.persons[code])
        places = self.compared.row_of[rows]
        found = [self._known[code][place] for code, place in zip(codes, places, strict=True)]
        return np.array(found, np.int64)

    def _matched(self, person: str) -> np.ndarray:
        """Rows of the model's view of all compared rows of a person."""
        wanted = self.compared.dataset("source_index", self.compared.rows([person]))
        mine = self.own.rows([person])
        there = dict(zip(self.own.dataset("source_index", mine).tolist(), mine, strict=True))
        if absent := [number for number in wanted.tolist() if number not in there]:
            raise ValueError(
                f"{self.own.paths[0]}: person {person}: expected the faces of "
                f"{self.compared.paths[0]} in another view, found none of photo {absent[0]}"
            )
        return np.array([there[number] for number in wanted.tolist()], np.int64)

    def maps(self, rows: np.ndarray, size: int) -> np.ndarray:
        """(n, 3, 3) float64: pixels of compared pictures of ``size`` to those of the model's."""
        there = _from_rays(self.compared, rows)
        back = _from_rays(self.own, self.rows(rows))
        across = _resized(self.own, self.size_px) @ back @ np.linalg.inv(there)
        return across @ np.linalg.inv(_resized(self.compared, size))

    @cached_property
    def _resolution(self) -> float:
        """Pixels of the model's pictures along a side of the compared patch."""
        width = self.compared.patch_size[0]
        return width * _density(self.maps(np.zeros(1, np.int64), width), width)

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
        maps = self.maps(rows, size)
        # Finer pictures are averaged, so that nothing folds over.
        fine = max(1, int(np.ceil(_density(maps[:1], size) - 1e-6)))
        steps = (torch.arange(size * fine, dtype=torch.float64) + 0.5) / fine - 0.5
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        points = torch.stack([x, y, torch.ones_like(x)], -1)
        places = torch.einsum("nij,hwj->nhwi", torch.from_numpy(maps), points)
        grid = (2 * places[..., :2] / places[..., 2:] + 1) / self.size_px - 1
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
    """(n, 3, 3): rays of the photo's camera to pixels of patches.

    A framing that is none of a virtual camera needs another such map here.
    """
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


def _density(maps: np.ndarray, size: int) -> float:
    """Pixels that a map of (1, 3, 3) goes along one pixel in the middle of pictures of ``size``."""
    middle = (size - 1) / 2
    points = np.array([[middle, middle, 1], [middle + 1, middle, 1]]) @ maps[0].T
    one, other = points[:, :2] / points[:, 2:]
    return float(np.linalg.norm(other - one))
