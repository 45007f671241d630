"""Small captures of every layout, ways to damage them, and what must come of each.

A :class:`Damage` acts in place on a copy of one capture. :func:`make` runs everything between the
raw data and the faces of it, the landmark and pose steps included where the layout needs them.
The catalogue itself is in the modules ``damaged_*``.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import h5py
import numpy as np

from captures import columbia, eth_xgaze, faces_hdf5, gazecapture, mpiifacegaze, photo_folder
from regaze.faces import FacesReader
from regaze.landmarks.base import Detection
from regaze.landmarks.detect import detect_shard
from regaze.landmarks.stage import make_poses
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.rejections import gather_rejected, read_rejected
from regaze.normalise.stage import make_faces
from regaze.sources import open_source, source_options

FIRST = frozenset({(0, 0)})
"""The first row of the first person, which most damages hit."""


@dataclass(frozen=True)
class Damage:
    """One way to damage a capture of one layout.

    Attributes:
        name: of the damage.
        layout: key of :data:`LAYOUTS`.
        apply: damages the capture in a folder in place; may return options that replace those of
            the data set's entry, of which ``poses`` are supplementary files given from outside.
        touched: (person, row) numbers of the damaged rows; every other row must stay as it is.
        reasons: reason -> number of rejected rows; none of the touched rows is kept then, unless
            ``kept`` tells how many are.
        kept: number of touched rows, or of rows that the damage added, that are kept; None when
            each may be kept or rejected, which is no matter here or depends on libraries.
        error: pattern of the one error that ends the job instead.
        close: whether what is kept of the touched rows looks as without the damage.
        after: ``raw``: the data set itself is damaged; ``landmarks``, ``poses``: what those steps
            wrote, ``landmarks.h5`` and ``poses.h5`` in the folder.
    """

    name: str
    layout: str
    apply: Callable[[Path], dict | None]
    touched: frozenset = FIRST
    reasons: dict[str, int] = field(default_factory=dict)
    kept: int | None = 0
    error: str = ""
    close: bool = False
    after: str = "raw"

    @property
    def id(self):
        """Name for a report of tests."""
        return f"{self.layout}-{self.name}"


@dataclass(frozen=True)
class Layout:
    """A small capture: ``write(folder)`` makes it there, ``entry(folder)`` is its configuration.

    ``persons`` are two names, ``photos`` the first person's file names below ``data``.
    """

    write: Callable[[Path], object]
    entry: Callable[[Path], dict]
    persons: tuple[str, str]
    rows: tuple[int, int]
    photos: tuple[str, ...] = ()
    landmarks: bool = False

    def person(self, number=0):
        """(person, row) numbers of all rows of a person."""
        return frozenset((number, row) for row in range(self.rows[number]))

    def everybody(self):
        """(person, row) numbers of all rows."""
        return self.person(0) | self.person(1)


@dataclass(frozen=True)
class Made:
    """What came of a capture: kept rows by (person, file name, or row where there is no name),
    as pixels and labels; the table of rejected rows; the counts."""

    kept: dict
    rejected: list
    rows_in: int
    rows_out: int


def _few(people, *counts):
    return {person: people[person][:count] for person, count in zip(people, counts, strict=False)}


def _gazecapture(folder, supplementary=True):
    people = _few(gazecapture.frames(), 3, 2)
    truth = gazecapture.gazecapture(folder / "data", people, supplementary=supplementary)
    # What nothing reads would only have to be copied for every damage.
    for path in folder.glob("data/*/*.json"):
        if supplementary or path.stem not in ("frames", "appleFace", "dotInfo", "info", "screen"):
            path.unlink()
    if supplementary:
        with h5py.File(folder / "data" / "parameters.h5", "w") as file:
            for person in people:
                marks = [shot.landmarks for (owner, _), shot in truth.items() if owner == person]
                file[f"{person}/landmarks"] = np.array(marks, np.float32)
    return truth


def _eth_xgaze(folder):
    truth = eth_xgaze.eth_xgaze(folder / "data", _few(eth_xgaze.photos(), 3, 1))
    for path in folder.glob("data/calibration/*/cam*.xml"):
        if path.stem not in ("cam00", "cam03", "cam06"):
            path.unlink()
    return truth


def _faces(folder):
    everybody = _few(gazecapture.frames(), 3, 2).items()
    people = {person: [frame.shot for frame in rows] for person, rows in everybody}
    return faces_hdf5.faces_hdf5(folder / "data.h5", people)


def _folder(folder, tables=True):
    gaze = "target" if tables else None
    return photo_folder.photo_folder(
        folder / "data", landmarks=tables, intrinsics=tables, gaze=gaze
    )[0]


def _entry(source, *tables, name="data", **more):
    def entry(folder):
        files = {table: str(folder / f"data-{table}.csv") for table in tables}
        return {"source": source, "root": str(folder / name), **files, **more}

    return entry


_GAZECAPTURE = {"persons": ("00002", "00517"), "rows": (3, 2)}
_FRAMES = tuple(f"00002/frames/{row:05d}.jpg" for row in range(3))
_MPII = {"persons": ("p00", "p07"), "rows": (3, 2)}
_DAYS = ("p00/day01/0005.jpg", "p00/day01/0031.jpg", "p00/day03/0002.jpg")
_XGAZE = {"persons": ("subject0000", "subject0004"), "rows": (3, 1)}
_CAMERAS = tuple(f"data/train/subject0000/frame0000/cam{n:02d}.JPG" for n in (0, 3, 6))

LAYOUTS = {
    "gazecapture": Layout(_gazecapture, _entry("gazecapture"), photos=_FRAMES, **_GAZECAPTURE),
    "gazecapture_json": Layout(
        lambda folder: _gazecapture(folder, False),
        _entry("gazecapture"),
        photos=_FRAMES,
        landmarks=True,
        **_GAZECAPTURE,
    ),
    "mpiifacegaze": Layout(
        lambda folder: mpiifacegaze.mpiifacegaze(folder / "data"),
        _entry("mpiifacegaze"),
        photos=_DAYS,
        **_MPII,
    ),
    "mpiifacegaze_landmarks": Layout(
        lambda folder: mpiifacegaze.mpiifacegaze(folder / "data"),
        _entry("mpiifacegaze", pose="landmarks"),
        photos=_DAYS,
        landmarks=True,
        **_MPII,
    ),
    "eth_xgaze": Layout(
        _eth_xgaze,
        _entry("eth_xgaze"),
        photos=_CAMERAS,
        **_XGAZE,
    ),
    "eth_xgaze_hdf5": Layout(
        lambda folder: eth_xgaze.eth_xgaze_hdf5(folder / "data", _few(eth_xgaze.photos(), 3, 1)),
        _entry("eth_xgaze_hdf5"),
        **_XGAZE,
    ),
    "columbia": Layout(
        lambda folder: columbia.columbia(folder / "data", _few(columbia.photos(), 3, 1)),
        _entry("columbia"),
        persons=("0001", "0013"),
        rows=(3, 1),
        photos=("0001/0001_2m_-15P_10V_-5H.jpg", "0001/0001_2m_0P_0V_0H.jpg"),
        landmarks=True,
    ),
    "faces_hdf5": Layout(_faces, _entry("faces_hdf5", name="data.h5"), **_GAZECAPTURE),
    "folder": Layout(
        _folder,
        _entry("folder", "landmarks", "intrinsics", "gaze"),
        persons=("anna", "bert"),
        rows=(2, 1),
        photos=("anna/office/one.jpg", "anna/two.jpeg"),
        landmarks=True,
    ),
    "folder_bare": Layout(
        lambda folder: _folder(folder, False),
        _entry("folder"),
        persons=("anna", "bert"),
        rows=(2, 1),
        photos=("anna/office/one.jpg", "anna/two.jpeg"),
        landmarks=True,
    ),
}


class TrueDetector:
    """Finds the landmarks that are true of a photo, which it knows again by its looks.

    Args:
        layout: the layout whose undamaged photos are known.
    """

    attributes = {"detector": "truth"}
    batch = 4

    def __init__(self, layout):
        self._known = _known(layout)

    def detect(self, photos, boxes):
        """Find the face in each photo; see :class:`regaze.landmarks.base.LandmarkDetector`."""
        return [self._find(photo) for photo in photos]

    def _find(self, photo):
        seen = [(pixels, shot) for pixels, shot in self._known if pixels.shape == photo.shape]
        if not seen:
            return Detection(status="no_face")
        _, shot = min(seen, key=lambda one: cv2.norm(one[0], photo, cv2.NORM_L1))
        marks = shot.exact_landmarks().astype(np.float32)
        box = np.concatenate([marks.min(0), marks.max(0)])
        return Detection(marks, 0.95, box, 0.99, faces_found=1, status="")


@cache
def _known(layout):
    people = {
        "gazecapture_json": lambda: [
            frame.shot for rows in gazecapture.frames().values() for frame in rows
        ],
        "columbia": lambda: [row[-1] for rows in columbia.photos().values() for row in rows],
        "mpiifacegaze_landmarks": lambda: [
            shot for rows in mpiifacegaze.photos().values() for _, shot in rows
        ],
        "folder_bare": lambda: [
            shot for rows in photo_folder.photos().values() for _, shot in rows
        ],
    }
    shots = people.get(layout, list)()
    return [(np.ascontiguousarray(shot.pixels), shot) for shot in shots]


def make(layout, folder, out, damage=None):
    """Make the faces of the capture in ``folder``, with ``damage`` done to it before or between.

    Everything is written into ``out``. Returns a :class:`Made`; errors pass through.
    """
    out.mkdir(exist_ok=True)
    entry, poses = LAYOUTS[layout].entry(folder), None

    def strike(stage):
        if damage is not None and damage.after == stage:
            changed = damage.apply(folder if stage == "raw" else out)
            entry.update(changed if isinstance(changed, dict) else {})

    strike("raw")
    poses = entry.pop("poses", None)
    if LAYOUTS[layout].landmarks:
        found, options = None, source_options(entry)
        if not options.brings_landmarks():
            found = out / "landmarks.h5"
            source = open_source(options)
            detect_shard(source, source.persons, TrueDetector(layout), found)
            strike("landmarks")
        poses = out / "poses.h5"
        make_poses(entry, poses, shard=0, shards=1, landmarks=found)
        strike("poses")
    faces, rejected = out / "faces.h5", out / "rejected.parquet"
    how = {} if "hdf5" in layout else {"frame_check": "ellipsoid"}
    if isinstance(poses, list):
        source = open_source(entry, supplementary=poses)
        counts = normalise_shard(source, source.persons, faces, rejected, **how)
    else:
        counts = make_faces(entry, faces, rejected, shard=0, shards=1, poses=poses, **how)
    gather_rejected([rejected], [counts.rows_out], out / "all.parquet", 1.0)
    table, told = read_rejected(rejected)
    assert told == counts
    return Made(_rows(faces), table.to_pylist(), counts.rows_in, counts.rows_out)


def _rows(path):
    reader = FacesReader(path)
    rows = reader.rows()
    pixels = reader.pixels(rows)
    index = reader.dataset("source_index", rows)
    names = reader.dataset("file_name", rows) if reader.has("file_name") else [b""] * len(rows)
    kept = {}
    for row, person in enumerate(reader.person_of):
        name = names[row].decode() if isinstance(names[row], bytes) else str(names[row])
        key = (reader.persons[person], name or int(index[row]))
        # A file may name a photo twice.
        while key in kept:
            key = (*key, "again")
        kept[key] = pixels[row], reader.labels[row]
    return kept


def copied(master, folder):
    """Copy a capture, links and all, and return the copy."""
    shutil.copytree(master, folder, symlinks=True)
    return folder
