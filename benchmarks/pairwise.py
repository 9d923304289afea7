"""Accuracy of a network that is guided by its query: every query is shown with every image that it searches.

`collect_pairs` runs the pairs, `prepare_pairs` makes a search of them that can be scored and looked into,
`measure_pairwise` does both and adds what a query costs. Query-independent figures of the same network, its detection
among them, are `accuracy.measure_accuracy`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from personsearch.benchmarks.accuracy import (
    AccuracyResult,
    EvaluationOptions,
    PairFigures,
    PreparedSearch,
    camera_rule,
    check_threshold,
    search_figures,
)
from personsearch.benchmarks.pair_cost import count_pair
from personsearch.benchmarks.systems import checkpoint_file
from personsearch.core.detections import Detections, FloatArray, GuidedDetections
from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.geometry import Letterbox
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.data import Query, Sample, SearchDataset
from personsearch.evaluation import SearchEvaluator
from personsearch.evaluation.pairwise import searched_images, unfold

if TYPE_CHECKING:
    from personsearch.models.query_guided import QueryGuided
    from personsearch.models.search_model import SearchModel

PAIRS_AT_ONCE = 4
KEPT_BYTES = 1 << 28
"""Of letterboxed frames: a gallery that fits is decoded once, not once a query."""
Fitted = tuple[Frame, Letterbox]


class PairSystem:
    """A query-guided network in evaluation mode, run by torch wherever its weights lie.

    Args:
        model: both a `SearchModel` and `QueryGuided`.
        sha256: of its checkpoint.

    Raises:
        ValueError: the model does not look at the query.
    """

    def __init__(self, model: SearchModel, sha256: str = "") -> None:
        from personsearch.models.query_guided import QueryGuided

        if not isinstance(model, QueryGuided):
            raise ValueError(f"{type(model).__name__} is not guided by a query")
        self.model = model.eval()
        self._guided: QueryGuided = model
        self.sha256 = sha256
        self.score_threshold = model.score_threshold

    def fit(self, frame: Frame) -> Fitted:
        """The frame as the network takes it."""
        return self.model.preprocess.letterbox(frame)

    def infer_pairs(self, frames: Sequence[Fitted], query: Fitted, box_xyxy: FloatArray) -> list[GuidedDetections]:
        """The people in each frame for one query, source pixels; boxes inside the padding are dropped.

        Args:
            frames: of `fit`.
            query: the query's whole image, of `fit`.
            box_xyxy: ``(4,)`` its person, source pixels.
        """
        import torch

        device = next(self.model.parameters()).device
        image, letterbox = query
        box = torch.from_numpy(letterbox.to_input(np.asarray(box_xyxy, np.float32)[None]).astype(np.float32))
        found = self._guided.detect_pairs(
            torch.from_numpy(np.stack([frame for frame, _ in frames])).to(device),
            torch.from_numpy(np.stack([image] * len(frames))).to(device),
            box.expand(len(frames), -1).to(device),
        )
        return [_in_source(one, letterbox) for one, (_, letterbox) in zip(found, frames, strict=True)]


@dataclass(frozen=True, eq=False)
class CollectedPairs:
    """What a query-guided system found for every query of a split.

    Attributes:
        samples: labels of each image.
        found: for each query, by image.
        pairs: that were run.
        seconds: spent on them by the network, letterboxed frames in, boxes out.
    """

    samples: list[Sample]
    found: list[dict[int, GuidedDetections]]
    pairs: int
    seconds: float


def open_pairs(path: Path, threads: int | None = None) -> PairSystem | None:
    """The query-guided network of a checkpoint or run folder; none for any other model, artifacts among them.

    Args:
        path: of the model.
        threads: CPU threads of torch, for the whole process.

    Raises:
        InputError: there is nothing at ``path``, or what is there is damaged.
    """
    if path.suffix == ".npz" or (checkpoint := checkpoint_file(path)) is None:
        return None
    import torch

    from personsearch.core.model_recipes import QeepsRecipe
    from personsearch.models.checkpoint import load_model, read_checkpoint

    if not isinstance(read_checkpoint(checkpoint).recipe.model, QeepsRecipe):
        return None
    if threads is not None:
        torch.set_num_threads(threads)
    return PairSystem(load_model(checkpoint)[0], sha256_file(checkpoint))


def measure_pairwise(
    system: PairSystem,
    dataset: SearchDataset,
    *,
    name: str,
    split: str = "test",
    options: EvaluationOptions | None = None,
) -> tuple[AccuracyResult, PreparedSearch]:
    """Shows every query with every image that it searches, and scores by the field's protocol.

    There are no detection figures: what is detected depends on who is asked for, and the paper prints none.

    Args:
        system: what is measured.
        dataset: one split.
        name: what the result calls the system.
        split: what the result calls the split.
        options: how; queries are always their true boxes, without context matching.

    Returns:
        The figures, and the search that can be looked into query by query.

    Raises:
        InputError: the split has no query with an answer, a frame cannot be read, or an option does not apply.
    """
    options = options or EvaluationOptions()
    threshold = check_threshold(options, system.score_threshold, name)
    check_options(options, dataset)
    collected = collect_pairs(system, dataset)
    where = f"{dataset.name}, split {split}"
    try:
        search = prepare_pairs(collected, dataset.queries, options, score_threshold=threshold)
        figures = search_figures(search, len(dataset.queries))
    except ValueError as error:
        raise InputError(str(error), where=where) from None
    cost = count_pair(system.model)
    assert cost is not None  # of a query-guided network
    queries = len(dataset.queries)
    result = AccuracyResult(
        system=name,
        sha256=system.sha256,
        dataset=dataset.name,
        split=split,
        protocol=getattr(dataset, "protocol", "default"),
        camera_rule=camera_rule(dataset.queries, collected.samples),
        options=options,
        images=len(dataset),
        people=sum(int((sample.person_ids != -2).sum()) for sample in collected.samples),
        queries=queries,
        score_threshold=threshold,
        detection=None,
        search=figures,
        true_boxes=None,
        pairs=PairFigures(
            pairs=collected.pairs,
            pair_macs=cost.macs,
            query_macs=cost.macs * collected.pairs / queries,
            query_seconds=collected.seconds / queries,
        ),
    )
    return result, search


def check_options(options: EvaluationOptions, dataset: SearchDataset) -> None:
    """Refuses what a search by pairs cannot be asked.

    Raises:
        InputError: no queries, or an option that needs embeddings which do not depend on the query.
    """
    remedy = "leave it out, or measure the branch without a query: --query-independent"
    if options.query_features != "gt_box":
        raise InputError(
            f"query features are `{options.query_features}`, the network is guided by its query",
            expected="gt_box: the query is shown by its true box",
            remedy=remedy,
        )
    if options.context is not None:
        raise InputError("context matching (CBGM) compares embeddings, similarities here are of pairs", remedy=remedy)
    if options.coco:
        raise InputError("COCO's average precision is of detections, which here depend on the query", remedy=remedy)
    if not dataset.queries:
        raise InputError(
            "the split has no queries, and the network is guided by its query",
            where=dataset.name,
            remedy="measure its detections with --query-independent",
        )


def collect_pairs(system: PairSystem, dataset: SearchDataset) -> CollectedPairs:
    """Runs every pair of a query and an image that it searches.

    Raises:
        InputError: a frame cannot be read.
    """
    width, height = system.model.preprocess.input_wh
    fitted = lru_cache(maxsize=max(PAIRS_AT_ONCE, KEPT_BYTES // (3 * width * height)))(
        lambda index: system.fit(dataset.frame_bgr(index))
    )
    samples = [dataset[index] for index in range(len(dataset))]
    searched = [searched_images(query, len(dataset)) for query in dataset.queries]
    found: list[dict[int, GuidedDetections]] = []
    seconds, pairs = 0.0, sum(map(len, searched))
    with StageProgress("evaluate pairs", pairs) as progress:
        for query, images in zip(dataset.queries, searched, strict=True):
            own, spent = _one_query(system, query, images.tolist(), fitted, progress.advance)
            found.append(own)
            seconds += spent
    return CollectedPairs(samples, found, pairs, seconds)


def prepare_pairs(
    collected: CollectedPairs, queries: Sequence[Query], options: EvaluationOptions, *, score_threshold: float
) -> PreparedSearch:
    """A search over what was found for each query, options applied.

    Raises:
        ValueError: the evaluator refuses what was collected.
    """
    unfolded = unfold(queries, collected.found, collected.samples)
    evaluator = SearchEvaluator(
        unfolded.queries,
        unfolded.predictions,
        unfolded.truths,
        score_threshold=score_threshold,
        mode=options.mode,
        weight_by_score=options.weighted_by_score,
    )
    return PreparedSearch(evaluator, unfolded.query_embeddings, np.ones(len(queries), bool))


def _one_query(
    system: PairSystem,
    query: Query,
    images: Sequence[int],
    fitted: Callable[[int], Fitted],
    advance: Callable[[int], None],
) -> tuple[dict[int, GuidedDetections], float]:
    """What is found in each image, and the seconds that the network took."""
    asked = fitted(query.image_index)
    found: dict[int, GuidedDetections] = {}
    seconds = 0.0
    for start in range(0, len(images), PAIRS_AT_ONCE):
        part = images[start : start + PAIRS_AT_ONCE]
        frames = [fitted(image) for image in part]
        before = time.perf_counter()
        answers = system.infer_pairs(frames, asked, query.box_xyxy)
        seconds += time.perf_counter() - before
        found.update(zip(part, answers, strict=True))
        advance(len(part))
    return found, seconds


def _in_source(found: GuidedDetections, letterbox: Letterbox) -> GuidedDetections:
    """In source pixels and without embeddings, which nobody asks for and which would fill the memory."""
    boxes = letterbox.to_source(found.detections.boxes_xyxy).astype(np.float32)
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    people = Detections(boxes, found.detections.scores, np.zeros((len(boxes), 0), np.float32))
    return GuidedDetections(people[kept], found.similarities[kept])
