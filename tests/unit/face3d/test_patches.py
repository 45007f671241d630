"""Crops of patches: the published square, no aliasing, rows independent, unknown landmarks."""

import numpy as np
import pytest
import torch

from regaze.face3d.crop import crop_box, landmark_bounds, warp
from regaze.face3d.patches import crop_patches, oversampling


def rows(count=3, seed=0, side=128):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (count, side, side, 3), np.uint8)
    marks = rng.uniform(0.2 * side, 0.8 * side, (count, 68, 2))
    return pixels, marks


def test_large_crops_are_the_published_ones():
    pixels, marks = rows()
    crops = crop_patches(pixels, marks, 224)
    for row in range(3):
        transform = crop_box(landmark_bounds(marks[row])).transform(224)
        np.testing.assert_allclose(crops.transforms[row], transform)
        torch.testing.assert_close(
            crops.images[row], warp(pixels[row], transform), atol=1e-4, rtol=0
        )
    assert crops.detected.all()


def test_small_crops_average_what_they_cover():
    pixels, marks = rows(1)
    pixels[:] = np.where(np.arange(128)[None, :, None] % 2, 255, 0)[None]
    small = crop_patches(pixels, marks, 32).images
    inside = small[0, :, 8:24, 8:24]
    assert float((inside - 0.5).abs().max()) < 0.2, "stripes of one pixel must not alias"


def test_landmarks_land_where_the_transform_says():
    pixels = np.zeros((1, 128, 128, 3), np.uint8)
    _, marks = rows(1)
    marks[0, 30] = (60, 70)
    pixels[0, 69:72, 59:62] = 255
    crops = crop_patches(pixels, marks, 64)
    spot = crops.transforms[0] @ [60, 70, 1]
    mass = crops.images[0].sum(0)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    found = [(mass * x).sum() / mass.sum(), (mass * y).sum() / mass.sum()]
    np.testing.assert_allclose(found, spot[:2], atol=0.05)


def test_rows_do_not_depend_on_their_neighbours():
    pixels, marks = rows(5)
    marks[1] *= 0.5
    whole = crop_patches(pixels, marks, 64).images
    for row in range(5):
        one = crop_patches(pixels[row : row + 1], marks[row : row + 1], 64).images
        assert torch.equal(one[0], whole[row])


def test_unknown_landmarks_give_the_whole_patch_and_are_flagged():
    pixels, marks = rows(3)
    marks[1, 5] = np.nan
    marks[2] = 40.0
    crops = crop_patches(pixels, marks, 64)
    assert crops.detected.tolist() == [True, False, False]
    assert torch.isfinite(crops.images).all()
    # DECA's square is 1.375 times the patch
    assert crops.transforms[1, 0, 0] == pytest.approx(63 / int(127 * 1.1 * 1.25))


def test_no_patches_give_no_crops():
    pixels, marks = rows(2)
    crops = crop_patches(pixels[:0], marks[:0], 32)
    assert crops.images.shape == (0, 3, 32, 32) and crops.transforms.shape == (0, 3, 3)


def test_crops_take_the_more_samples_the_more_they_reduce():
    assert oversampling(np.zeros((0, 3, 3))) == 1
    for zoom, samples in ((3.0, 1), (0.5, 2), (0.25, 4), (0.001, 20)):
        assert oversampling(np.diag([zoom, zoom, 1])[None]) == samples
