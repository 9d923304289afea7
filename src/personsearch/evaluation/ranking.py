"""The order in which a query ranks its gallery, and the figures that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.evaluation.answers import DetectionTable
from personsearch.evaluation.plan import SearchPlan
from personsearch.evaluation.truth import Indices


@dataclass(frozen=True, eq=False)
class QueryRanking:
    """One query's ranking, best first.

    Attributes:
        images: ``(K,)`` image of each detection.
        rows: ``(K,)`` its row in the detections of that image as they were given to the evaluator.
        similarities: ``(K,)``, options applied.
        right: ``(K,)`` whether it is the one right detection of its image.
        answer_images: ``(M,)`` images of the gallery that show the person.
        answer_ranks: ``(M,)`` rank of the right detection in each, from 1 and whatever the limit; infinite where no
            detection lies on the person.
    """

    images: Indices
    rows: Indices
    similarities: FloatArray
    right: NDArray[np.bool_]
    answer_images: Indices
    answer_ranks: NDArray[np.float64]


def average_precision(values: FloatArray, right: FloatArray, answers: int) -> float:
    """Sum over right values of the precision among all that is as high, divided by the number of answers.

    Equal to scikit-learn's ``average_precision_score`` times recall.

    Args:
        values: ``(R,)`` all similarities, the right ones included.
        right: ``(T,)`` those of the right detections, at least one.
        answers: how many there are to be found, at least T.
    """
    high = np.sort(values[values >= right.min()])
    right = np.sort(right)
    at_least = len(high) - np.searchsorted(high, right, side="left")
    right_at_least = len(right) - np.searchsorted(right, right, side="left")
    return float((right_at_least / at_least).sum() / answers)


def first_hit_rank(
    row: FloatArray,
    values: FloatArray,
    right: FloatArray,
    plan: SearchPlan,
    table: DetectionTable,
    *,
    late_first: bool,
) -> float:
    """Rank of the first right detection, from 1.

    Args:
        row: ``(N,)`` similarities with all detections.
        values: those that are ranked.
        right: ``(T,)`` the best similarity of each entry of ``plan.entries``.
        plan: of the query.
        table: the detections.
        late_first: see `rules.SearchRules`.
    """
    best = right.max()
    at_least = int(np.count_nonzero(values >= best))
    tied_right = int(np.count_nonzero(right == best))
    if not late_first:
        return float(at_least - tied_right + 1)
    tied = np.flatnonzero(values == best)
    if len(tied) == 1:
        return float(at_least)
    rows, entries = plan.ranked_rows(table)[tied], plan.entry_of(tied, table)
    is_right = _is_right(rows, entries, _right_rows(row, plan, late_first=True), plan)
    order = _late_first(rows, entries, plan)
    return float(at_least - len(tied) + np.argmax(is_right[order]) + 1)


def rank_entries(
    row: FloatArray, plan: SearchPlan, table: DetectionTable, limit: int | None, *, late_first: bool
) -> QueryRanking:
    """Writes a query's ranking out; see `QueryRanking`."""
    rows, values = plan.ranked_rows(table), plan.values(row)
    entries = plan.entry_of(np.arange(len(rows)), table)
    right = _is_right(rows, entries, _right_rows(row, plan, late_first=late_first), plan)
    if late_first:
        order = _late_first(rows, entries, plan)
        order = order[np.argsort(-values[order], kind="stable")]
    else:
        order = np.lexsort((right, -values))  # a wrong one first among equals
    ranks = np.full(len(plan.images), np.inf)
    ranks[entries[order][right[order]]] = np.flatnonzero(right[order]) + 1.0
    shown = order[:limit]
    return QueryRanking(
        images=plan.images[entries[shown]],
        rows=table.source_rows[rows[shown]],
        similarities=values[shown],
        right=right[shown],
        answer_images=plan.images[plan.answer_entries],
        answer_ranks=ranks[plan.answer_entries],
    )


def _right_rows(row: FloatArray, plan: SearchPlan, *, late_first: bool) -> Indices:
    """``(T,)`` the right row of each entry: its most similar candidate, the last or the first of equal ones."""
    stops = np.append(plan.starts, len(plan.candidates))[1:]
    chosen = []
    for start, stop in zip(plan.starts, stops, strict=True):
        candidates = np.sort(plan.candidates[start:stop])
        if late_first:
            candidates = candidates[::-1]
        chosen.append(candidates[np.argmax(row[candidates])])
    return np.array(chosen, np.int64)


def _is_right(rows: Indices, entries: Indices, right_rows: Indices, plan: SearchPlan) -> NDArray[np.bool_]:
    right_of = np.full(len(plan.images), -1)
    right_of[plan.entries] = right_rows
    is_right: NDArray[np.bool_] = right_of[entries] == rows
    return is_right


def _late_first(rows: Indices, entries: Indices, plan: SearchPlan) -> Indices:
    """Positions in the order of ``argsort()[::-1]`` where all similarities are equal.

    The public evaluators join the detections of the gallery's images, those of an image that shows the person already
    sorted by ``argsort()[::-1]``, and sort all of them that way: later images first, and within an image the later
    row first, but the earlier row first where the image was reversed before. (NumPy's default sort promises no order
    among equals; this is what a stable one gives.)
    """
    shows = np.zeros(len(plan.images), bool)
    shows[plan.answer_entries] = True
    order: Indices = np.lexsort((np.where(shows[entries], rows, -rows), -entries))
    return order
