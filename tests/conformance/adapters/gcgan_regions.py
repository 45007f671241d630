"""Classes painted from landmarks and the eye region of naranjuelo/GC-GAN."""

from __future__ import annotations

import cv2
import numpy as np
from kit import adapter, assert_close

from regaze.masks.painting import canvas_of, eye_region, painted, parts_of_mesh, strip_picture


def pattern(height: int, width: int, number: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    layers = 127 + 100 * np.sin(x / (17 + number)), 127 + 100 * np.cos(y / (13 + number))
    return np.stack([*layers, (x + 2 * y + 7 * number) % 256], -1).astype(np.uint8)


def nearly(found, wanted, share: float, name: str) -> None:
    apart = (found.astype(int) != wanted.astype(int)).mean()
    assert apart <= share, f"{name}: {apart:.2%} of pixels differ"


@adapter("gcgan/eye_region*")
def region(case):
    golden, seed = case.golden, case.seed
    canvas = canvas_of(pattern(256, 256, seed + 1))
    for prefix, picture, marks in (
        ("eye_region", canvas, golden["landmarks"]),
        (
            "celeba",
            cv2.resize(pattern(300, 400, seed + 4), (512, 512)),
            golden["celeba_landmarks"],
        ),
    ):
        size = picture.shape[1::-1]
        parts = parts_of_mesh(marks.astype(np.float64), size)
        labels = painted(parts, size, painting="compat")
        found = eye_region(parts, size, "compat")
        if prefix == "eye_region":
            nearly(labels, golden["full_mask"], 0.002, "full_mask")
            assert_close(found.box, golden["crop_box"], name="crop_box")
            assert_close([found.side], golden["crop_size"], rtol=1e-6, name="crop_size")
            assert_close(found.eyes[::-1], golden["eye_centres"], name="eye_centres")
        nearly(strip_picture(labels, found), golden[f"{prefix}_mask"], 0.002, f"{prefix}_mask")
        shown = strip_picture(picture, found)[::2, ::2]
        nearly(shown, golden[f"{prefix}_bgr"], 0.005, f"{prefix}_bgr")
