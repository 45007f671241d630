"""How well a recogniser tells people apart: same person against different people."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from regaze.angles import angular_error
from regaze.estimators.subsets import evaluation_subset
from regaze.faces import FacesReader
from regaze.identity.align import embed_patches
from regaze.identity.base import FaceRecogniser
from regaze.images import reduce_patches

MOST_ROWS = 2000
"""Pictures compared with each other; of more, so many evenly spread ones are taken."""


def roc(same: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return (area under the curve, equal error rate) of two sets of similarities, (n,) and (m,).

    The area is the chance that a same-person similarity exceeds one of two people, ties counting
    half; at the equal error rate as many same-person pairs are refused as others are accepted.
    Raises ValueError for an empty set.
    """
    same, other = np.sort(np.asarray(same, np.float64)), np.sort(np.asarray(other, np.float64))
    if not len(same) or not len(other):
        raise ValueError(f"similarities: expected some of both, found {len(same)}, {len(other)}")
    below = np.searchsorted(other, same, "left") + np.searchsorted(other, same, "right")
    area = float(below.mean() / (2 * len(other)))
    levels = np.unique(np.concatenate([same, other]))
    refused = np.searchsorted(same, levels, "left") / len(same)
    accepted = 1 - np.searchsorted(other, levels, "left") / len(other)
    # The last where none is refused as often as others are accepted.
    place = int(np.argmax(refused >= accepted)) if (refused >= accepted).any() else -1
    return area, float((refused[place] + accepted[place]) / 2)


def verify(
    network: FaceRecogniser,
    reader: FacesReader,
    rows: np.ndarray,
    *,
    sted_view: bool = True,
    size_px: int | None = None,
    same_deg: float = 0.05,
    batch: int = 64,
) -> dict[str, float | int]:
    """Compare the faces ``rows`` (global indices) with each other.

    Pictures of one person count when their head poses differ by more than ``same_deg`` degrees
    (all of them where no two do), so that the network cannot go by the pose. With ``size_px``
    pictures are first reduced to the side that redirected pictures have.

    Returns:
        ``auc``, ``eer``, mean cosines ``same_mean`` and ``other_mean``, and counts ``same_pairs``,
        ``other_pairs``, ``pictures`` and ``persons``. Memory is bounded by :data:`MOST_ROWS`.

    Raises:
        ValueError: fewer than two people, or nobody with two pictures.
    """
    rows = np.asarray(rows, np.int64)
    if len(rows) > MOST_ROWS:
        rows = rows[evaluation_subset(len(rows), MOST_ROWS / len(rows))]
    vectors = np.concatenate(list(_embedded(network, reader, rows, sted_view, size_px, batch)))
    persons = reader.person_of[rows]
    first, second = np.triu_indices(len(rows), 1)
    cosine = np.einsum("ij,ij->i", vectors[first], vectors[second])
    same = persons[first] == persons[second]
    heads = reader.labels[rows, 2:4]
    turned = same & (angular_error(heads[first], heads[second]) > same_deg)
    ours = cosine[turned if turned.any() else same]
    area, equal = roc(ours, cosine[~same])
    return {
        "auc": area,
        "eer": equal,
        "same_mean": float(ours.mean()),
        "other_mean": float(cosine[~same].mean()),
        "same_pairs": len(ours),
        "other_pairs": int((~same).sum()),
        "pictures": len(rows),
        "persons": len(np.unique(persons)),
    }


def _embedded(network, reader, rows, sted_view, size_px, batch) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), batch):
        images = reduce_patches(reader.pixels(rows[start : start + batch]), size_px)
        yield embed_patches(network, images, sted_view).cpu().numpy()
