"""How near a network comes to what its machine can do: Williams, Waterman and Patterson, CACM 52(4), 2009.

A network of F operations that moves B bytes cannot be done before F / peak and B / bandwidth have passed. B is what its
layers read and write one by one (`personsearch.benchmarks.flops_trace`). What a library fuses or keeps in a cache never
reaches memory, so a share of the bandwidth above 1 tells of that; a share of the peak above 1 would tell of a library
that multiplies less than is counted (Winograd's convolutions do).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from personsearch.benchmarks.flops import count_path
from personsearch.benchmarks.latency_records import SystemLatency
from personsearch.benchmarks.machine_peaks import Library, MachinePeaks, library_of
from personsearch.benchmarks.results import Result
from personsearch.core.errors import InputError
from personsearch.core.manifest import read_manifest
from personsearch.core.recipe import StrictModel


class Work(StrictModel):
    """What one frame asks of the machine."""

    flops: int = Field(description="2 x MAC, all persons of the graph")
    traffic_bytes: int
    precision: str = Field(description="of the products: fp32, fp16 or int8")


class RooflinePoint(StrictModel):
    """One system under its roof."""

    system: str
    library: Library
    work: Work
    graph_ms: float = Field(description="a frame, network alone, median")
    flops_per_s: float
    bytes_per_s: float
    intensity: float = Field(description="operations a byte")
    peak_flops_per_s: float = Field(description="of the library, in the graph's precision where it has products of it")
    bandwidth_bytes_per_s: float
    share_of_peak: float
    share_of_bandwidth: float
    bound: str = Field(description="the side of the roof: operations or bytes")


def work_of(path: Path) -> Work:
    """Counts a checkpoint or an artifact; see `personsearch.benchmarks.flops.count_path`.

    Raises:
        InputError: see there, or nothing in it is counted.
    """
    count = count_path(path)
    if not count.total_macs or not count.traffic_bytes:
        raise InputError(
            "holds no convolution and no matrix product", where=str(path), remedy="use `--no-roofline`: it has no roof"
        )
    precision = "fp32" if count.source == "traced module" else read_manifest(path).precision
    return Work(flops=2 * count.total_macs, traffic_bytes=count.traffic_bytes, precision=precision)


def roofline_point(system: str, library: Library, graph_ms: float, work: Work, peaks: MachinePeaks) -> RooflinePoint:
    """Places one system.

    Args:
        system: its name.
        library: that runs it.
        graph_ms: milliseconds of one frame, network alone.
        work: of one frame.
        peaks: of the same library with the same threads.
    """
    peak = peaks.fp32_flops_per_s
    if work.precision == "int8" and peaks.int8_ops_per_s is not None:
        peak = peaks.int8_ops_per_s
    by_operations, by_bytes = work.flops / peak, work.traffic_bytes / peaks.bytes_per_s
    seconds = graph_ms / 1e3
    return RooflinePoint(
        system=system,
        library=library,
        work=work,
        graph_ms=graph_ms,
        flops_per_s=work.flops / seconds,
        bytes_per_s=work.traffic_bytes / seconds,
        intensity=work.flops / work.traffic_bytes,
        peak_flops_per_s=peak,
        bandwidth_bytes_per_s=peaks.bytes_per_s,
        share_of_peak=by_operations / seconds,
        share_of_bandwidth=by_bytes / seconds,
        bound="operations" if by_operations >= by_bytes else "bytes",
    )


def roofline(
    results: Sequence[SystemLatency], work: Mapping[str, Work], peaks: Mapping[Library, MachinePeaks]
) -> list[RooflinePoint]:
    """A point for every system whose library was measured.

    Args:
        results: of one run, with the scope ``graph``.
        work: of each system, by name.
        peaks: measured in the same run.
    """
    points = []
    for result in results:
        library = library_of(result.runner)
        if library is not None and library in peaks and "graph" in result.scopes:
            graph_ms = result.scopes["graph"].p50.value / result.batch
            points.append(roofline_point(result.system, library, graph_ms, work[result.system], peaks[library]))
    return points


def recorded_points(results: Sequence[Result]) -> list[RooflinePoint]:
    """The points of latency records that hold one; others are passed over."""
    points = []
    for result in results:
        library, figures = library_of(result.settings.get("runner", "")), result.figures
        if result.kind != "latency" or library is None or "share_of_peak" not in figures:
            continue
        flops, traffic, graph_ms = (figures[name].value for name in ("flops", "traffic", "graph_p50_ms"))
        peak = figures["peak"].value
        precision = result.settings["products"]
        points.append(
            roofline_point(
                result.subject,
                library,
                graph_ms,
                Work(flops=round(flops), traffic_bytes=round(traffic), precision=precision),
                # Whichever of the two peaks counted for this precision is the one that was recorded.
                MachinePeaks(
                    library=library,
                    threads=0,
                    bytes_per_s=figures["bandwidth"].value,
                    fp32_flops_per_s=peak,
                    int8_ops_per_s=peak,
                    array_mib=0,
                ),
            )
        )
    return points
