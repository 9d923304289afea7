"""Which detection is the person, and when was that person there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.similarity import cosine_similarity
from personsearch.runtime.query import PersonQuery


@dataclass(frozen=True)
class Match:
    """A detection that looks like a query.

    Attributes:
        query: position of the query.
        row: position of the detection in its frame.
        similarity: cosine with the mean of the query's crops.
        is_best: whether it is the query's most similar detection of the frame; a person is in a frame once, so
            the others are look-alikes.
    """

    query: int
    row: int
    similarity: float
    is_best: bool


class Matcher:
    """Compares detections with the queries.

    Args:
        queries: at least one.
        threshold: cosine from which on a detection is a match.
    """

    def __init__(self, queries: Sequence[PersonQuery], threshold: float) -> None:
        self.threshold = threshold
        self._embeddings = np.concatenate([query.mean_embedding for query in queries])  # (Q, D)

    def similarities(self, detections: Detections) -> FloatArray:
        """``(Q, N)``: for each query and detection the cosine with the mean of the query's crops."""
        return cosine_similarity(self._embeddings, detections.embeddings)

    def matches(self, similarities: FloatArray) -> list[Match]:
        """Matches of one frame, by query, then by falling similarity; equal ones by row."""
        found = []
        for query, row in enumerate(similarities):
            order = np.argsort(-row, kind="stable")
            for position, index in enumerate(order[row[order] >= self.threshold]):
                found.append(Match(query, int(index), float(row[index]), is_best=position == 0))
        return found


@dataclass
class Visit:
    """A stretch of time in which a query was matched."""

    start_s: float
    end_s: float
    frames: int
    best_similarity: float
    best_frame: int
    best_time_s: float
    best_name: str
    last_step: int


class VisitTracker:
    """Groups the matched frames of one query into visits.

    Args:
        gap_s: a pause in matches longer than this ends a visit, if at least two frames were looked at in it.
        min_frames: a visit with fewer matched frames counts as brief: most of them are single look-alikes.
    """

    def __init__(self, gap_s: float, min_frames: int) -> None:
        self._gap_s, self._min_frames = gap_s, min_frames
        self._all: list[Visit] = []
        self._brief = 0

    def add(self, step: int, frame: int, time_s: float, similarity: float, name: str = "") -> None:
        """A frame in which the query was matched.

        Args:
            step: how many frames were looked at before; rises.
            frame: index of the frame.
            time_s: its time; does not fall.
            similarity: of the best match in it.
            name: file name of the frame, or empty.
        """
        last = self._all[-1] if self._all else None
        # Slow machines and slow sequences look at a frame less often than the gap.
        if last is not None and (time_s - last.end_s <= self._gap_s or step - last.last_step <= 2):
            visit = last
            visit.end_s, visit.frames, visit.last_step = time_s, visit.frames + 1, step
            if similarity > visit.best_similarity:
                visit.best_similarity, visit.best_frame = similarity, frame
                visit.best_time_s, visit.best_name = time_s, name
        else:
            self._drop_brief()
            self._all.append(Visit(time_s, time_s, 1, similarity, frame, time_s, name, step))

    def finish(self) -> tuple[list[Visit], int]:
        """The visits in order of time, and the number of brief ones that are not among them."""
        self._drop_brief()
        return list(self._all), self._brief

    def _drop_brief(self) -> None:
        if self._all and self._all[-1].frames < self._min_frames:
            self._all.pop()
            self._brief += 1
