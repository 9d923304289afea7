"""int8: what is rounded, what stays float, and that both graphs round the same things the same way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_models import QUERY_BOXES, exported, scenes
from onnx import numpy_helper

from personsearch.core.recipes import QuantiseRecipe
from personsearch.export.graphs import OnnxGraphs
from personsearch.export.quantise import convolutions, quantise_graphs
from personsearch.export.to_onnx import graph_problems


@pytest.fixture(scope="module", params=["minmax", "entropy", "percentile"])
def quantised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantise(tmp_path_factory.mktemp(request.param), QuantiseRecipe(method=request.param))


def quantise(folder: Path, recipe: QuantiseRecipe) -> Path:
    for name in ("search.onnx", "query.onnx"):
        shutil.copy(exported("depthwise") / name, folder / name)
    quantise_graphs(folder / "search.onnx", folder / "query.onnx", scenes(4), recipe)
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


def test_first_layer_attention_and_last_layers_stay_float(quantised: Path) -> None:
    names = [item.name for item in onnx.load(str(quantised / "search.onnx")).graph.initializer]
    floats = [name for name in names if name.endswith(".weight") or name.endswith("weight_quantized")]
    for part in ("trunk.stem", "spatial_", "channel_", "class_logits", "box_deltas"):
        mine = [name for name in floats if part in name]
        assert mine
        assert not [name for name in mine if name.endswith("quantized")]
    assert [name for name in floats if name.endswith("quantized")]


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


def test_nothing_to_calibrate_on_or_to_quantise_is_refused(tmp_path: Path) -> None:
    paths = exported("depthwise") / "search.onnx", exported("depthwise") / "query.onnx"
    with pytest.raises(ValueError, match="at least one frame"):
        quantise_graphs(*paths, [], QuantiseRecipe())
    with pytest.raises(ValueError, match="no convolution"):
        quantise_graphs(*paths, scenes(1), QuantiseRecipe(float_layers=("*",)))
