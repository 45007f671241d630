"""Cases of ST-ED's estimators, angles and data set rules (zhengyuf/STED-gaze)."""

from __future__ import annotations

import ast
import re

import numpy as np
import torch
from kit import adapter, assert_close, assert_relative, fill_input

from regaze.angles import (
    angles_from_vector,
    angular_error,
    rotation_x,
    rotation_y,
    vector_from_angles,
)
from regaze.estimators.build import build_estimator
from regaze.estimators.objective import angular_loss
from regaze.estimators.preprocess import prepare
from regaze.estimators.subsets import (
    evaluation_subset,
    label_density,
    sample_index,
    stepped_rate,
)
from regaze.images import equalise, to_uint8
from regaze.training.labels import labelled_subset, shuffled

OUTPUT = 1e-4  # absolute, of network outputs; spec/sted.md section 12
BASE_RATE = 5e-5  # learning rate per sample of a batch; spec/sted.md section 1


@adapter("sted/angles*")
def angles(inputs, golden):
    first = torch.from_numpy(inputs["pitchyaw"])
    second = torch.from_numpy(inputs["pitchyaw2"]).requires_grad_()
    # The turns of ST-ED's embeddings are Ry(yaw) Rx(pitch), not the label's own Ry(yaw) Rx(-pitch).
    turn = rotation_y(first[:, 1]) @ rotation_x(first[:, 0])
    assert_close(turn, golden["rot2d"], 1e-6, name="rot2d")
    assert_close(turn.mT, golden["rot2d_inverse"], 1e-6, name="rot2d_inverse")
    plane = rotation_x(torch.from_numpy(inputs["angle1d"])[:, 0])[:, 1:, 1:]
    assert_close(plane, golden["rot1d"], 1e-6, name="rot1d")
    assert_close(plane.mT, golden["rot1d_inverse"], 1e-6, name="rot1d_inverse")
    assert_close(vector_from_angles(first), golden["vector_from_pitchyaw"], 1e-6, name="vector")
    found = angles_from_vector(inputs["vector"].astype(np.float64))
    assert_close(found, golden["pitchyaw_from_vector"], 1e-9, name="pitchyaw_from_vector")
    apart = angular_error(first.double(), second.detach().double())
    # The reference's float32 arccosine is good to about 1e-2 degrees near 0 and 180.
    assert_close(apart, golden["angular_distance_deg"], 2e-2, 1e-5, name="angular_distance_deg")
    loss = angular_loss(first, second)
    assert_close(loss, golden["angular_loss_deg"], rtol=1e-4, name="angular_loss_deg")
    loss.backward()
    assert_relative(second.grad, golden["angular_loss_grad"], 1e-3, name="angular_loss_grad")


def _estimator(arch, case):
    network = build_estimator(arch, "reference", size_px=case.inputs["image"].shape[-1])
    network.load_state_dict(case.state)
    return network.eval()


def _check_angles(network, case):
    image = torch.from_numpy(case.inputs["image"])
    for suffix, picture in (("", image), ("_shifted", 0.5 * image + 0.1)):
        with torch.no_grad():
            found = network(picture)
        for name, part in (("gaze", found[:, :2]), ("head", found[:, 2:])):
            assert_close(part, case.golden[name + suffix], OUTPUT, name=name + suffix)


@adapter("sted/gazehead_resnet*")
def gazehead_resnet(case):
    _check_angles(_estimator("resnet", case), case)


@adapter("sted/gazeheadnet_vgg*")
def gazeheadnet_vgg(case):
    network = _estimator("vgg", case)
    _check_angles(network, case)
    with torch.no_grad():
        _, features = network.forward_with_features(torch.from_numpy(case.inputs["image"]))
    assert [f.shape[1] for f in features] == case.manifest["feature_lengths"]
    for number, feature in enumerate(features):
        length = feature.shape[1]
        wanted = case.golden[f"feature{number}_sample"]
        sample = feature[:, :: max(1, length // wanted.shape[1])][:, : wanted.shape[1]]
        assert_close(sample, wanted, OUTPUT, name=f"feature{number}_sample")
        stats = torch.stack([feature.mean(1), feature.std(1), feature.abs().amax(1)], 1)
        assert_close(stats, case.golden[f"feature{number}_stats"], OUTPUT, name=f"stats {number}")


def _numbered(index) -> np.ndarray:
    return np.array([(int(person), row) for person, row in index], np.int64)


def _told(case, prefix: str) -> tuple[str, str]:
    """Return the name and the words of the output whose name starts with ``prefix``."""
    [name] = [key for key in case.golden if key.startswith(prefix)]
    return name, case.manifest["outputs"][name]


def _number(pattern: str, words: str) -> int:
    return int(re.search(pattern, words)[1])


@adapter("sted/dataset*")
def dataset(case):
    """The manifest gives several arguments in the words of its ``outputs``; they are read there."""
    golden, images = case.golden, case.inputs["images"]
    for order in ("rgb", "bgr"):
        levels = equalise(images, order).transpose(0, 3, 1, 2)
        assert_close(levels, golden[f"{order}_levels"], name=f"{order}_levels")
    ready = prepare(images, images.shape[1], "equalise")
    assert_close(to_uint8(ready).transpose(0, 3, 1, 2), golden["rgb_levels"], name="round trip")
    name, words = _told(case, "rgb_float")
    top, bottom, left, right = map(int, re.search(r"(\d+):(\d+),(\d+):(\d+)", words).groups())
    # float32 of 2 v / 255 - 1: one unit in the last place either way.
    assert_close(ready[:, :, top:bottom, left:right], golden[name], 2.5e-7, name=name)

    persons, sizes = case.config["persons"], case.config["sizes"]
    index = sample_index(dict(zip(persons, sizes, strict=True)))
    assert_close(_numbered(index), golden["index_all"], name="index_all")
    name, words = _told(case, "index_prefixes")
    asked = ast.literal_eval(re.search(r"\[.*?\]", words)[0])
    minimum = _number(r"at least (\d+)", words)
    found = sample_index(dict(zip(persons, sizes, strict=True)), asked, minimum)
    assert_close(_numbered(found), golden[name], name=name)
    name, words = _told(case, "index_labeled")
    chosen = labelled_subset(len(index), len(golden[name]), _number(r"seed (\d+)", words))
    assert_close(_numbered([index[number] for number in chosen]), golden[name], name=name)
    name, _ = _told(case, "shuffle_")
    seed, total, first = map(int, re.findall(r"\d+", name))
    assert_close(shuffled(total, seed)[:first], golden[name], name=name)

    labels = np.concatenate(
        [
            fill_input(f"labels{number}", (size, 8), case.seed, -0.6, 0.6)
            for number, size in enumerate(sizes)
        ]
    )
    fitted = _number(r"subset of (\d+)", _told(case, "kde_covariance")[1])
    density = label_density(labels[labelled_subset(len(index), fitted), :4])
    assert_close(density.covariance, golden["kde_covariance"], rtol=1e-6, name="kde_covariance")
    assert_close(density.factor, golden["kde_factor"], rtol=1e-9, name="kde_factor")
    assert_close(density(case.inputs["points"]), golden["kde_pdf"], rtol=1e-6, name="kde_pdf")

    name, words = _told(case, "lr_values")
    base = _number(r"batch size (\d+)", words) * BASE_RATE
    rates = [stepped_rate(int(step), base) for step in golden["lr_steps"]]
    assert_close(rates, golden[name], rtol=1e-12, name=name)
    name, _ = _told(case, "subset_indices")
    total, proportion = re.search(r"_(\d+)_(\d+p\d+)$", name).groups()
    subset = evaluation_subset(int(total), float(proportion.replace("p", ".")))
    assert_close(subset, golden[name], name=name)
