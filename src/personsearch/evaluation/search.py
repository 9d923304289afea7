"""Search figures: every detection of a query's gallery images ranked together; mAP and top-k.

The protocol is the OIM evaluator's (Xiao et al., CVPR 2017). Its descendants have oddities that ``strict`` mends and
that the other modes keep, for comparison with published figures (``rules.Mode``):

=========================  ===========  ====================================  ======================
case                       strict       compat (SeqNet, NAE, COAT)            compat-repeats (OIM, AlignPS)
=========================  ===========  ====================================  ======================
query's own image listed   left out     kept                                  kept
gallery lists image twice  counts once  ranked once, its person counted twice ranked and counted twice
person stands twice        either box   the first box, or the one stated      as compat
=========================  ===========  ====================================  ======================

Without a gallery list the query's own image is left out in every mode. Equal similarities stand together, as
scikit-learn's ``average_precision_score`` groups them: each right detection gets the precision at the end of its
group. For top-k, strict ranks a wrong detection before a right one of equal similarity, so that a constant embedding
scores nothing; the public evaluators leave it to the order of the gallery (`SearchRules.late_first`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import Detections, FloatArray
from personsearch.core.seeding import rng_for
from personsearch.core.similarity import cosine_similarity
from personsearch.evaluation.answers import answer_table, detection_table
from personsearch.evaluation.context import QueryContext, revise
from personsearch.evaluation.plan import SearchPlan, SearchPlanner
from personsearch.evaluation.ranking import QueryRanking, average_precision, first_hit_rank, rank_entries
from personsearch.evaluation.rules import Mode, rules_of
from personsearch.evaluation.truth import LabelledImage, SearchQuery, check_images

BLOCK_VALUES = 1 << 25
"""Similarities held at once: 128 MiB of float32, whatever the number of queries."""


@dataclass(frozen=True)
class SearchScores:
    """How well people were found again.

    Attributes:
        mean_ap: mean over queries of the average precision, scaled by recall, in [0, 1].
        top: for each k, the share of queries with a right detection among the k most similar.
        per_query_ap: ``(Q,)``; NaN for a query that nobody in its gallery answers, which no figure counts.
        first_hit_rank: ``(Q,)`` rank of the first right detection, from 1; infinite where there is none.
        answers: ``(Q,)`` number of gallery images to be found, as the mode counts them.
        queries: number of queries that count.
        gallery_images: mean number of images searched for one query.
        gallery_detections: mean number of detections ranked for one query.
        mode: by which the protocol was read.
        score_threshold: detections below it were not ranked.
        weighted_by_score: similarities were multiplied by the detection's score.
        context: k1 and k2 of context bipartite graph matching; none without it.
    """

    mean_ap: float
    top: dict[int, float]
    per_query_ap: NDArray[np.float64]
    first_hit_rank: NDArray[np.float64]
    answers: NDArray[np.int64]
    queries: int
    gallery_images: float
    gallery_detections: float
    mode: Mode
    score_threshold: float
    weighted_by_score: bool
    context: tuple[int, int] | None


@dataclass(frozen=True)
class ChanceScores:
    """What similarities drawn at random get on the same detections, galleries and queries."""

    mean_ap: float
    top: dict[int, float]


class SearchEvaluator:
    """Scores rankings of one set of detections by one protocol; `search_scores` is the short way.

    In an image that shows the person, the most similar detection with an IoU of at least ``min(0.5, w h / ((w + 10)
    (h + 10)))`` with the person's box is right and every other detection wrong, also a second one on the same person.
    A person who is in the image but not detected still counts as missed: AP is the sum over right detections of the
    precision at their rank, divided by the number of gallery images that show the person.

    Args:
        queries: ``(Q,)``; ``image_index`` and ``gallery`` index ``predictions``.
        predictions: detections of each image with their embeddings, source pixels.
        truths: boxes and person ids of each image, in the same order.
        score_threshold: detections below it are not part of any gallery.
        mode: see the table above.
        weight_by_score: multiplies similarities by the detection's score (confidence weighted similarity; NAE, Chen
            et al., CVPR 2020).
        context: context bipartite graph matching; none without it.

    Raises:
        ValueError: lengths differ, embeddings differ in width or are not finite, an image index lies outside.
    """

    def __init__(
        self,
        queries: Sequence[SearchQuery],
        predictions: Sequence[Detections],
        truths: Sequence[LabelledImage],
        *,
        score_threshold: float = 0.5,
        mode: Mode = "strict",
        weight_by_score: bool = False,
        context: QueryContext | None = None,
    ) -> None:
        check_images(predictions, truths)
        rules = rules_of(mode)
        self._mode, self._rules, self._threshold, self._context = mode, rules, score_threshold, context
        self._table = detection_table(predictions, score_threshold)
        answers = answer_table(self._table, truths, any_box=rules.any_box)
        self._planner = SearchPlanner(queries, self._table, answers, rules)
        self._queries = len(queries)
        self._weights = self._table.scores if weight_by_score else None
        if context is not None and len(context.company) != len(queries):
            raise ValueError(f"context of {len(context.company)} queries, expected {len(queries)}")

    def scores(
        self,
        query_embeddings: FloatArray,
        *,
        query_found: NDArray[np.bool_] | None = None,
        top_k: tuple[int, ...] = (1, 5, 10),
    ) -> SearchScores:
        """Ranks each query's gallery by the dot product of embeddings and scores the ranking.

        Args:
            query_embeddings: ``(Q, D)``, L2-normalised.
            query_found: ``(Q,)``; a query without an embedding (nobody was detected where it stands) scores 0.
            top_k: ranks at which hits are counted.

        Raises:
            ValueError: the embeddings' shape does not fit or they are not finite, or no query has an answer.
        """
        self._check_embeddings(query_embeddings)

        def similarities(start: int, stop: int) -> FloatArray:
            return self._similarities(query_embeddings, start, stop)

        return self._score(similarities, query_found, top_k)

    def chance(
        self,
        *,
        query_found: NDArray[np.bool_] | None = None,
        top_k: tuple[int, ...] = (1, 5, 10),
        rounds: int = 20,
        seed: int = 0,
    ) -> ChanceScores:
        """The mean of `scores` over ``rounds`` draws of random similarities: what no skill at all gets.

        Drawn, not computed: the expectation of AP has a closed form only while nobody is detected twice (a test
        checks the draws against it there).
        """
        runs = []
        for number in range(rounds):
            rng = rng_for(seed, "chance", number)

            def similarities(start: int, stop: int, rng: np.random.Generator = rng) -> FloatArray:
                return rng.random((stop - start, len(self._table)), dtype=np.float32)

            runs.append(self._score(similarities, query_found, top_k))
        return ChanceScores(
            mean_ap=float(np.mean([run.mean_ap for run in runs])),
            top={k: float(np.mean([run.top[k] for run in runs])) for k in top_k},
        )

    def ranking(self, query_embeddings: FloatArray, number: int, limit: int | None = None) -> QueryRanking:
        """What one query ranks, best first, and which of its answers were found: for pictures and diagnosis.

        Args:
            query_embeddings: ``(Q, D)``, as for `scores`.
            number: of the query.
            limit: rows at most; none for the whole gallery.

        Raises:
            ValueError: as `scores`.
        """
        self._check_embeddings(query_embeddings)
        row = self._similarities(query_embeddings, number, number + 1)[0]
        plan = self._planner.plan(number)
        return rank_entries(row, plan, self._table, limit, late_first=self._rules.late_first)

    def _check_embeddings(self, query_embeddings: FloatArray) -> None:
        if query_embeddings.ndim != 2 or len(query_embeddings) != self._queries:
            raise ValueError(f"query_embeddings has shape {query_embeddings.shape}, expected ({self._queries}, D)")
        finite = np.isfinite(query_embeddings).all(axis=1)
        if not finite.all():
            raise ValueError(f"query {int(np.argmin(finite))}: the embedding holds a value that is not finite")

    def _similarities(self, query_embeddings: FloatArray, start: int, stop: int) -> FloatArray:
        """``(stop - start, N)`` similarities with every detection, all options applied."""
        if not len(self._table):
            return np.zeros((stop - start, 0), np.float32)
        block = cosine_similarity(query_embeddings[start:stop], self._table.embeddings)
        if self._weights is not None:
            block *= self._weights
        if self._context is not None:
            for number, row in enumerate(block, start):
                ranked = self._planner.plan(number).distinct_rows(self._table)
                revise(row, ranked, number, query_embeddings[number], self._table, self._context, self._weights)
        return block

    def _score(
        self,
        similarities: Callable[[int, int], FloatArray],
        query_found: NDArray[np.bool_] | None,
        top_k: tuple[int, ...],
    ) -> SearchScores:
        count = self._queries
        per_query, first_hit = np.full(count, np.nan), np.full(count, np.inf)
        answers, searched = np.zeros(count, np.int64), np.zeros((count, 2))
        block = max(1, BLOCK_VALUES // max(1, len(self._table)))
        for start in range(0, count, block):
            rows = similarities(start, min(start + block, count))  # (b, N)
            for number, row in enumerate(rows, start):
                plan = self._planner.plan(number)
                answers[number], searched[number] = plan.answers, (len(plan.images), plan.detections)
                if plan.answers:
                    found = query_found is None or bool(query_found[number])
                    per_query[number], first_hit[number] = self._rank(row, plan) if found else (0.0, np.inf)
        counted = ~np.isnan(per_query)
        if not counted.any():
            raise ValueError(f"none of {count} queries has its person in its gallery")
        images_mean, detections_mean = searched[counted].mean(axis=0)
        return SearchScores(
            mean_ap=float(per_query[counted].mean()),
            top={k: float((first_hit[counted] <= k).mean()) for k in top_k},
            per_query_ap=per_query,
            first_hit_rank=first_hit,
            answers=answers,
            queries=int(counted.sum()),
            gallery_images=float(images_mean),
            gallery_detections=float(detections_mean),
            mode=self._mode,
            score_threshold=self._threshold,
            weighted_by_score=self._weights is not None,
            context=None if self._context is None else (self._context.images, self._context.people),
        )

    def _rank(self, row: FloatArray, plan: SearchPlan) -> tuple[float, float]:
        """A query's average precision and the rank of its first right detection (infinite without one)."""
        if not len(plan.candidates):
            return 0.0, np.inf
        values = plan.values(row)
        right = np.maximum.reduceat(row[plan.candidates], plan.starts)  # the best candidate of each answer
        precision = average_precision(values, right, plan.answers)
        return precision, first_hit_rank(row, values, right, plan, self._table, late_first=self._rules.late_first)


def search_scores(
    query_embeddings: FloatArray,
    queries: Sequence[SearchQuery],
    predictions: Sequence[Detections],
    truths: Sequence[LabelledImage],
    *,
    score_threshold: float = 0.5,
    top_k: tuple[int, ...] = (1, 5, 10),
    mode: Mode = "strict",
) -> SearchScores:
    """`SearchEvaluator.scores` in one call, without options.

    Raises:
        ValueError: as `SearchEvaluator` and its ``scores``.
    """
    evaluator = SearchEvaluator(queries, predictions, truths, score_threshold=score_threshold, mode=mode)
    return evaluator.scores(query_embeddings, top_k=top_k)


def chance_scores(
    queries: Sequence[SearchQuery],
    predictions: Sequence[Detections],
    truths: Sequence[LabelledImage],
    *,
    score_threshold: float = 0.5,
    top_k: tuple[int, ...] = (1, 5, 10),
    mode: Mode = "strict",
    rounds: int = 20,
    seed: int = 0,
) -> ChanceScores:
    """`SearchEvaluator.chance` in one call.

    Raises:
        ValueError: as `SearchEvaluator`, or no query has an answer.
    """
    evaluator = SearchEvaluator(queries, predictions, truths, score_threshold=score_threshold, mode=mode)
    return evaluator.chance(top_k=top_k, rounds=rounds, seed=seed)
