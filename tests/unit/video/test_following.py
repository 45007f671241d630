"""Faces are followed, and what is measured of them smoothed, with and without what comes after."""

from types import SimpleNamespace

import numpy as np
import pytest
from clips import portrait_pictures

from regaze.landmarks.mesh import MeshDetector
from regaze.video.blinks import RAMP, Lids, apertures, openings
from regaze.video.smoothing import Motion, OneEuro, smoothed, unrolled
from regaze.video.tracks import Track, Tracker, persons

FACE = np.random.default_rng(3).uniform(0, 60, (68, 2))


class Seen:
    """A detector that finds the faces of a script, in any order."""

    def __init__(self, script):
        self.script, self.frame = script, -1

    def all_faces(self, picture):
        self.frame += 1
        return [FACE + place for place in self.script[self.frame]]


def followed(script, rate=25.0):
    tracker, found = Tracker(Seen(script)), {}
    for number in range(len(script)):
        for track in tracker.step(None, number / rate):
            found[track.number] = track
    return found


def test_faces_keep_their_tracks_however_they_are_listed():
    script = [[(3 * n, 0), (200 - 2 * n, 5)][:: 1 if n % 2 else -1] for n in range(10)]
    tracks = followed(script)
    assert len(tracks) == 2
    for track in tracks.values():
        assert track.frames == list(range(10))
        steps = np.diff([one[0, 0] for one in track.landmarks])
        assert np.ptp(steps) < 1e-9 and abs(steps[0]) in (2.0, 3.0)


def test_births_and_deaths():
    script = [[(0, 0)], [(0, 0)], [(0, 0), (300, 0)], [(300, 0)], *[[(300, 0)]] * 8, [(0, 0)]]
    tracks = followed(script)
    assert {number: (one.frames[0], one.frames[-1]) for number, one in tracks.items()} == {
        0: (0, 2),
        1: (2, 12 - 1),
        2: (12, 12),
    }


def test_a_face_that_is_missed_for_a_moment_is_the_same():
    assert len(followed([[(0, 0)], [(1, 0)], [], [(2, 0)], [(3, 0)]])) == 1
    # Another place is another face, and so is a long time.
    assert len(followed([[(0, 0)], [(1, 0)], [], [(100, 0)]])) == 2
    assert len(followed([[(0, 0)], *[[]] * 8, [(0, 0)]])) == 2


def test_the_mesh_follows_a_face_without_looking_for_it():
    pictures = portrait_pictures(8, gone=[5, 6])
    detector = MeshDetector()
    (face,) = detector.large_faces(pictures[0])
    for number in range(1, 5):
        face = detector.follow(pictures[number], face)
        (found,) = detector.all_faces(pictures[number])
        assert np.abs(face.landmarks - found).mean() < 1.0
    assert detector.follow(pictures[5], face) is None
    tracker, frames = Tracker(detector), {}
    for number, picture in enumerate(pictures):
        for track in tracker.step(picture, number / 25):
            frames[track.number] = list(track.frames)
    assert frames == {0: [0, 1, 2, 3, 4, 7]}


def test_who_is_who_among_tracks():
    def track(number, frames, size):
        one = Track(number)
        for frame in frames:
            one.add(frame, frame / 25, FACE * size)
        return one

    large, back = track(0, range(0, 20), 2.0), track(2, range(30, 50), 2.0)
    small, mistake = track(1, range(5, 40), 1.0), track(3, [44], 3.0)
    people = persons([large, small, back, mistake])
    assert [[one.number for one in person] for person in people] == [[0, 2], [1]]
    assert [[one.number for one in person] for person in persons([mistake])] == [[3]]


def test_smoothing_takes_noise_and_adds_no_lag():
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 200))
    true = np.stack([np.sin(2 * times), np.cos(1.3 * times)], 1)
    seen = true + np.random.default_rng(1).normal(0, 0.05, true.shape)
    made = smoothed(seen, times, Motion(0.05, 3.0))
    assert np.sqrt(np.mean((made - true) ** 2)) < 0.5 * 0.05
    # The best shift of what was made against the truth is none.
    fine = np.arange(times[0] + 0.5, times[-1] - 0.5, 0.01)
    ours = np.interp(fine, times, made[:, 0])
    shifts = np.arange(-0.2, 0.2, 0.01)
    misses = [np.mean((np.interp(fine + one, times, true[:, 0]) - ours) ** 2) for one in shifts]
    assert abs(shifts[int(np.argmin(misses))]) < 0.015


def test_a_jump_stays_a_jump_and_an_outlier_none():
    times = np.arange(40) / 25
    seen = np.where(times < 0.8, 0.0, 10.0)[:, None] + np.zeros((1, 2))
    seen += np.random.default_rng(0).normal(0, 0.3, seen.shape)
    made = smoothed(seen, times, Motion(0.5, 5.0, jump=4.0))
    assert np.abs(made[:19]).max() < 1.0 and np.abs(made[21:] - 10).max() < 1.0
    smeared = smoothed(seen, times, Motion(0.5, 5.0))
    assert np.abs(smeared[17]).max() > 2.0
    lone = np.zeros((40, 1))
    lone[20] = 10.0
    assert smoothed(lone, times, Motion(0.5, 5.0, jump=4.0)).max() < 5.0


def test_smoothing_of_next_to_nothing():
    motion = Motion(1.0, 1.0, jump=3.0)
    for count in (1, 2):
        values = np.arange(2.0 * count).reshape(count, 2)
        np.testing.assert_array_equal(smoothed(values, np.arange(count), motion), values)


def test_one_euro_rests_still_and_follows_what_moves():
    rng, euro = np.random.default_rng(0), OneEuro(1.5, 5.0)
    rest = [euro(rng.normal(0, 0.05, 2), number / 25) for number in range(100)]
    assert np.std(rest[20:]) < 0.7 * 0.05
    moved = [euro(np.full(2, 0.4 * step), (100 + step) / 25) for step in range(25)]
    # Ten units a second: less than two frames behind.
    assert 0.4 * 24 - moved[-1][0] < 0.8
    slow = OneEuro(1.5, 0.0)
    late = [slow(np.full(2, 0.4 * step), step / 25) for step in range(25)]
    assert 0.4 * 24 - late[-1][0] > 0.8


def test_rotation_vectors_go_around_without_a_jump():
    true = np.linspace(2.8, 3.6, 9)[:, None] * [1.0, 0.0, 0.0]
    wrapped = np.where(true[:, :1] > np.pi, true - [2 * np.pi, 0, 0], true)
    assert np.abs(np.diff(wrapped[:, 0])).max() > 5
    np.testing.assert_allclose(unrolled(wrapped), true)


def blinking(times, at=1.0, length=0.2, depth=0.1):
    """Landmarks whose eyes close once."""
    closed = np.exp(-0.5 * ((times - at) / (length / 3)) ** 2)
    marks = np.tile(FACE, (len(times), 1, 1))
    for first in (36, 42):
        x = np.array([0, 7, 13, 20, 13, 7.0])
        y = np.array([0, -3, -3, 0, 3, 3.0])
        for row, share in enumerate(1 - (1 - depth) * closed):
            marks[row, first : first + 6] = np.stack([first + x, 20 + share * y], 1)
    return marks


@pytest.mark.parametrize("rate", [25, 60])
def test_blinks_are_found_with_soft_ramps(rate):
    times = np.arange(0, 2, 1 / rate)
    marks = blinking(times)
    assert apertures(marks[0]) == pytest.approx([0.3, 0.3])
    share = openings(marks, times)
    assert share[np.abs(times - 1.0) < 0.04].max() < 0.02
    assert share[np.abs(times - 1.0) > 0.4].min() > 0.99
    assert np.abs(np.diff(share)).max() < 0.75 * 25 / rate
    # All is over before lids have gone a third of their way.
    lids = apertures(marks).mean(1) / 0.3
    assert share[lids < 0.6].max() < 0.2


def test_no_blink_without_one():
    times = np.arange(60) / 25
    looking_down = blinking(times, length=1.5, depth=0.78)
    assert openings(looking_down, times).min() > 0.95


def test_blinks_as_they_come():
    times = np.arange(0, 2, 0.04)
    marks, lids = blinking(times), Lids()
    share = np.array([lids(one, time) for one, time in zip(marks, times, strict=True)])
    assert share[np.abs(times - 1.0) < 0.03].max() < 0.05 and share[times < 0.7].min() == 1.0
    assert share[times > 1.5].min() > 0.99
    assert np.diff(share).max() <= 0.04 / RAMP + 1e-9
    # Whoever starts with closed eyes opens them later.
    late = Lids()
    narrow = [late(one, time) for one, time in zip(marks[25:], times[25:], strict=True)]
    assert narrow[-1] > 0.99


def test_a_detector_is_asked_in_every_frame_where_it_cannot_follow():
    detector = Seen([[(0, 0)]] * 3)
    tracker = Tracker(SimpleNamespace(all_faces=detector.all_faces))
    for number in range(3):
        tracker.step(None, number / 25)
    assert detector.frame == 2
