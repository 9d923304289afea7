"""Latency of systems side by side: processes opened anew, turns taken in an order that favours nobody."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from personsearch.benchmarks.latency_records import (
    MAIN_SCOPE,
    SCOPES,
    LatencyPlan,
    ProcessRecord,
    ScopeLatency,
    SystemLatency,
    Turn,
)
from personsearch.benchmarks.latency_worker import TimedSystem
from personsearch.benchmarks.order_statistics import Quantile, quantile, ratio
from personsearch.benchmarks.own_process import OwnProcess
from personsearch.benchmarks.systems import SearchSystem
from personsearch.core.progress import StageProgress

Maker = tuple[Callable[..., SearchSystem], tuple[Any, ...]]
"""What opens a system, and its arguments; both are pickled, so a class or function of a module."""


def run_latency(
    makers: Mapping[str, Maker], plan: LatencyPlan, *, between: Callable[[], None] = lambda: None
) -> list[SystemLatency]:
    """Times every system in processes of its own, turn by turn.

    Args:
        makers: of the systems, by name; ratios are to the first.
        plan: scenario, frames, counts.
        between: called before the first process, between two rounds of processes and after the last.

    Raises:
        InputError: a system or the source cannot be opened, or a process died.
        ValueError: no system.
    """
    if not makers:
        raise ValueError("no system to time")
    records: dict[str, list[ProcessRecord]] = {name: [] for name in makers}
    turns = -(-plan.rounds // plan.turn)
    with StageProgress("latency", plan.restarts * turns * len(makers)) as progress:
        between()
        for restart in range(plan.restarts):
            for name, record in _one_restart(makers, plan, turns, restart, progress).items():
                records[name].append(record)
            between()
    return summarise(records, plan)


def turn_order(names: Sequence[str], number: int) -> list[str]:
    """The order of turn ``number``: rotated every second turn, reversed in the other.

    In as many pairs of turns as there are systems each has every place twice, and comes as often after one neighbour
    as before it.
    """
    first = number // 2 % len(names)
    order = [*names[first:], *names[:first]]
    return order[::-1] if number % 2 else order


def summarise(records: Mapping[str, Sequence[ProcessRecord]], plan: LatencyPlan) -> list[SystemLatency]:
    """Figures from what the processes wrote down.

    Args:
        records: of each system the same number of processes, of each process the same number of turns.
        plan: that they followed.
    """
    first = next(iter(records.values()))
    return [
        _summary(name, found, first, plan, tuple(other for other in records if other != name))
        for name, found in records.items()
    ]


def _one_restart(
    makers: Mapping[str, Maker], plan: LatencyPlan, turns: int, restart: int, progress: StageProgress
) -> dict[str, ProcessRecord]:
    with ExitStack() as stack:
        workers, opened = {}, {}
        for name, (make, arguments) in makers.items():
            workers[name] = stack.enter_context(OwnProcess(name, TimedSystem, make, arguments, plan))
            opened[name] = workers[name].call("warm_up")
        taken: dict[str, list[Turn]] = {name: [] for name in makers}
        left = plan.rounds
        for number in range(turns):
            for name in turn_order(list(makers), number + restart):
                taken[name].append(workers[name].call("turn", min(plan.turn, left)))
                progress.advance()
            left -= plan.turn
        return {
            name: ProcessRecord(opened=opened[name], turns=taken[name], peak_memory_mib=worker.call("peak_memory_mib"))
            for name, worker in workers.items()
        }


def _summary(
    name: str,
    processes: Sequence[ProcessRecord],
    first: Sequence[ProcessRecord],
    plan: LatencyPlan,
    beside: tuple[str, ...],
) -> SystemLatency:
    turns = [turn for process in processes for turn in process.turns]
    scopes = {
        scope: _scope(scope, processes, first) for scope in SCOPES if all(scope in turn.times_ms for turn in turns)
    }
    main = scopes[MAIN_SCOPE[plan.scenario]]
    queries = sum(len(turn.times_ms[MAIN_SCOPE[plan.scenario]]) for turn in turns)
    people = [count for turn in turns for count in turn.people]
    stages = _stages(turns)
    memory = [process.peak_memory_mib for process in processes if process.peak_memory_mib is not None]
    return SystemLatency(
        system=name,
        runner=processes[0].opened.runner,
        sha256=processes[0].opened.sha256,
        scenario=plan.scenario,
        batch=plan.batch,
        scopes=scopes,
        stages_p50_ms=stages,
        host_share=_host_share(stages, scopes),
        frames_per_s=_rate(turns, main, len(people) / queries, plan),
        queries=queries,
        people_per_frame=statistics.fmean(people),
        cpu_ms_per_frame=sum(turn.cpu_ms for turn in turns) / len(people),
        open_ms=statistics.median(process.opened.open_ms for process in processes),
        first_ms=statistics.median(process.opened.first_ms for process in processes),
        warmup=[process.opened.warmup for process in processes],
        settled=all(process.opened.settled for process in processes),
        peak_memory_mib=max(memory, default=None),
        captured=sum(turn.captured for turn in turns),
        dropped=sum(turn.dropped for turn in turns),
        beside=beside,
    )


def _scope(scope: str, processes: Sequence[ProcessRecord], first: Sequence[ProcessRecord]) -> ScopeLatency:
    by_process = [[ms for turn in process.turns for ms in turn.times_ms[scope]] for process in processes]
    pooled = [ms for times in by_process for ms in times]
    return ScopeLatency(
        p50=quantile(pooled, 0.5),
        p90=quantile(pooled, 0.9),
        p99=quantile(pooled, 0.99),
        highest=max(pooled),
        process_p50=[quantile(times, 0.5).value for times in by_process],
        times_faster=_ratio(scope, processes, first),
    )


def _ratio(scope: str, processes: Sequence[ProcessRecord], first: Sequence[ProcessRecord]) -> Quantile:
    """In the same scope; where copies to a device have no counterpart, to the network as far as it was timed."""
    known = [
        name
        for name in (scope, "graph", "transfers")
        if all(name in turn.times_ms for one in first for turn in one.turns)
    ]
    return ratio(_turn_medians(first, known[0]), _turn_medians(processes, scope))


def _turn_medians(processes: Sequence[ProcessRecord], scope: str) -> list[float]:
    return [statistics.median(turn.times_ms[scope]) for process in processes for turn in process.turns]


def _stages(turns: Sequence[Turn]) -> dict[str, float]:
    names = dict.fromkeys(name for turn in turns for name in turn.stages_ms)
    return {name: statistics.median(ms for turn in turns for ms in turn.stages_ms[name]) for name in names}


def _host_share(stages: Mapping[str, float], scopes: Mapping[str, ScopeLatency]) -> float | None:
    if not {"preprocess", "postprocess", "match"} <= stages.keys():
        return None
    around = stages["preprocess"] + stages["postprocess"] + stages["match"]
    inside = scopes["transfers" if "transfers" in scopes else "graph"].p50.value
    return around / (around + inside)


def _rate(turns: Sequence[Turn], main: ScopeLatency, frames_per_query: float, plan: LatencyPlan) -> Quantile:
    """Frames a second: of a stream what its runs published, otherwise from the median query."""
    if plan.scenario == "stream":
        return quantile([len(turn.people) / turn.wall_s for turn in turns], 0.5)
    return Quantile(
        value=1e3 * frames_per_query / main.p50.value,
        low=None if main.p50.high is None else 1e3 * frames_per_query / main.p50.high,
        high=None if main.p50.low is None else 1e3 * frames_per_query / main.p50.low,
    )
