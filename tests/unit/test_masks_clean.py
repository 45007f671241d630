"""Masks of a parser are tidied: one head, no single hairs, grown eyes."""

import numpy as np
import pytest

from regaze.masks import NUMBER
from regaze.masks.clean import FACE, HAIR, dilated_eyes, largest_part, without_fringes
from regaze.masks.parsed import tidied


def test_the_largest_part_stays_and_corners_touch():
    mask = np.zeros((8, 8), bool)
    mask[1:3, 1:3] = mask[3:6, 3:6] = mask[0, 7] = True
    kept = largest_part(mask)
    assert kept.sum() == 13 and not kept[0, 7]
    assert not largest_part(np.zeros((4, 4), bool)).any()


def test_single_hairs_go_and_the_head_stays():
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = FACE
    labels[4:10, 10:30] = HAIR
    labels[0:4, 20] = HAIR
    labels[35:38, 2:5] = FACE
    found = without_fringes(labels, 2)
    assert (found[10:30, 10:30] == FACE).all() and not found[0:4, 20].any()
    assert not found[35:38].any() and (found[8:10, 15:25] == HAIR).all()


def test_parts_that_are_no_head_are_left_alone():
    parts = np.zeros((2, 32, 32), np.uint8)
    parts[:, 8:24, 8:24] = NUMBER["skin"]
    parts[:, 12:14, 12:14] = NUMBER["left_eye"]
    parts[:, 28:, :] = NUMBER["clothes"]
    parts[1, 2, 2] = NUMBER["nose"]
    found = tidied(parts)
    wanted = parts.copy()
    wanted[1, 2, 2] = 0
    assert found.dtype == np.uint8 and (found == wanted).all()


@pytest.mark.parametrize("kernel", [3, 20])
def test_eyes_grow(kernel):
    eyes = np.zeros((128, 128), np.uint8)
    eyes[64, 64] = 1
    grown = dilated_eyes(eyes, kernel)
    reach = np.ptp(np.flatnonzero(grown[64])) + 1
    assert reach == 3 * (kernel - 1) + 1
