"""Queries with what an engine ranked first, as pictures."""

from __future__ import annotations

import numpy as np

from personsearch.benchmarks.report import Match, Ranking
from personsearch.benchmarks.report.pictures import crop
from personsearch.benchmarks.systems import SearchSystem
from personsearch.core.detections import Detections
from personsearch.core.geometry import box_iou
from personsearch.core.similarity import cosine_similarity
from personsearch.data import Query, Sample, SearchDataset
from personsearch.evaluation import search_scores
from personsearch.evaluation.search import relaxed_iou_threshold


def rank_people(system: SearchSystem, dataset: SearchDataset, *, queries: int, best: int = 8) -> tuple[Ranking, ...]:
    """Evenly spaced queries of different people, each with its ``best`` matches, whatever the outcome.

    Raises:
        InputError: a frame cannot be read.
    """
    chosen = _one_a_person(dataset.queries, queries)
    samples = [dataset[index] for index in range(len(dataset))]
    found = [system.infer([dataset.frame_bgr(index)])[0].above(system.score_threshold) for index in range(len(dataset))]
    embeddings = np.concatenate(
        [system.embed(dataset.frame_bgr(query.image_index), query.box_xyxy[None]) for query in chosen]
    )
    scores = search_scores(embeddings, chosen, found, samples, score_threshold=system.score_threshold)
    rankings = []
    for number, query in enumerate(chosen):
        matches = _best_matches(embeddings[number], query, found, samples, dataset, best)
        picture = crop(dataset.frame_bgr(query.image_index), query.box_xyxy)
        title = f"Person {query.person_id}, camera {samples[query.image_index].camera_id}"
        precision = float(np.nan_to_num(scores.per_query_ap[number]))
        rankings.append(Ranking(picture, title, precision, matches))
    return tuple(rankings)


def _one_a_person(queries: tuple[Query, ...], count: int) -> list[Query]:
    first: dict[int, Query] = {}
    for query in queries:
        first.setdefault(query.person_id, query)
    people = list(first.values())
    return [people[int(i)] for i in np.unique(np.linspace(0, len(people) - 1, min(count, len(people))).round())]


def _best_matches(
    embedding: np.ndarray,
    query: Query,
    found: list[Detections],
    samples: list[Sample],
    dataset: SearchDataset,
    best: int,
) -> tuple[Match, ...]:
    gallery = range(len(found)) if query.gallery is None else dict.fromkeys(query.gallery)
    searched = [image for image in gallery if image != query.image_index]
    ranked = []
    for image in searched:
        similarities = cosine_similarity(embedding[None], found[image].embeddings)[0]
        right = _right_row(found[image], similarities, samples[image], query.person_id)
        ranked += [(float(value), image, row, row == right) for row, value in enumerate(similarities)]
    ranked.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    return tuple(
        Match(crop(dataset.frame_bgr(image), found[image].boxes_xyxy[row]), similarity, right)
        for similarity, image, row, right in ranked[:best]
    )


def _right_row(detections: Detections, similarities: np.ndarray, sample: Sample, person_id: int) -> int:
    """The one detection of an image that the protocol counts as right (see `search_scores`), or -1."""
    boxes = sample.boxes_xyxy[sample.person_ids == person_id]
    covers = (box_iou(detections.boxes_xyxy, boxes) >= relaxed_iou_threshold(boxes)).any(axis=1)
    rows = np.flatnonzero(covers)
    return int(rows[np.argmax(similarities[rows])]) if len(rows) else -1
