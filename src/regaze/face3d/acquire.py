"""3-D face acquisition: from photos to meshes, codes, landmarks, pictures and turntables.

A folder per face, laid out as the image demo of ``radekd91/emoca`` writes it, with the landmark
files of ``yfeng95/DECA``'s; codes here are complete (camera, light, eye pose, crop), so that every
picture can be drawn again. Eyes look where they are told: neither encoder sees where they do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn import functional as F

from regaze.face3d.crop import crop_box, landmark_bounds, warp
from regaze.face3d.deca import Deca, encoder_identity
from regaze.face3d.drawing import to_drawing, to_pixels, to_uint8, write_png
from regaze.face3d.encoders import CODE, DETAIL
from regaze.face3d.gaze import eye_pose_from_labels
from regaze.face3d.obj import write_obj
from regaze.face3d.patches import LEAST_EXTENT, crop_patches
from regaze.face3d.photo_faces import (
    FindFaces,
    NoFace,
    PhotoFace,
    face_of_row,
    faces_of_photo,
    is_row,
    list_photos,
)
from regaze.face3d.render import Renderer
from regaze.face3d.shading import sh_shading, vertex_normals
from regaze.face3d.turntable import turntable, write_gif
from regaze.face3d.uv import blend_texture, dense_mesh
from regaze.normalise.photo import UnreadableImage
from regaze.outputs import replacing, write_json

log = logging.getLogger(__name__)

PICTURE = 224
"""Side in pixels of the pictures, whatever the encoder's crop."""

AWAY, FACING = 0.2, 0.6
"""Normals' part towards the viewer from which the photo's colours begin, and fully, count."""

EDGE = 17
"""Texels over which the photo's colours fade out at its edge."""

_MARGIN = 8


@dataclass(frozen=True)
class Acquired:
    """What became of one picture.

    Attributes:
        source: the picture.
        folders: names of the folders of its faces; empty when there was none.
        reason: why there was none, or "".
    """

    source: str
    folders: tuple[str, ...]
    reason: str = ""


def encoder_crop(face: PhotoFace, encoder: Deca) -> tuple[Tensor, np.ndarray]:
    """The encoder's crop (1, 3, S, S) of a face and its transform (3, 3) from picture to crop.

    Published networks get the bilinear crop that they were trained on; those of the workflow the
    crop that they were trained on, which averages where pixels are many.
    """
    if np.ptp(face.landmarks, axis=0).sum() < LEAST_EXTENT:
        raise NoFace(f"{face.source}: the landmarks span no face")
    size = encoder.size_px
    if encoder.D_detail is not None:
        transform = crop_box(landmark_bounds(face.landmarks)).transform(size)
        return warp(face.picture, transform, size)[None], transform
    box = crop_box(landmark_bounds(face.landmarks))
    height, width = face.picture.shape[:2]
    # only the part that the crop sees: photos are large
    low = np.floor(box.centre - box.size / 2 - _MARGIN).astype(int).clip(0)
    high = np.ceil(box.centre + box.size / 2 + _MARGIN).astype(int)
    part = face.picture[low[1] : min(high[1], height), low[0] : min(high[0], width)]
    if not part.size:
        raise NoFace(f"{face.source}: the face lies outside the picture")
    made = crop_patches(part[None], (face.landmarks - low)[None], size)
    shift = np.eye(3)
    shift[:2, 2] = -low
    return made.images, made.transforms[0] @ shift


def acquire_face(
    face: PhotoFace,
    encoder: Deca,
    out: str | os.PathLike,
    *,
    gaze: Sequence[float] | None = None,
    extract_texture: bool = True,
    animate: bool = True,
) -> Path:
    """Acquire one face; its folder is replaced as a whole.

    Args:
        face: the picture with its landmarks.
        encoder: in evaluation mode.
        out: folder of the folders.
        gaze: pitch, yaw in radians relative to the picture's camera, pitch positive upwards, yaw
            towards the left of the picture; None takes the face's own, or else straight ahead.
        extract_texture: texture from the photo where the chart's mask allows, synthetic elsewhere;
            False: synthetic everywhere.
        animate: write the turntable.

    Returns:
        The face's folder.

    Raises:
        NoFace: the landmarks span no face, or one outside the picture.
        ValueError: ``gaze`` is not two finite angles.
    """
    device = encoder.device
    crop, transform = encoder_crop(face, encoder)
    codes = encoder.encode(crop.to(device))
    given = face.gaze if gaze is None else np.asarray(gaze, np.float64)
    eye_pose = torch.zeros(1, 6, device=device)
    if given is not None:
        if given.shape != (2,) or not (np.abs(given) < np.pi / 2).all():
            raise ValueError(f"gaze: expected pitch and yaw below a right angle, found {given}")
        label = torch.as_tensor(given, dtype=torch.float32, device=device)[None]
        eye_pose = eye_pose_from_labels(label, codes["pose"][:, :3])
    codes["eye_pose"] = eye_pose
    folder = Path(out) / face.folder
    with replacing(folder) as part, torch.no_grad():
        part.mkdir(parents=True)
        drawer = _Drawer(face, encoder, codes, transform, extract_texture)
        drawer.write_pictures(part)
        drawer.write_meshes(part)
        drawer.write_landmarks(part)
        _write_codes(part, face, encoder, codes, transform, given)
        if animate:
            write_gif(part / "turntable.gif", turntable(encoder, codes, drawer.texture))
    return folder


def acquire(
    places: Iterable[str | os.PathLike],
    encoder: Deca,
    out: str | os.PathLike,
    *,
    landmarks: str | os.PathLike | None = None,
    find: FindFaces | None = None,
    **options,
) -> list[Acquired]:
    """Acquire all faces of photos; ``acquired.json`` and ``codes.parquet`` in ``out`` tell.

    Args:
        places: photos, folders of photos, or rows ``FACES.h5:person/index``.
        encoder: in evaluation mode.
        out: folder of the faces' folders.
        landmarks, find: see :func:`regaze.face3d.photo_faces.faces_of_photo`.
        options: of :func:`acquire_face`.

    Returns:
        A line per photo. Pictures that cannot be read or have no face are recorded and passed over.

    Raises:
        FileNotFoundError: a photo, or landmarks, are not there.
        ValueError: landmarks cannot be read, or two faces would get one folder.
        NoFace: nothing at all was acquired; the reasons are in the message.
    """
    done: list[Acquired] = []
    taken: dict[str, str] = {}
    for place in places:
        row = is_row(str(place))
        for picture in [str(place)] if row else list_photos(place):
            try:
                if row:
                    faces = [face_of_row(picture)]
                else:
                    faces = faces_of_photo(picture, landmarks=landmarks, find=find)
                for face in faces:
                    other = taken.setdefault(face.folder, str(picture))
                    if other != str(picture):
                        raise ValueError(f"{picture} and {other}: both would be {face.folder}")
                made = [acquire_face(face, encoder, out, **options) for face in faces]
            except (NoFace, UnreadableImage) as error:
                log.warning("%s", error)
                done.append(Acquired(os.path.basename(picture), (), str(error)))
                continue
            done.append(Acquired(faces[0].source, tuple(one.name for one in made)))
            log.info("%s: %s", picture, ", ".join(one.name for one in made))
    content = {"faces": [vars(one) for one in done], "encoder": encoder_identity(encoder)}
    write_json(Path(out) / "acquired.json", content)
    write_table(out, done, encoder)
    if done and not any(one.folders for one in done):
        raise NoFace("; ".join(one.reason for one in done))
    return done


def _write_codes(folder: Path, face: PhotoFace, encoder: Deca, codes, transform, gaze) -> None:
    """The demo's five files, and one that holds everything."""
    plain = {name: value[0].float().cpu().numpy() for name, value in codes.items()}
    for name in ("shape", "exp", "tex", "pose", "detail"):
        np.save(folder / f"{name}.npy", plain[name])
    box = crop_box(landmark_bounds(face.landmarks))
    np.savez(
        folder / "codes.npz",
        **plain,
        gaze=np.full(2, np.nan) if gaze is None else np.asarray(gaze),
        landmarks=face.landmarks,
        box_centre=box.centre,
        box_size=box.size,
        transform=transform,
        crop_size=encoder.size_px,
        picture_size=np.array(face.picture.shape[1::-1]),
        detected=True,
        faces_found=face.faces_found,
        source=face.source,
        rasterizer=encoder.renderer().backend_used,
        **{name: np.array(value) for name, value in encoder_identity(encoder).items()},
    )


def write_table(out: str | os.PathLike, done: Sequence[Acquired], encoder: Deca) -> None:
    """Write ``codes.parquet``: a row per face, and one for every picture without any.

    Columns are ``source``, ``folder``, ``detected``, and lists of fixed length ``deca_shape,
    deca_tex, deca_exp, deca_pose, deca_cam, deca_light, deca_detail``; of EMOCA ``emoca_exp`` in
    place of ``deca_exp``.
    """
    lengths = {**CODE, "detail": DETAIL}
    prefix = {"exp": "emoca_" if encoder.kind == "emoca" else "deca_"}
    rows = [(one.source, name) for one in done for name in one.folders or ("",)]
    columns: dict[str, list] = {
        "source": [source for source, _ in rows],
        "folder": [name for _, name in rows],
        "detected": [bool(name) for _, name in rows],
    }
    codes = {name: np.zeros((len(rows), width), np.float32) for name, width in lengths.items()}
    for number, name in enumerate(columns["folder"]):
        if name:
            with np.load(Path(out) / name / "codes.npz", allow_pickle=False) as stored:
                for code, values in codes.items():
                    values[number] = stored[code].reshape(-1)
    lists = {
        f"{prefix.get(name, 'deca_')}{name}": pa.FixedSizeListArray.from_arrays(
            pa.array(values.reshape(-1)), lengths[name]
        )
        for name, values in codes.items()
    }
    table = pa.table({**columns, **lists}).replace_schema_metadata(encoder_identity(encoder))
    with replacing(Path(out) / "codes.parquet") as part:
        pq.write_table(table, part, compression="zstd")


class _Drawer:
    """Everything that is drawn of one face."""

    def __init__(self, face, encoder: Deca, codes, transform: np.ndarray, extract: bool):
        self.face, self.encoder, self.codes = face, encoder, codes
        self.transform = transform
        self.renderer: Renderer = encoder.renderer()
        self.head = encoder.decode(codes)
        box = crop_box(landmark_bounds(face.landmarks)).transform(PICTURE)
        device = self.head.vertices.device
        self.picture = warp(face.picture, box, PICTURE)[None].to(device)
        # 1 inside the photo
        whole = np.full_like(face.picture, 255)
        self.seen = warp(whole, box, PICTURE)[None, :1].to(device)
        # pixel of the picture that is shown to pixel of the encoder's crop
        self.between = (transform @ np.linalg.inv(box))[None]
        size = (PICTURE, PICTURE)
        self.flat = to_drawing(self.head.projected, self.between, encoder.size_px, size)
        self.normals = vertex_normals(self.head.vertices, self.renderer.faces)
        self.light = codes["light"].reshape(-1, 9, 3)
        self.uv_normals = self.renderer.world2uv(self.normals)
        self.texture = self._texture(extract)
        self.detail = self._detail()

    def _mask(self, name: str) -> Tensor | None:
        mask = getattr(self.encoder.head, name)
        return None if mask is None else torch.as_tensor(mask).to(self.flat)[None, None]

    def _texture(self, extract: bool) -> Tensor:
        """Colours of the chart under the photo's light (1, 3, 256, 256)."""
        made = self.head.albedo * sh_shading(self.uv_normals, self.light)
        mask = self._mask("uv_face_eye_mask")
        if not extract or mask is None:
            return made
        # surfaces that look away, or lie outside the photo, have no colour to be taken from it
        facing = ((self.uv_normals[:, 2:] - AWAY) / (FACING - AWAY)).clamp(0, 1)
        inside = self.renderer.extract_texture(self.seen, self.flat).gt(0.99).to(mask.dtype)
        # fades towards the photo's edge
        inside = (2 * F.avg_pool2d(inside, EDGE, 1, EDGE // 2) - 1).clamp_min(0)
        colours = self.renderer.extract_texture(self.picture, self.flat)
        return blend_texture(colours, mask * facing * inside, made)

    def _detail(self) -> Tensor | None:
        """Normals of the displaced surface (1, 3, 256, 256)."""
        if self.encoder.D_detail is None:
            return None
        codes, fixed = self.codes, self._mask("fixed_displacement")
        return self.renderer.displaced_normals(
            self.encoder.D_detail.displacement(codes["pose"], codes["exp"], codes["detail"]),
            self.head.vertices,
            self.normals,
            self._mask("uv_face_eye_mask"),
            None if fixed is None else fixed[0, 0],
            blend=self.encoder.kind == "deca",
        )

    def write_pictures(self, folder: Path) -> None:
        """The crop and what the codes say of it."""
        place, albedo = (self.head.vertices, self.flat), self.head.albedo
        drawn = self.renderer(*place, albedo, self.light, self.picture, PICTURE)
        pictures = {
            "inputs": self.picture,
            "geometry_coarse": self.renderer.shape_image(*place, self.picture, size=PICTURE),
            "out_im_coarse": drawn.images,
            "albedo": drawn.albedo * drawn.alpha,
            "normals": (drawn.normals * 0.5 + 0.5) * drawn.alpha,
        }
        if self.detail is not None:
            pictures["geometry_detail"] = self.renderer.shape_image(
                *place, self.picture, self.detail, size=PICTURE
            )
            chart = albedo * sh_shading(self.detail, self.light)
            detailed = self.renderer(*place, chart, None, self.picture, PICTURE)
            pictures["out_im_detail"] = detailed.images
        for name, picture in pictures.items():
            write_png(folder / f"{name}.png", to_uint8(picture[0]))

    def write_meshes(self, folder: Path) -> None:
        """The coarse mesh with texture and normals, and the dense one where there is detail."""
        head = self.encoder.head
        vertices = self.head.vertices[0].cpu().numpy()
        write_obj(
            folder / "mesh_coarse.obj",
            vertices,
            head.f,
            uvcoords=head.uvcoords,
            uvfaces=head.uvfaces,
            texture=to_uint8(self.texture[0]),
            normals=to_uint8(self.uv_normals[0] * 0.5 + 0.5),
        )
        if self.detail is None:
            return
        displacement = self.encoder.displacement(self.codes)
        points, colours, triangles = dense_mesh(
            vertices,
            self.normals[0].cpu().numpy(),
            displacement[0, 0].cpu().numpy(),
            to_uint8(self.texture[0]),
            dense_template(self.renderer),
        )
        name = folder / "mesh_coarse_detail.obj"
        write_obj(name, points, triangles, colours=colours.astype(np.float64) / 255)

    def write_landmarks(self, folder: Path) -> None:
        """DECA's two files over the crop, and all points in pixels of the picture."""
        head, flat, device = self.encoder.head, self.head.landmarks2d, self.flat.device
        ids = torch.as_tensor(head.full_lmk_faces_idx[0], device=device)
        weights = torch.as_tensor(head.full_lmk_bary_coords[0], dtype=torch.float32, device=device)
        seen = self.renderer.landmark_visibility(self.flat, ids, weights)
        tables = {
            "kpt2d.txt": flat[0, :, :2],
            "kpt3d.txt": torch.cat([self.head.landmarks3d, seen[..., None]], -1)[0],
            "landmarks_photo.txt": to_pixels(flat, self.transform[None], self.encoder.size_px)[0],
        }
        for name, table in tables.items():
            np.savetxt(folder / name, table.cpu().numpy(), fmt="%.6f")
        np.savetxt(folder / "landmarks_given.txt", self.face.landmarks, fmt="%.6f")


def dense_template(renderer: Renderer) -> dict[str, np.ndarray]:
    """A mesh of one vertex per pixel of the chart, in the layout of DECA's dense template.

    Triangles join neighbouring pixels.
    """
    side = renderer.size
    pixels = renderer.pixels[0].cpu().numpy().reshape(-1)
    ids = np.flatnonzero(pixels >= 0)
    rows = np.full(side * side, -1)
    rows[ids] = np.arange(len(ids))
    triangles = rows[renderer.dense_faces.cpu().numpy()]
    column, row = np.arange(side * side) % side, np.arange(side * side) // side
    return {
        "x_coords": column,
        "y_coords": row,
        "valid_pixel_ids": ids,
        "valid_pixel_3d_faces": renderer.faces.cpu().numpy()[pixels[ids]],
        "valid_pixel_b_coords": renderer.weights[0].cpu().numpy().reshape(-1, 3)[ids],
        "f": triangles[(triangles >= 0).all(1)],
    }
