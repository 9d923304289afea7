"""A latency measurement as a table for people and as figures for a record."""

from __future__ import annotations

from personsearch.benchmarks.latency_records import MAIN_SCOPE, SCENARIOS, SCOPES, ScopeLatency, SystemLatency
from personsearch.benchmarks.latency_session import LatencyReport
from personsearch.benchmarks.order_statistics import Quantile, needed
from personsearch.benchmarks.roofline import RooflinePoint

Figures = dict[str, tuple[float, str]]
CHOICE = "engine's choice"
METHOD = "intervals of order statistics, 95 %, frames of all processes pooled; ratios paired turn by turn"


def latency_text(report: LatencyReport) -> str:
    """The table: a line for each system and scope, then what else is worth knowing of it."""
    plan, first = report.plan, report.results[0]
    lines = [
        f"scenario {plan.scenario}: {SCENARIOS[plan.scenario]}"
        + (f", {plan.mode} frame" if plan.scenario == "stream" else ""),
        f"{report.frames.note}",
        f"threads: {plan.threads or CHOICE}; processes of each model: {plan.restarts}; queries a turn: {plan.turn}; "
        f"{METHOD}",
        f"milliseconds a query; [ ]: interval; spread: lowest and highest median of a process; x: times as fast as "
        f"{first.system}",
    ]
    for result in report.results:
        batch = f", batches of {result.batch}" if result.batch > 1 else ""
        lines += ["", f"{result.system}{batch} ({result.runner})"]
        lines += [_scope_line(name, scope) for name, scope in result.scopes.items()]
        lines += [f"  {line}" for line in _remarks(result)]
    return "\n".join(lines)


def roofline_text(report: LatencyReport) -> str:
    """Bounds of the machine and each system's share of them."""
    lines = ["", "roofline: bounds measured in this run, best of the repetitions"]
    for peak in report.peaks:
        int8 = "" if peak.int8_ops_per_s is None else f", int8 {peak.int8_ops_per_s / 1e9:.1f} GOP/s"
        lines.append(
            f"  {peak.library}, {peak.threads} threads: {peak.bytes_per_s / 1e9:.1f} GB/s, "
            f"fp32 {peak.fp32_flops_per_s / 1e9:.1f} GFLOP/s{int8}"
        )
    for point in report.roofline:
        lines.append(
            f"  {point.system:<28} {point.work.precision}: {point.work.flops / 1e9:.2f} GFLOP and "
            f"{point.work.traffic_bytes / 1e6:.0f} MB in {point.graph_ms:.2f} ms: {point.share_of_peak:.0%} of the "
            f"peak, {point.share_of_bandwidth:.0%} of the bandwidth; nearer roof: {point.bound}"
        )
    return "\n".join(lines)


def record_figures(result: SystemLatency, point: RooflinePoint | None) -> Figures:
    """Everything measured of one system; a bound that too few frames leave open is left out."""
    figures: Figures = {}
    for name, scope in result.scopes.items():
        for share in ("p50", "p90", "p99"):
            _add(figures, f"{name}_{share}", getattr(scope, share), "ms")
        figures[f"{name}_highest_ms"] = (scope.highest, "ms")
        figures[f"{name}_process_p50_lowest_ms"] = (min(scope.process_p50), "ms")
        figures[f"{name}_process_p50_highest_ms"] = (max(scope.process_p50), "ms")
        _add(figures, f"{name}_times_faster", scope.times_faster, "")
    figures |= {f"{stage}_p50_ms": (value, "ms") for stage, value in result.stages_p50_ms.items()}
    _add(figures, "frames_per_s", result.frames_per_s, "")
    figures["people_per_frame"] = (result.people_per_frame, "people")
    figures["cpu_ms_per_frame"] = (result.cpu_ms_per_frame, "ms")
    figures["open_ms"] = (result.open_ms, "ms")
    figures["first_ms"] = (result.first_ms, "ms")
    if result.host_share is not None:
        figures["host_share"] = (result.host_share, "share")
    if result.peak_memory_mib is not None:
        figures["peak_memory_mib"] = (result.peak_memory_mib, "MiB")
    if result.scenario == "stream":
        figures["captured"] = (float(result.captured), "frames")
        figures["dropped"] = (float(result.dropped), "frames")
    if point is not None:
        figures |= {
            "flops": (float(point.work.flops), "FLOP"),
            "traffic": (float(point.work.traffic_bytes), "B"),
            "share_of_peak": (point.share_of_peak, "share"),
            "share_of_bandwidth": (point.share_of_bandwidth, "share"),
            "peak": (point.peak_flops_per_s, "FLOP/s"),
            "bandwidth": (point.bandwidth_bytes_per_s, "B/s"),
        }
    return figures


def record_settings(report: LatencyReport, result: SystemLatency) -> dict[str, str]:
    """What the figures depend on."""
    plan = report.plan
    point = next((one for one in report.roofline if one.system == result.system), None)
    settings = {
        "system": result.system,
        "runner": result.runner,
        "scenario": plan.scenario,
        "batch": str(result.batch),
        "frames": report.frames.note,
        "size": f"{report.frames.frame_wh[0]}x{report.frames.frame_wh[1]}",
        "queries": f"{result.queries} in {plan.restarts} processes, {plan.turn} a turn",
        "warmup": f"{', '.join(map(str, result.warmup))} queries, {'steady' if result.settled else 'not steady'}",
        "method": METHOD,
        "beside": ", ".join(result.beside),
        "threads": str(plan.threads or CHOICE),
        **report.state,
    }
    if point is not None:
        settings["products"] = point.work.precision
    if plan.scenario == "stream":
        settings["mode"] = plan.mode
        settings["sinks"] = "matches, detections" + (", annotated video" if plan.annotate else "")
    return settings


def _add(figures: Figures, name: str, value: Quantile, unit: str) -> None:
    names = f"{name}_{unit}" if unit else name
    kind = unit or ("frames/s" if name == "frames_per_s" else "times")
    figures[names] = (value.value, kind)
    if value.low is not None:
        figures[f"{names}_low"] = (value.low, kind)
    if value.high is not None:
        figures[f"{names}_high"] = (value.high, kind)


def _scope_line(name: str, scope: ScopeLatency) -> str:
    lowest, highest = min(scope.process_p50), max(scope.process_p50)
    return (
        f"  {SCOPES[name]:<32} p50 {_interval(scope.p50)}  p90 {_interval(scope.p90)}  p99 {_interval(scope.p99)}  "
        f"spread {lowest:.4g} to {highest:.4g}  x {_interval(scope.times_faster)}"
    )


def _interval(value: Quantile) -> str:
    low, high = ("-" if bound is None else f"{bound:.4g}" for bound in (value.low, value.high))
    return f"{f'{value.value:.4g} [{low}, {high}]':<22}"


def _remarks(result: SystemLatency) -> list[str]:
    rate = result.frames_per_s
    lines = [
        f"{rate.value:.1f} frames/s; {result.people_per_frame:.1f} people found a frame; "
        f"processor {result.cpu_ms_per_frame:.1f} ms a frame; opened in {result.open_ms:.0f} ms, first query "
        f"{result.first_ms:.0f} ms"
        + ("" if result.peak_memory_mib is None else f"; at most {result.peak_memory_mib:.0f} MiB")
    ]
    if result.stages_p50_ms:
        stages = ", ".join(f"{stage} {value:.2f}" for stage, value in result.stages_p50_ms.items())
        share = "" if result.host_share is None else f"; pre-, post-processing and matching: {result.host_share:.1%}"
        lines.append(f"ms of the stages, p50: {stages}{share}")
    if result.scenario == "stream":
        lines.append(f"{result.captured} frames captured, {result.dropped} dropped for a newer one")
    open_ended = result.scopes[MAIN_SCOPE[result.scenario]].p99.high is None
    if open_ended:
        lines.append(f"p99 has no upper bound from {result.queries} queries: it takes {needed(0.99)}")
    if not result.settled:
        lines.append(f"the warm-up was not steady after {max(result.warmup)} queries")
    return lines
