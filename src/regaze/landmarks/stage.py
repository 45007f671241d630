"""The two landmark stages of one shard of a data set, as rules run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regaze.assets import require
from regaze.landmarks.detect import detect_shard
from regaze.landmarks.poses import pose_shard
from regaze.landmarks.settings import WEIGHTS
from regaze.sources import open_source, source_options
from regaze.sources.splits import deal


def make_landmarks(
    source: Mapping[str, Any],
    out: str | Path,
    *,
    shard: int,
    shards: int,
    weights: Mapping[str, str | Path],
    sha256: Mapping[str, str | None],
    persons: Sequence[str] | None = None,
    device: str = "auto",
    batch: int = 16,
    max_side: int = 960,
    threads: int = 1,
) -> dict[str, int]:
    """Write the landmarks file of the persons dealt to ``shard``; return rows per status.

    Args:
        source: the entry of ``datasets``.
        out: the landmarks file.
        shard: number of the shard, from 0.
        shards: how many there are; see :func:`regaze.sources.splits.deal`.
        weights: files of :data:`~regaze.landmarks.settings.WEIGHTS`.
        sha256: their checksums where they are the user's own, else None.
        persons: who is dealt to the shard; default of everybody in the data set.
        device, batch, max_side: see :class:`regaze.landmarks.detector.Detector`.
        threads: of the networks on a CPU, and photos decoded at a time.

    Raises:
        AssetError: weights are missing or not the right ones.
        SourceError: the data set cannot be opened.
    """
    files = [require(name, weights[name], sha256.get(name)) for name in WEIGHTS]
    # Only here: the other stage needs neither torch nor the detector's package.
    import torch

    from regaze.landmarks.detector import Detector

    torch.set_num_threads(threads)
    opened, persons = _dealt(source, shard, shards, persons)
    detector = Detector(*files, device=device, batch=batch, max_side=max_side)
    return detect_shard(opened, persons, detector, out, threads=threads)


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
