"""Search by a network that is shown the query: each pair of query and image has detections and similarities of its own.

`unfold` makes of it a search as any other: each query gets its own copy of the images it searches, with what was found
there for it, and a detection's one-dimensional "embedding" is its similarity. So the same evaluator ranks and counts,
in every mode, and a network that ignores the query gets the figures that it gets without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.core.detections import Detections, FloatArray, GuidedDetections
from personsearch.evaluation.truth import Indices, LabelledImage, SearchQuery


@dataclass(frozen=True, eq=False)
class UnfoldedQuery:
    """A `SearchQuery` whose images are its own copies."""

    image_index: int
    person_id: int
    gallery: Indices
    answers_xyxy: FloatArray | None


@dataclass(frozen=True, eq=False)
class UnfoldedSearch:
    """What `SearchEvaluator` takes.

    Attributes:
        queries: ``(Q,)``.
        predictions: of the copies of the images, query by query.
        truths: of the same.
        query_embeddings: ``(Q, 1)`` ones.
    """

    queries: list[UnfoldedQuery]
    predictions: list[Detections]
    truths: list[LabelledImage]
    query_embeddings: FloatArray


def searched_images(query: SearchQuery, image_count: int) -> Indices:
    """The images that a query has to be shown with, ascending and each once: its gallery, or all but its own.

    A query's own image, where its gallery lists it, is among them: whether it counts is up to the mode.
    """
    if query.gallery is None:
        return np.delete(np.arange(image_count), query.image_index)
    return np.unique(np.asarray(query.gallery, np.int64))


def unfold(
    queries: Sequence[SearchQuery],
    found: Sequence[Mapping[int, GuidedDetections]],
    truths: Sequence[LabelledImage],
) -> UnfoldedSearch:
    """A search in which every query has its own images.

    Args:
        queries: ``(Q,)``; ``image_index`` and ``gallery`` index ``truths``.
        found: for each query, by image, what was found for it; every image of `searched_images` is there.
        truths: boxes and person ids of each image.

    Raises:
        ValueError: the lengths differ, or an image that a query searches is missing.
    """
    if len(found) != len(queries):
        raise ValueError(f"detections for {len(found)} queries, expected {len(queries)}")
    unfolded: list[UnfoldedQuery] = []
    predictions: list[Detections] = []
    copies: list[LabelledImage] = []
    for number, (query, own) in enumerate(zip(queries, found, strict=True)):
        searched = searched_images(query, len(truths))
        missing = [image for image in searched.tolist() if image not in own]
        if missing:
            raise ValueError(f"query {number} searches image {missing[0]}, nothing was looked for there")
        images = np.union1d(searched, [query.image_index])
        place = np.full(len(truths), -1)
        place[images] = len(copies) + np.arange(len(images))
        listed = searched if query.gallery is None else np.asarray(query.gallery, np.int64)
        unfolded.append(
            UnfoldedQuery(int(place[query.image_index]), query.person_id, place[listed], query.answers_xyxy)
        )
        copies += [truths[image] for image in images]
        predictions += [_with_similarities(own.get(int(image))) for image in images]
    return UnfoldedSearch(unfolded, predictions, copies, np.ones((len(queries), 1), np.float32))


def _with_similarities(found: GuidedDetections | None) -> Detections:
    if found is None:  # the query's own image, which it does not search
        return Detections.empty(1)
    people = found.detections
    return Detections(people.boxes_xyxy, people.scores, found.similarities[:, None])
