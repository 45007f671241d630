"""Losses against closed forms, label algebra of augmentation, the training task."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.angles import vector_from_angles
from regaze.estimators.build import build_estimator
from regaze.estimators.objective import (
    Augmentation,
    EstimatorTask,
    angular_loss,
    l1_loss,
    mirror_labels,
)
from regaze.training.phases import Progress

angle = st.floats(-1.4, 1.4, allow_nan=False)
QUIET = {"brightness": 0.0, "contrast": 0.0, "colour": 0.0, "blur": 0.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_angular_loss_by_hand():
    first = torch.tensor([[0.0, 0.0], [0.3, 0.0]])
    second = torch.tensor([[0.0, 0.5], [-0.1, 0.0]])
    assert angular_loss(first, second).item() == pytest.approx(np.rad2deg(0.45), abs=1e-3)


def test_angular_loss_of_equal_directions_has_finite_gradient():
    first = torch.tensor([[0.0, 0.0], [0.2, -0.3]], requires_grad=True)
    loss = angular_loss(first, first.detach())
    loss.backward()
    assert torch.isfinite(first.grad).all() and loss.item() < 0.1


def test_angular_loss_is_float32_under_autocast():
    first = torch.rand(8, 2, generator=seeded())
    plain = angular_loss(first, first.flip(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(angular_loss(first, first.flip(0)), plain)
        assert angular_loss(first.bfloat16(), first).dtype == torch.float32


def test_l1_by_hand():
    assert l1_loss(torch.tensor([[0.1, -0.2]]), torch.zeros(1, 2)).item() == pytest.approx(0.15)


@settings(deadline=None, max_examples=30)
@given(angle, angle)
def test_mirrored_label_is_the_mirrored_vector(pitch, yaw):
    label = torch.tensor([pitch, yaw], dtype=torch.float64)
    mirrored = vector_from_angles(mirror_labels(label))
    assert torch.allclose(mirrored, vector_from_angles(label) * torch.tensor([-1.0, 1, 1]).double())
    assert torch.equal(mirror_labels(mirror_labels(label)), label)


def test_flip_mirrors_picture_and_labels():
    images, gaze, head = torch.rand(6, 3, 8, 8), torch.rand(6, 2), torch.rand(6, 2)
    found = Augmentation(flip=1.0, shift=0.0, **QUIET)(images, gaze, head, seeded())
    assert torch.allclose(found[0], images.flip(3), atol=1e-6)
    assert torch.equal(found[1], mirror_labels(gaze)) and torch.equal(found[2], mirror_labels(head))


def test_shift_moves_whole_pixels_and_repeats_the_border():
    images = torch.rand(16, 3, 8, 8, generator=seeded(3))
    label = torch.zeros(16, 2)
    found, *_ = Augmentation(flip=0.0, shift=0.125, **QUIET)(images, label, label, seeded(1))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    for one, big in zip(found, padded, strict=True):
        windows = [big[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
        assert any(torch.allclose(one, window, atol=1e-6) for window in windows)


def test_augmentation_is_seeded_and_stays_in_range():
    images, labels = torch.rand(4, 3, 16, 16) * 2 - 1, torch.rand(4, 2)
    change = Augmentation(shift=0.1, blur=0.5)
    first, second = (change(images, labels, labels, seeded(5))[0] for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() <= 1
    assert not torch.equal(first, change(images, labels, labels, seeded(6))[0])


@pytest.mark.parametrize("loss", ["angular", "l1"])
def test_task_learns_one_batch(loss):
    torch.manual_seed(0)
    network = build_estimator("resnet", "tiny")
    task = EstimatorTask(network, loss)
    batch = {
        "image": torch.rand(8, 3, 32, 32, generator=seeded()) * 2 - 1,
        "gaze": torch.rand(8, 2, generator=seeded(1)) - 0.5,
        "head": torch.rand(8, 2, generator=seeded(2)) - 0.5,
    }
    (phase,) = task.phases()
    assert phase.name == "main"
    optimiser = torch.optim.Adam(phase.parameters, 3e-3)
    values = []
    for _ in range(60):
        losses = task.losses(batch, "main", Progress(0, 0, seeded()))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        values.append(losses["gaze_deg"].item())
    assert values[-1] < 0.3 * values[0]
    assert not losses["gaze_deg"].requires_grad
