"""COCO's average precision of detections, by pycocotools itself."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personsearch.core.detections import Detections
from personsearch.core.geometry import xyxy_to_xywh
from personsearch.evaluation.truth import IGNORE_ID, LabelledImage, check_images

MAX_DETECTIONS = 100


@dataclass(frozen=True)
class CocoScores:
    """COCO's figures for the one class of people, at most 100 detections an image.

    Attributes:
        ap: mean over IoU .5 to .95 of the 101-point interpolated average precision.
        ap_50: at IoU .5; not the field's figure, which matches by best overlap and multiplies by recall.
        ap_75: at IoU .75.
        recall: mean over the same IoUs of the largest recall.
        score_threshold: detections below it were left out; COCO itself sets none.
    """

    ap: float
    ap_50: float
    ap_75: float
    recall: float
    score_threshold: float


def coco_scores(
    predictions: Sequence[Detections], truths: Sequence[LabelledImage], *, score_threshold: float
) -> CocoScores:
    """Runs pycocotools' evaluation; ignore regions (person id -2) are its crowd regions.

    Needs pycocotools (extra ``evaluate``).

    Args:
        predictions: detections of each image, source pixels.
        truths: boxes and person ids of each image, in the same order.
        score_threshold: detections below it are left out.

    Raises:
        ValueError: the two sequences differ in length, or there is no person in any image.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    check_images(predictions, truths)
    if not any((truth.person_ids != IGNORE_ID).any() for truth in truths):
        raise ValueError(f"no person in the ground truth of {len(truths)} images: nothing can be scored")
    kept = [one.above(score_threshold) for one in predictions]
    if not any(len(one) for one in kept):
        return CocoScores(0.0, 0.0, 0.0, 0.0, score_threshold)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = _truth(truths)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(_found(kept)), "bbox")
        run.params.maxDets = [1, 10, MAX_DETECTIONS]
        run.evaluate()
        run.accumulate()
        run.summarize()
    ap, ap_50, ap_75 = (float(value) for value in run.stats[:3])
    return CocoScores(ap, ap_50, ap_75, float(run.stats[8]), score_threshold)


def _truth(truths: Sequence[LabelledImage]) -> dict[str, list[dict[str, object]]]:
    annotations: list[dict[str, object]] = []
    for image, truth in enumerate(truths):
        for box, person in zip(xyxy_to_xywh(truth.boxes_xyxy.astype(np.float64)), truth.person_ids, strict=True):
            ignored = int(person == IGNORE_ID)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": ignored,
                }
            )
    images: list[dict[str, object]] = [{"id": image} for image in range(len(truths))]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def _found(kept: Sequence[Detections]) -> list[dict[str, object]]:
    return [
        {"image_id": image, "category_id": 1, "bbox": box.tolist(), "score": float(score)}
        for image, one in enumerate(kept)
        for box, score in zip(xyxy_to_xywh(one.boxes_xyxy.astype(np.float64)), one.scores, strict=True)
    ]
