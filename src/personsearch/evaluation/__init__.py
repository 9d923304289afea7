"""Accuracy figures from plain arrays: NumPy in, numbers out.

In: what a model found (`Detections` for each image, embeddings of the queries) and what is there (boxes and
person ids for each image, queries with their galleries). Out: `DetectionScores` (recall, average precision)
and `SearchScores` (mAP, top-k), with the `ChanceScores` that random similarities get on the same
detections, and for one query its `QueryRanking`.

The protocol is the OIM evaluator's, which SeqNet, NAE and COAT inherited. ``strict`` mode is right where that
evaluator is ambiguous or faulty, ``compat`` equals it. Start reading at `search.SearchEvaluator`.
"""

from personsearch.evaluation.answers import relaxed_iou_threshold
from personsearch.evaluation.context import QueryContext, query_context
from personsearch.evaluation.detection import DetectionScores, detection_scores
from personsearch.evaluation.query_features import detected_queries
from personsearch.evaluation.ranking import QueryRanking
from personsearch.evaluation.rules import Mode
from personsearch.evaluation.search import (
    ChanceScores,
    SearchEvaluator,
    SearchScores,
    chance_scores,
    search_scores,
)
from personsearch.evaluation.truth import LabelledImage, SearchQuery

__all__ = [
    "ChanceScores",
    "DetectionScores",
    "LabelledImage",
    "Mode",
    "QueryContext",
    "QueryRanking",
    "SearchEvaluator",
    "SearchQuery",
    "SearchScores",
    "chance_scores",
    "detected_queries",
    "detection_scores",
    "query_context",
    "relaxed_iou_threshold",
    "search_scores",
]
