"""Percentiles with intervals: against scipy, against hand-worked ranks and against how often they hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from personsearch.benchmarks.order_statistics import needed, quantile, ranks, ratio


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        # Textbook: of 10 values the 2nd and the 9th enclose the median with 97.9 %.
        (10, 0.5, (2, 9)),
        (5, 0.5, (None, None)),  # all five on one side of the median: 1 in 32, more than 2.5 %
        (6, 0.5, (1, 6)),
        (100, 0.5, (40, 61)),
        (35, 0.9, (28, None)),
        (36, 0.9, (29, 36)),
        (367, 0.99, (359, None)),
        (368, 0.99, (360, 368)),
    ],
)
def test_ranks_worked_by_hand(count: int, share: float, expected: tuple[int | None, int | None]) -> None:
    assert ranks(count, share) == expected


@given(st.integers(1, 3000), st.floats(0.02, 0.99), st.floats(0.5, 0.999))
def test_ranks_are_the_tightest_that_scipy_allows(count: int, share: float, confidence: float) -> None:
    low, high = ranks(count, share, confidence)
    miss, slack = (1 - confidence) / 2, 1e-9
    law = binom(count, share)
    # P(B < r) is the distribution function at r - 1.
    if low is not None:
        assert law.cdf(low - 1) <= miss + slack
    assert law.cdf(low or 0) > miss - slack
    if high is not None:
        assert law.cdf(high - 1) >= 1 - miss - slack
        assert law.cdf(high - 2) < 1 - miss + slack
    else:
        assert law.cdf(count - 1) < 1 - miss + slack


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_needed_is_where_the_upper_bound_begins(share: float) -> None:
    assert ranks(needed(share), share)[1] is not None
    assert ranks(needed(share) - 1, share)[1] is None


def test_the_interval_holds_the_true_percentile_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        found = quantile(rng.exponential(size=60).tolist(), 0.5)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= np.log(2) <= found.high
    assert 940 <= held <= 985  # at least 95 %, discreteness makes it a little more


def test_quantile_is_a_value_that_occurred() -> None:
    found = quantile([5.0, 1.0, 3.0, 2.0, 4.0, 6.0], 0.5)
    assert (found.value, found.low, found.high) == (4.0, 1.0, 6.0)
    assert quantile([7.0], 0.5).model_dump() == {"value": 7.0, "low": None, "high": None}
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_a_ratio_pairs_the_turns() -> None:
    # The machine was twice as slow in every other turn; the ratio of two is the same in all.
    first, other = [10.0, 20.0, 10.0, 20.0, 10.0, 20.0], [5.0, 10.0, 5.0, 10.0, 5.0, 10.0]
    assert ratio(first, other).model_dump() == {"value": 2.0, "low": 2.0, "high": 2.0}
    with pytest.raises(ValueError, match="6 turns beside 5"):
        ratio(first, other[:5])


@pytest.mark.parametrize(("count", "share", "confidence"), [(0, 0.5, 0.9), (3, 0.0, 0.9), (3, 0.5, 1.0)])
def test_impossible_questions(count: int, share: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="values, share"):
        ranks(count, share, confidence)
