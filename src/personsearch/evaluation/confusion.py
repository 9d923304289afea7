"""Who stands before a query's answers, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.evaluation.ranking import QueryRanking
from personsearch.evaluation.truth import Indices


@dataclass(frozen=True)
class Confuser:
    """Whom some wrong detections show, and the most similar one of them.

    Attributes:
        person_id: as in `Shown`; the query's own where detections of the person count as wrong, such as a second one
            in an image, or one that is placed badly.
        image: of the most similar detection.
        row: of that detection in the detections of its image.
        similarity: of that detection.
        rank: of that detection, from 1.
        detections: number of these wrong detections.
        cost: points of average precision that they cost together.
    """

    person_id: int
    image: int
    row: int
    similarity: float
    rank: int
    detections: int
    cost: float


@dataclass(frozen=True, eq=False)
class Standing:
    """Answers among the wrong detections.

    Attributes:
        precisions: ``(M,)`` precision at each answer, 0 where it is not found.
        wrong: ``(M,)`` wrong detections at least as similar.
        late: ``(M,)`` whether no single person is behind these.
        main: ``(M,)`` group that holds most of them.
        main_counts: ``(M,)`` how many.
        positions: ``(W,)`` position of each wrong detection in the ranking.
        groups: ``(W,)`` its group: one a person.
        person_ids: of each group.
    """

    precisions: NDArray[np.float64]
    wrong: Indices
    late: NDArray[np.bool_]
    main: Indices
    main_counts: Indices
    positions: Indices
    groups: Indices
    person_ids: Indices

    def confuser_of(self, number: int, ranking: QueryRanking, answers: int) -> Confuser | None:
        """Who stands before one answer."""
        if not self.wrong[number]:
            return None
        count = int(self.main_counts[number])
        cost = count * (1 - self.precisions[number]) / self.wrong[number] / answers
        return self._confuser(int(self.main[number]), ranking, count, float(cost))

    def confusers(self, ranking: QueryRanking, answers: int) -> tuple[Confuser, ...]:
        """Who stands before any answer, the dearest first."""
        each = np.zeros(len(self.positions) + 1)
        some = self.wrong > 0
        # The k-th wrong detection stands before every answer with more than k of them, and costs each of these 1 / r.
        np.add.at(each, self.wrong[some] - 1, (1 - self.precisions[some]) / self.wrong[some] / answers)
        each = np.cumsum(each[::-1])[::-1][:-1]
        reached = int(self.wrong.max(initial=0))
        costs = np.bincount(self.groups, each, len(self.person_ids))
        counts = np.bincount(self.groups[:reached], minlength=len(self.person_ids))
        found = [
            self._confuser(group, ranking, int(counts[group]), float(costs[group]))
            for group in np.flatnonzero(counts).tolist()
        ]
        return tuple(sorted(found, key=lambda one: (-one.cost, one.rank)))

    def _confuser(self, group: int, ranking: QueryRanking, detections: int, cost: float) -> Confuser:
        position = int(self.positions[np.argmax(self.groups == group)])
        return Confuser(
            int(self.person_ids[group]),
            int(ranking.images[position]),
            int(ranking.rows[position]),
            float(ranking.similarities[position]),
            position + 1,
            detections,
            cost,
        )


def stand(
    similarities: FloatArray,
    wrong: NDArray[np.bool_],
    right: NDArray[np.float64],
    whom: Indices,
    late_after: int,
) -> Standing:
    """Places answers among the wrong detections of a ranking.

    Args:
        similarities: ``(K,)`` of the ranking, best first.
        wrong: ``(K,)`` which of them count as wrong.
        right: ``(M,)`` similarity of each answer; -inf for one that is not found.
        whom: ``(K,)`` whom each detection shows.
        late_after: wrong detections from which on an answer may be late.
    """
    positions = np.flatnonzero(wrong)
    found = right > -np.inf
    ascending, right_ascending = similarities[positions][::-1], np.sort(right[found])
    wrong_above = np.where(found, len(positions) - np.searchsorted(ascending, right, side="left"), 0)
    right_above = np.where(found, len(right_ascending) - np.searchsorted(right_ascending, right, side="left"), 0)
    precisions = np.divide(right_above, wrong_above + right_above, out=np.zeros(len(right)), where=found)
    person_ids, groups = np.unique(whom[positions], return_inverse=True)
    counts, done = np.zeros(len(person_ids), np.int64), 0
    main, main_counts = np.zeros(len(right), np.int64), np.zeros(len(right), np.int64)
    late = np.zeros(len(right), bool)
    earliest = np.full(len(person_ids), len(groups))
    np.minimum.at(earliest, groups, np.arange(len(groups)))
    by_similarity = np.argsort(earliest)  # of groups that hold as many, the one with the most similar detection
    for number in np.argsort(wrong_above, kind="stable"):
        above = int(wrong_above[number])
        if above:
            counts += np.bincount(groups[done:above], minlength=len(counts))
            done = above
            main[number] = by_similarity[counts[by_similarity].argmax()]
            main_counts[number] = counts[main[number]]
            behind = counts[person_ids >= 0].max(initial=0)
            late[number] = above >= late_after and 2 * behind < above
    return Standing(precisions, wrong_above, late, main, main_counts, positions, groups, person_ids)
