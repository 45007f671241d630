"""The 14-point face model of the normalisation and the meshes of its frame check.

Model axes: x to the right of the image, y down, z into the head; millimetres; the origin is the
mean of the four eye corners. Facts: ``swook/faze_preprocess`` (the 14 points are vertices of the
Surrey Face Model's mean shape), ``patrikhuber/eos`` (layout of the dense mesh's file).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

FACE_POINTS = np.array(
    [
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
    ]
)
"""(14, 3) float64, mm: nose ridge (0-3), nose base (4-8), eye corners (9-12), face centre (13)."""
FACE_POINTS.setflags(write=False)

FACE_CENTRE = 13
LEFT_EYE = (9, 10)
"""Rows of the outer and inner corner of the eye at the *left of the image*."""
RIGHT_EYE = (11, 12)
INNER_CORNERS = (10, 11)
LANDMARK_NUMBERS = (28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 40, 43, 46)
"""iBUG-68 numbers (1-based) of rows 0-12."""

MESH_EXTENT = np.array([[-74.6, -82.6, -33.4], [74.0, 105.3, 73.5]])
"""(2, 3) mm: least and greatest x, y, z of the mean dense mesh in model axes."""

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
