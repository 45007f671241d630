"""The head model of a run: the procedural one, or the user's own, checked."""

from __future__ import annotations

import logging
import os

from regaze.face3d.model import FlameModel, load_flame, model_hash, save_flame

log = logging.getLogger(__name__)

PROCEDURAL = "procedural"


def make_head(head_model: str | os.PathLike, out: str | os.PathLike) -> FlameModel:
    """Write the head model that captures and encoders of a run share; returns it.

    Args:
        head_model: ``procedural``, or an ``.npz`` made by ``regaze head convert`` or
            ``regaze head convert-ict``; it is checked and written anew.
        out: the ``.npz``; the same choice gives the same bytes.

    Raises:
        ValueError: the file is missing or no head model; the message names the array at fault.
    """
    if str(head_model) == PROCEDURAL:
        from regaze.capture.head import build_head

        model = build_head()
    else:
        model = load_flame(head_model)
    save_flame(out, model)
    log.info(
        "head model: %s, %d vertices, %d triangles, sha256 %s",
        model.meta.get("source", "unknown"),
        len(model.v_template),
        len(model.f),
        model_hash(model),
    )
    return model
