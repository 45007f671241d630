"""gazenerf: the gaze estimator in the layout of ETH-XGaze's training code."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from kit import adapter, assert_close

from regaze.estimators.xgaze import load_xgaze


@adapter("gazenerf/gaze_resnet50_xgaze")
def gaze_resnet50_xgaze(case):
    """Loaded from a file, as users have it; the pictures of the case are normalised already."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "epoch_24_ckpt.pth.tar")
        torch.save({"epoch": 24, "model_state": case.state, "optim_state": {}}, path)
        network = load_xgaze(path)
    with torch.no_grad():
        found = network(torch.from_numpy(case.inputs["img"]))
    assert_close(found, case.golden["gaze"], case.tolerance("gaze", 1e-4), name="gaze")
