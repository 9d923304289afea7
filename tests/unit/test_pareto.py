"""Who beats whom, what belongs together, and pages that need nothing from outside."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from personsearch.benchmarks.pareto import ParetoPoint, dominators, pareto_points
from personsearch.benchmarks.record_tables import gallery_table, paired_table, roofline_table, training_table
from personsearch.benchmarks.report.bench_page import bench_page
from personsearch.benchmarks.results import Result, make_result, write_result
from personsearch.cli.bench import app
from personsearch.core.errors import InputError


def point(name: str, mean_ap: float, ms: float | None) -> ParetoPoint:
    return ParetoPoint(name=name, data="street", mean_ap=mean_ap, ms=ms)


def test_beaten_by_hand() -> None:
    points = [
        point("teacher", 0.6, 100.0), point("student", 0.5, 10.0), point("slow", 0.5, 20.0), point("worse", 0.4, 10.0),
        point("fast", 0.3, 5.0), point("untimed", 0.1, None), point("twin", 0.5, 10.0),
    ]  # fmt: skip
    # The twin is level in both, which beats nobody; who beats is the most accurate, then the cheapest, then the first.
    assert dominators(points, "ms") == {2: 1, 3: 1}


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(1, 4))), max_size=8))
def test_what_is_left_beats_everything_else(values: list[tuple[int, int | None]]) -> None:
    points = [point(str(number), ap / 10, ms) for number, (ap, ms) in enumerate(values)]
    beaten = dominators(points, "ms")
    timed = {number for number, (_, ms) in enumerate(values) if ms is not None}
    for number in timed:
        ap, ms = values[number]
        others = [values[other] for other in timed if other != number]
        better = [(a, m) for a, m in others if a >= ap and m is not None and ms is not None and m <= ms]
        assert (number in beaten) == any((a, m) != (ap, ms) for a, m in better)
    assert set(beaten.values()) <= timed - set(beaten)  # whoever is named is beaten by nobody


def record(kind: str, subject: str, figures: dict[str, float], sha256: str = "", **settings: str) -> Result:
    return make_result(
        kind, subject, {name: (value, "unit") for name, value in figures.items()}, sha256=sha256, settings=settings,
        arguments=["bench", kind, subject],
    )  # fmt: skip


def records() -> list[Result]:
    first, second = "a" * 64, "b" * 64
    where = {"dataset": "street", "split": "test", "images": "9", "mode": "strict"}
    return [
        record("accuracy", "small", {"search_mean_ap": 0.5, "detection_average_precision": 0.7}, first, **where),
        record("accuracy", "large", {"search_mean_ap": 0.4}, second, **where),
        record("accuracy", "other", {"search_mean_ap": 0.9}, "c" * 64, **{**where, "dataset": "elsewhere"}),
        record("flops", "small", {"total": 2e9, "scene": 1e9}, first, input="64x32"),
        record("latency", "small@onnxruntime", {"frame_p50_ms": 8.0}, first, runner="onnxruntime 1.31, 2 threads"),
        record("latency", "small@openvino", {"frame_p50_ms": 4.0}, first, runner="openvino 2026, 2 threads"),
        record("latency", "large", {"frame_p50_ms": 9.0}, second, runner="onnxruntime 1.31, 2 threads"),
        record("latency", "nobody", {"frame_p50_ms": 1.0}, "d" * 64, runner="onnxruntime 1.31"),
        record("energy", "small", {"net_j_per_frame": 0.3}, first, runner="openvino 2026, 2 threads"),
    ]


def test_records_of_the_same_weights_come_together() -> None:
    groups = pareto_points(records())
    assert list(groups) == ["street, split test, 9 images", "elsewhere, split test, 9 images"]
    points = {one.name: one for one in groups["street, split test, 9 images"]}
    assert points.keys() == {"small@onnxruntime", "small@openvino", "large"}
    fast = points["small@openvino"]
    assert (fast.ms, fast.gflops, fast.joules, fast.size) == (4.0, 4.0, 0.3, "64x32")
    assert points["small@onnxruntime"].joules is None  # energy was measured with the other engine
    assert points["small@onnxruntime"].dominated == {"ms": "small@openvino"}
    assert points["large"].dominated == {"ms": "small@openvino"}
    assert fast.dominated == {}
    assert fast.commands == (
        "personsearch bench accuracy small", "personsearch bench latency small@openvino",
        "personsearch bench flops small", "personsearch bench energy small",
    )  # fmt: skip


def test_tables_of_every_kind_of_record() -> None:
    roof = {
        "frame_p50_ms": 5.0, "graph_p50_ms": 4.0, "flops": 8e9, "traffic": 4e7, "share_of_peak": 0.5,
        "share_of_bandwidth": 0.2, "peak": 4e12, "bandwidth": 5e10,
    }  # fmt: skip
    rows = [
        record("latency", "timed", roof, "e" * 64, runner="onnxruntime 1.31", products="fp32"),
        record("gallery", "exact", {"1000_single_p50": 0.1, "1000_batch_p50": 2.0, "1000000_single_p50": 90.0}),
    ]
    roofline, gallery = roofline_table(rows), gallery_table(rows)
    assert roofline is not None
    assert roofline.rows == [
        ["timed", "onnxruntime", "fp32", "8.00", "40.0", "4.00", "2000.0", "50", "20", roofline.rows[0][-1]]
    ]
    assert gallery is not None
    assert gallery.titles[1:] == ["1,000 one, ms", "1,000 batch, ms", "1,000,000 one, ms", "1,000,000 batch, ms"]
    assert gallery.rows == [["exact", "0.100", "2.000", "90.000", "–"]]
    assert roofline_table([]) is None
    assert gallery_table([]) is None


def test_training_has_a_row_for_each_way_and_pairs_an_interval() -> None:
    speeds = {"loader": 24.04, "loader_main": 9.65, "step_recipe": 12.5, "step_recipe_cpu": 81.0}
    speeds |= {"step_recipe_first": 0.7, "step_compile": 13.0, "step_compile_cpu": 78.0, "step_compile_first": 31.0}
    about = {"input": "384x224", "batch": "8 images, 1 accumulated", "device": "cpu", "threads": "1"}
    rows = [
        record("training", "control", speeds, workers="0", load_before="0.10 processes (average)", **about),
        record(
            "paired", "small-large",
            {
                f"{metric}_{name}": value
                for metric in ("mean_ap", "top_1")
                for name, value in (("difference", -0.0072), ("low", -0.021), ("high", 0.008), ("below_margin", 0.161))
            },
            system="small", against="large", queries="90", people="80", margin="0.014",
        ),
    ]  # fmt: skip
    training, paired = training_table(rows), paired_table(rows)
    assert training is not None
    assert training.rows == [
        ["control", "384x224", "8", "24.0", "9.7", "recipe", "12.50", "81.0", "0.7"],
        ["control", "384x224", "8", "24.0", "9.7", "compile", "13.00", "78.0", "31.0"],
    ]
    assert training.notes == ["control: cpu, 1 threads, 0 loader processes, 0.10 processes (average) running before"]
    assert paired is not None
    difference = "-0.7 (-2.1..0.8)"
    assert paired.rows == [["small", "large", "90", "80", difference, difference, "1.4", "16.1"]]
    page = bench_page(rows)
    assert "Other records" not in page
    assert difference in page
    assert training_table([]) is None
    assert paired_table([]) is None


def test_the_page_is_self_contained_and_escaped() -> None:
    evil = record("loader", "<script>alert(1)</script>", {"speed": 1.0})
    page = bench_page([*records(), evil])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "small@openvino" in page
    for outside in ("http://", "https://", "src=", "@import"):
        assert outside not in page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
            'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
        )


def test_pareto_writes_a_page_and_pictures(tmp_path: Path) -> None:
    for one in records():
        write_result(one, tmp_path / "results")
    arguments = ["pareto", "--results", str(tmp_path / "results"), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "small@openvino" in shown.output
    assert "personsearch bench flops small" in shown.output
    picture = cv2.imread(str(tmp_path / "out" / "pareto-1.png"))
    assert picture is not None
    assert picture.std() > 1  # something is drawn
    assert (tmp_path / "out" / "pareto.html").read_text().count("<svg") == 1  # the other set has no cost
    content = json.loads(CliRunner().invoke(app, [*arguments[:3], "--json"]).output)
    assert content["elsewhere, split test, 9 images"][0]["mean_ap"] == 0.9


@pytest.mark.parametrize("command", ["pareto", "report"])
def test_folders_without_records_are_refused(command: str, tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "no record"), (tmp_path / "missing", "no such folder")):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, [command, "--results", str(folder)], catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def test_report_writes_one_file(tmp_path: Path) -> None:
    for one in records():
        write_result(one, tmp_path / "results")
    out = tmp_path / "bench.html"
    shown = CliRunner().invoke(app, ["report", "--results", str(tmp_path / "results"), "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    assert "9 records" in shown.output
    text = out.read_text()
    assert "Latency" in text
    assert "Energy" in text
