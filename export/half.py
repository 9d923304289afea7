"""float16 written into a graph itself, as strongly typed engines want it: tensors and weights, no flag anywhere.

What becomes half is what carries maps and crops: every convolution and linear layer, and what lies between two of them.
What stays float32 is what decides: the frame's normalisation, the layers that end in scores and boxes, decoding of
boxes, top-k, suppression, the pooling weights that come of boxes, the length of an embedding and its normalisation.
Which node is which follows from the graph alone, so that a network of any kind is treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
CARRIERS = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Div", "Erf", "Expand", "Flatten",
        "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MatMul", "MaxPool",
        "Mul", "PRelu", "Pad", "Pow", "ReduceMax", "ReduceMean", "Relu", "Reshape", "Resize", "Sigmoid", "Slice",
        "Softmax", "Softplus", "Split", "Squeeze", "Sqrt", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""Operators that hand a map on from one layer to the next. None of those that decode boxes (Exp), suppress (Greater) or
choose (TopK, GatherElements) is among them, which is what ends a half region there."""
LARGEST_HALF = 65504.0


@dataclass
class _Tensors:
    """What a graph's names stand for."""

    types: dict[str, int]
    constants: dict[str, TensorProto]
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: onnx.GraphProto) -> _Tensors:
        types = {
            value.name: value.type.tensor_type.elem_type for value in [*graph.input, *graph.value_info, *graph.output]
        }
        constants = {tensor.name: tensor for tensor in graph.initializer}
        types |= {name: tensor.data_type for name, tensor in constants.items()}
        tensors = cls(types, constants)
        for node in graph.node:
            for name in node.input:
                tensors.readers.setdefault(name, []).append(node)
        return tensors

    def carried(self, node: onnx.NodeProto) -> list[str]:
        """The float inputs of a node that are computed, not stored."""
        return [name for name in node.input if self.types.get(name) == TensorProto.FLOAT and name not in self.constants]


def halve_graph(path: Path, float_layers: Sequence[str] = ()) -> None:
    """Replaces a float32 graph by its float16 version; inputs and outputs keep their types.

    Args:
        path: the graph.
        float_layers: patterns of weight names (``.trunk.stem.0.weight``) whose layers stay float32.

    Raises:
        ValueError: a weight does not fit into float16, or ``float_layers`` leaves no layer.
    """
    model = onnx.load(str(path), load_external_data=False)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    chosen = half_nodes(model, float_layers)
    if not chosen:
        raise ValueError(f"{path.name} has no layer that becomes float16")
    _rewrite(model.graph, chosen)
    del model.graph.value_info[:]  # of types that are no more
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True), str(path))


def half_nodes(model: onnx.ModelProto, float_layers: Sequence[str] = ()) -> set[str]:
    """First outputs of the nodes that compute in float16: layers, and what lies between one layer and the next."""
    nodes, tensors = list(model.graph.node), _Tensors.of(model.graph)
    layers = {node.output[0] for node in nodes if _is_layer(node, tensors, float_layers)}
    # Downstream: carriers that read a layer's answer, directly or through other carriers.
    fed = set(layers)
    for node in nodes:
        if node.op_type in CARRIERS and any(name in fed for name in tensors.carried(node)):
            fed |= set(node.output)
    # Upstream: of those, the ones from which a layer is reached.
    leads: set[str] = set()
    for node in reversed(nodes):
        onwards = [
            reader
            for name in node.output
            for reader in tensors.readers.get(name, [])
            if reader.output[0] in layers or reader.output[0] in leads
        ]
        if node.output[0] in fed and node.output[0] not in layers and onwards:
            leads |= set(node.output)
    return layers | {node.output[0] for node in nodes if node.output[0] in leads}


def _is_layer(node: onnx.NodeProto, tensors: _Tensors, float_layers: Sequence[str]) -> bool:
    if node.op_type not in WEIGHTED or tensors.types.get(node.output[0]) != TensorProto.FLOAT:
        return False
    weights = [name for name in node.input if name in tensors.constants]
    if not weights or not tensors.carried(node):
        return False
    return not any(fnmatchcase(f".{name}", pattern) for name in weights for pattern in float_layers)


def _rewrite(graph: onnx.GraphProto, chosen: set[str]) -> None:
    tensors = _Tensors.of(graph)
    half = {name for node in graph.node if node.output[0] in chosen for name in node.output}
    half &= {name for name, kind in tensors.types.items() if kind == TensorProto.FLOAT}
    cast: dict[tuple[str, int], str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        wanted = TensorProto.FLOAT16 if node.output[0] in chosen else TensorProto.FLOAT
        for index, name in enumerate(node.input):
            if tensors.types.get(name) != TensorProto.FLOAT or (name in half) == (wanted == TensorProto.FLOAT16):
                continue
            if node.op_type == "Resize" and index > 0:  # its scales are float32 whatever it resizes
                continue
            if (name, wanted) not in cast:
                cast[name, wanted] = _converted(graph, nodes, name, wanted, tensors)
            node.input[index] = cast[name, wanted]
        nodes.append(node)
    outputs = {value.name for value in graph.output}
    for name in sorted(outputs & half):
        _keep_output(nodes, name)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _converted(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str, wanted: int, tensors: _Tensors) -> str:
    """Name of ``name`` in the wanted type: a constant converted once, or the answer of a new Cast."""
    suffix = "half" if wanted == TensorProto.FLOAT16 else "float"
    made = f"{name}.{suffix}"
    if name in tensors.constants:
        values = numpy_helper.to_array(tensors.constants[name])
        graph.initializer.append(numpy_helper.from_array(_as_half(values, name), made))
    else:
        nodes.append(helper.make_node("Cast", [name], [made], name=f"cast {made}", to=wanted))
    return made


def _as_half(values: NDArray[np.generic], name: str) -> NDArray[np.float16]:
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= LARGEST_HALF:
        raise ValueError(f"`{name}` reaches {largest:g}, more than float16 holds; name it in `half.float_layers`")
    return values.astype(np.float16)


def _keep_output(nodes: list[onnx.NodeProto], name: str) -> None:
    inner = f"{name}.half"
    for node in nodes:
        for names in (node.input, node.output):
            for index, used in enumerate(names):
                if used == name:
                    names[index] = inner
    nodes.append(helper.make_node("Cast", [inner], [name], name=f"cast {name}", to=TensorProto.FLOAT))


def float_types(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Every node with the float type it answers in; nodes of other types are left out."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    types = _Tensors.of(inferred.graph).types
    for node in inferred.graph.node:
        kind = types.get(node.output[0], 0)
        if kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield node, kind
