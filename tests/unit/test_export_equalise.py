"""Cross-layer equalisation: the same numbers in float, evener channels, a hand-worked pair."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_models import QUERY_BOXES, exported, scenes
from onnx import TensorProto, helper, numpy_helper

from personsearch.export.equalise import channel_spread, equalise_graphs, find_pairs
from personsearch.export.graphs import OnnxGraphs, open_session, run


def pair_graph(first: np.ndarray, bias: np.ndarray, second: np.ndarray, groups: int) -> onnx.ModelProto:
    stored = [numpy_helper.from_array(np.float32(v), n) for n, v in (("a.w", first), ("a.b", bias), ("b.w", second))]
    nodes = [
        helper.make_node("Conv", ["x", "a.w", "a.b"], ["p"]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Conv", ["q", "b.w"], ["y"], group=groups),
    ]
    channels = first.shape[1], second.shape[0]
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 3, 3]) for n, c in zip("xy", channels, strict=True)
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def stored(path: Path) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(str(path)).graph.initializer}


def test_a_large_and_a_small_channel_meet_in_the_middle(tmp_path: Path) -> None:
    # Ranges 16 and 1 leave, both enter with 1: factors are the roots 4 and 1, and 16 / 4 = 4 = 1 * 4.
    first = np.float32([[16.0], [1.0]]).reshape(2, 1, 1, 1)
    path = tmp_path / "g.onnx"
    onnx.save(pair_graph(first, np.float32([8, 2]), np.ones((2, 1, 1, 1)), 2), str(path))
    assert channel_spread(path) == 16
    assert equalise_graphs([path]) == 1
    values = stored(path)
    assert values["a.w"].ravel().tolist() == [4, 1]
    assert values["a.b"].tolist() == [2, 2]
    assert values["b.w"].ravel().tolist() == [4, 1]
    assert channel_spread(path) == 4


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_answers_are_the_same_bits(tmp_path: Path, groups: int) -> None:
    rng = np.random.default_rng(groups)
    first = rng.normal(size=(4, 3, 1, 1)) * np.float32([100, 1, 0.01, 0]).reshape(4, 1, 1, 1)
    model = pair_graph(first, rng.normal(size=4), rng.normal(size=(8, 4 // groups, 1, 1)), groups)
    path = tmp_path / "g.onnx"
    onnx.save(model, str(path))
    frame = rng.normal(size=(1, 3, 3, 3)).astype(np.float32)
    before = run(open_session(path, optimised=False), x=frame)[0]
    equalise_graphs([path])
    np.testing.assert_array_equal(run(open_session(path, optimised=False), x=frame)[0], before)


def test_both_graphs_of_a_depthwise_network_answer_as_before_and_agree_on_their_weights(tmp_path: Path) -> None:
    for name in ("search.onnx", "query.onnx"):
        shutil.copy(exported("depthwise") / name, tmp_path / name)
    pairs = find_pairs(onnx.load(str(tmp_path / "search.onnx")))
    before = stored(tmp_path / "query.onnx")
    assert equalise_graphs([tmp_path / "search.onnx", tmp_path / "query.onnx"]) == len(pairs) > 5
    ours, theirs = OnnxGraphs(exported("depthwise"), optimised=False), OnnxGraphs(tmp_path, optimised=False)
    frame, boxes = scenes(3)[2], np.tile(np.float32([20, 10, 60, 90]), (QUERY_BOXES, 1))
    np.testing.assert_allclose(theirs.search(frame).scores, ours.search(frame).scores, atol=1e-6)
    np.testing.assert_allclose(theirs.query(frame, boxes), ours.query(frame, boxes), atol=1e-6)
    search, query = stored(tmp_path / "search.onnx"), stored(tmp_path / "query.onnx")
    shared = [name for name in query if "weight" in name and (name in search or f"scene.{name}" in search)]
    for name in shared:
        np.testing.assert_array_equal(query[name], search[name if name in search else f"scene.{name}"])
    assert any(not np.array_equal(query[name], before[name]) for name in shared)


def test_a_graph_that_reads_between_the_two_is_left_alone(tmp_path: Path) -> None:
    model = pair_graph(np.ones((2, 1, 1, 1)), np.ones(2), np.ones((2, 1, 1, 1)), 2)
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.FLOAT, [1, 2, 3, 3]))
    assert find_pairs(model) == []


def test_a_second_graph_without_the_chain_is_refused(tmp_path: Path) -> None:
    paths = tmp_path / "search.onnx", tmp_path / "query.onnx"
    model = pair_graph(np.float32([[16.0], [1.0]]).reshape(2, 1, 1, 1), np.ones(2), np.ones((2, 1, 1, 1)), 2)
    onnx.save(model, str(paths[0]))
    del model.graph.node[1]
    model.graph.node[0].output[0] = "y"
    del model.graph.node[1]
    onnx.save(model, str(paths[1]))
    with pytest.raises(ValueError, match="does not stand in the same chain"):
        equalise_graphs(paths)
