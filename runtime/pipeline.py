"""Decode, search and write at the same time: three threads, two bounded queues, one way to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from personsearch.runtime.channel import Channel, Closed, Mode
from personsearch.runtime.engine import Engine
from personsearch.runtime.frames import Source, VideoFrame
from personsearch.runtime.matching import Matcher
from personsearch.runtime.sinks import FrameResult, Sink
from personsearch.runtime.timings import StageTimings

_QUEUE_FRAMES = 4
_QUEUE_RESULTS = 8
# Without their pictures results are small: so many may wait before inference has to.
_QUEUE_BARE_RESULTS = 1024
# A camera's driver can hang in a read; the stream then ends without it.
_JOIN_S = 5.0


@dataclass(frozen=True)
class Counters:
    """What happened to the frames.

    Attributes:
        captured: frames that the source delivered, decodable or not.
        decoded: turned into pictures.
        dropped: replaced by a newer one before inference (``latest``).
        left: decoded ahead and not searched, as the stream was stopped or had its ``max_frames``.
        processed: searched.
        undrawn: searched, but without a picture in the video, as the writer was behind a live source.
    """

    captured: int
    decoded: int
    dropped: int
    left: int
    processed: int
    undrawn: int


@dataclass(frozen=True)
class _Captured:
    frame: VideoFrame
    at: float


class _Reader:
    """The decoding thread; it alone reads and closes the source."""

    def __init__(self, source: Source, channel: Channel[_Captured], timings: StageTimings, pace: bool) -> None:
        self._source, self._channel, self._timings, self._pace = source, channel, timings, pace
        self._stop = threading.Event()
        self.decoded = 0
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._read_all()
        except Closed:
            pass
        except BaseException as raised:
            error = raised
        finally:
            self._source.close()
            self._channel.end(error)

    def _read_all(self) -> None:
        started = perf_counter()
        while not self._stop.is_set():
            before = perf_counter()
            frame = self._source.read()
            if frame is None:
                return
            self._timings.add("decode", (perf_counter() - before) * 1e3)
            self.decoded += 1
            if self._pace:
                self._stop.wait(max(0.0, started + frame.timestamp_s - perf_counter()))
            self._channel.put(_Captured(frame, perf_counter()))

    def finish(self) -> bool:
        """Stops reading; returns whether the thread ended (a hanging driver is left behind)."""
        self._stop.set()
        self._source.interrupt()
        self._channel.cancel()
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()


class _Writer:
    """The thread of the sinks; it alone writes and closes them."""

    def __init__(self, sinks: Sequence[Sink], mode: Mode, timings: StageTimings) -> None:
        self._sinks, self._mode, self._timings = sinks, mode, timings
        capacity = _QUEUE_BARE_RESULTS if mode == "latest" else _QUEUE_RESULTS
        self._channel: Channel[FrameResult] = Channel("every", capacity)
        self._error: BaseException | None = None
        self.undrawn = 0
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while (result := self._channel.get()) is not None:
                for sink in self._sinks:
                    sink.write(result)
                self._timings.add("age", (perf_counter() - result.captured_at) * 1e3)
        except BaseException as raised:
            self._error = raised
            self._channel.cancel()
        for sink in self._sinks:
            try:
                sink.close()
            except BaseException as raised:
                self._error = self._error or raised

    def put(self, result: FrameResult) -> None:
        """Hands a result over; `Closed` when a sink has failed."""
        self._channel.put(result)

    @property
    def behind(self) -> bool:
        """Whether pictures must be left out for a live source not to wait for the disk."""
        return self._mode == "latest" and len(self._channel) >= _QUEUE_RESULTS

    def finish(self) -> None:
        """Writes what is queued, closes the sinks and raises what went wrong in them."""
        self._channel.end()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Closes the sinks without writing what is queued."""
        self._channel.cancel()
        self._channel.end()
        self._thread.join(_JOIN_S)


@dataclass(frozen=True)
class Outcome:
    """How a stream ended.

    Attributes:
        counters: of its frames.
        stopped: whether ``stop`` was set before the source ended.
        hung: whether the source did not react to being closed.
    """

    counters: Counters
    stopped: bool
    hung: bool


def run_pipeline(
    engine: Engine,
    source: Source,
    matcher: Matcher,
    sinks: Sequence[Sink],
    *,
    mode: Mode,
    timings: StageTimings,
    stop: threading.Event,
    max_frames: int | None = None,
    on_frame: Callable[[FrameResult], None] = lambda result: None,
) -> Outcome:
    """Searches a source until it ends, ``stop`` is set or ``max_frames`` were processed; the sinks are complete then.

    Inference and matching run in the calling thread.

    Args:
        engine: finds people; stays open.
        source: is read to its end and closed.
        matcher: holds the queries.
        sinks: get every result, in order, and are closed.
        mode: ``every`` frame, the source waiting for the engine; or always the ``latest`` one, older ones dropped,
            and a source that is not live played at its own speed.
        timings: filled in.
        stop: set by a signal handler or another thread.
        max_frames: number of frames to process at most.
        on_frame: called with each result in the calling thread.

    Raises:
        InputError: from the source, after everything before it was processed; or from a sink.
        Exception: whatever else a thread raised.
    """
    channel: Channel[_Captured] = Channel(mode, _QUEUE_FRAMES)
    writer = _Writer(sinks, mode, timings)
    reader = _Reader(source, channel, timings, pace=mode == "latest" and not source.live)
    processed = undrawn = 0
    ended = False
    try:
        with suppress(Closed):  # a sink failed: `finish` raises its error
            while max_frames is None or processed < max_frames:
                captured = channel.get(stop)
                if captured is None:
                    ended = not stop.is_set()
                    break
                timings.add("queue_wait", (perf_counter() - captured.at) * 1e3)
                bare = writer.behind
                undrawn += bare
                result = _search(engine, matcher, captured, timings, with_image=not bare)
                processed += 1
                writer.put(result)
                on_frame(result)
        ended = ended or (max_frames is not None and processed == max_frames)
        hung = not reader.finish()
        writer.finish()
    except BaseException:
        reader.finish()
        writer.abandon()
        raise
    decoded = reader.decoded
    left = decoded - processed - channel.dropped
    counters = Counters(decoded + source.broken_count, decoded, channel.dropped, left, processed, undrawn)
    return Outcome(counters, stopped=not ended, hung=hung)


def _search(
    engine: Engine, matcher: Matcher, captured: _Captured, timings: StageTimings, *, with_image: bool
) -> FrameResult:
    frame = captured.frame
    started = perf_counter()
    detections = engine.infer([frame.image])[0]
    times = engine.last_times
    timings.add("preprocess", times.preprocess_ms)
    timings.add("infer", times.infer_ms)
    timings.add("postprocess", times.postprocess_ms)
    with timings.measure("match"):
        similarities = matcher.similarities(detections)
        matches = tuple(matcher.matches(similarities))
    return FrameResult(
        frame.index,
        frame.timestamp_s,
        frame.name,
        frame.image if with_image else None,
        detections,
        similarities,
        matches,
        (perf_counter() - started) * 1e3,
        captured.at,
    )
