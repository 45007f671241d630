"""What of raw data sets the workflow reads: who is dealt to its shards, and from which files.

Snakemake compares the dates of inputs, and of a folder that is the date of the folder itself: a
photo that is overwritten goes unnoticed, and a note beside the persons' folders does not. So the
rules compare a manifest instead: a hash over names, sizes and dates of the files that the source
reads, by shard. It costs a listing of the persons' folders, once for each start of Snakemake.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from regaze.hdf5 import InUse
from regaze.sources import open_source
from regaze.sources.files import archives, photos_below
from regaze.sources.options import SourceOptions
from regaze.sources.records import SourceError, some
from regaze.sources.splits import NoSplit, SplitError, deal, listed_split, split_persons

NOT_LISTED = "not in the split"
NO_LABELS = "with photos but without labels"
NOT_THERE = "in the split but not in the data set"
NO_PHOTOS = "with labels but without photos"
_LISTED_AT_ONCE = 16
_FEW = 8


@dataclass(frozen=True)
class Manifest:
    """The files that some persons are read from.

    Attributes:
        files: how many there are.
        bytes: their sizes together.
        sizes: 16 hex digits over their names below the data set's root and their sizes.
        dates: 16 hex digits over these and the times of their last change.
    """

    files: int
    bytes: int
    sizes: str
    dates: str


def manifest(source, persons: Iterable[str], deep: bool = True) -> Manifest:
    """Return the manifest of what ``source`` reads of ``persons``; no content is read.

    A folder is listed once, as network file systems hand out sizes with a listing.

    Args:
        source: the opened data set.
        persons: of it.
        deep: look at each file; else, of folders of many, at the folder, whose date tells that
            files came or went, but not that one was overwritten in its place.

    Raises:
        InUse: a file that has to be looked into is being written.
    """
    root = os.fspath(source.root)
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for _, names in source.reads(persons):
        for name in names:
            folder, _, base = name.rpartition("/")
            wanted[folder].add(base)
    folders = sorted(wanted)
    with ThreadPoolExecutor(_LISTED_AT_ONCE) as pool:
        states = list(
            pool.map(lambda one: _states(os.path.join(root, one), wanted[one], deep), folders)
        )
    sizes, dates, files, total = hashlib.sha256(), hashlib.sha256(), 0, 0
    for folder, found in zip(folders, states, strict=True):
        found.sort()
        names = "\0".join([folder, *(name for name, _, _ in found), ""])
        listed = array("q", [size for _, size, _ in found])
        for digest in (sizes, dates):
            digest.update(names.encode("utf-8", "surrogateescape") + listed.tobytes())
        dates.update(array("q", [time for _, _, time in found]).tobytes())
        files += len(found)
        total += sum(listed)
    return Manifest(files, total, sizes.hexdigest()[:16], dates.hexdigest()[:16])


def photos_manifest(folder: str | os.PathLike) -> Manifest:
    """Return the manifest of all photos below a folder."""
    reads = [("", list(photos_below(Path(folder))))]
    return manifest(SimpleNamespace(root=folder, reads=lambda persons: reads), ())


def _states(folder: str, names: set[str], deep: bool) -> list[tuple[str, int, int]]:
    """Name, size and time of change (ns) of those of the named files of a folder that are there.

    Unless ``deep`` the folder stands for the files in it.
    """
    found = []
    try:
        if not deep and len(names) > _FEW:
            state = os.stat(folder)
            return [(".", 0, state.st_mtime_ns)]
        if len(names) > _FEW:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name in names:
                        with suppress(OSError):
                            state = entry.stat()
                            found.append((entry.name, state.st_size, state.st_mtime_ns))
            return found
    except OSError:
        return []
    for name in names:
        # The root itself may be the file.
        path = folder.rstrip("/") if name == "." else f"{folder}/{name}"
        with suppress(OSError, ValueError):
            state = os.stat(path)
            found.append((name, state.st_size, state.st_mtime_ns))
    return found


class RawData:
    """A raw data set as the workflow uses it.

    Attributes:
        source: the opened data set.
        lists: the split that it brings or that is named, None for shares or where there is none.
        persons: who is dealt to shards, sorted: those that the split lists and that are there.
        left_out: everybody else who is named anywhere, by why.

    Raises:
        InUse: a file is being written.
        SourceError: it cannot be opened, is not unpacked, or nobody is left.
        SplitError: its split cannot be used.
    """

    def __init__(self, options: SourceOptions):
        root = Path(str(options.root))
        try:
            self.source = open_source(options)
        except SourceError as error:
            raise SourceError(f"{error}{_unpack(archives(root))}") from error
        self.lists = None
        named = isinstance(options.split, str) or (root / "split.json").is_file()
        with suppress(NoSplit):
            # Who has none is told so by the split's own job; faces can be made without.
            self.lists, _ = listed_split(root, options.split, self.source)
        asked = None if self.lists is None else set(split_persons(self.lists))
        if packed := self.source.packed(asked if named else None):
            raise SourceError(f"{root}: expected a folder for each person{_unpack(packed)}")
        known, bare = set(self.source.persons), set(self.source.unlabelled())
        everybody = known | bare
        chosen = everybody if asked is None else everybody & asked
        empty = chosen & known - self.source.present(chosen & known)
        self.persons = sorted(chosen & known - empty)
        left = {
            NOT_LISTED: everybody - chosen,
            NO_LABELS: chosen - known,
            NOT_THERE: (asked or set()) - everybody,
            NO_PHOTOS: empty,
        }
        self.left_out = {why: sorted(who) for why, who in left.items() if who}
        if not self.persons:
            told = "; ".join(f"{why}: {some(who)}" for why, who in self.left_out.items())
            raise SourceError(
                f"{root}: expected persons with photos, found none ({told})"
                f"{_unpack(archives(root))}"
            )
        self._deep = options.watch == "files"
        self._shards: dict[tuple[int, int], dict[str, object]] = {}

    def people(self) -> dict[str, object]:
        """Return who is dealt to shards, and who is not and why."""
        return {"persons": self.persons, "left_out": self.left_out}

    def split(self) -> dict[str, object]:
        """Return who is there, and a hash over the split's lists, "" where shares decide."""
        lists = "" if self.lists is None else _short(repr(sorted(self.lists.items())))
        return {"persons": self.persons, "lists": lists}

    def shard(self, number: int, shards: int) -> dict[str, object]:
        """Return who is dealt to a shard, and the manifest of what is read of them."""
        if (number, shards) not in self._shards:
            persons = deal(self.persons, shards)[number]
            found = manifest(self.source, persons, deep=self._deep)
            made = {"persons": persons, **vars(found)}
            self._shards[number, shards] = made
        return self._shards[number, shards]

    def told(self) -> list[str]:
        """Return a line for each reason that somebody is left out for."""
        total = len(self.persons) + sum(map(len, self.left_out.values()))
        return [
            f"{len(who)} of {total} persons are left out, {why}: {some(who)}"
            for why, who in self.left_out.items()
        ]


class RawSets(dict[str, "RawData | None"]):
    """The raw data sets of a configuration by name, opened when they are asked for.

    It is None for one that is rendered, and where there is no root, as on a machine that only got
    the results.
    """

    def __init__(self, datasets: Mapping[str, SourceOptions]):
        super().__init__()
        self._options = datasets

    def __missing__(self, name: str) -> RawData | None:
        options = self._options[name]
        there = options.source != "synthetic" and os.path.exists(str(options.root))
        self[name] = RawData(options) if there else None
        return self[name]

    def faults(self, names: Iterable[str]) -> list[str]:
        """Return a line for each of these that cannot be used."""
        faults = []
        for name in names:
            try:
                _ = self[name]
            except (SourceError, SplitError, InUse) as error:
                faults.append(f"datasets.{name}: {error}")
        return faults

    def told(self, names: Iterable[str]) -> list[str]:
        """Return lines about persons of these who are left out."""
        opened = ((name, self[name]) for name in names)
        return [f"{name}: {line}" for name, data in opened if data for line in data.told()]


def _unpack(packed: list[str]) -> str:
    if not packed:
        return ""
    listed = some(packed, 3)
    return f"; found {len(packed)} archives that are not unpacked ({listed}): unpack them first"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
