"""The nonlinear head model of HeadNeRF, whose codes its published weights are told.

Hong et al., CVPR 2022; ``CrisHY1995/headnerf``, whose files users bring. Shapes come out of two
linear layers of identity and expression, colours are linear in a third code, and light is nine
spherical harmonics. Points are in a frame of their own, x right, y up, z out of the face; those of
a camera have y down and z ahead. Nothing of the files is executed.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regaze.face3d.pickles import read_pickle
from regaze.face3d.rasterize import rasterize
from regaze.face3d.uv import Hits
from regaze.filetypes import read_npz
from regaze.weights import state_dict_of, torch_content

FILES = {
    "colours": "nl3dmm_dict.pkl",
    "shapes": "nl3dmm_net_dict.pth",
    "topology": "nl_3dmm_topo_info.npz",
    "landmarks": "LandMarkInfo.pkl",
    "skin": "skinmask.npy",
}
"""What the model consists of; upstream has them in ``ConfigModels`` and ``ConfigFiles``."""
FOLDERS = ("", "ConfigModels", "ConfigFiles")
PARTS = ("iden", "expr", "text", "illu")
"""Of a code, in the order of the files."""

_UNIT = 0.01
_LIGHTS = 9
_CONTOUR = 17
_LEFT, _CHIN = slice(0, 8), slice(8, 9)
_GUARD = 1e-7
# Of harmonics times the weights of a lobe of cosine, by degree.
_DEGREES = math.sqrt(math.pi) / 2, math.sqrt(math.pi), math.sqrt(15 * math.pi / 8)


def lit(colours: Tensor, normals: Tensor, light: Tensor) -> Tensor:
    """Colours (B,V,3) under light.

    Args:
        colours: (B or 1,V,3) without light.
        normals: (B,V,3) of the camera's frame.
        light: (B,27), a row of three colours for each harmonic.
    """
    x, y, z = normals.unbind(-1)
    zero, one, two = _DEGREES
    terms = [
        torch.full_like(x, zero),
        *(-one * y, one * z, -one * x),
        *(two * x * y, -two * y * z),
        two * (3 * z.square() - 1) / (2 * math.sqrt(3)),
        *(-two * x * z, two / 2 * (x.square() - y.square())),
    ]
    return colours * (torch.stack(terms, -1) @ light.view(-1, _LIGHTS, 3))


def mean_normals(points: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals (B,V,3): sums of the unit normals of the triangles (F,3) around, of any size."""
    a, b, c = points[:, triangles].unbind(2)
    turned = F.normalize(torch.linalg.cross(b - a, c - a, dim=-1), dim=-1)
    total = torch.zeros_like(points)
    for corner in triangles.unbind(1):
        total = total.index_add(1, corner, turned)
    return F.normalize(total, dim=-1)


def projected(points: Tensor, matrix: Tensor) -> Tensor:
    """Pixels (B,N,2) of points (B,N,3) of the camera by intrinsic matrices (B,3,3)."""
    flat = points / (points[..., 2:] + _GUARD)
    return (flat @ matrix.transpose(1, 2))[..., :2]


@dataclass(frozen=True)
class Drawing:
    """A drawn head.

    Attributes:
        image: (B,3,S,S) in [0,1], black where no head is.
        mask: (B,1,S,S) bool.
        landmarks: (B,68,2) pixels.
        colours: (B,V,3) of the vertices under light, 0 to 255.
    """

    image: Tensor
    mask: Tensor
    landmarks: Tensor
    colours: Tensor


class NonlinearHead(nn.Module):
    """The model.

    Args:
        layers: weight and bias of both linear layers of the shape.
        colours: ``mean`` (3V,), ``basis`` (n,3V) and ``scale`` (n,) of the colours.
        triangles: (F,3).
        contour: (k,17), vertices among which each landmark of the contour is looked for.
        inner: (51,), vertices of the other landmarks.
        skin: (V,) bool, vertices of even skin.
        sizes: numbers of identity and expression.
    """

    def __init__(
        self,
        layers: tuple[Tensor, Tensor, Tensor, Tensor],
        colours: tuple[Tensor, Tensor, Tensor],
        triangles: Tensor,
        contour: Tensor,
        inner: Tensor,
        skin: Tensor,
        sizes: tuple[int, int],
    ):
        super().__init__()
        self.layers, self.colours = layers, colours
        self.triangles, self.contour, self.inner, self.skin = triangles, contour, inner, skin
        self.sizes = (*sizes, len(colours[2]), 3 * _LIGHTS)

    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """(B,V,3) of codes (B,n)."""
        first, bias, last, mean = self.layers
        hidden = F.linear(torch.cat([identity, expression], 1), first, bias).relu()
        return _UNIT * F.linear(hidden, last, mean).unflatten(1, (-1, 3))

    def albedo(self, texture: Tensor) -> Tensor:
        """Colours (B,V,3) without light, 0 to 255, of codes (B,n)."""
        mean, basis, scale = self.colours
        return ((texture * scale) @ basis + mean).unflatten(1, (-1, 3))

    def landmarks(self, points: Tensor) -> Tensor:
        """The 68 landmarks (B,68,3) of points (B,V,3) of a camera.

        Those of the contour are the outermost ones as it is seen: leftmost, lowest, rightmost.
        """
        found = points[:, self.contour]
        left, lowest, right = (
            found[:, :, _LEFT, 0].argmin(1),
            found[:, :, _CHIN, 1].argmax(1),
            found[:, :, _CHIN.stop :, 0].argmax(1),
        )
        chosen = torch.cat([left, lowest, right], 1)
        columns = torch.arange(_CONTOUR, device=points.device).expand_as(chosen)
        numbers = torch.cat([self.contour[chosen, columns], self.inner.expand(len(points), -1)], 1)
        return points.gather(1, numbers[..., None].expand(-1, -1, 3))

    def draw(
        self,
        codes: tuple[Tensor, Tensor, Tensor, Tensor],
        rotation: Tensor,
        shift: Tensor,
        matrix: Tensor,
        side: int,
    ) -> Drawing:
        """Draw heads.

        Args:
            codes: (B,n) of :data:`PARTS`.
            rotation, shift: (B,3,3) and (B,3), head to camera.
            matrix: (B,3,3), intrinsic, its principal point the picture's middle.
            side: of the pictures.
        """
        identity, expression, texture, light = codes
        points = self.vertices(identity, expression) @ rotation.transpose(1, 2) + shift[:, None]
        normals = mean_normals(points, self.triangles)
        colours = lit(self.albedo(texture), normals, light)
        flat = 1 - 2 * projected(points, matrix) / side
        seen = rasterize(
            torch.cat([flat, points[..., 2:]], -1),
            self.triangles[None],
            side,
            perspective_correct=True,
            with_dists=False,
        )
        hits = Hits(seen.pix_to_face[..., 0], seen.bary[..., 0, :], len(self.triangles))
        image = (hits.of_vertices(colours, self.triangles) / 255).clamp(0, 1)
        marks = projected(self.landmarks(points), matrix)
        return Drawing(image, hits.mask.bool(), marks, colours)


def load_nl3dmm(folder: str | os.PathLike) -> NonlinearHead:
    """The model of a folder with :data:`FILES`, or of a checkout of ``CrisHY1995/headnerf``.

    Raises:
        FileNotFoundError: one of the files is missing; all that are looked for are named.
        ValueError: a file is something else, lacks a part or has one of another shape; a pickle
            holds something else than arrays.
    """
    paths = {name: _file(Path(folder), file) for name, file in FILES.items()}
    state = state_dict_of(torch_content(paths["shapes"]), paths["shapes"])
    first, bias, last, mean = (
        _ending(paths["shapes"], state, f"geo_{name}")
        for name in ("fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias")
    )
    told = _Arrays(paths["colours"], read_pickle(paths["colours"]))
    expressions = told.array("sig_exp", (None,)).size
    identities = first.shape[1] - expressions
    numbers = len(mean)
    textures = told.array("sig_tex", (None,))
    colours = (
        torch.from_numpy(told.array("mu_tex", (numbers,))),
        torch.from_numpy(told.array("b_tex", (len(textures), numbers))),
        torch.from_numpy(textures),
    )
    clause = "expected an .npz of triangles"
    topology = _Arrays(paths["topology"], read_npz(paths["topology"], clause, ["fv_indices"]))
    marks = _Arrays(paths["landmarks"], read_pickle(paths["landmarks"]))
    vertices = numbers // 3
    numbered = {
        "triangles": topology.numbers("fv_indices", (None, 3), vertices),
        "contour": marks.numbers("contour_idx", (_CONTOUR, None), vertices).T,
        "inner": marks.numbers("inface_idx", (68 - _CONTOUR,), vertices),
    }
    skin = _skin(paths["skin"], vertices)
    if identities < 1 or last.shape != (numbers, len(bias)) or len(first) != len(bias):
        raise ValueError(
            f"{paths['shapes']}: geo_fc2, geo_fc3: expected layers of codes to {numbers} numbers, "
            f"found {tuple(first.shape)} and {tuple(last.shape)}"
        )
    layers = tuple(one.float() for one in (first, bias, last, mean))
    return NonlinearHead(layers, colours, **numbered, skin=skin, sizes=(identities, expressions))


def _file(folder: Path, name: str) -> Path:
    for inner in FOLDERS:
        if (path := folder / inner / name).is_file():
            return path
    wanted = ", ".join(FILES.values())
    raise FileNotFoundError(f"{folder}: expected {wanted} of HeadNeRF, found no {name}")


def _ending(path: Path, state: dict[str, Tensor], name: str) -> Tensor:
    found = [value for key, value in state.items() if key.split(".", 1)[-1] == name or key == name]
    wanted = 2 if name.endswith("weight") else 1
    if len(found) != 1 or found[0].dim() != wanted:
        raise ValueError(f"{path}: expected one tensor *.{name}, found {sorted(state)[:8]}")
    return found[0]


def _skin(path: Path, vertices: int) -> Tensor:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: expected an .npy of vertices of skin ({error})") from None
    if values.size != vertices or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: expected {vertices} numbers, found {values.shape} {values.dtype}"
        )
    return torch.from_numpy(values.reshape(-1) > 0)


class _Arrays:
    """Arrays of a file, by name, whose shapes are checked."""

    def __init__(self, path: Path, content):
        self.path, self.content = path, content

    def array(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        found = self.content.get(name)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "iuf":
            told = sorted(map(str, self.content))[:8]
            raise ValueError(f"{self.path}: {name}: expected numbers, found {told}")
        values = found.reshape(-1) if len(shape) == 1 else found
        fits = [a in (None, b) for a, b in zip(shape, values.shape, strict=False)]
        if values.ndim != len(shape) or not all(fits):
            told = tuple("n" if one is None else one for one in shape)
            raise ValueError(f"{self.path}: {name}: expected shape {told}, found {found.shape}")
        return np.ascontiguousarray(values, np.float32)

    def numbers(self, name: str, shape: tuple[int | None, ...], below: int) -> Tensor:
        values = self.array(name, shape)
        whole = values.astype(np.int64)
        if (whole != values).any() or whole.min() < 0 or whole.max() >= below:
            raise ValueError(
                f"{self.path}: {name}: expected numbers of {below} vertices, found "
                f"{values.min():g} to {values.max():g}"
            )
        return torch.from_numpy(whole)
