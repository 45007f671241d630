"""Capture records with landmarks that were looked for in the photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from regaze.sources.hdf5 import opened
from regaze.sources.records import PersonRecords, Source, SourceError, losing, printable
from regaze.sources.supplementary import file_names, number_rows, person_group, text_rows


class Marked:
    """A data set whose records have the landmarks of a file where they have none of their own.

    Rows in whose photo no face was found have that as their ``status``.

    Args:
        source: the opened data set.
        path: the shard's landmarks file, see :mod:`regaze.landmarks.files`.
    """

    def __init__(self, source: Source, path: str | Path):
        self._source, self.path = source, Path(path)

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def read(self, person: str) -> PersonRecords:
        """Return the records of ``person``.

        Raises:
            SourceError: as the data set's own; or the file lacks the person, or was made of other
                photos (``stale_landmarks``).
        """
        records = self._source.read(person)
        where, count = f"{self.path}: person {person}", len(records)
        with losing(records.file_name), opened(self.path, where) as file:
            where, group = person_group(self.path, file, person)
            if file_names(where, group) != tuple(map(printable, records.file_name)):
                raise SourceError(
                    f"{where}: file_name: expected the {count} photos of the data set, found "
                    "others; make the landmarks again",
                    "stale_landmarks",
                )
            found = number_rows(where, group, "landmarks", ((68, 2),), count)
            told = text_rows(where, group, "status", count)
        own = np.full((count, 68, 2), np.nan) if records.landmarks is None else records.landmarks
        missing = ~np.isfinite(own).all(axis=(1, 2))
        before = records.status or ("",) * count
        status = [
            one or (word if lacks else "")
            for one, word, lacks in zip(before, told, missing, strict=True)
        ]
        landmarks = np.where(missing[:, None, None], found, own)
        return replace(records, landmarks=landmarks, status=tuple(status))
