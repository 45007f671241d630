"""Who of a raw data set is there, and which files what is read of them depends on."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

from regaze.sources.photo_header import PHOTO_ENDINGS
from regaze.sources.records import PersonRecords, SourceError, printable
from regaze.sources.regular import read_regular

_ARCHIVE = re.compile(r"\.(tar|tar\.(gz|bz2|xz|zst)|tgz|tbz2|txz|zip|rar|7z)(\.\d{3})?$", re.I)
_LOOKED_AT, _LOOKED_INTO = 100, 10


class PersonFiles:
    """What sources share whose persons have a folder of photos each, below ``root``.

    A source of another layout overrides what differs; ``persons`` and ``kind`` are its own.
    """

    root: Path
    persons: list[str]

    person_names: ClassVar[str] = ""
    """Pattern of persons' names, for archives of theirs to be known; none for any name."""

    @property
    def place(self) -> Path:
        """The folder that the persons' folders are in."""
        return self.root

    def folder(self, person: str) -> Path:
        """Return where a person's photos lie."""
        return self.place / person

    def present(self, persons: Collection[str]) -> set[str]:
        """Return those of whom the data set holds any photos, by looking for their folders."""
        return {person for person in persons if self.folder(person).is_dir()}

    def unlabelled(self) -> list[str]:
        """Return who has photos but no labels, and so is none of ``persons``."""
        return []

    def packed(self, asked: Collection[str] | None) -> list[str]:
        """Return archives, each of one person, of persons who have no folder beside.

        Args:
            asked: the persons who matter; None for everybody.
        """
        names = {name: _ARCHIVE.sub("", name) for name in archives(self.place)}
        matter = {
            person
            for person in names.values()
            if (re.fullmatch(self.person_names, person) if asked is None else person in asked)
        }
        absent = matter - self.present(matter)
        return [name for name, person in names.items() if person in absent]

    def reads(self, persons: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield each person with the names below ``root`` of the files that it is read from.

        Files that :meth:`SourceOptions.files` names are not among them. Files that are not there
        may be: that they appear is a change too.
        """
        for person in persons:
            yield person, self.person_files(person)

    def known_rows(self, person: str) -> int | None:
        """Return how many rows a person has who cannot be read, None where nobody knows.

        It is the number of photos that lie in the person's folder.
        """
        count = sum(1 for _ in photos_below(self.folder(person)))
        return count or None

    def person_files(self, person: str) -> list[str]:
        """Return the names below ``root`` of one person's files, by default all photos there."""
        home = os.path.relpath(self.folder(person), self.root)
        return [os.path.join(home, name) for name in photos_below(self.folder(person))]


class BarePhotos(PersonFiles):
    """What sources share that know photos below ``root`` of ``persons``, and no head poses.

    ``labels`` says in messages where head poses would be.
    """

    labels = "a supplementary file"

    def read(self, person: str) -> PersonRecords:
        """Always raise: nothing is known of head poses before they are found.

        Raises:
            SourceError: always.
        """
        raise SourceError(
            f"{self.root}: person {person}: expected head poses in {self.labels}, "
            "found photos alone",
            "missing_key",
        )

    def require(self, person: str) -> None:
        """Raise a SourceError unless ``person`` is one of the data set."""
        if person not in self.persons:
            raise SourceError(
                f"{self.root}: person {person}: expected a folder, found none", "missing_person"
            )


def data_folder(root: str | Path) -> Path:
    """Return the folder of a data set.

    Raises:
        SourceError: there is none.
    """
    root = Path(root)
    if not root.is_dir():
        raise SourceError(f"{root}: expected the data set's folder, found none")
    return root


def file_content(
    path: Path, wanted: str, reason: str = "missing_key", most: int = 1 << 28
) -> bytes:
    """Return the content of a file of a data set, of at most ``most`` bytes.

    Raises:
        SourceError: there is none, or something else; ``wanted`` says what was expected. Its
            reason is ``reason``, ``bad_shape`` of a file that is larger.
    """
    try:
        return read_regular(path, most)
    except OSError as error:
        large = error.errno == errno.EFBIG
        told = f"expected {wanted}, found {'' if large else 'none: '}{error.strerror or error}"
        raise SourceError(f"{path}: {told}", "bad_shape" if large else reason) from error


def photos_below(folder: Path) -> Iterator[str]:
    """Yield the names of photos below a folder, without hidden ones; nothing where there is none.

    Links to folders are not followed.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        near = os.path.relpath(place, folder)
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(PHOTO_ENDINGS):
                yield os.path.normpath(os.path.join(near, name))


def any_photo(folder: Path, deeper: int = 1) -> bool:
    """Return whether a folder, or one in it, begins with photos; little of it is looked at."""
    try:
        with os.scandir(folder) as entries:
            first = list(islice(entries, _LOOKED_AT))
    except OSError:
        return False
    if any(entry.name.lower().endswith(PHOTO_ENDINGS) for entry in first if entry.is_file()):
        return True
    below = (Path(entry.path) for entry in first if entry.is_dir(follow_symlinks=False))
    return deeper > 0 and any(any_photo(one, deeper - 1) for one in islice(below, _LOOKED_INTO))


def archives(place: Path) -> list[str]:
    """Return the names of archives in a folder, sorted, or the one name of what is an archive."""
    try:
        names = os.listdir(place) if place.is_dir() else [place.name]
    except OSError:
        return []
    return sorted(printable(name) for name in names if _ARCHIVE.search(name))
