"""Vectorised figures against slow loops that follow the protocol's wording line by line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.evaluation import detection_scores, search_scores
from personsearch.evaluation import search as search_module

Box = tuple[float, ...]


@dataclass(frozen=True)
class Truth:
    boxes_xyxy: NDArray[np.float32]
    person_ids: NDArray[np.int64]


@dataclass(frozen=True)
class Query:
    image_index: int
    person_id: int
    gallery: tuple[int, ...] | None


# Few, coarse values: equal scores, equal overlaps and equal similarities must come up often.
coordinates = st.integers(0, 4).map(lambda step: 9.0 * step)
sides = st.integers(1, 3).map(lambda step: 9.0 * step)
boxes = st.tuples(coordinates, coordinates, sides, sides).map(lambda b: (*b[:2], b[0] + b[2], b[1] + b[3]))
scores = st.sampled_from([0.25, 0.5, 0.75, 1.0])
vectors = st.tuples(st.integers(-2, 2), st.integers(-2, 2))


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    rows = draw(st.lists(st.tuples(boxes, scores, vectors), max_size=5))
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.float32).reshape(-1, 2),
    )


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    rows = draw(st.lists(st.tuples(boxes, st.sampled_from([0, 1, 2, -1, -2])), max_size=4))
    places = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Truth(places, np.array([row[1] for row in rows], np.int64))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Detections], list[Truth]]:
    count = draw(st.integers(1, 4))
    return [draw(detections()) for _ in range(count)], [draw(truths()) for _ in range(count)]


def overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(a: Box, b: Box) -> float:
    return overlap(a, b) / (area(a) + area(b) - overlap(a, b))


def sklearn_average_precision(labels: list[bool], values: list[float]) -> float:
    """Step-wise area: at each distinct value, precision times the recall it adds."""
    total, area_, recall = sum(labels), 0.0, 0.0
    for value in sorted(set(values), reverse=True):
        kept = [label for label, other in zip(labels, values, strict=True) if other >= value]
        area_ += (sum(kept) / total - recall) * sum(kept) / len(kept)
        recall = sum(kept) / total
    return area_


def slow_detection(
    predictions: list[Detections], images: list[Truth], threshold: float
) -> tuple[float, float, float, int]:
    labels: list[bool] = []
    values: list[float] = []
    people = labelled = labelled_found = 0
    for prediction, image in zip(predictions, images, strict=True):
        rows = zip(image.boxes_xyxy.tolist(), image.person_ids.tolist(), strict=True)
        named = [(tuple(box), person) for box, person in rows]
        persons = [(box, person) for box, person in named if person != -2]
        people += len(persons)
        labelled += sum(person >= 0 for _, person in persons)
        kept = [
            (tuple(box), score)
            for box, score in zip(prediction.boxes_xyxy.tolist(), prediction.scores.tolist(), strict=True)
            if score >= threshold
        ]
        favourites: dict[int, list[int]] = {}
        for number, (box, _) in enumerate(kept):
            overlaps = [iou(box, other) for other, _ in persons]
            if overlaps and max(overlaps) >= 0.5:
                favourites.setdefault(overlaps.index(max(overlaps)), []).append(number)
        right = set()
        for person_number, numbers in favourites.items():
            right.add(max(numbers, key=lambda n: (iou(kept[n][0], persons[person_number][0]), -n)))
            labelled_found += persons[person_number][1] >= 0
        for number, (box, score) in enumerate(kept):
            ignored = any(overlap(box, other) > 0.5 * area(box) for other, person in named if person == -2)
            if number in right or not ignored:
                labels.append(number in right)
                values.append(score)
    recall = sum(labels) / people
    precision = sklearn_average_precision(labels, values) if any(labels) else 0.0
    return recall, precision * recall, labelled_found / labelled if labelled else -1.0, len(labels)


@given(worlds(), scores)
@settings(max_examples=200, deadline=None)
def test_detection_scores_equal_the_slow_loop(world: tuple[list[Detections], list[Truth]], threshold: float) -> None:
    predictions, images = world
    if not any((image.person_ids != -2).any() for image in images):
        with pytest.raises(ValueError, match="no person"):
            detection_scores(predictions, images, score_threshold=threshold)
        return
    fast = detection_scores(predictions, images, score_threshold=threshold)
    labelled = -1.0 if fast.labelled_recall is None else fast.labelled_recall
    slow = slow_detection(predictions, images, threshold)
    assert (fast.recall, fast.average_precision, labelled, fast.detections) == pytest.approx(slow)


def slow_query(
    vector: tuple[float, ...], query: Query, predictions: list[Detections], images: list[Truth], strict: bool
) -> tuple[float, float] | None:
    """AP and rank of the first hit by the protocol's steps, or none where nobody can be found."""
    listed = list(query.gallery) if query.gallery is not None else list(range(len(images)))
    if strict:
        listed = sorted(set(listed))
    if strict or query.gallery is None:
        listed = [image for image in listed if image != query.image_index]
    present, labels, values = 0, [], []
    for position, index in enumerate(listed):
        image, prediction = images[index], predictions[index]
        own = [tuple(box) for box in image.boxes_xyxy[image.person_ids == query.person_id].tolist()]
        present += bool(own)
        if index in listed[:position]:
            continue
        own = own if strict else own[:1]
        likeness = (prediction.embeddings @ np.array(vector)).tolist()
        found = sorted(zip(prediction.boxes_xyxy.tolist(), likeness, strict=True), key=lambda row: -row[1])
        hit = False
        for box, value in found:
            covers = False
            for other in own:
                width, height = other[2] - other[0], other[3] - other[1]
                covers |= iou(tuple(box), other) >= min(0.5, width * height / ((width + 10) * (height + 10)))
            labels.append(covers and not hit)
            hit |= covers
            values.append(value)
    if not present:
        return None
    if not any(labels):
        return 0.0, np.inf
    average_precision = sklearn_average_precision(labels, values) * sum(labels) / present
    best = max(value for value, label in zip(values, labels, strict=True) if label)
    rank = 1 + sum(value >= best and not label for value, label in zip(values, labels, strict=True))
    return average_precision, rank


@given(worlds(), st.data(), st.booleans(), st.integers(1, 40))
@settings(max_examples=250, deadline=None)
def test_search_scores_equal_the_slow_loop(
    world: tuple[list[Detections], list[Truth]], data: st.DataObject, strict: bool, block_values: int
) -> None:
    predictions, images = world
    indices = st.integers(0, len(images) - 1)
    galleries = st.none() | st.lists(indices, min_size=1, max_size=5).map(tuple)
    one_query = st.builds(Query, indices, st.integers(0, 2), galleries)
    queries = data.draw(st.lists(one_query, min_size=1, max_size=4))
    looks = data.draw(st.lists(vectors, min_size=len(queries), max_size=len(queries)))
    pairs = zip(looks, queries, strict=True)
    slow = [slow_query(look, query, predictions, images, strict) for look, query in pairs]

    def run() -> search_module.SearchScores:
        return search_scores(
            np.array(looks, np.float32),
            queries,
            predictions,
            images,
            score_threshold=0.0,
            top_k=(1, 2, 5),
            strict=strict,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "BLOCK_VALUES", block_values)  # blocks of one to all queries
        if not any(slow):
            with pytest.raises(ValueError, match="queries has its person"):
                run()
            return
        fast = run()
    expected = [row for row in slow if row is not None]
    each = [np.nan if row is None else row[0] for row in slow]
    assert fast.per_query_ap == pytest.approx(each, nan_ok=True)
    assert fast.mean_ap == pytest.approx(np.mean([row[0] for row in expected]))
    for k, share in fast.top.items():
        assert share == pytest.approx(np.mean([row[1] <= k for row in expected]))


@given(worlds(), st.permutations([0, 1, 2, 3, 4]))
@settings(max_examples=100, deadline=None)
def test_order_of_detections_does_not_matter_to_search(
    world: tuple[list[Detections], list[Truth]], order: list[int]
) -> None:
    predictions, images = world
    if not (images[0].person_ids == 0).any():
        return
    shuffled = [one[np.array([i for i in order if i < len(one)], dtype=np.int64)] for one in predictions]
    look, query = np.array([[2, 1]], np.float32), Query(0, 0, tuple(range(len(images))))
    results = [
        search_scores(look, [query], found, images, score_threshold=0.0, strict=False).per_query_ap
        for found in (predictions, shuffled)
    ]
    assert results[0] == pytest.approx(results[1])
