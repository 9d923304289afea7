"""Kinds of search errors and what they cost, on examples that were worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import example as case
from hypothesis import strategies as st

from personsearch.core.detections import Detections, FloatArray
from personsearch.data import Query, Sample
from personsearch.evaluation import Mode, SearchEvaluator
from personsearch.evaluation.diagnosis import COST_KINDS, Diagnoser, QueryDiagnosis, not_detected
from personsearch.evaluation.shown import BACKGROUND_ID, shown_people

A, B, C = (0, 0, 40, 100), (100, 0, 140, 100), (200, 0, 240, 100)
TOP_OF_A = (0, 0, 40, 40)  # IoU 0.4 with A
QUERY = Query(0, np.array(A, np.float32), 0)
Row = tuple[tuple[int, ...], float]


def detections(*rows: Row) -> Detections:
    """Boxes with the similarity that a query of embedding (1, 0) has with them."""
    similarities = np.array([row[1] for row in rows], np.float32)
    embeddings = np.stack([similarities, np.sqrt(1 - similarities**2)], axis=1).reshape(-1, 2)
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.full(len(rows), 0.9, np.float32), embeddings)


def people(*rows: tuple[tuple[int, ...], int]) -> Sample:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Sample(None, boxes, np.array([row[1] for row in rows], np.int64), 0, 0, (400, 100))


@dataclass(frozen=True)
class Example:
    """Image 0 is the query's, of person 0; for each further image who is there, who was found, and the true boxes."""

    images: tuple[tuple[Sample, Detections, Detections], ...]
    query: Query = QUERY

    def diagnosis(self, mode: Mode = "strict", *, late_after: int = 10, true_boxes: bool = True) -> QueryDiagnosis:
        images = ((people((A, 0)), detections(), detections((A, 1.0))), *self.images)
        truths, found, true = (list(part) for part in zip(*images, strict=True))
        evaluator = SearchEvaluator([self.query], found, truths, mode=mode)
        embedding = np.array([[1, 0]], np.float32)
        ranking, scores = evaluator.ranking(embedding, 0), evaluator.scores(embedding)
        diagnoser = Diagnoser(found, truths, true if true_boxes else None, mode=mode, late_after=late_after)
        result = diagnoser.diagnose(self.query, embedding[0], ranking, int(scores.answers[0]))
        assert result.average_precision == pytest.approx(scores.per_query_ap[0])
        assert sum(result.costs.values()) == pytest.approx(1 - scores.per_query_ap[0])
        assert tuple(result.costs) == COST_KINDS
        return result


EVERY_KIND = Example(
    (
        (people((A, 0)), detections((A, 0.9)), detections((A, 0.9))),
        (people((A, 0), (B, 1)), detections((A, 0.6), (B, 0.95)), detections((A, 0.6), (B, 0.95))),
        (people((A, 0)), detections(), detections((A, 0.8))),
        (people((A, 0)), detections((TOP_OF_A, 0.7)), detections((A, 0.85))),
        (people(), detections((C, 0.65)), detections()),
    )
)


def test_costs_of_every_kind_by_hand() -> None:
    result = EVERY_KIND.diagnosis()
    assert [answer.kind for answer in result.answers] == ["confused", "confused", "missed", "mislocalised"]
    assert [answer.rank for answer in result.answers] == [2, 5, None, None]
    assert [answer.overlap for answer in result.answers] == pytest.approx([1, 1, 0, 0.4])
    # As ranked: person 1, R, top of A, background, R.
    assert result.average_precision == pytest.approx((1 / 2 + 2 / 5) / 4)
    # The missed one is found third; then the misplaced one leaves its place and comes third.
    with_missed, with_both = 1 / 2 + 2 / 3 + 3 / 6, 1 / 2 + 2 / 3 + 3 / 4 + 4 / 6
    assert result.costs["missed"] == pytest.approx((with_missed - 9 / 10) / 4)
    assert result.costs["mislocalised"] == pytest.approx((with_both - with_missed) / 4)
    assert result.costs["confused"] == pytest.approx(1 - with_both / 4)
    # Person 1 stands before all four answers, the background before the last.
    first, second = result.confusers
    assert (first.person_id, first.image, first.row, first.rank, first.detections) == (1, 2, 1, 1, 1)
    assert first.cost == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 6) / 4)
    assert (second.person_id, second.image, second.rank) == (BACKGROUND_ID, 5, 4)
    assert second.cost == pytest.approx(1 / 6 / 4)


def test_an_answer_names_who_stands_before_it() -> None:
    best, last = EVERY_KIND.diagnosis().answers[:2]
    assert best.confuser is not None
    assert (best.wrong_above, best.confuser.person_id, best.confuser.detections) == (1, 1, 1)
    assert best.confuser.cost == pytest.approx(1 / 2 / 4)
    # Person 1, the query's own top half and the background once each: the most similar is named.
    assert last.confuser is not None
    assert (last.wrong_above, last.confuser.person_id, last.confuser.detections) == (3, 1, 1)


def test_without_embeddings_of_true_boxes_repairs_rank_first() -> None:
    result = EVERY_KIND.diagnosis(true_boxes=False)
    # The missed one before everything: 1, 2/3, 3/6; then the misplaced one beside it: 1, 1, 3/4, 4/6.
    assert result.costs["missed"] == pytest.approx((1 + 2 / 3 + 3 / 6 - 9 / 10) / 4)
    assert result.costs["mislocalised"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 6 - 1 - 2 / 3 - 3 / 6) / 4)


def test_a_perfect_ranking_costs_nothing() -> None:
    result = Example(((people((A, 0), (B, 1)), detections((A, 0.9), (B, 0.2)), detections()),)).diagnosis(
        true_boxes=False
    )
    assert [answer.kind for answer in result.answers] == ["right"]
    assert set(result.costs.values()) == {0.0}
    assert result.confusers == ()


def test_a_detection_of_somebody_else_does_not_mislocalise() -> None:
    beside = (24, 0, 64, 100)  # IoU 0.25 with A
    truth = people((A, 0), (beside, 1))
    result = Example(((truth, detections((beside, 0.9)), detections((A, 0.9), (beside, 0.9))),)).diagnosis()
    assert result.answers[0].kind == "missed"
    # Without the neighbour's label it is a badly placed detection of the person.
    result = Example(((people((A, 0)), detections((beside, 0.9)), detections((A, 0.9))),)).diagnosis()
    assert result.answers[0].kind == "mislocalised"
    assert result.answers[0].overlap == pytest.approx(0.25)


def test_second_detection_of_the_person_is_a_confusion_with_oneself() -> None:
    truth = people((A, 0))
    twice = detections((A, 0.9), ((0, 0, 40, 90), 0.8))
    result = Example(
        ((truth, twice, detections((A, 0.9))), (truth, detections((A, 0.5)), detections((A, 0.5))))
    ).diagnosis()
    assert [answer.kind for answer in result.answers] == ["right", "confused"]
    assert result.confusers[0].person_id == 0
    assert result.confusers[0].cost == pytest.approx(1 / 3 / 2)


def crowd(*confusers: int) -> Example:
    """One answer behind one wrong detection of each of these people, 0.9 and down."""
    images = [
        (people((B, one)), detections((B, 0.9 - n / 100)), detections((B, 0.1))) for n, one in enumerate(confusers)
    ]
    return Example(((people((A, 0)), detections((A, 0.3)), detections((A, 0.3))), *images))


@pytest.mark.parametrize(
    ("confusers", "kind", "whom"),
    [
        ((), "right", None),
        ((1, 2, 3), "confused", 1),
        ((2, 1, 1), "confused", 1),
        ((1, 2, 3, 4), "ranked late", 1),
        ((1, 1, 2, 3), "confused", 1),  # half of them are one person
        ((-1, -1, -1, 2), "ranked late", -1),  # people without identity are not one person
    ],
)
def test_ranked_late_is_a_crowd_without_a_leader(confusers: tuple[int, ...], kind: str, whom: int | None) -> None:
    result = crowd(*confusers).diagnosis(late_after=4)
    answer = result.answers[0]
    assert answer.kind == kind
    assert (answer.confuser.person_id if answer.confuser else None) == whom
    lost = len(confusers) / (len(confusers) + 1)
    assert result.costs["ranked late"] == pytest.approx(lost if kind == "ranked late" else 0)
    assert result.costs["confused"] == pytest.approx(lost if kind == "confused" else 0)


def test_equal_similarities_stand_before_the_answer() -> None:
    tied = (people((B, 1)), detections((B, 0.5)), detections((B, 0.5)))
    result = Example(((people((A, 0)), detections((A, 0.5)), detections((A, 0.5))), tied)).diagnosis("compat")
    assert (result.answers[0].kind, result.average_precision) == ("confused", 0.5)


def test_what_compat_counts_twice_is_told_apart() -> None:
    example = Example(((people((A, 0)), detections((A, 0.9)), detections((A, 0.9))),))
    repeated = replace(example, query=Query(0, np.array(A, np.float32), 0, np.array([1, 1])))
    assert repeated.diagnosis("compat").costs["counted twice"] == 0.5
    assert repeated.diagnosis("strict").costs["counted twice"] == 0.0
    assert len(repeated.diagnosis("compat-repeats").answers) == 2


def test_stated_answers_take_the_place_of_labels() -> None:
    # The labels have the person at A; the protocol states B, where nobody was found.
    query = Query(0, np.array(A, np.float32), 0, np.array([1]), np.array([B], np.float32))
    example = Example(((people((A, 0), (B, -1)), detections((A, 0.9)), detections((A, 0.9), (B, 0.4))),), query)
    answer = example.diagnosis("compat").answers[0]
    assert (answer.kind, answer.boxes_xyxy.tolist()) == ("missed", [list(B)])
    assert example.diagnosis("compat").confusers[0].person_id == 0
    assert example.diagnosis("strict").answers[0].kind == "right"


def test_whom_a_detection_shows() -> None:
    truth = people((A, 3), (B, -1), ((180, 0, 400, 100), -2))
    boxes = np.array([A, TOP_OF_A, (0, 0, 40, 8), B, C, (60, 0, 80, 90), (135, 0, 200, 100)], np.float32)
    shown = shown_people(boxes, truth)
    assert shown.person_ids.tolist() == [3, 3, BACKGROUND_ID, -1, -2, BACKGROUND_ID, BACKGROUND_ID]
    assert shown.covers.tolist() == [True, False, False, True, False, False, False]
    nobody = shown_people(boxes, people())
    assert set(nobody.person_ids.tolist()) == {BACKGROUND_ID}
    assert len(shown_people(np.zeros((0, 4), np.float32), truth).person_ids) == 0


def test_a_query_that_was_not_detected_costs_everything() -> None:
    result = not_detected()
    assert (result.average_precision, result.costs["query not detected"], sum(result.costs.values())) == (0, 1, 1)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="late_after is 0"):
        Diagnoser([], [], None, late_after=0)
    with pytest.raises(ValueError, match="detections of 1 images, ground truth of 0"):
        Diagnoser([detections()], [], None)


def random_images(rng: np.random.Generator, count: int) -> list[tuple[Sample, Detections, Detections]]:
    images = []
    for _ in range(count):
        true = rng.integers(0, 5, 4)[:, None] * [40, 0, 40, 0] + [0, 0, 40, 100]
        ids = rng.integers(-2, 3, 4)
        jitter = rng.integers(-25, 26, (4, 1)) * [1, 0, 1, 0]
        kept = rng.random(4) < 0.7
        grid = rng.integers(0, 5, (8, 1)) / 4  # a grid, so that similarities tie
        embeddings = np.concatenate([grid, 1 - grid], axis=1).astype(np.float32)
        sample = Sample(None, true.astype(np.float32), ids, 0, 0, (400, 100))
        found = Detections(
            (true + jitter)[kept].astype(np.float32), np.ones(kept.sum(), np.float32), embeddings[:4][kept]
        )
        own = ids != -2
        boxes = Detections(sample.boxes_xyxy[own], np.ones(own.sum(), np.float32), embeddings[4:][own])
        images.append((sample, found, boxes))
    return images


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from(["strict", "compat", "compat-repeats"]), st.booleans(), st.booleans())
@case(252, "compat", True, True)  # a stated answer in an image whose labels show nobody
def test_costs_add_up_whatever_the_case(seed: int, mode: str, listed: bool, stated: bool) -> None:
    rng = np.random.default_rng(seed)
    images = random_images(rng, 5)
    gallery = rng.integers(1, 6, 6) if listed else None
    answers: FloatArray | None = None
    if listed and stated:
        # Listed, so there is a gallery.
        answers = np.stack([images[image - 1][0].boxes_xyxy[0] for image in gallery[:3]])  # type: ignore[index]
    example = Example(tuple(images), Query(0, np.array(A, np.float32), 0, gallery, answers))
    shows = any((images[i - 1][0].person_ids == 0).any() for i in (range(1, 6) if gallery is None else gallery))
    assume(shows or (mode != "strict" and answers is not None))
    result = example.diagnosis(cast(Mode, mode), late_after=2)
    assert min(result.costs.values()) >= -1e-12
    by_whom = sum(confuser.cost for confuser in result.confusers)
    assert by_whom == pytest.approx(result.costs["confused"] + result.costs["ranked late"], abs=1e-9)
