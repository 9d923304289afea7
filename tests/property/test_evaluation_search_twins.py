"""Search figures of every mode against slow loops: one for what is right, one that goes the public evaluators' way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.evaluation import Mode, SearchEvaluator, SearchScores, search_scores
from personsearch.evaluation import answers as answers_module
from personsearch.evaluation import search as search_module

Box = tuple[float, ...]
Outcome = tuple[float, float]


@dataclass(frozen=True)
class Truth:
    boxes_xyxy: NDArray[np.float32]
    person_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Query:
    image_index: int
    person_id: int
    gallery: NDArray[np.int64] | None
    answers_xyxy: NDArray[np.float32] | None = None


World = tuple[list[Detections], list[Truth]]

# Few, coarse values: equal overlaps and equal similarities must come up often.
coordinates = st.integers(0, 4).map(lambda step: 9.0 * step)
sides = st.integers(1, 3).map(lambda step: 9.0 * step)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: (*b[:2], b[0] + b[2], b[1] + b[3]))
scores = st.sampled_from([0.25, 0.5, 1.0])
vectors = st.tuples(st.integers(-2, 2), st.integers(-2, 2))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    predictions, truths = [], []
    for _ in range(draw(st.integers(1, 4))):
        found = draw(st.lists(st.tuples(boxes, scores, vectors), max_size=5))
        there = draw(st.lists(st.tuples(boxes, st.sampled_from([0, 1, 2, -1, -2])), max_size=4))
        predictions.append(
            Detections(
                np.array([row[0] for row in found], np.float32).reshape(-1, 4),
                np.array([row[1] for row in found], np.float32),
                np.array([row[2] for row in found], np.float32).reshape(-1, 2),
            )
        )
        places = np.array([row[0] for row in there], np.float32).reshape(-1, 4)
        truths.append(Truth(places, np.array([row[1] for row in there], np.int64)))
    return predictions, truths


@st.composite
def queries_of(draw: st.DrawFn, images: int) -> Query:
    index = st.integers(0, images - 1)
    own, person = draw(index), draw(st.integers(0, 2))
    listed = draw(st.none() | st.lists(index, min_size=1, max_size=6))
    if listed is None:
        return Query(own, person, None)
    stated = draw(st.none() | st.lists(boxes, min_size=1, max_size=len(listed)))
    return Query(own, person, np.array(listed), None if stated is None else np.array(stated, np.float32))


def iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def meets(found: Box, true: Box) -> bool:
    width, height = true[2] - true[0], true[3] - true[1]
    return iou(found, true) >= min(0.5, width * height / ((width + 10) * (height + 10)))


def sklearn_average_precision(labels: list[bool], values: list[float]) -> float:
    """Step-wise area: at each distinct value, precision times the recall it adds."""
    total, area, recall = sum(labels), 0.0, 0.0
    for value in sorted(set(values), reverse=True):
        kept = [label for label, other in zip(labels, values, strict=True) if other >= value]
        area += (sum(kept) / total - recall) * sum(kept) / len(kept)
        recall = sum(kept) / total
    return area


def people(image: Truth, person: int) -> list[Box]:
    return [tuple(box) for box in image.boxes_xyxy[image.person_ids == person].tolist()]


def likeness(one: Detections, look: Box, weigh: bool) -> NDArray[np.float64]:
    values: NDArray[np.float64] = one.embeddings.astype(float) @ np.array(look, float)
    return values * one.scores if weigh else values


def strict_query(look: Box, query: Query, world: World, weigh: bool) -> Outcome | None:
    """What is right: every image once, never the query's own, either box of a person who stands there twice."""
    predictions, images = world
    listed = range(len(images)) if query.gallery is None else sorted(set(query.gallery.tolist()))
    present, labels, values = 0, [], []
    for index in listed:
        if index == query.image_index:
            continue
        true = people(images[index], query.person_id)
        present += bool(true)
        one = predictions[index]
        found = zip(one.boxes_xyxy.tolist(), likeness(one, look, weigh).tolist(), strict=True)
        hit = False
        for box, value in sorted(found, key=lambda row: -row[1]):
            covers = any(meets(tuple(box), other) for other in true)
            labels.append(covers and not hit)
            values.append(value)
            hit |= covers
    if not present:
        return None
    if not any(labels):
        return 0.0, np.inf
    average_precision = sklearn_average_precision(labels, values) * sum(labels) / present
    best = max(value for value, label in zip(values, labels, strict=True) if label)
    return average_precision, 1 + sum(v >= best and not right for v, right in zip(values, labels, strict=True))


def public_query(look: Box, query: Query, world: World, weigh: bool, skip_repeats: bool) -> Outcome | None:
    """The public evaluators' steps in their order, their sorts taken as stable ones."""
    predictions, images = world
    gallery: list[tuple[int, Box | None]]
    if query.gallery is None:
        others = [index for index in range(len(images)) if index != query.image_index]
        gallery = [(index, next(iter(people(images[index], query.person_id)), None)) for index in others]
    elif query.answers_xyxy is None:
        gallery = [(index, next(iter(people(images[index], query.person_id)), None)) for index in query.gallery]
    else:
        stated: list[Box | None] = [tuple(box) for box in query.answers_xyxy.tolist()]
        stated += [None] * (len(query.gallery) - len(stated))
        gallery = list(zip(query.gallery.tolist(), stated, strict=True))
    count_gt = count_tp = 0
    seen, y_true, y_score = set(), [], []
    for index, gt in gallery:
        count_gt += gt is not None
        one = predictions[index]
        if not len(one) or (skip_repeats and index in seen):
            continue
        seen.add(index)
        sim, det = likeness(one, look, weigh), one.boxes_xyxy
        label = [False] * len(sim)
        if gt is not None:
            order = np.argsort(sim, kind="stable")[::-1]
            sim, det = sim[order], det[order]
            for position, box in enumerate(det.tolist()):
                if meets(tuple(box), gt):
                    label[position] = True
                    count_tp += 1
                    break
        y_true += label
        y_score += sim.tolist()
    if not count_gt:
        return None
    if not count_tp:
        return 0.0, np.inf
    ranked = np.array(y_true)[np.argsort(y_score, kind="stable")[::-1]]
    return sklearn_average_precision(y_true, y_score) * count_tp / count_gt, float(np.argmax(ranked)) + 1


def slow(mode: Mode, look: Box, query: Query, world: World, weigh: bool) -> Outcome | None:
    if mode == "strict":
        return strict_query(look, query, world, weigh)
    return public_query(look, query, world, weigh, skip_repeats=mode == "compat")


modes = st.sampled_from(["strict", "compat", "compat-repeats"])


@given(worlds(), st.data(), modes, st.booleans(), st.integers(1, 40))
@settings(max_examples=500)
def test_search_equals_the_slow_loop(
    world: World, data: st.DataObject, mode: Mode, weigh: bool, block_size: int
) -> None:
    predictions, images = world
    queries = data.draw(st.lists(queries_of(len(images)), min_size=1, max_size=4))
    looks = data.draw(st.lists(vectors, min_size=len(queries), max_size=len(queries)))
    expected = [slow(mode, look, query, world, weigh) for look, query in zip(looks, queries, strict=True)]

    def run() -> SearchScores:
        evaluator = SearchEvaluator(queries, predictions, images, score_threshold=0.0, mode=mode, weight_by_score=weigh)
        return evaluator.scores(np.array(looks, np.float32), top_k=(1, 2, 5))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "BLOCK_VALUES", block_size)  # blocks of one to all queries
        patch.setattr(answers_module, "PAIR_BLOCK", block_size)
        if not any(expected):
            with pytest.raises(ValueError, match="queries has its person"):
                run()
            return
        fast = run()
    counted = [row for row in expected if row is not None]
    assert fast.per_query_ap == pytest.approx([np.nan if row is None else row[0] for row in expected], nan_ok=True)
    assert fast.first_hit_rank.tolist() == [np.inf if row is None else row[1] for row in expected]
    assert fast.mean_ap == pytest.approx(np.mean([row[0] for row in counted]))
    for k, share in fast.top.items():
        assert share == pytest.approx(np.mean([row[1] <= k for row in counted]))


@given(worlds(), st.data(), modes)
@settings(max_examples=200)
def test_a_written_ranking_agrees_with_the_figures(world: World, data: st.DataObject, mode: Mode) -> None:
    predictions, images = world
    query = data.draw(queries_of(len(images)))
    look = np.array([data.draw(vectors)], np.float32)
    evaluator = SearchEvaluator([query], predictions, images, score_threshold=0.5, mode=mode)
    ranking = evaluator.ranking(look, 0)
    assert ranking.similarities.tolist() == sorted(ranking.similarities.tolist(), reverse=True)
    for image, row, similarity in zip(ranking.images, ranking.rows, ranking.similarities, strict=True):
        assert predictions[image].scores[row] >= 0.5  # rows count from the detections as they were given
        assert predictions[image].embeddings[row] @ look[0] == similarity
    assert ranking.right.sum() == np.isfinite(ranking.answer_ranks).sum()
    if len(ranking.answer_images):
        scores = evaluator.scores(look)
        assert scores.first_hit_rank[0] == ranking.answer_ranks.min()
        labels = ranking.right.tolist()
        expected = sklearn_average_precision(labels, ranking.similarities.tolist()) if any(labels) else 0.0
        assert scores.per_query_ap[0] == pytest.approx(expected * sum(labels) / scores.answers[0])
    short = evaluator.ranking(look, 0, limit=2)
    assert short.rows.tolist() == ranking.rows[:2].tolist()
    assert short.answer_ranks.tolist() == ranking.answer_ranks.tolist()


@given(worlds(), st.permutations([0, 1, 2, 3, 4]))
@settings(max_examples=100)
def test_order_of_detections_does_not_matter_to_average_precision(world: World, order: list[int]) -> None:
    predictions, images = world
    if not (images[0].person_ids == 0).any():
        return
    shuffled = [one[np.array([i for i in order if i < len(one)], dtype=np.int64)] for one in predictions]
    look, query = np.array([[2, 1]], np.float32), Query(0, 0, np.arange(len(images)))
    results = [
        search_scores(look, [query], found, images, score_threshold=0.0, mode="compat").per_query_ap
        for found in (predictions, shuffled)
    ]
    assert results[0] == pytest.approx(results[1])


TEST_G100 = Path(os.environ.get("PERSON_SEARCH_DATA", "absent")) / "cuhk-sysu" / "TestG100.mat"
REPEATED = (1250, 1633, 1997, 2561)
OWN_IMAGE = (493, 2132)


def published_queries() -> tuple[list[Query], int]:
    """The queries of CUHK-SYSU's TestG100.mat with their galleries and stated boxes, and the number of images."""
    from scipy.io import loadmat

    number_of: dict[str, int] = {}
    queries = []
    for person, row in enumerate(loadmat(TEST_G100)["TestG100"].squeeze()):
        own = str(row["Query"]["imname"][0, 0][0])
        listed, stated = [], []
        for name, box, _ in row["Gallery"].squeeze():
            listed.append(number_of.setdefault(str(name[0]), len(number_of)))
            if box.size:
                x, y, width, height = box[0].astype(int).tolist()
                stated.append([x, y, x + width, y + height])
        queries.append(
            Query(number_of.setdefault(own, len(number_of)), person, np.array(listed), np.array(stated, np.float32))
        )
    return queries, len(number_of)


@pytest.mark.skipif(not TEST_G100.is_file(), reason="PERSON_SEARCH_DATA names no folder with cuhk-sysu/TestG100.mat")
def test_compat_equals_the_public_loop_on_the_published_protocol() -> None:
    queries, count = published_queries()
    rng = np.random.default_rng(0)
    boxes: list[list[NDArray[np.float32]]] = [[] for _ in range(count)]
    for query in queries:
        assert query.gallery is not None
        assert query.answers_xyxy is not None
        for image, box in zip(query.gallery, query.answers_xyxy, strict=False):
            boxes[image].append(box + rng.uniform(-15, 15, 4).astype(np.float32))
    predictions = []
    for rows in boxes:
        others = rng.uniform(0, 300, (4, 2)).astype(np.float32)
        places = np.array([*rows, *np.concatenate([others, others + 60], axis=1)], np.float32)
        kept = places[rng.random(len(places)) < 0.8]
        looks = rng.integers(-9, 10, (len(kept), 4)).astype(np.float32)  # whole numbers: ties, and exact sums
        predictions.append(Detections(kept, np.ones(len(kept), np.float32), looks))
    truths = [Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)) for _ in range(count)]
    asked = rng.integers(-9, 10, (len(queries), 4)).astype(np.float32)
    chosen = [*REPEATED, *OWN_IMAGE, *range(0, len(queries), 200)]
    figures = []
    for mode in ("compat", "compat-repeats"):
        fast = search_scores(asked, queries, predictions, truths, mode=mode)
        assert fast.queries == 2900
        for number in chosen:
            world = (predictions, truths)
            expected = slow(mode, tuple(asked[number].tolist()), queries[number], world, weigh=False)
            assert (fast.per_query_ap[number], fast.first_hit_rank[number]) == pytest.approx(expected, abs=1e-9)
        figures.append(fast)
    differ = np.flatnonzero(figures[0].per_query_ap != figures[1].per_query_ap)
    assert set(differ.tolist()) <= set(REPEATED)
    assert figures[0].answers.min() == 1
    assert figures[0].answers.max() == 13
    assert figures[0].gallery_images == pytest.approx(100 - len(REPEATED) / 2900)
