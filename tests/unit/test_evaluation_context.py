"""Context matching, queries from detections, and COCO's figures: worked by hand and against a slow loop."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.evaluation import QueryContext, SearchEvaluator, detected_queries, query_context
from personsearch.evaluation.coco import coco_scores

A, B, C = (0, 0, 40, 100), (100, 0, 140, 100), (200, 0, 240, 100)


@dataclass(frozen=True)
class Truth:
    boxes_xyxy: NDArray[np.float32]
    person_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Query:
    image_index: int
    person_id: int
    box_xyxy: NDArray[np.float32]
    gallery: NDArray[np.int64] | None = None
    answers_xyxy: NDArray[np.float32] | None = None


def truth(*rows: tuple[tuple[float, ...], int]) -> Truth:
    boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([person for _, person in rows], np.int64))


def found(*rows: tuple[tuple[float, ...], float, tuple[float, ...]]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.float32).reshape(len(rows), -1),
    )


QUERY = Query(0, 7, np.array(A, np.float32))
LOOK = np.array([[1, 0]], np.float32)


def test_company_lifts_the_image_that_shows_it_too() -> None:
    # Beside the query stands a friend, (0, 1). Image 1 shows both, the query at 0.6, the friend at 1; image 2 shows a
    # stranger at 0.8. The friend's edge, 1, becomes the query's similarity in image 1.
    home = found((A, 0.9, (1, 0)), (B, 0.8, (0, 1)))
    predictions = [home, found((A, 0.9, (0.6, 0.8)), (B, 0.9, (0, 1))), found((C, 0.9, (0.8, 0.6)))]
    truths = [truth((A, 7)), truth((A, 7)), truth((C, 3))]
    plain = SearchEvaluator([QUERY], predictions, truths)
    assert plain.scores(LOOK).mean_ap == 0.5
    assert plain.scores(LOOK).context is None
    context = query_context([QUERY], predictions, images=3, people=2, score_threshold=0.5)
    helped = SearchEvaluator([QUERY], predictions, truths, context=context)
    assert helped.scores(LOOK).mean_ap == 1.0
    assert helped.scores(LOOK).context == (3, 2)
    ranking = helped.ranking(LOOK, 0)
    assert ranking.similarities == pytest.approx([1.0, 0.8, 0.0])
    assert plain.ranking(LOOK, 0).similarities == pytest.approx([0.8, 0.6, 0.0])  # the other evaluator is untouched
    # With one image to look at, only that of the stranger is matched, and nothing changes.
    alone = query_context([QUERY], predictions, images=1, people=2, score_threshold=0.5)
    assert SearchEvaluator([QUERY], predictions, truths, context=alone).scores(LOOK).mean_ap == 0.5


def test_the_query_itself_is_not_its_company() -> None:
    near = (2, 0, 42, 100)
    home = found((near, 0.9, (1, 0)), (B, 0.6, (0, 1)), (C, 0.7, (0.6, 0.8)), (C, 0.4, (0, 0)))
    context = query_context([QUERY], [home], images=1, people=3, score_threshold=0.5)
    assert context.company[0].tolist() == pytest.approx(np.array([[0.6, 0.8], [0, 1]]))  # by score, the weak left out
    assert len(query_context([QUERY], [home], images=1, people=2, score_threshold=0.5).company[0]) == 1


@given(
    st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=2), min_size=1, max_size=3),
    st.lists(st.lists(st.integers(-4, 4), min_size=2, max_size=2), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=150)
def test_context_matching_is_the_best_of_all_matchings(
    people: list[list[int]], there: list[list[int]], weigh: bool
) -> None:
    """Every one-to-one matching tried; where several are best, the outcome is one of theirs."""
    rng = np.random.default_rng(0)
    weights = rng.choice([0.5, 1.0], len(there)).astype(np.float32)
    boxes = np.array([[0, 0, 10, 10]] * len(there), np.float32)
    predictions = [Detections.empty(2), Detections(boxes, weights, np.array(there, np.float32))]
    query = Query(0, 0, np.array([0, 0, 10, 10], np.float32))
    context = QueryContext(4, len(people), (np.array(people[1:], np.float32).reshape(-1, 2),))
    evaluator = SearchEvaluator(
        [query], predictions, [truth(), truth()], score_threshold=0.0, weight_by_score=weigh, context=context
    )
    ranking = evaluator.ranking(np.array(people[:1], np.float32), 0)
    revised = np.empty(len(there))
    revised[ranking.rows] = ranking.similarities
    edges = np.array(people, float) @ np.array(there, float).T * (weights if weigh else 1.0)
    size = min(edges.shape)
    options = []
    for chosen in permutations(range(len(people)), size):
        for columns in permutations(range(len(there)), size):
            options.append(sorted(zip(chosen, columns, strict=True)))
    best = max(sum(edges[pair] for pair in option) for option in options)
    outcomes = []
    for option in options:
        if sum(edges[pair] for pair in option) == best:
            outcome = edges[0].copy()
            if option[0][0] == 0:
                outcome[option[0][1]] = max(edges[pair] for pair in option)
            outcomes.append(outcome)
    assert any(np.allclose(revised, outcome) for outcome in outcomes)


def test_impossible_contexts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 or more"):
        QueryContext(0, 3, ())
    with pytest.raises(ValueError, match="context of 0 queries, expected 1"):
        SearchEvaluator([QUERY], [found((A, 1, (1, 0)))], [truth()], context=QueryContext(1, 1, ()))


def test_a_query_takes_the_features_of_the_detection_it_overlaps_most() -> None:
    beside = found((B, 0.9, (0, 1)), ((0, 0, 40, 60), 0.2, (1, 0)), ((0, 0, 40, 40), 0.9, (0.5, 0.5)))
    elsewhere, nothing = found((B, 0.9, (0, 1))), Detections.empty(2)
    queries = [Query(index, 7, np.array(A, np.float32)) for index in range(3)]
    embeddings, detected = detected_queries(queries, [beside, elsewhere, nothing])
    assert detected.tolist() == [True, False, False]
    assert embeddings.tolist() == [[1, 0], [0, 0], [0, 0]]
    embeddings, detected = detected_queries(queries, [beside, elsewhere, nothing], "compat")
    assert detected.tolist() == [True, True, False]  # AlignPS takes what there is
    assert embeddings.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_the_public_pick_counts_one_pixel_more() -> None:
    # A query of 4 x 4. The left half of it: IoU 1/2, with one pixel more 15/25. A box of 4 x 7.9: 0.506, then 0.562.
    query = Query(0, 7, np.array([0, 0, 4, 4], np.float32))
    one = found(((0, 0, 2, 4), 1, (1, 0)), ((0, 0, 4, 7.9), 1, (0, 1)))
    assert detected_queries([query], [one])[0].tolist() == [[0, 1]]
    assert detected_queries([query], [one], "compat")[0].tolist() == [[1, 0]]


def test_coco_figures() -> None:
    pytest.importorskip("pycocotools")
    truths = [truth((A, 0), (B, 1), (C, -2)), truth()]
    exact = found((A, 0.9, (1,)), (B, 0.8, (1,)), ((205, 0, 235, 90), 0.95, (1,)))
    perfect = coco_scores([exact, Detections.empty(1)], truths, score_threshold=0.5)
    assert (perfect.ap, perfect.ap_50, perfect.recall) == pytest.approx((1.0, 1.0, 1.0))  # the ignore region swallows
    # One of two people, at IoU .8: right at 7 of 10 overlaps, and 51 of 101 recall levels reached.
    short = found(((0, 0, 40, 80), 0.9, (1,)), (B, 0.4, (1,)))
    half = coco_scores([short, Detections.empty(1)], truths, score_threshold=0.5)
    assert half.ap_50 == pytest.approx(51 / 101)
    assert half.ap == pytest.approx(0.7 * 51 / 101)
    assert (half.recall, half.score_threshold) == pytest.approx((0.35, 0.5))
    assert coco_scores([Detections.empty(1), Detections.empty(1)], truths, score_threshold=0.5).ap == 0.0
    with pytest.raises(ValueError, match="no person"):
        coco_scores([exact], [truth((C, -2))], score_threshold=0.5)
