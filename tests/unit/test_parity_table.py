"""The parity gate's report as a record, and the table of every artifact's engines: cells from a made-up manifest."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from runtime_stub import write_artifact
from typer.testing import CliRunner

from personsearch.benchmarks.parity_record import parity_table
from personsearch.benchmarks.readme import with_tables
from personsearch.benchmarks.record_tables import RecordTable
from personsearch.benchmarks.report.bench_page import bench_page
from personsearch.benchmarks.results import read_results
from personsearch.cli import main
from personsearch.cli.app import app
from personsearch.core.errors import InputError

MARKER = "<!-- table:parity -->\nold\n<!-- /table:parity -->"
FP32: dict[str, Any] = {
    "name": "onnxruntime fp32", "engine": "onnxruntime 1.31.1", "precision": "fp32", "passed": True, "failures": [],
    "detections": 21, "compared": 21, "unsettled": 0, "unmatched": 0, "extra": 0,
    "iou": {"mean": 1.0, "p1": 1.0, "min": 0.99999}, "box_difference_px": {"mean": 0.0, "p99": 0.0001, "max": 0.000122},
    "score_difference": {"mean": 0.0, "p99": 0.0, "max": 0.0},
    "embedding_cosine": {"mean": 1.0, "p1": 1.0, "min": 1.0},
    "ranking": {
        "queries": 20, "gallery": 17.5, "top_k": 4, "top_1_agreement": 1.0, "top_k_overlap": 1.0,
        "rank_correlation": 1.0,
    },
    "limits": {"min_matched": 1.0, "max_box_difference_px": 1.0},
    "end_figures": {
        "images": 9, "queries": 5, "detection_ap": 0.905, "detection_recall": 0.92, "search_map": 0.4875, "top_1": 0.6,
        "drop_points": {"detection_ap": 0.0, "search_map": -0.001, "top_1": 0.0},
    },
}  # fmt: skip
INT8: dict[str, Any] = {
    "name": "openvino int8 u8s8", "engine": "openvino 2026.4.1", "precision": "int8", "passed": True, "failures": [],
    "detections": 21, "compared": 18, "unsettled": 1, "unmatched": 2, "extra": 0,
    "iou": {"mean": 0.95, "p1": 0.6, "min": 0.5164}, "box_difference_px": {"mean": 1, "p99": 4, "max": 122.25},
    "score_difference": {"mean": 0.01, "p99": 0.1, "max": 0.3617},
    "embedding_cosine": {"mean": 0.9779, "p1": 0.7689, "min": 0.7201},
    "ranking": {
        "queries": 20, "gallery": 17.5, "top_k": 4, "top_1_agreement": 0.875, "top_k_overlap": 0.9,
        "rank_correlation": 0.8126,
    },
    "limits": {"min_matched": 0.85, "max_box_difference_px": None},
    "end_figures": {
        "images": 9, "queries": 5, "detection_ap": 0.9, "detection_recall": 0.92, "search_map": 0.5, "top_1": None,
        "drop_points": {"detection_ap": 0.5, "search_map": -1.25},
    },
}  # fmt: skip
PARITY: dict[str, Any] = {
    "passed": True, "failures": [], "reference": "torch 2", "frames": 8, "frames_from": "known",
    "scenes": {"usual": 6, "dark": 2}, "score_threshold": 0.5, "candidates": [FP32],
    "end_figures": {
        "on": "known, split validation: 9 images, 12 people",
        "checkpoint": {"images": 9, "queries": 5, "detection_ap": 0.905, "search_map": 0.4875, "top_1": 0.6},
    },
    "not_run": ["openvino: not installed"],
}  # fmt: skip
FP32_CELLS = [
    "fp32", "onnxruntime 1.31.1", "torch", "64x48", "passed", "21 of 21", "1.0000", "0.00012", "0", "1.0000", "1.0000",
    "1.0000", "100.0", "1.000", "90.50", "48.75", "60.00", "0.00 / 0.00 / 0.00", "1",
]  # fmt: skip
INT8_CELLS = [
    "int8 u8s8", "openvino 2026.4.1", "torch", "64x48", "passed", "18 of 20", "0.5164", "122.2", "0.36", "0.9779",
    "0.7689", "0.7201", "87.5", "0.813", "90.00", "50.00", "–", "0.50 / -1.25 / –", "1",
]  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def artifact(
    folder: Path, *candidates: Mapping[str, Any], precision: str = "fp32", weights: str = "c" * 64, **changes: Any
) -> Path:
    parity = {**copy.deepcopy(PARITY), "candidates": [dict(candidate) for candidate in candidates], **changes}
    return write_artifact(folder, precision=precision, checkpoint_sha256=weights, parity=parity)


def save(results: Path, *artifacts: Path, options: tuple[str, ...] = ()) -> Any:
    return CliRunner().invoke(app, ["parity", *map(str, artifacts), "--save", str(results), *options])


def table(results: Path) -> RecordTable:
    made = parity_table(read_results(results))
    assert made is not None
    return made


def test_a_record_says_what_the_gate_found_and_on_what(tmp_path: Path, results: Path) -> None:
    path = artifact(tmp_path / "street-int8", FP32, INT8, precision="int8")
    shown = save(results, path)
    assert shown.exit_code == 0, shown.output
    assert "openvino int8 u8s8" in shown.output
    assert [each.name for each in results.iterdir()] == ["parity-street-int8.json"]
    (record,) = read_results(results)
    assert (record.kind, record.subject) == ("parity", "street-int8")
    assert record.sha256 == json.loads((path / "manifest.json").read_text())["graphs"]["search"]["sha256"]
    found = {name: (figure.value, figure.unit) for name, figure in record.figures.items()}
    name = "openvino int8 u8s8"
    for key, expected in {
        "frames": (8, "frames"), "reference | search_map": (0.4875, "share"), f"{name} | compared": (18, "boxes"),
        f"{name} | iou | min": (0.5164, "IoU"), f"{name} | box_difference_px | max": (122.25, "px"),
        f"{name} | score_difference | max": (0.3617, "score"), f"{name} | embedding_cosine | p1": (0.7689, "cosine"),
        f"{name} | ranking | top_1_agreement": (0.875, "share"), f"{name} | end | detection_ap": (0.9, "share"),
        f"{name} | lost | search_map": (-1.25, "points"), "onnxruntime fp32 | iou | min": (0.99999, "IoU"),
    }.items():  # fmt: skip
        assert found[key] == expected, key
    assert f"{name} | end | top_1" not in found  # was not measured, and is not 0
    for key, said in {
        "model": "stub", "checkpoint_sha256": "c" * 64, "input": "64x48", "forced": "no", "precision": "int8",
        "frames": "8 frames (known), 6 usual, 2 dark; detections from score 0.5 on", "reference": "torch 2",
        "not_run": "openvino: not installed",
        "end_figures_on": "known, split validation: 9 images, 12 people", f"{name} | engine": "openvino 2026.4.1",
        f"{name} | verdict": "passed", f"{name} | limits": "min_matched 0.85, max_box_difference_px none",
    }.items():  # fmt: skip
        assert record.settings[key] == said


def test_a_row_for_each_artifact_precision_and_engine(tmp_path: Path, results: Path) -> None:
    int8 = artifact(tmp_path / "a-int8", FP32, INT8, precision="int8")
    fp32 = artifact(tmp_path / "b-fp32", FP32)
    assert save(results, int8, fp32).exit_code == 0
    made = table(results)
    # The graphs that int8 was made from are those of the float32 artifact, which stands first though named last.
    assert made.rows == [["b-fp32", *FP32_CELLS], ["a-int8", *INT8_CELLS]]
    assert all(len(row) == len(made.titles) for row in made.rows)
    assert made.notes[-1] == (
        "1: stub, weights cccccccccccc; 8 frames (known), 6 usual, 2 dark; detections from score 0.5 on; "
        "end figures on known, split validation: 9 images, 12 people; not run: openvino: not installed"
    )


def test_float_graphs_stay_where_no_other_record_has_them(tmp_path: Path, results: Path) -> None:
    assert save(results, artifact(tmp_path / "int8", FP32, INT8, precision="int8")).exit_code == 0
    assert table(results).rows == [["int8", *FP32_CELLS], ["int8", *INT8_CELLS]]
    # With another verdict, or of other weights, they are not the same.
    failed = {**FP32, "passed": False, "failures": ["too far"]}
    rows = [["fp32", "fp32"], ["int8", "fp32"], ["int8", "int8 u8s8"]]
    for candidate, weights in ((failed, "c" * 64), (FP32, "b" * 64)):
        assert save(results, artifact(tmp_path / "fp32", candidate, weights=weights)).exit_code == 0
        assert [row[:2] for row in table(results).rows] == rows


def test_a_forced_artifact_is_marked(tmp_path: Path, results: Path) -> None:
    failed = {**INT8, "passed": False, "failures": ["top-1 falls"]}
    changes = {"passed": False, "failures": ["openvino int8 u8s8: top-1 falls"]}
    assert save(results, artifact(tmp_path / "int8", FP32, failed, precision="int8", **changes)).exit_code == 0
    made = table(results)
    assert [(row[0], row[5]) for row in made.rows] == [("int8 (forced)", "passed"), ("int8 (forced)", "FAILED")]
    assert made.notes[-1].endswith("; failed: openvino int8 u8s8: top-1 falls")
    assert read_results(results)[0].settings["forced"] == "yes"


def test_an_engine_that_measured_nothing_has_dashes(tmp_path: Path, results: Path) -> None:
    closed = {
        "name": "tensorrt fp32", "engine": "tensorrt 10.3", "precision": "fp32", "passed": False,
        "failures": ["does not open: no device"], "reference": "onnxruntime fp32",
    }  # fmt: skip
    overflown = {**FP32, "embedding_cosine": {"mean": float("nan"), "p1": float("nan"), "min": 0.5}}
    assert save(results, artifact(tmp_path / "fp32", overflown, closed, passed=False)).exit_code == 0
    first, second = table(results).rows
    assert first[10:13] == ["–", "–", "0.5000"]
    about = ["fp32 (forced)", "fp32", "tensorrt 10.3", "onnxruntime", "64x48", "FAILED"]
    assert second == [*about, *["–"] * 12, "– / – / –", "1"]


def test_the_record_of_an_older_manifest(tmp_path: Path, results: Path) -> None:
    flat = {
        "passed": True, "engine": "onnxruntime 1.31.1", "frames_from": "drawn", "frames": 16, "score_threshold": 0.5,
        "detections": 95, "compared": 95, "unmatched": 0, "failures": [],
    }  # fmt: skip
    assert save(results, write_artifact(tmp_path / "old", parity=flat)).exit_code == 0
    (row,) = table(results).rows
    assert row[:8] == ["old", "fp32", "onnxruntime 1.31.1", "torch", "64x48", "passed", "95 of 95", "–"]
    assert "no end figures" in table(results).notes[-1]


def test_this_machines_engines_have_a_record_beside_the_exports(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = artifact(tmp_path / "int8", INT8, precision="int8")
    found = {
        **PARITY, "passed": False, "failures": ["openvino int8: too far"], "reference": "onnxruntime int8",
        "candidates": [{**INT8, "name": "openvino int8", "passed": False, "failures": ["too far"]}],
    }  # fmt: skip
    monkeypatch.setattr("personsearch.benchmarks.engine_parity.check_engines", lambda *_, **__: found)
    assert save(results, path).exit_code == 0
    assert save(results, path, options=("--run",)).exit_code == 1
    assert sorted(each.name for each in results.iterdir()) == ["parity-int8-openvino.json", "parity-int8.json"]
    exported, here = table(results).rows
    assert exported[:6] == ["int8", "int8 u8s8", "openvino 2026.4.1", "torch", "64x48", "passed"]
    # Not forced: what fails on this machine had passed where it was exported.
    assert here[:6] == ["int8@openvino", "int8", "openvino 2026.4.1", "onnxruntime", "64x48", "FAILED"]
    assert [exported[-1], here[-1]] == ["1", "2"]
    assert "run on" in table(results).notes[-1]


@pytest.mark.parametrize("parity", [{}, {"passed": True}])
def test_an_artifact_without_a_report_is_one_line_and_exit_code_2(
    parity: dict[str, Any],
    tmp_path: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good = artifact(tmp_path / "good", FP32)
    bare = write_artifact(tmp_path / "bare", parity=parity)
    monkeypatch.setattr("sys.argv", ["personsearch", "parity", str(good), str(bare), "--save", str(results)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert f"{bare}: has no report of the parity gate" in said.err
    assert not results.exists()  # nor of the good one


def test_artifacts_of_one_name_are_refused(tmp_path: Path, results: Path) -> None:
    paths = [artifact(tmp_path / place / "engine", FP32) for place in ("a", "b")]
    shown = save(results, *paths)
    assert isinstance(shown.exception, InputError)
    assert "2 artifacts are called `engine`" in str(shown.exception)
    assert not results.exists()


def test_several_artifacts_are_told_apart_in_what_is_printed(tmp_path: Path) -> None:
    paths = [artifact(tmp_path / name, FP32) for name in ("a", "b")]
    shown = CliRunner().invoke(app, ["parity", *map(str, paths)])
    assert [line for line in shown.output.splitlines() if line.endswith(":")] == [f"{path}:" for path in paths]
    listed = json.loads(CliRunner().invoke(app, ["parity", *map(str, paths), "--json"]).stdout)
    assert [one["candidates"][0]["name"] for one in listed] == ["onnxruntime fp32"] * 2


def test_the_table_in_pages(tmp_path: Path, results: Path) -> None:
    assert "*Not recorded yet.*" in with_tables(MARKER, [])
    assert save(results, artifact(tmp_path / "fp32", FP32)).exit_code == 0
    filled = with_tables(MARKER, read_results(results))
    assert "| " + " | ".join(["fp32", *FP32_CELLS]) + " |" in filled
    assert "\n- `personsearch" in filled
    page = bench_page(read_results(results))
    assert "<h2>Parity</h2>" in page
    assert "Other records" not in page
