"""Albums: who has one, which rows are in it, and that no pair has these."""

import h5py
import numpy as np
import pytest

from regaze.albums import draw_albums, evaluated_persons, free_rows, read_albums, write_albums
from regaze.faces import FacesReader
from regaze.pairs import draw_pairs

COUNTS = {"a": 12, "b": 12, "c": 5, "d": 12, "e": 12}
DRAWN = {"seed": 1, "dataset": "d"}


@pytest.fixture
def reader(tmp_path):
    """Five persons in two head poses, one of whom has few pictures."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        for person, count in COUNTS.items():
            labels = rng.uniform(-0.3, 0.3, (count, 8)).astype(np.float32)
            labels[:, 2:4] = np.repeat(labels[:2, 2:4], [count // 2, count - count // 2], 0)
            file[f"{person}/labels"] = labels
            file[f"{person}/pixels"] = np.zeros((count, 8, 8, 3), np.uint8)
    return FacesReader(tmp_path / "faces.h5")


def test_albums_are_of_those_who_have_pictures_enough(reader):
    albums = draw_albums(reader, list("abcde"), size=4, people=None, **DRAWN)
    assert sorted(albums) == list("abde")
    for person, rows in albums.items():
        assert len(set(rows)) == 4 and min(rows) >= 0 and max(rows) < COUNTS[person]
        free = free_rows(reader, person, albums)
        assert sorted([*free, *rows]) == list(range(COUNTS[person]))
    assert albums["a"] != albums["b"]
    assert albums != draw_albums(reader, list("abcde"), size=4, people=None, seed=2, dataset="d")


def test_larger_ones_only_add_to_smaller_ones(reader):
    whole = draw_albums(reader, list("abcde"), size=8, people=4, **DRAWN)
    some = draw_albums(reader, list("abcde"), size=8, people=2, **DRAWN)
    assert some.items() < whole.items()
    short = draw_albums(reader, list("abcde"), size=3, people=5, **DRAWN)
    assert all(rows[:3] == short[person] for person, rows in whole.items())


def test_nobody_with_pictures_enough_is_told(reader):
    with pytest.raises(ValueError, match=r"expected 1 persons with 11 pictures .* found 0 of 5 in"):
        draw_albums(reader, list("abcde"), size=11, people=None, **DRAWN)
    with pytest.raises(ValueError, match="expected 5 persons with 4 pictures .* found 4 of 5"):
        draw_albums(reader, list("abcde"), size=4, people=5, **DRAWN)


def test_no_pair_has_a_row_of_an_album(reader):
    albums = draw_albums(reader, list("abcde"), size=8, people=2, **DRAWN)
    counts = {"gaze_and_head": 20, "gaze_only": 6, "head_only": 6, "sweep": 2}
    pairs = draw_pairs(reader, list("abcde"), counts, **DRAWN, sweep_steps=3, albums=albums)
    assert set(pairs["person"]) == set(albums)
    assert set(pairs["kind"]) >= {"gaze_and_head", "gaze_only", "sweep"}
    for side in ("source_index", "target_index"):
        seen = zip(pairs["person"], pairs[side], strict=True)
        assert not [one for one in seen if one[1] in albums[one[0]]]
    # Of four rows each there are twelve pairs and no more.
    assert (pairs["kind"] == "gaze_and_head").sum() == 20
    plain = draw_pairs(reader, list("abcde"), counts, **DRAWN, sweep_steps=3)
    assert set(plain["person"]) > set(albums)


def test_albums_are_read_as_they_were_written(reader, tmp_path):
    albums = {"b": [3, 1], "a": [0, 2]}
    write_albums(tmp_path / "albums.json", albums)
    assert read_albums(tmp_path / "albums.json") == albums
    assert read_albums(None) == {}
    assert evaluated_persons(list("abc"), albums) == ["a", "b"]
    assert evaluated_persons(list("abc"), {}) == list("abc")
