"""Which head model published 3-D encoders belong to, and which one a head model is.

The networks of ``yfeng95/DECA`` and ``radekd91/emoca`` regress codes of FLAME 2020 (DECA's
``data/FLAME2020/generic_model.pkl``; ``yfeng95/DECA`` issue 46). Editions have the same topology,
the same arrays and the same size of file, but other templates, shapes and expressions: a code of
one is another face in the other. They are told apart by the model file's SHA-256, which the
conversion records. Importable without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING

from regaze.face3d.settings import EncoderSettings

if TYPE_CHECKING:
    from regaze.face3d.model import FlameModel

EDITIONS = {
    "efcd14cc4a69f3a3d9af8ded80146b5b6b50df3bd74cf69108213b144eba725b": "2020",
    "8fb1af0db1abb51053ead8fd1f2624a63d01c9602f4a4fb4ea23bd2c82017fa0": "2023",
    "e75a0990728ba038c7da2a420ae4396f7ddd7781366c13026066c5b24f127623": "2023 Open",
}
"""FLAME's edition by SHA-256 of its file: ``generic_model.pkl``, ``flame2023.pkl``,
``flame2023_Open.pkl``."""

PUBLISHED = "2020"
"""Edition that DECA's and EMOCA's published weights belong to."""

DECA_SHA256 = "e714ed293054cba5eea9c96bd3b6b57880074cd84b3fd00d606cbaf0bee7c5c2"
"""The published ``deca_model.tar``."""

SHAPES = 300
"""Identity directions of FLAME; those after them are expressions."""

TOPOLOGY = (5023, 9976, 400, SHAPES)
"""Vertices, triangles, directions and identity directions of all editions."""


def edition_of(meta: Mapping) -> str | None:
    """FLAME's edition by a head model's ``meta``; None for other models and unknown files.

    A known file counts more than what the conversion was told.
    """
    if meta.get("source") != "flame":
        return None
    given = meta.get("inputs", {}).get("model", {}).get("sha256")
    return EDITIONS.get(given, meta.get("edition"))


def describe(meta: Mapping) -> str:
    """A head model in words."""
    source = meta.get("source")
    if source == "flame":
        edition = edition_of(meta)
        name = meta.get("inputs", {}).get("model", {}).get("name", "an unnamed file")
        return f"FLAME {edition}" if edition else f"FLAME of an unknown edition ({name})"
    known = {"synthetic": "the procedural head", "ict": "ICT-FaceKit's head"}
    return known.get(source, "a head model of unknown source")


def why_not_published(meta: Mapping, n_shape_total: int = SHAPES, sha256: str = "...") -> str:
    """Why published weights do not belong to a head model, and what to do; "" if they do.

    Args:
        meta, n_shape_total: of the head model.
        sha256: its hash, for the message.
    """
    if edition_of(meta) != PUBLISHED:
        return (
            f"expected FLAME {PUBLISHED} as head model, which published weights belong to, found "
            f"{describe(meta)}; make it of FLAME {PUBLISHED}'s generic_model.pkl with `regaze head "
            f"convert` (and `--edition {PUBLISHED}` if that file was saved anew), and name it in "
            "capture.head_model, or in --head. Weights that you trained on this head model "
            f"yourself need head_sha256: {sha256}"
        )
    if n_shape_total != SHAPES:
        return (
            f"expected {SHAPES} identity directions, as FLAME has, found {n_shape_total}: "
            "expressions would be taken for identities; convert the head model again"
        )
    return ""


def foreign_head(head: FlameModel, stated: str | None = None) -> str:
    """Why weights of the published layout do not belong to a head model; "" if they do.

    ``stated`` is the hash of the one that they belong to, None of published weights.
    """
    from regaze.face3d.model import model_hash

    found = model_hash(head)
    if stated is None:
        return why_not_published(head.meta, head.n_shape_total, found)
    if stated == found:
        return ""
    return f"head_sha256: the weights belong to {stated}, this head model is {found}"


def foreign_heads(
    encoders: Mapping[str, EncoderSettings], head_model: str | PathLike | None
) -> list[str]:
    """A line for every published DECA of a configuration that its head model does not belong to.

    Asked before a run, whose faces would be made for nothing. EMOCA's files tell themselves which
    head model they belong to, and are asked when they are opened.
    """
    asked = [
        name
        for name, entry in encoders.items()
        if entry.checkpoint is not None and entry.head_sha256 is None
    ]
    if not asked:
        return []
    if head_model is None:
        fault = why_not_published({"source": "synthetic"})
    else:
        from regaze.face3d.model import load_flame, model_hash

        head = load_flame(head_model)
        fault = why_not_published(head.meta, head.n_shape_total, model_hash(head))
    return [f"encoders.{name}.checkpoint: {fault}" for name in asked if fault]
