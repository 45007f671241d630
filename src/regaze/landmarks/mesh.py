"""478 points of a face, irises included, by MediaPipe's face mesh, and the 68 landmarks from them.

The network sees a square of 256 x 256 pixels in which the eyes lie level (``google/mediapipe``,
``face_landmark``: the detector's box, one and a half times as large, turned by its two eyes). Its
points 468 to 472 are the iris of the person's right eye, its centre first, 473 to 477 the left.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

import cv2
import numpy as np

from regaze.landmarks import blazeface
from regaze.landmarks.base import Detection, checked_boxes, choose_face, overlap
from regaze.landmarks.bundle import FACES, MESH, PACKAGE, SHA256, bundle_file, read_networks
from regaze.landmarks.ibug import fingerprint, ibug

SIDE = 256
POINTS = 478
RIGHT_IRIS, LEFT_IRIS = slice(468, 473), slice(473, 478)
"""The person's own right and left; the first of five points is the centre."""

_EYE_CORNERS = (33, 263)
"""Points of the outer corners of the person's right and left eye."""
_MARGIN = 1.5
_LEAST = 0.5
_LEAST_IN_TILE = 0.65
"""Scores of boxes. Tiles are many and show the detector parts of things, some of which it takes for
faces: a cat's at 0.53, flames at 0.58, where those of a group that was put together had 0.93."""
_FOLLOWED = 0.3
"""Overlap of a detector's box with a mesh's from which they are of one face."""
_SAME = 0.5
"""Overlap of two meshes' boxes from which they are of one face."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a photo.

    Attributes:
        points: (478, 2) float64 x, y in pixels, the centre of the top-left pixel at (0, 0).
        score: how sure the mesh is that it lies on a face, 0 to 1.
        box: (5,) left, top, right, bottom of the detector, and its score.
    """

    points: np.ndarray
    score: float
    box: np.ndarray

    @property
    def landmarks(self) -> np.ndarray:
        """(68, 2) float64 in the order of iBUG."""
        return ibug(self.points)

    @property
    def irises(self) -> np.ndarray:
        """(2, 5, 2): the person's right and left iris, each its centre and four edge points."""
        return np.stack([self.points[RIGHT_IRIS], self.points[LEFT_IRIS]])

    @property
    def extent(self) -> np.ndarray:
        """(4,) left, top, right, bottom of the points."""
        return np.concatenate([self.points.min(axis=0), self.points.max(axis=0)])


def crop_transform(face: np.ndarray) -> np.ndarray:
    """Return (2, 3) from pixels of the crop to pixels of the photo, pixel centres at integers.

    Args:
        face: (17,) of :func:`regaze.landmarks.blazeface.find`.
    """
    right, left = face[4:6], face[6:8]
    angle = np.arctan2(*(left - right)[::-1])
    scale = _MARGIN * (face[2:4] - face[:2]).max() / SIDE
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (face[:2] + face[2:4]) / 2.0
    return np.column_stack([turn, middle - turn @ np.full(2, (SIDE - 1) / 2.0)])


def cut(photo: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Return the crop (256, 256, 3) uint8; large faces are averaged down; black outside."""
    corners = transform @ np.array([[-1, SIDE, -1, SIDE], [-1, -1, SIDE, SIDE], [1, 1, 1, 1]])
    size = np.array(photo.shape[1::-1])
    low = np.clip(np.floor(corners.min(axis=1)).astype(int), 0, size)
    high = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 1, 0, size)
    if (high <= low).any():
        return np.zeros((SIDE, SIDE, 3), np.uint8)
    part = photo[low[1] : high[1], low[0] : high[0]]
    inner = transform - np.array([[0, 0, low[0]], [0, 0, low[1]]])
    share = 1.0 / np.hypot(*transform[:, 0])
    if share < 0.75:
        wanted = np.maximum(np.round((high - low) * share).astype(int), 1)
        part = cv2.resize(part, wanted.tolist(), interpolation=cv2.INTER_AREA)
        ratio = wanted / (high - low)
        inner = inner * ratio[:, None]
        inner[:, 2] += (ratio - 1.0) / 2.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(part, inner, (SIDE, SIDE), flags=flags)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold OpenCV to one thread: networks as small as these are slower in two."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class MeshDetector:
    """The subject's 68 landmarks in photos; see :class:`regaze.landmarks.base.LandmarkDetector`.

    Photos go through the networks one at a time, ``threads`` of them at once, so that results
    depend on nothing but the photo. There is no GPU in it.

    Args:
        threads: photos at a time.

    Raises:
        AssetError: the networks are not there; see :func:`regaze.landmarks.bundle.bundle_file`.
    """

    def __init__(self, threads: int = 1):
        self.threads = max(int(threads), 1)
        self.batch = 8 * self.threads
        self._bundle, self._own = bundle_file(), threading.local()
        self.attributes = {
            "detector": "mediapipe",
            "detector_version": f"{PACKAGE} {metadata.version(PACKAGE)}",
            "weights_sha256": SHA256,
            "table_sha256": fingerprint(),
        }

    def detect(self, photos: Sequence[np.ndarray], boxes: np.ndarray) -> list[Detection]:
        """Return the subject's face in each photo.

        Smaller faces are looked for only where the subject's is not among the larger ones.

        Raises:
            ValueError: the numbers of photos and boxes differ, or a photo is not (H, W, 3) uint8.
        """
        boxes = checked_boxes(photos, boxes)
        with _one_thread():
            if self.threads == 1:
                return list(map(self._subject, photos, boxes))
            with ThreadPoolExecutor(self.threads) as pool:
                return list(pool.map(self._subject, photos, boxes))

    def faces(self, photo: np.ndarray) -> list[Face]:
        """Return all faces of a photo (H, W, 3) uint8 R,G,B, the largest first.

        Those that are only seen in tiles of an eighth of the photo are looked for, which takes a
        second, where there are no larger ones.
        """
        found: list[Face] = []
        with _one_thread():
            for level in range(blazeface.LEVELS):
                found += self._more(photo, level, found)
            found = found or self._more(photo, blazeface.LEVELS, [])
        return sorted(found, key=lambda face: -np.prod(face.extent[2:] - face.extent[:2]))

    def all_faces(self, photo: np.ndarray) -> list[np.ndarray]:
        """Return the landmarks (68, 2) of all faces of a photo, the largest first."""
        return [face.landmarks for face in self.faces(photo)]

    def large_faces(self, photo: np.ndarray, known: Sequence[Face] = ()) -> list[Face]:
        """Return the faces that are seen in a photo as a whole, the largest first: those of an
        eighth of it and more, and none where the detector sees no other than ``known`` ones."""
        places = np.array([face.extent for face in known]).reshape(-1, 4)
        with _one_thread():
            rows = blazeface.find(photo, self._boxes, 0, _LEAST) if known else None
            if known and all((overlap(places, row[:4]) > _FOLLOWED).any() for row in rows):
                return []
            found = self._more(photo, 0, known)
        return sorted(found, key=lambda face: -np.prod(face.extent[2:] - face.extent[:2]))

    def follow(self, photo: np.ndarray, last: Face) -> Face | None:
        """Return a face of the frame before in a photo, which is looked for where it was, without
        the detector; None where it is no longer there."""
        low, high = last.points.min(axis=0), last.points.max(axis=0)
        eyes = last.points[list(_EYE_CORNERS)].ravel()
        row = np.concatenate([low, high, eyes, np.zeros(2 * blazeface.POINTS - 4), last.box[4:]])
        size = np.array(photo.shape[1::-1])
        if ((high < 0) | (low >= size)).any():
            return None
        with _one_thread():
            face = self._face(photo, row)
        return face if face.score >= _LEAST else None

    def filling(self, picture: np.ndarray) -> Face | None:
        """Return the largest face that is seen in a picture (H, W, 3) uint8 R,G,B as a whole, of
        those that take up a good part of it, as of a patch; None where there is none."""
        with _one_thread():
            found = self._more(picture, 0, [])
        return max(found, key=lambda face: np.prod(face.extent[2:] - face.extent[:2]), default=None)

    def _subject(self, photo: np.ndarray, box: np.ndarray) -> Detection:
        size = (photo.shape[1], photo.shape[0])
        found: list[Face] = []
        for level in range(blazeface.LEVELS):
            found += self._more(photo, level, found)
            rows = np.array([face.box for face in found]).reshape(-1, 5)
            chosen = choose_face(rows, box, size)
            if chosen is not None:
                face = found[chosen]
                return Detection(
                    landmarks=face.landmarks.astype(np.float32),
                    score=face.score,
                    box=face.box[:4].astype(np.float32),
                    box_score=float(face.box[4]),
                    irises=face.irises.astype(np.float32),
                    faces_found=len(found),
                    status="",
                )
        return Detection(faces_found=len(found), status="other_face" if found else "no_face")

    def _more(self, photo: np.ndarray, level: int, known: Sequence[Face]) -> list[Face]:
        """Faces of one level that are not among those of the levels before."""
        extents = [face.extent for face in known]
        found = []
        least = _LEAST_IN_TILE if level else _LEAST
        for row in blazeface.find(photo, self._boxes, level, least):
            face = self._face(photo, row)
            if face.score < _LEAST:
                continue
            if not extents or overlap(np.array(extents), face.extent).max() < _SAME:
                extents.append(face.extent)
                found.append(face)
        return found

    def _face(self, photo: np.ndarray, row: np.ndarray) -> Face:
        transform = crop_transform(row)
        crop = cut(photo, transform).astype(np.float32) / 255.0
        network = self._networks[1]
        network.setInput(np.ascontiguousarray(crop.transpose(2, 0, 1)[None]))
        points, flag = network.forward(("Identity", "Identity_1"))
        inside = points.reshape(POINTS, 3)[:, :2].astype(np.float64) - 0.5
        seen = inside @ transform[:, :2].T + transform[:, 2]
        score = 1.0 / (1.0 + np.exp(-float(flag.ravel()[0])))
        return Face(seen, float(score), np.array([*row[:4], row[-1]]))

    def _boxes(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # One at a time: OpenCV answers a batch in the order of anchors, the fine ones of all its
        # pictures first.
        network = self._networks[0]
        network.setInput(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
        logits, raw = network.forward(("classificators", "regressors"))
        return logits.ravel(), raw.reshape(-1, raw.shape[-1])

    @property
    def _networks(self) -> list[cv2.dnn.Net]:
        """This thread's own."""
        if not hasattr(self._own, "networks"):
            self._own.networks = read_networks(self._bundle, FACES, MESH)
        return self._own.networks
