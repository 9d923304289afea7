"""One system being timed, in a process of its own (see `own_process`)."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from personsearch.benchmarks.frame_feed import FrameFeed
from personsearch.benchmarks.latency_records import LatencyPlan, Opened, Turn
from personsearch.benchmarks.named_systems import describe_runner, on_device
from personsearch.benchmarks.own_process import peak_memory_mib
from personsearch.benchmarks.systems import EngineSystem, SearchSystem
from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.core.preprocess import Frame
from personsearch.core.seeding import rng_for
from personsearch.core.similarity import l2_normalise
from personsearch.runtime import StageTimes
from personsearch.runtime.matching import Matcher
from personsearch.runtime.pipeline import run_pipeline
from personsearch.runtime.query import PersonQuery
from personsearch.runtime.sinks import AnnotatedVideo, DetectionLines, FrameResult, MatchLines, Sink
from personsearch.runtime.sources import open_source
from personsearch.runtime.timings import StageTimings

_WINDOW = 8
_STEADY = 0.03
_OFFLINE_FRAMES = 64


class TimedSystem:
    """Opens a system, warms it up and times its turns.

    Args:
        make: gives the system.
        arguments: of ``make``.
        plan: what to do.

    Raises:
        InputError: the system or the source cannot be opened, or a stream of what is no artifact.
    """

    def __init__(self, make: Callable[..., SearchSystem], arguments: tuple[Any, ...], plan: LatencyPlan) -> None:
        if plan.threads is not None:
            cv2.setNumThreads(plan.threads)  # the letterbox is part of a frame
        self._plan = plan
        started = time.perf_counter()
        self._system = make(*arguments)
        opened = time.perf_counter()
        self._runner = describe_runner(self._system)
        if plan.scenario == "stream" and not isinstance(self._system, EngineSystem):
            raise InputError(
                "a stream runs artifacts",
                where=type(self._system).__name__,
                remedy="export the checkpoint, or time it with `--scenario single`",
            )
        self._feed = FrameFeed(plan.source)
        frames, _ = self._feed.take(plan.batch)
        began = time.perf_counter()
        found = self._system.infer(frames)
        self._first_ms = (time.perf_counter() - began) * 1e3
        self._open_ms = (opened - started) * 1e3
        self._queries = _people(plan.queries, found[0].embeddings.shape[1])
        self._matcher = Matcher(self._queries, threshold=0.5)
        self._at_hand: list[Frame] = []

    def warm_up(self) -> Opened:
        """Queries until their times are steady, then the source from its beginning."""
        times: list[float] = []
        while not settled(times) and len(times) < self._plan.warmup_limit:
            frames, _ = self._feed.take(self._plan.batch)
            started = time.perf_counter()
            self._match(self._system.infer(frames))
            times.append((time.perf_counter() - started) * 1e3)
        self._feed.rewind()
        if self._plan.scenario == "offline":
            count = max(_OFFLINE_FRAMES // self._plan.batch, 1) * self._plan.batch
            self._at_hand, _ = self._feed.take(count)
        return Opened(
            runner=self._runner,
            sha256=self._system.sha256,
            open_ms=self._open_ms,
            first_ms=self._first_ms,
            warmup=len(times),
            settled=settled(times),
        )

    def turn(self, queries: int) -> Turn:
        """Times ``queries`` queries after one that does not count.

        That one takes over caches that another system filled, and outlasts its threads that still spin.
        """
        if self._plan.scenario == "stream":
            return self._stream(queries)
        run = self._pass if self._plan.scenario == "offline" else self._query
        first, _ = self._feed.take(self._plan.batch)
        self._system.infer(first)
        turn = Turn()
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(queries):
            run(turn)
        return turn.model_copy(
            update={"cpu_ms": (time.process_time() - cpu) * 1e3, "wall_s": time.perf_counter() - started}
        )

    def peak_memory_mib(self) -> float | None:
        """Of this process so far."""
        return peak_memory_mib()

    def _query(self, turn: Turn) -> None:
        frames, decode_ms = self._feed.take(self._plan.batch)
        started = time.perf_counter()
        found = self._system.infer(frames)
        inferred = time.perf_counter()
        self._match(found)
        matched = time.perf_counter()
        frame_ms, match_ms = (inferred - started) * 1e3, (matched - inferred) * 1e3
        stages = self._system.last_times
        turn.add_stage("decode", decode_ms)
        turn.add_stage("preprocess", stages.preprocess_ms)
        turn.add_stage("postprocess", stages.postprocess_ms)
        turn.add_stage("match", match_ms)
        self._add_graph(turn, [stages])
        turn.add("frame", frame_ms)
        turn.add("search", decode_ms + frame_ms + match_ms)
        turn.people.extend(len(one) for one in found)

    def _pass(self, turn: Turn) -> None:
        """All frames that are at hand, once."""
        times: list[StageTimes] = []
        started = time.perf_counter()
        for first in range(0, len(self._at_hand), self._plan.batch):
            found = self._system.infer(self._at_hand[first : first + self._plan.batch])
            times.append(self._system.last_times)
            turn.people.extend(len(one) for one in found)
        turn.add("frame", (time.perf_counter() - started) * 1e3)
        turn.add_stage("preprocess", sum(one.preprocess_ms for one in times))
        turn.add_stage("postprocess", sum(one.postprocess_ms for one in times))
        self._add_graph(turn, times)

    def _add_graph(self, turn: Turn, times: Sequence[StageTimes]) -> None:
        for scope, ms in inner_scopes(times, on_device=on_device(self._runner)).items():
            turn.add(scope, ms)

    def _stream(self, frames: int) -> Turn:
        """One run of the stream over the source, at most ``frames`` of it."""
        assert isinstance(self._system, EngineSystem)  # the constructor let nothing else pass
        engine, timings, turn = self._system.engine, StageTimings(), Turn()
        source = open_source(self._plan.source)
        started, cpu = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            sinks: list[Sink] = [
                MatchLines(Path(folder), self._queries),
                DetectionLines(Path(folder), self._queries, embedding_dim=engine.spec.embedding_dim, embeddings=False),
            ]
            if self._plan.annotate:
                real_time = self._plan.mode == "latest"
                video = AnnotatedVideo(
                    Path(folder), self._queries, rate_hz=source.rate_hz, real_time=real_time, timings=timings
                )
                sinks.append(video)
            outcome = run_pipeline(
                engine,
                source,
                self._matcher,
                [*sinks, _Stopwatch(turn)],
                mode=self._plan.mode,
                timings=timings,
                stop=threading.Event(),
                max_frames=frames,
            )
        if not turn.people:
            raise InputError("gives no frame", where=source.label, expected="one that can be decoded")
        return turn.model_copy(
            update={
                "cpu_ms": (time.process_time() - cpu) * 1e3,
                "wall_s": time.perf_counter() - started,
                "captured": outcome.counters.captured,
                "dropped": outcome.counters.dropped,
            }
        )

    def _match(self, found: Sequence[Detections]) -> None:
        for detections in found:
            self._matcher.matches(self._matcher.similarities(detections))


def inner_scopes(times: Sequence[StageTimes], *, on_device: bool) -> dict[str, float]:
    """Milliseconds of the network alone and with copies, as far as its engine tells them apart.

    On a device whose copies are not timed apart only the time with them is known.
    """
    whole = sum(one.infer_ms for one in times)
    copies = [one.transfer_ms for one in times if one.transfer_ms is not None]
    if copies:
        return {"graph": whole - sum(copies), "transfers": whole}
    return {"transfers": whole} if on_device else {"graph": whole}


class _Stopwatch:
    """The last sink: what arrives here has been published by all before it."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def write(self, result: FrameResult) -> None:
        self._turn.add("published", (time.perf_counter() - result.captured_at) * 1e3)
        self._turn.add_stage("compute", result.compute_ms)
        self._turn.people.append(len(result.detections))

    def close(self) -> None:
        """Nothing is open."""


def _people(count: int, embedding_dim: int) -> list[PersonQuery]:
    """People to look for whom nobody in the frames resembles: matching costs the same."""
    vectors = rng_for(0, "latency", "queries").normal(size=(count, embedding_dim)).astype(np.float32)
    thumbnail = np.zeros((64, 32, 3), np.uint8)
    return [PersonQuery(f"person {row}", l2_normalise(vectors[row : row + 1]), thumbnail) for row in range(count)]


def settled(times_ms: Sequence[float], window: int = _WINDOW, tolerance: float = _STEADY) -> bool:
    """Whether the medians of the last two windows differ by at most the share ``tolerance`` of the earlier one."""
    if len(times_ms) < 2 * window:
        return False
    before = statistics.median(times_ms[-2 * window : -window])
    return abs(statistics.median(times_ms[-window:]) - before) <= tolerance * before
