"""The parity gate: the network in torch against what is shipped, on the same frames.

A detection of the reference must come back from the engine: same box, same score, same embedding. Two things
keep this from being a plain comparison of arrays. A detection at the score threshold may fall on either side of
it; and top-k and non-maximum suppression are decisions, which a difference in the last float bit can turn where
two candidates tie. Such ties are found, not guessed: the reference runs again with its weights changed by about
1e-5 of themselves, as far as two correct float32 implementations drift apart over fifty layers, and a detection
that does not survive that is *unsettled*. It is counted but not compared, and too many of them fail the gate.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from personsearch.core.detections import FloatArray
from personsearch.core.gate_recipe import ParityLimits
from personsearch.core.geometry import box_iou
from personsearch.core.preprocess import Frame
from personsearch.export.graphs import Graphs, Rows, TorchGraphs

MATCH_IOU = 0.5
DRIFT = 1e-5
DRIFTED_COPIES = 2
MAX_UNSETTLED = 0.5
ROWS_PER_FRAME = 4


@dataclass
class Measured:
    """Differences gathered over the frames."""

    rows: int = 0
    unsettled: int = 0
    unmatched: int = 0
    extra: int = 0
    box_px: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    cosine: list[float] = field(default_factory=list)
    query_cosine: list[float] = field(default_factory=list)
    reference_search_to_query: list[float] = field(default_factory=list)
    engine_search_to_query: list[float] = field(default_factory=list)


def drifted(module: nn.Module, seed: int) -> nn.Module:
    """A copy of ``module`` whose every weight is off by about `DRIFT` of itself."""
    changed = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1 + DRIFT * torch.randn(parameter.shape, generator=generator))
    return changed


def references(search: nn.Module, query: nn.Module, *, copies: int = DRIFTED_COPIES) -> list[Graphs]:
    """The reference and, after it, ``copies`` drifted ones that tell which of its decisions are ties."""
    return [TorchGraphs(search, query), *(TorchGraphs(drifted(search, seed), query) for seed in range(copies))]


def match_boxes(first: FloatArray, second: FloatArray) -> list[tuple[int, int]]:
    """Pairs of rows of ``(N, 4)`` and ``(M, 4)``, one to one, that overlap by `MATCH_IOU` or more; best first."""
    overlap = box_iou(first, second)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = divmod(int(flat), overlap.shape[1])
        if overlap[row, column] < MATCH_IOU:
            break
        if all(row != taken and column != used for taken, used in pairs):
            pairs.append((row, column))
    return pairs


def settled(rows: Rows, others: Sequence[Rows], limits: ParityLimits) -> NDArray[np.bool_]:
    """``(K,)``: the rows that every one of ``others`` has too, within the limits on box and embedding."""
    stands = np.ones(len(rows), dtype=bool)
    for other in others:
        found = np.zeros(len(rows), dtype=bool)
        for row, column in match_boxes(rows.boxes, other.boxes):
            near = limits.max_box_difference_px is None or (
                np.abs(rows.boxes[row] - other.boxes[column]).max() <= limits.max_box_difference_px
            )
            found[row] = near and rows.embeddings[row] @ other.embeddings[column] >= limits.min_cosine
        stands &= found
    return stands


def compare_rows(
    answers: Sequence[Rows], engine: Rows, threshold: float, limits: ParityLimits, measured: Measured
) -> list[tuple[int, int]]:
    """Adds one frame's differences to ``measured``.

    Args:
        answers: the reference's rows, then those of its drifted copies.
        engine: the engine's rows for the same frame.
        threshold: detections from this score on are compared.
        limits: tells what is near the threshold and what is settled.
        measured: gathers.

    Returns:
        The pairs compared: row of ``answers[0].above(threshold)``, row of ``engine`` from just below it on.
    """
    floor = threshold - limits.score_tolerance
    reference, found = answers[0].above(threshold), engine.above(floor)
    stands = settled(reference, [other.above(floor) for other in answers[1:]], limits)
    pairs = match_boxes(reference.boxes, found.boxes)
    required = stands & (reference.scores >= threshold + limits.score_tolerance)
    required[[row for row, _ in pairs]] = False
    measured.rows += len(reference)
    measured.unsettled += int((~stands).sum())
    measured.unmatched += int(required.sum())
    if stands.all():  # a tie decided the other way brings another detection with it
        new = found.scores >= threshold + limits.score_tolerance
        new[[column for _, column in pairs]] = False
        measured.extra += int(new.sum())
    compared = [(row, column) for row, column in pairs if stands[row]]
    for row, column in compared:
        measured.box_px.append(float(np.abs(reference.boxes[row] - found.boxes[column]).max()))
        measured.score.append(float(abs(reference.scores[row] - found.scores[column])))
        measured.cosine.append(float(reference.embeddings[row] @ found.embeddings[column]))
    return compared


def compare_queries(
    frame: Frame, reference: Graphs, engine: Graphs, answers: tuple[Rows, Rows], query_boxes: int, measured: Measured
) -> None:
    """Both query graphs at the same boxes, and each against its own search graph's embeddings.

    Args:
        frame: letterboxed.
        reference: torch.
        engine: what is shipped.
        answers: rows of the reference and of the engine, paired one to one.
        query_boxes: Q.
        measured: gathers.
    """
    ours, theirs = answers
    used = min(query_boxes, len(ours))
    boxes = np.tile(np.array([0, 0, frame.shape[1], frame.shape[0]], dtype=np.float32), (query_boxes, 1))
    boxes[:used] = ours.boxes[:used]
    expected, found = reference.query(frame, boxes), engine.query(frame, boxes)
    measured.query_cosine += (expected * found).sum(axis=1).tolist()
    measured.reference_search_to_query += (expected[:used] * ours.embeddings[:used]).sum(axis=1).tolist()
    measured.engine_search_to_query += (found[:used] * theirs.embeddings[:used]).sum(axis=1).tolist()


def gate_threshold(answers: Iterable[Rows], score_threshold: float, frames: int) -> float:
    """The score from which detections are compared: the model's own threshold, or lower where it finds too few.

    An untrained model, or one on drawn scenes, may have nothing above its threshold; a gate without detections
    proves nothing, so the best `ROWS_PER_FRAME` a frame on average are compared then.
    """
    scores = np.sort(np.concatenate([rows.scores[rows.scores > 0] for rows in answers]))[::-1]
    wanted = min(len(scores), ROWS_PER_FRAME * frames)
    return score_threshold if wanted == 0 else float(min(score_threshold, scores[wanted - 1]))


def run_gate(
    torch_graphs: Sequence[Graphs],
    engine: Graphs,
    frames: Sequence[Frame],
    *,
    limits: ParityLimits,
    score_threshold: float,
    query_boxes: int,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Compares on every frame and judges.

    Args:
        torch_graphs: `references`.
        engine: what is shipped.
        frames: letterboxed, ``(H, W, 3)`` uint8 BGR.
        limits: what the engine is held to.
        score_threshold: the model's.
        query_boxes: Q of the query graph.
        advance: called after each frame.

    Returns:
        A report of plain values: the figures, the limits, ``failures`` in words and ``passed``.
    """
    answers = [[graphs.search(frame) for graphs in torch_graphs] for frame in frames]
    threshold = gate_threshold((rows[0] for rows in answers), score_threshold, len(frames))
    measured = Measured()
    for frame, rows in zip(frames, answers, strict=True):
        found = engine.search(frame)
        pairs = compare_rows(rows, found, threshold, limits, measured)
        ours, theirs = rows[0].above(threshold), found.above(threshold - limits.score_tolerance)
        paired = (_take(ours, [row for row, _ in pairs]), _take(theirs, [column for _, column in pairs]))
        compare_queries(frame, torch_graphs[0], engine, paired, query_boxes, measured)
        advance()
    return _report(measured, limits, threshold, len(frames))


def _take(rows: Rows, index: list[int]) -> Rows:
    return Rows(rows.boxes[index], rows.scores[index], rows.embeddings[index])


def _report(measured: Measured, limits: ParityLimits, threshold: float, frames: int) -> dict[str, Any]:
    compared = len(measured.cosine)
    report: dict[str, Any] = {
        "frames": frames,
        "score_threshold": round(threshold, 6),
        "detections": measured.rows,
        "compared": compared,
        "unsettled": measured.unsettled,
        "unmatched": measured.unmatched,
        "extra": measured.extra,
    }
    if compared:
        report["box_difference_px"] = _spread(measured.box_px, low=False)
        report["score_difference"] = _spread(measured.score, low=False)
        report["embedding_cosine"] = _spread(measured.cosine, low=True)
        report["search_to_query_cosine"] = {
            "torch": round(float(np.mean(measured.reference_search_to_query)), 6),
            "engine": round(float(np.mean(measured.engine_search_to_query)), 6),
        }
    report["query_embedding_cosine"] = _spread(measured.query_cosine, low=True)
    report["limits"] = limits.model_dump(mode="json")
    report["failures"] = _failures(measured, limits)
    return {"passed": not report["failures"], **report}


def _spread(values: list[float], *, low: bool) -> dict[str, float]:
    """Mean, first or last percentile, and the worst; ``low`` where small values are bad."""
    tail, worst = ("p1", "min") if low else ("p99", "max")
    figures = {
        "mean": float(np.mean(values)),
        tail: float(np.percentile(values, 1 if low else 99)),
        worst: min(values) if low else max(values),
    }
    return {name: round(value, 6) for name, value in figures.items()}


def _failures(measured: Measured, limits: ParityLimits) -> list[str]:
    if not measured.rows:
        return ["no detection to compare"]
    if not measured.cosine:
        return [f"none of {measured.rows} detections could be compared"]
    failures = []

    def demand(held: bool, words: str) -> None:
        if not held:
            failures.append(words)

    required = len(measured.cosine) + measured.unmatched
    share = len(measured.cosine) / required
    demand(share >= limits.min_matched, f"{measured.unmatched} of {required} detections are missing")
    allowed = (1 - limits.min_matched) * required
    demand(measured.extra <= allowed, f"{measured.extra} detections are not the reference's")
    unsettled = measured.unsettled / measured.rows
    demand(unsettled <= MAX_UNSETTLED, f"{unsettled:.0%} of the detections hang on rounding")
    if limits.max_box_difference_px is not None:
        worst = max(measured.box_px)
        demand(worst <= limits.max_box_difference_px, f"a box is {worst:.2f} px off")
    for name, values in (("embedding", measured.cosine), ("query embedding", measured.query_cosine)):
        demand(min(values) >= limits.min_cosine, f"an {name} has cosine {min(values):.4f}".replace("an q", "a q"))
        mean = float(np.mean(values))
        demand(mean >= limits.min_mean_cosine, f"the mean {name} cosine is {mean:.4f}")
    drop = float(np.mean(measured.reference_search_to_query) - np.mean(measured.engine_search_to_query))
    demand(drop <= limits.max_query_drop, f"search and query embeddings lie {drop:.4f} further apart than in torch")
    return failures
