"""Queries with what an engine ranked first, as pictures."""

from __future__ import annotations

import numpy as np

from personsearch.benchmarks.report import Match, Ranking
from personsearch.benchmarks.report.pictures import crop
from personsearch.benchmarks.systems import SearchSystem
from personsearch.data import Query, SearchDataset
from personsearch.evaluation import SearchEvaluator


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
    evaluator = SearchEvaluator(chosen, found, samples, score_threshold=system.score_threshold)
    scores = evaluator.scores(embeddings)
    rankings = []
    for number, query in enumerate(chosen):
        ranked = evaluator.ranking(embeddings, number, best)
        matches = tuple(
            Match(crop(dataset.frame_bgr(int(image)), found[image].boxes_xyxy[row]), float(similarity), bool(right))
            for image, row, similarity, right in zip(
                ranked.images, ranked.rows, ranked.similarities, ranked.right, strict=True
            )
        )
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
