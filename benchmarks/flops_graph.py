"""An exported graph's steps, read from its nodes and static shapes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from personsearch.benchmarks.flops_trace import Layer, Phase, Step, Trace, pooling_layer
from personsearch.core.errors import InputError
from personsearch.core.onnx_file import require_self_contained

PRODUCTS = {"Conv", "Gemm", "MatMul"}
ROI_ALIGN = "RoiAlign"
VIEWS = {
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Expand", "Slice", "Split",
    "DequantizeLinear",
}  # fmt: skip
ELEMENTWISE = {
    "Cast", "Add", "Sub", "Mul", "Div", "Relu", "Clip", "Sigmoid", "Exp", "Abs", "HardSwish", "HardSigmoid", "Where",
    "Min", "Max", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Not", "Neg", "Sqrt", "Reciprocal",
    "Pow", "Tanh", "LeakyRelu", "Gelu", "Log",
}  # fmt: skip
STORED_QUANTISED = "QuantizeLinear"


def trace_graph(path: Path) -> Trace:
    """The steps of a graph whose shapes are all fixed.

    Quantised graphs: a tensor that only a quantisation reads is written quantised, and a dequantisation is part of what
    reads it, as in an engine.

    Raises:
        InputError: not a graph, one with a graph inside, or with a shape that cannot be inferred.
    """
    return _Reader(path).trace()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        model = _load(path)
        self._graph = graph = model.graph
        infos = (*graph.input, *graph.output, *graph.value_info)
        self._shapes = {info.name: _shape(info) for info in infos}
        self._item = {info.name: _item_bytes(info.type.tensor_type.elem_type) for info in infos}
        self._constants = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            self._shapes[tensor.name] = tuple(tensor.dims)
            self._item[tensor.name] = _item_bytes(tensor.data_type)
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._origin: dict[str, str] = {}  # of what is a constant in another form
        self._memory: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        self._late: set[int] = set()
        self._used: dict[str, int] = {}

    def trace(self) -> Trace:
        graph = self._graph
        outside = [info.name for info in graph.input if info.name not in self._constants]
        inputs = tuple(self._new(name) for name in outside)
        steps = [step for node in graph.node for step in self._steps(node)]
        outputs = tuple(dict.fromkeys(self._memory[info.name] for info in graph.output if info.name in self._memory))
        return Trace(tuple(steps), self._sizes, inputs, outputs, self._used)

    def _new(self, name: str) -> int:
        memory = len(self._sizes)
        self._memory[name] = memory
        self._sizes[memory] = self._moved(name)
        return memory

    def _steps(self, node: Any) -> Iterator[Step]:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise InputError(
                f"holds a `{node.op_type}` with a graph inside", where=str(self._path), expected="static shapes"
            )
        self._check_shapes(node)
        names = [name for name in node.input if name]
        reads = tuple(dict.fromkeys(self._memory[name] for name in names if name in self._memory))
        if not reads:
            self._constants.update(node.output)
            if node.op_type in VIEWS and names:
                self._origin[node.output[0]] = self._origin.get(names[0], names[0])
            return
        if self._is_view(node):
            self._memory.update(dict.fromkeys(node.output, self._memory[names[0]]))
            return
        late = node.op_type == "TopK" or any(memory in self._late for memory in reads)
        layer = self._layer(node) if node.op_type in PRODUCTS else None
        if node.op_type == ROI_ALIGN:
            pooled = self._shapes[node.output[0]]
            layer = pooling_layer(self._moved(node.input[0]), self._moved(node.output[0]), pooled[0])
        writes = tuple(self._new(name) for name in node.output if name)
        if late:
            self._late.update(writes)
        phase: Phase = "person" if late else "scene"
        yield Step(reads, writes, phase, elementwise=node.op_type in ELEMENTWISE, layer=layer)

    def _is_view(self, node: Any) -> bool:
        if node.op_type == STORED_QUANTISED:
            return len(self._readers[node.input[0]]) == 1
        if node.op_type == "Gather":  # one row of an axis, as indexing is exported
            return node.input[1] in self._constants and math.prod(self._shapes[node.input[1]]) == 1
        return node.op_type in VIEWS and node.input[0] in self._memory

    def _layer(self, node: Any) -> Layer:
        first, second = (self._shapes[name] for name in node.input[:2])
        output = self._shapes[node.output[0]]
        if node.op_type == "Conv":
            macs = math.prod(output) * math.prod(second[1:])  # weights (out, in / groups, kh, kw)
        else:
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            macs = math.prod(output) * (first[0] if transposed else first[-1])
        activations = self._moved(node.output[0])
        weights, weighted = 0, False
        for position, name in enumerate(node.input):
            if name in self._memory:
                size = math.prod(self._shapes[name]) * self._item[name]
                activations += min(size, self._sizes[self._memory[name]])
            elif name:
                origin = self._origin.get(name, name)
                weights += math.prod(self._shapes[origin]) * self._item[origin]
                weighted |= position < 2
                self._used[origin] = math.prod(self._shapes[origin])
        return Layer(macs, output[0], weighted, activations, weights)

    def _moved(self, name: str) -> int:
        return math.prod(self._shapes[name]) * self._stored_item(name)

    def _stored_item(self, name: str) -> int:
        """Bytes of one element where it lies in memory."""
        readers = self._readers.get(name, [])
        if len(readers) == 1:
            (reader,) = readers
            if reader.op_type == STORED_QUANTISED and reader.input[0] == name:
                return self._item[reader.output[0]]
            others = [other for other in reader.input if other != name and other and other not in self._constants]
            if reader.op_type in ELEMENTWISE and reader.op_type != "Cast" and not others:
                return min(self._item[name], self._stored_item(reader.output[0]))
        return self._item[name]

    def _check_shapes(self, node: Any) -> None:
        for name in (*node.input, *node.output):
            if name and (name not in self._shapes or (0 in self._shapes[name] and name not in self._constants)):
                raise InputError(
                    f"shape of `{name}` at `{node.name or node.op_type}` is not known",
                    where=str(self._path),
                    expected="static shapes",
                )


def graph_inputs(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's inputs, 0 for a side that is open.

    Raises:
        InputError: not a graph.
    """
    return {value.name: _shape(value) for value in _load(path).graph.input}


def _load(path: Path) -> Any:
    content = path.read_bytes()
    require_self_contained(content, path)
    try:
        model = onnx.load_model_from_string(content)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # of many undocumented types
        raise InputError("cannot be read as an ONNX graph", where=str(path), remedy=str(error)[:160]) from None


def _shape(info: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)


def _item_bytes(element_type: int) -> int:
    if element_type == onnx.TensorProto.UNDEFINED:
        return 0
    return int(onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize)
