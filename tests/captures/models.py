"""The face models that data sets state head poses of, as their specifications print them (mm).

Typed in here a second time, so that a wrong table in the package does not pass its own test.
Axes: x to image right, y down, z into the head. ``sfm14``: fourteen points of
``swook/faze_preprocess``; ``xgaze6``: eye corners and nose base of ``xucong-zhang/ETH-XGaze``;
``mpii6``: eye and mouth corners of the MPIIFaceGaze release (Zhang et al. 2017).
"""

import numpy as np

SFM14 = np.array(
    [
        [0.0583, -7.6069, -15.6979], [-0.1038, 8.6476, -22.1311], [-0.2447, 23.3746, -31.4600],
        [-0.3766, 35.0937, -36.4030], [-12.3622, 46.7121, -14.9833], [-7.1425, 49.0878, -18.2948],
        [-0.2038, 50.2791, -19.5088], [6.8097, 49.1205, -18.3510], [12.0658, 46.7335, -15.0245],
        [-46.2558, -1.6485, 2.8723], [-19.0150, 1.5303, -3.1016], [19.1684, 1.4968, -2.8367],
        [46.1024, -1.3786, 3.0660], [0.0, 30.0, 0.0],
    ]
)  # fmt: skip
SFM14_LANDMARKS = [27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45]
"""Rows among the 68 landmarks (from 0) of the first thirteen points."""

XGAZE6 = np.array(
    [
        [-46.5095, -38.3271, 36.4160], [-17.7607, -32.5852, 29.0762],
        [18.0439, -30.9568, 29.0630], [44.7376, -34.1079, 36.7324],
        [-10.6117, 12.9583, 21.6228], [11.2896, 13.8642, 21.8379],
    ]
)  # fmt: skip
MPII6 = np.array(
    [
        [-45.0968, -0.4838, 2.3970], [-21.3129, 0.4838, -2.3970], [21.3129, 0.4838, -2.3970],
        [45.0968, -0.4838, 2.3970], [-26.2996, 68.5950, 0.0], [26.2996, 68.5950, 0.0],
    ]
)  # fmt: skip
MPII6_LANDMARKS = [36, 39, 42, 45, 48, 54]

CENTRES = {
    "sfm14": SFM14[13],
    "xgaze6": (XGAZE6[:4].mean(0) + XGAZE6[4:].mean(0)) / 2,
    "mpii6": MPII6.mean(0),
}
"""The point of each model that the virtual camera looks at and that gaze starts from."""

EYE_CORNERS = {"sfm14": SFM14[9:13], "xgaze6": XGAZE6[:4], "mpii6": MPII6[:4]}
"""Outer and inner corner of the eye at image left, inner and outer corner of the other."""
