"""The gate's record where people read it: tables, the model card, the `parity` command and the warning on loading."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime_stub import search_graph, write_artifact
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.manifest import Manifest, read_manifest
from personsearch.core.parity_notice import ParityWarning, parity_notice, plain_parity_warning
from personsearch.export.model_card import model_card
from personsearch.export.parity_table import agreement_rows, end_figure_rows, text_table, verdict_lines
from personsearch.runtime import open_engine

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="OpenVINO is not installed: pip install 'edge-person-search[openvino]'"
)
SPREAD = {"mean": 0.99, "p1": 0.97, "min": 0.95}
REPORT: dict[str, Any] = {
    "name": "openvino int8", "engine": "openvino 2026.4", "precision": "int8", "passed": False, "failures": ["too far"],
    "detections": 21, "compared": 18, "unsettled": 1, "unmatched": 2, "extra": 0,
    "iou": SPREAD, "box_difference_px": {"mean": 1, "p99": 4, "max": 5.5},
    "score_difference": {"mean": 0.01, "p99": 0.1, "max": 0.125}, "embedding_cosine": SPREAD,
    "ranking": {
        "queries": 20, "gallery": 17.5, "top_k": 4, "top_1_agreement": 0.95, "top_k_overlap": 0.9,
        "rank_correlation": 0.8125,
    },
    "end_figures": {
        "images": 9, "queries": 5, "detection_ap": 0.9, "detection_recall": 0.9, "search_map": 0.5, "top_1": None,
        "drop_points": {"detection_ap": 0.5, "search_map": -1.25},
    },
}  # fmt: skip
PARITY: dict[str, Any] = {
    "passed": False, "failures": ["openvino int8: too far"], "reference": "torch 2",
    "frames": 8, "frames_from": "known",
    "scenes": {"usual": 6, "dark": 2}, "source_sizes": ["640x480", "720x1280"], "score_threshold": 0.5,
    "candidates": [
        {**REPORT, "name": "onnxruntime fp32", "passed": True, "ranking": None, "end_figures": None}, REPORT,
    ],
    "end_figures": {
        "on": "known, split validation",
        "checkpoint": {"images": 9, "queries": 5, "detection_ap": 0.905, "search_map": 0.4875, "top_1": None},
    },
    "not_run": ["tensorrt: not installed"],
}  # fmt: skip
FLAT: dict[str, Any] = {
    "passed": True, "engine": "onnxruntime 1.31.1", "frames_from": "drawn", "frames": 16, "score_threshold": 0.5,
    "detections": 95, "compared": 95, "unsettled": 0, "unmatched": 0, "extra": 0,
    "box_difference_px": {"mean": 0, "p99": 0, "max": 0.0001}, "embedding_cosine": {"mean": 1.0, "p1": 1.0, "min": 1.0},
    "failures": [],
}  # fmt: skip
"""As manifests had it when there was one engine."""


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "artifact")


def changed(artifact: Path, parity: dict[str, Any]) -> Manifest:
    path = artifact / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "parity": parity}))
    return read_manifest(artifact)


def test_a_row_for_each_engine_and_a_dash_for_what_was_not_measured() -> None:
    fp32, int8 = agreement_rows(PARITY, "int8")
    assert fp32[:3] == ("onnxruntime fp32", "passed", "18 of 20")
    assert fp32[-3:] == ("-", "-", "-")
    assert int8 == (
        "openvino int8", "FAILED", "18 of 20", "0.9500", "5.5", "0.12", "0.9900", "0.9700", "0.9500",
        "95.0%", "90.0%", "0.812",
    )  # fmt: skip


def test_end_figures_stand_beside_the_checkpoints() -> None:
    assert end_figure_rows(PARITY) == [
        ("checkpoint", "90.50", "48.75", "-", ""),
        ("openvino int8", "90.00", "50.00", "-", "+0.50, -1.25"),
    ]
    assert end_figure_rows(FLAT) == []


def test_a_record_of_one_engine_still_reads() -> None:
    (row,) = agreement_rows(FLAT, "fp32")
    assert row[:5] == ("onnxruntime fp32", "passed", "95 of 95", "-", "0.0001")
    assert agreement_rows({"passed": True}, "fp32") == []
    assert verdict_lines(FLAT, "fp32")[0].startswith("parity gate passed: 16 frames (drawn)")


def test_a_text_table_is_aligned() -> None:
    assert text_table(("a", "b"), [("long", "1"), ("s", "22")]) == ["a     b", "long  1", "s     22"]


def test_the_card_shows_every_engine_what_failed_and_what_did_not_run(artifact: Path) -> None:
    card = model_card(changed(artifact, PARITY))
    assert "> **Warning.**" in card.splitlines()[2]
    for words in (
        "| openvino int8 | FAILED | 18 of 20 |", "| onnxruntime fp32 | passed |", "- openvino int8: too far",
        "- tensorrt: not installed", "| checkpoint | 90.50 | 48.75 | - |  |", "split validation", "720x1280", "2 dark",
        "personsearch parity",
    ):  # fmt: skip
        assert words in card


def test_the_card_of_an_older_manifest_still_renders(artifact: Path) -> None:
    card = model_card(changed(artifact, FLAT))
    assert "Warning" not in card
    assert "Passed. Looked at 16 frames (drawn)" in card
    assert "| onnxruntime fp32 | passed | 95 of 95 |" in card


def test_the_card_of_a_detector_promises_no_search(artifact: Path) -> None:
    card = model_card(read_manifest(artifact).model_copy(update={"embedding_dim": 0}))
    assert "embeds nobody" in card
    for words in ("cosine 0", "personsearch stream", "embedding of"):
        assert words not in card


def test_a_failed_artifact_says_so_wherever_it_is_loaded(artifact: Path) -> None:
    assert parity_notice(read_manifest(artifact)) is None
    many = {"passed": False, "failures": ["one", "two", "three"]}
    notice = parity_notice(changed(artifact, many))
    assert notice is not None
    assert "one; two and 1 more" in notice
    assert "nothing was measured" in str(parity_notice(changed(artifact, {"passed": False})))


def test_the_warning_is_one_line_and_others_stay_as_they_were() -> None:
    line = plain_parity_warning(ParityWarning("it failed"), ParityWarning, "engine.py", 3)
    assert line == "personsearch: warning: it failed\n"
    assert "engine.py:3: UserWarning" in plain_parity_warning(UserWarning("other"), UserWarning, "engine.py", 3)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["parity", *map(str, arguments)])


def test_the_command_prints_the_record_and_leaves_the_artifact_alone(artifact: Path) -> None:
    changed(artifact, PARITY)
    before = {path.name: path.read_bytes() for path in artifact.iterdir()}
    printed = invoke(artifact)
    assert printed.exit_code == 0
    assert "failed: openvino int8: too far" in printed.output
    assert json.loads(invoke(artifact, "--json").stdout) == PARITY
    assert {path.name: path.read_bytes() for path in artifact.iterdir()} == before


def test_bad_input_gets_one_line(artifact: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([tmp_path / "nothing"], "is not an artifact"),
        ([artifact, "--engine", "openvino"], "--run beside them"),
        ([artifact, "--run", "--engine", "abacus"], "engine `abacus` is unknown"),
    ):
        result = invoke(*arguments)
        assert isinstance(result.exception, InputError)
        assert words in str(result.exception)


def blind() -> onnx.ModelProto:
    """The stub that never scores anybody above 0."""
    model = search_graph()
    (scale,) = [tensor for tensor in model.graph.initializer if tensor.name == "scale"]
    scale.CopyFrom(numpy_helper.from_array(np.float32(0), "scale"))
    return model


@needs_openvino
def test_this_machines_engines_are_compared_with_onnx_runtime(artifact: Path) -> None:
    result = invoke(artifact, "--run", "--engine", "openvino", "--frames", 6, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    (report,) = record["candidates"]
    assert (report["name"], report["passed"], record["reference"]) == ("openvino fp32", True, "onnxruntime fp32")
    assert report["compared"] >= 4
    assert any("no checkpoint" in words for words in record["not_run"])


@needs_openvino
def test_an_engine_that_fails_here_is_exit_code_1(tmp_path: Path) -> None:
    result = invoke(write_artifact(tmp_path / "blind", search=blind()), "--run", "--engine", "openvino", "--frames", 2)
    assert result.exit_code == 1
    assert "failed: openvino fp32: no detection to compare" in result.output


def test_loading_a_failed_artifact_warns(artifact: Path) -> None:
    changed(artifact, {"passed": False, "failures": ["a box is 9.00 px off"]})
    with pytest.warns(ParityWarning, match="stub failed its parity gate and was written by force"):
        open_engine(artifact)
    changed(artifact, {"passed": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_engine(artifact)


def test_a_device_without_torch_can_compare_its_engines() -> None:
    code = "import sys, personsearch.benchmarks.engine_parity, personsearch.cli.parity; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "torchvision", "onnx", "scipy", "openvino"} & set(loaded)
