"""Search figures: every detection of a query's gallery images ranked together; mAP and top-k.

The OIM evaluator's protocol. Three oddities of its descendants are mended by default (``strict=True``) and
kept for comparison with published figures (``strict=False``):

=========================  ==================================  ============================================
case                       strict                              not strict (SeqNet and its family)
=========================  ==================================  ============================================
query's own image listed   left out                            kept
gallery lists image twice  counts once                         ranked once, its person counted twice
person stands twice        either box will do                  the first box only
=========================  ==================================  ============================================

Without a gallery list the query's own image is left out in both. Equal similarities stand together, as
scikit-learn's ``average_precision_score`` groups them: each positive gets the precision at the end of its
group. For top-k a tied wrong detection counts as ranked before the right one, so that a constant embedding
scores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import Boxes, box_iou
from personsearch.core.seeding import rng_for
from personsearch.core.similarity import cosine_similarity
from personsearch.evaluation.truth import LabelledImage, SearchQuery, check_images

BLOCK_VALUES = 1 << 24
"""Similarities held at once: 64 MiB of float32, whatever the number of queries."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SearchScores:
    """How well people were found again.

    Attributes:
        mean_ap: mean over queries of the average precision, scaled by recall, in [0, 1].
        top: for each k, the share of queries with a right detection among the k most similar.
        per_query_ap: ``(Q,)``; NaN for a query that nobody in its gallery answers, which no figure counts.
        queries: number of queries that count.
        gallery_images: mean number of images searched for one query.
        gallery_detections: mean number of detections ranked for one query.
    """

    mean_ap: float
    top: dict[int, float]
    per_query_ap: NDArray[np.float64]
    queries: int
    gallery_images: float
    gallery_detections: float


@dataclass(frozen=True)
class ChanceScores:
    """What similarities drawn at random get on the same detections, galleries and queries."""

    mean_ap: float
    top: dict[int, float]


@dataclass(frozen=True)
class _Gallery:
    """Detections of all images in one row, and which of them may answer for whom."""

    embeddings: FloatArray  # (N, D)
    image_of: Indices  # (N,)
    answers: dict[int, Indices]  # person id -> detections on that person, ascending, hence grouped by image
    seen_in: dict[int, Indices]  # person id -> images that show that person, ascending
    images: int


def search_scores(
    query_embeddings: FloatArray,
    queries: Sequence[SearchQuery],
    predictions: Sequence[Detections],
    truths: Sequence[LabelledImage],
    *,
    score_threshold: float = 0.5,
    top_k: tuple[int, ...] = (1, 5, 10),
    strict: bool = True,
) -> SearchScores:
    """Ranks each query's gallery by the dot product of embeddings and scores the ranking.

    In an image that shows the person, the most similar detection with an IoU of at least ``min(0.5, w h /
    ((w + 10) (h + 10)))`` with the person's box is right and every other detection wrong, also a second one
    on the same person. A person who is in the image but not detected still counts as missed: AP is the sum
    over right detections of the precision at their rank, divided by the number of gallery images that show
    the person.

    Args:
        query_embeddings: ``(Q, D)``, L2-normalised.
        queries: ``(Q,)``; ``image_index`` and ``gallery`` index ``predictions``.
        predictions: detections of each image with their embeddings, source pixels.
        truths: boxes and person ids of each image, in the same order.
        score_threshold: detections below it are not part of any gallery.
        top_k: ranks at which hits are counted.
        strict: see the table above.

    Raises:
        ValueError: lengths or embedding widths differ, an embedding is not finite, an index lies outside, or
            no query has an answer.
    """
    gallery = _build_gallery(predictions, truths, score_threshold, strict)
    _check_queries(query_embeddings, queries, gallery)

    def similarities(start: int, stop: int) -> FloatArray:
        return cosine_similarity(query_embeddings[start:stop], gallery.embeddings)

    return _score(queries, gallery, similarities, top_k, strict)


def chance_scores(
    queries: Sequence[SearchQuery],
    predictions: Sequence[Detections],
    truths: Sequence[LabelledImage],
    *,
    score_threshold: float = 0.5,
    top_k: tuple[int, ...] = (1, 5, 10),
    strict: bool = True,
    rounds: int = 20,
    seed: int = 0,
) -> ChanceScores:
    """The mean of `search_scores` over ``rounds`` draws of random similarities: what no skill at all gets.

    Drawn, not computed: the expectation of AP has a closed form only while nobody is detected twice (a test
    checks the draws against it there).
    """
    gallery = _build_gallery(predictions, truths, score_threshold, strict)
    runs = []
    for number in range(rounds):
        rng = rng_for(seed, "chance", number)

        def similarities(start: int, stop: int, rng: np.random.Generator = rng) -> FloatArray:
            return rng.random((stop - start, len(gallery.image_of)), dtype=np.float32)

        runs.append(_score(queries, gallery, similarities, top_k, strict))
    return ChanceScores(
        mean_ap=float(np.mean([run.mean_ap for run in runs])),
        top={k: float(np.mean([run.top[k] for run in runs])) for k in top_k},
    )


def relaxed_iou_threshold(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """``(N,)`` smallest IoU that counts as found: 0.5, and less for boxes that a few pixels spoil."""
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).astype(np.float64)
    limit: NDArray[np.float64] = np.minimum(0.5, sides.prod(axis=1) / (sides + 10).prod(axis=1))
    return limit


def _build_gallery(
    predictions: Sequence[Detections], truths: Sequence[LabelledImage], score_threshold: float, strict: bool
) -> _Gallery:
    check_images(predictions, truths)
    kept = [prediction.above(score_threshold) for prediction in predictions]
    widths = {one.embeddings.shape[1] for one in kept}
    if len(widths) > 1:
        raise ValueError(f"embedding widths differ between images: {sorted(widths)}")
    counts = [len(one) for one in kept]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    answers: dict[int, list[Indices]] = {}
    seen_in: dict[int, list[int]] = {}
    for image, (one, truth) in enumerate(zip(kept, truths, strict=True)):
        enough = relaxed_iou_threshold(truth.boxes_xyxy)
        covers = box_iou(one.boxes_xyxy, truth.boxes_xyxy) >= enough  # (n, m)
        for person in np.unique(truth.person_ids[truth.person_ids >= 0]).tolist():
            boxes = np.flatnonzero(truth.person_ids == person)
            found = covers[:, boxes if strict else boxes[:1]].any(axis=1)
            seen_in.setdefault(person, []).append(image)
            answers.setdefault(person, []).append(starts[image] + np.flatnonzero(found))
    embeddings = np.concatenate([one.embeddings for one in kept]) if kept else np.zeros((0, 0), np.float32)
    if not np.isfinite(embeddings).all():
        raise ValueError("a detection's embedding is not finite")
    return _Gallery(
        embeddings=embeddings,
        image_of=np.repeat(np.arange(len(kept), dtype=np.int64), counts),
        answers={person: np.concatenate(parts) for person, parts in answers.items()},
        seen_in={person: np.array(images, dtype=np.int64) for person, images in seen_in.items()},
        images=len(kept),
    )


def _check_queries(query_embeddings: FloatArray, queries: Sequence[SearchQuery], gallery: _Gallery) -> None:
    if query_embeddings.ndim != 2 or len(query_embeddings) != len(queries):
        raise ValueError(f"query_embeddings has shape {query_embeddings.shape}, expected ({len(queries)}, D)")
    if not np.isfinite(query_embeddings).all():
        raise ValueError("a query's embedding is not finite")
    for number, query in enumerate(queries):
        outside = [i for i in (query.image_index, *(query.gallery or ())) if not 0 <= i < gallery.images]
        if outside:
            raise ValueError(f"query {number} names image {outside[0]}, there are {gallery.images}")


def _score(
    queries: Sequence[SearchQuery],
    gallery: _Gallery,
    similarities: Callable[[int, int], FloatArray],
    top_k: tuple[int, ...],
    strict: bool,
) -> SearchScores:
    per_query = np.full(len(queries), np.nan)
    first_hit = np.full(len(queries), np.inf)
    searched = np.zeros((len(queries), 2))
    block = max(1, BLOCK_VALUES // max(1, len(gallery.image_of)))
    for start in range(0, len(queries), block):
        rows = similarities(start, min(start + block, len(queries)))  # (b, N)
        for number, row in enumerate(rows, start):
            images = _images_searched(queries[number], gallery.images, strict)
            ranked = images[gallery.image_of] > 0
            searched[number] = np.count_nonzero(images), np.count_nonzero(ranked)
            person = queries[number].person_id
            present = int(images[gallery.seen_in.get(person, np.zeros(0, np.int64))].sum())
            if present:
                per_query[number], first_hit[number] = _rank(row, ranked, person, gallery, present)
    counted = ~np.isnan(per_query)
    if not counted.any():
        raise ValueError(f"none of {len(queries)} queries has its person in its gallery")
    images_mean, detections_mean = searched[counted].mean(axis=0)
    return SearchScores(
        mean_ap=float(per_query[counted].mean()),
        top={k: float((first_hit[counted] <= k).mean()) for k in top_k},
        per_query_ap=per_query,
        queries=int(counted.sum()),
        gallery_images=float(images_mean),
        gallery_detections=float(detections_mean),
    )


def _images_searched(query: SearchQuery, images: int, strict: bool) -> Indices:
    """``(images,)``: how often each image stands in the query's gallery."""
    if query.gallery is None:
        times = np.ones(images, dtype=np.int64)
        times[query.image_index] = 0
        return times
    times = np.bincount(np.array(query.gallery, dtype=np.int64), minlength=images)
    if strict:
        times = np.minimum(times, 1)
        times[query.image_index] = 0
    return times


def _rank(
    row: FloatArray, ranked: NDArray[np.bool_], person: int, gallery: _Gallery, present: int
) -> tuple[float, float]:
    """A query's average precision and the rank of its first right detection (infinite without one)."""
    candidates = gallery.answers[person][ranked[gallery.answers[person]]]
    if not len(candidates):
        return 0.0, np.inf
    image_starts = np.flatnonzero(np.diff(gallery.image_of[candidates], prepend=-1))
    right = np.sort(np.maximum.reduceat(row[candidates], image_starts))  # the best candidate of each image
    every = np.sort(row[ranked])
    at_least = len(every) - np.searchsorted(every, right, side="left")
    right_at_least = len(right) - np.searchsorted(right, right, side="left")
    average_precision = float((right_at_least / at_least).sum() / present)
    return average_precision, float(at_least[-1] - right_at_least[-1] + 1)
