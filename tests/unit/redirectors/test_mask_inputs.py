"""Masks that a method declares reach it in training and in sampling, of the right rows."""

import json

import h5py
import method_folders
import numpy as np
import pytest
import torch

from regaze.masks import MasksError, MasksReader
from regaze.pairs import write_pairs
from regaze.redirectors.bench import Bench
from regaze.redirectors.declaration import Sampling
from regaze.redirectors.inputs import open_inputs
from regaze.redirectors.networks import load_redirector
from regaze.redirectors.sample import sample_redirector

SIZE = 16
SAMPLING = Sampling().model_dump()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A method that adds what the masks of its sources say, with faces and masks."""
    folder = tmp_path_factory.mktemp("masks")
    patch = pytest.MonkeyPatch()
    method_folders.write(folder / "methods", "small")
    method_folders.beside(patch, folder / "methods")
    from regaze.methods import method_module

    entry = method_module("small", "settings").ModelSettings(**{"class": "small"})
    yield Bench("small", {"small": entry}, {}, folder)
    patch.undo()
    method_folders.forget("regaze.redirectors.small")


def shares(bench, rows):
    """Shares of eyes of rows as they are stored, averaged over 2 x 2 pixels."""
    reader = MasksReader(bench.input_files["masks"], bench.reader)
    eyes = reader.read(np.asarray(rows), ["eyes"])["eyes"].astype(np.float32)
    return eyes.reshape(len(eyes), 1, SIZE, 2, SIZE, 2).mean((3, 5))


def test_batches_of_trainings_have_the_masks_of_their_rows(bench):
    batches = bench.pairs(flip=True)
    flipped = set()
    for step in range(6):
        loaded = batches.load(step)
        done = batches.finish(loaded)
        for side in ("source", "target"):
            rows = done[f"{side}_row"].numpy()
            wanted = shares(bench, rows)
            turned = loaded["flip"].numpy()
            wanted[turned] = wanted[turned][..., ::-1]
            np.testing.assert_allclose(done[f"{side}_masks"], wanted, atol=2e-3)
            # Faces without masks are never drawn.
            assert done[f"{side}_masks_known"].all() and bench.inputs["masks"].known[rows].all()
        flipped |= set(turned.tolist())
    assert flipped == {True, False} and wanted.any()


def test_requests_have_those_of_their_sources_and_of_targets_with_a_picture(bench):
    requests = bench.requests()
    source, target = requests.to("cpu")
    known = bench.inputs["masks"].known
    for side, batch in (("source", source), ("target", target)):
        rows = batch[f"{side}_row"].numpy()
        there = (rows >= 0) & known[np.where(rows < 0, 0, rows)]
        assert batch[f"{side}_masks_known"].tolist() == there.tolist()
        found = batch[f"{side}_masks"].numpy()[there]
        np.testing.assert_allclose(found, shares(bench, rows[there]), atol=2e-3)
    assert not target["target_masks_known"][target["target_row"] < 0].any()


def sampled(bench, folder, out, files):
    write_pairs(out / "pairs.parquet", bench.table)
    sample_redirector(
        folder,
        faces=bench.faces,
        pairs=out / "pairs.parquet",
        sampling=SAMPLING,
        samples=out / "samples.h5",
        speed=out / "speed.json",
        inputs=files,
    )
    with h5py.File(out / "samples.h5") as file:
        return file["pixels"][:], dict(file.attrs)


def test_masks_decide_trained_weights_and_pictures(bench, tmp_path):
    folder, _ = bench.unbroken
    record = json.loads((folder / "model.json").read_text())
    identity = {"method": "exact", "method_version": "example"}
    assert record["inputs"]["masks"] == {"names": ["eyes"], "identity": identity}
    weight = load_redirector(folder)[0].net.colours.weight
    start = bench.built().net.colours.weight
    assert not torch.equal(weight[:, 3], start[:, 3])
    made, told = sampled(bench, folder, tmp_path, bench.input_files)
    rows = bench.requests().source["source_row"][bench.requests().source_of].numpy()
    assert told["sources_without_masks"] == (~bench.inputs["masks"].known[rows]).sum()
    empty = tmp_path / "empty.h5"
    reader = MasksReader(bench.input_files["masks"], bench.reader)
    with h5py.File(bench.input_files["masks"][0]) as old, h5py.File(empty, "w") as new:
        new.attrs.update(old.attrs)
        for person in old:
            old.copy(person, new)
            new[person]["eyes"][:] = False
    assert reader.valid.any()
    other, _ = sampled(bench, folder, tmp_path, {"masks": [empty]})
    known = bench.inputs["masks"].known[rows]
    assert (made != other).any((1, 2, 3)).tolist() == known.tolist()


def test_masks_of_another_making_and_none_are_refused(bench, tmp_path):
    folder, _ = bench.unbroken
    with pytest.raises(ValueError, match="masks: .* expected their files, found none"):
        sampled(bench, folder, tmp_path, {})
    other = tmp_path / "other.h5"
    with h5py.File(bench.input_files["masks"][0]) as old, h5py.File(other, "w") as new:
        new.attrs.update({**old.attrs, "method": "parsing"})
        for person in old:
            old.copy(person, new)
    with pytest.raises(MasksError, match="expected masks of .*exact.*, found .*parsing"):
        sampled(bench, folder, tmp_path, {"masks": [other]})
    assert open_inputs(bench.declaration, {"masks": [other]}, bench.reader)["masks"].known.any()
