"""Every claim of the demo fails where its figures say so."""

from __future__ import annotations

from typing import Any

import pytest

from personsearch.benchmarks.accuracy import AccuracyResult, DetectionFigures, EvaluationOptions, SearchFigures
from personsearch.benchmarks.demo.checks import judge
from personsearch.benchmarks.demo.stream_truth import StreamScores
from personsearch.benchmarks.report import Check


def accuracy(mean_ap: float, *, ap: float = 0.8, chance: float = 0.05, given: float = 0.6) -> AccuracyResult:
    def search(value: float) -> SearchFigures:
        return SearchFigures(
            mean_ap=value, top={1: value, 5: value}, chance_mean_ap=chance, chance_top={1: 0, 5: 0}, gallery_boxes=9,
            gallery_images=3, queries_scored=9, queries_not_detected=0,
        )  # fmt: skip

    return AccuracyResult(
        system="s", sha256="", dataset="d", split="test", protocol="default", camera_rule="same camera included",
        options=EvaluationOptions(), images=9, people=9, queries=9, score_threshold=0.5,
        detection=DetectionFigures(
            average_precision=ap, ranking_precision=ap, recall=ap, precision=ap, labelled_recall=ap
        ),
        search=search(mean_ap), true_boxes=search(given),
    )  # fmt: skip


GATE: dict[str, Any] = {
    "passed": True, "frames": 4, "failures": [],
    "candidates": [
        {
            "name": "onnxruntime fp32", "compared": 9,
            "box_difference_px": {"max": 0.01}, "embedding_cosine": {"min": 0.9999, "mean": 1.0},
        }
    ],
}  # fmt: skip
STREAM = StreamScores(frames=100, in_view=50, found=40, matched=42, right=41, visits=2, visits_found=2)


def failed(changes: dict[str, AccuracyResult], gate: dict[str, Any] = GATE, stream: StreamScores = STREAM) -> list[int]:
    systems = {
        "teacher": accuracy(0.6), "student": accuracy(0.5), "control": accuracy(0.4), "fp32": accuracy(0.5),
        "int8": accuracy(0.49), "histogram": accuracy(0.0, given=0.3),
    }  # fmt: skip
    checks: tuple[Check, ...] = judge({**systems, **changes}, {"fp32": GATE, "int8": gate}, stream)
    assert len(checks) == 10
    assert all(check.measured for check in checks)
    return [number for number, check in enumerate(checks) if not check.passed]


def test_a_run_that_learned_passes() -> None:
    assert failed({}) == []


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"teacher": accuracy(0.6, chance=0.21)}, 0),
        ({"student": accuracy(0.5, chance=0.17)}, 1),
        ({"control": accuracy(0.5)}, 2),
        ({"histogram": accuracy(0.0, given=0.51)}, 3),
        ({"int8": accuracy(0.479)}, 6),
        ({"int8": accuracy(0.5, ap=0.77)}, 6),
    ],
)
def test_each_figure_can_fail_its_check(changes: dict[str, AccuracyResult], number: int) -> None:
    assert failed(changes) == [number]


def test_int8_may_be_better_than_fp32() -> None:
    assert failed({"int8": accuracy(0.6, ap=0.9)}) == []


def test_parity_gate() -> None:
    assert failed({}, gate={**GATE, "passed": False, "failures": ["a box is 3 px off"]}) == [5]
    assert failed({}, gate={"passed": False, "candidates": [{}], "failures": ["no detection to compare"]}) == [5]


@pytest.mark.parametrize(
    ("stream", "numbers"),
    [
        (StreamScores(100, 50, 29, 30, 30, 2, 2), [7]),
        (StreamScores(100, 50, 40, 60, 40, 2, 2), [8]),
        (StreamScores(100, 50, 40, 40, 40, 2, 1), [9]),
        (StreamScores(100, 0, 0, 0, 0, 0, 0), [7, 8, 9]),
    ],
)
def test_stream(stream: StreamScores, numbers: list[int]) -> None:
    assert failed({}, stream=stream) == numbers
