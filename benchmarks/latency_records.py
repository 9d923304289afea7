"""What a latency measurement writes down, in a worker and in the end; plain values, no clock."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from personsearch.benchmarks.order_statistics import Quantile
from personsearch.core.recipe import StrictModel

Scenario = Literal["single", "multi", "offline", "stream"]
SCOPES: dict[str, str] = {
    "graph": "network alone",
    "transfers": "with copies to the device and back",
    "frame": "with pre- and post-processing",
    "search": "with decoding and matching too",
    "published": "from capture to the last sink",
}
"""Every scope that is timed, from the innermost to the outermost, and what is in it."""
MAIN_SCOPE: dict[Scenario, str] = {"single": "frame", "multi": "frame", "offline": "frame", "stream": "published"}
SCENARIOS: dict[Scenario, str] = {
    "single": "one frame at a time, each when the one before is done",
    "multi": "one batch at a time, each when the one before is done",
    "offline": "all frames decoded and at hand, in batches, as fast as it goes",
    "stream": "a real source through decoding thread, engine, matching and sinks",
}


class LatencyPlan(StrictModel):
    """One measurement of any number of systems side by side."""

    scenario: Scenario = "single"
    source: str = Field(description="as `personsearch.runtime.sources.open_source` takes it")
    rounds: int = Field(default=200, gt=0, description="queries timed for each system in each process")
    turn: int = Field(default=10, gt=0, description="queries of one system before it is another's turn")
    batch: int = Field(default=1, gt=0, description="frames of a query")
    restarts: int = Field(default=3, gt=0, description="processes of each system, one after the other")
    threads: int | None = None
    queries: int = Field(default=5, gt=0, description="people looked for, in matching")
    mode: Literal["every", "latest"] = Field(default="every", description="of the stream's queue")
    annotate: bool = Field(default=False, description="the stream writes its annotated video too")
    warmup_limit: int = Field(default=120, gt=0, description="queries at which warming up ends without being steady")


class Turn(StrictModel):
    """What one system did before it was another's turn."""

    times_ms: dict[str, list[float]] = Field(default_factory=dict, description="by scope, one value a query")
    stages_ms: dict[str, list[float]] = Field(default_factory=dict, description="by stage, one value a query")
    people: list[int] = Field(default_factory=list, description="found in each frame")
    cpu_ms: float = Field(default=0.0, description="processor time of the process, all threads, queries that count")
    wall_s: float = 0.0
    captured: int = 0
    dropped: int = 0

    def add(self, scope: str, milliseconds: float) -> None:
        """One more query."""
        self.times_ms.setdefault(scope, []).append(milliseconds)

    def add_stage(self, stage: str, milliseconds: float) -> None:
        """One more query's share in a stage."""
        self.stages_ms.setdefault(stage, []).append(milliseconds)


class Opened(StrictModel):
    """A system that has been opened, and its first query."""

    runner: str
    sha256: str
    open_ms: float
    first_ms: float
    warmup: int
    settled: bool


class ProcessRecord(StrictModel):
    """One process of one system."""

    opened: Opened
    turns: list[Turn]
    peak_memory_mib: float | None


class ScopeLatency(StrictModel):
    """Milliseconds a query in one scope, all processes together, and their medians apart."""

    p50: Quantile
    p90: Quantile
    p99: Quantile
    highest: float
    process_p50: list[float] = Field(description="of each process; how far they differ is what an interval leaves out")
    times_faster: Quantile = Field(description="than the first system in the same scope, turn by turn; itself: 1")


class SystemLatency(StrictModel):
    """One system's latency, measured in one run with the others that are named."""

    system: str
    runner: str
    sha256: str
    scenario: Scenario
    batch: int = Field(description="frames a query")
    scopes: dict[str, ScopeLatency]
    stages_p50_ms: dict[str, float]
    host_share: float | None = Field(description="of pre-, post-processing and matching in the frame's time, medians")
    frames_per_s: Quantile
    queries: int = Field(description="timed, warm-up and the first of every turn left out")
    people_per_frame: float = Field(description="found, on average")
    cpu_ms_per_frame: float = Field(description="processor time of all threads")
    open_ms: float = Field(description="median of the processes")
    first_ms: float = Field(description="the first query of a process, median")
    warmup: list[int] = Field(description="queries of each process before it was steady")
    settled: bool
    peak_memory_mib: float | None
    captured: int = Field(description="frames of a stream")
    dropped: int = Field(description="frames of a stream that a newer one replaced")
    beside: tuple[str, ...]
