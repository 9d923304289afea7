"""Threads and queues: nothing lost where every frame counts, nothing stale where the latest does."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import runtime_stub as stub

from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.runtime import Engine, open_engine
from personsearch.runtime.channel import Channel, Closed
from personsearch.runtime.frames import VideoFrame
from personsearch.runtime.matching import Matcher
from personsearch.runtime.pipeline import Outcome, run_pipeline
from personsearch.runtime.query import PersonQuery
from personsearch.runtime.sinks import FrameResult
from personsearch.runtime.timings import StageTimings


class Scripted:
    """A source of ``count`` frames, each after a pause; then its end, or an error."""

    label, rate_hz, frame_count, broken_count = "scripted", 25.0, None, 0

    def __init__(self, count: int, *, pause_s: float = 0.0, live: bool = False, error: Exception | None = None) -> None:
        self.count, self.pause_s, self.live, self.error = count, pause_s, live, error
        self.notes: list[str] = []
        self.given = self.closed = 0

    def read(self) -> VideoFrame | None:
        time.sleep(self.pause_s)
        if self.given == self.count:
            if self.error:
                raise self.error
            return None
        self.given += 1
        return VideoFrame(self.given - 1, (self.given - 1) / 100, stub.scene((0, stub.RED)))

    def interrupt(self) -> None:
        """Is not waiting for anything."""

    def close(self) -> None:
        self.closed += 1


class Collected:
    """A sink that keeps the indices, may be slow, and may fail at one."""

    def __init__(self, *, pause_s: float = 0.0, fail_at: int | None = None, fail_on_close: bool = False) -> None:
        self.indices: list[int] = []
        self.with_image: list[bool] = []
        self.pause_s, self.fail_at, self.fail_on_close, self.closed = pause_s, fail_at, fail_on_close, 0

    def write(self, result: FrameResult) -> None:
        if result.index == self.fail_at:
            raise InputError("disk full")
        if result.image is not None:
            time.sleep(self.pause_s)
        self.indices.append(result.index)
        self.with_image.append(result.image is not None)

    def close(self) -> None:
        self.closed += 1
        if self.fail_on_close:
            raise InputError("cannot finish")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_engine(stub.write_artifact(tmp_path_factory.mktemp("artifact")), threads=1)


class Slow:
    """An engine that takes its time."""

    def __init__(self, engine: Engine, pause_s: float) -> None:
        self._engine, self._pause_s = engine, pause_s
        self.spec, self.label, self.embed, self.close = engine.spec, engine.label, engine.embed, engine.close

    @property
    def last_times(self) -> object:
        return self._engine.last_times

    def infer(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        time.sleep(self._pause_s)
        return self._engine.infer(frames)


def run(engine: Engine, source: Scripted, sink: Collected, mode: str = "every", **options: object) -> Outcome:
    matcher = Matcher([PersonQuery("red", np.array([[0, 0, 1]], np.float32), stub.scene())], 0.9)
    options = {"timings": StageTimings(), "stop": threading.Event(), **options}
    # Options are passed on as they come.
    return run_pipeline(engine, source, matcher, [sink], mode=mode, **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> None:
    yield  # type: ignore[misc]  # a fixture is a generator
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(thread.name in ("decode", "write") for thread in threading.enumerate()):
        time.sleep(0.01)
    assert not [thread.name for thread in threading.enumerate() if thread.name in ("decode", "write")]


@pytest.mark.parametrize(("engine_s", "sink_s"), [(0, 0), (0.004, 0), (0, 0.004)])
def test_every_frame_reaches_the_sink_in_order(engine: Engine, engine_s: float, sink_s: float) -> None:
    source, sink = Scripted(60), Collected(pause_s=sink_s)
    outcome = run(Slow(engine, engine_s), source, sink)
    assert sink.indices == list(range(60))
    assert all(sink.with_image)
    assert (outcome.counters.decoded, outcome.counters.processed, outcome.counters.dropped) == (60, 60, 0)
    assert not outcome.stopped
    assert source.closed == sink.closed == 1


def test_a_slow_engine_holds_a_file_back(engine: Engine) -> None:
    source = Scripted(1000)
    outcome = run(engine, source, Collected(), max_frames=5)
    assert outcome.counters.processed == 5
    assert source.given <= 5 + 4 + 2  # processed, queued, and in the two threads' hands
    assert outcome.counters.left == source.given - 5
    assert not outcome.stopped


def test_latest_drops_old_frames_and_accounts_for_all(engine: Engine) -> None:
    source, sink = Scripted(100, pause_s=0.002, live=True), Collected()
    counters = run(Slow(engine, 0.03), source, sink, "latest").counters
    assert counters.dropped > 0
    assert counters.processed + counters.dropped == counters.decoded == 100
    assert sink.indices == sorted(sink.indices)
    assert sink.indices[-1] == 99  # the newest is never the one that is dropped
    assert counters.processed < 60


def test_latest_plays_a_file_at_its_own_speed(engine: Engine) -> None:
    sink, started = Collected(), time.perf_counter()
    run(engine, Scripted(30), sink, "latest")
    assert time.perf_counter() - started >= 0.29  # the last of 30 frames at 100 a second is due then
    assert sink.indices[-1] == 29


def test_a_slow_encoder_does_not_slow_a_live_search(engine: Engine) -> None:
    source, sink = Scripted(120, pause_s=0.002, live=True), Collected(pause_s=0.03)
    counters = run(engine, source, sink, "latest").counters
    assert counters.undrawn > 0
    assert len(sink.indices) == counters.processed  # every result arrives, some without their picture
    assert sink.with_image.count(False) == counters.undrawn


def test_an_error_of_the_source_comes_after_the_frames_before_it(engine: Engine) -> None:
    source, sink = Scripted(7, error=InputError("cut short")), Collected()
    seen: list[int] = []
    with pytest.raises(InputError, match="cut short"):
        run(engine, source, sink, on_frame=lambda result: seen.append(result.index))
    assert seen == list(range(7))
    assert source.closed == sink.closed == 1


def test_an_error_of_the_engine_ends_everything(engine: Engine) -> None:
    class Broken(Slow):
        def infer(self, frames: Sequence[np.ndarray]) -> list[Detections]:
            raise RuntimeError("engine broke")

    source, sink = Scripted(10_000), Collected()
    with pytest.raises(RuntimeError, match="engine broke"):
        run(Broken(engine, 0), source, sink)
    assert source.closed == sink.closed == 1


@pytest.mark.parametrize("mode", ["every", "latest"])
def test_an_error_of_a_sink_ends_everything(engine: Engine, mode: str) -> None:
    source, sink = Scripted(10_000, live=True), Collected(fail_at=0 if mode == "latest" else 3)
    if mode == "latest":
        source.pause_s = 0.002
    with pytest.raises(InputError, match="disk full"):
        run(engine, source, sink, mode)
    assert source.given < 10_000
    assert source.closed == sink.closed == 1


def test_an_error_while_closing_is_not_lost(engine: Engine) -> None:
    with pytest.raises(InputError, match="cannot finish"):
        run(engine, Scripted(3), Collected(fail_on_close=True))


def test_stop_ends_a_live_source_with_everything_flushed(engine: Engine) -> None:
    stop, sink = threading.Event(), Collected(pause_s=0.005)
    source = Scripted(10_000, pause_s=0.001, live=True)
    seen: list[int] = []

    def count(result: FrameResult) -> None:
        seen.append(result.index)
        if len(seen) == 20:
            stop.set()

    outcome = run(engine, source, sink, "every", stop=stop, on_frame=count)
    assert outcome.stopped
    assert sink.indices == seen == list(range(20))
    assert source.closed == sink.closed == 1


def test_no_frames(engine: Engine) -> None:
    outcome = run(engine, Scripted(0), Collected())
    assert outcome.counters.processed == 0
    assert not outcome.stopped


def test_every_stage_is_measured(engine: Engine) -> None:
    timings = StageTimings()
    run(engine, Scripted(10), Collected(), timings=timings)
    stages = timings.summary()
    for stage in ("decode", "queue_wait", "preprocess", "infer", "postprocess", "match", "age"):
        assert stages[stage]["count"] == 10
        assert 0 <= stages[stage]["p50_ms"] <= stages[stage]["p90_ms"] <= stages[stage]["p99_ms"]
    assert stages["age"]["p50_ms"] >= stages["infer"]["p50_ms"]


def test_percentiles_by_hand() -> None:
    timings = StageTimings()
    for value in range(101):
        timings.add("infer", float(value))
    assert timings.summary() == {"infer": {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "count": 101}}


def test_channel_gives_what_is_left_before_the_error() -> None:
    channel: Channel[int] = Channel("every", 3)
    channel.put(1)
    channel.end(ValueError("later"))
    assert channel.get() == 1
    with pytest.raises(ValueError, match="later"):
        channel.get()


def test_cancelled_channel_frees_its_producer() -> None:
    channel: Channel[int] = Channel("every", 1)
    channel.put(1)
    raised: list[type[BaseException]] = []

    def produce() -> None:
        try:
            channel.put(2)
        except Closed:
            raised.append(Closed)

    thread = threading.Thread(target=produce)
    thread.start()
    channel.cancel()
    thread.join(5)
    assert raised == [Closed]


def test_stop_is_seen_by_a_waiting_reader() -> None:
    channel: Channel[int] = Channel("latest", 1)
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    assert channel.get(stop) is None


def test_artifact_path_is_not_needed_while_running(tmp_path: Path) -> None:
    """An update may replace the folder under a running stream."""
    loaded = open_engine(stub.write_artifact(tmp_path / "a"))
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    assert run(loaded, Scripted(3), Collected()).counters.processed == 3
