"""What keeps a query's average precision from 1: the kind of each error, and the points that each kind costs.

Every answer of a query (a gallery image that shows the person) is of one kind:

================  ===================================================================================================
``right``         found, and no wrong detection is as similar
``missed``        no detection overlaps the person with an IoU of 0.1 or more, those that show somebody else left out
``mislocalised``  one does, but with less than the protocol asks for
``confused``      found, and wrong detections are at least as similar
``ranked late``   the same, but so many (``late_after``) that it would not be among the first even were it the only
                  answer, and no single person is behind half of them
================  ===================================================================================================

Costs are points of average precision. They add up to ``1 - AP``, because each repair starts where the one before it
ended: (1) people who were missed are found at their true box, with its embedding; (2) for people who are mislocalised
the detection that overlaps them most is moved onto them; (3) what is lost then is lost to wrong detections. An answer
with w wrong detections among the r that are at least as similar loses ``w / r``, so that each of them costs ``1 / r``:
this divides the rest between ``confused`` and ``ranked late``, each answer as its kind is by then, and between those
with whom the query is confused. Equally similar detections stand together, as in the average precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import box_iou
from personsearch.evaluation.confusion import Confuser, stand
from personsearch.evaluation.ranking import QueryRanking
from personsearch.evaluation.rules import Mode, rules_of
from personsearch.evaluation.shown import SOME_OVERLAP, shown_people
from personsearch.evaluation.truth import IGNORE_ID, Indices, LabelledImage, SearchQuery, check_images

AnswerKind = Literal["right", "missed", "mislocalised", "confused", "ranked late"]
ANSWER_KINDS: tuple[AnswerKind, ...] = ("right", "missed", "mislocalised", "confused", "ranked late")
CostKind = Literal["query not detected", "missed", "mislocalised", "confused", "ranked late", "counted twice"]
COST_KINDS: tuple[CostKind, ...] = (
    "query not detected",
    "missed",
    "mislocalised",
    "confused",
    "ranked late",
    "counted twice",
)
"""``counted twice``: compat counts the answer in a repeated image twice and ranks it once; nobody can mend that."""


@dataclass(frozen=True, eq=False)
class AnswerOutcome:
    """What became of one answer.

    Attributes:
        image: that shows the person.
        boxes_xyxy: ``(B, 4)`` the person's true boxes there, of which any will do.
        kind: see the module.
        rank: of the right detection, from 1; none where there is none.
        similarity: of the right detection; none where there is none.
        row: of the right detection in the detections of its image; where the person is mislocalised, of the one that
            overlaps most; none where the person was missed.
        overlap: largest IoU of the true boxes with the right detection, or else with one that shows nobody else.
        wrong_above: wrong detections at least as similar; 0 for an answer that was not found.
        confuser: who holds most of these, and what they cost this answer; none where there is none.
    """

    image: int
    boxes_xyxy: FloatArray
    kind: AnswerKind
    rank: int | None
    similarity: float | None
    row: int | None
    overlap: float
    wrong_above: int
    confuser: Confuser | None


@dataclass(frozen=True)
class QueryDiagnosis:
    """One query's errors.

    Attributes:
        average_precision: as `SearchScores` has it.
        answers: in the order of the gallery; none where the query itself was not detected.
        costs: points of average precision by kind; with ``average_precision`` they sum to 1.
        confusers: everybody whose detections cost something after all repairs, the dearest first; their costs sum to
            those of ``confused`` and ``ranked late``.
    """

    average_precision: float
    answers: tuple[AnswerOutcome, ...]
    costs: dict[CostKind, float]
    confusers: tuple[Confuser, ...]


class Diagnoser:
    """Diagnoses queries one at a time, on the detections that were ranked.

    Args:
        predictions: detections of each image as given to the evaluator.
        truths: boxes and person ids of each image.
        true_boxes: the people of each image as detections with their embeddings, ignore regions left out and
            otherwise in the order of ``truths``; none where they were not embedded: a person who is found by repair
            then ranks first, so that ``missed`` and ``mislocalised`` cost the most that they can.
        mode: of the protocol.
        late_after: wrong detections from which on an answer may be ``ranked late``.

    Raises:
        ValueError: lengths differ, or ``late_after`` is below 1.
    """

    def __init__(
        self,
        predictions: Sequence[Detections],
        truths: Sequence[LabelledImage],
        true_boxes: Sequence[Detections] | None,
        *,
        mode: Mode = "strict",
        late_after: int = 10,
    ) -> None:
        check_images(predictions, truths)
        if true_boxes is not None:
            check_images(true_boxes, truths)
        if late_after < 1:
            raise ValueError(f"late_after is {late_after}, expected 1 or more")
        self._predictions, self._truths, self._true_boxes = predictions, truths, true_boxes
        self._rules, self._late_after = rules_of(mode), late_after
        shown = [shown_people(one.boxes_xyxy, truth) for one, truth in zip(predictions, truths, strict=True)]
        # Flat, so that a query looks all of its detections up at once: row r of image i is row offsets[i] + r.
        self._offsets = np.concatenate([[0], np.cumsum([len(one) for one in predictions])]).astype(np.int64)
        self._person_ids = np.concatenate([np.zeros(0, np.int64), *(one.person_ids for one in shown)])
        self._covers = np.concatenate([np.zeros(0, bool), *(one.covers for one in shown)])

    def diagnose(
        self, query: SearchQuery, query_embedding: FloatArray, ranking: QueryRanking, answers: int
    ) -> QueryDiagnosis:
        """Names what went wrong for one query.

        Args:
            query: who is searched.
            query_embedding: ``(D,)``. The similarity of a person who is found by repair is its dot product with the
                embedding of the true box: a score of 1, no context matching.
            ranking: of the whole gallery, without a limit.
            answers: to be found, as the mode counts them, at least 1.
        """
        boxes = self._answer_boxes(query, ranking.answer_images)
        found = np.isfinite(ranking.answer_ranks)
        positions = np.where(found, ranking.answer_ranks - 1, -1).astype(np.int64)
        overlaps, positions = self._overlaps(query.person_id, ranking, boxes, positions)
        bad = ~found & (overlaps >= SOME_OVERLAP)  # whose position is that of the detection to be moved
        wrong, whom = ~ranking.right, self._person_ids[self._offsets[ranking.images] + ranking.rows]
        right = np.where(found, _taken(ranking.similarities, positions), -np.inf)
        actual = stand(ranking.similarities, wrong, right, whom, self._late_after)
        by_repair = self._similarities_by_repair(query_embedding, ranking.answer_images, boxes)
        first = stand(ranking.similarities, wrong, np.where(found | bad, right, by_repair), whom, self._late_after)
        remaining = wrong.copy()
        remaining[positions[bad]] = False
        last = stand(ranking.similarities, remaining, np.where(found, right, by_repair), whom, self._late_after)
        lost = 1 - last.precisions
        costs: dict[CostKind, float] = {
            "query not detected": 0.0,
            "missed": float(first.precisions.sum() - actual.precisions.sum()) / answers,
            "mislocalised": float(last.precisions.sum() - first.precisions.sum()) / answers,
            "confused": float(lost[~last.late].sum()) / answers,
            "ranked late": float(lost[last.late].sum()) / answers,
            "counted twice": (answers - len(boxes)) / answers,
        }
        outcomes = []
        for number, box in enumerate(boxes):
            kind = _kind(bool(found[number]), bool(bad[number]), int(actual.wrong[number]), bool(actual.late[number]))
            position = int(positions[number])
            outcomes.append(
                AnswerOutcome(
                    image=int(ranking.answer_images[number]),
                    boxes_xyxy=box,
                    kind=kind,
                    rank=position + 1 if found[number] else None,
                    similarity=float(right[number]) if found[number] else None,
                    row=int(ranking.rows[position]) if position >= 0 else None,
                    overlap=float(overlaps[number]),
                    wrong_above=int(actual.wrong[number]) if found[number] else 0,
                    confuser=actual.confuser_of(number, ranking, answers) if found[number] else None,
                )
            )
        return QueryDiagnosis(
            float(actual.precisions.sum()) / answers, tuple(outcomes), costs, last.confusers(ranking, answers)
        )

    def _answer_boxes(self, query: SearchQuery, images: Indices) -> list[FloatArray]:
        """The boxes at which the rules look for the person in each image that is an answer."""
        if self._rules.stated_answers and query.answers_xyxy is not None:
            stated = query.answers_xyxy
            if self._rules.repeats == "ranked":
                return [stated[[number]] for number in range(len(images))]
            gallery = np.asarray(query.gallery)
            return [stated[[int(np.argmax(gallery == image))]] for image in images]
        boxes = [self._truths[i].boxes_xyxy[self._truths[i].person_ids == query.person_id] for i in images]
        return boxes if self._rules.any_box else [of_image[:1] for of_image in boxes]

    def _overlaps(
        self, person_id: int, ranking: QueryRanking, boxes: Sequence[FloatArray], positions: Indices
    ) -> tuple[NDArray[np.float64], Indices]:
        """Overlap of each answer with its detection; and the position of that, for those not found, too.

        An answer that was not found takes the detection that overlaps it most and shows nobody else; no two answers
        take the same.
        """
        overlaps, taken = np.zeros(len(boxes)), positions.copy()
        for number, (image, true_boxes) in enumerate(zip(ranking.answer_images.tolist(), boxes, strict=True)):
            if positions[number] >= 0:
                near = positions[[number]]
            else:
                near = np.flatnonzero((ranking.images == image) & ~ranking.right)
                near = near[~np.isin(near, taken)]
                flat = self._offsets[image] + ranking.rows[near]
                near = near[~self._covers[flat] | (self._person_ids[flat] == person_id)]
            if len(near):
                detected = self._predictions[image].boxes_xyxy[ranking.rows[near]]
                iou = box_iou(detected.astype(np.float64), true_boxes.astype(np.float64)).max(axis=1)
                overlaps[number] = iou.max()
                if iou.max() >= SOME_OVERLAP:
                    taken[number] = near[iou.argmax()]
        return overlaps, taken

    def _similarities_by_repair(
        self, query_embedding: FloatArray, images: Indices, boxes: Sequence[FloatArray]
    ) -> NDArray[np.float64]:
        """``(M,)`` similarity of the true box in each answer.

        Infinite where no true box was embedded: without such embeddings at all, or where a protocol states an answer
        that no label overlaps. What the repair of such an answer would gain is then an upper bound.
        """
        found = np.full(len(boxes), np.inf)
        if self._true_boxes is None:
            return found
        for number, (image, wanted) in enumerate(zip(images.tolist(), boxes, strict=True)):
            truth = self._truths[image]
            people = truth.boxes_xyxy[truth.person_ids != IGNORE_ID].astype(np.float64)
            # By overlap: boxes that a protocol states may be a pixel off those of the labels.
            overlaps = box_iou(wanted.astype(np.float64), people)  # (answers, people)
            labelled = (overlaps > 0).any(axis=1)
            if labelled.any():
                rows = overlaps[labelled].argmax(axis=1)
                found[number] = (self._true_boxes[image].embeddings[rows] @ query_embedding).max()
        return found


def not_detected() -> QueryDiagnosis:
    """The diagnosis of a query whose features should be those of a detection, where none was."""
    costs: dict[CostKind, float] = {kind: 1.0 if kind == "query not detected" else 0.0 for kind in COST_KINDS}
    return QueryDiagnosis(0.0, (), costs, ())


def _kind(found: bool, bad: bool, wrong_above: int, late: bool) -> AnswerKind:
    if not found:
        return "mislocalised" if bad else "missed"
    if not wrong_above:
        return "right"
    return "ranked late" if late else "confused"


def _taken(values: FloatArray, positions: Indices) -> NDArray[np.float64]:
    """``values[positions]`` as float64; anything where a position is -1, also without values."""
    return np.append(values, 0).astype(np.float64)[positions]
