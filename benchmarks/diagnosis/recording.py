"""From a query's diagnosis, which knows numbers, to its record, which knows names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from personsearch.benchmarks.accuracy import QueryOutcome, query_outcomes
from personsearch.benchmarks.collecting import Collected
from personsearch.benchmarks.diagnosis.records import AnswerRecord, Box, ConfuserRecord, QueryRecord
from personsearch.benchmarks.stored_detections import image_names
from personsearch.core.detections import FloatArray
from personsearch.data import IGNORE, UNLABELLED, Query, SearchDataset
from personsearch.data.index import DEFAULT_PROTOCOL, IndexedDataset
from personsearch.evaluation import SearchScores
from personsearch.evaluation.confusion import Confuser
from personsearch.evaluation.diagnosis import AnswerOutcome, QueryDiagnosis
from personsearch.evaluation.shown import BACKGROUND_ID

SHOWN_CONFUSERS = 5
SAME_PERSON, OTHER_PEOPLE = "the same person", "other people"
_NOBODY = {UNLABELLED: "people without identity", IGNORE: "regions to ignore", BACKGROUND_ID: "background"}
WHOM = (SAME_PERSON, OTHER_PEOPLE, *_NOBODY.values())


def whom(person_id: int, searched: int) -> str:
    """Which of `WHOM` a wrong detection shows, when ``searched`` is searched."""
    if person_id == searched:
        return SAME_PERSON
    return _NOBODY.get(person_id, OTHER_PEOPLE)


class Recorder:
    """Writes the queries of one split down.

    Args:
        collected: what was searched.
        dataset: the split.
        root: of the data set; image names count from it.
    """

    def __init__(self, collected: Collected, dataset: SearchDataset, root: Path) -> None:
        self._collected, self._queries = collected, dataset.queries
        self._images = image_names(collected.samples, root)
        self._people = dataset.index.person_names if isinstance(dataset, IndexedDataset) else ()
        self.protocol: str = getattr(dataset, "protocol", DEFAULT_PROTOCOL)

    def person_name(self, person_id: int) -> str:
        """The publisher's name of a person, or the number where there is none."""
        return self._people[person_id] if 0 <= person_id < len(self._people) else str(person_id)

    def outcomes(self, scores: SearchScores) -> list[QueryOutcome]:
        """The outcome of every query."""
        return query_outcomes(self._queries, scores)

    def record(self, query: Query, outcome: QueryOutcome, diagnosis: QueryDiagnosis | None) -> QueryRecord:
        """One query; ``diagnosis`` is none where the gallery does not show the person."""
        answers = () if diagnosis is None else diagnosis.answers
        found = sum(answer.rank is not None for answer in answers)
        confusers = () if diagnosis is None else diagnosis.confusers[:SHOWN_CONFUSERS]
        return QueryRecord(
            **outcome.model_dump(),
            image_name=self._images[query.image_index],
            box_xyxy=_box(query.box_xyxy),
            camera_id=self._collected.samples[query.image_index].camera_id,
            person_name=self.person_name(query.person_id),
            protocol=self.protocol,
            detected=not (diagnosis is not None and diagnosis.costs["query not detected"]),
            found=found,
            missed=outcome.answers - found,
            kinds=dict(sorted(Counter(answer.kind for answer in answers).items())),
            costs={} if diagnosis is None else dict(diagnosis.costs.items()),
            confusers=tuple(self._confuser(one, query.person_id) for one in confusers),
            errors=tuple(self._answer(one, query.person_id) for one in answers if one.kind != "right"),
        )

    def _answer(self, answer: AnswerOutcome, searched: int) -> AnswerRecord:
        return AnswerRecord(
            image=answer.image,
            image_name=self._images[answer.image],
            box_xyxy=_box(answer.boxes_xyxy[0]),
            found_xyxy=None if answer.row is None else self._detection(answer.image, answer.row),
            kind=answer.kind,
            rank=answer.rank,
            similarity=answer.similarity,
            overlap=answer.overlap,
            wrong_above=answer.wrong_above,
            confuser=None if answer.confuser is None else self._confuser(answer.confuser, searched),
        )

    def _confuser(self, confuser: Confuser, searched: int) -> ConfuserRecord:
        kind = whom(confuser.person_id, searched)
        return ConfuserRecord(
            person_id=confuser.person_id,
            who=f"person {self.person_name(confuser.person_id)}"
            if kind == OTHER_PEOPLE
            else kind.replace("people", "person"),
            image=confuser.image,
            image_name=self._images[confuser.image],
            box_xyxy=self._detection(confuser.image, confuser.row),
            similarity=confuser.similarity,
            rank=confuser.rank,
            detections=confuser.detections,
            cost=confuser.cost,
        )

    def _detection(self, image: int, row: int) -> Box:
        assert self._collected.found is not None  # a confuser is one of these
        return _box(self._collected.found[image].boxes_xyxy[row])


def _box(box_xyxy: FloatArray) -> Box:
    x1, y1, x2, y2 = np.round(box_xyxy.astype(np.float64), 2).tolist()
    return x1, y1, x2, y2
