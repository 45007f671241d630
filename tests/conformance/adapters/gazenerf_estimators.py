"""gazenerf: gaze estimators in the layout of ETH-XGaze's training code."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from kit import adapter, assert_close

from regaze.estimators.store import load_xgaze_estimator
from regaze.estimators.xgaze import load_xgaze

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


@adapter("gazenerf/gaze_resnet50_4out")
def gaze_resnet50_4out(case):
    """GazeNeRF's judge, with and without what the workflow does to pictures in [-1, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "epoch_24_ckpt.pth.tar")
        torch.save({"epoch": 24, "model_state": case.state, "optim_state": {}}, path)
        network = load_xgaze_estimator(path, "resnet")
    images = torch.from_numpy(case.inputs["img"])
    raw = images * torch.tensor(_STD)[:, None, None] + torch.tensor(_MEAN)[:, None, None]
    with torch.no_grad():
        found = network(2 * raw - 1)
        assert_close(network.network(images), found, 1e-4, name="of prepared pictures")
    for name, part in (("gaze", slice(2)), ("head", slice(2, 4))):
        assert_close(found[:, part], case.golden[name], 1e-4, 1e-4, name=name)
