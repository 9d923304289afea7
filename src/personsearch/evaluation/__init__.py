"""Accuracy figures from plain arrays: NumPy in, numbers out.

In: what a model found (`Detections` for each image, embeddings of the queries) and what is there (boxes and
person ids for each image, queries with their galleries). Out: `DetectionScores` (recall, average precision)
and `SearchScores` (mAP, top-k), with the `ChanceScores` that random similarities get on the same
detections.

The protocol is the OIM evaluator's, which SeqNet, NAE and COAT inherited; where it is ambiguous or faulty the
function says what is done here. Start reading at `search.search_scores`.
"""

from personsearch.evaluation.detection import DetectionScores, detection_scores
from personsearch.evaluation.search import ChanceScores, SearchScores, chance_scores, search_scores
from personsearch.evaluation.truth import LabelledImage, SearchQuery

__all__ = [
    "ChanceScores",
    "DetectionScores",
    "LabelledImage",
    "SearchQuery",
    "SearchScores",
    "chance_scores",
    "detection_scores",
    "search_scores",
]
