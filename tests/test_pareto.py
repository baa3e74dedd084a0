"""Laws of dominance, front and hypervolume, and a count of cells as a second opinion."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atm_search.pareto import front, hypervolume, is_dominated

BOTH = (True, False)
coordinates = st.integers(0, 9)
planes = st.lists(st.tuples(coordinates, coordinates), max_size=12)
spaces = st.lists(st.tuples(coordinates, coordinates, coordinates), max_size=8)


def cells(points, reference, maximize):
    """Unit cells between the reference point and 10 (or -1) that some point dominates."""
    count = 0
    for cell in itertools.product(range(-1, 10), repeat=len(reference)):
        corners = [
            (low, low + 1) if more else (low + 1, low)
            for low, more in zip(cell, maximize, strict=True)
        ]
        beyond = all(
            near >= limit if more else near <= limit
            for (near, _), limit, more in zip(corners, reference, maximize, strict=True)
        )
        reached = any(
            all(
                value >= far if more else value <= far
                for value, (_, far), more in zip(point, corners, maximize, strict=True)
            )
            for point in points
        )
        count += beyond and reached
    return count


@given(planes)
def test_no_point_of_the_front_is_dominated_and_every_other_is_dominated_or_repeated(points):
    chosen = front(points, maximize=BOTH)
    dominated = is_dominated(points, maximize=BOTH)
    assert not dominated[chosen].any()
    for index in set(range(len(points))) - set(chosen.tolist()):
        assert dominated[index] or points[index] in points[:index]


@given(planes)
def test_is_dominated_agrees_with_its_definition(points):
    expected = [
        any(b[0] >= a[0] and b[1] <= a[1] and (b[0] > a[0] or b[1] < a[1]) for b in points)
        for a in points
    ]
    assert is_dominated(points, maximize=BOTH).tolist() == expected


@given(planes)
def test_a_third_objective_in_which_all_are_equal_changes_neither_front_nor_volume(points):
    """The plane has ways of its own, and here the general ones are a second opinion on them."""
    lifted = [(*point, 1) for point in points]
    directions = (*BOTH, True)
    assert front(points, maximize=BOTH).tolist() == front(lifted, maximize=directions).tolist()
    area = hypervolume(points, (2, 8), maximize=BOTH)
    assert hypervolume(lifted, (2, 8, 0), maximize=directions) == pytest.approx(area)


def test_dominance_of_more_points_than_are_compared_at_once(monkeypatch):
    monkeypatch.setattr("atm_search.pareto.CELLS", 6)
    points = [(1, 5), (3, 4), (0, 6), (4, 9), (2, 4)]
    assert is_dominated(points, maximize=BOTH).tolist() == [True, False, True, False, True]


def test_front_keeps_the_first_of_equal_points_and_the_order():
    points = [(1, 5), (3, 4), (3, 4), (0, 0), (2, 9)]
    assert front(points, maximize=BOTH).tolist() == [1, 3]


@given(planes, st.tuples(coordinates, coordinates))
def test_hypervolume_of_integers_is_a_count_of_cells_in_the_plane(points, reference):
    assert hypervolume(points, reference, maximize=BOTH) == cells(points, reference, BOTH)


@given(spaces)
def test_hypervolume_of_integers_is_a_count_of_cells_in_space(points):
    directions = (True, False, True)
    expected = cells(points, (2, 8, 1), directions)
    assert hypervolume(points, (2, 8, 1), maximize=directions) == expected


@given(planes, st.tuples(coordinates, coordinates))
def test_adding_a_point_never_lowers_hypervolume(points, added):
    before = hypervolume(points, (2, 8), maximize=BOTH)
    assert hypervolume([*points, added], (2, 8), maximize=BOTH) >= before


@given(planes)
def test_hypervolume_is_that_of_the_front_alone(points):
    chosen = [points[index] for index in front(points, maximize=BOTH)]
    whole = hypervolume(points, (0, 9), maximize=BOTH)
    assert hypervolume(chosen, (0, 9), maximize=BOTH) == whole


def test_points_no_better_than_the_reference_point_add_nothing():
    assert hypervolume([(5, 5), (9, 6)], (5, 5), maximize=BOTH) == 0.0
    assert hypervolume([], (5, 5), maximize=BOTH) == 0.0


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(1.0, 2.0, 3.0)], r"\[1, 3\]"),
        ([1.0, 2.0], r"\[2\]"),
        ([(float("nan"), 1.0)], "NaN"),
        ([(float("inf"), 1.0)], "infinite"),
    ],
)
def test_points_of_another_shape_or_not_finite_are_refused(points, message):
    with pytest.raises(ValueError, match=message):
        front(points, maximize=BOTH)


def test_a_reference_point_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"\[1, 3\]"):
        hypervolume(np.ones((2, 2)), (1, 2, 3), maximize=BOTH)
