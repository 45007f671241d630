"""Inversions that are computed once: what the files hold, and that trainings learn the same."""

import h5py
import numpy as np
import pytest
import torch

from regaze.images import reduce_patches
from regaze.inspection import inspect_file
from regaze.redirectors.bench import Bench
from regaze.redirectors.inputs import open_inputs
from regaze.redirectors.inversion.rows import InversionRows, InversionsError
from regaze.redirectors.inversion.settings import ModelSettings as Inversion
from regaze.redirectors.inversion.shards import invert_shard
from regaze.redirectors.networks import load_network
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.redirtrans_gan.settings import ModelSettings
from regaze.training.phases import Progress

TINY = {"preset": "tiny", "size_px": 32}
LEARNT_FROM, OTHERS = "abcde", "fg"
# As the tests' split has them: train-redirector and val, test.


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A model of inversions, an untrained inverter, faces of seven persons."""
    told = {"label_source": "dataset", "redirection_feature": 0, "redirection_gaze": 0}
    gan = {"class": "redirtrans_gan", "inverter": "inverter", **TINY, "objective": told}
    models = {
        "inverter": Inversion(**{"class": "inversion", **TINY}),
        "gan": ModelSettings(**gan),
    }
    return Bench("gan", models, {}, tmp_path_factory.mktemp("inversions"))


@pytest.fixture(scope="module")
def shard(bench):
    """The file of inversions."""
    path = bench.folder / "shard-000.h5"
    assert invert_shard(bench.faces[0], bench.split, bench.networks["inverter"], path) == 30
    return path


def options(bench, of="inversion"):
    return {**bench.declaration.inputs[0].options, "of": of}


def test_files_hold_faces_mirrors_and_both_codes(bench, shard):
    inverter = load_network(bench.networks["inverter"])
    rows = bench.reader.rows(["b", "e"])[[0, 3, 7]]
    images = reduce_patches(bench.reader.pixels(rows), 32)
    for flipped in (False, True):
        seen = images.flip(-1) if flipped else images
        flip = torch.full((3,), flipped)
        drawn = inverter.inverted(seen)
        for of, code in (("picture", inverter.code(seen)), ("inversion", inverter.code(drawn))):
            given = InversionRows(options(bench, of), [shard], bench.reader)
            found = {k: given.finish(v, 32, flip) for k, v in given.read(rows).items()}
            torch.testing.assert_close(found["offsets"], code, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found["inverted"], drawn, rtol=0, atol=1.01 / 127.5)


def test_only_persons_that_are_learnt_from_are_there(bench, shard):
    given = InversionRows(options(bench), [shard], bench.reader)
    people = np.array(bench.reader.persons)[bench.reader.person_of]
    assert set(people[given.known]) == {*LEARNT_FROM} and set(people[~given.known]) == {*OTHERS}
    assert not any(value.any() for value in given.read(bench.reader.rows(["f"])).values())


def test_no_result_depends_on_the_batch(bench, shard, tmp_path):
    path = tmp_path / "other.h5"
    invert_shard(bench.faces[0], bench.split, bench.networks["inverter"], path, batch=2)
    with h5py.File(shard) as first, h5py.File(path) as second:
        assert {*first} == {*LEARNT_FROM} == {*second}
        for person in LEARNT_FROM:
            own, seen = (file[person]["codes"][:].swapaxes(0, 2) for file in (first, second))
            np.testing.assert_allclose(own[0], seen[0], rtol=1e-4, atol=1e-5)
            # A pixel that is rounded to the other side moves the inversion's code a little.
            np.testing.assert_allclose(own[1], seen[1], atol=1e-3)
            apart = np.abs(first[person]["pictures"][:].astype(int) - second[person]["pictures"])
            assert apart.max() <= 1


@pytest.mark.parametrize("code_of", ["picture", "inversion"])
def test_trainings_learn_the_same_with_and_without(bench, shard, code_of):
    network = {**bench.config["network"], "code_of": code_of}
    redirector = bench.woken(network=network)
    given = {"inversions": InversionRows(options(bench, code_of), [shard], bench.reader)}
    common = {"size": 32, "batch": 6, "seed": 0, "flip": True}
    people = [*LEARNT_FROM]
    stored = PairBatches(
        bench.reader, people, declaration=bench.declaration, inputs=given, **common
    )
    plain = PairBatches(bench.reader, people, **common)
    grown = []
    for batches in (stored, plain):
        redirector.zero_grad()
        loaded = batches.load(0)
        assert loaded["flip"].any() and not loaded["flip"].all()
        at = Progress(0, 0, torch.Generator().manual_seed(0))
        found = redirector.losses(batches.finish(loaded), "main", at)
        found["loss"].backward()
        gradient = torch.cat([one.grad.flatten() for one in redirector.network.parameters()])
        grown.append((found, gradient))
    (first, one), (second, other) = grown
    for name, value in first.items():
        wanted = float(second[name].detach())
        assert float(value.detach()) == pytest.approx(wanted, rel=1e-5, abs=1e-6), name
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_files_that_do_not_fit(bench, shard, tmp_path):
    told, reader = options(bench), bench.reader
    with pytest.raises(FileNotFoundError, match="none.h5: no such inversions file"):
        InversionRows(told, [tmp_path / "none.h5"], reader)
    text = tmp_path / "text.h5"
    text.write_text("<html>not found</html>")
    with pytest.raises(InversionsError, match="expected an HDF5 file of inversions"):
        InversionRows(told, [text], reader)
    with pytest.raises(InversionsError, match="code: expected 320, found 256"):
        InversionRows({**told, "code": 320}, [shard], reader)
    with pytest.raises(InversionsError, match="inverter: expected another, found [0-9a-f]{16}"):
        InversionRows(told, [shard], reader, {"inverter": "another"})
    other = tmp_path / "other.h5"
    other.write_bytes(shard.read_bytes())
    with pytest.raises(InversionsError, match="person a is already in"):
        InversionRows(told, [shard, other], reader)
    short = tmp_path / "short.h5"
    with h5py.File(shard) as whole, h5py.File(short, "w") as file:
        file.attrs.update(whole.attrs)
        whole.copy("a", file)
        del file["a/codes"]
        file["a/codes"] = np.zeros((4, 2, 2, 256), np.float32)
    with pytest.raises(InversionsError, match=r"a/codes: expected \(6, 2, 2, 256\).*\(4, 2"):
        InversionRows(told, [short], reader)


def test_only_an_inverter_inverts(bench, tmp_path):
    bench.write_untrained()
    folder = bench.folder / "models" / "gan"
    with pytest.raises(ValueError, match="class: expected inversion, found 'redirtrans_gan'"):
        invert_shard(bench.faces[0], bench.split, folder, tmp_path / "out.h5")


def test_they_are_read_in_training_only(bench):
    assert [one.kind for one in bench.declaration.inputs] == ["inversions"]
    assert bench.declaration.making().inputs == ()
    with pytest.raises(ValueError, match="inversions: this model is conditioned on them"):
        open_inputs(bench.declaration, {}, bench.reader)


def test_a_file_tells_what_it_is(shard):
    found = inspect_file(shard)
    assert found.kind == "inversions of faces that are trained on, and their codes"
    assert ("rows", "30") in [tuple(map(str, fact)) for fact in found.facts]
