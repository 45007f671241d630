"""Shapes, names and exactness of the estimators; numbers are in tests/conformance."""

import pytest
import torch

from regaze.estimators.base import GazeHeadEstimator, estimate, estimate_and_embed
from regaze.estimators.build import build_estimator
from regaze.estimators.vgg import VggSmall, _VggHead


def pictures(count, size):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("arch", ["vgg", "resnet"])
@pytest.mark.parametrize(("preset", "size"), [("tiny", 32), ("small", 64), ("small", 32)])
def test_angles_embedding_and_batch_independence(arch, preset, size):
    network = build_estimator(arch, preset, size)
    images = pictures(5, size)
    angles, embedding = estimate_and_embed(network, images)
    assert angles.shape == (5, 4) and embedding.shape == (5, network.embedding_size)
    assert network.training and not angles.requires_grad
    assert torch.allclose(estimate(network, images[2:3]), angles[2:3], atol=1e-5)
    assert torch.allclose(network.eval().head(embedding), angles, atol=1e-6)


@pytest.mark.parametrize("arch", ["vgg", "resnet"])
def test_small_presets_have_about_a_million_parameters(arch):
    count = sum(p.numel() for p in build_estimator(arch, "small").parameters())
    assert 0.5e6 < count < 1.6e6


@pytest.mark.parametrize(("preset", "size"), [("tiny", 32), ("small", 64)])
def test_vgg_features_are_after_the_relu(preset, size):
    network = build_estimator("vgg", preset, size).eval()
    angles, features = network.forward_with_features(pictures(2, size))
    assert angles.shape == (2, 4) and len(features) == 5
    assert all(f.ndim == 2 and len(f) == 2 and f.min() >= 0 for f in features)
    assert angles.abs().max() < torch.pi / 2


def test_small_features_carry_gradients_to_the_picture():
    network = build_estimator("vgg", "tiny").eval().requires_grad_(False)
    images = pictures(2, 32).requires_grad_()
    _, features = network.forward_with_features(images)
    sum(f.square().mean() for f in features).backward()
    assert images.grad.abs().sum() > 0


def test_reference_keys():
    with torch.device("meta"):
        resnet, vgg = build_estimator("resnet", "reference"), build_estimator("vgg", "reference")
    keys = resnet.state_dict().keys()
    assert {"resnet50.conv1.weight", "resnet50.layer4.2.bn3.running_var", "resnet50.fc.bias"} < keys
    assert all(key.startswith("resnet50.") for key in keys)
    wanted = {f"vgg16.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
    assert wanted < vgg.state_dict().keys()
    assert resnet.preprocess == vgg.preprocess == "equalise"


@pytest.mark.parametrize(
    ("base", "method"),
    [(GazeHeadEstimator, "embed"), (GazeHeadEstimator, "head"), (_VggHead, "_maps")],
)
def test_a_bare_estimator_says_what_it_lacks(base, method):
    bare = type("Bare", (base,), {})()
    with pytest.raises(TypeError, match=f"Bare does not define {method}"):
        getattr(bare, method)(pictures(1, 4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("alexnet", "small"), "expected one of .*resnet/small.*found alexnet/small"),
        (("resnet", "large"), "found resnet/large"),
        (("resnet", "small", 48), "size_px: expected a multiple of 32"),
        (("vgg", "small", 40), "size_px: expected a multiple of 16"),
        (("vgg", "small", 64, "sharpen"), "preprocess: expected one of equalise, none"),
    ],
)
def test_wrong_names_and_sizes(arguments, words):
    with pytest.raises(ValueError, match=words):
        build_estimator(*arguments)


def drawn_eyes(count, generator):
    """Noise with eyes (n, 3, 64, 64) whose irises move by a pixel in ten degrees; their gaze."""
    gaze = 0.17 * torch.randn(count, 2, generator=generator).clamp(-2, 2)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = 0.15 * torch.randn(count, 3, 64, 64, generator=generator)
    off = torch.randint(-1, 2, (count, 2, 1, 1), generator=generator)
    for middle in (20.0, 44.0):
        across, down = columns - middle - off[:, 0], rows - 22.0 - off[:, 1]
        away = torch.hypot(across + 6 * gaze[:, 1, None, None], down + 6 * gaze[:, 0, None, None])
        shown = 0.6 - 1.3 * (3.5 - away).clamp(0, 1)
        white = ((across / 8) ** 2 + (down / 4) ** 2) < 1
        images = torch.where(white[:, None], shown[:, None], images)
    return images, gaze


def test_the_small_vgg_learns_in_few_steps_what_moves_the_iris_by_a_pixel():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = VggSmall(widths=(8, 16, 16, 16), eye_widths=(8, 16), hidden=32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.004)
    steps = 50
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.004 * min(1, (step + 1) / 10) * (1 - step / steps)
        images, gaze = drawn_eyes(32, generator)
        optimiser.zero_grad()
        (network(images)[:, :2] - gaze).abs().mean().backward()
        optimiser.step()
    images, gaze = drawn_eyes(256, generator)
    away = gaze - gaze.mean(0)
    slopes = (away * estimate(network, images)[:, :2]).sum(0) / (away * away).sum(0)
    assert (slopes > 0.85).all() and (slopes < 1.15).all()
