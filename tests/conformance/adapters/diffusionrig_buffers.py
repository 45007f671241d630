"""diffusionrig/recentre: where an edited head goes."""

from __future__ import annotations

import numpy as np
import torch
from kit import adapter, assert_close

from regaze.face3d.buffers import face_centre, recentre, to_picture


def numbers_in(words: str) -> list[float]:
    """The numbers between brackets of a text such as "add (8.5, 0, 0)"."""
    return [float(part) for part in words[words.index("(") + 1 : words.index(")")].split(",")]


@adapter("diffusionrig/recentre")
def recentring(manifest, inputs, golden):
    x = {key: torch.from_numpy(np.asarray(value, np.float32)) for key, value in inputs.items()}
    size = manifest["config"]["image"]
    cam = x["cam"] + torch.tensor(numbers_in(manifest["inputs"]["cam"].get("then", "(0, 0, 0)")))
    tform = x["tform"].reshape(-1, 3, 3)
    source, edited = (face_centre(x[f"landmarks_{name}"]) for name in ("source", "edited"))
    assert_close(source, golden["center_source"], 1e-6, name="center_source")
    assert_close(edited, golden["center_edited"], 1e-6, name="center_edited")
    moved = recentre(x["verts_edited"], edited, source)
    assert_close(moved, golden["verts_shifted"], 1e-6, name="verts_shifted")
    for name, vertices in (("verts_image", moved), ("verts_image_noshift", x["verts_edited"])):
        found = to_picture(vertices, cam, tform, size, size)
        assert_close(found, golden[name], 1e-5, name=name)
