"""Averages of any width from snapshots of two, against averages that were followed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from regaze.training.averages import PowerAverages
from regaze.training.posthoc import find_snapshots, mix, write_posthoc

STEPS, BATCH, WANTED = 384, 10, 0.08


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A walk of weights, followed in three widths; snapshots of two of them."""
    folder = tmp_path_factory.mktemp("run")
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    stored = PowerAverages(network, (0.05, 0.10), folder / "state/toy/ema/abc")
    direct = PowerAverages(network, (WANTED,), folder)
    generator, halfway = torch.Generator().manual_seed(0), None
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
            network[1].num_batches_tracked += 1
        for averages in (stored, direct):
            averages.update(network, step * BATCH, BATCH)
        if step % (STEPS // 32) == 0:
            stored.snapshot(step * BATCH)
        if step == STEPS // 2:
            halfway = {k: v.clone() for k, v in direct.values[WANTED].items()}
    return folder, network, direct.values[WANTED], halfway


def close(found, wanted, network, most):
    """Differences are small against what the weights moved since the average's centre."""
    for key, value in wanted.items():
        if value.is_floating_point():
            distance = (network.state_dict()[key] - value).abs().max() + 1e-3
            assert (found[key] - value).abs().max() <= most * distance, key
        else:
            assert torch.equal(found[key], value)


def test_a_mixture_is_the_average_that_was_followed(trained):
    folder, network, direct, halfway = trained
    snapshots = find_snapshots(folder / "state/toy/ema/abc")
    found, shares = mix(snapshots, WANTED)
    assert sum(shares) == pytest.approx(1) and len(shares) == 64
    close(found, direct, network, 0.02)
    early, _ = mix(snapshots, WANTED, STEPS // 2 * BATCH)
    floats = {k: v for k, v in halfway.items() if v.is_floating_point()}
    close(early, floats, network, 0.02)


def test_a_width_that_was_stored_comes_back(trained):
    folder, network, _, _ = trained
    snapshots = find_snapshots(folder / "state/toy/ema/abc")
    last = snapshots[-1]
    found, _ = mix(snapshots, last.std)
    for key, value in load_file(last.path).items():
        assert torch.allclose(found[key].float(), value.float(), atol=2e-3), key


def test_a_model_folder_of_another_width(trained, tmp_path):
    folder, network, direct, _ = trained
    model = folder / "models/toy"
    model.mkdir(parents=True)
    save_file(network.state_dict(), model / "model.safetensors")
    record = {"name": "toy", "kind": "redirector", "fingerprint": "old", "snapshots": "abc"}
    (model / "model.json").write_text(json.dumps(record))
    made = write_posthoc(model, tmp_path / "out", WANTED)
    close(load_file(tmp_path / "out/model.safetensors"), direct, network, 0.02)
    assert json.loads((tmp_path / "out/model.json").read_text()) == made
    assert made["fingerprint"] != "old"
    assert made["average"] == {"std": WANTED, "images": STEPS * BATCH, "snapshots_used": 64}
    again = Path(tmp_path / "again")
    write_posthoc(model, again, WANTED, state=folder / "state/toy")
    assert (again / "model.safetensors").read_bytes() == (
        tmp_path / "out/model.safetensors"
    ).read_bytes()
    with pytest.raises(ValueError, match="another folder than the model's own"):
        write_posthoc(model, model, WANTED)
    with pytest.raises(ValueError, match="EMA std: expected 0 < std"):
        write_posthoc(model, tmp_path / "bad", 0.5)
    with pytest.raises(ValueError, match="images: expected 120 to 3840, found 9"):
        write_posthoc(model, tmp_path / "bad", WANTED, images=9)
    (model / "model.json").write_text(json.dumps(record | {"snapshots": "other"}))
    with pytest.raises(FileNotFoundError, match="trainings with train.ema_std"):
        write_posthoc(model, tmp_path / "bad", WANTED)
    assert not (tmp_path / "bad").exists()


def test_large_numbers_are_not_halved_and_foreign_files_are_refused(tmp_path):
    network = nn.Linear(2, 1)
    nn.init.constant_(network.weight, 1e5)
    averages = PowerAverages(network, (0.1,), tmp_path)
    averages.snapshot(10)
    (one,) = find_snapshots(tmp_path)
    assert load_file(one.path)["weight"].tolist() == [[1e5, 1e5]]
    save_file({"a": torch.ones(1)}, tmp_path / "std-other.safetensors")
    with pytest.raises(ValueError, match="std-other.safetensors: not a snapshot"):
        find_snapshots(tmp_path)


def test_snapshots_of_two_networks_are_not_mixed(tmp_path):
    PowerAverages(nn.Linear(2, 1), (0.1,), tmp_path).snapshot(10)
    PowerAverages(nn.Linear(2, 1, bias=False), (0.1,), tmp_path).snapshot(20)
    with pytest.raises(ValueError, match=r"20\.safetensors: other weights than before: \['bias'\]"):
        mix(find_snapshots(tmp_path), 0.1)


def test_folders_that_hold_no_such_model_are_told(tmp_path):
    model, state, out = tmp_path / "m", tmp_path / "state", tmp_path / "out"
    PowerAverages(nn.Linear(2, 1), (0.05, 0.1), state / "ema/abc").snapshot(10)
    model.mkdir()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file; is the model"):
        write_posthoc(model, out, 0.1, state=state)
    save_file({"other": torch.ones(1)}, model / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"model\.json: no such file; is the model"):
        write_posthoc(model, out, 0.1, state=state)
    record = {"name": "m", "kind": "redirector"}
    (model / "model.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"model\.json: snapshots: expected .* train\.ema_std"):
        write_posthoc(model, out, 0.1, state=state)
    (model / "model.json").write_text(json.dumps(record | {"snapshots": "abc"}))
    words = r"other weights than the model's: \['bias', 'other', 'weight'\]"
    with pytest.raises(ValueError, match=f"{state}: {words}"):
        write_posthoc(model, out, 0.1, state=state)
    assert not out.exists()
