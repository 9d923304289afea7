"""Where people can stand: fitted planes, horizons of label maps, things to stand behind, hands of backgrounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personsearch.data.cameras import deal, hold_out
from personsearch.data.perspective import Perspective, bottom_of_things, fit_perspective, horizon_of_ground


def people_at(feet: list[float], perspective: Perspective) -> np.ndarray:
    heights = [perspective.height_at(row) for row in feet]
    return np.array([[10, row - tall, 20, row] for row, tall in zip(feet, heights, strict=True)], dtype=np.float32)


def test_height_and_feet_are_inverses() -> None:
    """A camera as high as a person: the head is at the horizon."""
    perspective = Perspective(horizon_y=100, rise=1.0)
    assert perspective.height_at(180) == 80
    assert perspective.feet_of(80) == 180
    assert perspective.height_at(90) < 0
    # Cut off the first 40 rows, then double.
    seen = perspective.seen_through(40, 2)
    assert seen.horizon_y == 120
    assert seen.height_at((180 - 40) * 2) == 160


@given(horizon=st.floats(-400, 200), rise=st.floats(0.15, 3), outlier=st.integers(0, 7))
def test_people_tell_the_plane_though_one_sits(horizon: float, rise: float, outlier: int) -> None:
    truth = Perspective(horizon, rise)
    nearest = horizon + 30 / rise
    boxes = people_at([nearest + step * 40 / rise for step in range(8)], truth)
    boxes[outlier, 1] += 0.4 * (boxes[outlier, 3] - boxes[outlier, 1])
    fitted = fit_perspective(boxes)
    assert fitted is not None
    for row in (nearest + 60 / rise, nearest + 200 / rise):
        assert fitted.height_at(row) == pytest.approx(truth.height_at(row), rel=0.05)


@pytest.mark.parametrize(
    "boxes",
    [
        np.zeros((0, 4), dtype=np.float32),
        people_at([200, 250, 300, 350], Perspective(100, 1)),  # too few
        people_at([200, 201, 202, 203, 204, 205], Perspective(100, 1)),  # one row: any plane fits
        np.array([[0, 200 - t, 9, 200 + f] for f, t in enumerate((80, 9, 70, 5, 60, 8, 90, 4))], np.float32)
        * [1, 1, 1, 1],
    ],
)
def test_people_who_tell_nothing(boxes: np.ndarray) -> None:
    assert fit_perspective(boxes.astype(np.float32)) is None


def test_the_horizon_is_above_the_ground() -> None:
    ground = np.zeros((100, 50), dtype=bool)
    ground[60:, 10:40] = True
    ground[30, 3] = True  # one pixel is a mistake of the map
    assert horizon_of_ground(ground) == 58
    assert horizon_of_ground(np.zeros((100, 50), dtype=bool)) is None


def test_where_things_end() -> None:
    things = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]], dtype=bool)
    expected = [[-1, 2, -1], [1, 2, -1], [-1, 2, 2], [3, -1, -1]]
    assert bottom_of_things(things).tolist() == expected


@given(count=st.integers(1, 40), hands=st.integers(1, 8))
def test_dealing_gives_every_hand_neighbours(count: int, hands: int) -> None:
    dealt = deal(list(range(count)), hands)
    assert len(dealt) == hands
    assert all(hand == list(range(hand[0], hand[-1] + 1)) for hand in dealt)
    assert {item for hand in dealt for item in hand} == set(range(min(count, max(count, hands))))
    if count >= hands:
        assert sum(map(len, dealt)) == count


def test_holding_out() -> None:
    assert deal([], 3) == [[], [], []]
    items = list(range(10))
    assert hold_out(items, 0.25, held=True) == [8, 9]
    assert hold_out(items, 0.25, held=False) == items[:8]
    # Too few to hold one out: both see all.
    assert hold_out([1, 2], 0.25, held=True) == hold_out([1, 2], 0.25, held=False) == [1, 2]
