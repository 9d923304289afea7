"""Networks of other people, quantised for a fair comparison: also those of an old operator set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from personsearch.benchmarks.peers_quantise import _by_onnxruntime


@pytest.mark.parametrize("opset", [11, 13])
def test_a_network_of_any_operator_set_is_rounded_a_channel_at_a_time(opset: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 3, 3, 3)).astype(np.float32) * np.float32([[[[1]]], [[[100]]]] * 3)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 6, 16, 16))],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    fed = [rng.normal(size=(1, 3, 16, 16)).astype(np.float32) for _ in range(16)]
    out = _by_onnxruntime(path, fed, tmp_path / "int8.onnx")
    expected, found = (
        onnxruntime.InferenceSession(str(one), providers=["CPUExecutionProvider"]).run(None, {"x": fed[0]})[0]
        for one in (path, out)
    )
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
    scales = {node.input[1] for node in onnx.load(str(out)).graph.node if node.op_type == "DequantizeLinear"}
    sizes = {one.name: int(np.prod(one.dims)) for one in onnx.load(str(out)).graph.initializer}
    assert 6 in {sizes[name] for name in scales}, "a scale for each output channel"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["int8.onnx", "network.onnx"]
