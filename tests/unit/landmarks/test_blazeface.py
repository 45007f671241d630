"""Anchors, decoding, suppression and tiles of the face detector, without its network."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.landmarks.base import overlap
from regaze.landmarks.blazeface import SIDE, anchors, decode, distinct, find, merge, tiles


def box(left, top, right, bottom, score):
    """A detection (17,) whose six points lie in its middle."""
    middle = [(left + right) / 2, (top + bottom) / 2]
    return np.array([left, top, right, bottom, *middle * 6, score], float)


def test_anchors_are_the_middles_of_two_grids():
    found = anchors()
    assert found.shape == (896, 2)
    np.testing.assert_allclose(
        found[[0, 1, 2, 31, 32]] * 32, [[1, 1], [1, 1], [3, 1], [31, 1], [1, 3]]
    )
    np.testing.assert_allclose(found[[512, 517, 518, -1]] * 16, [[1, 1], [1, 1], [3, 1], [15, 15]])


def test_answers_are_relative_to_their_anchor():
    logits, raw = np.full(896, -20.0, np.float32), np.zeros((896, 16), np.float32)
    logits[[5, 600]] = [0.2, 300.0]
    raw[:, 2:4] = 64.0
    raw[600, :2], raw[600, 4:6] = [12.8, -12.8], [6.4, 0.0]
    best, second = decode(logits, raw, 0.5)
    np.testing.assert_allclose(best[:2], anchors()[600] + [0.1, -0.1] - 0.25, atol=1e-6)
    np.testing.assert_allclose(best[2:4], anchors()[600] + [0.1, -0.1] + 0.25, atol=1e-6)
    np.testing.assert_allclose(best[4:8], np.tile(anchors()[600], 2) + [0.05, 0, 0, 0], atol=1e-6)
    assert best[-1] == pytest.approx(1.0) and second[-1] == pytest.approx(0.5498, abs=1e-4)
    raw[5, 2] = -3.0
    assert len(decode(logits, raw, 0.5)) == 1, "a box inside out"
    assert decode(logits, raw, 0.5).shape[1] == 17 and len(decode(logits - 400, raw, 0.5)) == 0


def test_one_face_is_the_weighted_mean_of_its_boxes():
    rows = np.array([box(0, 0, 10, 10, 0.8), box(1, 0, 11, 10, 0.4), box(40, 40, 50, 50, 0.6)])
    merged = merge(rows)
    assert merged.shape == (2, 17)
    np.testing.assert_allclose(merged[0, :4], [1 / 3, 0, 31 / 3, 10])
    assert merged[0, -1] == 0.8
    np.testing.assert_allclose(merged[1], rows[2])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(0, 60)] * 2, *[st.floats(4, 40)] * 2, st.floats(0.5, 1)), max_size=12
    )
)
def test_merged_faces_lie_within_what_they_are_made_of(drawn):
    rows = np.array([box(x, y, x + w, y + h, s) for x, y, w, h, s in drawn]).reshape(-1, 17)
    rows = rows[np.argsort(-rows[:, -1], kind="stable")]
    merged = merge(rows)
    assert len(merged) <= len(rows) and bool(len(merged)) == bool(len(rows))
    for face in merged:
        group = overlap(rows, face[:4]) > 0
        assert group.any() and face[-1] in rows[:, -1]
        assert (face[:2] >= rows[:, :2].min(0) - 1e-9).all()
        assert (face[2:4] <= rows[:, 2:4].max(0) + 1e-9).all()
    kept = distinct(rows)
    for number, face in enumerate(kept[1:], 1):
        assert overlap(kept[:number], face[:4], smaller=True).max() < 0.6
    assert len(distinct(rows, known=rows)) == 0


@pytest.mark.parametrize("size", [(640, 480), (481, 1333), (5472, 3648), (300, 300), (2000, 90)])
def test_tiles_show_every_small_square_whole(size):
    ((left, top, side),) = tiles(*size, 0)
    assert side == max(size) and left <= 0 and top <= 0
    for level in (1, 2):
        found = tiles(*size, level)
        half = found[0][2] // 2 if found else 0
        for x, y in np.random.default_rng(0).uniform(0, 1, (50 if half else 0, 2)):
            x, y = x * (size[0] - half), y * (size[1] - min(half, size[1]))
            assert any(
                a <= x and b <= y and x + half <= a + s + 2 and min(y + half, size[1]) <= b + s + 2
                for a, b, s in found
            )


def spots(picture):
    """A network that answers a box of 32 pixels and its eyes around every bright anchor."""
    logits, raw = np.full(896, -9.0, np.float32), np.zeros((896, 16), np.float32)
    raw[:, 2:4], raw[:, 4], raw[:, 6] = 32.0, -8.0, 8.0
    for number, (x, y) in enumerate(anchors()[:512] * SIDE):
        if picture[int(y), int(x)].min() > 0.9:
            logits[number] = 4.0
    return logits, raw


def test_faces_are_found_where_they_are_in_the_photo():
    photo = np.zeros((480, 640, 3), np.uint8)
    photo[210:230, 330:350] = 255
    (face,) = find(photo, spots, 0, 0.5)
    # the photo is shrunk to 128 by 96 pixels, in the middle of the picture
    np.testing.assert_allclose(face[:4], [259.5, 139.5, 419.5, 299.5], atol=1e-4)
    assert face[6] - face[4] == pytest.approx(80) and face[7] == pytest.approx(face[5])
    assert find(photo * 0, spots, 0, 0.5).shape == (0, 17)


def test_a_face_that_a_tile_cuts_is_left_to_another_tile():
    photo = np.zeros((512, 512, 3), np.uint8)
    photo[246:266, 246:266] = 255
    # Four tiles end in the middle of the spot, the one around it has it whole: 32 pixels are 64.
    (face,) = find(photo, spots, 1, 0.5)
    np.testing.assert_allclose(face[:4], [223.5, 223.5, 287.5, 287.5], atol=1e-4)
