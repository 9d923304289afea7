"""Single-stream latency, systems side by side in one run so that their ratios hold on a noisy machine.

One frame at a time, every frame a new one, on whatever else the machine does: the next frame of every system is
timed before the next but one of any. Two scopes: ``graph`` is the network alone (for a checkpoint run by torch:
trunk, proposals, head and NMS), ``frame`` adds the letterbox before it and the boxes' way back to source pixels.
Decoding and drawing are in neither.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import cv2
import numpy as np
from pydantic import Field

from personsearch.benchmarks.systems import SearchSystem
from personsearch.core.preprocess import Frame
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel
from personsearch.core.seeding import rng_for

Scope = Literal["graph", "frame"]
WINDOW = 4
SETTLED = 0.05
WARMUP_LIMIT = 40


class Percentiles(StrictModel):
    """Milliseconds a frame."""

    p50_ms: float
    p90_ms: float
    p99_ms: float


class LatencyResult(StrictModel):
    """One system's latency, measured in one run with the others that are named."""

    system: str
    sha256: str
    scopes: dict[Scope, Percentiles]
    frames: int = Field(description="frames timed, warm-up left out")
    warmup_frames: int
    warmup_settled: bool = Field(description="false when the limit ended the warm-up, not a steady median")
    frame_wh: tuple[int, int]
    beside: tuple[str, ...] = Field(description="the other systems of the run")


def measure_latency(
    systems: Mapping[str, SearchSystem], frames: Sequence[Frame], *, rounds: int = 50
) -> list[LatencyResult]:
    """Times every system on the same frames, interleaved.

    Args:
        systems: by name; the order they run in rotates from frame to frame.
        frames: distinct frames of one size; round r takes frame r modulo their number.
        rounds: frames timed for each system.

    Raises:
        ValueError: no frame, no system, no round, or frames of different sizes.
    """
    if not systems or not frames or rounds < 1:
        raise ValueError(f"{len(systems)} systems, {len(frames)} frames, {rounds} rounds: nothing to time")
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"frames of {len(sizes)} sizes: the letterbox would cost differently")
    warmups = {name: _warm_up(system, frames) for name, system in systems.items()}
    names = list(systems)
    times: dict[str, dict[Scope, list[float]]] = {name: {"graph": [], "frame": []} for name in names}
    with StageProgress("latency", rounds) as progress:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                whole, graph = _time(systems[name], frames[number % len(frames)])
                times[name]["frame"].append(whole)
                times[name]["graph"].append(graph)
            progress.advance()
    height, width = frames[0].shape[:2]
    return [
        LatencyResult(
            system=name,
            sha256=system.sha256,
            scopes={scope: percentiles(values) for scope, values in times[name].items()},
            frames=rounds,
            warmup_frames=warmups[name][0],
            warmup_settled=warmups[name][1],
            frame_wh=(width, height),
            beside=tuple(other for other in names if other != name),
        )
        for name, system in systems.items()
    ]


def percentiles(times_ms: Sequence[float]) -> Percentiles:
    """Percentiles as values that occurred (nearest rank above), so that p99 is never below what was seen."""
    p50, p90, p99 = np.percentile(np.asarray(times_ms, np.float64), [50, 90, 99], method="higher").tolist()
    return Percentiles(p50_ms=p50, p90_ms=p90, p99_ms=p99)


def settled(times_ms: Sequence[float], window: int = WINDOW, tolerance: float = SETTLED) -> bool:
    """Whether the medians of the last two windows differ by at most the share ``tolerance`` of the earlier one."""
    if len(times_ms) < 2 * window:
        return False
    before = statistics.median(times_ms[-2 * window : -window])
    return abs(statistics.median(times_ms[-window:]) - before) <= tolerance * before


def generated_frames(count: int, frame_wh: tuple[int, int], seed: int = 0) -> list[Frame]:
    """Distinct frames of smooth colour noise, ``(H, W, 3)`` uint8: for timing where there is no footage."""
    frames = []
    for number in range(count):
        small = rng_for(seed, "latency", number).integers(0, 256, (18, 32, 3), dtype=np.uint8)
        frame: Frame = np.asarray(cv2.resize(small, frame_wh, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        frames.append(frame)
    return frames


def _warm_up(system: SearchSystem, frames: Sequence[Frame]) -> tuple[int, bool]:
    times: list[float] = []
    while not settled(times) and len(times) < WARMUP_LIMIT:
        times.append(_time(system, frames[len(times) % len(frames)])[0])
    return len(times), settled(times)


def _time(system: SearchSystem, frame: Frame) -> tuple[float, float]:
    """Milliseconds of the whole call and of the graph in it."""
    started = time.perf_counter()
    system.infer([frame])
    return (time.perf_counter() - started) * 1e3, system.last_times.infer_ms
