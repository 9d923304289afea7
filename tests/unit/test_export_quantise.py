"""int8: what is rounded, what stays float, and that both graphs round the same things the same way."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import PREPROCESS, QUERY_BOXES, ROWS, export_graphs, exported, scenes, tiny_model
from onnx import numpy_helper

from personsearch.core.export_recipes import QuantiseRecipe
from personsearch.core.manifest import Int8Flavour
from personsearch.core.recipes import HdlRecipe
from personsearch.export.graphs import OnnxGraphs, open_session, run
from personsearch.export.quantise import Calibration, calibrate, convolutions, quantise_graph
from personsearch.export.to_onnx import graph_problems, write_search_graph
from personsearch.models import build_model

GRAPHS = ("search.onnx", "query.onnx")


@lru_cache
def calibration(method: str, rounding: str = "compensated") -> Calibration:
    recipe = QuantiseRecipe(method=method, rounding=rounding)  # type: ignore[arg-type]  # the test's own words
    return calibrate(exported("depthwise") / "search.onnx", scenes(4), recipe)


@pytest.fixture(scope="module", params=["minmax", "entropy", "percentile"])
def quantised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantise(tmp_path_factory.mktemp(request.param), calibration(request.param), "u8s8")


@pytest.fixture(scope="module")
def symmetric(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantise(tmp_path_factory.mktemp("s8s8"), calibration("minmax"), "s8s8")


def quantise(folder: Path, calibration: Calibration, flavour: Int8Flavour) -> Path:
    for name in GRAPHS:
        source, patterns = exported("depthwise") / name, QuantiseRecipe().patterns(flavour)
        quantise_graph(source, folder / name, calibration, float_layers=patterns, flavour=flavour)
    return folder


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in graph.node for name in node.output}


def rounded_inputs(path: Path) -> dict[str, tuple[float, int]]:
    """Scale and zero point of the input of each int8 convolution, by the name of its weight."""
    graph = onnx.load(str(path)).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    by_output = producers(graph)
    found = {}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in by_output:
            source, weight = (by_output[name] for name in node.input[:2])
            name = weight.input[0].removeprefix("scene.")
            found[name] = (float(values[source.input[1]]), int(values[source.input[2]]))
    return found


def test_both_graphs_keep_the_rules_of_an_exported_graph(quantised: Path) -> None:
    assert [graph_problems(quantised / name) for name in ("search.onnx", "query.onnx")] == [[], []]


def test_weights_are_int8_with_one_scale_a_channel(quantised: Path) -> None:
    graph = onnx.load(str(quantised / "search.onnx")).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    by_output = producers(graph)
    weights = [by_output[node.input[1]] for node in graph.node if node.op_type == "Conv" and node.input[1] in by_output]
    assert weights
    for node in weights:
        weight, scale = values[node.input[0]], values[node.input[1]]
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[0],)


def test_attention_and_last_layers_stay_float(quantised: Path) -> None:
    names = [item.name for item in onnx.load(str(quantised / "search.onnx")).graph.initializer]
    weights = [name for name in names if name.endswith(".weight") or name.endswith("weight_quantized")]
    for part in ("spatial_", "channel_", "class_logits", "box_deltas"):
        mine = [name for name in weights if part in name]
        assert mine
        assert not [name for name in mine if name.endswith("quantized")]
    assert [name for name in weights if name.endswith("quantized")]


def test_the_first_convolution_is_int8_on_cpus_alone(quantised: Path, symmetric: Path) -> None:
    def rounded(folder: Path) -> bool:
        names = [item.name for item in onnx.load(str(folder / "search.onnx")).graph.initializer]
        return any("trunk.stem.0" in name and name.endswith("weight_quantized") for name in names)

    assert (rounded(quantised), rounded(symmetric)) == (True, False)


def test_the_query_graph_rounds_as_the_search_graph_does(quantised: Path) -> None:
    search, query = (rounded_inputs(quantised / name) for name in ("search.onnx", "query.onnx"))
    assert set(query) < set(search)
    assert any("person" in weight for weight in query)
    assert {weight: search[weight] for weight in query} == query


def test_int8_answers_stay_near_the_float_ones(quantised: Path) -> None:
    frame, boxes = scenes(6)[5], np.tile(np.float32([20, 10, 60, 90]), (QUERY_BOXES, 1))
    ours = OnnxGraphs(exported("depthwise")).query(frame, boxes)
    theirs = OnnxGraphs(quantised).query(frame, boxes)
    assert not np.array_equal(ours, theirs)
    assert (ours * theirs).sum(axis=1).min() > 0.9


def test_every_convolution_is_found_with_its_relu() -> None:
    model = onnx.load(str(exported("depthwise") / "search.onnx"))
    everything = convolutions(model, ())
    assert len(everything) == sum(node.op_type == "Conv" for node in model.graph.node)
    stem = everything[0]
    assert stem.weight == "trunk.stem.0.weight"
    assert len(stem.nodes) == 2
    assert convolutions(model, ("*",)) == []
    assert len(convolutions(model, ("*.stem.*",))) == len(everything) - 1


def test_equal_small_weights_keep_the_names_that_the_query_graph_asks_for(tmp_path: Path) -> None:
    """A person block so narrow that the exporter would store its copy's weights once."""
    torch.manual_seed(0)
    recipe = HdlRecipe.model_validate(
        {
            "trunk": {"kind": "family", "size": "tiny"}, "attention": "none", "rpn_channels": 16, "embed_refined": True,
            "anchor_heights": [30, 45, 60], "pre_nms": 16, "proposals": 8,
        }
    )  # fmt: skip
    export_graphs(build_model(recipe, PREPROCESS, person_count=5).eval(), tmp_path)
    search, query = (convolutions(onnx.load(str(tmp_path / name)), ()) for name in GRAPHS)
    names = [item.weight for item in search]
    assert len(set(names)) == len(names)
    assert {item.weight for item in query} <= set(names)
    found = calibrate(tmp_path / "search.onnx", scenes(3), QuantiseRecipe(method="minmax", rounding="nearest"))
    quantise_graph(tmp_path / "query.onnx", tmp_path / "query.onnx", found, float_layers=(), flavour="u8s8")


def test_nothing_to_calibrate_on_or_to_quantise_is_refused(tmp_path: Path) -> None:
    source = exported("depthwise") / "search.onnx"
    with pytest.raises(ValueError, match="at least one frame"):
        calibrate(source, [], QuantiseRecipe())
    with pytest.raises(ValueError, match="no convolution"):
        quantise_graph(source, tmp_path / "x", calibration("minmax"), float_layers=("*",), flavour="u8s8")
    other = replace(calibration("minmax"), ranges={})
    with pytest.raises(ValueError, match="was not calibrated"):
        quantise_graph(source, tmp_path / "x", other, float_layers=(), flavour="u8s8")
    assert not (tmp_path / "x").exists()


def weights_of(path: Path) -> dict[str, np.ndarray]:
    values = {item.name: numpy_helper.to_array(item) for item in onnx.load(str(path)).graph.initializer}
    return {name: value for name, value in values.items() if name.endswith("weight_quantized")}


def test_both_flavours_come_of_one_calibration_and_have_the_same_weights(quantised: Path, symmetric: Path) -> None:
    ours, theirs = (weights_of(folder / "search.onnx") for folder in (quantise_once(), symmetric))
    assert ours.keys() - theirs.keys() == {"scene.trunk.stem.0.weight_quantized"}
    ours = {name: weight for name, weight in ours.items() if name in theirs}
    assert ours.keys() == theirs.keys()
    assert ours
    for name, weight in ours.items():
        np.testing.assert_array_equal(weight, theirs[name])


def quantise_once() -> Path:
    folder = Path(tempfile.mkdtemp(dir=exported("depthwise").parent, prefix="u8s8-"))
    return quantise(folder, calibration("minmax"), "u8s8")


def test_the_symmetric_flavour_has_no_zero_points_no_integer_bias_and_rounds_only_what_convolutions_read(
    symmetric: Path,
) -> None:
    for name in GRAPHS:
        assert graph_problems(symmetric / name) == []
        graph = onnx.load(str(symmetric / name)).graph
        values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        by_output = producers(graph)
        rounded = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert rounded
        for node in rounded:
            assert values[node.input[2]].dtype == np.int8
            assert not values[node.input[2]].any()
        readers = {
            node.op_type
            for node in graph.node
            for source in node.input
            if source in by_output and by_output[source].op_type == "DequantizeLinear"
        }
        assert readers == {"Conv"}


def test_a_rounded_weight_comes_back_to_the_step(symmetric: Path) -> None:
    expected = calibration("minmax").weights
    assert expected
    found = {name.removeprefix("scene."): value for name, value in weights_of(symmetric / "search.onnx").items()}
    compared = [name for name in expected if f"{name}_quantized" in found]
    assert len(compared) == len(found)
    for name in compared:
        np.testing.assert_array_equal(found[f"{name}_quantized"], expected[name])


def test_a_graph_of_another_batch_takes_the_same_weights_and_ranges(tmp_path: Path, quantised: Path) -> None:
    module, path = tiny_model("depthwise").deployable(ROWS), tmp_path / "search.b2.onnx"
    write_search_graph(module, path, input_wh=PREPROCESS.input_wh, opset=18, batch=2)
    quantise_graph(path, path, calibration("minmax"), float_layers=QuantiseRecipe().patterns("u8s8"), flavour="u8s8")
    single = quantise_once()
    assert graph_problems(path) == []
    assert rounded_inputs(path) == rounded_inputs(single / "search.onnx")
    frames = np.stack(scenes(2))
    boxes, scores, embeddings = run(open_session(path), frames=frames)
    for row, frame in enumerate(frames):
        expected = OnnxGraphs(single).search(frame)
        np.testing.assert_allclose(scores[row], expected.scores, atol=1e-5)
        np.testing.assert_allclose(boxes[row], expected.boxes, atol=1e-2)
        np.testing.assert_allclose(embeddings[row], expected.embeddings, atol=1e-4)
