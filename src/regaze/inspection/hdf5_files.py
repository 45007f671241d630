"""HDF5 files: recognised by the datasets of their groups, counted, and measured block by block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from regaze.faces import LABELS
from regaze.filetypes import damage
from regaze.hdf5 import InUse, hdf5_file
from regaze.inspection.findings import RANGE_COLUMNS, Findings, InspectError, Ranges
from regaze.inspection.pictures import MAX_ROWS, Part, Pictures, require_small_chunks
from regaze.sources.hdf5 import text_of
from regaze.sources.records import some
from regaze.views import is_ffhq

BLOCK_BYTES = 1 << 23
_PERSONS_SHOWN = 6
_DEGREES = 180 / np.pi
_COLUMNS = ("dataset", "shape", "dtype", "chunk", "compression")


@dataclass
class Group:
    """A group of a file: its datasets by name, and members that are none."""

    name: str
    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows of the dataset that comes first, as upstream readers count."""
        return next((len(data) if data.ndim else 0 for data in self.datasets.values()), 0)


class Kind(NamedTuple):
    """A kind of file: what its groups (or its root) hold, and which numbers are measured."""

    words: str
    needed: tuple[str, ...]
    measured: Mapping[str, tuple[str, ...]] = {}
    title: str = ""
    factor: float = 1.0
    digits: int = 1
    more: Callable[[Findings, h5py.File, Sequence[Group]], Pictures | None] = lambda *_: None
    of_root: bool = False


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
    found = Findings(path)
    if kind is None:
        found.kind = "HDF5 of no kind that is known here"
        found.why = "its datasets are none of " + "; ".join(", ".join(k.needed) for k in _KINDS)
        found.fact("members", some(sorted(file), _PERSONS_SHOWN) or "none")
    else:
        found.kind = kind.words
        *first, last = map(repr, kind.needed)
        found.why = f"{'the file holds' if kind.of_root else 'groups hold'} "
        found.why += f"{', '.join(first)} and {last}"
        _counts(found, chosen, kind)
        _unwritten(found, chosen)
    _attributes(found, file)
    _schema(found, root, groups)
    pictures = None
    if kind is not None:
        pictures = kind.more(found, file, chosen)
        _measured(found, kind, chosen)
    if pictures is not None:
        pictures.look(found, rows)
        if sheet is not None:
            pictures.draw(found, sheet)
        else:
            found.fact("contact sheet", "not drawn; --sheet FILE.png draws these pictures")
    elif sheet is not None:
        raise InspectError(f"{path}: a sheet needs pictures, found {found.kind}")
    return found


def _members(file: h5py.File) -> tuple[Group, list[Group]]:
    """Return the root's own datasets and its groups, without following links."""
    root = _group("", file)
    inner = [n for n in root.others if isinstance(file.get(n, getlink=True), h5py.HardLink)]
    groups = [_group(name, file[name]) for name in inner if isinstance(file[name], h5py.Group)]
    named = {group.name for group in groups}
    root.others = [name for name in root.others if name not in named]
    return root, groups


def _group(name: str, group: h5py.Group) -> Group:
    made = Group(name)
    for member in sorted(group):
        own = isinstance(group.get(member, getlink=True), h5py.HardLink)
        item = group[member] if own else None
        if isinstance(item, h5py.Dataset):
            made.datasets[member] = item
        else:
            made.others.append(member)
    return made


def _recognise(root: Group, groups: list[Group]) -> tuple[Kind | None, list[Group]]:
    """Return the kind that most groups are of, with these groups."""
    best, chosen = None, []
    for kind in _KINDS:
        places = [root] if kind.of_root else groups
        having = [group for group in places if group.datasets.keys() >= set(kind.needed)]
        if having and kind.of_root:
            return kind, having
        if len(having) > len(chosen):
            best, chosen = kind, having
    return best, chosen


def _counts(found: Findings, chosen: Sequence[Group], kind: Kind) -> None:
    counts = [group.rows for group in chosen]
    if not kind.of_root:
        found.fact("persons", f"{len(chosen):,}: {some([g.name for g in chosen], _PERSONS_SHOWN)}")
    found.fact("rows", f"{sum(counts):,}")
    if not kind.of_root:
        middle = f"median {np.median(counts):,.0f}"
        found.fact("rows per person", f"min {min(counts):,}, {middle}, max {max(counts):,}")
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
                example.setdefault(name, f"{group.name}/{name}".lstrip("/"))
    for name, missing in absent.items():
        told = f"{name}: {missing:,} pieces were never written and read as zeros"
        found.warn(f"{told}, as in {example[name]}")


def _attributes(found: Findings, file: h5py.File) -> None:
    lines = []
    for name in sorted(file.attrs):
        kind = file.attrs.get_id(name)
        if math.prod(kind.shape or (1,)) > 64:
            lines.append([name, f"{kind.dtype} of shape {kind.shape}"])
            continue
        value = file.attrs[name]
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        lines.append([name, str(value)[:200]])
    if lines:
        found.table("Attributes of the file", ("attribute", "value"), lines)
    else:
        found.fact("attributes", "none")


def _schema(found: Findings, root: Group, groups: list[Group]) -> None:
    """Add a table per set of groups that look alike, N standing for their rows."""
    if root.datasets:
        found.table("Datasets", _COLUMNS, _lines(root, fixed=True))
    if root.others:
        found.warn(f"members of the file that are no datasets or groups: {some(root.others, 5)}")
    alike: dict[tuple, list[str]] = {}
    for group in groups:
        alike.setdefault(tuple(_lines(group)), []).append(group.name)
        if group.others:
            found.warn(f"{group.name}: members that are no datasets: {some(group.others, 5)}")
    for lines, names in sorted(alike.items(), key=lambda item: -len(item[1]))[:8]:
        found.table(f"Datasets of {len(names):,} groups ({some(names, 3)})", _COLUMNS, lines)
    if len(alike) > 1:
        found.warn(f"groups are of {len(alike)} forms; see the tables")
    if not root.datasets and not groups:
        found.warn("the file holds no datasets")


def _lines(group: Group, fixed: bool = False) -> list[tuple[str, ...]]:
    rows, lines = group.rows, []
    for name, data in group.datasets.items():
        shape, chunk = list(map(str, data.shape)), list(map(str, data.chunks or ()))
        if shape and not fixed and data.shape[0] == rows:
            shape[0] = "N"
            if chunk and data.chunks[0] == rows > 1:
                chunk[0] = "N"
        packed = "link to another file" if data.is_virtual else data.compression or ""
        if packed == "gzip":
            packed += f" {data.compression_opts}"
        text = h5py.check_string_dtype(data.dtype)
        dtype = "text" if text is not None and text.length is None else str(data.dtype)
        lines.append((name, "x".join(shape) or "()", dtype, "x".join(chunk), packed))
    return lines


def blocks(found: Findings, where: str, *datasets: h5py.Dataset) -> Iterator[list[np.ndarray]]:
    """Yield rows of datasets side by side in pieces of bounded size, at most the first MAX_ROWS."""
    total = min(map(len, datasets))
    if total > MAX_ROWS:
        found.warn(f"{where}: claims {total:,} rows; only the first {MAX_ROWS:,} were looked at")
        total = MAX_ROWS
    for data in datasets:
        require_small_chunks(data, where)
    width = max(math.prod(data.shape[1:]) * data.dtype.itemsize for data in datasets)
    step = max(1, BLOCK_BYTES // max(1, width))
    for start in range(0, total, step):
        yield [data[start : min(total, start + step)] for data in datasets]


def _measured(found: Findings, kind: Kind, chosen: Sequence[Group]) -> None:
    """Add the table of the ranges of a kind, and warn of what they cannot be."""
    rows = []
    for name, columns in kind.measured.items():
        if not any(name in group.datasets for group in chosen):
            if kind.more is _supplementary:
                found.warn(f"{name}: no group has it")
            continue
        ranges = measure(found, chosen, name, columns)
        digits = 4 if name == "distortion_parameters" else kind.digits
        rows += ranges.rows(kind.factor, digits)
        if name in _JUDGED:
            _JUDGED[name](found, ranges)
    if kind.more is _supplementary:
        rows += _distances(found, chosen)
    if kind.title:
        found.table(kind.title, RANGE_COLUMNS, rows)


def measure(
    found: Findings, chosen: Sequence[Group], name: str, columns: tuple[str, ...]
) -> Ranges:
    """Return the ranges of a numeric dataset over groups; columns beyond ``columns`` are named."""
    ranges: Ranges | None = None
    for group in chosen:
        data = group.datasets.get(name)
        where = f"{group.name}/{name}".lstrip("/")
        form = "none" if data is None else f"shape {data.shape} of type {data.dtype}"
        if data is None or data.dtype.kind not in "fiub" or data.ndim < 1:
            found.warn(f"{where}: expected numbers, found {form}")
            continue
        width = math.prod(data.shape[1:])
        if ranges is None:
            more = (f"{name}[{n}]" for n in range(len(columns), min(width, 64)))
            ranges = Ranges([*columns, *more][:width])
        if width != len(ranges.names):
            found.warn(f"{where}: expected {len(ranges.names)} columns, found {form}")
            continue
        for (block,) in blocks(found, where, data):
            ranges.add(block)
    return Ranges(columns) if ranges is None else ranges


def _judge_angles(found: Findings, ranges: Ranges) -> None:
    reach = np.maximum(np.abs(ranges.least), np.abs(ranges.greatest))
    for name, size, finite in zip(ranges.names, reach, ranges.finite, strict=True):
        limit = np.pi / 2 if name.endswith("pitch") else np.pi
        if finite and size > limit + 1e-3:
            found.warn(
                f"{name}: values up to {size:.3g}, beyond {limit:.3g} rad; perhaps degrees, which "
                "this table then shows far too large"
            )
    lost = ranges.strange[(ranges.strange > 0) & (ranges.finite > 0)]
    if len(lost):
        found.warn(f"labels: up to {lost.max():,} rows of a column are not finite")


def _judge_head(found: Findings, ranges: Ranges) -> None:
    if len(ranges.names) != 6 or not ranges.finite[5]:
        return
    mean = ranges.total[5] / ranges.finite[5]
    if ranges.least[5] <= 0:
        found.warn(f"head_pose: depth down to {ranges.least[5]:.1f} mm, behind the camera")
    if 0 < mean < 20:
        found.warn(f"head_pose: mean depth {mean:.2f}; perhaps metres, millimetres are expected")


def _judge_camera(found: Findings, ranges: Ranges) -> None:
    if ranges.finite.any() and ranges.least[:2].min() <= 0:
        found.warn("camera_parameters: a focal length is not positive")


_JUDGED = {
    "labels": _judge_angles,
    "face_gaze": _judge_angles,
    "face_head_pose": _judge_angles,
    "head_pose": _judge_head,
    "camera_parameters": _judge_camera,
}


def _distances(found: Findings, chosen: Sequence[Group]) -> list[list[str]]:
    """Return the distances camera to head and head to target, in mm."""
    ranges = Ranges(("camera to head", "head to target"))
    quiet = Findings(found.path)  # what can be said of a dataset has been said
    for group in chosen:
        pose, target = group.datasets["head_pose"], group.datasets["3d_gaze_target"]
        if pose.shape[1:] == (6,) and target.shape[1:] == (3,) and len(pose) == len(target):
            for heads, aims in blocks(quiet, group.name, pose, target):
                head = heads[:, 3:].astype(np.float64)
                both = (head, aims - head)
                ranges.add(np.stack([np.linalg.norm(one, axis=1) for one in both], 1))
    return ranges.rows()


def _faces(found: Findings, file: h5py.File, chosen: Sequence[Group]) -> Pictures:
    first = chosen[0].datasets
    shape, width = first["pixels"].shape, first["labels"].shape[-1] if first["labels"].ndim else 0
    found.why = (
        f"groups hold 'pixels' {'x'.join(['N', *map(str, shape[1:])])} and 'labels' Nx{width}"
    )
    if {"variant", "frame_check"} <= set(file.attrs):
        found.kind = f"faces, a shard of this workflow ({file.attrs['variant']})"
        if is_ffhq(file.attrs):
            found.fact("framing", "ffhq: squares of the photos; labels are the virtual camera's")
        if str(file.attrs.get("gaze", "")) == "absent":
            found.fact("gaze", "absent on purpose: these photos have no gaze label")
    elif shape[1:] == (64, 256, 3) and width == 4:
        found.kind = "faces as swook/faze_preprocess writes them, eye strip (faze)"
    elif shape[1:] == (128, 128, 3) and width == 8:
        found.kind = "faces as swook/faze_preprocess writes them, full face (sted)"
    virtual = [one for one in (group.datasets["pixels"] for group in chosen) if one.is_virtual]
    targets = sorted({source.file_name for one in virtual for source in one.virtual_sources()})
    if targets:
        found.fact("pixels", f"links into {some(targets, 5)}")
    for name in targets:
        if name != "." and not (found.path.parent / name).is_file():
            found.warn(f"linked pixels: {name} is not there; HDF5 shows such pictures as black")
    declared = file.attrs.get("channel_order")
    declared = declared.decode() if isinstance(declared, bytes) else declared
    parts = [
        Part(g.name, g.datasets["pixels"], (g.datasets["labels"],), g.datasets.get("landmarks"))
        for g in chosen
    ]
    return Pictures(parts, declared, "the file's attribute channel_order")


def _xgaze(found: Findings, file: h5py.File, chosen: Sequence[Group]) -> Pictures:
    datasets = chosen[0].datasets
    patch = datasets["face_patch"]
    found.kind += f" ({'x'.join(map(str, patch.shape[1:3]))} px)"
    for name in {"cam_index", "frame_index"} & datasets.keys():
        one = measure(found, chosen, name, (name,))
        found.fact(name, f"{one.least[0]:.0f} to {one.greatest[0]:.0f}")
    part = Part(found.path.stem, patch, _camera_labels(datasets), datasets.get("facial_landmarks"))
    order = text_of(file.attrs.get("channel_order", "bgr"))
    return Pictures([part], order, "the release")


def _camera_labels(datasets: Mapping[str, h5py.Dataset]):
    """Gaze and head of the virtual camera's frame; none where the gaze is of the head's."""
    names = ("face_gaze", "face_head_pose")
    return tuple(datasets[name] for name in names) if set(names) <= datasets.keys() else ()


def _samples(found: Findings, file: h5py.File, chosen: Sequence[Group]) -> Pictures:
    pairs = measure(found, chosen, "pair", ("pair",))
    found.fact("pairs", f"{pairs.least[0]:.0f} to {pairs.greatest[0]:.0f}")
    part = Part(str(file.attrs.get("model", "samples")), chosen[0].datasets["pixels"])
    return Pictures([part], "rgb", "the layout of samples")


def _supplementary(found: Findings, file: h5py.File, chosen: Sequence[Group]) -> None:
    names = [group.datasets["file_name"] for group in chosen]
    few = [data for data in names[:: max(1, len(names) // 4)][:5] if len(data)]
    found.fact("file names", some([text_of(data[len(data) // 2]) for data in few]))


def _landmarks(found: Findings, file: h5py.File, chosen: Sequence[Group]) -> None:
    reasons: Counter[str] = Counter()
    for group in chosen:
        for (block,) in blocks(found, f"{group.name}/status", group.datasets["status"]):
            reasons.update(map(text_of, block))
    total, good = sum(reasons.values()), reasons.pop("", 0)
    found.fact("landmarks found", f"{good:,} of {total:,} photos")
    if reasons:
        found.table("Photos without landmarks", ("reason", "photos"), reasons.most_common(20))


_KINDS = (
    Kind(
        "GazeNeRF, one person of its data sets",
        ("face_patch", "head_mask", "latent_codes", "pitchyaw_head", "face_head_pose"),
        {"pitchyaw_head": ("gaze pitch, down", "gaze yaw, head"), "face_head_pose": LABELS[2:4]},
        "Labels in degrees, the gaze in the head's frame",
        factor=_DEGREES,
        more=_xgaze,
        of_root=True,
    ),
    Kind(
        "ETH-XGaze, one subject of the normalised release",
        ("face_patch", "face_gaze", "face_head_pose"),
        {"face_gaze": LABELS[:2], "face_head_pose": LABELS[2:4]},
        "Labels in degrees",
        factor=_DEGREES,
        more=_xgaze,
        of_root=True,
    ),
    Kind(
        "samples: redirected pictures of one method",
        ("pixels", "pair"),
        more=_samples,
        of_root=True,
    ),
    Kind(
        "faces in the layout of swook/faze_preprocess, of another size",
        ("pixels", "labels"),
        {"labels": LABELS},
        "Labels in degrees",
        factor=_DEGREES,
        more=_faces,
    ),
    Kind(
        "supplementary file of photos (camera, head pose, gaze target)",
        ("file_name", "camera_parameters", "head_pose", "3d_gaze_target"),
        {
            "camera_parameters": ("fx", "fy", "cx", "cy"),
            "distortion_parameters": ("k1", "k2", "p1", "p2", "k3"),
            "head_pose": (
                *("rotation x", "rotation y", "rotation z"),
                *("head x", "head y", "head z (depth)"),
            ),
            "3d_gaze_target": ("target x", "target y", "target z"),
        },
        "Cameras in px, rotation vectors in rad, positions in mm",
        more=_supplementary,
    ),
    Kind(
        "landmarks of photos, a shard of this workflow",
        ("landmarks", "score", "status"),
        {name: (name,) for name in ("score", "box_score", "faces_found")},
        "How sure the detector was",
        digits=3,
        more=_landmarks,
    ),
    Kind("exact parameters of a rendered capture", ("landmarks", "mask")),
    Kind("inversions of faces that are trained on, and their codes", ("pictures", "codes")),
)
