"""From what a detector's graph gives to boxes and scores of people, for the layouts that are common.

Every function takes outputs for one image and returns ``(N, 4)`` xyxy boxes as shares of the network's input, 0..1,
and ``(N,)`` scores in [0, 1]; nothing is suppressed or left out yet.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.core.geometry import Boxes, box_iou

Values = NDArray[np.float64]
BoxCode = Literal["xyxy", "xywh", "cxcywh"]


def decode_ssd(rows: Values, person_class: int) -> tuple[Values, Values]:
    """SSD's ``(..., N, 7)``: image, class, score and the corners as shares; an image of -1 ends the rows."""
    table = rows.reshape(-1, 7)
    ended = np.flatnonzero(table[:, 0] < 0)
    table = table[: ended[0]] if len(ended) else table
    people = table[table[:, 1] == person_class]
    return people[:, 3:], people[:, 2]


def decode_fastestdet(maps: Values, person_class: int) -> tuple[Values, Values]:
    """FastestDet's ``(5 + C, h, w)``: objectness, box and class probabilities of each cell of a grid.

    Score: ``objectness**0.6 * probability**0.4``; a cell shows the class of the highest probability. The box's centre
    is ``tanh`` of its first two values in cells from the cell's corner, its sides are the sigmoid of the other two.
    """
    objectness, box, classes = maps[0], maps[1:5], maps[5:]
    rows, columns = objectness.shape
    y, x = np.mgrid[:rows, :columns]
    centre = np.stack([(np.tanh(box[0]) + x) / columns, (np.tanh(box[1]) + y) / rows], axis=-1)
    sides = 1 / (1 + np.exp(-np.clip(np.stack([box[2], box[3]], axis=-1), -50, 50)))
    shown = classes.argmax(axis=0) == person_class
    scores = np.clip(objectness, 0, 1) ** 0.6 * np.clip(classes.max(axis=0), 0, 1) ** 0.4
    corners = np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)
    return corners[shown], scores[shown]


def decode_yolov8(columns: Values, person_class: int, input_wh: tuple[int, int]) -> tuple[Values, Values]:
    """YOLOv8's ``(4 + C, N)``: centre and sides in input pixels, then a score a class."""
    boxes = to_corners(columns[:4].T, "cxcywh") / np.tile(input_wh, 2)
    return boxes, columns[4 + person_class]


def decode_lists(
    boxes: Values,
    scores: Values,
    labels: Values | None,
    *,
    person_class: int,
    code: BoxCode,
    unit_wh: tuple[int, int],
) -> tuple[Values, Values]:
    """Boxes ``(N, 4)`` with scores ``(N,)`` or ``(N, C)``, and maybe labels ``(N,)``.

    Args:
        boxes: as ``code`` says.
        scores: in the second form only the column of people counts.
        labels: class of each box.
        person_class: label of people, or column of ``scores``.
        code: what the four numbers of a box are.
        unit_wh: width and height of the whole input in the unit of the boxes: its pixels, or 1 and 1.
    """
    corners = to_corners(boxes, code) / np.tile(unit_wh, 2)
    if scores.ndim == 2:
        scores = scores[:, person_class]
    if labels is None:
        return corners, scores
    people = labels == person_class
    return corners[people], scores[people]


def to_corners(boxes: Values, code: BoxCode) -> Values:
    """``(N, 4)`` boxes of any code as xyxy."""
    if code == "xyxy":
        return boxes
    first, sides = boxes[:, :2], boxes[:, 2:]
    low = first - sides / 2 if code == "cxcywh" else first
    return np.concatenate([low, low + sides], axis=1)


def suppress(boxes_xyxy: Boxes, scores: FloatArray, iou_threshold: float) -> NDArray[np.int64]:
    """Rows that stay when a box that overlaps a better one by more than ``iou_threshold`` goes, best first."""
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        overlap = box_iou(boxes_xyxy[best : best + 1], boxes_xyxy[waiting])[0]
        waiting = waiting[overlap <= iou_threshold]
    return np.array(kept, np.int64)
