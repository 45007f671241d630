"""A second data set without labels: its pictures, row numbers and inputs reach a method."""

import json

import h5py
import method_folders
import numpy as np
import pytest
import torch

from regaze.images import reduce_patches
from regaze.redirectors.bench import Bench
from regaze.redirectors.checks import run_checks
from regaze.redirectors.declaration import Declaration, Input
from regaze.redirectors.inputs import check_names
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.train import Unlabelled

# A method whose judge sees unlabelled pictures, and that learns a number for each of them.
SETTINGS = method_folders.SETTINGS.replace(
    'Declaration(inputs=(Input("masks", {"names": ["eyes"]}),))',
    'Declaration(unlabelled=True, inputs=(Input("masks", {"names": ["eyes"]}, '
    '("source", "target", "unlabelled")),))',
)
REDIRECTOR = (
    method_folders.REDIRECTOR.replace(
        "self.net = Net()",
        "self.net = nn.ModuleDict({'made': Net(), 'judge': nn.Conv2d(4, 1, 3)})",
    )
    .replace(
        """    def losses(self, batch, phase, at):
        made""",
        """    @property
    def saved(self):
        return self.net["made"]

    def fit_unlabelled_rows(self, count):
        self.net["numbers"] = nn.Embedding(count, 1)

    def phases(self):
        judging = [*self.net["judge"].parameters(), *self.net["numbers"].parameters()]
        return [Phase("judge", judging), Phase("made", list(self.net["made"].parameters()))]

    def losses(self, batch, phase, at):
        if phase == "judge":
            seen = torch.cat([batch["unlabelled"], batch["unlabelled_masks"]], 1)
            read = self.net["judge"](seen).mean((2, 3))
            return {"loss": (read - self.net["numbers"](batch["unlabelled_row"])).square().mean()}
        made""",
    )
    .replace("return self.net(source", "return self.net['made'](source")
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unlabelled")
    patch = pytest.MonkeyPatch()
    method_folders.write(folder / "methods", "adapt", SETTINGS, REDIRECTOR)
    method_folders.beside(patch, folder / "methods")
    from regaze.methods import method_module

    entry = method_module("adapt", "settings").ModelSettings(**{"class": "adapt"})
    yield Bench("adapt", {"adapt": entry}, {}, folder)
    patch.undo()
    method_folders.forget("regaze.redirectors.adapt")


def test_a_method_with_a_second_data_set_keeps_the_contract(bench):
    outcomes = {one.check: one for one in run_checks(bench)}
    assert not [one for one in outcomes.values() if one.state == "failed"]
    assert outcomes["unlabelled set"].state == outcomes["resuming"].state == "passed"


def test_batches_have_pictures_of_the_other_set_besides(bench):
    other = Unlabelled(bench.declaration, bench.unlabelled)
    options = {"size": bench.size, "batch": 5, "seed": 3}
    batches, seen = other.batches(**options, flip=True), []
    for step in range(8):
        loaded = batches.load(step)
        done = batches.finish(loaded)
        rows, turned = loaded["unlabelled_row"].numpy(), loaded["unlabelled_flip"].numpy()
        wanted = reduce_patches(other.reader.pixels(rows), bench.size)
        wanted[turned] = wanted[turned].flip(-1)
        torch.testing.assert_close(done["unlabelled"], wanted)
        assert set(done) == {f"unlabelled{c}" for c in ("", "_row", "_masks", "_masks_known")}
        assert other.inputs["masks"].known[rows].all()
        seen += rows.tolist()
    # Everybody of the list who has masks, and nobody of other lists.
    everybody = other.reader.rows(other.persons)
    assert set(seen) == set(everybody[other.inputs["masks"].known[everybody]].tolist())
    # Two processes see what one does.
    halves = [
        other.batches(size=bench.size, batch=2, seed=3, rank=rank, world=2).load(1)
        for rank in (0, 1)
    ]
    whole = other.batches(size=bench.size, batch=4, seed=3).load(1)
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([half[name] for half in halves]), value)


def test_pairs_are_those_of_a_training_without_the_other_set(bench):
    own = bench.batch()
    given = {"size": bench.size, "batch": 4, "seed": 0, "declaration": bench.declaration}
    bare = PairBatches(bench.reader, list("abcd"), **given, inputs=bench.inputs)
    alone = bare.finish(bare.load(0))
    assert len(own) == len(alone) + 4
    for name, value in alone.items():
        torch.testing.assert_close(own[name], value)


def test_the_record_tells_what_was_learnt_from(bench):
    folder, trained = bench.unbroken
    told = json.loads((folder / "model.json").read_text())["data"]["unlabelled"]
    assert told["rows"] == len(trained.net["numbers"].weight) == 28
    assert told["persons"] == "train-redirector" and told["masks"]["method"] == "exact"


def test_pictures_mapped_from_a_file_are_the_same(bench, tmp_path):
    other = Unlabelled(bench.declaration, bench.unlabelled)
    held, mapped = (
        other.batches(size=bench.size, batch=4, seed=0, cache=cache) for cache in ("memory", "mmap")
    )
    pairs = bench.pairs(cache="mmap")
    pairs._unlabelled = mapped
    pairs.keep_in(tmp_path)
    assert [path.parent.name for path in sorted(tmp_path.rglob("*.u8"))] == [
        tmp_path.name, "unlabelled",
    ]  # fmt: skip
    torch.testing.assert_close(mapped.load(2)["unlabelled"], held.load(2)["unlabelled"])


def test_what_cannot_be_learnt_from_is_told(bench, tmp_path):
    declaration = Declaration(
        inputs=(Input("masks", {"names": ["eyes"]}, ("source", "unlabelled")),)
    )
    with pytest.raises(ValueError, match="of unlabelled pictures, from which it does not learn"):
        check_names(declaration)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["z/labels"] = np.zeros((1, 4), np.float32)
        file["z/pixels"] = np.zeros((1, 32, 32, 3), np.uint8)
    empty = type(bench.unlabelled)([str(tmp_path / "none.h5")], bench.split)
    with pytest.raises(ValueError, match="expected somebody with unlabelled pictures"):
        Unlabelled(bench.declaration, empty)
