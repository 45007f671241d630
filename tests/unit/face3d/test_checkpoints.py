"""Containers of published weights: what is read, what is refused, and that nothing in them runs."""

import os

import pytest
import torch

from regaze.face3d.checkpoints import (
    best_checkpoint,
    read_deca,
    read_emoca,
)
from regaze.face3d.detail import DetailDecoder
from regaze.face3d.encoders import CodeEncoder
from regaze.weights import load_strictly


class Callback:
    """A class of a training program; checkpoints of old Lightning name such classes as keys."""

    def __init__(self):
        self.best = 3.0


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def states():
    networks = {
        "E_flame": CodeEncoder(236, "tiny"),
        "E_detail": CodeEncoder(128, "tiny"),
        "D_detail": DetailDecoder(),
        "E_expression": CodeEncoder(50, "tiny"),
    }
    return {name: network.state_dict() for name, network in networks.items()}


def test_deca_weights_are_read_and_loaded(states, tmp_path):
    path = tmp_path / "deca_model.tar"
    whole = {name: states[name] for name in ("E_flame", "E_detail", "D_detail")}
    torch.save(whole | {"global_step": 7, "opt": {"lr": 0.1}}, path)
    found = read_deca(path)
    assert set(found) == {"E_flame", "E_detail", "D_detail"}
    network = CodeEncoder(236, "tiny")
    old = {k: v for k, v in found["E_flame"].items() if "num_batches_tracked" not in k}
    load_strictly(network, old, "E_flame")
    torch.testing.assert_close(network.layers[0].weight, states["E_flame"]["layers.0.weight"])


def test_keys_that_do_not_fit_are_listed(states):
    state = dict(states["E_flame"])
    state["layers.9.weight"] = state.pop("layers.0.weight")
    with pytest.raises(ValueError, match=r"deca.tar: .*missing layers.0.*unexpected layers.9"):
        load_strictly(CodeEncoder(236, "tiny"), state, "deca.tar")


def lightning(states):
    content = {"deca.flame.v_template": torch.zeros(3), "emonet_loss.x": torch.zeros(2)}
    for name, state in states.items():
        content |= {f"deca.{name}.{key}": value for key, value in state.items()}
    return {"state_dict": content, "epoch": 3, "callbacks": {Callback: Callback()}}


def test_emoca_run_gives_its_best_checkpoint_and_ignores_the_rest(states, tmp_path):
    folder = tmp_path / "EMOCA/detail/checkpoints"
    for name in ("last.ckpt", "deca-epoch=01-val_loss/dataloader_idx_0=9.50000000.ckpt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not to be read")
    best = folder / "deca-epoch=07-val_loss/dataloader_idx_0=3.25000000.ckpt"
    best.parent.mkdir()
    torch.save(lightning(states), best)
    assert best_checkpoint(folder) == best
    found, _ = read_emoca(best)
    assert set(found) == set(states)
    for name, state in states.items():
        assert found[name].keys() == state.keys()
    with pytest.raises(ValueError, match="coarse/checkpoints: expected checkpoints"):
        best_checkpoint(tmp_path / "EMOCA/coarse/checkpoints")


def test_nothing_in_a_checkpoint_is_run(states, tmp_path):
    mark = tmp_path / "made"
    path = tmp_path / "bad.ckpt"
    torch.save(lightning(states) | {"hyper_parameters": Bomb(mark)}, path)
    with pytest.raises(ValueError, match="bad.ckpt"):
        read_emoca(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such checkpoint"),
        (b"", "expected a torch checkpoint"),
        (b"PK\x03\x04 cut", "expected a torch checkpoint"),
        ([1, 2], "expected a dictionary of state dicts, found list"),
        ({"E_flame": {}}, "E_detail: expected a state dict, found NoneType; top level: E_flame"),
        (
            {"E_flame": {"a": 1}, "E_detail": {}, "D_detail": {}},
            "E_flame.a: expected a tensor, found int",
        ),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "deca_model.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_deca(path)


def test_reference_encoder_has_the_published_layers():
    assert len(CodeEncoder(236, "reference").state_dict()) == 322


def test_files_that_are_no_run_of_emoca_are_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt: state_dict: expected a dictionary"):
        read_emoca(tmp_path / "a.ckpt")


def test_other_presets_are_refused():
    with pytest.raises(ValueError, match="expected one of reference, .*found 'huge'"):
        CodeEncoder(236, "huge")
