"""Augmented faces: real rows are untouched, redirected ones belong to their sample."""

import json
import random
import shutil

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regaze.estimators.batches import ImageBatches
from regaze.faces import FacesReader
from regaze.few_labels import generate
from regaze.few_labels.files import export_upstream
from regaze.few_labels.generate import augment_faces, draw_targets
from regaze.images import equalise
from regaze.redirectors.base import build_redirector
from regaze.redirectors.xunet.settings import ModelSettings

SAMPLING = {
    "sampler": "dpmpp_2m", "steps": 2, "sigma_min": 1.0, "sigma_max": 20.0, "guidance": 0.0,
    "seed": 0, "batch": 5, "threads": 1,
}  # fmt: skip
PEOPLE = {"train-redirector": ["c", "a", "b"], "test": ["z"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Faces of four people, a split, a redirector that was never trained, and its pictures."""
    folder = tmp_path_factory.mktemp("augmented")
    rng = np.random.default_rng(0)
    with h5py.File(folder / "faces.h5", "w") as file:
        for person in "abcz":
            file[f"{person}/labels"] = rng.uniform(-0.4, 0.4, (6, 8)).astype(np.float32)
            file[f"{person}/pixels"] = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    (folder / "split.json").write_text(json.dumps(PEOPLE))
    untrained(folder / "model", 32)
    run(folder, "few.h5")
    return folder


def untrained(folder, size):
    """A model folder whose network makes noise of its input."""
    config = ModelSettings(**{"class": "xunet", "preset": "tiny", "size_px": size}).resolve()
    torch.manual_seed(0)
    network = build_redirector(config, SAMPLING).network
    torch.nn.init.normal_(network.lastconv.weight, std=0.05)
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    record = {"name": "x", "kind": "redirector", "config": config, "inputs": {}}
    (folder / "model.json").write_text(json.dumps(record))


def run(folder, name, **options):
    options = {"labels": {"count": 10, "seed": 0}, "seed": 3, "sampling": SAMPLING} | options
    faces, split = [folder / "faces.h5"], folder / "split.json"
    augment_faces(folder / "model", faces=faces, split=split, output=folder / name, **options)
    return FacesReader(folder / name)


def subset(count):
    numbers = list(range(18))
    random.Random(0).shuffle(numbers)
    return sorted(numbers[:count])


def test_rows_alternate_and_real_ones_are_those_of_the_faces(made):
    reader, faces = FacesReader(made / "few.h5"), FacesReader(made / "faces.h5")
    rows = faces.rows(PEOPLE["train-redirector"])[subset(10)]
    ours = reader.rows(PEOPLE["train-redirector"])
    assert len(reader) == len(ours) == 20 and "z" not in reader.persons
    assert reader.dataset("real", ours).tolist() == [1, 0] * 10
    np.testing.assert_array_equal(reader.pixels(ours[::2]), faces.pixels(rows))
    np.testing.assert_array_equal(reader.labels[ours[::2]], faces.labels[rows])
    assert np.isnan(reader.labels[ours[1::2], 4:]).all()
    labels = faces.labels[rows, :4]
    np.testing.assert_array_equal(
        reader.labels[ours[1::2], :4], draw_targets(labels, np.array(subset(10)), 3)[:, 0]
    )


def test_pictures_survive_averaging_to_the_redirectors_size(made):
    reader = FacesReader(made / "few.h5")
    redirected = reader.pixels(np.flatnonzero(reader.dataset("real", np.arange(20)) == 0))
    small = redirected[:, ::2, ::2]
    np.testing.assert_array_equal(small.repeat(2, 1).repeat(2, 2), redirected)
    assert redirected.std() > 1


@pytest.mark.parametrize("batch", [1, 64])
def test_results_do_not_depend_on_batches(made, batch):
    again = run(made, f"again{batch}.h5", sampling=SAMPLING | {"batch": batch})
    first = FacesReader(made / "few.h5")
    np.testing.assert_array_equal(again.labels, first.labels)
    difference = again.pixels(np.arange(20)).astype(int) - first.pixels(np.arange(20))
    # Sums of other batches round otherwise; a level is half of one rounding.
    assert np.abs(difference).max() <= 1


def test_the_same_file_twice(made):
    run(made, "twice.h5")
    assert (made / "twice.h5").read_bytes() == (made / "few.h5").read_bytes()


def test_several_targets_per_sample(made):
    reader = run(made, "three.h5", per_sample=3)
    assert reader.dataset("real", np.arange(40)).tolist() == [1, 0, 0, 0] * 10
    one = FacesReader(made / "few.h5")
    # The first target of a sample is the one that it has alone.
    np.testing.assert_array_equal(reader.labels[1::4], one.labels[1::2])
    assert len(np.unique(reader.labels[np.arange(40) % 4 > 0, :4], axis=0)) == 30


def test_blocks_of_persons_change_nothing(made, monkeypatch):
    monkeypatch.setattr(generate, "_BLOCK", 4)
    run(made, "blocks.h5")
    assert (made / "blocks.h5").read_bytes() == (made / "few.h5").read_bytes()


def test_sizes_that_do_not_divide_the_patch_are_refused(made, tmp_path):
    untrained(tmp_path / "model", 48)
    for name in ("faces.h5", "split.json"):
        shutil.copy(made / name, tmp_path / name)
    with pytest.raises(ValueError, match="its 48 px do not divide the patch width 64"):
        run(tmp_path, "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_all_samples_without_labels_given(made):
    assert len(run(made, "all.h5", labels=None)) == 36


def test_training_reads_the_file(made):
    reader = FacesReader(made / "few.h5")
    batches = ImageBatches(reader, PEOPLE["train-redirector"], size=32, batch=8, seed=0)
    batch = batches.finish(batches.load(0))
    assert batch["image"].shape == (8, 3, 32, 32) and batch["gaze"].isfinite().all()


def test_export_has_upstreams_layout(made):
    export_upstream(made / "few.h5", made / "Redirected_samples.h5")
    reader = FacesReader(made / "few.h5")
    with h5py.File(made / "Redirected_samples.h5", "r") as file:
        assert sorted(file) == reader.persons
        for person in file:
            rows = reader.rows([person])
            group = file[person]
            shapes = {"real": (), "gaze": (2,), "head": (2,), "image": (3, 64, 64)}
            for name, shape in shapes.items():
                assert group[name].shape == (len(rows), *shape) and group[name].dtype == np.float32
                assert group[name].chunks == (1, *shape)
            assert group["real"][:].tolist() == [1, 0] * (len(rows) // 2)
            np.testing.assert_array_equal(group["gaze"][:], reader.labels[rows, :2])
            levels = (group["image"][:] + 1) * 127.5
            seen = equalise(reader.pixels(rows))
            np.testing.assert_allclose(levels.transpose(0, 2, 3, 1), seen, atol=1e-3)
    with pytest.raises(ValueError, match="faces.h5: expected an augmented .* no dataset 'real'"):
        export_upstream(made / "faces.h5", made / "none.h5")


def test_targets_belong_to_samples():
    labels = np.random.default_rng(2).normal(0, [0.2, 0.3, 0.1, 0.4], (200, 4))
    drawn = draw_targets(labels, np.array([5, 11, 7]), seed=1, per_sample=2)
    other = draw_targets(labels, np.array([7, 5]), seed=1, per_sample=3)
    np.testing.assert_array_equal(drawn[[2, 0]], other[:, :2])
    assert not np.array_equal(draw_targets(labels, np.array([5]), seed=2)[0], drawn[0, :1])
    many = draw_targets(labels, np.arange(4000), seed=0)[:, 0]
    np.testing.assert_allclose(many.mean(0), labels.mean(0), atol=0.03)
    # Label and kernel vary independently: variances add up.
    widened = np.cov(labels.T) * (1 + 200 ** (-1 / 4))
    np.testing.assert_allclose(np.cov(many.T), widened, atol=0.015)


def test_labels_without_a_density_are_refused():
    flat = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 4))
    flat[:, 3] = 0
    with pytest.raises(ValueError, match="do not vary in all of gaze and head"):
        draw_targets(flat, np.arange(3), seed=0)
    with pytest.raises(ValueError, match="n>=5"):
        draw_targets(flat[:4], np.arange(3), seed=0)
