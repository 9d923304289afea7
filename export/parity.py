"""One engine against the reference, frame by frame: what the parity gate measures of each candidate.

A detection of the reference must come back from the engine: same box, same score, same embedding. Two things
keep this from being a plain comparison of arrays. A detection at the score threshold may fall on either side of
it; and top-k and non-maximum suppression are decisions, which a difference in the last float bit can turn where
two candidates tie. Such ties are found, not guessed: the reference runs again with its weights changed by about
1e-5 of themselves (`reference.drifted`), as far as two correct float32 implementations drift apart over fifty layers,
and a detection that does not survive that is *unsettled*. It is counted but not compared, and too many of them fail
the gate. For float16 it is 5e-4, what rounding to half moves: of two proposals on one person, equally good, the other
one may then be taken, and its box and embedding are no fault of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.core.detections import FloatArray
from personsearch.core.gate_recipe import ParityLimits
from personsearch.core.geometry import box_iou
from personsearch.core.preprocess import Frame
from personsearch.export.agreement import RankAgreement, SearchedFrames, rank_agreement
from personsearch.export.rows import Graphs, Rows

MATCH_IOU = 0.5
MAX_UNSETTLED = 0.5
ROWS_PER_FRAME = 2


@dataclass(frozen=True)
class ReferenceAnswers:
    """What the reference says to the gate's frames; asked once, compared with every engine.

    Attributes:
        frames: letterboxed, ``(H, W, 3)`` uint8 BGR.
        rows: of each frame the reference's rows, then those of its drifted copies.
        query_boxes: of each frame ``(Q, 4)``: the reference's first detections, filled up with the whole frame.
        query_embeddings: of each frame ``(Q, D)``.
        threshold: score from which detections are compared.
    """

    frames: Sequence[Frame]
    rows: Sequence[Sequence[Rows]]
    query_boxes: Sequence[FloatArray]
    query_embeddings: Sequence[FloatArray]
    threshold: float

    @property
    def embeds(self) -> bool:
        """Whether there are embeddings to compare; a plain detector has none."""
        return bool(self.query_embeddings[0].shape[1])


@dataclass
class Measured:
    """Differences gathered over the frames."""

    rows: int = 0
    unsettled: int = 0
    unmatched: int = 0
    extra: int = 0
    iou: list[float] = field(default_factory=list)
    box_px: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    cosine: list[float] = field(default_factory=list)
    query_cosine: list[float] = field(default_factory=list)
    reference_search_to_query: list[float] = field(default_factory=list)
    engine_search_to_query: list[float] = field(default_factory=list)


def ask(
    references: Sequence[Graphs],
    frames: Sequence[Frame],
    *,
    score_threshold: float,
    query_boxes: int,
    advance: Callable[[], object] = lambda: None,
) -> ReferenceAnswers:
    """Runs the reference, and whatever tells its ties, on every frame.

    Args:
        references: the reference first; see `reference.references`.
        frames: letterboxed, ``(H, W, 3)`` uint8 BGR; at least one.
        score_threshold: the model's.
        query_boxes: Q of the query graph.
        advance: called after each frame.
    """
    rows = []
    for frame in frames:
        rows.append([graphs.search(frame) for graphs in references])
        advance()
    threshold = gate_threshold((answers[0] for answers in rows), score_threshold, len(frames))
    asked, embeddings = [], []
    for frame, answers in zip(frames, rows, strict=True):
        boxes = np.tile(np.array([0, 0, frame.shape[1], frame.shape[0]], dtype=np.float32), (query_boxes, 1))
        best = answers[0].above(threshold).boxes[:query_boxes]
        boxes[: len(best)] = best
        asked.append(boxes)
        embeddings.append(references[0].query(frame, boxes))
    return ReferenceAnswers(frames, rows, asked, embeddings, threshold)


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
    """``(K,)``: the rows that every one of ``others`` has too, within the limits on box, score and embedding."""
    stands = np.ones(len(rows), dtype=bool)
    embeds = rows.embeddings.shape[1] > 0
    for other in others:
        found = np.zeros(len(rows), dtype=bool)
        for row, column in match_boxes(rows.boxes, other.boxes):
            near = limits.max_box_difference_px is None or (
                np.abs(rows.boxes[row] - other.boxes[column]).max() <= limits.max_box_difference_px
            )
            near &= abs(rows.scores[row] - other.scores[column]) <= limits.max_score_difference
            alike = not embeds or rows.embeddings[row] @ other.embeddings[column] >= limits.min_cosine
            found[row] = near and alike
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
    overlap = box_iou(reference.boxes, found.boxes)
    for row, column in compared:
        measured.iou.append(float(overlap[row, column]))
        measured.box_px.append(float(np.abs(reference.boxes[row] - found.boxes[column]).max()))
        measured.score.append(float(abs(reference.scores[row] - found.scores[column])))
        if reference.embeddings.shape[1]:
            measured.cosine.append(float(reference.embeddings[row] @ found.embeddings[column]))
    return compared


def gate_threshold(answers: Iterable[Rows], score_threshold: float, frames: int) -> float:
    """The score from which detections are compared: the model's own threshold, or lower where it finds too few.

    An untrained model, or one on drawn scenes, may have nothing above its threshold; a gate without detections
    proves nothing. Where there is less than one a frame, the best `ROWS_PER_FRAME` a frame on average are compared.
    """
    scores = np.sort(np.concatenate([rows.scores[rows.scores > 0] for rows in answers]))[::-1]
    if len(scores) == 0 or (scores >= score_threshold).sum() >= frames:
        return score_threshold
    return float(min(score_threshold, scores[min(len(scores), ROWS_PER_FRAME * frames) - 1]))


def compare(
    answers: ReferenceAnswers,
    engine: Graphs,
    limits: ParityLimits,
    *,
    top_k: int,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Compares one engine with the reference on every frame and judges it.

    Args:
        answers: see `ask`.
        engine: what is judged.
        limits: what it is held to.
        top_k: see `agreement.rank_agreement`.
        advance: called after each frame.

    Returns:
        A report of plain values: the figures, the limits, ``failures`` in words and ``passed``; ``ranking`` is none
        where there was no order to compare.
    """
    measured = Measured()
    gallery: list[tuple[FloatArray, FloatArray]] = []
    queries: list[tuple[FloatArray, FloatArray]] = []
    for number, frame in enumerate(answers.frames):
        found = engine.search(frame)
        pairs = compare_rows(answers.rows[number], found, answers.threshold, limits, measured)
        ours = answers.rows[number][0].above(answers.threshold)
        theirs = found.above(answers.threshold - limits.score_tolerance)
        if answers.embeds:
            expected, given = answers.query_embeddings[number], engine.query(frame, answers.query_boxes[number])
            measured.query_cosine += (expected * given).sum(axis=1).tolist()
            for row, column in pairs:
                if row < len(expected):
                    measured.reference_search_to_query.append(float(expected[row] @ ours.embeddings[row]))
                    measured.engine_search_to_query.append(float(given[row] @ theirs.embeddings[column]))
            rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
            gallery.append((ours.embeddings[rows], theirs.embeddings[columns]))
            queries.append((expected[: len(ours)], given[: len(ours)]))
        advance()
    ranking = rank_agreement(*_sides(gallery, queries), top_k) if answers.embeds else None
    return _report(measured, ranking, limits, answers)


def _sides(
    gallery: Sequence[tuple[FloatArray, FloatArray]], queries: Sequence[tuple[FloatArray, FloatArray]]
) -> tuple[SearchedFrames, SearchedFrames]:
    """The reference's and the engine's people, from pairs of each frame."""

    def side(which: int) -> SearchedFrames:
        found, asked = [frame[which] for frame in gallery], [frame[which] for frame in queries]
        numbers = np.arange(len(found))
        return SearchedFrames(
            np.concatenate(found),
            np.repeat(numbers, [len(rows) for rows in found]),
            np.concatenate(asked),
            np.repeat(numbers, [len(rows) for rows in asked]),
        )

    return side(0), side(1)


def _report(
    measured: Measured, ranking: RankAgreement | None, limits: ParityLimits, answers: ReferenceAnswers
) -> dict[str, Any]:
    compared = len(measured.box_px)
    report: dict[str, Any] = {
        "detections": measured.rows,
        "compared": compared,
        "unsettled": measured.unsettled,
        "unmatched": measured.unmatched,
        "extra": measured.extra,
    }
    if compared:
        report["iou"] = _spread(measured.iou, low=True)
        report["box_difference_px"] = _spread(measured.box_px, low=False)
        report["score_difference"] = _spread(measured.score, low=False)
    if measured.cosine:
        report["embedding_cosine"] = _spread(measured.cosine, low=True)
    if measured.reference_search_to_query:
        report["search_to_query_cosine"] = {
            "reference": round(float(np.mean(measured.reference_search_to_query)), 6),
            "engine": round(float(np.mean(measured.engine_search_to_query)), 6),
        }
    if measured.query_cosine:
        report["query_embedding_cosine"] = _spread(measured.query_cosine, low=True)
    report["ranking"] = None
    if ranking is not None:
        report["ranking"] = {
            name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(ranking).items()
        }
    report["limits"] = limits.model_dump(mode="json")
    report["failures"] = _failures(measured, ranking, limits, embeds=answers.embeds)
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


def _failures(measured: Measured, ranking: RankAgreement | None, limits: ParityLimits, *, embeds: bool) -> list[str]:
    if not measured.rows:
        return ["no detection to compare"]
    if not measured.box_px:
        return [f"none of {measured.rows} detections could be compared"]
    failures: list[str] = []

    def demand(held: bool, words: str) -> None:
        if not held:
            failures.append(words)

    required = len(measured.box_px) + measured.unmatched
    share = len(measured.box_px) / required
    demand(share >= limits.min_matched, f"{measured.unmatched} of {required} detections are missing")
    allowed = (1 - limits.min_matched) * required
    demand(measured.extra <= allowed, f"{measured.extra} detections are not the reference's")
    unsettled = measured.unsettled / measured.rows
    demand(unsettled <= MAX_UNSETTLED, f"{unsettled:.0%} of the detections hang on rounding")
    if limits.max_box_difference_px is not None:
        worst = max(measured.box_px)
        demand(worst <= limits.max_box_difference_px, f"a box is {worst:.2f} px off")
    score = max(measured.score)
    demand(score <= limits.max_score_difference, f"a score is {score:.4f} off")
    if embeds:
        failures += _embedding_failures(measured, limits)
    if ranking is not None:
        failures += _ranking_failures(ranking, limits)
    return failures


def _embedding_failures(measured: Measured, limits: ParityLimits) -> list[str]:
    failures = []
    for name, values in (("an embedding", measured.cosine), ("a query embedding", measured.query_cosine)):
        if min(values) < limits.min_cosine:
            failures.append(f"{name} has cosine {min(values):.4f}")
        mean = float(np.mean(values))
        if mean < limits.min_mean_cosine:
            failures.append(f"the mean {name.split(' ', 1)[1]} cosine is {mean:.4f}")
    if measured.reference_search_to_query:
        drop = float(np.mean(measured.reference_search_to_query) - np.mean(measured.engine_search_to_query))
        if drop > limits.max_query_drop:
            failures.append(f"search and query embeddings lie {drop:.4f} further apart than in the reference")
    return failures


def _ranking_failures(ranking: RankAgreement, limits: ParityLimits) -> list[str]:
    failures = []
    if ranking.top_1_agreement < limits.min_top_1_agreement:
        failures.append(f"only {ranking.top_1_agreement:.1%} of the queries find the same person first")
    if ranking.top_k_overlap < limits.min_top_k_overlap:
        failures.append(f"only {ranking.top_k_overlap:.1%} of the first {ranking.top_k} stay the same")
    if ranking.rank_correlation < limits.min_rank_correlation:
        failures.append(f"the order of galleries has a rank correlation of {ranking.rank_correlation:.3f}")
    return failures
