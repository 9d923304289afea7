"""Search figures against examples worked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.evaluation import SearchEvaluator, SearchScores, chance_scores, relaxed_iou_threshold, search_scores

A, B = (0, 0, 40, 100), (200, 0, 240, 100)


@dataclass(frozen=True)
class Truth:
    boxes_xyxy: NDArray[np.float32]
    person_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Query:
    image_index: int
    person_id: int
    gallery: tuple[int, ...] | None = None
    answers_xyxy: NDArray[np.float32] | None = None


def truth(*rows: tuple[tuple[float, ...], int]) -> Truth:
    boxes = np.array([box for box, _ in rows], dtype=np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([person for _, person in rows], dtype=np.int64))


def found(*rows: tuple[tuple[float, ...], float]) -> Detections:
    """Detections of score 1 whose similarity with the query ``[[1]]`` is the number given."""
    boxes = np.array([box for box, _ in rows], dtype=np.float32).reshape(-1, 4)
    values = np.array([value for _, value in rows], dtype=np.float32).reshape(-1, 1)
    return Detections(boxes, np.ones(len(boxes), np.float32), values)


def search(query: Query, predictions: list[Detections], truths: list[Truth], **options: Any) -> SearchScores:
    scores = search_scores(np.ones((1, 1), np.float32), [query], predictions, truths, **options)
    assert (scores.mode, scores.score_threshold) == (options.get("mode", "strict"), options.get("score_threshold", 0.5))
    return scores


HOME = (found((A, 1.0)), truth((A, 7)))  # the query's own image


def test_ranks_are_across_images_and_recall_scales() -> None:
    # Person 7 is in images 1, 2 and 3; found at ranks 1 and 3, missed in image 3: (1 + 2/3) / 3.
    predictions = [HOME[0], found((A, 0.9), (B, 0.8)), found((A, 0.7)), found((B, 0.1))]
    truths = [HOME[1], truth((A, 7), (B, 3)), truth((A, 7)), truth((A, 7))]
    scores = search(Query(0, 7), predictions, truths)
    assert scores.mean_ap == pytest.approx(5 / 9)
    assert scores.top == {1: 1.0, 5: 1.0, 10: 1.0}
    assert (scores.gallery_images, scores.gallery_detections) == (3, 4)


def test_image_without_detections_counts_as_missed() -> None:
    predictions = [HOME[0], found((A, 0.9)), found()]
    scores = search(Query(0, 7), predictions, [HOME[1], truth((A, 7)), truth((A, 7))])
    assert scores.mean_ap == 0.5


def test_no_detection_anywhere_scores_nothing() -> None:
    scores = search(Query(0, 7), [HOME[0], found()], [HOME[1], truth((A, 7))])
    assert scores.mean_ap == 0.0
    assert scores.top[10] == 0.0


def test_only_the_most_similar_detection_on_a_person_is_right() -> None:
    # Two detections on the person at ranks 1 and 2, another image's hit at rank 3: (1 + 2/3) / 2.
    predictions = [HOME[0], found((A, 0.8), ((0, 0, 40, 90), 0.9)), found((A, 0.5))]
    scores = search(Query(0, 7), predictions, [HOME[1], truth((A, 7)), truth((A, 7))])
    assert scores.mean_ap == pytest.approx(5 / 6)


def test_two_boxes_of_one_person() -> None:
    predictions = [HOME[0], found((A, 0.2), (B, 0.9))]
    truths = [HOME[1], truth((A, 7), (B, 7))]
    assert search(Query(0, 7), predictions, truths).mean_ap == 1.0  # one image to find, either box will do
    assert search(Query(0, 7), predictions, truths, mode="compat").mean_ap == 0.5  # only the first box counts


def test_relaxed_overlap_for_small_boxes() -> None:
    sizes = np.array([[0, 0, 13, 36], [0, 0, 20, 50]], dtype=np.float32)
    assert relaxed_iou_threshold(sizes) == pytest.approx([468 / (23 * 46), 0.5])
    small, shifted = (0, 0, 13, 36), (0, 0, 13, 16.5)  # IoU .458
    scores = search(Query(0, 7), [HOME[0], found((shifted, 0.9))], [HOME[1], truth((small, 7))])
    assert scores.mean_ap == 1.0
    large, halved = (0, 0, 52, 144), (0, 0, 52, 66)  # the same IoU on a large box
    assert search(Query(0, 7), [HOME[0], found((halved, 0.9))], [HOME[1], truth((large, 7))]).mean_ap == 0.0


def test_gallery_that_lists_an_image_twice() -> None:
    predictions = [HOME[0], found((A, 0.9)), found((B, 0.5))]
    truths = [HOME[1], truth((A, 7)), truth((B, 3))]
    query = Query(0, 7, gallery=(1, 1, 2))
    assert search(query, predictions, truths).mean_ap == 1.0
    assert search(query, predictions, truths, mode="compat").mean_ap == 0.5  # counted twice, ranked once


def test_own_image_in_the_gallery_list() -> None:
    predictions = [HOME[0], found((A, 0.5), (B, 0.9))]
    truths = [HOME[1], truth((A, 7))]
    query = Query(0, 7, gallery=(0, 1))
    assert search(query, predictions, truths).mean_ap == 0.5
    assert search(query, predictions, truths, mode="compat").mean_ap == pytest.approx((1 + 2 / 3) / 2)


def test_the_three_readings_of_a_repeated_image() -> None:
    # Person 7 is found in image 1 (listed twice) at rank 1 and in image 2 behind a wrong detection.
    predictions = [HOME[0], found((A, 0.9)), found((A, 0.5), (B, 0.7))]
    truths = [HOME[1], truth((A, 7)), truth((A, 7))]
    query = Query(0, 7, gallery=(1, 1, 2))
    assert search(query, predictions, truths).mean_ap == pytest.approx((1 + 2 / 3) / 2)
    # SeqNet: three answers, two of them ranked. OIM, AlignPS: right at ranks 1, 2 and 4.
    assert search(query, predictions, truths, mode="compat").mean_ap == pytest.approx((1 + 2 / 3) / 3)
    assert search(query, predictions, truths, mode="compat-repeats").mean_ap == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_a_repeated_image_whose_rows_state_two_boxes() -> None:
    # CUHK-SYSU's query 1633 and two others: one image twice, with a box each. The labels know of A alone.
    predictions = [HOME[0], found((A, 0.4), (B, 0.8)), found((A, 0.6))]
    truths = [HOME[1], truth((A, 7)), truth()]
    query = Query(0, 7, gallery=(1, 1, 2), answers_xyxy=np.array([B, A], np.float32))
    assert search(query, predictions, truths).mean_ap == pytest.approx(1 / 3)  # labels: A, behind two others
    assert search(query, predictions, truths, mode="compat").mean_ap == 0.5  # B at rank 1, two counted
    # Ranked twice: 0.8 right and wrong, 0.6 wrong, 0.4 wrong and right: (1/2 + 2/5) / 2.
    assert search(query, predictions, truths, mode="compat-repeats").mean_ap == pytest.approx((1 / 2 + 2 / 5) / 2)


def test_stated_answers_outweigh_the_labels_in_compat_only() -> None:
    # The label files know the person in image 2 as well; the published protocol does not.
    predictions = [HOME[0], found((A, 0.9)), found((A, 0.8))]
    truths = [HOME[1], truth((A, 7)), truth((A, 7))]
    query = Query(0, 7, gallery=(1, 2), answers_xyxy=np.array([A], np.float32))
    assert search(query, [*predictions[:2], found()], truths).mean_ap == 0.5
    assert search(query, [*predictions[:2], found()], truths, mode="compat").mean_ap == 1.0
    assert search(query, predictions, truths, mode="compat").answers.tolist() == [1]


def test_scores_weight_similarities_only_when_asked() -> None:
    unsure = Detections(np.array([A, B], np.float32), np.array([0.9, 0.6]), np.array([[0.8], [0.9]]))
    predictions, truths = [HOME[0], unsure], [HOME[1], truth((A, 7))]
    look, query = np.ones((1, 1), np.float32), [Query(0, 7)]
    plain = SearchEvaluator(query, predictions, truths)
    weighted = SearchEvaluator(query, predictions, truths, weight_by_score=True)
    assert plain.scores(look).mean_ap == 0.5
    assert weighted.scores(look).mean_ap == 1.0  # 0.72 against 0.54
    assert weighted.ranking(look, 0).similarities == pytest.approx([0.72, 0.54])
    assert (plain.scores(look).weighted_by_score, weighted.scores(look).weighted_by_score) == (False, True)


def test_a_query_that_was_not_detected_scores_nothing() -> None:
    predictions = [HOME[0], found((A, 0.9))]
    evaluator = SearchEvaluator([Query(0, 7), Query(0, 7)], predictions, [HOME[1], truth((A, 7))])
    scores = evaluator.scores(np.ones((2, 1), np.float32), query_found=np.array([True, False]))
    assert scores.per_query_ap.tolist() == [1.0, 0.0]
    assert scores.top[10] == 0.5
    assert scores.first_hit_rank.tolist() == [1.0, np.inf]


def test_a_ranking_can_be_written_out() -> None:
    weak_first = Detections(np.array([B, A, A], np.float32), np.array([0.1, 0.9, 0.8]), np.array([[1], [0.7], [0.6]]))
    predictions = [HOME[0], weak_first, found((B, 0.9)), found()]
    truths = [HOME[1], truth((A, 7)), truth((B, 3)), truth((A, 7))]
    ranking = SearchEvaluator([Query(0, 7)], predictions, truths).ranking(np.ones((1, 1), np.float32), 0)
    assert list(zip(ranking.images.tolist(), ranking.rows.tolist(), ranking.right.tolist(), strict=True)) == [
        (2, 0, False), (1, 1, True), (1, 2, False)
    ]  # fmt: skip
    assert dict(zip(ranking.answer_images.tolist(), ranking.answer_ranks.tolist(), strict=True)) == {1: 2.0, 3: np.inf}


def test_tied_similarities_stand_together() -> None:
    # A right and two wrong detections at one similarity: precision 1/3 at the end of the group, rank 3.
    predictions = [HOME[0], found((A, 0.5), (B, 0.5)), found((B, 0.5))]
    truths = [HOME[1], truth((A, 7)), truth()]
    scores = search(Query(0, 7), predictions, truths, top_k=(1, 2, 3))
    assert scores.mean_ap == pytest.approx(1 / 3)
    assert scores.top == {1: 0.0, 2: 0.0, 3: 1.0}


def test_gallery_limits_what_is_ranked() -> None:
    predictions = [HOME[0], found((A, 0.5)), found((B, 0.9))]
    truths = [HOME[1], truth((A, 7)), truth((B, 3))]
    assert search(Query(0, 7), predictions, truths).mean_ap == 0.5
    assert search(Query(0, 7, gallery=(1,)), predictions, truths).mean_ap == 1.0


def test_score_threshold_thins_the_gallery() -> None:
    weak = Detections(np.array([A, B], np.float32), np.array([0.9, 0.3]), np.array([[0.5], [0.9]]))
    truths = [HOME[1], truth((A, 7))]
    assert search(Query(0, 7), [HOME[0], weak], truths, score_threshold=0.5).mean_ap == 1.0
    assert search(Query(0, 7), [HOME[0], weak], truths, score_threshold=0.2).mean_ap == 0.5


def test_query_without_an_answer_is_left_out_and_told() -> None:
    queries = [Query(0, 7), Query(1, 3)]  # person 3 is in its own image only
    predictions = [HOME[0], found((A, 0.9), (B, 0.1))]
    truths = [HOME[1], truth((A, 7), (B, 3))]
    scores = search_scores(np.ones((2, 1), np.float32), queries, predictions, truths)
    assert scores.queries == 1
    assert scores.mean_ap == 1.0
    assert np.isnan(scores.per_query_ap).tolist() == [False, True]


@pytest.mark.parametrize(
    ("embeddings", "query", "message"),
    [
        (np.ones((2, 1), np.float32), Query(0, 7), r"expected \(1, D\)"),
        (np.ones((1, 2), np.float32), Query(0, 7), "embedding widths differ"),
        (np.full((1, 1), np.nan, np.float32), Query(0, 7), "query 0: the embedding holds a value that is not finite"),
        (np.ones((1, 1), np.float32), Query(2, 7), "names image 2"),
        (np.ones((1, 1), np.float32), Query(0, 7, gallery=(-1,)), "names image -1"),
        (np.ones((1, 1), np.float32), Query(0, 8), "none of 1 queries"),
    ],
)
def test_impossible_input_is_refused(embeddings: Any, query: Query, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search_scores(embeddings, [query], [HOME[0], found((A, 0.5))], [HOME[1], truth((A, 7))])


def test_chance_matches_its_closed_form() -> None:
    # 3 right among 12 detections: E[AP] = H/N + (m - 1)/(N - 1) (1 - H/N), E[top-1] = m/N.
    predictions = [HOME[0], *[found((A, 0.0), (B, 0.0)) for _ in range(6)]]
    truths = [HOME[1], *[truth((A, 7)) for _ in range(3)], *[truth((A, 3)) for _ in range(3)]]
    chance = chance_scores([Query(0, 7)], predictions, truths, rounds=4000)
    harmonic = sum(1 / rank for rank in range(1, 13)) / 12
    assert chance.mean_ap == pytest.approx(harmonic + 2 / 11 * (1 - harmonic), abs=0.012)
    assert chance.top[1] == pytest.approx(3 / 12, abs=0.025)
    assert chance_scores([Query(0, 7)], predictions, truths, rounds=3) == chance_scores(
        [Query(0, 7)], predictions, truths, rounds=3
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Detections(np.array([A]), np.ones(1), np.array([[np.inf]])), "image 1: embeddings holds a value that is not"),
        (Detections(np.array([A]), np.array([np.nan]), np.ones((1, 1))), "image 1: scores holds a value that is not"),
        (Detections(np.array([A]), np.ones(1), np.ones((1, 2))), "image 1: embeddings are 2 wide, those before 1"),
    ],
)
def test_impossible_detections_name_their_image(second: Detections, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(Query(0, 7), [HOME[0], second], [HOME[1], truth((A, 7))])


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode is `lenient`, expected one of strict, compat, compat-repeats"):
        search(Query(0, 7), [HOME[0]], [HOME[1]], mode="lenient")


def test_images_without_detections_may_have_any_width() -> None:
    predictions = [HOME[0], found((A, 0.9)), Detections.empty(0)]
    scores = search(Query(0, 7), predictions, [HOME[1], truth((A, 7)), truth((A, 7))])
    assert scores.mean_ap == 0.5
