"""Model folders and the published checkpoints' many wrappings."""

import json
import tarfile

import pytest
import torch
from safetensors.torch import save_file

from regaze.estimators import store
from regaze.estimators.base import estimate
from regaze.estimators.build import build_estimator
from regaze.estimators.settings import EstimatorSettings
from regaze.estimators.store import load_estimator, load_reference


def folder_of(tmp_path, network, **changes):
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    record = {"name": "judge", "kind": "estimator", "config": network.config(), **changes}
    (tmp_path / "model.json").write_text(json.dumps(record))
    return tmp_path


def test_round_trip(tmp_path):
    network = build_estimator("resnet", "tiny")
    loaded = load_estimator(folder_of(tmp_path, network))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(estimate(network, images), estimate(loaded, images))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert len(loaded.fingerprint) == 16 and loaded.record["name"] == "judge"


def test_missing_and_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="model.json"):
        load_estimator(tmp_path)
    network = build_estimator("vgg", "tiny")
    with pytest.raises(ValueError, match="kind: expected 'estimator', found 'redirector'"):
        load_estimator(folder_of(tmp_path, network, kind="redirector"))
    with pytest.raises(ValueError, match="config.size_px"):
        load_estimator(folder_of(tmp_path, network, config={"arch": "vgg", "preset": "tiny"}))
    wrong = {**network.config(), "arch": "resnet"}
    with pytest.raises(ValueError, match="missing .*angles.bias.*unexpected .*FC1.bias"):
        load_estimator(folder_of(tmp_path, network, config=wrong))


@pytest.fixture
def published(monkeypatch):
    """A small network in place of the published one: the wrappings are what is tested."""
    network = build_estimator("resnet", "tiny")
    monkeypatch.setattr(
        store, "build_estimator", lambda arch, preset: build_estimator(arch, "tiny")
    )
    return network


def same(found, network):
    own = network.state_dict()
    return all(torch.equal(value, own[key]) for key, value in found.state_dict().items())


@pytest.mark.parametrize("nested", [None, "model_state", "state_dict"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_files(tmp_path, published, nested, legacy, prefix):
    state = {prefix + key: value for key, value in published.state_dict().items()}
    path = tmp_path / "baseline.pth.tar"
    content = state if nested is None else {nested: state, "step": 3}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert same(load_reference(path, "resnet"), published)


@pytest.mark.parametrize("arch", ["vgg", "resnet"])
def test_gazenerfs_estimators_are_not_steds(tmp_path, arch):
    """Its VGG has the very keys, but was trained on 224 px with ImageNet's mean and deviation."""
    state = build_estimator(arch, "reference").state_dict()
    trainer = {"epoch": 7, "optim_state": {}, "scheule_state": {}}
    torch.save({"model_state": state, **trainer}, tmp_path / "epoch_7_ckpt.pth.tar")
    with pytest.raises(ValueError, match="epoch_7.*found a checkpoint of ETH-XGaze's training"):
        load_reference(tmp_path / "epoch_7_ckpt.pth.tar", arch)


def test_true_archive_and_folder_take_the_highest_step(tmp_path, published):
    home = tmp_path / "baseline" / "checkpoints"
    home.mkdir(parents=True)
    torch.save(published.state_dict(), home / "at_step_0140000.pth.tar")
    torch.save({"old": torch.zeros(1)}, home / "at_step_0020000.pth.tar")
    assert same(load_reference(tmp_path / "baseline", "resnet"), published)
    archive = tmp_path / "baseline.tar"
    with tarfile.open(archive, "w") as file:
        file.add(tmp_path / "baseline", "baseline")
    assert same(load_reference(archive, "resnet"), published)


@pytest.mark.parametrize("name", ["../at_step_1.pth.tar", "/tmp/at_step_1.pth.tar"])
def test_archives_with_names_outside_are_refused(tmp_path, published, name):
    torch.save(published.state_dict(), tmp_path / "weights")
    with tarfile.open(tmp_path / "bad.tar", "w") as file:
        member = file.gettarinfo(tmp_path / "weights")
        member.name = name
        with open(tmp_path / "weights", "rb") as stream:
            file.addfile(member, stream)
    with pytest.raises(ValueError, match="relative names"):
        load_reference(tmp_path / "bad.tar", "resnet")


def test_an_archive_whose_checkpoint_became_a_folder_is_refused(tmp_path, published):
    torch.save(published.state_dict(), tmp_path / "weights")
    with tarfile.open(tmp_path / "twice.tar", "w") as file:
        file.add(tmp_path / "weights", "at_step_1.pth.tar")
        # The later of two members of one name counts.
        (tmp_path / "empty").mkdir()
        file.add(tmp_path / "empty", "at_step_1.pth.tar")
    with pytest.raises(ValueError, match="twice.tar: the newest checkpoint .* is not a file"):
        load_reference(tmp_path / "twice.tar", "resnet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "small"}, "preset: published weights need 'reference', found 'small'"),
        ({"size_px": 64}, "size_px: published weights need 128, found 64"),
        ({"preprocess": "none"}, "preprocess: published weights need 'equalise', found 'none'"),
        ({"labels": {"count": 5}}, "labels: nothing is trained with a checkpoint"),
    ],
)
def test_published_weights_go_with_the_published_settings(changes, message):
    entry = {"arch": "vgg", "persons": "train-evaluator", "checkpoint": "baseline.tar"}
    entry |= {"preset": "reference", "size_px": 128, "preprocess": "equalise"}
    assert EstimatorSettings(**entry).checkpoint == "baseline.tar"
    with pytest.raises(ValueError, match=message):
        EstimatorSettings(**entry | changes)


def test_what_cannot_be_loaded(tmp_path, published):
    with pytest.raises(FileNotFoundError, match="expected the weights"):
        load_reference(tmp_path / "absent.tar", "vgg")
    path = tmp_path / "other.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="missing .*unexpected a"):
        load_reference(path, "resnet")
    torch.save({"state_dict": {"step": 3}}, path)
    with pytest.raises(ValueError, match="of tensors, found 'step' which is no tensor"):
        load_reference(path, "resnet")
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match="other.pt: expected a state dict of tensors, found list"):
        load_reference(path, "resnet")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a torch file"):
        load_reference(path, "resnet")
    empty = tmp_path / "folder"
    empty.mkdir()
    with pytest.raises(ValueError, match="at_step_"):
        load_reference(empty, "resnet")


class Malicious:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_a_pickle_is_not_run(tmp_path, published, capsys):
    torch.save({"a": Malicious()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="plain weights"):
        load_reference(tmp_path / "bad.pt", "resnet")
    assert "run" not in capsys.readouterr().out
