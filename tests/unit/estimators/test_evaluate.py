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


def test_slopes_tell_how_much_of_a_change_is_read():
    class Spread:
        labels = np.zeros((9, 8), np.float32)

        def pixels(self, indices):
            levels = np.asarray(indices)[:, None, None, None] * np.uint8(20)
            return np.broadcast_to(levels, (len(indices), 4, 4, 3)).astype(np.uint8)

    # The oracle's angles rise by 40/255 from row to row: of pitch it reads half, of yaw nothing.
    Spread.labels[:, 0] = 2 * 40 / 255 * np.arange(9)
    Spread.labels[:, 1] = np.array([1, -1, 0, 0, 0, 0, 0, -1, 1])
    found = held_out_error(Oracle(), Spread(), np.arange(9))
    assert found["gaze_pitch_slope"] == pytest.approx(0.5, rel=1e-3)
    assert found["gaze_yaw_slope"] == pytest.approx(0.0, abs=1e-3)
    Reader.labels[:] = 0.1
    assert held_out_error(Oracle(), Reader(), np.arange(7))["gaze_yaw_slope"] is None


def test_no_rows():
    assert predict_rows(Oracle(), Reader(), []).shape == (0, 4)
