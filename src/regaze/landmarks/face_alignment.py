"""68 landmarks by the ``face-alignment`` package, from weights on disk and nowhere else.

Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?" (ICCV
2017); faces by S3FD (Zhang et al., ICCV 2017). Networks, post-processing of boxes, mirroring and
the constants of the crop are the package's (``1adrianb/face-alignment`` 1.5). Its ready-made
``FaceAlignment`` is not used, for it downloads weights when it is built, takes one photo at a time
and cuts landmarks down to whole pixels. Here:

- both files hold plain state dicts, read without unpickling anything but tensors;
- landmarks keep the quarter of a heatmap cell that the peak is known to;
- the crop's corner and side are whole pixels, and the way back to the photo uses these very
  numbers; large faces are averaged down, where the package skips pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.detection.sfd.sfd_detector import SFDDetector
from face_alignment.models import FAN
from face_alignment.utils import (
    CENTER_Y_OFFSET,
    CROP_RESOLUTION,
    HEATMAP_RESOLUTION,
    REFERENCE_SCALE,
    SCALE_FACTOR,
    flip,
)

from regaze.assets import AssetError
from regaze.landmarks.base import Detection, checked_boxes, choose_face
from regaze.provenance import file_sha256
from regaze.weights import load_strictly, state_dict_of, torch_content

STACKS = 4
"""Hourglasses of the published network, 2DFAN-4."""

_LEAST_SIDE = 64
"""S3FD halves a picture five times before it looks for large faces."""


class Detector:
    """The subject's 68 landmarks in photos.

    On a CPU photos go through the networks one at a time, which is no slower there and makes
    results independent of ``batch`` to the last bit; on a GPU they go in batches, and results
    depend on it by rounding only.

    Args:
        landmark_weights: state dict of 2DFAN-4.
        face_weights: state dict of S3FD.
        device: ``cpu``, ``cuda``, or ``auto`` for the GPU when there is one.
        batch: photos at a time.
        max_side: photos are shrunk to this before faces are looked for; landmarks always come
            from the full photo.

    Raises:
        AssetError: a file is missing, no file of tensors, or of another network.
        ValueError: an unknown device, or ``cuda`` without one.
    """

    def __init__(
        self,
        landmark_weights: str | Path,
        face_weights: str | Path,
        *,
        device: str = "auto",
        batch: int = 16,
        max_side: int = 960,
    ):
        self.device = _device(device)
        self.batch, self.max_side = int(batch), int(max_side)
        self.network = _load(FAN(STACKS), landmark_weights).to(self.device)
        self.faces = _Faces(_load(s3fd(), face_weights).to(self.device), self.device)
        self.attributes = {
            "detector": "face-alignment",
            "detector_version": metadata.version("face-alignment"),
            "landmark_weights_sha256": file_sha256(landmark_weights),
            "face_weights_sha256": file_sha256(face_weights),
            "max_side": self.max_side,
        }

    def detect(self, photos: Sequence[np.ndarray], boxes: np.ndarray) -> list[Detection]:
        """Return the subject's face in each photo; see
        :class:`~regaze.landmarks.base.LandmarkDetector` and
        :func:`~regaze.landmarks.base.choose_face`.

        Raises:
            ValueError: the numbers of photos and boxes differ, or a photo is not (H, W, 3) uint8.
        """
        boxes = checked_boxes(photos, boxes)
        results: list[Detection] = []
        crops, squares, wanted = [], [], []
        for photo, faces, box in zip(photos, self.find_faces(photos), boxes, strict=True):
            chosen = choose_face(faces, box, (photo.shape[1], photo.shape[0]))
            if chosen is None:
                status = "other_face" if len(faces) else "no_face"
                results.append(Detection(faces_found=len(faces), status=status))
                continue
            square = crop_square(faces[chosen])
            crops.append(cut(photo, square))
            squares.append(square)
            wanted.append((len(results), faces[chosen], len(faces)))
            results.append(Detection())
        if crops:
            peaks, scores = self._peaks(np.stack(crops))
            points = to_photo(peaks, np.array(squares))
            for (index, face, count), row, score in zip(wanted, points, scores, strict=True):
                results[index] = Detection(
                    landmarks=row.astype(np.float32),
                    score=float(score),
                    box=face[:4].astype(np.float32),
                    box_score=float(face[4]),
                    faces_found=count,
                    status="",
                )
        return results

    def find_faces(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return (m, 5) float64 per photo: left, top, right, bottom (pixels from the photo's
        corner) and score of every face, best first."""
        found: list[np.ndarray] = [np.zeros((0, 5))] * len(photos)
        groups: dict[tuple, list[int]] = {}
        shrunk = [_shrink(photo, self.max_side) for photo in photos]
        for index, (picture, _) in enumerate(shrunk):
            groups.setdefault(picture.shape, []).append(index)
        for members in groups.values():
            for part in self._parts(members):
                pictures = np.stack([shrunk[index][0] for index in part]).transpose(0, 3, 1, 2)
                for index, rows in zip(part, self.faces.boxes(pictures), strict=True):
                    size = (photos[index].shape[1], photos[index].shape[0])
                    found[index] = _in_photo(rows, shrunk[index][1], size)
        return found

    def all_faces(self, photo: np.ndarray) -> list[np.ndarray]:
        """Return the landmarks (68, 2) float64 of all faces of a photo, the largest first."""
        boxes = self.find_faces([photo])[0][:, :4]
        if not len(boxes):
            return []
        sides = boxes[:, 2:] - boxes[:, :2]
        order = np.argsort(-sides.prod(1), kind="stable")
        given = np.concatenate([boxes[:, :2], sides], 1)[order]
        rows = self.detect([photo] * len(given), given)
        return [row.landmarks.astype(np.float64) for row in rows if not row.status]

    def _parts(self, items: Sequence) -> list[Sequence]:
        step = self.batch if self.device == "cuda" else 1
        return [items[start : start + step] for start in range(0, len(items), step)]

    def _peaks(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, 68, 2) peaks as shares of the crop's side, and (n,) mean peak heights."""
        heatmaps = []
        for part in self._parts(crops):
            pictures = torch.from_numpy(part.transpose(0, 3, 1, 2).astype(np.float32) / 255.0)
            with torch.inference_mode():
                pictures = pictures.to(self.device)
                upright = self.network(pictures)[-1]
                mirrored = flip(self.network(flip(pictures))[-1], is_label=True)
                heatmaps.append(((upright + mirrored) / 2.0).cpu().numpy())
        return find_peaks(np.concatenate(heatmaps))


class _Faces(SFDDetector):
    """The package's S3FD detector around a network that is loaded already."""

    def __init__(self, network: torch.nn.Module, device: str, threshold: float = 0.5):
        # Not SFDDetector's own, which would read or download weights.
        super(SFDDetector, self).__init__(device, verbose=False)
        self.filter_threshold = threshold
        self.face_detector = network

    def boxes(self, pictures: np.ndarray) -> list[np.ndarray]:
        """Return (m, 5) boxes for each of (n, 3, H, W) uint8 R,G,B pictures of one size."""
        found = self.detect_from_batch(torch.from_numpy(np.ascontiguousarray(pictures)))
        return [np.array(rows, np.float64).reshape(-1, 5) for rows in found]


def _device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, found {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but there is no usable GPU")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def _load(network: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """Return ``network`` with the weights of a file, ready for inference."""
    name = type(network).__name__
    try:
        state = state_dict_of(torch_content(path, f"expected a state dict of {name}"), path, name)
        load_strictly(network, state, f"{path}: not the weights of {name}")
    except FileNotFoundError as error:
        raise AssetError(f"{path}: no such file; expected weights of {name}") from error
    except (OSError, ValueError) as error:
        raise AssetError(str(error)) from None
    return network.eval()


def _shrink(photo: np.ndarray, max_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture that faces are looked for in, and its (2,) pixels per photo pixel."""
    height, width = photo.shape[:2]
    share = min(1.0, max_side / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    scale = np.array(size) / (width, height)
    if share < 1.0:
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    below, right = (max(0, _LEAST_SIDE - side) for side in photo.shape[:2])
    if below or right:
        photo = cv2.copyMakeBorder(photo, 0, below, 0, right, cv2.BORDER_CONSTANT)
    return photo, scale


def _in_photo(rows: np.ndarray, scale: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale boxes back to the photo; drop those that are no boxes or far larger than it."""
    rows = rows.copy()
    rows[:, :4] /= np.tile(scale, 2)
    sides = rows[:, 2:4] - rows[:, :2]
    with np.errstate(invalid="ignore"):
        good = np.isfinite(rows).all(axis=1) & (sides > 1.0).all(axis=1)
        good &= (sides < 2.0 * max(size)).all(axis=1)
    return rows[good]


def crop_square(face: np.ndarray) -> tuple[int, int, int]:
    """Return left, top and side, in whole pixels, of the square that the landmark network sees.

    The network was trained on squares around boxes like S3FD's, centred a little above the
    box's middle (``1adrianb/face-alignment``).
    """
    left, top, right, bottom = (float(value) for value in face[:4])
    side = SCALE_FACTOR * (right - left + bottom - top) / REFERENCE_SCALE
    x = (left + right) / 2.0 - side / 2.0
    y = (top + bottom) / 2.0 - CENTER_Y_OFFSET * (bottom - top) - side / 2.0
    return round(x), round(y), max(1, round(side))


def cut(photo: np.ndarray, square: tuple[int, int, int]) -> np.ndarray:
    """Return a square of a photo at the network's resolution; black outside the photo."""
    left, top, side = square
    height, width = photo.shape[:2]
    x0, x1 = np.clip([left, left + side], 0, width)
    y0, y1 = np.clip([top, top + side], 0, height)
    crop = np.zeros((side, side, 3), np.uint8)
    crop[y0 - top : y1 - top, x0 - left : x1 - left] = photo[y0:y1, x0:x1]
    way = cv2.INTER_AREA if side > CROP_RESOLUTION else cv2.INTER_LINEAR
    return cv2.resize(crop, (CROP_RESOLUTION, CROP_RESOLUTION), interpolation=way)


def find_peaks(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the peaks of (n, 68, 64, 64) heatmaps and the (n,) mean of their heights.

    Peaks (n, 68, 2) x, y are shares of the heatmap's side. As in the paper's own code a peak lies
    a quarter of a cell off the middle of its cell, towards the higher neighbour.
    """
    count, points, rows, columns = heatmaps.shape
    if (rows, columns) != (HEATMAP_RESOLUTION, HEATMAP_RESOLUTION):
        raise ValueError(
            f"heatmaps: expected {HEATMAP_RESOLUTION} cells a side, found {rows} x {columns}"
        )
    flat = heatmaps.reshape(count, points, rows * columns)
    best = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, best[..., None], axis=2)[..., 0].mean(axis=1)
    y, x = np.divmod(best, columns)
    inner = (x > 0) & (x < columns - 1) & (y > 0) & (y < rows - 1)
    near_x, near_y = np.clip(x, 1, columns - 2), np.clip(y, 1, rows - 2)
    i, j = np.indices(best.shape)
    slope_x = heatmaps[i, j, near_y, near_x + 1] - heatmaps[i, j, near_y, near_x - 1]
    slope_y = heatmaps[i, j, near_y + 1, near_x] - heatmaps[i, j, near_y - 1, near_x]
    slopes = np.sign(np.stack([slope_x, slope_y], axis=-1)) * inner[..., None]
    return (np.stack([x, y], axis=-1) + 0.25 * slopes + 0.5) / HEATMAP_RESOLUTION, scores


def to_photo(peaks: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return (n, 68, 2) shares of (n, 3) squares as photo pixels, pixel centres at integers."""
    return squares[:, None, :2] + peaks * squares[:, None, 2:] - 0.5
