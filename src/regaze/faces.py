"""The faces HDF5: normalised patches and labels, one group per person.

The layout is the one that ``swook/faze_preprocess`` writes and ``zhengyuf/STED-gaze`` reads:
``<person>/pixels`` (N,H,W,3) uint8 and ``<person>/labels`` (N,8) float32, a chunk per row.
Chunks are compressed by gzip where upstream uses lzf; readers do not see the difference.
Extra datasets per person have N rows as well, so that upstream readers still count correctly.
A data set is its shards; :class:`FacesReader` takes their list or one upstream file and presents
the same rows in the same order whatever the number of shards.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.jobs import replacing

LABELS = (
    "gaze_pitch",
    "gaze_yaw",
    "head_pitch",
    "head_yaw",
    "left_gaze_pitch",
    "left_gaze_yaw",
    "right_gaze_pitch",
    "right_gaze_yaw",
)

COMPRESSION = {"compression": "gzip", "compression_opts": 1}
"""Of all pictures at rest. Not lzf, although upstream uses it: LibLZF starts from a table that it
does not initialise, so that now and then two runs compress the same pixels to other bytes."""


@dataclass(frozen=True)
class FacesAttributes:
    """How the patches of a file were made; written as attributes of the file.

    Attributes:
        variant: name of the normalisation (``sted``, ``faze`` or ``custom``).
        patch_size: (width, height) in pixels.
        focal: focal length of the virtual camera in pixels.
        distance: distance of the virtual camera from the face in millimetres.
        frame_check: ``sfm-upstream``, ``sfm``, ``ellipsoid`` or ``none``.
        source: kind of the capture the rows came from.
        channel_order: ``rgb`` or ``bgr``.
        undistort_camera: ``same`` or ``centred``.
    """

    variant: str
    patch_size: tuple[int, int]
    focal: float
    distance: float
    frame_check: str
    source: str
    channel_order: str = "rgb"
    undistort_camera: str = "same"


class FacesWriter:
    """Write one shard; the file appears under its name only when the block ends without error."""

    def __init__(self, path: str | os.PathLike, attributes: FacesAttributes):
        self.path, self.attributes = Path(path), attributes

    def __enter__(self) -> FacesWriter:
        self._replacing = replacing(self.path)
        self._file = h5py.File(self._replacing.__enter__(), "w")
        for key, value in asdict(self.attributes).items():
            self._file.attrs[key] = value
        return self

    def __exit__(self, *error):
        self._file.close()
        return self._replacing.__exit__(*error)

    def add_person(
        self,
        person: str,
        pixels: np.ndarray,
        labels: np.ndarray,
        *,
        file_name: Sequence[str],
        source_index: np.ndarray,
        rotation: np.ndarray,
        gaze_origin: np.ndarray,
        landmarks: np.ndarray,
    ) -> None:
        """Write the rows of one person; a person without rows gets no group.

        Args:
            person: name of the group.
            pixels: (N, H, W, 3) uint8 in the file's channel order.
            labels: (N, 8) radians, see :data:`LABELS`.
            file_name: N paths below the capture's root.
            source_index: (N,) row of the frame in the capture's own numbering.
            rotation: (N, 3, 3) original camera to normalised camera.
            gaze_origin: (N, 3) millimetres in the original camera.
            landmarks: (N, 68, 2) pixels of the patch, NaN where unknown.

        Raises:
            ValueError: an array's rows, type or shape differ from the above.
        """
        width, height = self.attributes.patch_size
        rows = {
            "pixels": (np.asarray(pixels), (height, width, 3), np.uint8),
            "labels": (np.asarray(labels, np.float32), (8,), np.float32),
            "source_index": (np.asarray(source_index, np.int32), (), np.int32),
            "rotation": (np.asarray(rotation, np.float64), (3, 3), np.float64),
            "gaze_origin": (np.asarray(gaze_origin, np.float64), (3,), np.float64),
            "landmarks": (np.asarray(landmarks, np.float32), (68, 2), np.float32),
        }
        count = len(file_name)
        for name, (array, shape, dtype) in rows.items():
            if array.shape != (count, *shape) or array.dtype != dtype:
                raise ValueError(
                    f"{self.path}: {person}/{name}: expected {(count, *shape)} {dtype.__name__}, "
                    f"found {array.shape} {array.dtype}"
                )
        if count == 0:
            return
        group = self._file.create_group(person)
        for name, (array, shape, _) in rows.items():
            group.create_dataset(name, data=array, chunks=(1, *shape), **COMPRESSION)
        names = [str(name).encode() for name in file_name]
        group.create_dataset("file_name", data=np.array(names, dtype=h5py.string_dtype()))


class FacesReader:
    """Rows of one or several faces files as one table, ordered by person name, then by row.

    Labels are held in memory (32 bytes per row); pixels are read on demand. The object pickles
    without its open files, so every loader process opens its own.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a file is not HDF5, a group lacks ``pixels`` or ``labels`` or has an unexpected
            shape, a person is in two files, or files differ in patch size.
    """

    def __init__(self, paths: str | os.PathLike | Sequence[str | os.PathLike]):
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        self.paths = [str(path) for path in paths]
        self._files: dict[int, h5py.File] = {}
        found: dict[str, tuple[int, np.ndarray]] = {}
        sizes: dict[tuple[int, int], str] = {}
        self.attributes: dict = {}
        for number, path in enumerate(self.paths):
            with _open(path) as file:
                self.attributes = self.attributes or _attributes(file)
                for person in file:
                    labels, size = _checked(path, person, file[person])
                    if person in found:
                        other = self.paths[found[person][0]]
                        raise ValueError(f"{path}: person {person} is already in {other}")
                    found[person] = (number, labels)
                    sizes.setdefault(size, path)
        if len(sizes) > 1:
            raise ValueError(f"faces files differ in patch size (width, height): {sizes}")
        self.patch_size: tuple[int, int] | None = next(iter(sizes), None)
        self.persons = sorted(found)
        self._home = [found[person][0] for person in self.persons]
        counts = [len(found[person][1]) for person in self.persons]
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._code = {person: code for code, person in enumerate(self.persons)}
        tables = [found[person][1] for person in self.persons]
        self.labels = np.concatenate(tables) if tables else np.zeros((0, 8), np.float32)
        self.person_of = np.repeat(np.arange(len(counts)), counts)
        self.row_of = np.arange(len(self.labels)) - self._start[self.person_of]

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self):
        return {**self.__dict__, "_files": {}}

    def count(self, person: str) -> int:
        """Number of rows of a person, 0 if the person has none."""
        code = self._code.get(person)
        return 0 if code is None else int(self._start[code + 1] - self._start[code])

    def rows(self, persons: Sequence[str] | None = None) -> np.ndarray:
        """Global indices (int64) of the rows of ``persons``, person by person in their order.

        Persons without rows (all rejected) are passed over; ``None`` means everybody.
        """
        if persons is None:
            return np.arange(len(self), dtype=np.int64)
        codes = [self._code[person] for person in persons if person in self._code]
        parts = [np.arange(self._start[code], self._start[code + 1]) for code in codes]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def global_index(self, person: str, row: int) -> int:
        """Global index of row ``row`` of ``person``.

        Raises:
            KeyError: there is no such row.
        """
        if not 0 <= row < self.count(person):
            raise KeyError(f"{self.paths}: no row {row} of person {person!r}")
        return int(self._start[self._code[person]] + row)

    def pixels(self, indices) -> np.ndarray:
        """Patches (n, H, W, 3) uint8 R,G,B of global indices; B,G,R files are reversed."""
        array = self.dataset("pixels", indices)
        return array[..., ::-1] if self.attributes.get("channel_order") == "bgr" else array

    def dataset(self, name: str, indices) -> np.ndarray:
        """Rows of any per-person dataset for global indices, in the order asked for."""
        indices = np.atleast_1d(np.asarray(indices, np.int64))
        values = []
        for index in indices:
            code = self.person_of[index]
            group = self._file(self._home[code])[self.persons[code]]
            if name not in group:
                path = self.paths[self._home[code]]
                raise KeyError(f"{path}: person {self.persons[code]} has no dataset {name!r}")
            values.append(group[name][self.row_of[index]])
        return np.stack(values) if values else np.zeros((0,))

    def _file(self, number: int) -> h5py.File:
        if number not in self._files:
            self._files[number] = h5py.File(self.paths[number], "r", rdcc_nbytes=1 << 18)
        return self._files[number]


def _open(path: str) -> h5py.File:
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such faces file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error})") from error


def _attributes(file: h5py.File) -> dict:
    plain = {}
    for key, value in file.attrs.items():
        plain[key] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return plain


def _checked(path: str, person: str, group) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the labels (N, 8) and patch size of one group; faze files have only four columns."""
    if not isinstance(group, h5py.Group) or "pixels" not in group or "labels" not in group:
        raise ValueError(f"{path}: {person}: expected a group with datasets 'pixels' and 'labels'")
    pixels, labels = group["pixels"], group["labels"][:].astype(np.float32)
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"{path}: {person}/pixels: expected (N,H,W,3) uint8, "
            f"found {pixels.shape} {pixels.dtype}"
        )
    if labels.ndim != 2 or labels.shape[1] not in (4, 8) or len(labels) != len(pixels):
        raise ValueError(
            f"{path}: {person}/labels: expected ({len(pixels)}, 8) or ({len(pixels)}, 4), "
            f"found {labels.shape}"
        )
    if not np.isfinite(labels[:, :4]).all():
        row = int(np.argwhere(~np.isfinite(labels[:, :4]))[0, 0])
        raise ValueError(f"{path}: {person}/labels: row {row} is not finite")
    if labels.shape[1] == 4:
        blank = np.full((len(labels), 4), np.nan, np.float32)
        labels = np.concatenate([labels, blank], axis=1)
    return labels, (pixels.shape[2], pixels.shape[1])
