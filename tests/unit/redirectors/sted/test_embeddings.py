"""Factors and their turns: inverses, masks, names, layout of rows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regaze.redirectors.sted.compact import appearance_channels
from regaze.redirectors.sted.embeddings import Factors, similarity_loss, turn

FACTORS = Factors.of(size_0d_unit=5, num_1d_units=2, size_1d_unit=3, num_2d_units=3, size_2d_unit=4)


def rows(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angles = torch.rand((3, count, FACTORS.angles), generator=generator) * 2 - 1
    return torch.randn((count, FACTORS.size), generator=generator), angles


def test_layout():
    assert FACTORS.shapes == ((0, 5), (1, 3), (1, 3), (2, 4), (2, 4), (2, 4))
    assert FACTORS.names == ("appearance", "one_1", "one_2", "two_1", "head", "gaze")
    assert FACTORS.angles == 8 and FACTORS.size == 5 + 2 * 6 + 3 * 12
    assert FACTORS.angles_of("gaze") == FACTORS.angles_of(-1) == slice(6, 8)
    assert FACTORS.angles_of("head") == slice(4, 6)
    paper = Factors.of(
        size_0d_unit=1024, num_1d_units=4, size_1d_unit=16, num_2d_units=4, size_2d_unit=16
    )
    assert (paper.angles, paper.size) == (12, 1344)


def test_turns_have_one_angle_or_two():
    with pytest.raises(ValueError, match="angles: expected 1 or 2 per factor, found 3"):
        turn(torch.zeros(1, 3))


def test_appearance_fills_the_cells_of_its_map():
    head_and_gaze = ((2, 4), (2, 4))
    assert appearance_channels(Factors(((0, 48), *head_and_gaze)), 32) == 3


def test_pitch_of_an_embedding_turns_the_other_way_than_a_label():
    pitch = turn(torch.tensor([[0.3, 0.0]]))[0, :, 2]
    assert torch.allclose(pitch, torch.tensor([0.0, -math.sin(0.3), math.cos(0.3)]))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-3.2, 3.2), min_size=1, max_size=2))
def test_turns_are_rotations(angles):
    rotation = turn(torch.tensor([angles]))[0]
    assert torch.allclose(rotation @ rotation.T, torch.eye(len(angles) + 1), atol=1e-6)
    assert torch.linalg.det(rotation) > 0.999


def test_moving_back_restores_and_appearance_stays():
    embeddings, (own, other, _) = rows()
    moved = FACTORS.moved(embeddings, own, other)
    assert torch.equal(moved[:, :5], embeddings[:, :5])
    assert not torch.allclose(moved[:, 5:], embeddings[:, 5:], atol=0.1)
    assert torch.allclose(FACTORS.moved(moved, other, own), embeddings, atol=1e-5)
    # What differs by angles only is the same in canonical form.
    first, second = FACTORS.rotate(embeddings, own), FACTORS.rotate(embeddings, other)
    assert torch.allclose(
        FACTORS.canonical(first, own), FACTORS.canonical(second, other), atol=1e-5
    )


def test_mask_moves_single_factors_of_single_rows():
    embeddings, (own, other, _) = rows()
    mask = torch.zeros(3, len(FACTORS))
    mask[1, FACTORS.place("gaze")] = 1
    moved = FACTORS.moved(embeddings, own, other, mask)
    assert torch.equal(moved[[0, 2]], embeddings[[0, 2]])
    assert torch.equal(moved[1, :-12], embeddings[1, :-12])
    whole = FACTORS.moved(embeddings, own, other)
    assert torch.allclose(moved[1, -12:], whole[1, -12:], atol=1e-6)
    angles = FACTORS.mixed_angles(own, other, mask)
    assert torch.equal(angles[1, 6:], other[1, 6:]) and torch.equal(angles[1, :6], own[1, :6])
    assert torch.equal(angles[0], own[0])


def test_angles_are_replaced_by_name_in_a_copy():
    _, (own, _, _) = rows()
    gaze = torch.full((3, 2), 0.25)
    told = FACTORS.with_angles(own, gaze=gaze, head=None)
    assert torch.equal(told[:, 6:], gaze) and torch.equal(told[:, :6], own[:, :6])
    assert not torch.equal(own[:, 6:], gaze)


def test_similarity_of_equal_and_opposite_rows():
    embeddings, _ = rows()
    assert similarity_loss(embeddings, 3 * embeddings) == pytest.approx(0, abs=1e-6)
    assert similarity_loss(embeddings, -embeddings) == pytest.approx(2, abs=1e-6)
