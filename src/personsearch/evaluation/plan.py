"""What one query ranks and what it should find, as arrays of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.core.detections import FloatArray
from personsearch.evaluation.answers import AnswerTable, DetectionTable, covering_rows
from personsearch.evaluation.rules import SearchRules
from personsearch.evaluation.truth import Indices, SearchQuery


@dataclass(frozen=True, eq=False)
class SearchPlan:
    """One query's gallery.

    Attributes:
        images: ``(E,)`` image of each entry of the gallery, in its order; one image may stand there twice.
        rows: ``(R,)`` rows of the detection table that are ranked, entry by entry; none for all but ``left_out``.
        left_out: rows of the query's own image where ``rows`` is none.
        detections: number of rows ranked.
        answers: number of answers to find, as the rules count them.
        answer_entries: ``(M,)`` entries that show the person.
        entries: ``(T,)`` those of them in which a detection lies on the person.
        candidates: ``(C,)`` rows of these detections, entry by entry.
        starts: ``(T,)`` where each entry's candidates begin.
    """

    images: Indices
    rows: Indices | None
    left_out: slice
    detections: int
    answers: int
    answer_entries: Indices
    entries: Indices
    candidates: Indices
    starts: Indices

    def values(self, row: FloatArray) -> FloatArray:
        """The similarities that are ranked, of ``(N,)`` with all detections."""
        if self.rows is not None:
            return row[self.rows]
        return np.concatenate([row[: self.left_out.start], row[self.left_out.stop :]])

    def ranked_rows(self, table: DetectionTable) -> Indices:
        """``rows``, written out."""
        if self.rows is not None:
            return self.rows
        everything = np.arange(len(table))
        return np.concatenate([everything[: self.left_out.start], everything[self.left_out.stop :]])

    def distinct_rows(self, table: DetectionTable) -> Indices:
        """``ranked_rows``, a row that stands there twice once only; in the order of the gallery."""
        rows = self.ranked_rows(table)
        if len(np.unique(self.images)) == len(self.images):
            return rows
        _, first = np.unique(rows, return_index=True)
        return rows[np.sort(first)]

    def entry_of(self, positions: Indices, table: DetectionTable) -> Indices:
        """The entry of each position among the ranked rows."""
        counts = table.offsets[self.images + 1] - table.offsets[self.images]
        found: Indices = np.searchsorted(np.cumsum(counts), positions, side="right")
        return found


class SearchPlanner:
    """Makes plans, one at a time: at CUHK-SYSU's size they would not fit in memory together.

    Raises:
        ValueError: a query names an image that is not there, or states more answers than its gallery has images.
    """

    def __init__(
        self, queries: Sequence[SearchQuery], table: DetectionTable, answers: AnswerTable, rules: SearchRules
    ) -> None:
        self._queries, self._table, self._answers, self._rules = queries, table, answers, rules
        self._galleries: list[Indices | None] = [
            None if query.gallery is None else np.asarray(query.gallery, np.int64) for query in queries
        ]
        checked: set[int] = set()
        for number, (query, gallery) in enumerate(zip(queries, self._galleries, strict=True)):
            self._check_image(number, query.image_index)
            if gallery is None or id(gallery) in checked:
                continue
            checked.add(id(gallery))
            if gallery.ndim != 1:
                raise ValueError(f"query {number}: gallery has shape {gallery.shape}, expected (G,)")
            if len(gallery):
                self._check_image(number, int(gallery.min()))
                self._check_image(number, int(gallery.max()))

    def plan(self, number: int) -> SearchPlan:
        """The plan of one query."""
        query, gallery = self._queries[number], self._galleries[number]
        own = slice(int(self._table.offsets[query.image_index]), int(self._table.offsets[query.image_index + 1]))
        if gallery is None:
            images = np.delete(np.arange(self._table.images), query.image_index)
            shown, entries, counts, candidates = self._by_labels(query.person_id, images)
            detections = len(self._table) - (own.stop - own.start)
            return _plan(images, None, own, detections, len(shown), shown, entries, counts, candidates)
        positions = self._kept(gallery, query.image_index)
        images = gallery[positions]
        if self._rules.stated_answers and query.answers_xyxy is not None:
            answers = len(query.answers_xyxy)
            shown, entries, counts, candidates = self._by_statement(query, gallery, positions)
        else:
            shown, entries, counts, candidates = self._by_labels(query.person_id, images)
            answers = len(shown)
            if self._rules.repeats == "counted" and len(images) < len(gallery):
                answers = len(self._by_labels(query.person_id, gallery)[0])
        rows = self._table.rows_of(images)
        return _plan(images, rows, own, len(rows), answers, shown, entries, counts, candidates)

    def _kept(self, gallery: Indices, own_image: int) -> Indices:
        """Positions of the gallery that are ranked, in its order."""
        positions = np.arange(len(gallery))
        if self._rules.repeats != "ranked" and len(gallery) and np.bincount(gallery).max() > 1:
            positions = np.sort(np.unique(gallery, return_index=True)[1])
        return positions if self._rules.own_image else positions[gallery[positions] != own_image]

    def _by_labels(self, person_id: int, images: Indices) -> tuple[Indices, Indices, Indices, Indices]:
        """Entries that show the person; those with candidates, with how many, and the candidates."""
        part = self._answers.of_person(person_id)
        shown_in = self._answers.images[part]
        group_of = np.full(self._table.images, -1)
        group_of[shown_in] = np.arange(part.start, part.stop)
        groups = group_of[images]
        shown = np.flatnonzero(groups >= 0)
        counts, candidates = self._answers.candidates(groups[shown])
        held = counts > 0
        return shown, shown[held], counts[held], candidates

    def _by_statement(
        self, query: SearchQuery, gallery: Indices, positions: Indices
    ) -> tuple[Indices, Indices, Indices, Indices]:
        """As `_by_labels`, by the boxes that the protocol states for its first images."""
        assert query.answers_xyxy is not None
        shown = np.flatnonzero(positions < len(query.answers_xyxy))
        found = [
            covering_rows(self._table, int(gallery[position]), query.answers_xyxy[position])
            for position in positions[shown]
        ]
        counts = np.array([len(rows) for rows in found], np.int64)
        held = counts > 0
        return shown, shown[held], counts[held], np.concatenate([np.zeros(0, np.int64), *found])

    def _check_image(self, number: int, image: int) -> None:
        if not 0 <= image < self._table.images:
            raise ValueError(f"query {number} names image {image}, there are {self._table.images}")


def _plan(
    images: Indices,
    rows: Indices | None,
    own: slice,
    detections: int,
    answers: int,
    shown: Indices,
    entries: Indices,
    counts: Indices,
    candidates: Indices,
) -> SearchPlan:
    starts = np.cumsum(counts) - counts
    return SearchPlan(images, rows, own, detections, answers, shown, entries, candidates, starts)
