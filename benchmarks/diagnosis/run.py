"""From what was collected to a diagnosis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from personsearch.benchmarks.accuracy import EvaluationOptions, PreparedSearch, prepare_search, used_threshold
from personsearch.benchmarks.collecting import Collected
from personsearch.benchmarks.diagnosis.recording import SAME_PERSON, WHOM, Recorder, whom
from personsearch.benchmarks.diagnosis.records import ConfusedPair, Diagnosis, DiagnosisSummary
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress
from personsearch.data import Query, SearchDataset
from personsearch.data.readable import skipped_images_of
from personsearch.evaluation import SearchScores
from personsearch.evaluation.diagnosis import ANSWER_KINDS, COST_KINDS, Diagnoser, QueryDiagnosis, not_detected

SHOWN_PAIRS = 20
ON_TRUE_BOX, FIRST = "with the embedding of the true box", "first: no embeddings of true boxes"


def diagnose(
    collected: Collected,
    dataset: SearchDataset,
    root: Path,
    *,
    split: str = "test",
    options: EvaluationOptions | None = None,
    late_after: int = 10,
) -> Diagnosis:
    """Names every query's errors and what they cost.

    Args:
        collected: what a system found, see `personsearch.benchmarks.collecting.collect`.
        dataset: the split that it was collected on.
        root: of the data set; image names count from it.
        split: what the result calls the split.
        options: how queries are searched; none for the defaults.
        late_after: wrong detections from which on an answer may be ``ranked late``.

    Raises:
        InputError: the split has no queries or none that can be answered, or the system detects nothing.
    """
    where, options = f"{dataset.name}, split {split}", options or EvaluationOptions()
    if not dataset.queries:
        raise InputError("the split has no queries", where=where, remedy="name a split with a search protocol")
    threshold = used_threshold(options, collected)
    try:
        search = prepare_search(collected, dataset, options, score_threshold=threshold)
        scores = search.scores()
        upper = None
        if collected.true_boxes is not None and collected.query_embeddings is not None:
            upper = prepare_search(collected, dataset, options, boxes="true boxes").scores().mean_ap
    except ValueError as error:
        raise InputError(str(error), where=where) from None
    found = _diagnose_all(collected, dataset.queries, search, scores, options, late_after)
    recorder = Recorder(collected, dataset, root)
    records = tuple(
        recorder.record(*one) for one in zip(dataset.queries, recorder.outcomes(scores), found, strict=True)
    )
    counted = [one for one in found if one is not None]
    summary = DiagnosisSummary(
        system=collected.system,
        sha256=collected.sha256,
        dataset=dataset.name,
        split=split,
        protocol=recorder.protocol,
        options=options,
        score_threshold=threshold,
        images=len(dataset),
        skipped_images=len(skipped_images_of(dataset)),
        late_after=late_after,
        repaired_rank=FIRST if collected.true_boxes is None else ON_TRUE_BOX,
        queries=len(records),
        queries_scored=scores.queries,
        mean_ap=scores.mean_ap,
        top=scores.top,
        true_boxes_mean_ap=upper,
        answers={kind: sum(record.kinds.get(kind, 0) for record in records) for kind in ANSWER_KINDS},
        costs={kind: sum(one.costs[kind] for one in counted) / len(counted) for kind in COST_KINDS},
        costs_by_whom=_by_whom(dataset.queries, found, len(counted)),
        confused_pairs=_pairs(dataset.queries, found, len(counted), recorder),
    )
    return Diagnosis(summary, records)


def _diagnose_all(
    collected: Collected,
    queries: Sequence[Query],
    search: PreparedSearch,
    scores: SearchScores,
    options: EvaluationOptions,
    late_after: int,
) -> list[QueryDiagnosis | None]:
    """A diagnosis of every query; none where the gallery does not show the person."""
    assert collected.found is not None  # `prepare_search` has searched in it
    diagnoser = Diagnoser(
        collected.found, collected.samples, collected.true_boxes, mode=options.mode, late_after=late_after
    )
    found: list[QueryDiagnosis | None] = []
    with StageProgress("diagnose", len(queries)) as progress:
        for number, (query, answers) in enumerate(zip(queries, scores.answers.tolist(), strict=True)):
            if not answers:
                found.append(None)
            elif not search.query_found[number]:
                found.append(not_detected())
            else:
                embedding, ranking = search.query_embeddings[number], search.ranking(number)
                found.append(diagnoser.diagnose(query, embedding, ranking, answers))
            progress.advance()
    return found


def _by_whom(queries: Sequence[Query], found: Sequence[QueryDiagnosis | None], count: int) -> dict[str, float]:
    costs = dict.fromkeys(WHOM, 0.0)
    for query, diagnosis in zip(queries, found, strict=True):
        for confuser in diagnosis.confusers if diagnosis else ():
            costs[whom(confuser.person_id, query.person_id)] += confuser.cost / count
    return costs


def _pairs(
    queries: Sequence[Query], found: Sequence[QueryDiagnosis | None], count: int, recorder: Recorder
) -> tuple[ConfusedPair, ...]:
    costs: defaultdict[tuple[int, int], float] = defaultdict(float)
    times: Counter[tuple[int, int]] = Counter()
    for query, diagnosis in zip(queries, found, strict=True):
        for confuser in diagnosis.confusers if diagnosis else ():
            if confuser.person_id >= 0 and whom(confuser.person_id, query.person_id) != SAME_PERSON:
                pair = query.person_id, confuser.person_id
                costs[pair] += confuser.cost / count
                times[pair] += 1
    dearest = sorted(costs, key=lambda pair: (-costs[pair], pair))[:SHOWN_PAIRS]
    return tuple(
        ConfusedPair(
            person_id=person,
            person_name=recorder.person_name(person),
            taken_for_id=other,
            taken_for_name=recorder.person_name(other),
            queries=times[person, other],
            cost=costs[person, other],
        )
        for person, other in dearest
    )
