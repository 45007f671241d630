"""Combinations of parameters, of which `make test` runs few."""

import itertools

import pytest


def each_of(*values, name=str):
    """Parameters of a test: all combinations, of which those that show each value once are quick.

    Args:
        values: a list per argument of the test. The longest is gone through once, the others
            beside it; what is left is marked ``whole``.
        name: text of a value, for the test's name.
    """
    values = [[*one] for one in values]
    longest = max(map(len, values))
    quick = {tuple(place % len(one) for one in values) for place in range(longest)}
    places = itertools.product(*(range(len(one)) for one in values))
    return [
        pytest.param(
            *(one[at] for one, at in zip(values, place, strict=True)),
            id="-".join(name(one[at]) for one, at in zip(values, place, strict=True)),
            marks=[] if place in quick else [pytest.mark.whole],
        )
        for place in places
    ]
