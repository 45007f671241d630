"""HDF5 files: recognised by the datasets of their groups, counted, and measured block by block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from regaze.faces import LABELS
from regaze.filetypes import damage
from regaze.hdf5 import InUse, hdf5_file
from regaze.inspection import details
from regaze.inspection.findings import Findings, InspectError, Ranges, Table, some
from regaze.inspection.findings import spread as spread_of
from regaze.inspection.pictures import Part, Pictures

XGAZE = ("face_patch", "face_gaze", "face_head_pose")
SUPPLEMENTARY = ("file_name", "camera_parameters", "head_pose", "3d_gaze_target")
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("faces", ("pixels", "labels")),
    ("supplementary", SUPPLEMENTARY),
    ("landmarks", ("landmarks", "status", "score")),
    ("parameters", ("landmarks", "mask")),
)
_ROOTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("xgaze", XGAZE),
    ("samples", ("pixels", "pair")),
)
MAX_ROWS = 10_000_000
"""Of one dataset that are looked at; all of GazeCapture has 1.5 million."""
BLOCK_BYTES = 1 << 23
CHUNK_BYTES = 1 << 28
"""Largest piece that is unpacked at once; a header can claim any."""
_PERSONS_SHOWN = 6


@dataclass
class Group:
    """A group of a file: its datasets by name, and members that are none."""

    name: str
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of the dataset that comes first, as upstream readers count."""
        for name in sorted(self.datasets):
            return len(self.datasets[name]) if self.datasets[name].ndim else 0
        return 0


def look_into(path: Path, rows: int, sheet: str | Path | None) -> Findings:
    """Look into an HDF5 file, see :func:`regaze.inspection.inspect_file`.

    Raises:
        InspectError: the file is damaged, or a sheet is wanted of a file without pictures.
    """
    try:
        with hdf5_file(path) as file:
            return _describe(path, file, rows, sheet)
    except InspectError:
        raise
    except InUse as error:
        raise InspectError(str(error)) from error
    # HDF5 reports damage by almost any of these, wherever it comes upon it.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        told = f"expected readable HDF5, found damage ({damage(error)})"
        raise InspectError(f"{path}: {told}") from None


def _describe(path: Path, file: h5py.File, rows: int, sheet: str | Path | None) -> Findings:
    root, groups = _members(file)
    kind, chosen = _recognise(root, groups)
    found = Findings(path, "", "")
    if chosen:
        _counts(found, chosen, kind)
        _unwritten(found, chosen)
    _attributes(found, file)
    found.tables += _schema(root, groups, found)
    pictures = _DESCRIPTIONS[kind](found, file, root, chosen)
    if pictures is not None:
        pictures.look(found, rows)
        if sheet is not None:
            pictures.draw(found, rows, sheet)
        else:
            found.fact("contact sheet", "not drawn; --sheet FILE.png draws these pictures")
    elif sheet is not None:
        raise InspectError(f"{path}: a sheet needs pictures, found {found.kind}")
    return found


def _members(file: h5py.File) -> tuple[Group, list[Group]]:
    """Return the root's own datasets and its groups, without following links."""
    root = _group("", file)
    groups = []
    for name in list(root.others):
        link = file.get(name, getlink=True)
        if isinstance(link, h5py.HardLink) and isinstance(file[name], h5py.Group):
            root.others.remove(name)
            groups.append(_group(name, file[name]))
    return root, groups


def _group(name: str, group: h5py.Group) -> Group:
    made = Group(name)
    for member in sorted(group):
        link = group.get(member, getlink=True)
        item = group[member] if isinstance(link, h5py.HardLink) else None
        if isinstance(item, h5py.Dataset):
            made.datasets[member] = item
        else:
            made.others.append(member)
    return made


def _recognise(root: Group, groups: list[Group]) -> tuple[str, list[Group]]:
    for kind, names in _ROOTS:
        if set(names) <= set(root.datasets):
            return kind, [root]
    best = "unknown"
    chosen: list[Group] = []
    for kind, names in _GROUPS:
        having = [group for group in groups if set(names) <= set(group.datasets)]
        if len(having) > len(chosen):
            best, chosen = kind, having
    return best, chosen


def _counts(found: Findings, chosen: Sequence[Group], kind: str) -> None:
    if kind in ("xgaze", "samples"):
        found.fact("rows", f"{chosen[0].rows:,}")
    else:
        counts = [group.rows for group in chosen]
        found.fact("persons", f"{len(chosen):,}: {some([g.name for g in chosen], _PERSONS_SHOWN)}")
        found.fact("rows", f"{sum(counts):,}")
        found.fact("rows per person", spread_of(counts))
    for group in chosen:
        lengths = {n: len(d) for n, d in group.datasets.items() if d.ndim}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
            found.warn(f"{group.name or 'file'}: datasets differ in rows: {listed}")


def _unwritten(found: Findings, chosen: Sequence[Group]) -> None:
    """Warn of pieces that were never written, which HDF5 reads as zeros without a word."""
    absent: Counter[str] = Counter()
    example: dict[str, str] = {}
    for group in chosen:
        for name, data in group.datasets.items():
            if data.is_virtual or data.external or not data.size:
                continue
            if data.chunks is None:
                missing = int(data.id.get_storage_size() == 0)
            else:
                sides = zip(data.shape, data.chunks, strict=True)
                pieces = math.prod(-(-side // chunk) for side, chunk in sides)
                missing = pieces - data.id.get_num_chunks()
            if missing > 0:
                absent[name] += missing
                example.setdefault(name, group.name)
    for name, missing in absent.items():
        where = f"{example[name]}/{name}".lstrip("/")
        found.warn(
            f"{name}: {missing:,} pieces were never written and read as zeros, as in {where}"
        )


def _attributes(found: Findings, file: h5py.File) -> None:
    lines = []
    for name in sorted(file.attrs):
        kind = file.attrs.get_id(name)
        if np.prod(kind.shape or (1,)) > 64:
            lines.append([name, f"{kind.dtype} of shape {kind.shape}"])
            continue
        value = file.attrs[name]
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        lines.append([name, str(value)[:200]])
    if lines:
        found.tables.append(Table("Attributes of the file", ("attribute", "value"), lines))
    else:
        found.fact("attributes", "none")


def _schema(root: Group, groups: list[Group], found: Findings) -> list[Table]:
    """Return a table per set of groups that look alike, N standing for their rows."""
    tables = []
    if root.datasets:
        tables.append(Table("Datasets", _COLUMNS, _lines(root, fixed=True)))
    if root.others:
        found.warn(f"members of the file that are no datasets or groups: {some(root.others)}")
    alike: dict[tuple, list[str]] = {}
    for group in groups:
        lines = tuple(tuple(line) for line in _lines(group))
        alike.setdefault(lines, []).append(group.name)
        if group.others:
            found.warn(f"{group.name}: members that are no datasets: {some(group.others)}")
    for lines, names in sorted(alike.items(), key=lambda item: -len(item[1]))[:8]:
        title = f"Datasets of {len(names):,} groups ({some(names, 3)})"
        tables.append(Table(title, _COLUMNS, lines))
    if len(alike) > 1:
        found.warn(f"groups are of {len(alike)} forms; see the tables")
    if not root.datasets and not groups:
        found.warn("the file holds no datasets")
    return tables


_COLUMNS = ("dataset", "shape", "dtype", "chunk", "compression")


def _lines(group: Group, fixed: bool = False) -> list[list[str]]:
    rows, lines = group.rows, []
    for name, data in group.datasets.items():
        shape = [str(side) for side in data.shape]
        if shape and not fixed and data.shape[0] == rows:
            shape[0] = "N"
        chunk = (
            ""
            if data.chunks is None
            else "x".join(
                "N" if not fixed and place == 0 and side == rows and rows > 1 else str(side)
                for place, side in enumerate(data.chunks)
            )
        )
        packed = data.compression or ""
        if data.is_virtual:
            packed = "link to another file"
        elif data.compression_opts is not None and data.compression == "gzip":
            packed += f" {data.compression_opts}"
        text = h5py.check_string_dtype(data.dtype)
        dtype = "text" if text is not None and text.length is None else str(data.dtype)
        lines.append([name, "x".join(shape) or "()", dtype, chunk, packed])
    return lines


def blocks(data: h5py.Dataset, found: Findings, where: str) -> Iterator[np.ndarray]:
    """Yield the rows of a dataset in pieces of bounded size, at most the first MAX_ROWS of it."""
    total = len(data)
    if total > MAX_ROWS:
        found.warn(f"{where}: claims {total:,} rows; only the first {MAX_ROWS:,} were looked at")
        total = MAX_ROWS
    require_small_chunks(data, where)
    width = max(1, int(np.prod(data.shape[1:], dtype=float)) * data.dtype.itemsize)
    step = max(1, BLOCK_BYTES // width)
    for start in range(0, total, step):
        yield data[start : min(total, start + step)]


def require_small_chunks(data: h5py.Dataset, where: str) -> None:
    """Raise InspectError when a single row cannot be read within bounded memory."""
    piece = data.chunks or (1, *data.shape[1:])
    size = float(np.prod(piece, dtype=float)) * data.dtype.itemsize
    if size > CHUNK_BYTES:
        raise InspectError(
            f"{data.file.filename}: {where}: pieces of {size:.3g} bytes; expected at most "
            f"{CHUNK_BYTES}"
        )


def measure(
    found: Findings, chosen: Sequence[Group], name: str, columns: tuple[str, ...]
) -> Ranges:
    """Return the ranges of a numeric dataset over groups; columns beyond ``columns`` are named."""
    ranges: Ranges | None = None
    for group in chosen:
        data = group.datasets.get(name)
        where = f"{group.name}/{name}".lstrip("/")
        if data is None or data.dtype.kind not in "fiub" or data.ndim < 1:
            found.warn(f"{where}: expected numbers, found {_form(data)}")
            continue
        width = int(np.prod(data.shape[1:], dtype=float))
        if ranges is None:
            known = (*columns, *(f"{name}[{n}]" for n in range(len(columns), min(width, 64))))
            ranges = Ranges(known[:width])
        if width != len(ranges.names):
            found.warn(f"{where}: expected {len(ranges.names)} columns, found {_form(data)}")
            continue
        for block in blocks(data, found, where):
            ranges.add(block)
    return Ranges(columns) if ranges is None else ranges


def _form(data: h5py.Dataset | None) -> str:
    return "none" if data is None else f"shape {data.shape} of type {data.dtype}"


def _faces(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> Pictures:
    first = chosen[0].datasets
    shape, width = first["pixels"].shape, first["labels"].shape[-1] if first["labels"].ndim else 0
    form = f"'pixels' {'x'.join(['N', *map(str, shape[1:])])} and 'labels' Nx{width}"
    found.why = f"groups hold {form}"
    if {"variant", "frame_check"} <= set(file.attrs):
        found.kind = f"faces, a shard of this workflow ({file.attrs['variant']})"
    elif shape[1:] == (64, 256, 3) and width == 4:
        found.kind = "faces as swook/faze_preprocess writes them, eye strip (faze)"
    elif shape[1:] == (128, 128, 3) and width == 8:
        found.kind = "faces as swook/faze_preprocess writes them, full face (sted)"
    else:
        found.kind = "faces in the layout of swook/faze_preprocess, of another size"
    _links(found, chosen)
    ranges = measure(found, chosen, "labels", LABELS[:width] if width in (4, 8) else ())
    found.tables.append(details.label_table(found, ranges))
    if found.kind.startswith("faces, a shard") and str(file.attrs.get("gaze", "")) == "absent":
        found.fact("gaze", "absent on purpose: these photos have no gaze label")
    declared = file.attrs.get("channel_order")
    declared = declared.decode() if isinstance(declared, bytes) else declared
    parts = [
        Part(g.name, g.datasets["pixels"], (g.datasets["labels"],), g.datasets.get("landmarks"))
        for g in chosen
    ]
    return Pictures(parts, declared, "the file's attribute channel_order")


def _links(found: Findings, chosen: Sequence[Group]) -> None:
    """Name the files that virtual pixels point to, and those that are not there."""
    targets: Counter[str] = Counter()
    for group in chosen:
        pixels = group.datasets["pixels"]
        if pixels.is_virtual:
            targets.update({source.file_name for source in pixels.virtual_sources()})
    if not targets:
        return
    found.fact("pixels", f"links into {some(sorted(targets))}")
    for name in sorted(targets):
        if name != "." and not (found.path.parent / name).is_file():
            found.warn(f"linked pixels: {name} is not there; HDF5 shows such pictures as black")


def _xgaze(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> Pictures:
    patch = root.datasets["face_patch"]
    size = "x".join(map(str, patch.shape[1:3]))
    found.kind = f"ETH-XGaze, one subject of the normalised release ({size} px)"
    found.why = "the file holds " + ", ".join(repr(name) for name in XGAZE)
    ranges = Ranges(())
    labels = []
    for name, columns in (("face_gaze", LABELS[:2]), ("face_head_pose", LABELS[2:4])):
        labels.append(root.datasets[name])
        ranges = _joined(ranges, measure(found, [root], name, columns))
    found.tables.append(details.label_table(found, ranges))
    for name in ("cam_index", "frame_index"):
        if name in root.datasets:
            one = measure(found, [root], name, (name,))
            found.fact(name, f"{one.least[0]:.0f} to {one.greatest[0]:.0f}")
    part = Part(found.path.stem, patch, tuple(labels), root.datasets.get("facial_landmarks"))
    return Pictures([part], "bgr", "the release")


def _joined(first: Ranges, second: Ranges) -> Ranges:
    joined = Ranges([*first.names, *second.names])
    for name in ("least", "greatest", "total", "finite", "strange"):
        setattr(joined, name, np.concatenate([getattr(first, name), getattr(second, name)]))
    return joined


def _samples(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> Pictures:
    found.kind = "samples: redirected pictures of one method"
    found.why = "the file holds 'pixels' and 'pair'"
    pairs = measure(found, [root], "pair", ("pair",))
    found.fact("pairs", f"{pairs.least[0]:.0f} to {pairs.greatest[0]:.0f}")
    part = Part(str(file.attrs.get("model", "samples")), root.datasets["pixels"], (), None)
    return Pictures([part], "rgb", "the layout of samples")


def _supplementary(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> None:
    found.kind = "supplementary file of photos (camera, head pose, gaze target)"
    found.why = "groups hold " + ", ".join(repr(name) for name in SUPPLEMENTARY)
    details.supplementary(found, chosen)


def _landmarks(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> None:
    found.kind = "landmarks of photos, a shard of this workflow"
    found.why = "groups hold 'landmarks', 'score' and 'status'"
    details.landmarks(found, chosen)


def _parameters(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> None:
    found.kind = "exact parameters of a rendered capture"
    found.why = "groups hold 'landmarks' and 'mask'"


def _unknown(found: Findings, file: h5py.File, root: Group, chosen: Sequence[Group]) -> None:
    found.kind = "HDF5 of no kind that is known here"
    known: Mapping[str, tuple[str, ...]] = dict(_GROUPS + _ROOTS)
    found.why = "its datasets are none of " + "; ".join(", ".join(v) for v in known.values())
    found.facts.insert(0, ("members", some(sorted(file), _PERSONS_SHOWN) or "none"))


_DESCRIPTIONS = {
    "faces": _faces,
    "xgaze": _xgaze,
    "samples": _samples,
    "supplementary": _supplementary,
    "landmarks": _landmarks,
    "parameters": _parameters,
    "unknown": _unknown,
}
