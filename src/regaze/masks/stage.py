"""The masks stage: the masks of one faces file, by whichever method."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def make_masks(
    faces: str | os.PathLike,
    out: str | os.PathLike,
    method: str,
    *,
    source: Mapping[str, Any] | None = None,
    latents: str | os.PathLike | None = None,
    head: str | os.PathLike | None = None,
    parsing: str | os.PathLike | None = None,
    rasterizer: str = "auto",
    device: str = "auto",
) -> int:
    """Write the masks of one shard; returns the number of rows that have any.

    Args:
        faces: the faces HDF5.
        out: the masks HDF5.
        method: ``exact`` and ``released`` need ``source``, ``mesh`` needs ``latents``
            and ``head``, ``parsing`` needs ``parsing``.
        source: the entry of ``datasets``, with its ``root``.
        latents: latents of this faces file.
        head: the head model's ``.npz``.
        parsing: weights of the face parser.
        rasterizer: backend, see :mod:`regaze.face3d.rasterize`.
        device: of the parser; ``auto`` takes the GPU when there is one.
    """
    if method == "mesh":
        from regaze.masks.mesh import write_mesh

        return write_mesh(faces, latents, head, out, rasterizer=rasterizer)
    if method == "parsing":
        from regaze.masks.parsed import write_parsed

        return write_parsed(faces, parsing, out, device=device)
    if method == "released":
        from regaze.masks.released import write_released

        return write_released(faces, source, out)
    from regaze.masks.exact import write_exact
    from regaze.sources import open_source

    return write_exact(faces, source["root"], open_source(dict(source)).read, out)
