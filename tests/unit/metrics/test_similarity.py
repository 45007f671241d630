"""Similarity against hand values, scikit-image and torchmetrics."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from regaze.metrics.similarity import LUMA, PSNR_LIMIT_DB, eye_psnr, l1, psnr, ssim, ssim_grey


def pictures(seed, count=3, size=64):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def smooth(seed):
    return torch.nn.functional.avg_pool2d(pictures(seed, size=68), 5, 1)


def test_psnr_by_hand():
    first = torch.zeros(2, 3, 4, 4)
    second = first.clone()
    second[1] = 0.2  # 0.1 of the range: 20 dB
    assert psnr(first, second) == pytest.approx([PSNR_LIMIT_DB, 20.0])


def test_eye_psnr_sees_the_boxes_only():
    first = torch.zeros(2, 3, 64, 64)
    second = first.clone()
    second[0, :, :16] = 1.0
    second[0, :, 27:] = 1.0
    second[0, :, :, 28:36] = 1.0
    second[1, :, 16:27, 12:28] = 0.2  # one of two boxes off by 0.1
    assert eye_psnr(first, second) == pytest.approx([PSNR_LIMIT_DB, 20 + 10 * np.log10(2)])


def test_ssim_agrees_with_two_other_implementations():
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = smooth(0), smooth(0) * 0.8 + 0.3 * smooth(1)
    found = ssim(first, second)
    unit = [(x.double() + 1) / 2 for x in (first, second)]
    # torchmetrics also averages a border that sees reflected padding; cut it off.
    _, theirs = structural_similarity_index_measure(*unit, data_range=1.0, return_full_image=True)
    theirs = theirs[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    assert found == pytest.approx(theirs.numpy(), abs=1e-6)
    for index in range(3):
        a, b = (x[index].permute(1, 2, 0).numpy() for x in unit)
        value = structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert found[index] == pytest.approx(value, abs=1e-6)


def test_ssim_of_equal_pictures_is_one_and_symmetric():
    first, second = smooth(2), smooth(3)
    assert ssim(first, first) == pytest.approx(np.ones(3))
    assert ssim(first, second) == pytest.approx(ssim(second, first))
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("measure", [psnr, eye_psnr, ssim])
def test_pictures_are_measured_one_by_one(measure):
    first, second = pictures(0), pictures(1)
    whole = measure(first, second)
    assert np.allclose(whole[1:2], measure(first[1:2], second[1:2]), atol=1e-12)


def test_grey_ssim_is_scikit_images_default_and_l1_its_mean():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (2, 2, 24, 24, 3)).astype(np.uint8)
    first, second = (torch.from_numpy(one).permute(0, 3, 1, 2) / 127.5 - 1 for one in levels)
    grey = np.rint(levels.astype(float) @ np.array(LUMA))
    wanted = [structural_similarity(a, b, data_range=255) for a, b in zip(*grey, strict=True)]
    assert np.allclose(ssim_grey(first, second), wanted, atol=1e-6)
    assert np.allclose(l1(first, second), (first - second).abs().mean((1, 2, 3)), atol=1e-6)
    with pytest.raises(ValueError, match="at least 7"):
        ssim_grey(first[..., :6, :6], second[..., :6, :6])
