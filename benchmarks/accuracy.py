"""Accuracy of a checkpoint or an artifact on a search data set, beside chance and beside a colour histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import Field

from personsearch.benchmarks.histogram import HistogramEmbedder
from personsearch.benchmarks.systems import SearchSystem, open_system, system_name
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.errors import InputError
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.data import Sample, SearchDataset, open_dataset
from personsearch.evaluation import chance_scores, detection_scores, search_scores

TOP_K = (1, 5, 10)
CHANCE_RANKINGS = 4000


class DetectionFigures(StrictModel):
    """Detection at IoU 0.5, for detections at or above the system's score threshold."""

    average_precision: float = Field(description="the field's: ranking precision times recall")
    ranking_precision: float = Field(description="average precision without the recall factor")
    recall: float
    precision: float
    labelled_recall: float | None = Field(description="recall over people with an identity")


class SearchFigures(StrictModel):
    """Search over one set of gallery boxes, and what random similarities get on the same boxes."""

    mean_ap: float
    top: dict[int, float] = Field(description="share of queries answered among the first k")
    chance_mean_ap: float
    chance_top: dict[int, float]
    gallery_boxes: float = Field(description="boxes ranked for one query, mean")


class AccuracyResult(StrictModel):
    """What one system reaches on one split. All figures are shares in [0, 1]."""

    system: str
    sha256: str
    dataset: str
    split: str
    images: int
    people: int = Field(description="true boxes, ignore regions left out")
    queries: int
    score_threshold: float | None
    detection: DetectionFigures | None = Field(description="none for a system that only embeds")
    search: SearchFigures | None = Field(description="on detections; none without queries or detector")
    true_boxes: SearchFigures | None = Field(description="on true boxes: re-identification alone")


class Embedder(Protocol):
    """Anything that describes given boxes."""

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        """``(N, D)`` L2-normalised descriptors."""


@dataclass
class _Collected:
    samples: list[Sample] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)
    true_boxes: list[Detections] = field(default_factory=list)
    query_rows: dict[int, FloatArray] = field(default_factory=dict)


def measure_path(path: Path, root: Path, split: str = "test", *, threads: int | None = None) -> AccuracyResult:
    """`measure_accuracy` of a checkpoint or artifact on a split of a data set folder.

    Raises:
        InputError: the model or the data set is not one, or there is nothing in the split to measure on.
    """
    dataset = open_dataset(root, split)
    return measure_accuracy(open_system(path, threads), dataset, name=system_name(path), split=split)


def measure_accuracy(
    system: SearchSystem, dataset: SearchDataset, *, name: str, split: str = "test", true_boxes: bool = True
) -> AccuracyResult:
    """Detects in every image, embeds every query from its true box, and scores by the field's protocol.

    Args:
        system: what is measured.
        dataset: one split.
        name: what the result calls the system.
        split: what the result calls the split.
        true_boxes: also search on true boxes in place of detections, the upper bound a better detector could reach
            (one more pass over the images).

    Raises:
        InputError: the split has no person, or no query with an answer in its gallery.
    """
    rows = _collect(system, dataset, detector=system, all_boxes=true_boxes)
    threshold = system.score_threshold
    try:
        scores = detection_scores(rows.found, rows.samples, score_threshold=threshold)
    except ValueError as error:
        raise InputError(str(error), where=f"{dataset.name}, split {split}") from None
    return AccuracyResult(
        system=name,
        sha256=system.sha256,
        dataset=dataset.name,
        split=split,
        images=len(dataset),
        people=scores.ground_truth,
        queries=len(dataset.queries),
        score_threshold=threshold,
        detection=DetectionFigures(
            average_precision=scores.average_precision,
            ranking_precision=scores.ranking_precision,
            recall=scores.recall,
            precision=scores.precision,
            labelled_recall=scores.labelled_recall,
        ),
        search=_search(dataset, split, rows, rows.found, threshold),
        true_boxes=_search(dataset, split, rows, rows.true_boxes, 0.0) if true_boxes else None,
    )


def measure_histogram(dataset: SearchDataset, *, split: str = "test") -> AccuracyResult:
    """The colour-histogram baseline on true boxes, scored as `measure_accuracy` scores its ``true_boxes``.

    Raises:
        InputError: no query of the split has an answer in its gallery.
    """
    rows = _collect(HistogramEmbedder(), dataset, detector=None, all_boxes=True)
    return AccuracyResult(
        system="colour histogram",
        sha256="",
        dataset=dataset.name,
        split=split,
        images=len(dataset),
        people=sum(len(boxes) for boxes in rows.true_boxes),
        queries=len(dataset.queries),
        score_threshold=None,
        detection=None,
        search=None,
        true_boxes=_search(dataset, split, rows, rows.true_boxes, 0.0),
    )


def _collect(
    embedder: Embedder, dataset: SearchDataset, *, detector: SearchSystem | None, all_boxes: bool
) -> _Collected:
    rows = _Collected()
    asked: dict[int, list[int]] = {}
    for number, query in enumerate(dataset.queries):
        asked.setdefault(query.image_index, []).append(number)
    with StageProgress("evaluate", len(dataset)) as progress:
        for index in range(len(dataset)):
            sample, frame = dataset[index], dataset.frame_bgr(index)
            rows.samples.append(sample)
            if detector is not None:
                rows.found += detector.infer([frame])
            people = sample.boxes_xyxy[sample.person_ids != -2] if all_boxes else np.zeros((0, 4), np.float32)
            numbers = asked.get(index, [])
            boxes = np.concatenate([people, *(dataset.queries[n].box_xyxy[None] for n in numbers)])
            embeddings = embedder.embed(frame, boxes)
            rows.true_boxes.append(Detections(people, np.ones(len(people), np.float32), embeddings[: len(people)]))
            rows.query_rows.update(zip(numbers, embeddings[len(people) :], strict=True))
            progress.advance()
    return rows


def _search(
    dataset: SearchDataset, split: str, rows: _Collected, gallery: Sequence[Detections], threshold: float
) -> SearchFigures | None:
    if not dataset.queries:
        return None
    queries = np.stack([rows.query_rows[number] for number in range(len(dataset.queries))])
    try:
        scores = search_scores(queries, dataset.queries, gallery, rows.samples, score_threshold=threshold, top_k=TOP_K)
    except ValueError as error:
        raise InputError(str(error), where=f"{dataset.name}, split {split}") from None
    # A few thousand random rankings settle chance to a fraction of a point, however many queries share them.
    rounds = min(20, max(2, CHANCE_RANKINGS // len(dataset.queries)))
    chance = chance_scores(
        dataset.queries, gallery, rows.samples, score_threshold=threshold, top_k=TOP_K, rounds=rounds
    )
    return SearchFigures(
        mean_ap=scores.mean_ap,
        top=scores.top,
        chance_mean_ap=chance.mean_ap,
        chance_top=chance.top,
        gallery_boxes=scores.gallery_detections,
    )
