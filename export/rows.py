"""What a graph answers, and what the gate asks of anything that runs one; needs neither torch nor an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from personsearch.core.detections import FloatArray
from personsearch.core.preprocess import Frame


@dataclass(frozen=True)
class Rows:
    """The search graph's answer to one frame: K rows by descending score.

    Attributes:
        boxes: ``(K, 4)`` xyxy input pixels.
        scores: ``(K,)``, 0 in an unused row.
        embeddings: ``(K, D)`` unit rows.
    """

    boxes: FloatArray
    scores: FloatArray
    embeddings: FloatArray

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> Rows:
        """The used rows whose score is at least ``score``."""
        kept = (self.scores >= score) & (self.scores > 0)
        return Rows(self.boxes[kept], self.scores[kept], self.embeddings[kept])


class Graphs(Protocol):
    """Search and query graph of one model."""

    def search(self, frame: Frame) -> Rows:
        """The people in a letterboxed frame ``(H, W, 3)`` uint8 BGR."""
        ...

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """``(Q, D)`` embeddings of ``(Q, 4)`` boxes, input pixels; Q as the graph was exported."""
        ...
