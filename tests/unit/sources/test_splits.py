"""Split files and the dealing of persons to shards."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.sources.splits import (
    NoSplit,
    SplitError,
    check_split,
    complete_split,
    deal,
    make_split,
    read_split,
    split_by_shares,
    split_persons,
)

GOOD = {
    "train": ["c", "a", "d"],
    "val": ["v"],
    "test": ["t"],
    "train-redirector": ["a", "c"],
    "train-evaluator": ["d"],
    "train-phone": ["c", "d"],
}


def test_a_good_split_is_read_in_its_own_order(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(GOOD))
    assert read_split(path) == GOOD
    assert split_persons(GOOD) == ["a", "c", "d", "t", "v"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"val": ["v", "a"]}, ["'a'", "'train'", "'val'"]),
        ({"test": ["v"]}, ["'v'", "'val'", "'test'"]),
        ({"train-evaluator": ["a"]}, ["'a'", "train-redirector", "train-evaluator"]),
        ({"train-phone": ["v"]}, ["train-phone", "'v'"]),
        ({"val": ["v", "v"]}, ["val", "'v'", "twice"]),
        ({"val": "v"}, ["val", "list"]),
        ({"val": [3]}, ["val", "list"]),
        ({"extra": []}, ["extra"]),
    ],
)
def test_a_bad_split_names_the_person_and_the_lists(change, words):
    with pytest.raises(SplitError) as error:
        check_split({**GOOD, **change}, "some.json")
    for word in ["some.json", *words]:
        assert word in str(error.value)


def test_missing_list_missing_file_and_no_json(tmp_path):
    with pytest.raises(SplitError, match="test"):
        check_split({"train": [], "val": []})
    with pytest.raises(SplitError, match="absent.json"):
        read_split(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SplitError, match="bad.json.*JSON"):
        read_split(tmp_path / "bad.json")


@settings(deadline=None, max_examples=25)
@given(st.sets(st.text("abc0", min_size=1, max_size=5), max_size=20), st.integers(1, 8))
def test_dealing_keeps_everybody_once_and_is_even(persons, shards):
    dealt = deal(persons, shards)
    assert len(dealt) == shards
    assert sorted(sum(dealt, [])) == sorted(persons)
    assert all(part == sorted(part) for part in dealt)
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1
    assert deal(sorted(persons, reverse=True), shards) == dealt


def test_dealing_refuses_nonsense():
    with pytest.raises(ValueError, match="shards"):
        deal(["a"], 0)
    with pytest.raises(ValueError, match="twice"):
        deal(["a", "a"], 2)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.text("abc0", min_size=1, max_size=5), min_size=2, unique=True), st.integers(0, 9)
)
def test_the_two_training_lists_partition_train(persons, seed):
    split = {"train": persons, "val": [], "test": []}
    full = check_split(complete_split(split, seed))
    both = full["train-redirector"] + full["train-evaluator"]
    assert sorted(both) == sorted(persons)
    assert full["train-redirector"] and full["train-evaluator"]
    assert complete_split(full, seed + 1) == full
    evaluator = full.pop("train-evaluator")
    assert sorted(complete_split(full, seed)["train-evaluator"]) == sorted(evaluator)


def test_a_split_is_made_from_the_persons_or_taken_from_a_file(tmp_path):
    people = {"1": ("train", "iPhone 6"), "2": ("train", "iPad 2"), "3": ("val", "iPad Air")}
    for person, (part, device) in (people | {"4": ("test", "iPhone 5s")}).items():
        (tmp_path / person).mkdir()
        info = {"Dataset": part, "DeviceName": device}
        (tmp_path / person / "info.json").write_text(json.dumps(info))
    made = make_split(tmp_path / "out" / "split.json", root=tmp_path)
    assert (made["train"], made["train-tablet"], made["test-phone"]) == (["1", "2"], ["2"], ["4"])
    assert read_split(tmp_path / "out" / "split.json") == made
    (tmp_path / "split.json").write_text(json.dumps(GOOD))
    assert make_split(tmp_path / "out.json", root=tmp_path) == GOOD
    (tmp_path / "split.json").unlink()
    (tmp_path / "1" / "info.json").write_text('{"Dataset": "other", "DeviceName": "x"}')
    with pytest.raises(SplitError, match="1/info.json.*'other'"):
        make_split(tmp_path / "out.json", root=tmp_path)
    for content in ("{", "[]", '{"Dataset": "train"}'):
        (tmp_path / "1" / "info.json").write_text(content)
        wanted = "JSON" if content == "{" else "Dataset and DeviceName"
        with pytest.raises(SplitError, match=f"1/info.json: expected {wanted}, found"):
            make_split(tmp_path / "out.json", root=tmp_path)
    with pytest.raises(SplitError, match="info.json"):
        make_split(tmp_path / "out.json", root=tmp_path / "1")


def test_shares_deal_everybody_once_and_the_same_test_persons_whatever_val_is():
    persons = [f"p{number:02d}" for number in range(15)]
    split = split_by_shares(persons, val=0.13, test=0.34, seed=3)
    assert {part: len(split[part]) for part in split} == {"train": 8, "val": 2, "test": 5}
    assert sorted(sum(split.values(), [])) == persons
    assert split_by_shares(reversed(persons), val=0.0, test=0.34, seed=3)["test"] == split["test"]
    assert split_by_shares(persons, val=0.0, test=1.0)["test"] == persons
    with pytest.raises(SplitError, match="val: a share of 0.01 of 15 persons is nobody"):
        split_by_shares(persons, val=0.01, test=0.5)


class Fifteen:
    """A data set of persons only."""

    persons = [f"p{number:02d}" for number in range(15)]


def test_a_split_is_made_from_shares_or_by_the_data_set(tmp_path):
    out, source = tmp_path / "made.json", Fifteen()
    made = make_split(out, root=tmp_path, split={"val": 0.2, "test": 0.2}, source=source, seed=1)
    assert read_split(out) == made and len(made["train"]) == 9
    source.split = lambda: {"train": ["p00", "p01"], "val": [], "test": ["p02"]}
    assert make_split(out, root=tmp_path, source=source)["test"] == ["p02"]
    source.split = lambda: {"train": ["x"], "val": [], "test": ["y"]}
    with pytest.raises(SplitError, match="expected persons of .* such as 'p00', found only others"):
        make_split(out, root=tmp_path, source=source)
    with pytest.raises(SplitError, match=f"{tmp_path}: split: shares need the persons"):
        make_split(out, root=tmp_path, split={"val": 0.2, "test": 0.2})


def test_lists_in_which_somebody_must_be_are_checked_where_the_split_is_made(tmp_path):
    out, source = tmp_path / "made.json", Fifteen()

    def make(lists, *needed):
        source.split = lambda: {"train": [], "val": [], "test": []} | lists
        return make_split(out, root=tmp_path, source=source, needed=needed)

    released = {"train": ["p00", "p01"]}
    assert make(released)["val"] == [] and make(released, "train-evaluator")
    out.unlink()
    for lists, needed, words in (
        (released, ["val", "test"], "val: expected somebody, found nobody; test: expected some"),
        ({"train": ["p00"]}, ["train-redirector"], "train-redirector: expected somebody, found n"),
        (
            released | {"val": ["x", "y"]},
            ["val"],
            "val: expected somebody, found 2 persons who are not in the data set",
        ),
        (released, ["test-phone"], "test-phone: expected a list with somebody in it, found only"),
    ):
        with pytest.raises(SplitError) as error:
            make(lists, *needed)
        assert str(error.value).startswith(f"{tmp_path}: split: {words}")
        assert "or deal persons by shares" in str(error.value)
    assert not out.exists()


def test_persons_without_rows_are_in_no_list(tmp_path, caplog):
    out, source = tmp_path / "made.json", Fifteen()
    path = tmp_path / "split.json"
    people = source.persons
    lists = {"train": people[:8], "val": people[8:10], "test": people[10:] + ["absent"]}
    path.write_text(json.dumps(lists | {"train-tablet": people[:1]}))
    whole = make_split(out, root=tmp_path, source=source)
    there = [person for person in people if person != "p14"]
    made = make_split(out, root=tmp_path, source=source, persons=there, lost=["p00", "p11"])
    assert made["test"] == ["p10", "p12", "p13"] and made["train-tablet"] == []
    # Nobody moves because somebody else was lost.
    for name in ("train-redirector", "train-evaluator"):
        assert made[name] == [one for one in whole[name] if one != "p00"]
    assert "not there: 2 persons: absent, p14" in caplog.text
    assert "lost with all of their rows: 2 persons: p00, p11" in caplog.text
    assert make_split(out, root=tmp_path, source=source, lost=["p08", "p09"])["val"] == []
    shares = make_split(
        out, root=tmp_path, split={"val": 0.0, "test": 0.5}, source=source, persons=there[:4]
    )
    assert sorted(split_persons(shares)) == there[:4]


def test_that_there_is_no_split_is_told_from_one_that_is_wrong(tmp_path):
    with pytest.raises(NoSplit, match="found neither"):
        make_split(tmp_path / "out.json", root=tmp_path)
