"""Detection figures against slow loops that follow the protocol's wording line by line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.evaluation import Mode, detection_scores

Box = tuple[float, ...]


@dataclass(frozen=True)
class Truth:
    boxes_xyxy: NDArray[np.float32]
    person_ids: NDArray[np.int64]


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
    """The strict rule: a person chooses among the detections that overlap no one else more."""
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


def public_detection(
    predictions: list[Detections], images: list[Truth], threshold: float, labelled_only: bool
) -> tuple[float, float, int]:
    """The public evaluators' rule, with their table of matches: recall, AP times recall, detections."""
    labels: list[bool] = []
    values: list[float] = []
    people = found = 0
    for prediction, image in zip(predictions, images, strict=True):
        allowed = [0, 1, 2] if labelled_only else [0, 1, 2, -1]
        persons = [tuple(box) for box in image.boxes_xyxy[np.isin(image.person_ids, allowed)].tolist()]
        if labelled_only and not persons:
            continue
        people += len(persons)
        rows = zip(prediction.boxes_xyxy.tolist(), prediction.scores.tolist(), strict=True)
        kept = [(tuple(box), score) for box, score in rows if score >= threshold]
        if not kept:
            continue
        table = np.array([[iou(person, box) for box, _ in kept] for person in persons]).reshape(-1, len(kept))
        match = table >= 0.5
        for j in range(len(kept)):
            for i in range(len(persons)):
                if i != table[:, j].argmax() or j != table[i].argmax():
                    match[i, j] = False
        labels += [bool(column.any()) for column in match.T]
        values += [score for _, score in kept]
        found += int(match.sum())
    if not people:
        return -1.0, -1.0, len(values)
    return found / people, sklearn_average_precision(labels, values) * found / people if found else 0.0, len(values)


@given(worlds(), scores, st.sampled_from(["compat", "compat-repeats"]))
@settings(max_examples=150)
def test_compat_detection_equals_the_public_loop(
    world: tuple[list[Detections], list[Truth]], threshold: float, mode: Mode
) -> None:
    predictions, images = world
    if not any((image.person_ids != -2).any() for image in images):
        return
    fast = detection_scores(predictions, images, score_threshold=threshold, mode=mode)
    assert (fast.recall, fast.average_precision, fast.detections) == pytest.approx(
        public_detection(predictions, images, threshold, labelled_only=False)
    )
    labelled = -1.0 if fast.labelled_recall is None else fast.labelled_recall
    assert labelled == pytest.approx(public_detection(predictions, images, threshold, labelled_only=True)[0])


@given(worlds(), scores)
@settings(max_examples=200)
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
