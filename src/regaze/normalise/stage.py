"""The faces of one shard of a data set, whatever kind of data set it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regaze.normalise.linked import link_shard
from regaze.normalise.pipeline import normalise_shard
from regaze.normalise.rejections import RowCounts
from regaze.sources import open_source, source_options
from regaze.sources.marked import Marked
from regaze.sources.splits import deal


def make_faces(
    source: Mapping[str, Any],
    out_faces: str | Path,
    out_rejected: str | Path,
    *,
    shard: int,
    shards: int,
    persons: Sequence[str] | None = None,
    poses: str | Path | None = None,
    landmarks: str | Path | None = None,
    threads: int = 1,
    **faces: Any,
) -> RowCounts:
    """Write the faces of the persons dealt to ``shard``, and the table of rejected rows.

    Photos are normalised; releases that hold patches already are linked, not copied.

    Args:
        source: the entry of ``datasets``.
        out_faces: the faces HDF5.
        out_rejected: the parquet table of rejected rows.
        shard: number of the shard, from 0.
        shards: how many there are; see :func:`regaze.sources.splits.deal`.
        persons: who is dealt to the shard; default of everybody in the data set.
        poses: the shard's supplementary file, where head poses were found from the photos.
        landmarks: the shard's landmarks file, where faces are framed by landmarks that the data
            set does not bring.
        threads: photos at a time.
        faces: options of :func:`regaze.normalise.pipeline.normalise_shard`.

    Raises:
        SourceError: the data set cannot be opened.
    """
    options = source_options(source)
    opened = open_source(options)
    if persons is None:
        persons = deal(opened.persons, shards)[shard]
    if options.normalised:
        pixels = {"copy": options.copy_pixels, "check_pixels": options.check_pixels}
        return link_shard(opened, persons, out_faces, out_rejected, **pixels)
    # With more shards than people some have a file of poses without a group.
    if poses is not None and persons:
        opened = open_source(options, supplementary=poses)
    if landmarks is not None:
        opened = Marked(opened, landmarks)
    return normalise_shard(
        opened,
        persons,
        out_faces,
        out_rejected,
        undistort_camera=options.undistort_camera,
        threads=threads,
        **faces,
    )
