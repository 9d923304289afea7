"""Networks of a few nodes, made without torch, whose every output can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def save(
    path: Path,
    nodes: list[Any],
    constants: dict[str, NDArray[Any]],
    image_shape: list[int | str],
    outputs: list[str],
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A graph from ``image`` to float outputs of any shape."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", dtype, image_shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def mean_colour(
    path: Path,
    *,
    batch: int | str = "n",
    wh: tuple[int | str, int | str] = (8, 16),
    channels_first: bool = True,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """The embedding ``(B, 3)`` is the mean of each channel of the input."""
    shape: list[int | str] = [batch, 3, wh[1], wh[0]] if channels_first else [batch, wh[1], wh[0], 3]
    sides = [2, 3] if channels_first else [1, 2]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["embedding"], axes=sides, keepdims=0),
    ]
    return save(path, nodes, {}, shape, ["embedding"], dtype)


def fixed_outputs(
    path: Path, outputs: dict[str, NDArray[Any]], *, wh: tuple[int, int] = (32, 16), brightness: bool = False
) -> Path:
    """A detector that says the same whatever it sees; with ``brightness`` times the mean of the input."""
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    if not brightness:
        nodes += [helper.make_node("Sub", ["mean", "mean"], ["zero"])]
    for name in outputs:
        if brightness:
            nodes.append(helper.make_node("Mul", [f"{name}_constant", "mean"], [name]))
        else:
            nodes.append(helper.make_node("Add", [f"{name}_constant", "zero"], [name]))
    constants = {f"{name}_constant": np.asarray(value, np.float32) for name, value in outputs.items()}
    return save(path, nodes, constants, [1, 3, wh[1], wh[0]], list(outputs))
