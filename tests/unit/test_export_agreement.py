"""Rank agreement: hand-worked orders, ties that are no order, and Kendall's tau against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from personsearch.export.agreement import TIE, SearchedFrames, kendall_tau, rank_agreement


def at(*degrees: float) -> NDArray[np.float32]:
    """Unit rows at angles; their cosine to the query at 0 falls with the angle."""
    turn = np.radians(np.array(degrees))
    return np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)


def one_query(*degrees: float) -> SearchedFrames:
    """A query at 0 degrees in frame 0, and a gallery in frame 1."""
    return SearchedFrames(at(*degrees), np.ones(len(degrees), np.int64), at(0), np.array([0]))


FOUR = (10, 20, 30, 40)


def test_the_same_order_agrees_wholly_however_far_the_cosines_moved() -> None:
    same = rank_agreement(one_query(*FOUR), one_query(30, 40, 60, 80), top_k=10)
    assert same is not None
    assert (same.queries, same.gallery, same.top_k) == (1, 4, 1)
    assert (same.top_1_agreement, same.top_k_overlap, same.rank_correlation) == (1, 1, 1)


def test_one_exchange_turns_one_pair_of_six() -> None:
    swapped = rank_agreement(one_query(*FOUR), one_query(20, 10, 30, 40), top_k=1)
    assert swapped is not None
    assert (swapped.top_1_agreement, swapped.top_k_overlap) == (0, 0)
    assert swapped.rank_correlation == pytest.approx((5 - 1) / 6)
    reversed_ = rank_agreement(one_query(*FOUR), one_query(*FOUR[::-1]), top_k=1)
    assert reversed_ is not None
    assert reversed_.rank_correlation == -1


def test_the_first_k_are_compared_as_a_set() -> None:
    eight = (10, 15, 20, 25, 30, 35, 40, 45)
    inner = rank_agreement(one_query(*eight), one_query(15, 10, 20, 25, 30, 35, 40, 45), top_k=2)
    assert inner is not None
    assert (inner.top_k, inner.top_1_agreement, inner.top_k_overlap) == (2, 0, 1)
    outer = rank_agreement(one_query(*eight), one_query(10, 22, 20, 25, 30, 35, 40, 45), top_k=2)
    assert outer is not None
    assert (outer.top_1_agreement, outer.top_k_overlap) == (1, 0.5)


def test_what_the_reference_cannot_tell_apart_has_no_order_to_keep() -> None:
    ours = np.array([0.9, 0.9 - TIE / 2, 0.5], dtype=np.float32)
    theirs = np.array([0.8, 0.85, 0.5], dtype=np.float32)
    assert kendall_tau(ours, theirs) == 1
    assert kendall_tau(ours[:2], theirs[:2]) is None
    alike = SearchedFrames(at(10, 10.0001, 30, 40), np.ones(4, np.int64), at(0), np.array([0]))
    agreed = rank_agreement(alike, one_query(11, 10, 30, 40), top_k=1)
    assert agreed is not None
    assert agreed.top_1_agreement == 1


def test_a_query_is_not_searched_in_its_own_frame() -> None:
    frames = np.array([0, 1, 1, 1])
    reference = SearchedFrames(at(0, 10, 20, 30), frames, at(0), np.array([0]))
    engine = SearchedFrames(at(90, 10, 20, 30), frames, at(0), np.array([0]))  # only its own frame's row is off
    agreed = rank_agreement(reference, engine, top_k=1)
    assert agreed is not None
    assert (agreed.gallery, agreed.rank_correlation) == (3, 1)


@pytest.mark.parametrize("side", [one_query(), one_query(10), one_query(10, 10)])
def test_nothing_to_order_is_none_and_no_figure(side: SearchedFrames) -> None:
    assert rank_agreement(side, side, top_k=10) is None


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 30))
def test_tau_is_scipys_where_there_are_no_ties(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    ours = (rng.permutation(count) / count).astype(np.float32)
    theirs = (rng.permutation(count) / count).astype(np.float32)
    assert kendall_tau(ours, theirs) == pytest.approx(kendalltau(ours, theirs).statistic)
