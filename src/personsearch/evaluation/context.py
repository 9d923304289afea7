"""Context bipartite graph matching: people who stand around the query speak for an image that shows them too.

Li and Miao, "Sequential End-to-end Network for Efficient Person Search", AAAI 2021, section 3.4, as their code has it:
for the images of the ``images`` most similar detections, the ``people`` most certain people of the query's image (the
query itself first) are matched one to one with the image's detections so that the similarities sum highest, and the
detection that the query gets takes over the largest single similarity of the matching. The paper's text does not say
that the largest is taken; the code does, with sum and mean commented out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import box_iou
from personsearch.evaluation.answers import DetectionTable
from personsearch.evaluation.truth import BoxedQuery, Indices

SAME_PERSON_IOU = 0.5
"""A detection in the query's image that overlaps the query more than this is the query, not its company."""


@dataclass(frozen=True, eq=False)
class QueryContext:
    """What context bipartite graph matching needs; changes figures, so that every record states it.

    Attributes:
        images: k1, the number of most similar detections whose images are looked at; the authors take 10 on
            CUHK-SYSU and 30 on PRW.
        people: k2, the number of people of the query's image, the query included; the authors take 3 and 4.
        company: for each query ``(K, D)`` embeddings of the others in its image, most certain first.
    """

    images: int
    people: int
    company: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        if self.images < 1 or self.people < 1:
            raise ValueError(f"context matching of {self.images} images and {self.people} people, expected 1 or more")


def query_context(
    queries: Sequence[BoxedQuery],
    predictions: Sequence[Detections],
    *,
    images: int,
    people: int,
    score_threshold: float,
) -> QueryContext:
    """Looks up who stands around each query.

    Args:
        queries: with their boxes.
        predictions: detections of each image, before any weighting.
        images: k1 of `QueryContext`.
        people: k2 of `QueryContext`.
        score_threshold: detections below it are nobody's company.
    """
    company = []
    for query in queries:
        found = predictions[query.image_index].above(score_threshold)
        overlap = box_iou(found.boxes_xyxy, np.asarray(query.box_xyxy, np.float32)[None])[:, 0]
        others = np.flatnonzero(overlap <= SAME_PERSON_IOU)
        others = others[np.argsort(-found.scores[others], kind="stable")]
        company.append(found.embeddings[others[: max(0, people - 1)]])
    return QueryContext(images, people, tuple(company))


def revise(
    row: FloatArray,
    ranked: Indices,
    number: int,
    query_embedding: FloatArray,
    table: DetectionTable,
    context: QueryContext,
    weights: FloatArray | None,
) -> None:
    """Revises one query's similarities in place.

    Args:
        row: ``(N,)`` similarities with all detections of the table.
        ranked: rows that are part of the query's gallery.
        number: of the query.
        query_embedding: ``(D,)``.
        table: the detections.
        context: see `QueryContext`.
        weights: ``(N,)`` factors of the gallery's embeddings; none where all are 1.
    """
    people = np.concatenate([query_embedding[None], context.company[number][: context.people - 1]])
    for image in np.unique(table.images_of(_best(row, ranked, context.images))):
        rows = slice(int(table.offsets[image]), int(table.offsets[image + 1]))
        likeness = people @ table.embeddings[rows].T  # (k2, n)
        if weights is not None:
            likeness *= weights[rows]
        matched_people, matched_rows = _assign(likeness)
        if matched_people[0] == 0:  # the query may go without a partner where the image shows fewer people
            row[rows.start + matched_rows[0]] = likeness[matched_people, matched_rows].max()


def _best(row: FloatArray, ranked: Indices, count: int) -> Indices:
    """The ``count`` most similar of the ranked rows; the later ones of those that tie for the last place."""
    if count >= len(ranked):
        return ranked
    values = row[ranked]
    last = np.partition(values, len(values) - count)[len(values) - count]
    high = np.flatnonzero(values >= last)
    kept: Indices = ranked[high[np.argsort(values[high], kind="stable")[-count:]]]
    return kept


def _assign(likeness: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Imported here: evaluation does without SciPy unless this option is asked for (docs/adr/0008).
    from scipy.optimize import linear_sum_assignment

    people, rows = linear_sum_assignment(likeness, maximize=True)
    return people, rows
