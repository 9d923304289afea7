"""Joules a frame: what a sensor counts while a system works, and what the machine would have drawn anyway.

Every repetition is an idle stretch, then a working stretch of each system. Gross is what was drawn while it worked,
net is that less what the idle stretch of the same repetition drew in the same time; both by the frames done.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from types import TracebackType

from pydantic import Field

from personsearch.benchmarks.latency_records import LatencyPlan, Opened, Turn
from personsearch.benchmarks.latency_run import Maker, turn_order
from personsearch.benchmarks.latency_worker import TimedSystem
from personsearch.benchmarks.own_process import OwnProcess
from personsearch.benchmarks.power_sensors import PowerSensor
from personsearch.core.errors import InputError
from personsearch.core.progress import StageProgress
from personsearch.core.recipe import StrictModel

Sample = tuple[float, float]
"""Seconds, and watts or joules counted."""


class Drawn(StrictModel):
    """What one sensor saw in one stretch."""

    joules: float
    seconds: float
    samples: int
    counted: bool = Field(description="by the sensor itself; otherwise power times time, by the trapezoidal rule")

    @property
    def watts(self) -> float:
        """On average."""
        return self.joules / self.seconds


class Stretch(StrictModel):
    """A system at work, or nobody, and every sensor beside it."""

    frames: int
    drawn: dict[str, Drawn]


class EnergyResult(StrictModel):
    """One system on one sensor."""

    system: str
    runner: str
    sha256: str
    sensor: str
    covers: str
    gross_j_per_frame: float = Field(description="median of the repetitions")
    gross_lowest: float
    gross_highest: float
    net_j_per_frame: float = Field(description="median; without what the idle machine draws")
    net_lowest: float
    net_highest: float
    idle_w: float = Field(description="median of the idle stretches")
    load_w: float = Field(description="median of the working stretches")
    frames: int
    frames_per_s: float
    sampling_hz: float
    counted: bool
    repeats: int


def energy_of(samples: Sequence[Sample]) -> float:
    """Joules by the trapezoidal rule from ``(seconds, watts)``, in order of time; at least two."""
    return sum((two[0] - one[0]) * (one[1] + two[1]) / 2 for one, two in pairwise(samples))


class Recorder:
    """Reads sensors in a thread of its own while it is open as a context manager.

    Args:
        sensors: to read.
        rate_hz: of the readings; a counter is read as often, as it may go round.
    """

    def __init__(self, sensors: Sequence[PowerSensor], rate_hz: float) -> None:
        self._sensors, self._pause = list(sensors), 1 / rate_hz
        self._samples: list[list[Sample]] = [[] for _ in sensors]
        self._counted: list[bool] = [False for _ in sensors]
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)

    def __enter__(self) -> Recorder:
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            if self._error is not None:
                raise self._error
            self._read()

    def drawn(self) -> dict[str, Drawn]:
        """What each sensor saw between opening and closing."""
        found = {}
        for sensor, samples, counted in zip(self._sensors, self._samples, self._counted, strict=True):
            joules = samples[-1][1] - samples[0][1] if counted else energy_of(samples)
            found[sensor.name] = Drawn(
                joules=joules, seconds=samples[-1][0] - samples[0][0], samples=len(samples), counted=counted
            )
        return found

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                self._read()
        except BaseException as error:
            self._error = error

    def _read(self) -> None:
        for index, sensor in enumerate(self._sensors):
            joules = sensor.joules()
            value = joules if joules is not None else sensor.watts()
            if value is None:
                raise InputError("tells neither power nor energy", where=sensor.name)
            self._counted[index] = joules is not None
            self._samples[index].append((time.perf_counter(), value))


def measure_energy(
    makers: Mapping[str, Maker],
    plan: LatencyPlan,
    sensors: Sequence[PowerSensor],
    *,
    seconds: float = 60.0,
    idle_seconds: float = 10.0,
    repeats: int = 3,
    rate_hz: float = 20.0,
) -> list[EnergyResult]:
    """Measures every system on every sensor, frame after frame as fast as it goes.

    Args:
        makers: of the systems, by name (see `personsearch.benchmarks.latency_run`).
        plan: scenario single; its frames.
        sensors: at least one.
        seconds: of a working stretch, at least.
        idle_seconds: of an idle stretch.
        repeats: of idle and work.
        rate_hz: of the sensors' readings.

    Raises:
        InputError: a system cannot be opened, or a sensor stops telling.
    """
    idle: list[Stretch] = []
    work: dict[str, list[Stretch]] = {name: [] for name in makers}
    opened: dict[str, Opened] = {}
    with ExitStack() as stack, StageProgress("energy", repeats * (len(makers) + 1)) as progress:
        workers = {}
        for name, (make, arguments) in makers.items():
            workers[name] = stack.enter_context(OwnProcess(name, TimedSystem, make, arguments, plan))
            opened[name] = workers[name].call("warm_up")
        for repeat in range(repeats):
            with Recorder(sensors, rate_hz) as recorder:
                time.sleep(idle_seconds)
            idle.append(Stretch(frames=0, drawn=recorder.drawn()))
            progress.advance()
            for name in turn_order(list(makers), repeat):
                with Recorder(sensors, rate_hz) as recorder:
                    frames = _work(workers[name], plan.turn, seconds)
                work[name].append(Stretch(frames=frames, drawn=recorder.drawn()))
                progress.advance()
    return [
        summarise_energy(name, opened[name], sensor, idle, stretches)
        for name, stretches in work.items()
        for sensor in sensors
    ]


def summarise_energy(
    name: str, opened: Opened, sensor: PowerSensor, idle: Sequence[Stretch], work: Sequence[Stretch]
) -> EnergyResult:
    """Figures of one system on one sensor.

    Args:
        name: of the system.
        opened: what the system said of itself.
        sensor: of those that were read.
        idle: one stretch a repetition.
        work: of the system, as many.
    """
    rest = [stretch.drawn[sensor.name] for stretch in idle]
    load = [stretch.drawn[sensor.name] for stretch in work]
    gross = [one.joules / stretch.frames for one, stretch in zip(load, work, strict=True)]
    net = [
        (one.joules - quiet.watts * one.seconds) / stretch.frames
        for one, quiet, stretch in zip(load, rest, work, strict=True)
    ]
    seconds = sum(one.seconds for one in load)
    frames = sum(stretch.frames for stretch in work)
    return EnergyResult(
        system=name,
        runner=opened.runner,
        sha256=opened.sha256,
        sensor=sensor.name,
        covers=sensor.covers,
        gross_j_per_frame=statistics.median(gross),
        gross_lowest=min(gross),
        gross_highest=max(gross),
        net_j_per_frame=statistics.median(net),
        net_lowest=min(net),
        net_highest=max(net),
        idle_w=statistics.median(one.watts for one in rest),
        load_w=statistics.median(one.watts for one in load),
        frames=frames,
        frames_per_s=frames / seconds,
        sampling_hz=sum(one.samples - 1 for one in load) / seconds,
        counted=all(one.counted for one in load),
        repeats=len(work),
    )


def _work(worker: OwnProcess, frames: int, seconds: float) -> int:
    """Frames done in at least ``seconds``, the first of every turn included: it draws power too."""
    ended = time.perf_counter() + seconds
    done = 0
    while not done or time.perf_counter() < ended:
        turn: Turn = worker.call("turn", frames)
        done += len(turn.people) + 1
    return done
