"""What a demo's figures must show: learning, not a ritual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personsearch.benchmarks.accuracy import AccuracyResult, DetectionFigures, SearchFigures
from personsearch.benchmarks.demo.stream_truth import StreamScores
from personsearch.benchmarks.report import Check

TIMES_CHANCE = 3.0
INT8_POINTS = 0.02
ABOVE_HISTOGRAM = 0.10
STREAM_RECALL = 0.6
STREAM_PRECISION = 0.8


def judge(
    accuracy: Mapping[str, AccuracyResult], parity: Mapping[str, Mapping[str, Any]], stream: StreamScores
) -> tuple[Check, ...]:
    """Decides every claim the demo makes.

    Args:
        accuracy: on held-out identities and cameras, of ``teacher``, ``student``, ``control``, ``fp32``, ``int8``
            and ``histogram``.
        parity: what the gate measured, by artifact.
        stream: the video's matches against its ground truth.
    """
    return (
        _beats_chance("teacher", accuracy["teacher"]),
        _beats_chance("student", accuracy["student"]),
        _beats_control(accuracy["student"], accuracy["control"]),
        _beats_histogram(accuracy["teacher"], accuracy["histogram"]),
        *(_parity(name, measured) for name, measured in parity.items()),
        _int8_keeps_up(accuracy["fp32"], accuracy["int8"]),
        *_stream(stream),
    )


def search_of(result: AccuracyResult) -> SearchFigures:
    """Search figures on detections; a demo's test split always has queries."""
    if result.search is None:
        raise ValueError(f"{result.system} was not searched with")
    return result.search


def detection_of(result: AccuracyResult) -> DetectionFigures:
    """Detection figures of a system that detects."""
    if result.detection is None:
        raise ValueError(f"{result.system} does not detect")
    return result.detection


def given_boxes_of(result: AccuracyResult) -> SearchFigures:
    """Search figures on true boxes."""
    if result.true_boxes is None:
        raise ValueError(f"{result.system} was not measured on true boxes")
    return result.true_boxes


def percent(share: float) -> str:
    """A share as it is printed everywhere."""
    return f"{100 * share:.1f} %"


def _beats_chance(name: str, result: AccuracyResult) -> Check:
    search = search_of(result)
    times = search.mean_ap / search.chance_mean_ap if search.chance_mean_ap > 0 else 0.0
    return Check(
        f"The {name}'s search mAP is at least {TIMES_CHANCE:g} times chance",
        times >= TIMES_CHANCE,
        f"{percent(search.mean_ap)} against {percent(search.chance_mean_ap)}: {times:.1f} times",
    )


def _beats_control(student: AccuracyResult, control: AccuracyResult) -> Check:
    with_teacher, alone = search_of(student).mean_ap, search_of(control).mean_ap
    return Check(
        "The distilled student's search mAP is above that of the same student without a teacher",
        with_teacher > alone,
        f"{percent(with_teacher)} against {percent(alone)}",
    )


def _beats_histogram(teacher: AccuracyResult, histogram: AccuracyResult) -> Check:
    learned, colour = given_boxes_of(teacher).mean_ap, given_boxes_of(histogram).mean_ap
    return Check(
        f"On given boxes the teacher is at least {100 * ABOVE_HISTOGRAM:g} points of mAP above a colour histogram",
        learned - colour >= ABOVE_HISTOGRAM,
        f"{percent(learned)} against {percent(colour)}",
    )


def _parity(name: str, gate: Mapping[str, Any]) -> Check:
    measured = [
        f"{one['name']}: {one['compared']} detections in {gate['frames']} frames, boxes at most "
        f"{one['box_difference_px']['max']:.2g} px off, cosine of embeddings on average "
        f"{one['embedding_cosine']['mean']:.4f}, at least {one['embedding_cosine']['min']:.4f}"
        for one in gate["candidates"]
        if "embedding_cosine" in one
    ]
    return Check(
        f"The {name} artifact passes the parity gate against PyTorch",
        bool(gate["passed"]),
        "; ".join([*measured, *gate["failures"]]),
    )


def _int8_keeps_up(fp32: AccuracyResult, int8: AccuracyResult) -> Check:
    lost_map = search_of(fp32).mean_ap - search_of(int8).mean_ap
    lost_ap = detection_of(fp32).average_precision - detection_of(int8).average_precision
    return Check(
        f"int8 stays within {100 * INT8_POINTS:g} points of fp32 in search mAP and in detection AP",
        lost_map <= INT8_POINTS and lost_ap <= INT8_POINTS,
        f"mAP {percent(search_of(int8).mean_ap)} against {percent(search_of(fp32).mean_ap)}, "
        f"AP {percent(detection_of(int8).average_precision)} against {percent(detection_of(fp32).average_precision)}",
    )


def _stream(scores: StreamScores) -> tuple[Check, Check, Check]:
    return (
        Check(
            f"In the video the query is found in at least {100 * STREAM_RECALL:g} % of the frames that show it",
            scores.in_view > 0 and scores.recall >= STREAM_RECALL,
            f"{scores.found} of {scores.in_view} frames, {percent(scores.recall)}",
        ),
        Check(
            f"At least {100 * STREAM_PRECISION:g} % of the frames reported show the query where it was reported",
            scores.precision >= STREAM_PRECISION,
            f"{scores.right} of {scores.matched} frames, {percent(scores.precision)}",
        ),
        Check(
            "Every visit of the query is found",
            0 < scores.visits == scores.visits_found,
            f"{scores.visits_found} of {scores.visits} visits with at least half of their frames",
        ),
    )
