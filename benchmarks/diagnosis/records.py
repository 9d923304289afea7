"""What a diagnosis says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from personsearch.benchmarks.accuracy import EvaluationOptions, QueryOutcome
from personsearch.core.recipe import StrictModel

Box = tuple[float, float, float, float]


class ConfuserRecord(StrictModel):
    """Whom wrong detections show, and the most similar one of them."""

    person_id: int = Field(description="-1 a person without identity, -2 a region to ignore, -3 background")
    who: str
    image: int = Field(description="of the most similar of these detections: index in the split")
    image_name: str
    box_xyxy: Box = Field(description="of that detection, source pixels")
    similarity: float
    rank: int = Field(description="of that detection, from 1")
    detections: int
    cost: float = Field(description="points of average precision")


class AnswerRecord(StrictModel):
    """One gallery image that shows the person."""

    image: int
    image_name: str
    box_xyxy: Box = Field(description="of the person, the first where there are two")
    found_xyxy: Box | None = Field(description="the right detection; where mislocalised, the one that overlaps most")
    kind: str = Field(description="see personsearch.evaluation.diagnosis")
    rank: int | None
    similarity: float | None
    overlap: float
    wrong_above: int
    confuser: ConfuserRecord | None


class QueryRecord(QueryOutcome):
    """One query: what came of it, and what it lost where."""

    image_name: str
    box_xyxy: Box
    camera_id: int
    person_name: str
    protocol: str
    detected: bool = Field(description="whether it had features; otherwise it scores 0")
    found: int = Field(description="answers with a right detection")
    missed: int = Field(description="answers without")
    kinds: dict[str, int] = Field(description="answers by kind")
    costs: dict[str, float] = Field(description="points of average precision by kind; empty without an answer")
    confusers: tuple[ConfuserRecord, ...] = Field(description="the dearest ones")
    errors: tuple[AnswerRecord, ...] = Field(description="answers that are not right, in the order of the gallery")


class ConfusedPair(StrictModel):
    """Two people whom the system takes for one another."""

    person_id: int
    person_name: str
    taken_for_id: int
    taken_for_name: str
    queries: int = Field(description="of the first person in which detections of the second cost something")
    cost: float = Field(description="points of mAP")


class DiagnosisSummary(StrictModel):
    """All queries together; costs are points of mAP in [0, 1] and add up to ``1 - mean_ap``."""

    system: str
    sha256: str
    dataset: str
    split: str
    protocol: str
    options: EvaluationOptions
    score_threshold: float
    images: int
    skipped_images: int = Field(description="further ones that could not be read; nothing here is of them")
    late_after: int
    repaired_rank: str = Field(description="how a person ranks who is found by repair")
    queries: int
    queries_scored: int
    mean_ap: float
    top: dict[int, float]
    true_boxes_mean_ap: float | None = Field(description="with true boxes in place of detections; none: not embedded")
    answers: dict[str, int] = Field(description="by kind")
    costs: dict[str, float] = Field(description="by kind, in the order of the repairs")
    costs_by_whom: dict[str, float] = Field(description="adds up to `confused` and `ranked late`")
    confused_pairs: tuple[ConfusedPair, ...] = Field(description="the dearest ones")


@dataclass(frozen=True)
class Diagnosis:
    """The whole and every query, in the order of the protocol."""

    summary: DiagnosisSummary
    queries: tuple[QueryRecord, ...]
