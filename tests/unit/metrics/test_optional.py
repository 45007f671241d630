"""LPIPS and FID from files of weights, random ones here, against the packages' own networks."""

import warnings

import numpy as np
import pytest
import torch
import torchvision

from regaze.perceptual import (
    FidInception,
    inception_features,
    load_inception,
    load_lpips,
    lpips_distance,
)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.manual_seed(0)
    features = torchvision.models.alexnet().features.state_dict()
    torch.save({f"features.{key}": value for key, value in features.items()}, path)
    return path


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1
    return first, (first + 0.3 * torch.randn(3, 3, 64, 64, generator=generator)).clamp(-1, 1)


def test_lpips_is_that_of_the_package(alexnet, pictures, monkeypatch):
    import lpips

    weights = torch.load(alexnet, weights_only=True)
    real = torchvision.models.alexnet

    def pretrained(*args, **kwargs):
        network = real()
        inner = {key.removeprefix("features."): value for key, value in weights.items()}
        network.features.load_state_dict(inner)
        return network

    monkeypatch.setattr(torchvision.models, "alexnet", pretrained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", verbose=False)
    monkeypatch.undo()
    ours = load_lpips(alexnet, "alex")
    with torch.no_grad():
        wanted = theirs(*pictures).flatten().numpy()
    found = lpips_distance(ours, *pictures)
    assert np.allclose(found, wanted, rtol=1e-6) and (found > 0).all()
    assert np.allclose(lpips_distance(ours, pictures[0], pictures[0]), 0)
    alone = lpips_distance(ours, pictures[0][1:2], pictures[1][1:2])
    assert np.allclose(alone, found[1], rtol=1e-4)


def test_lpips_refuses_other_files(alexnet, tmp_path):
    torch.save({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match="not the weights of alexnet: missing features"):
        load_lpips(tmp_path / "part.pth", "alex")
    # torchvision's numbering, but another network's widths.
    state = torch.load(alexnet, weights_only=True)
    state["features.0.weight"] = torch.zeros(32, 3, 11, 11)
    torch.save(state, tmp_path / "narrow.pth")
    with pytest.raises(ValueError, match=r"narrow.pth: .*features.0.weight expected \(64.*\(32"):
        load_lpips(tmp_path / "narrow.pth", "alex")
    with pytest.raises(ValueError, match="expected one of alex, vgg"):
        load_lpips(alexnet, "squeeze")
    with pytest.raises(FileNotFoundError):
        load_lpips(tmp_path / "none.pth", "alex")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="state dict of tensors, found list"):
        load_lpips(tmp_path / "list.pth", "alex")


def test_inception_has_the_layout_and_the_changes_of_fid(tmp_path, pictures):
    torch.manual_seed(0)
    network = FidInception().eval()
    plain = torchvision.models.inception_v3(
        num_classes=1008, aux_logits=False, init_weights=False
    ).eval()
    assert list(network.state_dict()) == list(plain.state_dict())
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    loaded = load_inception(tmp_path / "inception.pth")
    found = inception_features(loaded, pictures[0][:2])
    assert found.shape == (2, 2048) and found.dtype == np.float64
    # With a constant input the averages without padding keep it constant, torchvision's do not.
    flat = torch.ones(1, 192, 5, 5)
    branch = network.Mixed_5b._forward(flat)[-1]
    assert torch.allclose(branch, branch[..., :1, :1].expand_as(branch), atol=1e-6)
    plain.load_state_dict(network.state_dict())
    other = plain.Mixed_5b._forward(flat)[-1]
    assert (branch - other).abs().max() > 1e-6
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not the weights of FID's Inception"):
        load_inception(tmp_path / "other.pth")
