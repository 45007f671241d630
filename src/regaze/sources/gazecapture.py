"""GazeCapture's lay-out: ``<person>/frames/NNNNN.jpg`` and a supplementary HDF5.

Krafka et al., "Eye Tracking for Everyone" (CVPR 2016); the supplementary file is the one that
``swook/faze_preprocess`` reads. The synthetic capture writes the same lay-out, and beside it
``parameters.h5`` with the 68 landmarks of every photo.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from regaze.sources.records import PersonRecords, SourceError

SUPPLEMENTARY_NAMES = ("supplementary.h5", "GazeCapture_supplementary.h5")
_COLUMNS = {
    "camera_parameters": (4,),
    "distortion_parameters": (4, 5, 8, 12, 14),
    "head_pose": (6,),
    "3d_gaze_target": (3,),
}
_LANDMARKS = "landmarks"


class GazeCapture:
    """The photos below ``root`` with the labels of their supplementary file.

    ``persons`` is the sorted list of the supplementary file's groups; opening costs one listing
    of them. Rows are read one person at a time.

    Args:
        root: folder of the person folders.
        supplementary: HDF5 of labels; default ``supplementary.h5`` or
            ``GazeCapture_supplementary.h5`` in ``root``.
        parameters: HDF5 with ``<person>/landmarks`` (N, 68, 2) in photo pixels; default
            ``parameters.h5`` in ``root`` when there is one.
        kind: name of the data set's kind, recorded in the faces files.

    Raises:
        SourceError: the folder or a file is missing or not HDF5, or holds no person.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        supplementary: str | Path | None = None,
        parameters: str | Path | None = None,
        kind: str = "gazecapture",
    ):
        self.kind = kind
        self.root = Path(root)
        if not self.root.is_dir():
            raise SourceError(f"{self.root}: expected the data set's folder, found none")
        self.supplementary = self._supplementary(supplementary)
        found = self.root / "parameters.h5" if parameters is None else Path(parameters)
        if parameters is not None and not found.is_file():
            raise SourceError(f"{found}: no such parameters file")
        self.parameters = found if found.is_file() else None
        with _open(self.supplementary) as file:
            self.persons = sorted(file)
        if not self.persons:
            raise SourceError(f"{self.supplementary}: expected a group per person, found none")

    def _supplementary(self, path: str | Path | None) -> Path:
        candidates = [self.root / name for name in SUPPLEMENTARY_NAMES] if path is None else [path]
        for candidate in map(Path, candidates):
            if candidate.is_file():
                return candidate
        names = " or ".join(str(candidate) for candidate in candidates)
        raise SourceError(f"{names}: no such supplementary file")

    def read(self, person: str) -> PersonRecords:
        """Return the records of ``person``; rows keep the supplementary file's order.

        Raises:
            SourceError: the person has no group, a dataset is missing, has another number of rows
                or columns than expected, or is not numeric; the message names it.
        """
        with _open(self.supplementary) as file:
            where = f"{self.supplementary}: person {person}"
            group = file.get(person)
            if not isinstance(group, h5py.Group):
                raise SourceError(f"{where}: expected a group, found none", "missing_person")
            names = _file_names(where, group)
            columns = {}
            for key, widths in _COLUMNS.items():
                columns[key] = _column(where, group, key, len(names), names)
                found = columns[key].shape[1:]
                if len(found) != 1 or found[0] not in widths:
                    raise SourceError(
                        f"{where}: {key}: expected rows of {_either(widths)} numbers, "
                        f"found rows of shape {found}",
                        "bad_shape",
                        names,
                    )
        return PersonRecords(
            root=self.root,
            person=person,
            file_name=names,
            camera_parameters=columns["camera_parameters"],
            distortion=columns["distortion_parameters"],
            head_pose=columns["head_pose"],
            gaze_target=columns["3d_gaze_target"],
            landmarks=self._landmarks(person, names),
        )

    def _landmarks(self, person: str, names: tuple[str, ...]) -> np.ndarray | None:
        if self.parameters is None:
            return None
        with _open(self.parameters) as file:
            group = file.get(person)
            if not isinstance(group, h5py.Group) or _LANDMARKS not in group:
                return None
            where = f"{self.parameters}: person {person}"
            values = _column(where, group, _LANDMARKS, len(names), names)
            if values.shape[1:] != (68, 2):
                raise SourceError(
                    f"{where}: {_LANDMARKS}: expected rows of shape (68, 2), "
                    f"found {values.shape[1:]}",
                    "bad_shape",
                    names,
                )
        return values


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SourceError(f"{path}: expected an HDF5 file, found another ({error})") from error


def _either(values: tuple[int, ...]) -> str:
    return " or ".join(map(str, values))


def _file_names(where: str, group: h5py.Group) -> tuple[str, ...]:
    if "file_name" not in group:
        rows = max((len(item) for item in group.values() if _has_rows(item)), default=0)
        raise SourceError(
            f"{where}: file_name: expected a dataset, found only {sorted(group)}",
            "missing_key",
            ("",) * rows,
        )
    raw = group["file_name"][()]
    if raw.ndim != 1:
        raise SourceError(
            f"{where}: file_name: expected shape (N,), found {raw.shape}", "bad_shape"
        )
    try:
        names = tuple(
            item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in raw
        )
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{where}: file_name: expected UTF-8 names, found {error.object!r}", "bad_shape"
        ) from error
    return names


def _has_rows(item) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim > 0


def _column(
    where: str, group: h5py.Group, key: str, rows: int, names: tuple[str, ...]
) -> np.ndarray:
    item = group.get(key)
    if not isinstance(item, h5py.Dataset):
        raise SourceError(
            f"{where}: {key}: expected a dataset, found only {sorted(group)}", "missing_key", names
        )
    if item.ndim < 1 or len(item) != rows:
        raise SourceError(
            f"{where}: {key}: expected {rows} rows as in file_name, found shape {item.shape}",
            "bad_shape",
            names,
        )
    if item.dtype.kind not in "fiu":
        raise SourceError(
            f"{where}: {key}: expected numbers, found type {item.dtype}", "bad_shape", names
        )
    return item[()].astype(np.float64)


def safe_name(name: str) -> bool:
    """Return whether a file name of a label file stays below the data set's root."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(name) and not path.is_absolute() and ".." not in path.parts
