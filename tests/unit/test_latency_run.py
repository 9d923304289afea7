"""Latency side by side: the order of turns, what is pooled and what is paired, every scenario in real processes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from runtime_stub import BLUE, RED, scene, walk, write_artifact, write_video

from personsearch.benchmarks.frame_feed import FrameFeed, generated_frames, given_frames, made_frames
from personsearch.benchmarks.latency_records import LatencyPlan, Opened, ProcessRecord, Turn
from personsearch.benchmarks.latency_run import run_latency, summarise, turn_order
from personsearch.benchmarks.latency_worker import inner_scopes, settled
from personsearch.benchmarks.named_systems import on_device, open_spec, parse_system, parse_systems
from personsearch.core.errors import InputError
from personsearch.runtime import StageTimes


def test_each_system_has_every_place_and_both_neighbours_equally_often() -> None:
    names = ["a", "b", "c"]
    orders = [turn_order(names, number) for number in range(6)]
    for name in names:
        assert Counter(order.index(name) for order in orders) == {0: 2, 1: 2, 2: 2}
    pairs = Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert all(pairs[(one, two)] == pairs[(two, one)] for one, two in pairs)
    assert turn_order(["alone"], 7) == ["alone"]


HOST_MS = {"preprocess": 0.2, "postprocess": 0.1, "match": 0.1}


def record(*turns: list[float], graph: float = 1.0) -> ProcessRecord:
    """A process whose turns took so many milliseconds a frame, of which the network ``graph``."""
    return ProcessRecord(
        opened=Opened(runner="stub 1", sha256="", open_ms=100, first_ms=30, warmup=16, settled=True),
        turns=[
            Turn(
                times_ms={"frame": times, "graph": [graph] * len(times)},
                stages_ms={name: [ms] * len(times) for name, ms in HOST_MS.items()},
                people=[2] * len(times),
                cpu_ms=2.0 * len(times),
                wall_s=1.0,
            )
            for times in turns
        ],
        peak_memory_mib=50.0,
    )


def test_percentiles_pool_processes_ratios_pair_turns() -> None:
    # In the second process the machine was ten times slower, for both systems.
    slow = record([10, 10, 10], [20, 20, 20]), record([100, 100, 100], [200, 200, 200])
    fast = record([5, 5, 5], [5, 5, 5]), record([50, 50, 50], [50, 50, 50])
    plan = LatencyPlan(source="x", rounds=6, turn=3, restarts=2)
    first, second = summarise({"slow": slow, "fast": fast}, plan)
    assert first.scopes["frame"].process_p50 == [20, 200]
    assert first.scopes["frame"].p50.value == 100  # nearest rank above of the twelve
    assert first.scopes["frame"].times_faster.value == 1
    # Turn by turn: 2, 4, 2, 4 times faster; six turns would bound it, four do not.
    assert second.scopes["frame"].times_faster.model_dump() == {"value": 4, "low": None, "high": None}
    assert second.frames_per_s.value == pytest.approx(1000 / second.scopes["frame"].p50.value)
    assert second.queries == 12
    assert second.people_per_frame == 2
    assert second.cpu_ms_per_frame == 2
    assert second.host_share == pytest.approx(0.4 / 1.4)
    assert (first.beside, second.beside) == (("fast",), ("slow",))


def test_a_scope_with_copies_is_compared_with_a_network_that_needs_none() -> None:
    device = record([4, 4])
    device.turns[0].times_ms["transfers"] = [2.0, 2.0]
    plan = LatencyPlan(source="x", rounds=2, turn=2, restarts=1)
    _, found = summarise({"host": [record([9, 9], graph=8.0)], "device": [device]}, plan)
    assert found.scopes["graph"].times_faster.value == 8
    assert found.scopes["transfers"].times_faster.value == 4
    assert found.host_share == pytest.approx(0.4 / 2.4)  # copies are not the host's
    _, host = summarise({"device": [device], "host": [record([9, 9], graph=8.0)]}, plan)
    assert host.scopes["graph"].times_faster.value == 1 / 8


def test_time_on_a_device_is_not_called_the_networks_alone() -> None:
    apart = StageTimes(infer_ms=5.0, transfer_ms=2.0)
    together = StageTimes(infer_ms=5.0)
    assert inner_scopes([apart, apart], on_device=True) == {"graph": 6.0, "transfers": 10.0}
    assert inner_scopes([together], on_device=True) == {"transfers": 5.0}
    assert inner_scopes([together], on_device=False) == {"graph": 5.0}
    assert on_device("tensorrt 10.3, GPU, pycuda")
    assert on_device("onnxruntime 1.31, cuda, 2 threads")
    assert not on_device("openvino 2026.4, cpu")


def test_the_feed_goes_in_a_circle_and_back_to_its_start(tmp_path: Path) -> None:
    supply = made_frames(tmp_path, 3, (64, 48), None)
    feed = FrameFeed(supply.source)
    frames, decoding = feed.take(7)
    assert decoding > 0
    assert np.array_equal(frames[0], frames[3])
    assert np.array_equal(frames[0], frames[6])
    assert not np.array_equal(frames[0], frames[1])
    feed.rewind()
    assert np.array_equal(feed.take(1)[0][0], frames[0])
    feed.close()
    assert "3 distinct generated frames of 64x48, of colour noise, nobody in view" in supply.note
    video = made_frames(tmp_path, 2, (64, 48), None, video_length=7)
    assert given_frames(video.source, None).distinct == 7
    assert video.note.endswith("video of 7 frames at 25 a second")


def test_frames_of_the_users_own(tmp_path: Path) -> None:
    import cv2

    write_video(tmp_path / "walk.mp4", walk(12))
    found = given_frames(str(tmp_path / "walk.mp4"), 2)
    assert found.note == "12 frames of walk.mp4, 128x96, 2 people in view as stated"
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, wh in (("0.png", (64, 48)), ("1.png", (48, 64))):
        cv2.imwrite(str(folder / name), np.zeros((wh[1], wh[0], 3), np.uint8))
    with pytest.raises(InputError, match="holds frames of 64x48 and of 48x64"):
        FrameFeed(str(folder)).take(2)
    with pytest.raises(InputError, match="does not exist"):
        given_frames(str(tmp_path / "none.mp4"), None)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("stub") / "stub")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cv2

    folder = tmp_path_factory.mktemp("pictures")
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), scene((number % 4, RED), (3 - number % 4, BLUE)))
    return folder


def test_single_and_its_scopes_in_processes_of_their_own(artifact: Path, pictures: Path) -> None:
    specs = parse_systems([str(artifact), f"{artifact}@onnxruntime"])
    plan = LatencyPlan(source=str(pictures), rounds=5, turn=2, restarts=2, threads=1, warmup_limit=4)
    between: list[int] = []
    makers = {name: (open_spec, (spec, 1)) for name, spec in specs.items()}
    first, second = run_latency(makers, plan, between=lambda: between.append(1))
    assert [first.system, second.system] == ["stub", "stub@onnxruntime"]
    assert len(between) == 3
    assert first.queries == 10
    assert first.warmup == [4, 4]
    assert not first.settled
    assert first.runner.startswith("onnxruntime ")
    assert len(first.sha256) == 64
    assert first.people_per_frame == 2  # what the stub finds in each picture
    assert list(first.scopes) == ["graph", "frame", "search"]
    for name, scope in first.scopes.items():
        assert len(scope.process_p50) == 2, name
        assert 0 < scope.p50.value <= scope.p90.value <= scope.p99.value <= scope.highest
    assert first.scopes["graph"].p50.value < first.scopes["frame"].p50.value < first.scopes["search"].p50.value


def test_batches_and_offline(artifact: Path, pictures: Path) -> None:
    makers = {"stub": (open_spec, (parse_system(str(artifact)), 1))}
    plan = LatencyPlan(
        scenario="multi", source=str(pictures), rounds=3, turn=2, restarts=1, threads=1, batch=4, warmup_limit=2
    )
    (multi,) = run_latency(makers, plan)
    assert multi.queries == 3
    assert multi.frames_per_s.value == pytest.approx(4000 / multi.scopes["frame"].p50.value)
    (offline,) = run_latency(makers, plan.model_copy(update={"scenario": "offline", "rounds": 2, "turn": 1}))
    assert list(offline.scopes) == ["graph", "frame"]
    assert offline.frames_per_s.value == pytest.approx(64_000 / offline.scopes["frame"].p50.value)


def test_a_stream_counts_what_it_drops(artifact: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "walk.mp4", walk(30), rate_hz=200.0)
    makers = {"stub": (open_spec, (parse_system(str(artifact)), 1))}
    plan = LatencyPlan(
        scenario="stream", source=str(video), rounds=40, turn=20, restarts=1, threads=1, warmup_limit=2, annotate=True
    )
    (every,) = run_latency(makers, plan)
    assert (every.captured, every.dropped, every.queries) == (every.captured, 0, 40)
    assert list(every.scopes) == ["published"]
    (latest,) = run_latency(makers, plan.model_copy(update={"mode": "latest", "annotate": False}))
    assert latest.captured - latest.dropped >= latest.queries


def test_what_cannot_be_timed_is_refused_in_one_line(artifact: Path, pictures: Path, tmp_path: Path) -> None:
    plan = LatencyPlan(source=str(pictures), rounds=1, restarts=1)
    changed = write_artifact(tmp_path / "changed")
    (changed / "search.onnx").write_bytes(b"other")
    with pytest.raises(InputError, match="SHA-256"):
        run_latency({"changed": (open_spec, (parse_system(str(changed)), 1))}, plan)
    with pytest.raises(ValueError, match="no system"):
        run_latency({}, plan)
    for text, message in (
        (str(tmp_path / "nothing"), "does not exist"),
        (f"{artifact}@abacus", "`abacus` runs nothing"),
        (f"{artifact}@compiled", "`compiled` does not run an artifact"),
    ):
        with pytest.raises(InputError, match=message):
            parse_system(text)
    with pytest.raises(InputError, match="two models are called `stub`"):
        parse_systems([str(artifact), str(artifact)])


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
    assert settled(times, 4, 0.05) is expected


def test_generated_frames_are_distinct_and_repeatable() -> None:
    first, again = generated_frames(3, (40, 30)), generated_frames(3, (40, 30))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])
    assert first[0].shape == (30, 40, 3)
