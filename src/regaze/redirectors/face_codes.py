"""Codes of a data set's faces as networks are told them, in training and while redirecting."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
import torch

from regaze.codes import DEFAULT_PARTS, code_dim, code_parts
from regaze.faces import FacesReader
from regaze.latents import IDENTITY, LatentsReader
from regaze.redirectors.base import Redirector
from regaze.redirectors.xunet.codes import code_rows, target_code

_BLOCK = 4096
"""Rows read at a time, so that columns that nobody is told take no memory."""


class FaceCodes:
    """Rows of codes, (n, Dc) float32, of the faces of a data set.

    Args:
        latents: shards of the data set's latents.
        faces: its faces; rows are numbered as there.
        parts: columns, see :func:`regaze.codes.code_parts`.
        expect: the encoder that the codes must be of, as a model's record names it; None takes
            any.

    Attributes:
        detected: (N,) bool, rows that have codes.
        identity: the encoder, see :data:`regaze.latents.IDENTITY`.

    Raises:
        FileNotFoundError, regaze.latents.LatentsError: latents that cannot be used, or of another
            encoder or other faces.
        ValueError: unknown parts.
    """

    def __init__(
        self,
        latents: Sequence[str | PathLike],
        faces: FacesReader,
        parts: Sequence[str] = DEFAULT_PARTS,
        expect: Mapping[str, str] | None = None,
    ):
        self.parts = code_parts(parts)
        self._reader = LatentsReader(latents, faces, expect=expect, columns=self.parts)
        self.detected, self.identity = self._reader.detected, dict(self._reader.identity)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Codes (n, Dc) float32 of rows; zeros where no face was detected.

        Memory: the result, 624 bytes per row with the default parts.
        """
        rows = np.asarray(rows, np.int64)
        made = np.empty((len(rows), code_dim(self.parts)), np.float32)
        for start in range(0, len(rows), _BLOCK):
            part = {
                name: torch.from_numpy(values)
                for name, values in self._reader.read(rows[start : start + _BLOCK]).items()
            }
            made[start : start + _BLOCK] = code_rows(part, self.parts).numpy()
        return made

    def fingerprint(self) -> str:
        """Return 16 hex digits over the codes of all rows, and over which rows have any."""
        digest = hashlib.sha256(self.detected.tobytes())
        for start in range(0, len(self.detected), _BLOCK):
            digest.update(self.read(np.arange(start, min(start + _BLOCK, len(self.detected)))))
        return digest.hexdigest()[:16]

    def of_pairs(
        self, sources: np.ndarray, targets: np.ndarray, mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What pairs of pictures are told, however well their faces were found.

        Args:
            sources: (B,) rows.
            targets: (B,) rows, -1 where there is no target picture.
            mean: (Dc,) mean of the training codes, which is told of sources without a code.

        Returns:
            Codes of sources and of targets, (B, Dc) each, and (B,) bool, False where a target
            has none.
        """
        source = torch.from_numpy(self.read(sources))
        source[torch.from_numpy(~self.detected[sources])] = mean.to(source)
        known = (targets >= 0) & self.detected[targets]
        target = torch.from_numpy(self.read(np.where(known, targets, sources)))
        return source, target, torch.from_numpy(known)


def told_batch(
    batch: Mapping[str, torch.Tensor],
    source: torch.Tensor,
    target: torch.Tensor | None = None,
    known: torch.Tensor | None = None,
    parts: Sequence[str] = DEFAULT_PARTS,
) -> dict[str, torch.Tensor]:
    """``source_code`` and ``target_code`` (B, Dc) to be added to a batch.

    A target whose photo has no code, or that has no photo, gets the source's code turned as the
    head labels say: what a model that is told angles alone is told.

    Args:
        batch: with ``source_head`` and ``target_head`` (B, 2) radians.
        source: (B, Dc) codes of the sources.
        target: (B, Dc) codes of the target photos; None: there are none.
        known: (B,) bool, which rows of ``target`` count; None: all.
        parts: what the rows hold.
    """
    heads = (batch[f"{side}_head"].to(source.device) for side in ("source", "target"))
    turned = target_code(source, None, *heads, "source", parts)
    if target is None:
        target = turned
    elif known is not None:
        target = torch.where(known[:, None], target, turned)
    return {"source_code": source, "target_code": target}


class PairCodes:
    """Codes for the pairs that a trained redirector is asked to make pictures of.

    Args:
        redirector: that is told codes.
        record: its ``model.json``, whose ``encoder`` the codes must be of.
        latents: shards of the data set's latents.
        faces: the data set's faces.

    Raises:
        ValueError: there are no latents, the record names no encoder, or the latents are of
            another one.
    """

    def __init__(
        self,
        redirector: Redirector,
        record: Mapping,
        latents: Sequence[str | PathLike],
        faces: FacesReader,
    ):
        name = record.get("name")
        if not latents:
            raise ValueError(
                f"latents: model {name!r} is told 3-D codes of the faces; expected the files of "
                "their latents, found none"
            )
        self.expected = recorded_encoder(record)
        self.kind = record["config"]["deca"]["target_code"]
        self._faces, self._mean = faces, redirector.mean_code().detach().cpu()
        self._codes = FaceCodes(latents, faces, record["config"]["deca"]["parts"], self.expected)
        self._counts = {"sources_without_code": 0, "targets_without_code": 0}

    def batch(self, table, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What rows of a pairs table add to their batch, see :func:`told_batch`."""
        rows = {
            side: np.array(
                [
                    self._faces.global_index(person, index) if index >= 0 else -1
                    for person, index in zip(table["person"], table[f"{side}_index"], strict=True)
                ],
                np.int64,
            )
            for side in ("source", "target")
        }
        source, target, known = self._codes.of_pairs(rows["source"], rows["target"], self._mean)
        self._counts["sources_without_code"] += int((~self._codes.detected[rows["source"]]).sum())
        self._counts["targets_without_code"] += int((~known).sum())
        return told_batch(batch, source, target, known, self._codes.parts)

    def of_sources(self, rows: np.ndarray) -> torch.Tensor:
        """``sources_code`` (B, K, Dc) of rows (B, K), for pairs with K pictures of the source."""
        rows = np.asarray(rows, np.int64)
        nobody = np.full(rows.size, -1)
        code, _, _ = self._codes.of_pairs(rows.reshape(-1), nobody, self._mean)
        return code.reshape(*rows.shape, -1)

    def describe(self) -> dict[str, str | int]:
        """Whose code targets had, and of how many pairs so far there was none."""
        counts = dict(self._counts)
        if self.kind == "source":
            del counts["targets_without_code"]
        return {"target_code": self.kind, **counts}


def recorded_encoder(record: Mapping) -> dict[str, str]:
    """The encoder whose codes a model was trained with, as its ``model.json`` names it.

    Raises:
        ValueError: it names none.
    """
    found = record.get("encoder")
    if not isinstance(found, Mapping) or any(name not in found for name in IDENTITY):
        raise ValueError(
            f"model.json of {record.get('name')!r}: encoder: expected {', '.join(IDENTITY)} of the "
            f"encoder that it was trained with, found {found!r}"
        )
    return {name: str(found[name]) for name in IDENTITY}
