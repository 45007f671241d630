"""The faces HDF5: normalised patches and labels, one group per person.

The layout is the one that ``swook/faze_preprocess`` writes and ``zhengyuf/STED-gaze`` reads:
``<person>/pixels`` (N,H,W,3) uint8 and ``<person>/labels`` (N,8) float32, a chunk per row.
Chunks are compressed by gzip where upstream uses lzf; readers do not see the difference.
Extra datasets per person have N rows as well, so that upstream readers still count correctly.
A data set is its shards; :class:`FacesReader` takes their list or one upstream file and presents
the same rows in the same order whatever the number of shards.

A data set that was released as patches is not copied: its shards hold labels, and ``pixels`` as an
HDF5 virtual dataset that points into the released file (:mod:`regaze.links`). HDF5 itself reads
such pixels as zeros when that file is gone; :class:`FacesReader` refuses to open instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from regaze.filetypes import damage
from regaze.hdf5 import ShardWriter, hdf5_file, open_dataset, open_hdf5, read_rows
from regaze.links import Rows, Sources, locate, missing_rows, read_source
from regaze.outputs import REMEDY, several
from regaze.provenance import content_hash

LABELS = (
    "gaze_pitch", "gaze_yaw", "head_pitch", "head_yaw",
    "left_gaze_pitch", "left_gaze_yaw", "right_gaze_pitch", "right_gaze_yaw",
)  # fmt: skip

COMPRESSION = {"compression": "gzip", "compression_opts": 1}
"""Of all pictures at rest. Not lzf, although upstream uses it: LibLZF starts from a table that it
does not initialise, so that now and then two runs compress the same pixels to other bytes."""

_UPSTREAM = ("pixels", "labels")
_ROWS_PER_CHUNK = 1024
_MOST_OPEN = 256
_CACHED_BYTES = 64 << 20


@dataclass(frozen=True)
class FacesAttributes:
    """How the patches of a file were made; written as attributes of the file.

    Attributes:
        variant: name of the normalisation (``sted``, ``faze`` or ``custom``), whose labels these
            are also where the framing is another.
        patch_size: (width, height) in pixels.
        focal: focal length of the virtual camera in pixels; None without one.
        distance: distance of the virtual camera from the face in millimetres; None without one.
        frame_check: ``sfm-upstream``, ``sfm``, ``ellipsoid`` or ``none``.
        source: kind of the capture the rows came from.
        channel_order: ``rgb`` or ``bgr``.
        undistort_camera: ``same`` or ``centred``.
        gaze: ``known``, or ``absent`` when no row has a gaze label: columns 0, 1 and 4 to 7 of the
            labels are NaN then.
        framing: ``normalised``, by a virtual camera, or ``ffhq``; see :mod:`regaze.views`.

    ``gaze`` and ``framing`` are written only when they are not ``known`` and ``normalised``.
    """

    variant: str
    patch_size: tuple[int, int]
    focal: float | None
    distance: float | None
    frame_check: str
    source: str
    channel_order: str = "rgb"
    undistort_camera: str = "same"
    gaze: str = "known"
    framing: str = "normalised"


_UNSAID = {("gaze", "known"), ("framing", "normalised"), ("focal", None), ("distance", None)}


class FacesWriter(ShardWriter):
    """Write one shard of faces."""

    def __init__(self, path: str | os.PathLike, attributes: FacesAttributes):
        self.attributes = attributes
        said = {key: one for key, one in asdict(attributes).items() if (key, one) not in _UNSAID}
        super().__init__(path, said)

    def add_person(
        self,
        person: str,
        pixels: np.ndarray | Rows,
        labels: np.ndarray,
        *,
        file_name: Sequence[str] | None = None,
        source_index: np.ndarray | None = None,
        rotation: np.ndarray | None = None,
        gaze_origin: np.ndarray | None = None,
        landmarks: np.ndarray | None = None,
        real: np.ndarray | None = None,
        alignment: np.ndarray | None = None,
        camera: np.ndarray | None = None,
        distortion: np.ndarray | None = None,
        roll: np.ndarray | None = None,
    ) -> None:
        """Write the rows of one person; a person without rows gets no group.

        What a released data set does not tell is left out: the keyword columns are optional.

        Args:
            person: name of the group.
            pixels: (N, H, W, 3) uint8 in the file's channel order, or where they lie.
            labels: (N, 8) radians, see :data:`LABELS`.
            file_name: N paths below the capture's root.
            source_index: (N,) row of the frame in the capture's own numbering.
            rotation: (N, 3, 3) original camera to normalised camera.
            gaze_origin: (N, 3) millimetres in the original camera.
            landmarks: (N, 68, 2) pixels of the patch, NaN where unknown.
            real: (N,) uint8, 1 for photos and 0 for pictures that a redirector made.
            alignment: (N, 3, 3) pixels of the photo to pixels of a patch of framing ``ffhq``.
            camera, distortion: (N, 4) fx, fy, cx, cy in pixels and (N, 14) OpenCV coefficients of
                the photo, for the same framing.
            roll: (N,) radians, see :func:`regaze.normalise.aligned.in_frame`.

        Raises:
            ValueError: an array's rows, type or shape differ from the above.
        """
        width, height = self.attributes.patch_size
        count, linked = len(pixels), isinstance(pixels, Rows)
        columns = {
            "pixels": (pixels, (height, width, 3), np.uint8),
            "labels": (labels, (8,), np.float32),
            "source_index": (source_index, (), np.int32),
            "rotation": (rotation, (3, 3), np.float64),
            "gaze_origin": (gaze_origin, (3,), np.float64),
            "landmarks": (landmarks, (68, 2), np.float32),
            "real": (real, (), np.uint8),
            "alignment": (alignment, (3, 3), np.float64),
            "camera": (camera, (4,), np.float64),
            "distortion": (distortion, (14,), np.float64),
            "roll": (roll, (), np.float64),
        }
        rows = {}
        for name, (given, shape, dtype) in columns.items():
            if given is None:
                continue
            # Labels of any float type are narrowed; pixels of another type are a mistake.
            array = given if name == "pixels" else np.asarray(given, dtype)
            if array.shape != (count, *shape) or array.dtype != dtype:
                raise ValueError(
                    f"{self.path}: {person}/{name}: expected {(count, *shape)} {dtype.__name__}, "
                    f"found {array.shape} {array.dtype}"
                )
            rows[name] = (array, shape)
        if file_name is not None and len(file_name) != count:
            raise ValueError(
                f"{self.path}: {person}/file_name: expected {count} names, found {len(file_name)}"
            )
        if count == 0:
            return
        group = self._file.create_group(person)
        for name, (array, shape) in rows.items():
            if isinstance(array, Rows):
                group.create_virtual_dataset(name, array.layout(self.path.parent))
                continue
            # Upstream's chunks where upstream reads; single rows of the other columns are not read,
            # and a chunk each would cost more than their numbers.
            single = name in _UPSTREAM and not linked
            chunks = (1 if single else min(count, _ROWS_PER_CHUNK), *shape)
            group.create_dataset(name, data=array, chunks=chunks, **COMPRESSION)
        if file_name is not None:
            names = [str(name).encode() for name in file_name]
            group.create_dataset("file_name", data=np.array(names, dtype=h5py.string_dtype()))


class FacesReader:
    """Rows of one or several faces files as one table, ordered by person name, then by row.

    Labels are held in memory (32 bytes per row); pixels are read on demand. The object pickles
    without its open files, and a forked process opens its own, so every loader process has its own
    handles. Linked pixels are read straight from the released file.

    Attributes:
        paths: the files.
        persons: sorted names.
        labels: (N, 8) float32, see :data:`LABELS`.
        person_of: (N,) index into ``persons``; ``row_of``: (N,) row of that person.
        patch_size: (width, height), None when there is no person.
        attributes: those of the first file.

    Raises:
        FileNotFoundError: a path, or a file that pixels are linked to, does not exist.
        InUse: one of these files is being written.
        ValueError: a file is not HDF5, a group lacks ``pixels`` or ``labels`` or has an unexpected
            shape, a label is not finite although the file does not say that the gaze is absent, a
            link points at nothing, a person is in two files, or files differ in patch size.
    """

    def __init__(self, paths: str | os.PathLike | Sequence[str | os.PathLike]):
        self.paths = [str(path) for path in several(paths)]
        self._close()
        found: dict[str, tuple[int, np.ndarray]] = {}
        links: dict[str, Rows] = {}
        sizes: dict[tuple[int, int], str] = {}
        common: set[str] | None = None
        self.attributes: dict = {}
        self._said: list[str] = []
        self._fingerprint: str | None = None
        self._reversed: list[bool] = []
        self.gaze_known = True
        sources = Sources()
        for number, path in enumerate(self.paths):
            with open_hdf5(path, missing="no such faces file") as file, sources:
                attributes = _attributes(file)
                self.attributes = self.attributes or attributes
                self._said.append(content_hash(attributes))
                self._reversed.append(attributes.get("channel_order") == "bgr")
                known = attributes.get("gaze", "known") != "absent"
                self.gaze_known &= known
                for person in file:
                    labels, size = _checked(path, person, file[person], known)
                    if person in found:
                        other = self.paths[found[person][0]]
                        raise ValueError(f"{path}: person {person} is already in {other}")
                    found[person] = (number, labels)
                    sizes.setdefault(size, path)
                    names = set(file[person])
                    common = names if common is None else common & names
                    pixels, of = file[person]["pixels"], f"the pixels of person {person}"
                    if pixels.is_virtual:
                        links[person] = locate(pixels, of, sources)
                        missing_rows(links[person], f"{path}: {person}/pixels")
        if len(sizes) > 1:
            raise ValueError(f"faces files differ in patch size (width, height): {sizes}")
        self.patch_size: tuple[int, int] | None = next(iter(sizes), None)
        self.persons = sorted(found)
        self._common = frozenset(common or ())
        ordered = [found[person] for person in self.persons]
        self._home = [number for number, _ in ordered]
        counts = [len(labels) for _, labels in ordered]
        self._start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._code = {person: code for code, person in enumerate(self.persons)}
        self.labels = np.concatenate([np.zeros((0, 8), np.float32), *(t for _, t in ordered)])
        self.person_of = np.repeat(np.arange(len(counts)), counts)
        self.row_of = np.arange(len(self.labels)) - self._start[self.person_of]
        # Of linked pixels: the dataset that they lie in, -1 for those of the shards themselves.
        self._sources: list[tuple[str, str]] = []
        self._pixel_source = np.full(len(self.labels) if links else 0, -1, np.int32)
        self._pixel_row = self.row_of.copy() if links else self.row_of
        places: dict[tuple[str, str], int] = {}
        for person, link in links.items():
            numbers = [places.setdefault(one[:2], len(places)) for one in link.sources]
            here = self.rows([person])
            self._pixel_source[here] = np.array(numbers, np.int32)[link.source]
            self._pixel_row[here] = link.row
        self._sources = list(places)

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self):
        return {**self.__dict__, "_files": {}, "_datasets": {}, "_cached": {}}

    def has(self, name: str) -> bool:
        """Whether every person has the per-row dataset ``name``; False without any person."""
        return name in self._common

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
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def global_index(self, person: str, row: int) -> int:
        """Global index of row ``row`` of ``person``.

        Raises:
            KeyError: there is no such row.
        """
        if not 0 <= row < self.count(person):
            raise KeyError(f"{self.paths}: no row {row} of person {person!r}")
        return int(self._start[self._code[person]] + row)

    def pixels(self, indices) -> np.ndarray:
        """Patches (n, H, W, 3) uint8 R,G,B of global indices; B,G,R files are reversed.

        Raises:
            OSError: HDF5 cannot read a row; the message names file, person and row.
        """
        array = self.dataset("pixels", indices)
        if any(self._reversed):
            codes = self.person_of[np.atleast_1d(np.asarray(indices, np.int64))]
            flip = np.array([self._reversed[self._home[code]] for code in codes], bool)
            array[flip] = array[flip][..., ::-1]
        return array

    def dataset(self, name: str, indices) -> np.ndarray:
        """Rows of any per-person dataset for global indices, in the order asked for.

        Raises:
            KeyError: a person has no such dataset; :meth:`has` tells beforehand.
            OSError: HDF5 cannot read a row.
        """
        indices = np.atleast_1d(np.asarray(indices, np.int64))
        shape = (*(self.patch_size or (0, 0))[::-1], 3)
        if len(indices) == 0:
            return np.zeros((0, *shape), np.uint8) if name == "pixels" else np.zeros(0)
        codes, rows = self.person_of[indices], self.row_of[indices]
        if name == "pixels" and self._sources:
            rows, source = self._pixel_row[indices], self._pixel_source[indices]
            # Sources are numbered beyond the persons.
            codes = np.where(source < 0, codes, len(self.persons) + source)
        result = None
        # Stable: rows that are asked for in order are read in order.
        order = np.argsort(codes, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            data = self._dataset(int(codes[places[0]]), name)
            try:
                at = rows[places]
                piece = read_source(data, at, shape) if name == "pixels" else read_rows(data, at)
            except OSError as error:
                person = self.persons[self.person_of[indices[places[0]]]]
                place = f"{data.file.filename}: {person}/{name}"
                raise OSError(f"{place}: {error}{REMEDY}") from None
            if result is None:
                result = np.empty((len(rows), *piece.shape[1:]), piece.dtype)
            result[places] = piece
        return np.array(result.tolist()) if result.dtype == object else result

    def fingerprint(self) -> str:
        """Return 16 hex digits over all that the rows hold, however many files they are in.

        That is persons, pixels, labels, all other numbers, and the attributes of the files. Pixels
        count as they are stored, so nothing is decoded and every byte is read once; linked ones by
        name, size and time of the released file, which may have hundreds of gigabytes.

        Raises:
            OSError: HDF5 cannot read a row.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for code, person in enumerate(self.persons):
                group = self._file(self.paths[self._home[code]])[person]
                names = sorted(name for name in group if _is_table(group.get(name)))
                digest.update(content_hash([person, self._said[self._home[code]], names]).encode())
                try:
                    for name in names:
                        linked = name == "pixels" and group[name].is_virtual
                        parts = self._at_rest(code) if linked else _stored(group[name])
                        for part in parts:
                            digest.update(part)
                except OSError as error:
                    raise OSError(
                        f"{group.file.filename}: {person}: cannot be read ({damage(error)}){REMEDY}"
                    ) from None
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def _at_rest(self, code: int) -> Iterator[bytes]:
        """What tells linked pixels of a person apart without reading them."""
        here = slice(self._start[code], self._start[code + 1])
        numbers, source = np.unique(self._pixel_source[here], return_inverse=True)
        facts = []
        for number in numbers.tolist():
            path, inside = self._sources[number]
            about = os.stat(path)
            facts.append([Path(path).name, inside, about.st_size, about.st_mtime_ns])
        # Numbers of sources depend on how persons are dealt to shards, names do not.
        order = sorted(range(len(facts)), key=facts.__getitem__)
        yield content_hash([facts[place] for place in order]).encode()
        yield np.argsort(order)[source].tobytes() + self._pixel_row[here].tobytes()

    def _dataset(self, code: int, name: str) -> h5py.Dataset:
        """The open dataset of a person, or of a source, which are numbered beyond the persons.

        Looking it up by its path costs more than reading a row.
        """
        if self._process != os.getpid():
            self._close()
        key = code, name
        found = self._datasets.get(key)
        if not found:
            if code >= len(self.persons):
                path, inside = self._sources[code - len(self.persons)]
                group = self._file(path)
            else:
                path, inside = self.paths[self._home[code]], name
                group = self._file(path)[self.persons[code]]
                if name not in group:
                    raise KeyError(f"{path}: person {self.persons[code]} has no dataset {name!r}")
            found, size = open_dataset(group, inside)
            self._datasets[key] = found
            if size:
                self._make_room(size)
                self._cached[key] = size
        elif key in self._cached:
            # The last one used is the last to go.
            self._cached[key] = self._cached.pop(key)
        return found

    def _make_room(self, size: int) -> None:
        """Close datasets that cache chunks, so that all of them hold no more than a little."""
        for key in list(self._cached):
            if sum(self._cached.values()) + size > _CACHED_BYTES:
                del self._cached[key]
                self._datasets.pop(key, None)

    def _file(self, path: str) -> h5py.File:
        if path not in self._files:
            if len(self._files) >= _MOST_OPEN:
                # Its datasets are closed with it, and opened anew when they are asked for.
                self._files.pop(next(iter(self._files))).close()
            # No chunk cache: every dataset would fill its own, and rows are read once.
            self._files[path] = hdf5_file(path, rdcc_nbytes=0)
        return self._files[path]

    def _close(self) -> None:
        """Forget the handles; those of a parent process are its own to close."""
        self._process = os.getpid()
        self._files: dict[str, h5py.File] = {}
        self._datasets: dict[tuple[int, str], h5py.Dataset] = {}
        self._cached: dict[tuple[int, str], int] = {}


def open_row(place: str) -> tuple[FacesReader, int]:
    """Return the reader and the global index of a row written as ``FACES.h5:person/index``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the text has another form, the file is no faces file, or there is no such row.
    """
    path, _, row = place.rpartition(":")
    person, _, index = row.rpartition("/")
    if not (path and person and index.isdecimal()):
        raise ValueError(f"{place}: expected FACES.h5:person/index")
    reader = FacesReader(path)
    try:
        return reader, reader.global_index(person, int(index))
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _is_table(found) -> bool:
    """Whether an entry of a person is a dataset of numbers."""
    return isinstance(found, h5py.Dataset) and found.ndim > 0 and found.dtype.kind != "O"


def _stored(data: h5py.Dataset) -> Iterator[bytes | np.ndarray]:
    """Pixels as they are compressed where each row is a chunk of its own, else decoded rows."""
    yield f"{data.name} {data.shape} {data.dtype}".encode()
    row = (1, *data.shape[1:])
    if data.ndim < 4 or data.chunks != row:
        for start in range(0, len(data), _ROWS_PER_CHUNK):
            yield np.ascontiguousarray(data[start : start + _ROWS_PER_CHUNK])
        return
    for number in range(len(data)):
        try:
            yield data.id.read_direct_chunk((number, *(0 for _ in row[1:])))[1]
        except (OSError, RuntimeError):
            # Never written, or damaged, of which reading tells.
            yield np.ascontiguousarray(data[number])


def _attributes(file: h5py.File) -> dict:
    plain = (np.ndarray, np.generic)
    return {k: v.tolist() if isinstance(v, plain) else v for k, v in file.attrs.items()}


def _checked(path: str, person: str, group, gaze_known: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the labels (N, 8) and patch size of one group; faze files have only four columns."""
    if not isinstance(person, str):
        raise ValueError(f"{path}: expected UTF-8 names of persons, found {person!r}")
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
    needed = labels[:, 0 if gaze_known else 2 : 4]
    if not np.isfinite(needed).all():
        row = int(np.argwhere(~np.isfinite(needed))[0, 0])
        raise ValueError(f"{path}: {person}/labels: row {row} is not finite")
    if labels.shape[1] == 4:
        blank = np.full((len(labels), 4), np.nan, np.float32)
        labels = np.concatenate([labels, blank], axis=1)
    return labels, (pixels.shape[2], pixels.shape[1])
