"""The two landmark stages of one shard of a data set, as rules run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regaze.landmarks.detect import detect_shard
from regaze.landmarks.detectors import open_detector
from regaze.landmarks.poses import pose_shard
from regaze.sources import open_source, source_options
from regaze.sources.splits import deal


def make_landmarks(
    source: Mapping[str, Any],
    out: str | Path,
    *,
    shard: int,
    shards: int,
    detector: str = "mediapipe",
    weights: Mapping[str, str | Path] | None = None,
    sha256: Mapping[str, str | None] | None = None,
    persons: Sequence[str] | None = None,
    device: str = "auto",
    batch: int = 16,
    max_side: int | None = None,
    threads: int = 1,
) -> dict[str, int]:
    """Write the landmarks file of the persons dealt to ``shard``; return rows per status.

    Args:
        source: the entry of ``datasets``.
        out: the landmarks file.
        shard: number of the shard, from 0.
        shards: how many there are; see :func:`regaze.sources.splits.deal`.
        detector: see :func:`regaze.landmarks.detectors.open_detector`.
        weights, sha256, device, batch, max_side: as there.
        persons: who is dealt to the shard; default of everybody in the data set.
        threads: of the networks on a CPU, and photos decoded at a time.

    Raises:
        AssetError: weights are missing or not the right ones.
        SourceError: the data set cannot be opened.
    """
    made = open_detector(
        detector,
        weights,
        sha256,
        device=device,
        batch=batch,
        max_side=max_side,
        threads=threads,
    )
    opened, persons = _dealt(source, shard, shards, persons)
    return detect_shard(opened, persons, made, out, threads=threads)


def make_poses(
    source: Mapping[str, Any],
    out: str | Path,
    *,
    shard: int,
    shards: int,
    persons: Sequence[str] | None = None,
    landmarks: str | Path | None = None,
    min_score: float = 0.5,
) -> dict[str, int]:
    """Write the supplementary file of the persons dealt to ``shard``; return rows per status.

    Args:
        source: the entry of ``datasets``.
        out: the supplementary file.
        shard: number of the shard, from 0.
        shards: how many there are.
        persons: who is dealt to the shard; default of everybody in the data set.
        landmarks: the shard's landmarks file; None when the data set brings landmarks itself.
        min_score: see :func:`regaze.landmarks.poses.pose_shard`.

    Raises:
        SourceError: the data set or the landmarks file cannot be opened.
    """
    opened, persons = _dealt(source, shard, shards, persons)
    return pose_shard(opened, persons, landmarks, out, min_score=min_score)


def _dealt(
    source: Mapping[str, Any], shard: int, shards: int, persons: Sequence[str] | None
) -> tuple[Any, Sequence[str]]:
    """Return the opened data set and the persons that are dealt to ``shard``."""
    opened = open_source(source_options(source))
    return opened, deal(opened.persons, shards)[shard] if persons is None else persons
