"""Whom a detection shows: the question that a wrong one raises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.geometry import Boxes, box_area, box_iou
from personsearch.evaluation.answers import relaxed_iou_threshold
from personsearch.evaluation.detection import IGNORE_OVERLAP
from personsearch.evaluation.truth import IGNORE_ID, Indices, LabelledImage

BACKGROUND_ID = -3
"""Beside the person ids 0 and more, -1 and -2: a detection that shows nobody."""
SOME_OVERLAP = 0.1
"""IoU from which a detection was meant for a person."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Whom the detections of one image show.

    Attributes:
        person_ids: ``(N,)``: a person id, -1 a person without identity, -2 a region to ignore, -3 nobody.
        covers: ``(N,)`` whether the overlap with that person is as large as search asks for.
    """

    person_ids: Indices
    covers: NDArray[np.bool_]


def shown_people(boxes_xyxy: Boxes, truth: LabelledImage) -> Shown:
    """Whom each of ``(N, 4)`` boxes shows.

    In this order: the person whom it overlaps most among those whom it overlaps as much as search asks for; an ignore
    region that holds more than half of it; the person whom it overlaps most, from an IoU of 0.1 on; nobody.
    """
    count, boxes = len(boxes_xyxy), np.asarray(boxes_xyxy, np.float64)
    person_ids, covers = np.full(count, BACKGROUND_ID, np.int64), np.zeros(count, bool)
    people = truth.person_ids != IGNORE_ID
    true_boxes, true_ids = truth.boxes_xyxy[people].astype(np.float64), truth.person_ids[people]
    rows = np.arange(count)
    if people.any() and count:
        iou = box_iou(boxes, true_boxes)
        most = iou.argmax(axis=1)
        meant = iou[rows, most] >= SOME_OVERLAP
        person_ids[meant] = true_ids[most[meant]]
    regions = truth.boxes_xyxy[~people].astype(np.float64)
    if len(regions) and count:
        top_left = np.maximum(boxes[:, None, :2], regions[None, :, :2])
        bottom_right = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
        inside = np.clip(bottom_right - top_left, 0, None).prod(axis=2).max(axis=1)
        person_ids[inside > IGNORE_OVERLAP * box_area(boxes)] = IGNORE_ID
    if people.any() and count:
        enough = np.where(iou >= relaxed_iou_threshold(true_boxes), iou, -1.0)
        most = enough.argmax(axis=1)
        covers = enough[rows, most] >= 0
        person_ids[covers] = true_ids[most[covers]]
    return Shown(person_ids, covers)
