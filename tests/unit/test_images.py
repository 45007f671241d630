"""Patches to network input and back."""

import numpy as np
import pytest
import torch

from regaze.images import equalise, eye_boxes, reduce_patches, to_uint8


def patches(count=3, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def test_mean_of_blocks_by_hand():
    pixels = np.zeros((1, 2, 2, 3), np.uint8)
    pixels[0, :, :, 0] = [[0, 255], [255, 255]]
    found = reduce_patches(pixels, 1)
    assert found.shape == (1, 3, 1, 1) and found.dtype == torch.float32
    assert found[0, 0, 0, 0] == pytest.approx(2 * 0.75 - 1, abs=1e-6)
    assert found[0, 1, 0, 0] == -1


def test_size_none_keeps_and_round_trip_is_exact():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    assert np.array_equal(to_uint8(reduce_patches(pixels)), pixels)


def test_batch_independent_and_not_square():
    pixels = patches(5, 6, 12)
    whole = reduce_patches(pixels, (4, 2))
    assert whole.shape == (5, 3, 2, 4)
    assert torch.equal(whole[3:4], reduce_patches(pixels[3:4], (4, 2)))
    assert torch.equal(whole, reduce_patches(torch.from_numpy(pixels), (4, 2)))
    assert torch.equal(whole, reduce_patches(pixels[..., ::-1], (4, 2)).flip(1))


@pytest.mark.parametrize("size", [3, 16, (4, 8), (8, 4)])
def test_no_whole_factor(size):
    with pytest.raises(ValueError, match="size: expected a side that divides the 8x8 patch"):
        reduce_patches(patches(), size)


@pytest.mark.parametrize("pixels", [np.zeros((1, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)])
def test_not_patches(pixels):
    with pytest.raises(ValueError, match="expected uint8 pictures"):
        reduce_patches(pixels, 2)


def test_quantising_rounds_and_clips():
    images = torch.tensor([-2.0, -1.0, 0.5 / 127.5 - 1, 1.49 / 127.5 - 1, 1.0, 3.0])
    levels = to_uint8(images.reshape(1, 1, 1, 6).expand(1, 3, 1, 6))
    assert levels[0, 0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_quantising_refuses_nan():
    with pytest.raises(ValueError, match="finite"):
        to_uint8(torch.full((1, 3, 2, 2), torch.nan))


def test_equalise_spreads_a_flat_histogram_and_reads_bgr():
    grey = np.full((1, 4, 4, 3), 100, np.uint8)
    grey[0, :2] = 110
    assert sorted(np.unique(equalise(grey))) == [0, 255]
    pixels = patches()
    assert np.array_equal(equalise(pixels), equalise(pixels[..., ::-1], "bgr"))
    with pytest.raises(ValueError, match="channel_order"):
        equalise(pixels, "grb")


def test_eye_boxes_scale():
    assert [list(box) for box in eye_boxes(64)] == [[12, 16, 28, 27], [36, 16, 52, 27]]
    assert [list(box) for box in eye_boxes(128)] == [[24, 32, 56, 54], [72, 32, 104, 54]]
