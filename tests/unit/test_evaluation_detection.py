"""Detection figures against examples worked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.evaluation import detection_scores


@dataclass(frozen=True)
class Truth:
    boxes_xyxy: NDArray[np.float32]
    person_ids: NDArray[np.int64]


def truth(*rows: tuple[float, float, float, float, int]) -> Truth:
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    return Truth(table[:, :4], table[:, 4].astype(np.int64))


def found(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, dtype=np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.ones((len(table), 1), np.float32))


def test_no_detection_at_all_scores_nothing() -> None:
    scores = detection_scores([found()], [truth((0, 0, 10, 20, 0))])
    assert (scores.recall, scores.precision, scores.average_precision) == (0.0, 0.0, 0.0)


def test_image_without_people_only_costs_precision() -> None:
    scores = detection_scores(
        [found((0, 0, 10, 20, 0.6)), found((0, 0, 10, 20, 0.9))], [truth((0, 0, 10, 20, 0)), truth()]
    )
    assert scores.recall == 1.0
    assert scores.precision == 0.5
    assert scores.ranking_precision == 0.5  # the wrong one ranks first


def test_average_precision_is_scaled_by_recall() -> None:
    # Four people, two found at ranks 1 and 3: ranking precision (1 + 2/3) / 2, recall 1/2.
    people = truth((0, 0, 10, 20, 0), (20, 0, 30, 20, 1), (40, 0, 50, 20, -1), (60, 0, 70, 20, 2))
    dets = found((0, 0, 10, 20, 0.9), (80, 0, 90, 20, 0.8), (40, 0, 50, 20, 0.7))
    scores = detection_scores([dets], [people])
    assert scores.ranking_precision == pytest.approx(5 / 6)
    assert scores.recall == 0.5
    assert scores.average_precision == pytest.approx(5 / 12)
    assert scores.labelled_recall == pytest.approx(1 / 3)  # person 0 counts: ids start at 0


def test_best_overlap_wins_over_best_score() -> None:
    # IoU .5 with score .9 and IoU 1 with score .6 on one person: the second is right, the first wrong.
    dets = found((0, 0, 10, 10, 0.9), (0, 0, 10, 20, 0.6))
    scores = detection_scores([dets], [truth((0, 0, 10, 20, 0))])
    assert scores.ranking_precision == 0.5


def test_a_detection_may_not_fall_back_on_its_second_best_person() -> None:
    # Both detections overlap person 0 most; the loser does not get person 1 although its IoU there is .5 too.
    people = truth((0, 0, 12, 10, 0), (4, 0, 16, 10, 1))
    dets = found((0, 0, 12, 10, 0.9), (1, 0, 13, 10, 0.8))
    assert detection_scores([dets], [people]).recall == 0.5


def test_the_public_evaluators_pair_only_mutual_favourites() -> None:
    # Person 1 overlaps the first detection most (.75 against .6), which prefers person 0.
    people = truth((0, 0, 20, 10, 0), (5, 0, 20, 10, 1))
    dets = found((0, 0, 20, 10, 0.9), (11, 0, 20, 10, 0.8))
    assert detection_scores([dets], [people]).recall == 1.0
    compat = detection_scores([dets], [people], mode="compat")
    assert (compat.recall, compat.mode) == (0.5, "compat")


def test_the_public_labelled_recall_ignores_people_without_identity() -> None:
    # One detection between two people: it lies more on the unlabelled one.
    people = truth((0, 0, 10, 20, -1), (0, 0, 10, 19, 0))
    dets = found((0, 0, 10, 20, 0.9))
    assert detection_scores([dets], [people]).labelled_recall == 0.0
    assert detection_scores([dets], [people], mode="compat").labelled_recall == 1.0


def test_overlap_of_exactly_the_threshold_counts() -> None:
    assert detection_scores([found((0, 0, 10, 10, 0.9))], [truth((0, 0, 10, 20, 0))]).recall == 1.0


def test_score_threshold_keeps_its_own_value() -> None:
    dets = found((0, 0, 10, 20, 0.5), (20, 0, 30, 20, 0.4))
    people = truth((0, 0, 10, 20, 0), (20, 0, 30, 20, 1))
    assert detection_scores([dets], [people], score_threshold=0.5).recall == 0.5
    assert detection_scores([dets], [people], score_threshold=0.25).recall == 1.0


def test_equal_scores_stand_together() -> None:
    # One right and one wrong detection at the same score: precision 1/2, whichever is listed first.
    people = truth((0, 0, 10, 20, 0))
    for order in (slice(None), slice(None, None, -1)):
        dets = found(*[(0, 0, 10, 20, 0.75), (50, 0, 60, 20, 0.75)][order])
        assert detection_scores([dets], [people]).ranking_precision == 0.5


def test_ignore_regions_swallow_only_what_matches_nobody() -> None:
    people = truth((0, 0, 10, 20, 0), (0, 0, 100, 100, -2))
    inside = found((0, 0, 10, 20, 0.9), (50, 50, 60, 70, 0.8), (95, 0, 120, 20, 0.7))
    scores = detection_scores([inside], [people])
    assert scores.ground_truth == 1  # the region is not a person
    assert scores.recall == 1.0
    assert scores.detections == 2  # the second is swallowed, the third lies mostly outside
    assert scores.precision == 0.5


def test_no_identities_means_no_labelled_recall() -> None:
    assert detection_scores([found()], [truth((0, 0, 10, 20, -1))]).labelled_recall is None


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        ([], [], "no person"),
        ([found()], [truth((0, 0, 9, 9, -2))], "no person"),
        ([found()], [], "detections of 1 images, ground truth of 0"),
        ([found()], [Truth(np.zeros((2, 4), np.float32), np.zeros(1, np.int64))], "image 0"),
    ],
)
def test_impossible_input_is_refused(predictions: Any, truths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detection_scores(predictions, truths)
