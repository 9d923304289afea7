"""Measured times of the stages, kept small however long the stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np

STAGES = ("decode", "queue_wait", "preprocess", "infer", "postprocess", "match", "draw", "write", "age")
_KEPT = 20_000


class StageTimings:
    """Milliseconds of each stage; the newest 20 000 of each are kept.

    A stage is written by one thread and read when the threads have ended.
    """

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {stage: deque(maxlen=_KEPT) for stage in STAGES}

    def add(self, stage: str, milliseconds: float) -> None:
        """One measured value of one of `STAGES`."""
        self._values[stage].append(milliseconds)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Measures the body; nothing is recorded when it raises."""
        started = perf_counter()
        yield
        self.add(stage, (perf_counter() - started) * 1e3)

    def summary(self) -> dict[str, dict[str, float]]:
        """Median, 90th and 99th percentile in ms and the number of values, for each stage that was measured."""
        result = {}
        for stage, values in self._values.items():
            if values:
                p50, p90, p99 = np.percentile(np.fromiter(values, dtype=np.float64), [50, 90, 99])
                result[stage] = {
                    "p50_ms": round(float(p50), 3),
                    "p90_ms": round(float(p90), 3),
                    "p99_ms": round(float(p99), 3),
                    "count": len(values),
                }
        return result
