"""Numbers of other people's protocols, under names of their own.

GazeNeRF's (Ruzzi et al., CVPR 2023): fixed pairs, an estimator's reading of the redirected picture
against its reading of the true one, identity in hundredths. What differs from the default is told
beside the numbers, and the two are never in one column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from regaze.factors import LISTED
from regaze.landmarks.base import FindFaces
from regaze.metrics.entries import column_entry, null
from regaze.samples import Samples

PAPER = {
    "paper_gaze_deg": "gaze_vs_truth_deg",
    "paper_head_deg": "head_vs_truth_deg",
    "paper_identity": "identity_similarity",
    "paper_ssim": "ssim",
    "paper_psnr": "psnr",
    "paper_lpips": "lpips_vgg",
    "paper_l1": "l1",
}
"""Names of the protocol, and columns of ``per_pair.parquet``."""
PAPER_FID, NOT_DETECTED = "paper_fid", "paper_not_detected"
READ = ("paper_gaze_deg", "paper_head_deg", "paper_identity")
"""What is read of faces, and so of those alone that a detector finds."""

_HUNDREDTHS, _LEAST_SIDE, _CHUNK = 100.0, 256, 64


def not_detected(samples: Samples, numbers: Sequence[int], find: FindFaces) -> set[int]:
    """Pairs whose redirected pictures show no face to a detector.

    Small pictures are enlarged to 256 pixels, the least that detectors are made for.
    """
    lost = set()
    for start in range(0, len(numbers), _CHUNK):
        chunk = np.asarray(numbers[start : start + _CHUNK])
        for number, picture in zip(chunk, samples.read(chunk), strict=True):
            scale = max(1.0, _LEAST_SIDE / min(picture.shape[:2]))
            large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            if not find(large):
                lost.add(int(number))
    return lost


def paper_entry(
    rows: pd.DataFrame,
    lost: set[int],
    default: Mapping[str, Any],
    options: Mapping,
) -> dict[str, Any]:
    """The section of ``metrics.json`` of GazeNeRF's protocol.

    Args:
        rows: of ``per_pair.parquet``, of its pairs.
        lost: pairs in whose pictures no face was found; nothing that is read of faces counts them.
        default: the section as other kinds of pairs have it, for what judged, and reasons.
        options: of the bootstrap.
    """
    shown = rows[~rows["pair"].isin(lost)]
    entry: dict[str, Any] = {"pairs": len(rows), "persons": int(rows["person"].nunique())}
    for name, column in PAPER.items():
        told = {k: v for k, v in default[column].items() if k not in _NUMBERS}
        part = shown if name in READ else rows
        if len(rows) and not len(part):
            entry[name] = null("no face was found in any of the pictures")
            continue
        entry[name] = column_entry(part, column, options, told.pop("reason", "")) | told
    scaled = entry["paper_identity"]
    for key in ("mean", "standard_error"):
        if scaled[key] is not None:
            scaled[key] *= _HUNDREDTHS
    if scaled["interval"] is not None:
        scaled["interval"] = [_HUNDREDTHS * one for one in scaled["interval"]]
    entry[PAPER_FID] = dict(default["fid"])
    entry[NOT_DETECTED] = (
        {"mean": 100.0 * len(lost) / len(rows), "n": len(rows), "count": len(lost)}
        if len(rows)
        else null("no pairs of this kind were sampled")
    )
    return entry


_NUMBERS = ("mean", "standard_error", "interval", "n", "persons")


def facts(reader_attributes: Mapping[str, Any], samples: Mapping[str, Any]) -> dict[str, Any]:
    """What the protocol's numbers were made with, for ``metrics.json``."""
    return {
        "protocol": "gazenerf-paper",
        "kind": LISTED,
        "camera": "virtual",
        "focal": reader_attributes.get("focal"),
        "distance": reader_attributes.get("distance"),
        "fit": {key: samples.get(key) for key in ("sampler", "steps")},
        "lpips": "vgg16",
        "differs": [
            "the network is not trained further on the source; codes and camera are fitted",
            "pictures are read in the normalisation that the data have, not in one of each target",
            "pictures without a detected face are counted apart, not as a similarity of -0.1",
            "pictures are compared at the evaluation estimator's size",
        ],
    }
