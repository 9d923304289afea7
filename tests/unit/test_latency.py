"""Latency's bookkeeping: percentiles, warm-up, interleaving. How fast anything is is not tested."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from personsearch.benchmarks.latency import generated_frames, measure_latency, percentiles, settled
from personsearch.benchmarks.systems import SearchSystem, TorchSystem
from personsearch.core.detections import Detections, FloatArray
from personsearch.core.geometry import Boxes
from personsearch.core.preprocess import Frame, Preprocess
from personsearch.core.recipes import DepthwiseTrunk, HdlRecipe
from personsearch.models.build import build_model
from personsearch.runtime import StageTimes


class Recorder:
    """A system that finds nobody and writes down which frame it was given."""

    score_threshold = 0.5
    sha256 = "0" * 64
    last_times = StageTimes(infer_ms=0.0)

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self._name, self._log = name, log

    def infer(self, frames: Sequence[Frame]) -> list[Detections]:
        self._log += [(self._name, int(frame[0, 0, 0])) for frame in frames]
        return [Detections.empty(4) for _ in frames]

    def embed(self, frame: Frame, boxes_xyxy: Boxes) -> FloatArray:
        return np.zeros((len(boxes_xyxy), 4), np.float32)


def frames_numbered(count: int) -> list[Frame]:
    return [np.full((8, 8, 3), number, np.uint8) for number in range(count)]


@pytest.mark.parametrize(
    ("times", "expected"),
    [([5.0], (5, 5, 5)), ([1.0, 2.0], (2, 2, 2)), (list(range(1, 101)), (51, 91, 100)), ([1.0] * 9 + [9.0], (1, 9, 9))],
)
def test_percentiles_are_values_that_occurred(times: list[float], expected: tuple[float, ...]) -> None:
    found = percentiles(times)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == expected


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], False),
        ([1.0] * 7, False),
        ([1.0] * 8, True),
        ([9.0, 5.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], False),
        ([9.0, 5.0, 3.0, 2.0, *[1.0] * 8], True),
        ([1.0] * 7 + [50.0], True),  # one hiccup does not move a median
    ],
)
def test_settled(times: list[float], expected: bool) -> None:
    assert settled(times) is expected


def test_systems_take_turns_on_the_same_frames() -> None:
    log: list[tuple[str, int]] = []
    systems: dict[str, SearchSystem] = {name: Recorder(name, log) for name in ("a", "b", "c")}
    results = measure_latency(systems, frames_numbered(4), rounds=6)
    timed = log[-18:]
    assert [frame for _, frame in timed[::3]] == [0, 1, 2, 3, 0, 1]
    for start in range(0, 18, 3):
        turn = timed[start : start + 3]
        assert {name for name, _ in turn} == {"a", "b", "c"}
        assert len({frame for _, frame in turn}) == 1
    assert [name for name, _ in timed[::3]] == ["a", "b", "c"] * 2  # nobody always comes first
    assert [result.beside for result in results] == [("b", "c"), ("a", "c"), ("a", "b")]
    assert sum(result.warmup_frames for result in results) + 18 == len(log)


def test_a_network_in_torch_reports_both_scopes() -> None:
    recipe = HdlRecipe(
        trunk=DepthwiseTrunk(stem_channels=8, channels=(8, 8, 8), modules=1, person_channels=8),
        attention="none",
        anchor_heights=(40.0,),
        rpn_channels=8,
        pre_nms=8,
        proposals=4,
    )
    system = TorchSystem(build_model(recipe, Preprocess(input_wh=(64, 64)), 2))
    (result,) = measure_latency({"torch": system}, generated_frames(3, (96, 64)), rounds=5)
    assert result.frame_wh == (96, 64)
    assert 0 < result.scopes["graph"].p50_ms < result.scopes["frame"].p50_ms


def test_generated_frames_are_distinct_and_repeatable() -> None:
    first, again = generated_frames(3, (40, 30)), generated_frames(3, (40, 30))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert first[0].shape == (30, 40, 3)


def test_nothing_to_time_is_refused() -> None:
    with pytest.raises(ValueError, match="0 systems"):
        measure_latency({}, frames_numbered(1))
    with pytest.raises(ValueError, match="0 frames"):
        measure_latency({"a": Recorder("a", [])}, [])
    sizes = [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)]
    with pytest.raises(ValueError, match="2 sizes"):
        measure_latency({"a": Recorder("a", [])}, sizes)
