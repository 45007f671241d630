"""Patches to network input and back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

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


@pytest.mark.parametrize("size", [16, (4, 8), (8, 4)])
def test_larger_or_of_another_shape(size):
    with pytest.raises(ValueError, match="size: expected 8x8 or a smaller size of this shape"):
        reduce_patches(patches(), size)


def test_parts_of_pixels_count_by_their_share():
    pixels = patches(1, 3, 3)
    found = (reduce_patches(pixels, 2).double() + 1) * 127.5
    # Each quarter of a 3 x 3 picture: a pixel, halves of two, a quarter of the middle one.
    v = pixels[0].astype(float)
    corner = (v[0, 0] + v[0, 1] / 2 + v[1, 0] / 2 + v[1, 1] / 4) / 2.25
    np.testing.assert_allclose(found[0, :, 0, 0], corner, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_any_reduction_keeps_the_mean_and_ignores_the_batch(side, to_side):
    to_side = min(side, to_side)
    pixels = patches(3, 2 * side, side, seed=side)
    whole = reduce_patches(pixels, (to_side, 2 * to_side))
    assert torch.equal(whole[1:2], reduce_patches(pixels[1:2], (to_side, 2 * to_side)))
    means = (whole.double().mean((2, 3)) + 1) * 127.5
    np.testing.assert_allclose(means, pixels.mean((1, 2)), atol=2e-4)


def test_whole_factors_are_what_they_always_were():
    pixels = patches(2, 56, 56)
    for size, factor in ((56, 1), (28, 2), (8, 7)):
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        wanted = F.avg_pool2d(values, factor) if factor > 1 else values
        assert torch.equal(reduce_patches(pixels, size), wanted * (2.0 / 255.0) - 1.0)


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


@pytest.mark.parametrize("size", [0, (4, 0), (-1, 4)])
def test_sides_of_no_pixels_are_refused(size):
    with pytest.raises(ValueError, match="size: expected sides of at least 1 pixel, found "):
        reduce_patches(patches(), size)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 4, 4, 3)])
def test_quantising_refuses_another_shape(shape):
    with pytest.raises(ValueError, match=r"images: expected shape \(N,3,H,W\), found \("):
        to_uint8(np.zeros(shape, np.float32))
