"""Detection figures in the field's own reading: best-overlap matching, average precision times recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections
from personsearch.core.geometry import Boxes, box_area, box_iou
from personsearch.evaluation.rules import Mode, rules_of
from personsearch.evaluation.truth import IGNORE_ID, LabelledImage, check_images

IGNORE_OVERLAP = 0.5


@dataclass(frozen=True)
class DetectionScores:
    """How well people were found; every figure holds for detections at or above ``score_threshold`` only.

    Attributes:
        recall: share of the ground-truth people that were found.
        precision: share of the detections that are right; 0 where there is no detection.
        average_precision: the field's figure, ``ranking_precision * recall``.
        ranking_precision: step-wise area under precision over recall of what was found, scikit-learn's
            ``average_precision_score``; it does not see people that were missed.
        labelled_recall: recall over people with an identity; none where the data has no identities. In compat
            matched anew without the others, as the public evaluators do.
        ground_truth: number of people, ignore regions left out.
        detections: number of detections that were scored.
    """

    recall: float
    precision: float
    average_precision: float
    ranking_precision: float
    labelled_recall: float | None
    ground_truth: int
    detections: int
    iou_threshold: float
    score_threshold: float
    mode: Mode


def detection_scores(
    predictions: Sequence[Detections],
    truths: Sequence[LabelledImage],
    *,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
    mode: Mode = "strict",
) -> DetectionScores:
    """Scores detections image by image against ground truth, by the OIM evaluator's rule.

    A detection may match only the person it overlaps most, a person only the detection that overlaps it
    most among those (the first, at equal overlap); best overlap, not best score as in COCO. A pair counts
    from an IoU of ``iou_threshold``. A detection that matches nobody and lies with more than half of its area
    in one ignore region (person id -2) is dropped instead of being wrong.

    The two other modes equal the OIM evaluator (Xiao et al., CVPR 2017), which differs in three ways: a person
    may match only the detection that overlaps it most among all, also where that one prefers another person;
    people without identity take no part in ``labelled_recall``; ignore regions count as background.

    Args:
        predictions: detections of each image, source pixels.
        truths: boxes and person ids of each image, in the same order.
        iou_threshold: smallest overlap of a match.
        score_threshold: detections below it are left out; papers differ here, so always print it.
        mode: see above.

    Raises:
        ValueError: the two sequences differ in length, there is no person in any image, or the mode is unknown.
    """
    check_images(predictions, truths)
    strict = rules_of(mode) == rules_of("strict")
    all_scores, all_hits = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    people = labelled = labelled_found = 0
    for prediction, truth in zip(predictions, truths, strict=True):
        kept = prediction.above(score_threshold)
        person = truth.person_ids != IGNORE_ID
        matched = match_boxes(kept.boxes_xyxy, truth.boxes_xyxy[person], iou_threshold, mutual=not strict)
        hit = matched >= 0
        ignored = truth.boxes_xyxy[~person] if strict else truth.boxes_xyxy[:0]
        counted = hit | ~_inside(kept.boxes_xyxy, ignored)
        all_scores.append(kept.scores[counted])
        all_hits.append(hit[counted])
        has_identity = truth.person_ids[person] >= 0
        people += len(has_identity)
        labelled += int(has_identity.sum())
        if strict:
            labelled_found += int(has_identity[matched[hit]].sum())
        else:
            known = truth.boxes_xyxy[truth.person_ids >= 0]
            labelled_found += int((match_boxes(kept.boxes_xyxy, known, iou_threshold, mutual=True) >= 0).sum())
    if not people:
        raise ValueError(f"no person in the ground truth of {len(truths)} images: nothing can be scored")
    scores, hits = np.concatenate(all_scores), np.concatenate(all_hits)
    recall = float(hits.sum()) / people
    ranking = _ranking_precision(scores, hits)
    return DetectionScores(
        recall=recall,
        precision=float(hits.mean()) if len(hits) else 0.0,
        average_precision=ranking * recall,
        ranking_precision=ranking,
        labelled_recall=labelled_found / labelled if labelled else None,
        ground_truth=people,
        detections=len(hits),
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        mode=mode,
    )


def match_boxes(
    boxes_xyxy: Boxes, truth_xyxy: Boxes, iou_threshold: float, *, mutual: bool = False
) -> NDArray[np.int64]:
    """The truth that each of ``(N, 4)`` boxes matches by best overlap, or -1: ``(N,)``.

    Args:
        boxes_xyxy: detections.
        truth_xyxy: ``(M, 4)`` people.
        iou_threshold: smallest overlap of a match.
        mutual: a person matches the detection that overlaps it most of all, or none; otherwise the one that overlaps
            it most among those that overlap no one else more.
    """
    matched = np.full(len(boxes_xyxy), -1, dtype=np.int64)
    if not len(boxes_xyxy) or not len(truth_xyxy):
        return matched
    iou = box_iou(boxes_xyxy.astype(np.float64), truth_xyxy.astype(np.float64)).astype(np.float32)
    favourite = iou.argmax(axis=1)
    rows = np.arange(len(boxes_xyxy))
    overlap = iou[rows, favourite]
    if mutual:
        agreed = (iou.argmax(axis=0)[favourite] == rows) & (overlap >= iou_threshold)
        matched[agreed] = favourite[agreed]
        return matched
    wooing = np.full_like(iou, -1)  # only a box's own favourite may choose it
    wooing[rows, favourite] = np.where(overlap >= iou_threshold, overlap, -1)
    chosen = wooing.argmax(axis=0)
    taken = wooing[chosen, np.arange(len(truth_xyxy))] >= 0
    matched[chosen[taken]] = np.flatnonzero(taken)
    return matched


def _inside(boxes_xyxy: Boxes, regions_xyxy: Boxes) -> NDArray[np.bool_]:
    if not len(regions_xyxy):
        return np.zeros(len(boxes_xyxy), dtype=bool)
    top_left = np.maximum(boxes_xyxy[:, None, :2], regions_xyxy[None, :, :2])
    bottom_right = np.minimum(boxes_xyxy[:, None, 2:], regions_xyxy[None, :, 2:])
    overlap = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    inside: NDArray[np.bool_] = overlap.max(axis=1) > IGNORE_OVERLAP * box_area(boxes_xyxy)
    return inside


def _ranking_precision(scores: NDArray[np.float32], hits: NDArray[np.bool_]) -> float:
    """Mean over hits of the precision among all that is scored as high; equal scores stand together."""
    if not hits.any():
        return 0.0
    every, right = np.sort(scores), np.sort(scores[hits])
    at_least = len(every) - np.searchsorted(every, right, side="left")
    right_at_least = len(right) - np.searchsorted(right, right, side="left")
    return float(np.mean(right_at_least / at_least))
