"""One shard of persons: photos in, the landmarks file out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np

from regaze.landmarks.base import Detection, LandmarkDetector
from regaze.landmarks.files import name_problem, new_file, usable_persons, write_person
from regaze.normalise.photo import UnreadableImage, quiet_decoders, read_photo
from regaze.sources.records import PersonPhotos, PhotoSource, Source, SourceError
from regaze.threads import in_order

log = logging.getLogger(__name__)

_BYTES_AT_ONCE = 256 << 20


def detect_shard(
    source: PhotoSource | Source,
    persons: Sequence[str],
    detector: LandmarkDetector,
    out: str | Path,
    *,
    threads: int = 1,
) -> dict[str, int]:
    """Find the subject's landmarks in every photo of ``persons`` and write the landmarks file.

    Every photo gets its row, in the source's order; where nothing was found ``status`` tells why:
    ``no_face``, ``other_face``, ``unreadable_image``, ``bad_file_name``, or the reason for which
    the person could not be read. Landmarks that the data set brings itself are copied, without a
    score. Photos are held in memory a batch at a time, and fewer when they are large.

    Args:
        source: the opened raw data set, with head poses or without.
        persons: persons of the shard.
        detector: finds faces; see :class:`~regaze.landmarks.base.LandmarkDetector`.
        out: the file to write; see :mod:`regaze.landmarks.files`.
        threads: photos decoded at a time.

    Returns:
        Number of rows per status, ``found`` for those with landmarks.
    """
    counts: Counter[str] = Counter()
    attributes = {**detector.attributes, "source": source.kind}
    with new_file(out, attributes) as file, quiet_decoders():
        for person in usable_persons(persons):
            try:
                photos = _photos(source, person)
            except SourceError as error:
                log.warning("person %s left out: %s", person, error)
                names, rows = error.file_names, None
                if not names:
                    continue
                rows = [Detection(status=error.reason)] * len(names)
            else:
                names, rows = photos.file_name, _detect_person(photos, detector, threads)
            write_person(file, person, {"file_name": names, **_columns(rows)})
            here = Counter(row.status or "found" for row in rows)
            counts += here
            log.info("person %s: %d of %d faces found", person, here["found"], len(rows))
    return dict(sorted(counts.items()))


def _photos(source: PhotoSource | Source, person: str) -> PersonPhotos:
    """Return the photos of a data set, also of one that comes with head poses."""
    if hasattr(source, "photos"):
        return source.photos(person)
    records = source.read(person)
    shared = {one.name: getattr(records, one.name) for one in fields(PersonPhotos)
              if hasattr(records, one.name)}  # fmt: skip
    unknown = np.full((len(records), 4), np.nan)
    return PersonPhotos(**shared, face_box=unknown, gaze_angles=unknown[:, :2])


def _columns(rows: Sequence[Detection]) -> dict[str, object]:
    count = len(rows)
    return {
        "landmarks": np.array([row.landmarks for row in rows], np.float32).reshape(count, 68, 2),
        "score": np.array([row.score for row in rows], np.float32),
        "box": np.array([row.box for row in rows], np.float32).reshape(count, 4),
        "irises": np.array([row.irises for row in rows], np.float32).reshape(count, 2, 5, 2),
        "box_score": np.array([row.box_score for row in rows], np.float32),
        "faces_found": np.array([row.faces_found for row in rows], np.int32),
        "status": [row.status for row in rows],
    }


def _detect_person(
    photos: PersonPhotos, detector: LandmarkDetector, threads: int
) -> list[Detection]:
    rows: list[Detection | None] = [None] * len(photos)
    wanted = []
    for row, name in enumerate(photos.file_name):
        if problem := name_problem(name):
            rows[row] = Detection(status=problem)
        elif photos.landmarks is not None and np.isfinite(photos.landmarks[row]).all():
            given = np.asarray(photos.landmarks[row], np.float32)
            rows[row] = Detection(landmarks=given, status="")
        else:
            wanted.append(row)

    def read(row: int) -> np.ndarray | UnreadableImage:
        try:
            photo = read_photo(photos.root / photos.file_name[row], photos.root)
            return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)
        except UnreadableImage as error:
            return error

    batch: list[tuple[int, np.ndarray]] = []

    def detect() -> None:
        indices = [row for row, _ in batch]
        found = detector.detect([photo for _, photo in batch], photos.face_box[indices])
        if len(found) != len(batch):
            raise ValueError(
                f"{type(detector).__name__}: expected {len(batch)} detections, found {len(found)}"
            )
        for row, detection in zip(indices, found, strict=True):
            rows[row] = detection
        batch.clear()

    for row, photo in in_order(read, wanted, threads):
        if isinstance(photo, UnreadableImage):
            log.warning("%s", photo)
            rows[row] = Detection(status="unreadable_image")
            continue
        batch.append((row, photo))
        size = sum(one.nbytes for _, one in batch)
        if len(batch) >= detector.batch or size >= _BYTES_AT_ONCE:
            detect()
    if batch:
        detect()
    return rows
