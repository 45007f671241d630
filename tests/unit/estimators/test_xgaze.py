"""Published ETH-XGaze ResNets: both layouts, strictly, and what they are shown."""

import numpy as np
import pytest
import torch

from regaze.estimators.base import estimate
from regaze.estimators.build import build_estimator
from regaze.estimators.settings import EstimatorSettings
from regaze.estimators.store import load_xgaze_estimator
from regaze.estimators.xgaze import XGazeResnet, load_xgaze, prepared

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = XGazeResnet(18)
    # An untrained batch norm counts nothing: a file's own numbers have to arrive.
    made.resnet.bn1.running_mean.uniform_(-0.1, 0.1)
    return made.eval()


def bare(network):
    return {key.removeprefix("resnet."): one for key, one in network.state_dict().items()}


def as_the_data_sets_authors(state):
    """Keys of ``xucong-zhang/ETH-XGaze``, with the classes that its backbone keeps."""
    made = {f"gaze_network.{key}": one for key, one in state.items() if key.split(".")[0] != "fc"}
    made |= {
        "gaze_network.fc.weight": torch.zeros(1000, 512),
        "gaze_network.fc.bias": torch.ones(1),
    }
    return made | {f"gaze_fc.0.{name}": state[f"fc.{name}"] for name in ("weight", "bias")}


def as_they_trained_it(state):
    """Their network wraps its backbone alone for several GPUs."""
    made = as_the_data_sets_authors(state)
    return {key.replace("gaze_network.", "gaze_network.module."): one for key, one in made.items()}


@pytest.mark.parametrize("nested", [None, "model_state", "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("layout", [dict, as_the_data_sets_authors, as_they_trained_it])
def test_layouts(tmp_path, network, layout, prefix, nested):
    state = {prefix + key: one for key, one in layout(bare(network)).items()}
    content = state if nested is None else {nested: state, "epoch": 24}
    torch.save(content, tmp_path / "weights.pth.tar")
    found = load_xgaze(tmp_path / "weights.pth.tar")
    own = network.state_dict()
    assert all(torch.equal(one, own[key]) for key, one in found.state_dict().items())
    assert not found.training and not any(one.requires_grad for one in found.parameters())
    assert found.name == "weights.pth.tar" and len(found.fingerprint) == 16


def test_the_depth_is_told_by_the_layers(tmp_path):
    torch.save(bare(XGazeResnet(50)), tmp_path / "fifty.pth")
    found = load_xgaze(tmp_path / "fifty.pth")
    assert found.resnet.fc.weight.shape == (2, 2048)


def test_what_cannot_be_loaded(tmp_path, network):
    with pytest.raises(FileNotFoundError, match="absent.pth: expected the weights of an ETH-XGaze"):
        load_xgaze(tmp_path / "absent.pth")
    path = tmp_path / "other.pth"
    state = bare(network)
    for change, message in (
        (
            {"fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)},
            "fc.weight expected \\(2, ",
        ),
        ({"extra.weight": torch.zeros(1)}, "unexpected resnet.extra.weight"),
        ({"gaze_network.bn2.bias": torch.zeros(1)}, "unexpected resnet.bn2.bias"),
    ):
        torch.save(state | change, path)
        with pytest.raises(ValueError, match=f"other.pth: not the weights of an ETH.*{message}"):
            load_xgaze(path)
    torch.save({key: one for key, one in state.items() if key != "bn1.bias"}, path)
    with pytest.raises(ValueError, match="missing resnet.bn1.bias"):
        load_xgaze(path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="other.pth: not a torch file"):
        load_xgaze(path)


class Malicious:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_a_pickle_is_not_run(tmp_path, capsys):
    torch.save({"model": {"conv1.weight": Malicious()}}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="plain weights"):
        load_xgaze(tmp_path / "bad.pth")
    assert "run" not in capsys.readouterr().out


def test_patches_are_shown_r_g_b_with_imagenets_mean(network):
    patch = np.zeros((1, 4, 4, 3), np.uint8)
    patch[..., 0], patch[..., 2] = 255, 51
    found = prepared(patch)[0, :, 0, 0]
    wanted = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert network.read(np.zeros((2, 64, 64, 3), np.uint8)).shape == (2, 2)


def test_a_judge_of_gaze_and_head_is_an_estimator_of_the_workflow(tmp_path):
    torch.manual_seed(0)
    made = XGazeResnet(50, 4).eval()
    torch.save({"model_state": as_the_data_sets_authors(bare(made))}, tmp_path / "epoch.pth.tar")
    found = load_xgaze_estimator(tmp_path / "epoch.pth.tar", "resnet")
    patches = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    pictures = torch.from_numpy(patches).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        wanted = made(prepared(patches))
    assert torch.allclose(estimate(found, pictures), wanted, rtol=1e-3, atol=1e-3)
    again = build_estimator(**found.config())
    again.load_state_dict(found.state_dict())
    assert found.record["config"]["preset"] == "xgaze" and len(found.fingerprint) == 16
    assert found.embed(pictures).shape == (2, found.embedding_size)
    assert made.read(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 2)


def test_their_vgg_is_shown_other_colours_than_st_eds(tmp_path):
    torch.manual_seed(0)
    plain = build_estimator("vgg", "reference").eval()
    trained = {"epoch": 1, "model_state": plain.state_dict(), "optim_state": {}}
    torch.save(trained, tmp_path / "vgg.pth.tar")
    found = load_xgaze_estimator(tmp_path / "vgg.pth.tar", "vgg")
    pictures = torch.rand(1, 3, 32, 32) * 2 - 1
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    wanted = estimate(plain, ((pictures + 1) / 2 - mean) / std)
    assert torch.allclose(estimate(found, pictures), wanted, atol=1e-6)


def test_a_network_that_reads_the_gaze_alone_is_no_estimator(tmp_path, network):
    torch.save(bare(network), tmp_path / "gaze.pth")
    with pytest.raises(ValueError, match="found a ResNet-18 with 2 outputs; `regaze photo-check"):
        load_xgaze_estimator(tmp_path / "gaze.pth", "resnet")
    with pytest.raises(FileNotFoundError, match="no.pth: expected the weights of a VGG-16"):
        load_xgaze_estimator(tmp_path / "no.pth", "vgg")


def test_their_settings():
    entry = {"arch": "resnet", "persons": "train-evaluator", "preset": "xgaze", "size_px": 224}
    assert EstimatorSettings(**entry, checkpoint="e.pth.tar").checkpoint == "e.pth.tar"
    with pytest.raises(ValueError, match="preprocess: published weights need 'none'"):
        EstimatorSettings(**entry, checkpoint="e.pth.tar", preprocess="equalise")
