"""float16 in the graph: which nodes are half, that decisions are not, and that every engine takes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_models import QUERY_BOXES, exported, scenes
from onnx import TensorProto, helper, numpy_helper

from personsearch.export.graphs import OnnxGraphs
from personsearch.export.half import float_types, halve_graph
from personsearch.export.to_onnx import graph_problems

DECIDING = {"TopK", "GatherElements", "Exp", "Greater", "Where", "ReduceL2", "ReduceMin", "Min", "Max", "Abs"}
LAST_LAYERS = ("*.class_logits.*", "*.box_deltas.*")


@pytest.fixture(scope="module", params=["resnet_c4", "depthwise"])
def halved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("search.onnx", "query.onnx"):
        shutil.copy(exported(request.param) / name, folder / name)
        halve_graph(folder / name, LAST_LAYERS)
    return request.param, folder


def types_of(path: Path) -> list[tuple[onnx.NodeProto, int]]:
    return list(float_types(onnx.load(str(path))))


def test_convolutions_are_half_but_for_the_last_layers_and_nothing_that_decides_is(halved: tuple[str, Path]) -> None:
    for path in sorted(halved[1].iterdir()):
        assert graph_problems(path) == []
        for node, kind in types_of(path):
            if node.op_type in DECIDING:
                assert kind == TensorProto.FLOAT, node.name
            if node.op_type == "Conv":
                last = "class_logits" in node.input[1] or "box_deltas" in node.input[1]
                assert (kind == TensorProto.FLOAT) == last, node.name


def test_suppression_box_code_and_pooling_weights_stay_float32_but_pooling_itself_is_half(
    halved: tuple[str, Path],
) -> None:
    kinds = [kind for node, kind in types_of(halved[1] / "search.onnx") if node.op_type == "MatMul"]
    suppression = 15 + 7  # steps of 16 and of 8 candidates
    assert kinds.count(TensorProto.FLOAT) >= suppression
    pooled_twice = 4  # rows and columns, for proposals and for refined boxes where people are embedded from them
    assert 2 <= kinds.count(TensorProto.FLOAT16) <= pooled_twice


def test_inputs_and_outputs_keep_names_shapes_and_types(halved: tuple[str, Path]) -> None:
    trunk, folder = halved
    for name in ("search.onnx", "query.onnx"):
        before, after = (onnx.load(str(place / name)).graph for place in (exported(trunk), folder))
        assert list(before.input) == list(after.input)
        assert list(before.output) == list(after.output)


def test_weights_take_half_the_room_and_none_is_kept_twice(halved: tuple[str, Path]) -> None:
    trunk, folder = halved
    before, after = (onnx.load(str(place / "query.onnx")).graph.initializer for place in (exported(trunk), folder))
    convolved = {item.name: item for item in before if item.name.endswith("weight") and len(item.dims) == 4}
    stored = {item.name: item for item in after}
    assert convolved
    for name, item in convolved.items():
        assert name not in stored
        half = numpy_helper.to_array(stored[f"{name}.half"])
        np.testing.assert_array_equal(half, numpy_helper.to_array(item).astype(np.float16))


def test_answers_stay_within_half_precision(halved: tuple[str, Path]) -> None:
    trunk, folder = halved
    frame, boxes = scenes(6)[5], np.tile(np.float32([20, 10, 60, 90]), (QUERY_BOXES, 1))
    ours, theirs = OnnxGraphs(exported(trunk)), OnnxGraphs(folder)
    np.testing.assert_allclose(theirs.search(frame).scores, ours.search(frame).scores, atol=0.02)
    cosine = (ours.query(frame, boxes) * theirs.query(frame, boxes)).sum(axis=1)
    assert cosine.min() > 0.999
    assert cosine.max() < 1.0001
    assert not np.array_equal(ours.query(frame, boxes), theirs.query(frame, boxes))


def chain(weight: float) -> onnx.ModelProto:
    """Conv, ReLU, Conv, then a mean as the output: two layers, one node between them, one behind."""
    first = numpy_helper.from_array(np.full((2, 2, 1, 1), weight, np.float32), "a.weight")
    second = numpy_helper.from_array(np.full((2, 2, 1, 1), 0.5, np.float32), "b.weight")
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["p"]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Conv", ["q", "b.weight"], ["r"]),
        helper.make_node("Softsign", ["r"], ["y"]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2, 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", shapes[:1], shapes[1:], [first, second])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_what_lies_between_two_layers_is_half_and_what_follows_the_last_is_not(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    onnx.save(chain(0.25), str(path))
    halve_graph(path)
    kinds = {node.op_type: kind for node, kind in types_of(path) if node.op_type != "Cast"}
    assert kinds == {"Conv": TensorProto.FLOAT16, "Relu": TensorProto.FLOAT16, "Softsign": TensorProto.FLOAT}


def test_a_layer_kept_float_by_name_ends_the_half_region(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    onnx.save(chain(0.25), str(path))
    halve_graph(path, ("*.b.*", ".b.*"))
    kinds = [(node.op_type, kind) for node, kind in types_of(path) if node.op_type != "Cast"]
    assert kinds == [("Conv", 10), ("Relu", 1), ("Conv", 1), ("Softsign", 1)]


def test_a_weight_that_half_cannot_hold_and_nothing_to_halve_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    onnx.save(chain(7e4), str(path))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"`a\.weight` reaches 70000, more than float16 holds"):
        halve_graph(path)
    with pytest.raises(ValueError, match="no layer that becomes float16"):
        halve_graph(path, ("*",))
    assert path.read_bytes() == before
