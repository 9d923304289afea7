"""Graphs small enough to be built by a GPU library in a second, in every precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def convolutions(precision: str) -> bytes:
    """frames (1, 16, 16, 3) uint8 -> embeddings (1, 8) float32, through two convolutions of the precision."""
    rng = np.random.default_rng(0)
    kind = np.float16 if precision == "fp16" else np.float32
    constants: dict[str, NDArray[Any]] = {
        "w1": rng.normal(size=(8, 3, 3, 3)).astype(kind),
        "w2": rng.normal(size=(8, 8, 3, 3)).astype(kind),
        "flat": np.array([1, 8]),
    }
    nodes = [
        helper.make_node("Cast", ["frames"], ["cast"], to=helper.np_dtype_to_tensor_dtype(np.dtype(kind))),
        helper.make_node("Transpose", ["cast"], ["x"], perm=[0, 3, 1, 2]),
    ]
    weights = {"w1": "w1", "w2": "w2"}
    value = "x"
    if precision == "int8":
        constants |= {"scale": np.float32(0.1), "zero": np.int8(0)}
        for name in weights:
            steps = np.abs(constants[name]).max(axis=(1, 2, 3)).astype(np.float32) / 127
            whole = np.round(constants[name] / steps[:, None, None, None]).astype(np.int8)
            constants |= {name: whole, f"{name}_scale": steps, f"{name}_zero": np.zeros(8, np.int8)}
            parts = [name, f"{name}_scale", f"{name}_zero"]
            nodes.append(helper.make_node("DequantizeLinear", parts, [f"{name}_float"], axis=0))
            weights[name] = f"{name}_float"
    for number, name in enumerate(("w1", "w2")):
        if precision == "int8":
            nodes.append(helper.make_node("QuantizeLinear", [value, "scale", "zero"], [f"q{number}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{number}", "scale", "zero"], [f"d{number}"]))
            value = f"d{number}"
        nodes.append(helper.make_node("Conv", [value, weights[name]], [f"c{number}"], strides=[2, 2], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        value = f"r{number}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Reshape", ["pooled", "flat"], ["row"]))
    nodes.append(helper.make_node("Cast", ["row"], ["embeddings"], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [1, 16, 16, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
