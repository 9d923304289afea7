"""The parity gate: what it lets pass, what it catches, and which differences it does not blame on the engine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from export_models import QUERY_BOXES, ROWS, TRUNKS, exported, scenes, tiny_model
from hypothesis import given
from hypothesis import strategies as st

from personsearch.core.detections import FloatArray
from personsearch.core.gate_recipe import GateRecipe
from personsearch.core.preprocess import Frame
from personsearch.export.graphs import Graphs, OnnxGraphs, Rows, TorchGraphs
from personsearch.export.openvino_graphs import OpenVinoGraphs
from personsearch.export.parity import Measured, ask, compare_rows, gate_threshold, match_boxes
from personsearch.export.parity import compare as compare_engine
from personsearch.export.reference import DRIFT, drifted, references

LIMITS = GateRecipe().fp32
BOXES = np.array([[0, 0, 20, 50], [60, 0, 80, 50], [100, 40, 120, 90]], dtype=np.float32)
EYE = np.eye(4, dtype=np.float32)


def rows(scores: list[float], boxes: FloatArray = BOXES, embeddings: FloatArray = EYE) -> Rows:
    count = len(scores)
    return Rows(boxes[:count], np.array(scores, dtype=np.float32), embeddings[:count])


def compare(reference: Rows, engine: Rows, *copies: Rows) -> Measured:
    measured = Measured()
    compare_rows([reference, *copies], engine, 0.5, LIMITS, measured)
    return measured


def test_no_detection_on_either_side_is_no_difference() -> None:
    measured = compare(rows([]), rows([]))
    assert (measured.rows, measured.unmatched, measured.extra, measured.cosine) == (0, 0, 0, [])


def test_the_order_of_equal_detections_does_not_matter() -> None:
    turned = Rows(BOXES[[1, 0]], np.float32([0.8, 0.8]), EYE[[1, 0]])
    measured = compare(rows([0.8, 0.8]), turned)
    assert measured.box_px == [0, 0]
    assert measured.cosine == [1, 1]


def test_differences_are_measured_on_matched_detections() -> None:
    moved = BOXES[:2] + np.float32([[0, 0, 0.25, 0], [0, 0, 0, 2]])
    measured = compare(rows([0.9, 0.8]), rows([0.875, 0.8], moved, EYE[[0, 2]]))
    assert sorted(measured.box_px) == [0.25, 2]
    assert sorted(measured.cosine) == [0, 1]
    assert max(measured.score) == pytest.approx(0.025)


@pytest.mark.parametrize(("score", "unmatched"), [(0.9, 1), (0.52, 1), (0.505, 0), (0.4, 0)])
def test_a_missing_detection_counts_unless_its_score_is_at_the_threshold(score: float, unmatched: int) -> None:
    assert compare(rows([0.95, score]), rows([0.95])).unmatched == unmatched


@pytest.mark.parametrize(("score", "extra"), [(0.9, 1), (0.52, 1), (0.505, 0)])
def test_a_new_detection_counts_unless_its_score_is_at_the_threshold(score: float, extra: int) -> None:
    assert compare(rows([0.95]), rows([0.95, score])).extra == extra


def test_what_rounding_alone_decides_is_not_the_engine_s_fault() -> None:
    reference, engine = rows([0.9, 0.8]), rows([0.9])
    assert compare(reference, engine, rows([0.9, 0.8])).unmatched == 1
    tie = compare(reference, engine, rows([0.9, 0.8]), rows([0.9]))
    assert (tie.unmatched, tie.unsettled) == (0, 1)
    moved = compare(reference, engine, rows([0.9, 0.8], BOXES + 3))
    assert (moved.unmatched, moved.unsettled, moved.cosine) == (0, 2, [])
    doubted = compare(reference, rows([0.9, 0.7]), rows([0.9, 0.7]))
    assert (doubted.unmatched, doubted.unsettled, doubted.score) == (0, 1, [0])


@given(seed=st.integers(0, 10_000), first=st.integers(0, 6), second=st.integers(0, 6))
def test_matches_are_one_to_one_and_the_best_pair_is_among_them(seed: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 30, (first + second, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, corners.shape)], axis=1).astype(np.float32)
    ours, theirs = boxes[:first], boxes[first:]
    pairs = match_boxes(ours, theirs)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)

    def overlap(one: FloatArray, other: FloatArray) -> float:
        sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
        shared = float(sides[0]) * float(sides[1]) if (sides > 0).all() else 0.0
        area = sum(float(box[2] - box[0]) * float(box[3] - box[1]) for box in (one, other))
        return shared / (area - shared)

    overlaps = {(i, j): overlap(ours[i], theirs[j]) for i, j in itertools.product(range(first), range(second))}
    assert all(overlaps[pair] >= 0.4999 for pair in pairs)
    best = max(overlaps.values(), default=0.0)
    assert (best < 0.5001) or max(overlaps[pair] for pair in pairs) == pytest.approx(best, abs=1e-5)


def test_the_threshold_falls_until_there_is_something_to_compare() -> None:
    many = rows([0.9, 0.8, 0.7])
    assert gate_threshold([many], 0.5, frames=1) == 0.5
    assert gate_threshold([rows([0.3, 0.2])], 0.5, frames=1) == pytest.approx(0.2)
    assert gate_threshold([rows([0.0])], 0.5, frames=1) == 0.5
    assert gate_threshold([rows([0.6]), rows([0.7, 0.2])], 0.5, frames=2) == 0.5
    assert gate_threshold([rows([0.6]), rows([0.3, 0.2])], 0.5, frames=2) == pytest.approx(0.2)


def test_drift_is_small_and_leaves_the_network_alone() -> None:
    module = torch.nn.Linear(50, 50)
    before = module.weight.clone()
    changed = drifted(module, 0)
    assert torch.equal(module.weight, before)
    # A module knows its attributes as tensors or modules.
    ratio = (changed.weight / before - 1).abs()  # type: ignore[operator]
    assert 0 < ratio.max() < 6 * DRIFT


def judge(engine: Graphs, trunk: str) -> dict[str, object]:
    model = tiny_model(trunk)
    torch_graphs = references(model.deployable(ROWS), model.deployable_query(QUERY_BOXES))
    answers = ask(torch_graphs, scenes(4), score_threshold=0.5, query_boxes=QUERY_BOXES)
    return compare_engine(answers, engine, LIMITS, top_k=10)


@pytest.mark.parametrize("engine", [OnnxGraphs, OpenVinoGraphs])
@pytest.mark.parametrize("trunk", sorted(TRUNKS))
def test_an_honest_engine_passes(trunk: str, engine: type[OnnxGraphs] | type[OpenVinoGraphs]) -> None:
    report = judge(engine(exported(trunk)), trunk)
    assert report["failures"] == []
    assert report["passed"]
    assert report["compared"] >= 8  # type: ignore[operator]  # JSON, checked by what it holds


class Wrapped:
    """An honest engine with one thing wrong."""

    def __init__(self, fault: str) -> None:
        self._inner, self._fault = OnnxGraphs(exported("depthwise")), fault

    def search(self, frame: Frame) -> Rows:
        found = self._inner.search(frame[..., ::-1].copy() if self._fault == "rgb" else frame)
        if self._fault == "shifted":
            return Rows(found.boxes + 1.5, found.scores, found.embeddings)
        if self._fault == "swapped":
            return Rows(found.boxes, found.scores, found.embeddings[::-1])
        if self._fault == "blind":
            return Rows(found.boxes, found.scores * 0, found.embeddings)
        return found

    def query(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        swapped = boxes[:, [1, 0, 3, 2]].copy() if self._fault == "yx" else boxes
        return self._inner.query(frame, swapped)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rgb", "could be compared"),
        ("shifted", "px off"),
        ("swapped", "an embedding has cosine"),
        ("blind", "could be compared"),
        ("yx", "a query embedding has cosine"),
    ],
)
def test_a_wrong_engine_fails_and_the_report_says_why(fault: str, words: str) -> None:
    report = judge(Wrapped(fault), "depthwise")
    assert not report["passed"]
    # JSON, checked by what it holds.
    assert any(words in line for line in report["failures"])  # type: ignore[attr-defined]


def test_a_network_against_itself_has_no_difference_at_all() -> None:
    model = tiny_model("depthwise")
    report = judge(TorchGraphs(model.deployable(ROWS), model.deployable_query(QUERY_BOXES)), "depthwise")
    assert report["box_difference_px"]["max"] == 0  # type: ignore[index]  # JSON, checked by what it holds
    assert report["score_difference"]["max"] == 0  # type: ignore[index]  # JSON, checked by what it holds
