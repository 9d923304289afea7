"""A search graph in two, joined by the host: the scene once, the person graph as often as there are people.

The search graph pools, refines and embeds all its N proposals in every frame. Here the host asks the person graph, P
boxes at a time, about the proposals whose objectness reaches a floor, suppresses as the search graph does, and asks for
embeddings of what is left. With floor 0 the answers are the search graph's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.core.detections import FloatArray
from personsearch.core.geometry import box_iou, clip_boxes
from personsearch.core.recipe import StrictModel

Array = NDArray[Any]
RunGraph = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Outputs of a graph by name, of inputs by name."""

SCENE_OUTPUTS = ("proposals", "objectness", "feature")
PERSON_INPUTS = ("feature", "boxes")
PERSON_OUTPUTS = ("margins", "refined", "embeddings")
"""Of which a detector has the first two."""
MIN_SIDE_PX = 1.0


class SplitSettings(StrictModel):
    """What the host needs to join a scene and a person graph."""

    person_boxes: int = Field(gt=0, le=64, description="P, boxes of one run of the person graph")
    floor: float = Field(ge=0, lt=1, description="objectness from which a proposal is looked at; 0: every proposal")
    nms_iou: float = Field(gt=0, lt=1, description="of the suppression of refined boxes")
    embed_refined: bool = Field(description="people are embedded from their refined boxes, in a further run")


@dataclass(frozen=True)
class SplitSearch:
    """The search graph's answer from two graphs.

    Attributes:
        scene: ``frames`` to `SCENE_OUTPUTS`.
        person: `PERSON_INPUTS` to `PERSON_OUTPUTS`.
        settings: see there.
        input_wh: of the frames.
        rows: K of the answer.
        embedding_dim: D; 0 for a detector.
        score_threshold: people below it are left out before they cost an embedding.
    """

    scene: RunGraph
    person: RunGraph
    settings: SplitSettings
    input_wh: tuple[int, int]
    rows: int
    embedding_dim: int
    score_threshold: float = 0.0

    def search(self, frames: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The people in one frame, rows as the search graph's: by descending score, unused ones with score 0.

        Args:
            frames: uint8 ``(1, H, W, 3)``, letterboxed.

        Returns:
            Boxes ``(K, 4)`` xyxy input pixels, scores ``(K,)``, unit embeddings ``(K, D)``. What the graphs answer
            that is no number is among them, for the caller's checks.
        """
        found = self.scene({"frames": frames})
        proposals, objectness, feature = (found[name] for name in SCENE_OUTPUTS)
        # Not below, rather than at least, here and further down: NaN must not pass for an empty street.
        floor = max(self.settings.floor, float(np.finfo(np.float32).tiny))
        looked_at = ~(objectness[0] < floor)
        margins, boxes, embeddings = self._ask(feature, proposals[0][looked_at])
        margins = np.where(np.isnan(objectness[0][looked_at]), np.float32(np.nan), margins)
        rows = selected(boxes, margins, self.settings.nms_iou, self.score_threshold)[: self.rows]
        boxes, scores = boxes[rows], sigmoid(margins[rows])
        embeddings = self._ask(feature, boxes)[2] if self._asks_again else embeddings[rows]
        return self._padded(boxes), self._padded(scores), self._padded(embeddings)

    def embed(self, frames: Array, boxes: FloatArray) -> FloatArray:
        """Unit embeddings ``(N, D)`` of boxes ``(N, 4)``, xyxy input pixels, on one frame ``(1, H, W, 3)``."""
        feature = self.scene({"frames": frames})["feature"]
        return self._ask(feature, clip_boxes(boxes, self.input_wh).astype(np.float32))[2]

    @property
    def _asks_again(self) -> bool:
        return self.settings.embed_refined and self.embedding_dim > 0

    def _ask(self, feature: Array, boxes: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The person graph's answers ``(N,)``, ``(N, 4)`` and ``(N, D)`` to any number of boxes."""
        step = self.settings.person_boxes
        answers: list[tuple[Array, ...]] = []
        for start in range(0, len(boxes), step):
            chunk = boxes[start : start + step]
            filled = np.concatenate([chunk, np.repeat(chunk[-1:], step - len(chunk), axis=0)])[None]
            out = self.person({"feature": feature, "boxes": filled})
            answers.append(tuple(out[name][0, : len(chunk)] for name in PERSON_OUTPUTS if name in out))
        margins, refined = (
            (np.concatenate([answer[part] for answer in answers]) for part in (0, 1))
            if answers
            else (np.zeros(0, np.float32), np.zeros((0, 4), np.float32))
        )
        if not (answers and self.embedding_dim):
            return margins, refined, np.zeros((len(boxes), self.embedding_dim), np.float32)
        return margins, refined, np.concatenate([answer[2] for answer in answers])

    def _padded(self, values: FloatArray) -> FloatArray:
        padded: FloatArray = np.zeros((self.rows, *values.shape[1:]), np.float32)
        padded[: len(values)] = values
        return padded


def selected(boxes: FloatArray, margins: FloatArray, nms_iou: float, score_threshold: float = 0.0) -> NDArray[np.intp]:
    """Rows that greedy non-maximum suppression leaves, by descending margin; equal ones stay in their order.

    The search graph's rule to the letter, in float32: a box thinner than a pixel is none, and a box is dropped where it
    overlaps a kept one of higher margin by more than ``nms_iou``. A box below the score threshold is neither reported
    nor could it suppress one above.

    Args:
        boxes: ``(N, 4)`` xyxy.
        margins: ``(N,)`` logits of the scores.
        nms_iou: see above.
        score_threshold: in [0, 1].
    """
    possible = ~((boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) < MIN_SIDE_PX)
    possible &= ~(sigmoid(margins) < score_threshold)
    order = np.flatnonzero(possible)
    order = order[np.argsort(-margins[order], kind="stable")]
    overlaps = box_iou(boxes[order], boxes[order]) > np.float32(nms_iou)
    alive = np.ones(len(order), bool)
    for row in range(len(order)):
        if alive[row]:
            alive[row + 1 :] &= ~overlaps[row, row + 1 :]
    return order[alive]


def sigmoid(margins: FloatArray) -> FloatArray:
    """Scores of margins, in float32."""
    with np.errstate(over="ignore"):  # exp of a very small score's margin is infinite, and its score 0
        scores: FloatArray = (1 / (1 + np.exp(-margins.astype(np.float32)))).astype(np.float32)
    return scores
