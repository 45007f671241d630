"""What is said of HDF5 files beyond their schema: angles, cameras, distances, landmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regaze.inspection.findings import RANGE_COLUMNS, Findings, Ranges, Table, some

if TYPE_CHECKING:
    from regaze.inspection.hdf5_files import Group

_SUPPLEMENTARY = (
    ("camera_parameters", ("fx", "fy", "cx", "cy")),
    ("distortion_parameters", ("k1", "k2", "p1", "p2", "k3")),
    ("head_pose", ("rotation x", "rotation y", "rotation z", "head x", "head y", "head z (depth)")),
    ("3d_gaze_target", ("target x", "target y", "target z")),
)


def label_table(found: Findings, ranges: Ranges) -> Table:
    """Return the ranges of labels in degrees, and warn of what no label can be."""
    for column, name in enumerate(ranges.names):
        reach = max(abs(ranges.least[column]), abs(ranges.greatest[column]))
        if not ranges.finite[column]:
            continue
        limit = np.pi / 2 if name.endswith("pitch") else np.pi
        if reach > limit + 1e-3:
            found.warn(
                f"{name}: values up to {reach:.3g}, beyond {limit:.3g} rad; perhaps degrees, which "
                "this table then shows far too large"
            )
    lost = ranges.strange[(ranges.strange > 0) & (ranges.finite > 0)]
    if len(lost):
        found.warn(f"labels: up to {lost.max():,} rows of a column are not finite")
    return Table("Labels in degrees", RANGE_COLUMNS, ranges.rows(180 / np.pi))


def supplementary(found: Findings, chosen: Sequence[Group]) -> None:
    """Add cameras, distances and names of a supplementary file."""
    from regaze.inspection.hdf5_files import measure

    rows = []
    for name, columns in _SUPPLEMENTARY:
        if any(name in group.datasets for group in chosen):
            ranges = measure(found, chosen, name, columns)
            rows += ranges.rows(digits=4 if name.startswith("distortion") else 1)
            if name == "head_pose" and len(ranges.names) == 6 and ranges.finite[5]:
                _judge_depth(found, ranges)
            if name == "camera_parameters" and ranges.finite.any() and ranges.least[:2].min() <= 0:
                found.warn("camera_parameters: a focal length is not positive")
        else:
            found.warn(f"{name}: no group has it")
    rows += _distances(found, chosen)
    title = "Cameras in px, rotation vectors in rad, positions in mm"
    found.tables.append(Table(title, RANGE_COLUMNS, rows))
    names, examples = [group.datasets["file_name"] for group in chosen], []
    for data in names[:: max(1, len(names) // 4)][:5]:
        if len(data):
            examples.append(text_of(data[len(data) // 2]))
    found.fact("file names", some(examples))


def _judge_depth(found: Findings, ranges: Ranges) -> None:
    mean = ranges.total[5] / ranges.finite[5]
    if ranges.least[5] <= 0:
        found.warn(f"head_pose: depth down to {ranges.least[5]:.1f} mm, behind the camera")
    if 0 < mean < 20:
        found.warn(f"head_pose: mean depth {mean:.2f}; perhaps metres, millimetres are expected")


def _distances(found: Findings, chosen: Sequence[Group]) -> list[list[str]]:
    """Return the distances camera to head and head to target, in mm."""
    from regaze.inspection.hdf5_files import blocks

    ranges = Ranges(("camera to head", "head to target"))
    quiet = Findings(found.path, "", "")  # what can be said of a dataset has been said
    for group in chosen:
        pose, target = group.datasets["head_pose"], group.datasets["3d_gaze_target"]
        fits = pose.shape[1:] == (6,) and target.shape[1:] == (3,) and len(pose) == len(target)
        if not fits:
            continue
        start = 0
        for block in blocks(pose, quiet, group.name):
            head = block[:, 3:].astype(np.float64)
            aim = target[start : start + len(block)].astype(np.float64)
            start += len(block)
            both = (np.linalg.norm(head, axis=1), np.linalg.norm(aim - head, axis=1))
            ranges.add(np.stack(both, 1))
    return ranges.rows()


def landmarks(found: Findings, chosen: Sequence[Group]) -> None:
    """Add how many faces were found, why others were not, and how sure the detector was."""
    from regaze.inspection.hdf5_files import blocks, measure

    reasons: Counter[str] = Counter()
    for group in chosen:
        for block in blocks(group.datasets["status"], found, f"{group.name}/status"):
            reasons.update(text_of(value) for value in block)
    total = sum(reasons.values())
    good = reasons.pop("", 0)
    found.fact("landmarks found", f"{good:,} of {total:,} photos")
    if reasons:
        lines = [[reason, f"{count:,}"] for reason, count in reasons.most_common(20)]
        found.tables.append(Table("Photos without landmarks", ("reason", "photos"), lines))
    rows = []
    for name in ("score", "box_score", "faces_found"):
        if any(name in group.datasets for group in chosen):
            rows += measure(found, chosen, name, (name,)).rows(digits=3)
    found.tables.append(Table("How sure the detector was", RANGE_COLUMNS, rows))


def text_of(value: object) -> str:
    """Return a value of a text dataset as text, whatever bytes it holds."""
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)
