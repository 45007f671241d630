"""Every damage of the catalogue ends in kept rows, rejections with reasons, or one clear error."""

import os
import re
import resource
import signal
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from captures.damage import LAYOUTS, copied, make
from captures.damaged_photos import photo_damages

from regaze.normalise.rejections import TooManyRejected
from regaze.sources import SourceError
from regaze.sources.splits import SplitError

TYPED = (SourceError, SplitError, TooManyRejected)
SECONDS, MEGABYTES = 5.0, 700
DAMAGES = photo_damages()


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


@contextmanager
def _bounded():
    """Fail what hangs, takes long or takes much memory."""

    def stop(*_):
        raise TimeoutError("hangs")

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


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.id)
def test_every_damage_is_answered_for(damage, master, tmp_path, capfd):
    original, whole = master(damage.layout)
    if "permission" in damage.name and os.geteuid() == 0:
        pytest.skip("root may read everything")
    folder = copied(original, tmp_path / "box")
    out = tmp_path / "out"
    made = error = None
    capfd.readouterr()
    with _bounded():
        try:
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
    if error is not None:
        raise error
    _check(damage, whole, made)


def _check(damage, whole, made):
    found = Counter(row["reason"] for row in made.rejected)
    details = [(row["reason"], row["detail"]) for row in made.rejected]
    assert all(0 < len(detail) < 3000 for _, detail in details)
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
            np.testing.assert_array_equal(made.kept[key][1], labels)
            off = np.abs(made.kept[key][0].astype(float) - pixels).mean()
            assert off < 4, off
