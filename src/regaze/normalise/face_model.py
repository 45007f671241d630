"""The face models that head poses refer to, and the meshes of the frame check.

Axes of every model: x to the right of the image, y down, z into the head; millimetres. Facts:
``swook/faze_preprocess`` (its 14 points are vertices of the Surrey Face Model's mean shape),
``xucong-zhang/ETH-XGaze``, the MPIIFaceGaze release (Zhang et al., CVPR Workshops 2017),
``patrikhuber/eos`` (layout of the dense mesh's file).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ORIGINS = ("face_centre", "inner_corners")
"""Points of a face that a virtual camera can look at."""


@dataclass(frozen=True, eq=False)
class FaceModel:
    """Points of a mean face in model axes.

    ``points`` (M, 3) float64 mm; ``centre`` (M,) weights of the points, sum 1, whose weighted mean
    is the face centre; ``inner_corners``, ``left_eye``, ``right_eye`` index pairs, left and right
    *as seen in the image*, each pair from image left to image right; ``landmark_numbers`` the
    iBUG-68 numbers (1-based) of the first rows, the ones that a head pose is fitted to.
    """

    name: str
    points: np.ndarray
    centre: np.ndarray
    inner_corners: tuple[int, int]
    left_eye: tuple[int, int]
    right_eye: tuple[int, int]
    landmark_numbers: tuple[int, ...]

    def __post_init__(self):
        for key in ("points", "centre"):
            values = np.array(getattr(self, key), np.float64)
            values.setflags(write=False)
            object.__setattr__(self, key, values)

    def weights(self, origin: str) -> np.ndarray:
        """Return (M,) weights of the points whose weighted mean is ``origin``.

        Raises:
            ValueError: an origin other than ``face_centre`` and ``inner_corners``.
        """
        if origin == "face_centre":
            return self.centre
        if origin == "inner_corners":
            weights = np.zeros(len(self.points))
            weights[list(self.inner_corners)] = 0.5
            return weights
        raise ValueError(f"origin: expected one of {ORIGINS}, found {origin!r}")

    @property
    def eye_centre(self) -> np.ndarray:
        """(3,) mm: mean of the four eye corners."""
        return self.points[[*self.left_eye, *self.right_eye]].mean(axis=0)

    @property
    def fitted_points(self) -> np.ndarray:
        """(len(landmark_numbers), 3) mm: the points that landmarks exist for."""
        return self.points[: len(self.landmark_numbers)]


_SFM14 = FaceModel(
    name="sfm14",
    points=[
        [0.05832856893539429, -7.6068878173828125, -15.697856426239014],
        [-0.10377413779497147, 8.64764404296875, -22.13105821609497],
        [-0.2447226196527481, 23.374601364135742, -31.459951758384705],
        [-0.3765539824962616, 35.093743562698364, -36.40296196937561],
        [-12.362205028533936, 46.71208953857422, -14.98328161239624],
        [-7.142457485198975, 49.087806701660156, -18.294755458831787],
        [-0.20381827652454376, 50.27907180786133, -19.50880479812622],
        [6.809701442718506, 49.120479583740234, -18.351011753082275],
        [12.0658278465271, 46.733537673950195, -15.02448034286499],
        [-46.255802631378174, -1.6484832763671875, 2.872274875640869],
        [-19.015034198760986, 1.5302906036376953, -3.101600170135498],
        [19.16842031478882, 1.4967899322509766, -2.8367133140563965],
        [46.10241651535034, -1.3785972595214844, 3.0660386085510254],
        [0.0, 30.0, 0.0],
    ],
    centre=np.eye(14)[13],
    inner_corners=(10, 11),
    left_eye=(9, 10),
    right_eye=(11, 12),
    landmark_numbers=(28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 40, 43, 46),
)
"""Nose ridge (rows 0-3), nose base (4-8), eye corners (9-12), face centre (13)."""

_XGAZE6 = FaceModel(
    name="xgaze6",
    points=[
        [-46.509498596191406, -38.32709503173828, 36.4160041809082],
        [-17.76072120666504, -32.58519744873047, 29.076156616210938],
        [18.04391098022461, -30.956823348999023, 29.06296730041504],
        [44.737586975097656, -34.107872009277344, 36.73243713378906],
        [-10.611664772033691, 12.958349227905273, 21.622764587402344],
        [11.289629936218262, 13.86424446105957, 21.837900161743164],
    ],
    # The middle between the mean of the eye corners and the mean of the nose's two sides.
    centre=[0.125, 0.125, 0.125, 0.125, 0.25, 0.25],
    inner_corners=(1, 2),
    left_eye=(0, 1),
    right_eye=(2, 3),
    landmark_numbers=(37, 40, 43, 46, 32, 36),
)
"""Eye corners (0-3) and sides of the nose base (4, 5) of ETH-XGaze's 50-point model."""

_MPII6 = FaceModel(
    name="mpii6",
    points=[
        [-45.0968, -0.4838, 2.3970],
        [-21.3129, 0.4838, -2.3970],
        [21.3129, 0.4838, -2.3970],
        [45.0968, -0.4838, 2.3970],
        [-26.2996, 68.5950, 0.0],
        [26.2996, 68.5950, 0.0],
    ],
    # The release's face centre (fields 22-24 of its label files) is the mean of the six points.
    centre=np.full(6, 1.0 / 6.0),
    inner_corners=(1, 2),
    left_eye=(0, 1),
    right_eye=(2, 3),
    landmark_numbers=(37, 40, 43, 46, 49, 55),
)
"""Eye corners (0-3) and mouth corners (4, 5), MPIIFaceGaze's generic model."""

FACE_MODELS = {model.name: model for model in (_SFM14, _XGAZE6, _MPII6)}
"""By name, the ``face_model`` of :class:`regaze.sources.records.PersonRecords`."""


def face_model(model: str | FaceModel) -> FaceModel:
    """Return the model called ``model``, or ``model`` itself when it is one.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(model, FaceModel):
        return model
    if model not in FACE_MODELS:
        raise ValueError(f"face_model: expected one of {sorted(FACE_MODELS)}, found {model!r}")
    return FACE_MODELS[model]


MESH_EXTENT = np.array([[-74.6, -82.6, -33.4], [74.0, 105.3, 73.5]])
"""(2, 3) mm: least and greatest x, y, z of the mean dense mesh in the axes of ``sfm14``."""

_VERTICES = 3448
_EYE_CORNERS = (177, 181, 614, 610)


class FaceModelError(ValueError):
    """A face model file that cannot be read; the message names the file and the field."""


def read_sfm_mean(path: str | Path) -> np.ndarray:
    """Return the mean shape of eos' ``sfm_shape_3448.bin``: (3448, 3) float32, mm, y up.

    The file starts with little-endian uint32 version (1), rows (10344) and columns (1) and then
    holds x, y, z of each vertex as float32; what follows (the shape basis) is not read.

    Raises:
        FaceModelError: when the file is missing, too short or of another version or size.
    """
    path = Path(path)
    if not path.is_file():
        raise FaceModelError(
            f"{path}: no such file; the dense face mesh is eos' sfm_shape_3448.bin "
            "(share/ of patrikhuber/eos, own terms)"
        )
    with path.open("rb") as file:
        header = file.read(12)
        if len(header) < 12:
            raise FaceModelError(f"{path}: header: expected 12 bytes, found {len(header)}")
        for name, found, wanted in zip(
            ("version", "rows", "columns"),
            struct.unpack("<3I", header),
            (1, 3 * _VERTICES, 1),
            strict=True,
        ):
            if found != wanted:
                raise FaceModelError(f"{path}: {name}: expected {wanted}, found {found}")
        content = file.read(12 * _VERTICES)
    if len(content) != 12 * _VERTICES:
        raise FaceModelError(
            f"{path}: mean shape: expected {12 * _VERTICES} bytes, found {len(content)}"
        )
    return np.frombuffer(content, "<f4").reshape(_VERTICES, 3)


def dense_mesh(path: str | Path, *, upstream: bool = True) -> np.ndarray:
    """Return the dense face mesh in model axes, (3447 or 3448, 3) float64, mm.

    ``upstream`` repeats the selection of ``swook/faze_preprocess``: vertex 0 is dropped and the
    centre is the mean of entries 181 and 614 *of that shortened list*, which puts the mesh 10 mm
    higher than the pose model; published sample sets depend on it. Otherwise all vertices, centred
    on the four eye corners as the 14 points are.

    Raises:
        FaceModelError: as :func:`read_sfm_mean`.
    """
    vertices = read_sfm_mean(path).astype(np.float64) * (1.0, -1.0, -1.0)
    if upstream:
        vertices = vertices[1:]
        return vertices - vertices[[181, 614]].mean(axis=0)
    return vertices - vertices[list(_EYE_CORNERS)].mean(axis=0)


def ellipsoid_mesh(rings: int = 17, sectors: int = 32) -> np.ndarray:
    """Return points on the axis-aligned ellipsoid that fills :data:`MESH_EXTENT`.

    It stands in for the dense mesh where the user has no copy of that file.
    Shape ((rings - 2) * sectors + 2, 3) float64, mm, model axes; the poles lie on the y axis.
    """
    polar = np.linspace(0.0, np.pi, rings)[1:-1, None]
    around = np.linspace(0.0, 2.0 * np.pi, sectors, endpoint=False)[None, :]
    unit = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.cos(around), np.cos(polar), np.sin(polar) * np.sin(around)
        ),
        axis=-1,
    ).reshape(-1, 3)
    unit = np.concatenate([unit, [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    return MESH_EXTENT.mean(axis=0) + unit * (MESH_EXTENT[1] - MESH_EXTENT[0]) / 2.0
