"""Pages as text: one file with everything in it, which asks no other host for anything."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from regaze.page.atlas import Atlas

TEMPLATES = Path(__file__).with_name("templates")
_STEP = 5.0
"""Degrees of pitch by which an arrow key moves a face that a model draws."""
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; media-src blob:; "
    "script-src 'unsafe-inline'{script}; connect-src {connect}; worker-src {worker}; "
    "base-uri 'none'; form-action 'none'"
)


def atlas_page(faces: Sequence[tuple[str, Atlas]], *, title: str, about: str) -> str:
    """A page of faces that were drawn beforehand, by name."""
    told = [{"name": name, **_atlas(one)} for name, one in faces]
    script = _script("page.js") + "begin(Atlas);\n"
    policy = _POLICY.format(script="", connect="'none'", worker="'none'")
    return _page(told, {"faces": told}, script, policy, title=title, about=about)


def live_page(
    faces: Sequence[tuple[str, np.ndarray, Mapping[str, Any]]],
    model: Mapping[str, Any],
    blobs: Mapping[str, str],
    *,
    reach: tuple[float, float],
    title: str,
    about: str,
) -> str:
    """A page whose faces a model draws.

    Args:
        faces: name, picture (H, W, 3) uint8, and what :func:`regaze.page.live.live_face` tells.
        model: ``size``, names of ``graphs`` and ``eye_boxes``.
        blobs: packed content by name: ``script`` and ``wasm`` of the runtime, and the graphs.
        reach: degrees of pitch and yaw that a pointer at the rim asks for.
        title, about: of the page.
    """
    step = [_STEP, _STEP * reach[1] / reach[0]]
    told = [
        {
            "name": name,
            "width": picture.shape[1],
            "height": picture.shape[0],
            "base": image_address(picture),
            "reach": list(reach),
            "step": step,
            **one,
        }
        for name, picture, one in faces
    ]
    policy = _POLICY.format(
        script=" 'wasm-unsafe-eval' blob:", connect="data: blob:", worker="blob:"
    )
    script = _script("page.js") + _script("live.js")
    return _page(
        told, {**model, "faces": told}, script, policy, title=title, about=about, blobs=blobs
    )


def image_address(picture: np.ndarray) -> str:
    """A ``data:`` address of a picture (H, W, 3) uint8, lossless."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", lossless=True, method=2)
    return _address(file.getvalue())


def _address(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def _atlas(one: Atlas) -> dict[str, Any]:
    steps = [abs(values[1] - values[0]) for values in (one.pitches, one.yaws)]
    return {
        "width": one.size[0],
        "height": one.size[1],
        "base": _address(one.base),
        "cells": _address(one.cells),
        "box": list(one.box),
        "pitches": one.pitches,
        "yaws": one.yaws,
        "reach": [one.pitches[0], one.yaws[0]],
        "step": steps,
        "used": _degrees(one.used),
        "measured": None if one.measured is None else _degrees(one.measured),
        "gaze": _degrees(one.gaze),
        "between": list(one.eyes),
    }


def _degrees(values: np.ndarray):
    """Nested lists of degrees to a tenth, null where nothing was read."""
    rounded = np.round(np.asarray(values, np.float64), 1).astype(object)
    rounded[np.asarray(values) != np.asarray(values)] = None
    return rounded.tolist()


def _script(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _page(faces, data, script, policy, *, title, about, blobs=None) -> str:
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # A name may hold what ends a script.
    text = text.replace("<", "\\u003c")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        about=about,
        faces=faces,
        policy=policy,
        live=blobs is not None,
        blobs={name: Markup(one) for name, one in (blobs or {}).items()},
        data=Markup(text),
        css=Markup(_script("page.css")),
        script=Markup(script),
    )
