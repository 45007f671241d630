"""Training of a redirector as the rule runs it: warm starts, validation, averages."""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from regaze.estimators import store
from regaze.estimators.build import build_estimator
from regaze.estimators.settings import EstimatorSettings
from regaze.estimators.stage import train_estimator
from regaze.faces import FacesAttributes, FacesWriter
from regaze.redirectors.base import build_redirector
from regaze.redirectors.train import TrainingData, train_redirector
from regaze.redirectors.transfer import begin_from, read_start, restore_moments
from regaze.redirectors.xunet.settings import ModelSettings
from regaze.report.inputs import read_curve
from regaze.report.sections import curve_caption
from regaze.training.context import ModelFiles, Training
from regaze.training.posthoc import write_posthoc
from regaze.training.settings import RedirectorTraining, transfer_file

TRAIN = {
    "images": 24,
    "batch": 4,
    "warmup_images": 4,
    "log_every_images": 8,
    "state_every_images": 8,
    "validate_pairs": 3,
    "validate_steps": 2,
    "precision": "fp32",
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Faces of noise, a split, an untrained estimator's folder."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "faces.h5", "w") as file:
        for person in "abcdef":
            labels = np.zeros((4, 8), np.float32)
            labels[:, :4] = rng.uniform(-0.3, 0.3, (4, 4))
            file[f"{person}/labels"] = labels
            file[f"{person}/pixels"] = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    lists = {"train-redirector": list("abcd"), "val": list("ef"), "test": ["f"]}
    (folder / "split.json").write_text(json.dumps(lists))
    estimator = folder / "vgg"
    estimator.mkdir()
    torch.manual_seed(0)
    network = build_estimator("vgg", "tiny", 32, preprocess="none")
    save_file(network.state_dict(), estimator / "model.safetensors")
    config = {"arch": "vgg", "preset": "tiny", "size_px": 32, "preprocess": "none"}
    record = {"kind": "estimator", "name": "vgg", "config": config}
    (estimator / "model.json").write_text(json.dumps(record))
    return folder


def settings(size=32, **train):
    entry = {"class": "xunet", "preset": "tiny", "size_px": size, "train": TRAIN | train}
    return ModelSettings(**entry).resolve()


def trained(world, folder, config=None, estimator=None):
    files = ModelFiles(
        *(folder / "models/m" / name for name in ("model.safetensors", "model.json", "curve.csv")),
        state=folder / "state/m",
    )
    networks = {} if estimator is None else {"estimator": estimator}
    data = TrainingData([str(world / "faces.h5")], str(world / "split.json"), networks=networks)
    train_redirector("m", config or settings(), data, seed=0, files=files)
    record = json.loads((folder / "models/m/model.json").read_text())
    rows = list(csv.DictReader((folder / "models/m/curve.csv").read_text().splitlines()))
    return load_file(folder / "models/m/model.safetensors"), record, rows


@pytest.fixture(scope="module")
def cold(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    config = settings(ema_std=[0.05, 0.1], ema_snapshot_images=4)
    return (folder, *trained(world, folder, config))


def frozen(**train):
    """A training that cannot change anything: what it ends with is what it started with."""
    return settings(lr=1e-30, ema_halflife_images=0, **train)


def test_what_was_not_measured_is_no_empty_cell(world, tmp_path):
    # Plots of DVC draw those as 0; the report leaves both out.
    config = settings(validate_estimator="vgg")
    rows = trained(world, tmp_path, config, estimator=str(world / "vgg"))[2]
    assert [row["val_score"] for row in rows[:-1]] == ["nan", "nan"]
    assert all(value for row in rows for value in row.values())
    curve = read_curve(tmp_path / "models/m/curve.csv")
    assert curve["val_score"].notna().tolist() == [False, False, True]
    assert "validation gaze" in curve_caption(curve)


def test_estimators_that_hardly_see_changes_of_gaze_are_told(world, tmp_path, caplog):
    blind = shutil.copytree(world / "vgg", tmp_path / "vgg")
    record = json.loads((blind / "model.json").read_text())
    config = settings(validate_estimator="vgg")
    config["train"]["images"] = 8
    for pitch, told in ((0.79, True), (0.8, False)):
        caplog.clear()
        slopes = {"gaze_pitch_slope": pitch, "gaze_yaw_slope": 0.9}
        (blind / "model.json").write_text(json.dumps(record | {"held_out": slopes}))
        trained(world, tmp_path / str(pitch), config, estimator=str(blind))
        said = "vgg reads 0.79 of a change of gaze in pitch" in caplog.text
        assert said == told and "in yaw" not in caplog.text
        assert not told or "as estimator of this training it says little" in caplog.text


def test_a_training_starts_from_every_kind_of_file(world, cold, tmp_path):
    folder, weights, record, _ = cold
    assert "transfer" not in record["data"]
    state = torch.load(folder / "state/m/state.pt", weights_only=True)
    upstream = {f"module.{key}": value for key, value in weights.items()}
    port = {"optim": state["optimisers"]["main"], "model": upstream, "step": 5, "epoch": 2}
    (tmp_path / "run").mkdir()
    torch.save(port, tmp_path / "run/latest.pt")
    torch.save(weights, tmp_path / "bare.pt")
    starts = {
        "model": (folder / "models/m", weights),
        "state": (folder / "state/m/state.pt", state["average"]),
        "published": (tmp_path / "run", weights),
        "weights": (tmp_path / "bare.pt", weights),
    }
    for name, (path, wanted) in starts.items():
        redirector = build_redirector(settings())
        begun = begin_from(redirector, transfer_file(str(path)))
        found = redirector.network.state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted), name
        assert begun.kind == name and not begun.optimisers


def test_the_file_counts_by_its_content_not_by_its_name(world, cold, tmp_path, caplog):
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    torch.save(cold[1], first)
    second.write_bytes(first.read_bytes())
    once, record, _ = trained(world, tmp_path, settings(transfer=str(first), images=8))
    _, again, _ = trained(world, tmp_path, settings(transfer=str(second), images=8))
    assert again["data"] == record["data"] and "starting afresh" not in caplog.text
    torch.save({key: value + 1 for key, value in cold[1].items()}, second)
    moved, _, _ = trained(world, tmp_path, settings(transfer=str(second), images=8))
    assert "state of another configuration" in caplog.text
    assert not torch.equal(moved["conv.weight"], once["conv.weight"])


def test_moments_come_along_when_asked_for(world, cold, tmp_path):
    path = str(cold[0] / "state/m/state.pt")
    trained(world, tmp_path / "b", settings(transfer=path, transfer_optimizer=True, images=8))
    state = torch.load(tmp_path / "b/state/m/state.pt", weights_only=True)
    before = torch.load(path, weights_only=True)
    taken = state["optimisers"]["main"]["state"][0]["step"]
    assert taken == before["optimisers"]["main"]["state"][0]["step"] + state["step"]
    other = frozen(transfer=str(cold[0] / "models/m"), transfer_optimizer=True)
    with pytest.raises(ValueError, match="safetensors: train.transfer_optimizer is true, but"):
        trained(world, tmp_path / "c", other)


def test_a_published_optimiser_has_to_fit(world, cold, tmp_path):
    state = torch.load(cold[0] / "state/m/state.pt", weights_only=True)
    optim = state["optimisers"]["main"]
    optim["state"][1]["exp_avg"] = torch.zeros(3)
    port = {"model": cold[1], "optim": optim, "step": 5}
    torch.save(port, tmp_path / "latest.pt")
    asked = settings(transfer=str(tmp_path), transfer_optimizer=True)
    with pytest.raises(ValueError, match=r"exp_avg of parameter 1: expected .* found \(3,\)"):
        trained(world, tmp_path, asked)


def stepped(network):
    """The network's optimiser after a step that gave its bias no gradient."""
    optimiser = torch.optim.AdamW(network.parameters())
    network.weight.grad = torch.ones_like(network.weight)
    optimiser.step()
    return optimiser


def test_parameters_without_moments_start_without(tmp_path):
    saved = stepped(nn.Linear(2, 3)).state_dict()
    fresh = torch.optim.AdamW(nn.Linear(2, 3).parameters(), lr=0.5)
    restore_moments({"main": fresh}, {"main": saved}, "state.pt")
    (weight, bias), state = fresh.param_groups[0]["params"], fresh.state
    assert torch.equal(state[weight]["exp_avg"], saved["state"][0]["exp_avg"])
    assert bias not in state and fresh.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"generator": {}}, r"phases \['generator'\] are not those of this model, \['main'\]"),
        ({"main": {"state": {}}}, r"not the state of an Adam \(KeyError\('param_groups'\)\)"),
        ({"main": 3}, "not the state of an Adam"),
        (
            {"main": {"state": {}, "param_groups": [{"params": [0, 1, 2]}]}},
            "moments of 3 parameters do not fit 2",
        ),
    ],
)
def test_moments_of_another_kind_are_refused(saved, message):
    optimiser = stepped(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=f"^state.pt: optimiser.*{message}"):
        restore_moments({"main": optimiser}, saved, "state.pt")


def test_weights_of_another_image_size_fit_by_their_position_map(world, cold, tmp_path):
    entry = {"class": "xunet", "preset": "tiny", "size_px": 16, "train": TRAIN | {"lr": 1e-30}}
    entry["train"] |= {"images": 8, "transfer": str(cold[0] / "models/m"), "ema_halflife_images": 0}
    found, _, _ = trained(world, tmp_path, ModelSettings(**entry).resolve())
    name = "conditioningprocessor.pos_emb"
    wanted = torch.nn.functional.interpolate(
        cold[1][name][None], (8, 8), mode="bicubic", align_corners=False
    )[0]
    assert torch.equal(found[name], wanted)
    assert torch.equal(found["conv.weight"], cold[1]["conv.weight"])


def test_wrong_files_and_keys_are_told(world, cold, tmp_path):
    few = dict(cold[1])
    few.pop("conv.bias")
    torch.save(few | {"other": torch.ones(1)}, tmp_path / "few.pt")
    with pytest.raises(ValueError, match="few.pt: 2 keys .*missing conv.bias; unexpected other"):
        trained(world, tmp_path, frozen(transfer=str(tmp_path / "few.pt")))
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ValueError, match="text.pt: not a torch file of plain weights"):
        trained(world, tmp_path, frozen(transfer=str(tmp_path / "text.pt")))
    torch.save({"step": 3}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="odd.pt: expected a state dict of tensors, found 'step'"):
        trained(world, tmp_path, frozen(transfer=str(tmp_path / "odd.pt")))
    with pytest.raises(FileNotFoundError, match=r"train.transfer: .*gone.pt: no such file"):
        trained(world, tmp_path, frozen(transfer=str(tmp_path / "gone.pt")))
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="cut.safetensors: not a safetensors file"):
        read_start(tmp_path / "cut.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="list.pt: expected a dictionary of weights, found list"):
        read_start(tmp_path / "list.pt")


@pytest.mark.parametrize("value", ["False", "None", "", " false ", False, True, "null"])
def test_a_transfer_is_a_path_or_nothing(value):
    with pytest.raises(ValueError, match="leave the key out or set it to null"):
        RedirectorTraining(transfer=value)


def test_folders_mean_the_first_known_file(tmp_path):
    assert RedirectorTraining().transfer is None
    yet = str(tmp_path / "results/models/x")
    assert transfer_file(yet) == yet + "/model.safetensors"
    assert transfer_file(str(tmp_path / "a.pt")) == str(tmp_path / "a.pt")
    (tmp_path / "latest.pt").touch()
    assert transfer_file(str(tmp_path)) == str(tmp_path / "latest.pt")
    (tmp_path / "state.pt").touch()
    assert transfer_file(str(tmp_path)) == str(tmp_path / "state.pt")


def test_the_training_estimator_scores_redirected_pairs(world, tmp_path):
    config = settings(validate_estimator="vgg", validate_every_images=8, select="best")
    _, record, rows = trained(world, tmp_path, config, estimator=str(world / "vgg"))
    assert len(rows) == 3
    for row in rows:
        gaze, head = float(row["val_gaze_deg"]), float(row["val_head_deg"])
        assert float(row["val_score"]) == pytest.approx(gaze + head, rel=1e-4)
        assert 0 < gaze < 180 and 0 < head < 180 and float(row["val_loss"]) > 0
    assert "estimator" in record["data"]


def test_validation_pairs_are_shown(world, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(world, tmp_path, settings(tensorboard=True, image_every_images=12))
    events = EventAccumulator(str(tmp_path / "state/m/tensorboard"))
    events.Reload()
    shown = events.Images("validation")
    assert [one.step for one in shown] == [12, 24]
    assert (shown[0].height, shown[0].width) == (3 * 32, 3 * 32)


def test_other_averages_of_a_trained_model(cold, tmp_path):
    folder, weights, record, _ = cold
    made = write_posthoc(folder / "models/m", tmp_path / "out", 0.08)
    assert made["average"] == {"std": 0.08, "images": 24, "snapshots_used": 12}
    found = load_file(tmp_path / "out/model.safetensors")
    assert found.keys() == weights.keys()
    # So near the end of a training of 6 steps all averages are alike.
    assert torch.allclose(found["conv.weight"], weights["conv.weight"], atol=0.02)
    assert not torch.equal(found["conv.weight"], weights["conv.weight"])


def estimator(persons):
    entry = {"arch": "resnet", "preset": "tiny", "size_px": 32, "persons": persons}
    return EstimatorSettings(**entry).model_dump()


def test_lists_and_labels_that_are_not_there_are_told(world, tmp_path):
    files = ModelFiles(*(tmp_path / name for name in ("model", "record", "curve", "state")))
    given = {"split": str(world / "split.json"), "seed": 0, "files": files}
    faces = [str(world / "faces.h5")]
    words = "split.json: estimators.judge.persons is 'nobody'; the file has test, train-redirector"
    with pytest.raises(ValueError, match=words):
        train_estimator("judge", estimator("nobody"), faces=faces, **given)
    attributes = FacesAttributes("sted", (32, 32), 125.0, 600.0, "none", "test", gaze="absent")
    with FacesWriter(tmp_path / "faces.h5", attributes) as writer:
        labels = np.zeros((2, 8), np.float32)
        writer.add_person("a", np.zeros((2, 32, 32, 3), np.uint8), labels)
    with pytest.raises(ValueError, match="faces.h5: expected gaze labels to train on, found"):
        train_estimator("judge", estimator("val"), faces=[str(tmp_path / "faces.h5")], **given)


def test_processes_that_cannot_share_a_batch_are_refused(world, tmp_path):
    files = ModelFiles(*(tmp_path / name for name in ("model", "record", "curve", "state")))
    given = {"faces": [str(world / "faces.h5")], "split": str(world / "split.json")}
    training = Training("m", settings(batch=8), **given, seed=0, files=files)
    assert training.share(1, 2)["batch"] == 4
    with pytest.raises(ValueError, match="train.batch: 8 is not divisible by 3 processes"):
        training.share(1, 3)


def test_a_published_estimator_is_measured_where_there_are_faces(world, tmp_path, monkeypatch):
    monkeypatch.setattr(
        store, "build_estimator", lambda arch, preset: build_estimator(arch, "tiny", 32, "none")
    )
    torch.save(build_estimator("resnet", "tiny", 32, "none").state_dict(), tmp_path / "weights.pt")
    config = estimator("train-evaluator") | {"checkpoint": str(tmp_path / "weights.pt")}
    files = ModelFiles(*(tmp_path / name for name in ("model", "record", "curve", "state")))

    def told(people):
        (tmp_path / "split.json").write_text(json.dumps({"test": people}))
        split = str(tmp_path / "split.json")
        train_estimator(
            "judge", config, faces=[str(world / "faces.h5")], split=split, seed=0, files=files
        )
        return json.loads((tmp_path / "record").read_text())

    assert told(["f"])["held_out"]["n"] == 4
    assert "held_out" not in told([])


def test_a_record_tells_of_the_patches_that_were_trained_on(world, tmp_path):
    config = settings(images=8)
    assert config["objective"]["flip"]
    _, record, _ = trained(world, tmp_path, config)
    told = record["patches"]
    with h5py.File(world / "faces.h5") as file:
        labels = np.concatenate([file[f"{person}/labels"][:, :4] for person in "abcd"])
    yaw = np.degrees(labels[:, 3].astype(float))
    assert told["patch_size"] == [32, 32] and told["looked_at"] == 16
    # Noise has no faces.
    assert told["eyes"] is None and len(told["colours"]["mean"]) == 3
    mirrored = np.percentile(np.concatenate([yaw, -yaw]), (1, 99))
    np.testing.assert_allclose(told["head"]["yaw"], mirrored, atol=0.01)
