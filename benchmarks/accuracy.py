"""Accuracy of a checkpoint or an artifact on a search data set, beside chance and beside a colour histogram.

`collect` gathers what a system says about a split, `prepare_search` makes a search of it that can be scored and looked
into query by query, `score` computes the figures; `measure_accuracy` does all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from personsearch.benchmarks.collecting import Collected, WithoutQueries, collect
from personsearch.benchmarks.histogram import HistogramEmbedder
from personsearch.benchmarks.systems import SearchSystem, TorchSystem
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.recipe import StrictModel
from personsearch.data import Query, Sample, SearchDataset
from personsearch.data.readable import skipped_images_of
from personsearch.evaluation import (
    ChanceScores,
    Mode,
    QueryRanking,
    SearchEvaluator,
    SearchScores,
    detected_queries,
    detection_scores,
    query_context,
)
from personsearch.evaluation.coco import coco_scores

TOP_K = (1, 5, 10)
CHANCE_RANKINGS = 4000
QueryFeatures = Literal["gt_box", "detection"]


class EvaluationOptions(StrictModel):
    """Everything that changes a figure on the same data; recorded with it."""

    mode: Mode = Field(default="strict", description="see personsearch.evaluation.search")
    query_features: QueryFeatures = Field(
        default="gt_box", description="of the query's true box, or of the detection that overlaps it most"
    )
    weighted_by_score: bool = Field(default=False, description="confidence weighted similarity")
    context: tuple[int, int] | None = Field(default=None, description="k1, k2 of context bipartite graph matching")
    coco: bool = Field(default=False, description="COCO's average precision, too")
    score_threshold: float | None = Field(default=None, description="none for the system's own")


class DetectionFigures(StrictModel):
    """Detection at IoU 0.5, for detections at or above the score threshold."""

    average_precision: float = Field(description="the field's: ranking precision times recall")
    ranking_precision: float = Field(description="average precision without the recall factor")
    recall: float
    precision: float
    labelled_recall: float | None = Field(description="recall over people with an identity")
    coco_ap: float | None = Field(default=None, description="mean over IoU .5 to .95; none where not asked for")
    coco_ap_50: float | None = None


class SearchFigures(StrictModel):
    """Search over one set of gallery boxes, and what random similarities get on the same boxes."""

    mean_ap: float
    top: dict[int, float] = Field(description="share of queries answered among the first k")
    chance_mean_ap: float
    chance_top: dict[int, float]
    gallery_boxes: float = Field(description="boxes ranked for one query, mean")
    gallery_images: float = Field(description="images searched for one query, mean")
    queries_scored: int = Field(description="queries whose gallery shows the person; only they count")
    queries_not_detected: int = Field(description="scored 0, because nobody was detected where they stand")


class PairFigures(StrictModel):
    """What searching costs a network that is shown every query with every image of its gallery."""

    pairs: int = Field(description="of query and image, all queries together")
    pair_macs: int = Field(description="multiply-accumulates of one pair, with all the proposals it may have")
    query_macs: float = Field(description="of one query: `pair_macs` times the images it searches, mean")
    query_seconds: float = Field(description="of one query, measured: network alone, decoding left out, mean")


class AccuracyResult(StrictModel):
    """What one system reaches on one split. All figures are shares in [0, 1]."""

    system: str
    sha256: str
    dataset: str
    split: str
    protocol: str = Field(description="of the data set; fixes the galleries")
    camera_rule: str | None = Field(description="whether galleries hold images of the query's camera; none: no queries")
    options: EvaluationOptions
    images: int
    skipped_images: int = Field(default=0, description="further ones that could not be read; nothing here is of them")
    people: int = Field(description="true boxes, ignore regions left out")
    queries: int
    score_threshold: float | None
    detection: DetectionFigures | None = Field(description="none for a system that only embeds")
    search: SearchFigures | None = Field(description="on detections; none without queries or detector")
    true_boxes: SearchFigures | None = Field(description="on true boxes: re-identification alone")
    pairs: PairFigures | None = Field(default=None, description="of a search by pairs of query and image alone")


class QueryOutcome(StrictModel):
    """What became of one query."""

    query: int = Field(description="its number in the protocol")
    image: int = Field(description="index of its image in the split")
    person_id: int
    average_precision: float | None = Field(description="none where the gallery does not show the person")
    first_hit_rank: int | None = Field(description="from 1; none where the person was not found")
    answers: int = Field(description="gallery images to find")


class Asking(Protocol):
    """Anything with queries: a data set, or other galleries for one."""

    @property
    def queries(self) -> tuple[Query, ...]: ...


@dataclass(frozen=True, eq=False)
class PreparedSearch:
    """A search that can be scored as a whole and looked into query by query."""

    evaluator: SearchEvaluator
    query_embeddings: FloatArray
    query_found: NDArray[np.bool_]

    def scores(self, top_k: tuple[int, ...] = TOP_K) -> SearchScores:
        """Figures over all queries, with the average precision and first hit of each."""
        return self.evaluator.scores(self.query_embeddings, query_found=self.query_found, top_k=top_k)

    def chance(self, rounds: int) -> ChanceScores:
        """What random similarities get."""
        return self.evaluator.chance(query_found=self.query_found, top_k=TOP_K, rounds=rounds)

    def ranking(self, number: int, limit: int | None = None) -> QueryRanking:
        """What one query ranks, best first."""
        return self.evaluator.ranking(self.query_embeddings, number, limit)


def measure_accuracy(
    system: SearchSystem,
    dataset: SearchDataset,
    *,
    name: str,
    split: str = "test",
    true_boxes: bool = True,
    options: EvaluationOptions | None = None,
) -> AccuracyResult:
    """Detects in every image, embeds every query from its true box, and scores by the field's protocol.

    Of a detector without embeddings only detections are scored.

    Args:
        system: what is measured.
        dataset: one split.
        name: what the result calls the system.
        split: what the result calls the split.
        true_boxes: also search on true boxes in place of detections, the upper bound a better detector could reach
            (one more pass over the images).
        options: how; none for the defaults.

    Raises:
        InputError: the split has no person, or no query with an answer in its gallery.
    """
    if isinstance(system, TorchSystem) and not system.embeds:
        dataset, true_boxes = WithoutQueries(dataset), False
    collected = collect(system, dataset, name=name, detector=system, all_boxes=true_boxes)
    return score(collected, dataset, split=split, options=options)


def measure_histogram(
    dataset: SearchDataset, *, split: str = "test", options: EvaluationOptions | None = None
) -> AccuracyResult:
    """The colour-histogram baseline on true boxes, scored as `measure_accuracy` scores its ``true_boxes``.

    Raises:
        InputError: no query of the split has an answer in its gallery.
    """
    collected = collect(HistogramEmbedder(), dataset, name="colour histogram", detector=None, all_boxes=True)
    return score(collected, dataset, split=split, options=options)


def score(
    collected: Collected, dataset: SearchDataset, *, split: str = "test", options: EvaluationOptions | None = None
) -> AccuracyResult:
    """Every figure of what was collected.

    Args:
        collected: see `collect`.
        dataset: the split that it was collected on.
        split: what the result calls the split.
        options: how; none for the defaults.

    Raises:
        InputError: the split has no person, no query has an answer, embeddings are not finite, or the options ask
            for what was not collected.
    """
    where, options = f"{dataset.name}, split {split}", options or EvaluationOptions()
    threshold = used_threshold(options, collected)
    try:
        detection = None if collected.found is None else _detection(collected.found, collected, threshold, options)
        search = None if collected.found is None else _search(collected, dataset, options, "detections", threshold)
        on_true = None if collected.true_boxes is None else _search(collected, dataset, options, "true boxes", 0.0)
    except ValueError as error:
        raise InputError(str(error), where=where) from None
    return AccuracyResult(
        system=collected.system,
        sha256=collected.sha256,
        dataset=dataset.name,
        split=split,
        protocol=getattr(dataset, "protocol", "default"),
        camera_rule=camera_rule(dataset.queries, collected.samples),
        options=options,
        images=len(dataset),
        skipped_images=len(skipped_images_of(dataset)),
        people=sum(int((sample.person_ids != -2).sum()) for sample in collected.samples),
        queries=len(dataset.queries),
        score_threshold=None if collected.found is None else threshold,
        detection=detection,
        search=search,
        true_boxes=on_true,
    )


def prepare_search(
    collected: Collected,
    dataset: Asking,
    options: EvaluationOptions,
    *,
    boxes: Literal["detections", "true boxes"] = "detections",
    score_threshold: float = 0.0,
) -> PreparedSearch:
    """A search over detections or over true boxes, options applied.

    On true boxes a query always has the features of its own true box, and every score is 1.

    Raises:
        ValueError: what the options ask for was not collected, or the evaluator refuses what was.
    """
    queries = dataset.queries
    gallery = collected.found if boxes == "detections" else collected.true_boxes
    if gallery is None:
        raise ValueError(f"no {boxes} were collected")
    if options.query_features == "detection" and boxes == "detections":
        embeddings, found = detected_queries(queries, gallery, options.mode)
    elif collected.query_embeddings is None:
        raise ValueError("the queries' true boxes have no embeddings: only `detection` query features are possible")
    else:
        embeddings, found = collected.query_embeddings, np.ones(len(queries), bool)
    context = None
    if options.context is not None:
        images, people = options.context
        context = query_context(queries, gallery, images=images, people=people, score_threshold=score_threshold)
    evaluator = SearchEvaluator(
        queries,
        gallery,
        collected.samples,
        score_threshold=score_threshold,
        mode=options.mode,
        weight_by_score=options.weighted_by_score,
        context=context,
    )
    return PreparedSearch(evaluator, embeddings, found)


def query_outcomes(queries: Sequence[Query], scores: SearchScores) -> list[QueryOutcome]:
    """The outcome of every query, in the protocol's order."""
    return [
        QueryOutcome(
            query=number,
            image=query.image_index,
            person_id=query.person_id,
            average_precision=None if np.isnan(precision) else float(precision),
            first_hit_rank=int(rank) if np.isfinite(rank) else None,
            answers=int(answers),
        )
        for number, (query, precision, rank, answers) in enumerate(
            zip(queries, scores.per_query_ap, scores.first_hit_rank, scores.answers, strict=True)
        )
    ]


def camera_rule(queries: Sequence[Query], samples: Sequence[Sample]) -> str | None:
    """Whether queries are searched in other images of their own camera, as the galleries have it."""
    if not queries:
        return None
    cameras = np.array([sample.camera_id for sample in samples])
    for query in queries:
        gallery = np.arange(len(samples)) if query.gallery is None else np.asarray(query.gallery)
        others = gallery[gallery != query.image_index]
        if (cameras[others] == cameras[query.image_index]).any():
            return "same camera included"
    return "other cameras only"


def used_threshold(options: EvaluationOptions, collected: Collected) -> float:
    """The score threshold that the figures are of.

    Raises:
        InputError: it is below what the system reports.
    """
    return check_threshold(options, collected.score_threshold, collected.system)


def check_threshold(options: EvaluationOptions, lowest: float, system: str) -> float:
    """The score threshold that the figures are of, of a system that reports nothing below ``lowest``.

    Raises:
        InputError: the options ask for a lower one.
    """
    wanted = options.score_threshold
    if wanted is not None and wanted < lowest:
        raise InputError(
            f"score threshold is {wanted:g}, but {system} reports nothing below {lowest:g}",
            expected=f"at least {lowest:g}",
        )
    return lowest if wanted is None else wanted


def _detection(
    found: Sequence[Detections], collected: Collected, threshold: float, options: EvaluationOptions
) -> DetectionFigures:
    scores = detection_scores(found, collected.samples, score_threshold=threshold, mode=options.mode)
    coco = coco_scores(found, collected.samples, score_threshold=threshold) if options.coco else None
    return DetectionFigures(
        average_precision=scores.average_precision,
        ranking_precision=scores.ranking_precision,
        recall=scores.recall,
        precision=scores.precision,
        labelled_recall=scores.labelled_recall,
        coco_ap=None if coco is None else coco.ap,
        coco_ap_50=None if coco is None else coco.ap_50,
    )


def _search(
    collected: Collected,
    dataset: SearchDataset,
    options: EvaluationOptions,
    boxes: Literal["detections", "true boxes"],
    threshold: float,
) -> SearchFigures | None:
    if not dataset.queries:
        return None
    search = prepare_search(collected, dataset, options, boxes=boxes, score_threshold=threshold)
    return search_figures(search, len(dataset.queries))


def search_figures(search: PreparedSearch, queries: int) -> SearchFigures:
    """The figures of a search that asks ``queries`` queries.

    Raises:
        ValueError: no query has an answer in its gallery.
    """
    scores = search.scores()
    # A few thousand random rankings settle chance to a fraction of a point, however many queries share them.
    chance = search.chance(min(20, max(2, CHANCE_RANKINGS // queries)))
    return SearchFigures(
        mean_ap=scores.mean_ap,
        top=scores.top,
        chance_mean_ap=chance.mean_ap,
        chance_top=chance.top,
        gallery_boxes=scores.gallery_detections,
        gallery_images=scores.gallery_images,
        queries_scored=scores.queries,
        queries_not_detected=int((~search.query_found).sum()),
    )
