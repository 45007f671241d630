"""Held-out errors on faces read in batches."""

import numpy as np
import pytest
import torch

from regaze.estimators.evaluate import held_out_error, predict_rows


class Oracle(torch.nn.Module):
    """Reads the label that the test painted into the first pixel, offset by a known angle."""

    size_px, preprocess = 4, "none"

    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.tensor([0.0, 0.1, 0.0, 0.0]))

    def forward(self, images):
        return torch.zeros(len(images), 4) + images[:, 0, 0, :1] + self.offset


class Reader:
    labels = np.zeros((10, 8), np.float32)

    def pixels(self, indices):
        return np.full((len(indices), 4, 4, 3), 255 // 3 * 3 // 2, np.uint8)


def test_known_offset():
    base = float(predict_rows(Oracle(), Reader(), [0])[0, 0])
    Reader.labels[:] = base
    found = held_out_error(Oracle(), Reader(), np.arange(7), batch=3)
    # A turn in yaw alone at pitch p is an angle of about cos p times the turn.
    assert found["gaze_deg"] == pytest.approx(np.rad2deg(0.1) * np.cos(base), rel=1e-3)
    assert found["head_deg"] == pytest.approx(0, abs=1e-4) and found["n"] == 7


def test_no_rows():
    assert predict_rows(Oracle(), Reader(), []).shape == (0, 4)
