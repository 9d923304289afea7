"""A query's features from what was detected in its image, in place of its true box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import box_iou
from personsearch.evaluation.rules import Mode
from personsearch.evaluation.truth import BoxedQuery


def detected_queries(
    queries: Sequence[BoxedQuery], predictions: Sequence[Detections], mode: Mode = "strict"
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The embedding of the detection that overlaps each query's box most, of all scores (AlignPS's way).

    ``strict`` wants some overlap, otherwise the query was not found. The other modes do as AlignPS: overlap is
    measured with one pixel more in each direction, and a detection that overlaps nothing will do. AlignPS's evaluator
    fails and PSTR's skips the query where its image has no detection at all; here it was not found in every mode.

    Args:
        queries: with their boxes.
        predictions: detections of each image.
        mode: see above.

    Returns:
        Embeddings ``(Q, D)``, zeros where the query was not found, and ``(Q,)`` whether it was:
        `SearchEvaluator.scores` takes both.
    """
    width = next((one.embeddings.shape[1] for one in predictions if len(one)), 0)
    embeddings, found = np.zeros((len(queries), width), np.float32), np.zeros(len(queries), bool)
    one_more = np.array([0, 0, 0, 0] if mode == "strict" else [0, 0, 1, 1], np.float64)
    for number, query in enumerate(queries):
        candidates = predictions[query.image_index]
        if not len(candidates):
            continue
        box = np.asarray(query.box_xyxy, np.float64)[None]
        overlap = box_iou(candidates.boxes_xyxy.astype(np.float64) + one_more, box + one_more)[:, 0]
        best = int(overlap.argmax())
        found[number] = mode != "strict" or overlap[best] > 0
        if found[number]:
            embeddings[number] = candidates.embeddings[best]
    return embeddings, found
