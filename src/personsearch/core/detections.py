"""The value that travels from an engine to a sink."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Detections:
    """The people found in one frame, by descending score.

    Attributes:
        boxes_xyxy: ``(N, 4)`` float32, pixels of the frame that was given in, x1 < x2 and y1 < y2.
        scores: ``(N,)`` float32 in [0, 1].
        embeddings: ``(N, D)`` float32, L2-normalised rows.
    """

    boxes_xyxy: FloatArray
    scores: FloatArray
    embeddings: FloatArray

    def __post_init__(self) -> None:
        for name in ("boxes_xyxy", "scores", "embeddings"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float32))
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4):
            raise ValueError(f"boxes_xyxy has shape {self.boxes_xyxy.shape}, expected ({count}, 4)")
        if self.embeddings.ndim != 2 or len(self.embeddings) != count:
            raise ValueError(f"embeddings has shape {self.embeddings.shape}, expected ({count}, D)")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Detections:
        """The rows that ``index`` selects: a mask, integer rows or a slice."""
        return Detections(self.boxes_xyxy[index], self.scores[index], self.embeddings[index])

    @classmethod
    def empty(cls, embedding_dim: int) -> Detections:
        """No people; keeps the embedding width so that matrices still multiply."""
        # __post_init__ makes them float32.
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros((0, embedding_dim)))  # type: ignore[arg-type]

    def above(self, score: float) -> Detections:
        """The detections whose score is at least ``score``."""
        return self[self.scores >= score]


@dataclass(frozen=True)
class GuidedDetections:
    """The people found in one frame for one query.

    Attributes:
        detections: the people.
        similarities: ``(N,)`` float32, how much each is the person asked for; higher is more.
    """

    detections: Detections
    similarities: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "similarities", np.asarray(self.similarities, dtype=np.float32))
        if self.similarities.shape != (len(self.detections),):
            raise ValueError(f"similarities has shape {self.similarities.shape}, expected ({len(self.detections)},)")

    def __len__(self) -> int:
        return len(self.detections)
