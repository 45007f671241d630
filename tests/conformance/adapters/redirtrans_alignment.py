"""FFHQ's framing of faces (omertov/encoder4editing, ``utils/alignment.py``)."""

from __future__ import annotations

import numpy as np
from kit import adapter, assert_close, not_covered

from regaze.normalise.ffhq import framed, prepared, square_of

_CONFIG = {
    "output_size": 256,
    "transform_size": 256,
    "enable_padding": True,
    "shrink_filter": "Lanczos",
}


def waves(height: int, width: int) -> np.ndarray:
    """The source picture of the manifest's note."""
    y, x = np.mgrid[:height, :width]
    steps = [(1, 0.3), (0.4, -0.8), (-0.6, 0.5)]
    levels = [
        np.sin(2 * np.pi * (fx * x + fy * y) / 64 + channel)
        for channel, (fx, fy) in enumerate(steps)
    ]
    return np.floor(127.5 + 120 * np.stack(levels, -1)).astype(np.uint8)


@adapter("redirtrans/face_alignment*")
def alignment(case):
    if case.config != _CONFIG:
        not_covered(f"configuration {case.config}")
    size = case.config["output_size"]
    for one in case.manifest["cases"]:
        name, photo = one["case"], waves(one["H"], one["W"])
        square = square_of(case.golden[f"{name}_landmarks"])
        picture, quad = prepared(photo, square, size)
        assert picture.size == tuple(one["size_before_transform_wh"]), name
        assert_close(
            (quad + 0.5).flatten(), case.golden[f"{name}_quad"], case.tolerance("quad"), name=name
        )
        # The tolerance allows for a grey level; with Pillow and SciPy as upstream it is none.
        patch, _ = framed(photo, square, size)
        np.testing.assert_array_equal(patch[::2, ::2], case.golden[f"{name}_image"], name)
