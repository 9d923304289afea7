"""`personsearch export --layout split`: two graphs that pass the gate and find what the joined graph finds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from every_model import PREPROCESS, frames, settled_model
from typer.testing import CliRunner

from personsearch.cli.app import app
from personsearch.core.errors import InputError
from personsearch.core.export_recipes import ExportRecipe, QuantiseRecipe, SplitRecipe
from personsearch.core.gate_recipe import GateRecipe, Precision
from personsearch.core.manifest import Manifest
from personsearch.export.artifact import graph_files, write_artifact
from personsearch.export.gate import Reference, engine_candidates, run_gate
from personsearch.export.gate_frames import drawn_gate_frames
from personsearch.export.lowering import FloatGraphs, calibrated, lower, write_float_graphs
from personsearch.export.quantise import convolutions
from personsearch.export.reference import references
from personsearch.export.split_graphs import joining
from personsearch.runtime import open_engine

ROWS = 4
KIND = "hdl shufflenet"


def recipe(precision: str) -> ExportRecipe:
    return ExportRecipe.model_validate(
        {
            "layout": "split", "precision": precision, "query_boxes": 3,
            "split": SplitRecipe(person_boxes=3, floor=0.0),
            "quantise": QuantiseRecipe(frames=3, min_frames=3, method="minmax", rounding="nearest"),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> FloatGraphs:
    """Of int8, which has the joined graph too: calibration is on that one."""
    folder = tmp_path_factory.mktemp("split")
    return write_float_graphs(settled_model(KIND), recipe("int8"), ROWS, folder, advance=lambda name: None)


def artifact(folder: Path, place: Path, precision: str, graphs: FloatGraphs) -> Path:
    manifest = Manifest.model_validate(
        {
            "name": "tiny", "created": "2026-01-02T03:04:05Z", "preprocess": PREPROCESS, "max_detections": ROWS,
            "query_boxes": 3, "embedding_dim": settled_model(KIND).embedding_dim, "score_threshold": 0.0,
            "match_threshold": 0.5, "precision": precision, "opset": 18, "graphs": graph_files(place),
            "layout": "split", "split": graphs.split, "training_data": (), "recipe": {}, "recipe_hash": "0",
            "checkpoint_sha256": "0", "builder": {}, "parity": {"passed": True},
        }
    )  # fmt: skip
    write_artifact(folder, place, manifest)
    return folder


def gate(place: Path, precision: Precision, graphs: FloatGraphs, limits: dict[str, object]) -> dict[str, object]:
    model = settled_model(KIND)
    assert graphs.split is not None
    join = joining(graphs.split, input_wh=PREPROCESS.input_wh, rows=ROWS, embedding_dim=model.embedding_dim)
    candidates, _ = engine_candidates(place, precision, join=join)
    settings = GateRecipe.model_validate({precision: limits} if limits else {})
    reference = Reference(references(graphs.search, graphs.query), model.score_threshold, 3)
    return run_gate(reference, candidates, drawn_gate_frames(PREPROCESS, 4), settings, frames_from="drawn")


def test_float_graphs_pass_the_gate_on_every_engine(graphs: FloatGraphs) -> None:
    report = gate(graphs.folder, "fp32", graphs, {})
    assert report["passed"], report["failures"]
    assert sorted(path.name for path in graphs.paths) == ["person.onnx", "scene.onnx"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_run_what_was_exported(graphs: FloatGraphs, engine: str, tmp_path: Path) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    lower(graphs, recipe("fp32"), tmp_path)
    loaded = open_engine(artifact(tmp_path / "out", tmp_path, "fp32", graphs), engine=engine)
    references_ = references(graphs.search, graphs.query, copies=0)[0]
    for frame in frames(2):
        found, expected = loaded.infer([frame])[0], references_.search(frame).above(0.0)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-3)
    boxes = np.array([[10, 10, 26, 50], [50, 12, 66, 52], [20, 5, 50, 60]], np.float32)
    np.testing.assert_allclose(loaded.embed(frames(1)[0], boxes), references_.query(frames(1)[0], boxes), atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions_are_lowered_too(graphs: FloatGraphs, precision: Precision, tmp_path: Path) -> None:
    settings = recipe(precision)
    calibration = calibrated(graphs, settings, frames(3), advance=lambda name: None)
    lower(graphs, settings, tmp_path, calibration=calibration)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["person.onnx", "scene.onnx"]
    for path in tmp_path.iterdir():
        operators = {node.op_type for node in onnx.load(str(path)).graph.node}
        halves = [tensor for tensor in onnx.load(str(path)).graph.initializer if tensor.data_type == 10]
        assert ("QuantizeLinear" in operators) == (precision == "int8")
        assert bool(halves) == (precision == "fp16")
    # A network that never learnt has no margin between people: this checks the road, not the accuracy.
    loose: dict[str, object] = {"min_matched": 0.3, "min_mean_cosine": 0.5}
    report = gate(tmp_path, precision, graphs, loose)
    assert all("detections" in candidate for candidate in report["candidates"]), report["failures"]  # type: ignore[attr-defined]


def test_the_person_graph_takes_the_calibration_of_the_joined_one(graphs: FloatGraphs) -> None:
    calibration = calibrated(graphs, recipe("int8"), frames(3), advance=lambda name: None)
    assert calibration is not None
    for path in graphs.paths:
        weights = {item.weight for item in convolutions(onnx.load(str(path)), ())}
        assert weights <= set(calibration.ranges), path.name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layout", "halved"], "one of joined, split"),
        (["--layout", "split", "--batch", "1,4"], "one frame at a time"),
        (["--layout", "split", "--precision", "int8", "--float-layers", "auto"], "sensitivity sweep"),
        (["--layout", "split", "split.floor=1.5"], "split.floor"),
    ],
)
def test_what_a_split_cannot_be_is_refused_in_one_line(options: list[str], said: str, tmp_path: Path) -> None:
    command = ["export", str(tmp_path / "none.pt"), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, InputError), result.output
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()
