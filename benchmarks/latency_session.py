"""A whole latency measurement: systems, machine's state before and after, its bounds in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from personsearch.benchmarks.frame_feed import FrameSupply
from personsearch.benchmarks.latency_records import LatencyPlan, Scenario, SystemLatency
from personsearch.benchmarks.latency_run import run_latency
from personsearch.benchmarks.machine_peaks import Library, MachinePeaks, PeakMeter, library_of
from personsearch.benchmarks.machine_state import read_state, state_settings
from personsearch.benchmarks.named_systems import TORCH, SystemSpec, open_spec
from personsearch.benchmarks.own_process import OwnProcess
from personsearch.benchmarks.roofline import RooflinePoint, roofline, work_of
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.core.recipe import StrictModel


class LatencyReport(StrictModel):
    """Everything of one run."""

    frames: FrameSupply
    plan: LatencyPlan
    results: list[SystemLatency]
    peaks: list[MachinePeaks]
    roofline: list[RooflinePoint]
    state: dict[str, str]


def measure_session(
    specs: Mapping[str, SystemSpec],
    frames: FrameSupply,
    plan: LatencyPlan,
    *,
    batches: Sequence[int] = (1,),
    with_roofline: bool = False,
) -> LatencyReport:
    """Times systems side by side, once for every size of batch.

    Args:
        specs: of the systems, by name; ratios are to the first.
        frames: that are read.
        plan: what to do; its batch is replaced.
        batches: frames a query.
        with_roofline: measures the machine's bounds before, between and after the systems' processes.

    Raises:
        InputError: see `run_latency`.
    """
    before = read_state()
    makers = {name: (open_spec, (spec, plan.threads)) for name, spec in specs.items()}
    peaks: dict[Library, MachinePeaks] = {}
    results: list[SystemLatency] = []
    # Counted first: what cannot be counted is not timed for minutes before.
    work = {name: work_of(spec.path) for name, spec in specs.items()} if with_roofline else {}
    with ExitStack() as stack:
        meters: dict[Library, OwnProcess] = {}
        for library in dict.fromkeys(map(_library, specs.values())) if with_roofline else ():
            if library is not None:
                meters[library] = stack.enter_context(OwnProcess(f"{library}'s peak", PeakMeter, library, plan.threads))

        def between() -> None:
            for library, meter in meters.items():
                peaks[library] = meter.call("measure")

        for batch in batches:
            results += run_latency(makers, plan.model_copy(update={"batch": batch}), between=between)
    return LatencyReport(
        frames=frames,
        plan=plan,
        results=results,
        peaks=list(peaks.values()),
        roofline=roofline(results, work, peaks) if with_roofline else [],
        state=state_settings(before, read_state()),
    )


def parse_batches(text: str, scenario: Scenario) -> tuple[int, ...]:
    """``1,4,8``; `InputError` where it is something else, or more than one where a frame comes alone."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"batch is `{text}`", expected="frames in a batch, such as 4 or 1,4,8")
    batches = tuple(dict.fromkeys(int(part) for part in parts))
    if scenario in ("single", "stream") and batches != (1,):
        raise InputError(
            f"batch is {text}, but in scenario {scenario} a frame comes alone", remedy="use `--scenario multi`"
        )
    return batches


def _library(spec: SystemSpec) -> Library | None:
    if spec.runner in TORCH or not spec.is_artifact:
        return "torch"
    return library_of(spec.runner or read_manifest(spec.path).engine)
