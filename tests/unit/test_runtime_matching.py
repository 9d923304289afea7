"""Matches and visits."""

from __future__ import annotations

import numpy as np
import pytest

from personsearch.core.detections import Detections
from personsearch.core.similarity import l2_normalise
from personsearch.runtime.matching import Match, Matcher, VisitTracker
from personsearch.runtime.query import PersonQuery


def person(name: str, *rows: list[float]) -> PersonQuery:
    return PersonQuery(name, l2_normalise(np.array(rows, np.float32)), np.zeros((8, 4, 3), np.uint8))


def detections(*rows: list[float]) -> Detections:
    embeddings = l2_normalise(np.array(rows, np.float32).reshape(-1, 2))
    return Detections(np.tile(np.array([0, 0, 1, 1], np.float32), (len(rows), 1)), np.ones(len(rows)), embeddings)


def test_nobody_in_the_frame() -> None:
    matcher = Matcher([person("a", [1, 0]), person("b", [0, 1])], 0.5)
    similarities = matcher.similarities(detections())
    assert similarities.shape == (2, 0)
    assert matcher.matches(similarities) == []


def test_the_mean_of_the_crops_counts_and_crops_do_not_leak_to_the_next_query() -> None:
    matcher = Matcher([person("a", [1, 0], [0, 1]), person("b", [-1, 0])], 0.5)
    np.testing.assert_allclose(
        matcher.similarities(detections([0, 1], [1, 0], [-1, 0])),
        [[0.5**0.5, 0.5**0.5, -(0.5**0.5)], [0, -1, 1]],
        atol=1e-6,
    )


def test_one_best_a_query_and_frame_the_others_are_look_alikes() -> None:
    matcher = Matcher([person("a", [1, 0]), person("b", [0, 1])], 0.6)
    found = matcher.matches(np.array([[0.7, 0.9, 0.6, 0.1], [0.5, 0.1, 0.59, 0.0]], np.float32))
    assert [(match.query, match.row, match.is_best) for match in found] == [(0, 1, True), (0, 0, False), (0, 2, False)]


def test_the_threshold_itself_is_a_match() -> None:
    assert Matcher([person("a", [1, 0])], 0.5).matches(np.array([[0.5]], np.float32)) == [Match(0, 0, 0.5, True)]


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="widths differ"):
        Matcher([person("a", [1, 0, 0])], 0.5).similarities(detections([1, 0]))


def visits(times: list[float], min_frames: int = 1) -> tuple[list[tuple[float, float, int]], int]:
    tracker = VisitTracker(2.0, min_frames)
    for index, time in enumerate(times):
        tracker.add(10 * index, index, time, 0.5 + 0.01 * index)
    found, brief = tracker.finish()
    return [(visit.start_s, visit.end_s, visit.frames) for visit in found], brief


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], []),
        ([1.0], [(1, 1, 1)]),
        ([0, 1, 2, 4], [(0, 4, 4)]),
        ([0, 1, 3.1, 4], [(0, 1, 2), (3.1, 4, 2)]),
    ],
)
def test_visits_end_after_the_gap(times: list[float], expected: list[tuple[float, float, int]]) -> None:
    assert visits(times) == (expected, 0)


def test_brief_visits_are_counted_but_not_listed() -> None:
    assert visits([0, 10, 10.1, 20], min_frames=2) == ([(10, 10.1, 2)], 2)


def test_slow_sequences_are_not_torn_apart() -> None:
    """At a frame each five seconds neighbouring frames are one visit, whatever the gap; with two between not."""
    tracker = VisitTracker(gap_s=2.0, min_frames=1)
    for step in (0, 1, 3, 6):
        tracker.add(step, step, 5.0 * step, 0.9)
    assert [visit.frames for visit in tracker.finish()[0]] == [3, 1]


def test_a_visit_remembers_its_best_frame() -> None:
    tracker = VisitTracker(2.0, 1)
    for step, similarity in enumerate([0.6, 0.9, 0.7]):
        tracker.add(step, 100 + step, step / 10, similarity, f"{step}.jpg")
    visit = tracker.finish()[0][0]
    assert (visit.best_frame, visit.best_similarity, visit.best_time_s, visit.best_name) == (101, 0.9, 0.1, "1.jpg")
