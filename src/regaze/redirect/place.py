"""Where a face to be redirected comes from: a photo, or a row of a faces file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from regaze.face3d.photo_faces import PhotoFace, faces_of_photo
from regaze.faces import FacesReader, open_row
from regaze.landmarks.base import FindFaces
from regaze.normalise.camera import intrinsic_matrix, pad_distortion
from regaze.normalise.ffhq import square_from
from regaze.normalise.head_pose import HeadPoseError, estimate_head_pose, require_fit
from regaze.normalise.photo import read_photo
from regaze.redirect.adjust import Adjustment, ColourMatch
from regaze.redirect.frames import STORED, AlignedView, Face, aligned_view
from regaze.redirect.paste import View
from regaze.sources.devices import assumed_camera
from regaze.sources.records import safe_name
from regaze.sources.supplementary import SUPPLEMENTARY_NAMES, Supplemented
from regaze.views import FFHQ, is_ffhq, told_view, why_another

_OTHER_PHOTO = 12.0
"""Mean difference in grey levels from which a photo is not the one that a patch came from."""


@dataclass(frozen=True)
class Lens:
    """What the user knows of the camera that took the photos; None where nothing is.

    Attributes:
        focal: focal length in pixels; the principal point is then the photo's middle.
        intrinsics: fx, fy, cx, cy in pixels.
        distortion: OpenCV coefficients k1, k2, p1, p2[, k3[, ...]]; 4, 5, 8, 12 or 14 of them.
    """

    focal: float | None = None
    intrinsics: Sequence[float] | None = None
    distortion: Sequence[float] | None = None

    def __post_init__(self):
        if self.focal is not None and self.intrinsics is not None:
            raise ValueError("camera: expected a focal length or intrinsics, found both")
        camera = [] if self.intrinsics is None else [float(v) for v in self.intrinsics]
        if self.intrinsics is not None and len(camera) != 4:
            raise ValueError(f"intrinsics: expected fx fy cx cy, found {camera}")
        lens = [] if self.distortion is None else [float(v) for v in self.distortion]
        focal = [] if self.focal is None else [float(self.focal)]
        for name, values in (("focal", focal), ("intrinsics", camera[:2])):
            if not all(np.isfinite(v) and v > 0 for v in values):
                raise ValueError(f"{name}: expected positive pixels, found {values}")
        if not np.isfinite([*camera, *lens]).all():
            raise ValueError(f"camera: expected finite numbers, found {[*camera, *lens]}")
        pad_distortion(np.zeros(4) if self.distortion is None else self.distortion)

    def camera(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, str]:
        """(4,) intrinsics of photos of ``size``, (14,) lens coefficients, and where from."""
        lens = pad_distortion(np.zeros(4) if self.distortion is None else self.distortion)
        if self.intrinsics is not None:
            return np.asarray(self.intrinsics, np.float64), lens, "given intrinsics"
        if self.focal is not None:
            middle = (self.focal, self.focal, size[0] / 2.0, size[1] / 2.0)
            return np.array(middle), lens, "given focal length"
        made = assumed_camera(np.array([size]), 1.0)[0]
        return made, lens, "assumed: focal length as long as the photo's longer side"


@dataclass(frozen=True, eq=False)
class Place:
    """A face, normalised.

    Attributes:
        name: of the files that are made from it.
        source: what to call it in records.
        patch: (h, w, 3) uint8 RGB.
        head: (2,) pitch, yaw in radians.
        gaze: (2,) radians, NaN where unknown.
        photo: (H, W, 3) uint8 RGB, None where there is nothing to paste into.
        view: how the patch lies in the photo, None without one.
        landmarks: (68, 2) patch pixels, None where unknown.
        points: (478, 2) of the face mesh in the photo, where a tracker has them; None where it is
            laid over the face when it is needed.
        facts: what else is worth telling: pose, camera, faces found.
        faces: the faces file that it is a row of (``facts`` has ``person`` and ``row``), or None.
        colours: how models want its colours, None: as they are.
        reading: how an estimator of another view sees the photo, None: as the model does.
        mask: (h, w) uint8 of 0 to 255, how much of a pixel is head; None where nobody said.
        per_mm: pixels of the photo per mm at the face, None where no head pose was fitted to it.
    """

    name: str
    source: str
    patch: np.ndarray
    head: np.ndarray
    gaze: np.ndarray
    photo: np.ndarray | None = None
    view: View | None = None
    landmarks: np.ndarray | None = None
    facts: dict = field(default_factory=dict)
    faces: str | None = None
    colours: ColourMatch | None = None
    reading: View | None = None
    mask: np.ndarray | None = None
    per_mm: float | None = None
    points: np.ndarray | None = None

    @property
    def shown(self) -> np.ndarray:
        """The patch (h, w, 3) uint8 as it is shown to models."""
        return self.matched(self.patch)

    def matched(self, patch: np.ndarray) -> np.ndarray:
        """Another patch of the same face, as models want its colours."""
        return patch if self.colours is None else self.colours.apply(patch)


def photo_place(
    path: str | os.PathLike,
    *,
    size_px: int,
    trained_on: Mapping[str, Any] | None = None,
    landmarks: str | os.PathLike | None = None,
    find: FindFaces | None = None,
    face: int = 0,
    lens: Lens | None = None,
    adjust: Adjustment | None = None,
    read_in: Mapping[str, Any] | None = None,
    face_model: str = "sfm14",
) -> Place:
    """Normalise, or align, one face of a photo.

    Args:
        path: the photo; turned as its EXIF orientation says.
        size_px: side of the model's pictures; patches are at least that large.
        trained_on: the model's view, see :func:`regaze.views.told_view`; None: that of ``sted``.
        landmarks: file or folder, see :func:`regaze.face3d.photo_faces.landmarks_of`.
        find: a detector, used without landmarks.
        face: which face, 0 the largest, or the first of the landmarks.
        lens: the camera.
        adjust: how it is adjusted to the model; None: not at all.
        read_in: the estimator's view where it is another than the model's.
        face_model: what the head pose is fitted with.

    Raises:
        ValueError: no face, no pose, or a file that cannot be read; the message names the photo.
    """
    found = faces_of_photo(path, landmarks=landmarks, find=find)
    if not 0 <= face < len(found):
        raise ValueError(f"{path}: face {face}: expected one of 0 to {len(found) - 1}")
    options = {"size_px": size_px, "trained_on": trained_on, "lens": lens, "adjust": adjust}
    return face_place(path, found[face], **options, read_in=read_in, face_model=face_model)


def face_place(
    path: str | os.PathLike,
    one: PhotoFace,
    *,
    size_px: int,
    trained_on: Mapping[str, Any] | None = None,
    lens: Lens | None = None,
    adjust: Adjustment | None = None,
    read_in: Mapping[str, Any] | None = None,
    face_model: str = "sfm14",
    pose: np.ndarray | None = None,
) -> Place:
    """Normalise, or align, a face whose landmarks are known.

    Args:
        path: what messages call the photo.
        one: the face.
        size_px, trained_on, lens, adjust, read_in, face_model: see :func:`photo_place`.
        pose: (6,) of the head where it is known, see :class:`regaze.redirect.frames.Face`; None:
            it is fitted to the landmarks.

    Raises:
        ValueError: no pose, or a face that cannot be normalised.
    """
    photo = one.picture
    size = (photo.shape[1], photo.shape[0])
    camera, distortion, known = (lens or Lens()).camera(size)
    error = None
    if pose is None:
        try:
            pose, error = estimate_head_pose(one.landmarks, camera, distortion, face_model)
        except HeadPoseError as problem:
            raise ValueError(f"{path}: {problem}") from None
    known_face = Face(size, one.landmarks, camera, distortion, pose, face_model)
    made = known_face.normalised(trained_on, size_px)
    if made.problem[0]:
        raise ValueError(f"{path}: expected a face that can be normalised, found {made.problem[0]}")
    try:
        view = known_face.seen(trained_on, size_px)
        view.box(size)
        if error is not None:
            require_fit(one.landmarks, error, face_model)
        reading = None if read_in is None else known_face.seen(read_in, size_px)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    adjust = adjust or Adjustment()
    points, aligned, framing = known_face.landmarks_in(view), None, {}
    if isinstance(view, AlignedView):
        # Eyes are in place by the framing itself.
        framing = {"framing": FFHQ, "frame_outside": view.square.outside(size)}
    else:
        view, points, aligned = adjust.aligned(view, points, made.head[0])
    patch = view.take(photo)
    colours = adjust.colours_of(patch)
    return Place(
        name=one.name if one.faces_found == 1 else f"{one.name}_face{one.index}",
        source=one.source,
        patch=patch,
        head=made.head[0],
        gaze=np.full(2, np.nan),
        photo=photo,
        view=view,
        landmarks=points,
        colours=colours,
        reading=reading,
        per_mm=float(camera[0] / np.linalg.norm(made.origin[0])),
        facts={
            **framing,
            "faces_found": one.faces_found,
            "face": one.index,
            "camera": camera.tolist(),
            "camera_from": known,
            "distortion": distortion.tolist() if distortion.any() else [],
            "head_pose": pose.tolist(),
            "head_pose_error_px": error,
            "head_from": f"landmarks and {face_model}",
            "aligned": aligned,
            "colours": None if colours is None else colours.facts(),
        },
    )


def row_place(
    place: str,
    *,
    size_px: int,
    trained_on: Mapping[str, Any] | None = None,
    photo_root: str | os.PathLike | None = None,
    lens: Lens | None = None,
) -> Place:
    """The face of ``FACES.h5:person/index``.

    Args:
        place: the row.
        size_px: side of the model's pictures.
        trained_on: the model's view, see :func:`regaze.views.told_view`; None where nothing is
            known of it.
        photo_root: folder of the photos that the file's ``file_name`` is relative to. The row's
            photo then is what is pasted into; its camera is that of ``lens``, or of
            ``supplementary.h5`` in this folder.
        lens: the camera, if there is no such file.

    Raises:
        ValueError: no such row, a patch of a shape that models are not made for or of another view
            than the model's, or a photo that is not the patch's.
    """
    reader, number = open_row(place)
    path, _, row = place.rpartition(":")
    person, _, index = row.rpartition("/")
    width, height = reader.patch_size
    if width != height:
        raise ValueError(
            f"{place}: expected square patches of the whole face (variant sted), found "
            f"{width} x {height}: eye strips (variant faze) cannot be redirected"
        )
    if width < size_px:
        raise ValueError(
            f"{place}: expected patches of at least {size_px} pixels, as the model's, found {width}"
        )
    if fault := why_another(trained_on, told_view(reader.attributes)):
        raise ValueError(
            f"{place}: the model was trained on another view of faces: {fault}; name a row of "
            "faces in its view, or the photo itself"
        )
    labels = reader.labels[number].astype(np.float64)
    patch = reader.pixels([number])[0]
    points = reader.dataset("landmarks", [number])[0] if reader.has("landmarks") else None
    if points is not None and not np.isfinite(points).all():
        points = None
    facts = {"head_from": "labels", "row": int(index), "person": person}
    photo = view = None
    if photo_root is not None:
        photo, view, known = _photo_of(place, reader, number, Path(photo_root), lens or Lens())
        facts |= {"camera": view.camera.tolist(), "camera_from": known}
        miss = np.abs(view.take(photo).astype(float) - patch).mean()
        if miss > _OTHER_PHOTO:
            raise ValueError(
                f"{place}: the photo below {photo_root} does not give this patch (mean difference "
                f"{miss:.1f} grey levels): expected its own photo and camera (--intrinsics)"
            )
    return Place(
        name=f"{person}_{index}",
        source=f"{Path(path).name}:{row}",
        patch=patch,
        head=labels[2:4],
        gaze=labels[:2],
        photo=photo,
        view=view,
        landmarks=None if points is None else points.astype(np.float64),
        facts=facts,
        faces=path,
    )


def _photo_of(place: str, reader: FacesReader, number: int, root: Path, lens: Lens):
    """Photo, view and where the camera is from, of a row."""
    placed = ("alignment",) if is_ffhq(reader.attributes) else ("rotation", "gaze_origin")
    for name in ("file_name", *placed):
        if not reader.has(name):
            raise ValueError(f"{place}: expected the dataset {name} to paste back, found none")
    stored = reader.dataset("file_name", [number])[0]
    name = stored.decode("utf-8", "replace") if isinstance(stored, bytes) else str(stored)
    if not safe_name(name):
        raise ValueError(f"{place}: file_name: expected a name below the photos, found {name!r}")
    photo = cv2.cvtColor(read_photo(root / name, root), cv2.COLOR_BGR2RGB)
    size = (photo.shape[1], photo.shape[0])
    camera, distortion, known = lens.camera(size)
    labels = [root / one for one in SUPPLEMENTARY_NAMES if (root / one).is_file()]
    if lens.intrinsics is None and lens.focal is None and labels:
        person = reader.persons[reader.person_of[number]]
        records = Supplemented(root, "photos", labels[0]).read(person)
        if name in records.file_name:
            row = records.file_name.index(name)
            camera = np.asarray(records.camera_parameters[row], np.float64)
            distortion = pad_distortion(records.distortion[row])
            known = labels[0].name
    if is_ffhq(reader.attributes):
        matrix = reader.dataset("alignment", [number])[0]
        square = square_from(matrix, reader.patch_size[0])
        return photo, aligned_view(square, size, reader.patch_size[0]), known
    rotation = reader.dataset("rotation", [number])[0]
    origin = reader.dataset("gaze_origin", [number])[0]
    attributes = reader.attributes
    width, height = reader.patch_size
    focal = float(attributes.get("focal", 500.0 * width / STORED))
    distance = float(attributes.get("distance", 600.0))
    virtual = intrinsic_matrix(np.array([focal, focal, width / 2.0, height / 2.0]))
    scale = np.diag([1.0, 1.0, distance / np.linalg.norm(origin)])
    homography = virtual @ scale @ rotation @ np.linalg.inv(intrinsic_matrix(camera))
    return photo, View(homography, camera, distortion, (width, height)), known
