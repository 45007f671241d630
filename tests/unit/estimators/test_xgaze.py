"""Published ETH-XGaze ResNets: both layouts, strictly, and what they are shown."""

import numpy as np
import pytest
import torch

from regaze.estimators.xgaze import XGazeResnet, load_xgaze, prepared


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
            {"fc.weight": torch.zeros(4, 512), "fc.bias": torch.zeros(4)},
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
