"""The roof worked by hand, and peaks that are measured by every library that is here."""

from __future__ import annotations

import pytest

from personsearch.benchmarks.machine_peaks import LIBRARIES, Library, MachinePeaks, PeakMeter, library_of
from personsearch.benchmarks.report.bench_page import bench_page
from personsearch.benchmarks.report.roofline_chart import roofline_svg
from personsearch.benchmarks.results import make_result
from personsearch.benchmarks.roofline import Work, recorded_points, roofline_point

PEAKS = MachinePeaks(
    library="onnxruntime", threads=2, bytes_per_s=10e9, fp32_flops_per_s=100e9, int8_ops_per_s=400e9, array_mib=64
)


@pytest.mark.parametrize(
    ("flops", "traffic", "precision", "expected"),
    [
        # 1 GFLOP in 20 ms is 50 GFLOP/s, half of the peak; 20 MB in 20 ms is 1 GB/s, a tenth of the bandwidth.
        (1_000_000_000, 20_000_000, "fp32", (0.5, 0.1, "operations")),
        # The same work in int8 has a four times higher roof.
        (1_000_000_000, 20_000_000, "int8", (0.125, 0.1, "operations")),
        (1_000_000_000, 100_000_000, "int8", (0.125, 0.5, "bytes")),
        # A processor has no product of fp16: it is done in fp32.
        (1_000_000_000, 20_000_000, "fp16", (0.5, 0.1, "operations")),
    ],
)
def test_a_point_by_hand(flops: int, traffic: int, precision: str, expected: tuple[float, float, str]) -> None:
    work = Work(flops=flops, traffic_bytes=traffic, precision=precision)
    point = roofline_point("student", "onnxruntime", 20.0, work, PEAKS)
    assert (point.share_of_peak, point.share_of_bandwidth) == pytest.approx(expected[:2])
    assert point.bound == expected[2]
    assert point.intensity == flops / traffic


def test_without_products_of_int8_the_roof_is_that_of_fp32() -> None:
    peaks = PEAKS.model_copy(update={"int8_ops_per_s": None})
    work = Work(flops=10**9, traffic_bytes=10**7, precision="int8")
    assert roofline_point("student", "torch", 20.0, work, peaks).peak_flops_per_s == 100e9


@pytest.mark.parametrize("library", LIBRARIES)
def test_peaks_of_every_library(library: Library) -> None:
    pytest.importorskip(library)
    peaks = PeakMeter(library, threads=1).measure(seconds=0)
    assert peaks.bytes_per_s > 0
    assert peaks.fp32_flops_per_s > 0
    assert (peaks.int8_ops_per_s is None) == (library == "torch")


@pytest.mark.parametrize(
    ("runner", "expected"),
    [("onnxruntime 1.31.1, cpu", "onnxruntime"), ("openvino 2026.4, cpu", "openvino"), ("tensorrt 11.4", None)],
)
def test_the_library_of_a_runner(runner: str, expected: str | None) -> None:
    assert library_of(runner) == expected


def test_a_record_holds_what_the_chart_needs() -> None:
    work = Work(flops=10**9, traffic_bytes=10**8, precision="int8")
    point = roofline_point("student", "onnxruntime", 20.0, work, PEAKS)
    figures = {
        "flops": (1e9, "FLOP"), "traffic": (1e8, "B"), "graph_p50_ms": (20.0, "ms"), "peak": (400e9, "FLOP/s"),
        "bandwidth": (10e9, "B/s"), "share_of_peak": (point.share_of_peak, "share"),
    }  # fmt: skip
    settings = {"runner": "onnxruntime 1.31", "products": "int8"}
    record = make_result("latency", "student", figures, settings=settings, arguments=["bench", "latency"])
    bare = make_result("latency", "pair", {"graph_p50_ms": (9.0, "ms")}, settings=settings, arguments=["bench"])
    assert recorded_points([record, bare]) == [point]
    svg = roofline_svg([point], "Roofline")
    assert "student, 12% of the peak" in svg
    assert "onnxruntime, int8: 400 GFLOP/s, 10.0 GB/s" in svg
    assert "student, 12% of the peak" in bench_page([record, bare])
