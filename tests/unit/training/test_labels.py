"""Training with few labels: the subset is upstream's, and labels of other samples stay unseen."""

import random

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.estimators.batches import ImageBatches
from regaze.estimators.build import build_estimator
from regaze.estimators.evaluate import predict_rows
from regaze.faces import FacesReader
from regaze.redirectors.pairs import PairBatches
from regaze.redirectors.train import pair_labels
from regaze.training.labels import LabelSubset, labelled_numbers

COUNTS = {"c": 5, "a": 1, "b": 7, "d": 3}
ORDER = ["c", "x", "a", "b", "d"]


@pytest.fixture
def reader(tmp_path):
    """People with 1 to 7 samples; levels and labels both tell the person and the row."""
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for number, (person, count) in enumerate(sorted(COUNTS.items())):
            labels = np.zeros((count, 8), np.float32)
            labels[:, :4] = (0.1 * number + 0.01 * np.arange(1, count + 1))[:, None]
            pixels = np.zeros((count, 16, 16, 3), np.uint8)
            pixels[:] = (number * 50 + np.arange(count))[:, None, None, None]
            file[f"{person}/labels"], file[f"{person}/pixels"] = labels, pixels
    return FacesReader(tmp_path / "faces.h5")


def upstream(people, size, seed=0):
    """The published rule: number person by person, shuffle, take the first, sort."""
    known = [person for person in people if person in COUNTS]
    samples = [(person, row) for person in known for row in range(COUNTS[person])]
    numbers = list(range(len(samples)))
    random.seed(seed)
    random.shuffle(numbers)
    return [samples[number] for number in sorted(numbers[:size])]


def named(reader, rows):
    return [(reader.persons[reader.person_of[row]], int(reader.row_of[row])) for row in rows]


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """As many samples, without anything to see."""
    path = tmp_path_factory.mktemp("subset") / "faces.h5"
    with h5py.File(path, "w") as file:
        for person, count in COUNTS.items():
            file[f"{person}/labels"] = np.zeros((count, 8), np.float32)
            file[f"{person}/pixels"] = np.zeros((count, 4, 4, 3), np.uint8)
    return FacesReader(path)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 16), seed=st.integers(0, 50), people=st.permutations(ORDER))
def test_the_subset_is_upstreams(counted, size, seed, people):
    numbers = labelled_numbers(counted, people, {"count": size, "seed": seed})
    assert named(counted, counted.rows(people)[numbers]) == upstream(people, size, seed)
    more = labelled_numbers(counted, people, {"count": min(16, size + 3), "seed": seed})
    assert set(numbers) <= set(more)


def test_more_labels_than_samples_are_refused(reader):
    with pytest.raises(ValueError, match=r"labels.count: .* the 16 samples of 5 persons, found 17"):
        labelled_numbers(reader, ORDER, {"count": 17, "seed": 0})


def test_subsets_are_within_each_other_by_seed_and_count():
    small, large = LabelSubset(count=3), LabelSubset(count=5)
    assert small.within(large) and small.within(small) and not large.within(small)
    assert not LabelSubset(count=3, seed=1).within(large)


def seen(batches, steps=40):
    """What batches hold, by level: picture -> (label, whether it is known), as both sides."""
    found = {"source": {}, "target": {}}
    for step in range(steps):
        batch = batches.load(step)
        for place in range(len(batch["source_row"])):
            for side in found:
                known = side == "source" or bool(batch["target_labelled"][place])
                level = int(batch[side][place, 0, 0, 0])
                label = [*batch[f"{side}_gaze"][place], *batch[f"{side}_head"][place]]
                found[side][level] = (np.array(label), known)
    return found


def levels(reader, rows):
    return {int(reader.pixels([row])[0, 0, 0, 0]) for row in rows}


def pairs(reader, **options):
    return PairBatches(reader, ORDER, size=16, batch=4, seed=0, same_head_fraction=0.5, **options)


def test_estimators_see_the_labelled_pictures_alone(reader):
    numbers = labelled_numbers(reader, ORDER, {"count": 6, "seed": 0})
    batches = ImageBatches(reader, ORDER, size=16, batch=3, seed=0, chosen=numbers)
    found = {int(v) for step in range(4) for v in batches.load(step)["image"][:, 0, 0, 0]}
    assert found == levels(reader, reader.rows(ORDER)[numbers])


def test_pairs_of_labelled_pictures(reader):
    labels = {"count": 7, "seed": 0, "targets": "labelled"}
    options = pair_labels(reader, ORDER, labels)
    rows = reader.rows(ORDER)[options["labelled"]]
    people, counts = np.unique(reader.person_of[rows], return_counts=True)
    able = rows[np.isin(reader.person_of[rows], people[counts > 1])]
    found = seen(pairs(reader, **options))
    assert set(found["source"]) == set(found["target"]) == levels(reader, able)
    assert all(known for _, known in found["target"].values())


def test_nobody_with_two_labels_is_an_error(reader):
    labels = {"count": 1, "seed": 0, "targets": "labelled"}
    with pytest.raises(ValueError, match="labels.count: 1 labelled pictures of 1 persons.*two"):
        pairs(reader, **pair_labels(reader, ORDER, labels))


def test_unlabelled_targets_tell_nothing(reader):
    labels = {"count": 6, "seed": 0, "targets": "any"}
    options = pair_labels(reader, ORDER, labels)
    rows = reader.rows(ORDER)
    labelled = levels(reader, rows[options["labelled"]])
    found = seen(pairs(reader, **options))
    assert set(found["source"]) == labelled
    assert set(found["target"]) - labelled
    for level, (label, known) in found["target"].items():
        assert known == (level in labelled)
        assert known or not label.any()


def test_which_target_a_source_gets_does_not_depend_on_hidden_labels(reader):
    labels = {"count": 6, "seed": 0, "targets": "any"}
    options = pair_labels(reader, ORDER, labels)
    before = [pairs(reader, **options).load(step) for step in range(5)]
    hidden = np.setdiff1d(np.arange(16), options["labelled"])
    reader.labels[reader.rows(ORDER)[hidden]] = 0.7
    after = [pairs(reader, **options).load(step) for step in range(5)]
    for one, other in zip(before, after, strict=True):
        for key, value in one.items():
            assert value.equal(other[key]), key


def test_an_estimator_labels_the_others(reader):
    estimator = build_estimator("vgg", "tiny", 16).eval()
    labels = {"count": 6, "seed": 0, "targets": "labelled"}
    options = pair_labels(reader, ORDER, labels, estimator)
    rows = reader.rows(ORDER)
    expected = predict_rows(estimator, reader, rows)
    found = seen(pairs(reader, **options), steps=60)
    assert set(found["source"]) == set(found["target"]) == levels(reader, rows)
    for number, row in enumerate(rows):
        (level,) = levels(reader, [row])
        label, known = found["target"][level]
        assert known == (number in options["labelled"])
        truth = reader.labels[row, :4] if known else expected[number]
        np.testing.assert_allclose(label, truth, rtol=0, atol=1e-6)


def test_ranks_share_the_labelled_sources(reader):
    labels = {"count": 8, "seed": 0, "targets": "any"}
    options = pair_labels(reader, ORDER, labels)
    whole = PairBatches(reader, ORDER, size=16, batch=4, seed=3, **options).load(2)
    parts = [
        PairBatches(reader, ORDER, size=16, batch=2, seed=3, rank=rank, world=2, **options).load(2)
        for rank in (0, 1)
    ]
    for key, value in whole.items():
        assert value.equal(parts[0][key].new_tensor(np.concatenate([p[key] for p in parts]))), key
