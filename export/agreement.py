"""Rank agreement: does a search find the same people in the same order?

The cosines of single embeddings say how far an engine is off, not whether it matters: a small turn that all embeddings
share changes no order, and a small one between two similar people changes the answer. So the people of the gate's
frames search each other, once with the reference's embeddings and once with the engine's, and the orders are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray

TIE = 1e-4
"""Cosines that lie closer than this in the reference are no order: float32 rounding alone moves them."""
LARGEST_TOP_SHARE = 4
"""Of a gallery at most a quarter is its top: the first ten of twelve would always overlap."""


@dataclass(frozen=True, eq=False)
class SearchedFrames:
    """People of several frames as one side embeds them, to search and to be found.

    Attributes:
        gallery: ``(N, D)`` unit rows, detections of the search graph.
        gallery_frames: ``(N,)`` the frame each is in.
        queries: ``(Q, D)`` unit rows of the query graph.
        query_frames: ``(Q,)``; a query is searched in every frame but its own.
    """

    gallery: FloatArray
    gallery_frames: NDArray[np.int64]
    queries: FloatArray
    query_frames: NDArray[np.int64]


@dataclass(frozen=True)
class RankAgreement:
    """Means over queries.

    Attributes:
        queries: that had an order to compare.
        gallery: detections ranked for one query.
        top_k: k of the overlap, the same for all queries.
        top_1_agreement: share of queries whose first is the reference's first, or as similar there within `TIE`.
        top_k_overlap: share of the engine's first k that are among the reference's first k, or as similar there as
            the last of them within `TIE`.
        rank_correlation: Kendall's tau over the pairs that the reference tells apart by more than `TIE`: of these the
            share in the same order less the share in the opposite one; 1 for the same order, 0 for a random one.
            Without ties it is Kendall's tau-a.
    """

    queries: int
    gallery: float
    top_k: int
    top_1_agreement: float
    top_k_overlap: float
    rank_correlation: float


def rank_agreement(reference: SearchedFrames, engine: SearchedFrames, top_k: int) -> RankAgreement | None:
    """Compares the orders in which two sides rank the same people.

    Args:
        reference: one side.
        engine: the other; rows stand for the same people in the same frames.
        top_k: ranks whose overlap counts, fewer where they would be more than a quarter of the smallest gallery.

    Returns:
        None where there is nothing to compare: no query has two people in other frames whom the reference tells apart.
    """
    pairs = list(_similarities(reference, engine))
    if not pairs:
        return None
    k = max(1, min(top_k, min(len(ours) for ours, _ in pairs) // LARGEST_TOP_SHARE))
    rows = [(*_top(ours, theirs, k), tau) for ours, theirs in pairs if (tau := kendall_tau(ours, theirs)) is not None]
    if not rows:
        return None
    first, overlap, tau = np.mean(np.array(rows, dtype=np.float64), axis=0).tolist()
    return RankAgreement(
        queries=len(rows),
        gallery=float(np.mean([len(ours) for ours, _ in pairs])),
        top_k=k,
        top_1_agreement=first,
        top_k_overlap=overlap,
        rank_correlation=tau,
    )


def kendall_tau(ours: FloatArray, theirs: FloatArray) -> float | None:
    """`RankAgreement.rank_correlation` of one query: two ``(N,)`` similarities to the same gallery.

    None where ``ours`` tells no two of them apart.
    """
    row, column = np.triu_indices(len(ours), 1)
    expected, found = ours[row] - ours[column], theirs[row] - theirs[column]
    told_apart = np.abs(expected) > TIE
    if not told_apart.any():
        return None
    return float(np.mean(np.sign(expected[told_apart]) * np.sign(found[told_apart])))


def _top(ours: FloatArray, theirs: FloatArray, k: int) -> tuple[float, float]:
    """Whether the engine's first is the reference's, and the share of its first k that are among the reference's."""
    order = np.argsort(-theirs, kind="stable")
    last = np.sort(ours)[-k]
    return float(ours[order[0]] >= ours.max() - TIE), float(np.mean(ours[order[:k]] >= last - TIE))


def _similarities(reference: SearchedFrames, engine: SearchedFrames) -> Iterator[tuple[FloatArray, FloatArray]]:
    ours, theirs = reference.queries @ reference.gallery.T, engine.queries @ engine.gallery.T  # (Q, N)
    for number, frame in enumerate(reference.query_frames):
        searched = reference.gallery_frames != frame
        if searched.sum() > 1:
            yield ours[number, searched], theirs[number, searched]
