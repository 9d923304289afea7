"""Search by pairs: the same figures as a plain search where the query changes nothing, and its own where it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from test_evaluation_search import A, B, Query, Truth, found, truth

from personsearch.core.detections import Detections, GuidedDetections
from personsearch.evaluation import SearchEvaluator, SearchScores
from personsearch.evaluation.pairwise import searched_images, unfold

MODES = ("strict", "compat", "compat-repeats")


def guided(predictions: Detections, similarities: np.ndarray[Any, Any]) -> GuidedDetections:
    return GuidedDetections(predictions, similarities)


def pairwise(
    queries: list[Query], pairs: list[dict[int, GuidedDetections]], truths: list[Truth], **options: Any
) -> SearchScores:
    search = unfold(queries, pairs, truths)
    evaluator = SearchEvaluator(search.queries, search.predictions, search.truths, **options)
    return evaluator.scores(search.query_embeddings)


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[Query], list[Detections], list[Truth], np.random.Generator]:
    """Images of people 0 to 2 at two places, detections of them, and queries with and without galleries."""
    images = draw(st.integers(3, 6))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    truths, predictions = [], []
    for _ in range(images):
        people = rng.permutation(3)[:2]
        truths.append(truth((A, int(people[0])), (B, int(people[1]))))
        boxes = np.array([A, B], np.float32)[rng.random(2) < 0.8]
        embeddings = rng.normal(size=(len(boxes), 4)).astype(np.float32)
        predictions.append(Detections(boxes, rng.choice([0.4, 0.6, 0.9], len(boxes)).astype(np.float32), embeddings))
    queries = [Query(0, int(truths[0].person_ids[0]))]  # one at least that finds everybody
    for _ in range(draw(st.integers(0, 3))):
        gallery = draw(st.none() | st.lists(st.integers(0, images - 1), min_size=1, max_size=5).map(tuple))
        queries.append(Query(draw(st.integers(0, images - 1)), draw(st.integers(0, 2)), gallery))
    return queries, predictions, truths, rng


@settings(max_examples=40)
@given(searches(), st.sampled_from(MODES), st.booleans())
def test_a_network_that_ignores_the_query_gets_the_plain_figures(search: Any, mode: str, cws: bool) -> None:
    queries, predictions, truths, rng = search
    asked = rng.normal(size=(len(queries), 4)).astype(np.float32)
    plain = SearchEvaluator(queries, predictions, truths, mode=mode, weight_by_score=cws)
    try:
        expected = plain.scores(asked)
    except ValueError:  # nobody who is asked for is in a gallery
        reject()
    pairs = [
        {int(image): guided(predictions[image], predictions[image].embeddings @ asked[number]) for image in images}
        for number, images in enumerate(searched_images(query, len(truths)) for query in queries)
    ]
    result = pairwise(queries, pairs, truths, mode=mode, weight_by_score=cws)
    assert result.mean_ap == pytest.approx(expected.mean_ap)
    assert result.top == expected.top
    np.testing.assert_allclose(result.per_query_ap, expected.per_query_ap)
    np.testing.assert_array_equal(result.answers, expected.answers)
    assert result.gallery_detections == expected.gallery_detections


def test_each_query_ranks_what_was_found_for_it() -> None:
    # Person 7 is searched from image 0, person 3 from image 1; image 2 shows both, image 3 person 3 alone.
    truths = [truth((A, 7)), truth((A, 3)), truth((A, 7), (B, 3)), truth((A, 3))]
    queries = [Query(0, 7, (2, 3)), Query(1, 3, (2, 3))]
    nobody = guided(Detections.empty(0), np.zeros(0))

    def people(*rows: tuple[tuple[float, ...], float]) -> GuidedDetections:
        one = found(*rows)
        return guided(Detections(one.boxes_xyxy, one.scores, np.zeros((len(one), 0), np.float32)), one.embeddings[:, 0])

    pairs = [
        {2: people((A, 0.9)), 3: people((A, 0.1))},  # for 7: the right one first
        {2: people((A, 0.8), (B, 0.3)), 3: nobody},  # for 3: at rank 2, and missed in image 3
    ]
    result = pairwise(queries, pairs, truths)
    assert result.per_query_ap.tolist() == pytest.approx([1.0, 0.25])
    assert result.first_hit_rank.tolist() == [1, 2]
    assert result.gallery_detections == 2


def test_every_searched_image_has_to_be_there() -> None:
    truths = [truth((A, 7)), truth((A, 7))]
    with pytest.raises(ValueError, match="query 0 searches image 1, nothing was looked for there"):
        unfold([Query(0, 7)], [{}], truths)
    with pytest.raises(ValueError, match="detections for 0 queries, expected 1"):
        unfold([Query(0, 7)], [], truths)
    with pytest.raises(ValueError, match="similarities has shape"):
        GuidedDetections(Detections.empty(2), np.zeros(1))
    assert searched_images(Query(1, 7, (3, 0, 3)), 4).tolist() == [0, 3]
    assert searched_images(Query(1, 7), 4).tolist() == [0, 2, 3]
