"""Every damage of the catalogue ends in kept rows, rejections with reasons, or one clear error."""

import os
import re
import resource
import shutil
import signal
import time
import warnings
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from captures.damage import LAYOUTS, copied, make
from captures.damaged_labels import label_damages
from captures.damaged_photos import photo_damages
from captures.damaged_releases import hdf5_damages
from captures.damaged_tables import table_like_damages
from captures.damaged_trees import HARMLESS_SPLITS, SPLITS, tree_damages

from regaze.normalise.rejections import TooManyRejected
from regaze.sources import SourceError, open_source
from regaze.sources.splits import SplitError, make_split

TYPED = (SourceError, SplitError, TooManyRejected)
WHOLE = ("missing_key", "missing_person", "bad_shape", "bad_source", "stale_landmarks")
SECONDS, MEGABYTES = 5.0, 400
DAMAGES = [
    *photo_damages(),
    *label_damages(),
    *hdf5_damages(),
    *table_like_damages(),
    *tree_damages(),
]


@pytest.fixture(scope="session")
def master(tmp_path_factory):
    """The undamaged captures by layout: folder, and what is made of it; made on demand."""
    done = {}

    def get(layout):
        if layout not in done:
            folder = tmp_path_factory.mktemp(layout) / "box"
            folder.mkdir()
            LAYOUTS[layout].write(folder)
            done[layout] = folder, make(layout, folder, folder.parent / "out")
        return done[layout]

    return get


class Hangs(BaseException):
    """Nothing that the code under test catches."""


@pytest.fixture
def place(tmp_path):
    """A folder that is gone after the test: hundreds of captures would fill a small disk."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@contextmanager
def _bounded():
    """Fail what hangs, takes long or takes much memory."""

    def stop(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    start, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < SECONDS
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < MEGABYTES * 1024, f"{grown} KiB"


def _key(made, layout, number, row):
    """The key of an undamaged row; rows of a person are in order."""
    person = LAYOUTS[layout].persons[number]
    return [key for key in made.kept if key[0] == person][row]


def _parts(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def some(damages, every=8):
    """All damages, of which every eighth runs in `make test`, among them some of each layout."""
    return [
        pytest.param(damage, id=damage.id, marks=[pytest.mark.whole] * (number % every > 0))
        for number, damage in enumerate(damages)
    ]


@pytest.mark.parametrize("damage", some(DAMAGES))
def test_every_damage_is_answered_for(damage, master, place, capfd):
    original, whole = master(damage.layout)
    if "permission" in damage.name and os.geteuid() == 0:
        pytest.skip("root may read everything")
    folder = copied(original, place / "box")
    out = place / "out"
    made = error = None
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            with _bounded():
                made = make(damage.layout, folder, out, damage)
        except TYPED as found:
            error = found
    spoken = capfd.readouterr()
    assert len(spoken.out) + len(spoken.err) < 2000, spoken
    assert not _parts(out)
    if damage.error:
        assert error is not None, made
        assert re.search(damage.error, str(error)), error
        assert re.search("expected|no such", str(error), re.I), error
        return
    if damage.kept is None and isinstance(error, TooManyRejected):
        return
    if error is not None:
        raise error
    _check(damage, whole, made)


def _check(damage, whole, made):
    found = Counter(row["reason"] for row in made.rejected)
    details = [(row["reason"], row["detail"]) for row in made.rejected]
    assert all(0 < len(detail) < 3000 for _, detail in details)
    for reason, detail in details:
        # Whatever concerns a file or a person says what was expected of it.
        assert reason not in WHOLE or re.search("expected|no such", detail), detail
    assert made.rows_in == made.rows_out + len(made.rejected)
    assert made.rows_out == len(made.kept)
    if damage.kept is not None:
        assert found == damage.reasons, details
        assert made.rows_out == whole.rows_out - len(damage.touched) + damage.kept
    else:
        assert made.rows_in == whole.rows_in
    touched = {_key(whole, damage.layout, *place) for place in damage.touched}
    for key, (pixels, labels) in whole.kept.items():
        if key not in touched:
            np.testing.assert_array_equal(made.kept[key][1], labels)
            np.testing.assert_array_equal(made.kept[key][0], pixels)
        elif damage.close:
            # The row may be called otherwise now.
            place = key if key in made.kept else next(iter(made.kept.keys() - whole.kept.keys()))
            np.testing.assert_array_equal(made.kept[place][1], labels)
            off = np.abs(made.kept[place][0].astype(float) - pixels).mean()
            assert off < 4, off


def test_there_are_enough_of_them():
    names = [damage.id for damage in DAMAGES]
    assert len(names) == len(set(names)) >= 200
    assert {damage.layout for damage in DAMAGES} == set(LAYOUTS)
    quick = [case.values[0] for case in some(DAMAGES) if not case.marks]
    assert {damage.layout for damage in quick} == set(LAYOUTS)


@pytest.mark.parametrize("name", SPLITS)
def test_damaged_splits_are_one_clear_error(name, master, tmp_path):
    change, pattern = SPLITS[name]
    root = master("gazecapture")[0] / "data"
    source = open_source({"source": "gazecapture", "root": str(root)})
    path = change(tmp_path)
    with _bounded(), pytest.raises(SplitError, match=pattern):
        make_split(tmp_path / "out.json", root=root, split=path, source=source)
    assert not _parts(tmp_path) and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("name", HARMLESS_SPLITS)
def test_harmless_splits_are_taken(name, master, tmp_path):
    root = master("gazecapture")[0] / "data"
    source = open_source({"source": "gazecapture", "root": str(root)})
    path = HARMLESS_SPLITS[name](tmp_path)
    lists = make_split(tmp_path / "out.json", root=root, split=path, source=source)
    assert (lists["train"], lists["test"]) == (["00002"], ["00517"])
