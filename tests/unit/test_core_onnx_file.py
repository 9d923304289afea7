"""Weights in another file are found wherever ONNX lets a tensor stand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import runtime_stub as stub
from onnx import TensorProto, helper, numpy_helper

from personsearch.core.onnx_file import has_external_data


def outside(name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def graph_of(*nodes: onnx.NodeProto, initializer: list[TensorProto] | None = None) -> onnx.GraphProto:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    return helper.make_graph(list(nodes), "g", [], [value], initializer or [])


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], value=tensor)


def branch(graph: onnx.GraphProto) -> onnx.NodeProto:
    return helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph_of())


def function(tensor: TensorProto) -> onnx.ModelProto:
    model = model_of(graph_of())
    model.functions.append(
        helper.make_function("own", "F", [], ["y"], [constant(tensor)], [helper.make_opsetid("", 18)])
    )
    return model


def sparse(tensor: TensorProto) -> onnx.ModelProto:
    graph = graph_of()
    graph.sparse_initializer.add(values=tensor, indices=tensor, dims=[4])
    return model_of(graph)


INSIDE = numpy_helper.from_array(np.arange(2, dtype=np.float32), "w")
PLACES = {
    "initializer": lambda tensor: model_of(graph_of(initializer=[INSIDE, tensor])),
    "constant": lambda tensor: model_of(graph_of(constant(tensor))),
    "branch": lambda tensor: model_of(graph_of(branch(graph_of(branch(graph_of(constant(tensor))))))),
    "function": function,
    "sparse": sparse,
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_weights_in_another_file_are_found_everywhere(place: str) -> None:
    assert has_external_data(PLACES[place](outside()).SerializeToString())
    assert not has_external_data(PLACES[place](INSIDE).SerializeToString())


def test_only_the_location_without_a_name_is_enough() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    assert has_external_data(model_of(graph_of(initializer=[tensor])).SerializeToString())


def test_whole_graphs_have_none() -> None:
    assert not has_external_data(stub.search_graph().SerializeToString())
    assert not has_external_data(stub.query_graph().SerializeToString())


@pytest.mark.parametrize("content", [b"not a graph", b"\xff" * 40, b"\x3a\x05ab", bytes(range(256))])
def test_what_cannot_be_read_is_not_taken_for_harmless(content: bytes) -> None:
    with pytest.raises(ValueError, match="not an ONNX file"):
        has_external_data(content)


def test_a_group_in_front_does_not_hide_what_follows() -> None:
    """Protocol buffers skip an unknown group; a reader that gave up at one would miss the tensors behind it."""
    content = b"\xeb\x02\xec\x02" + model_of(graph_of(initializer=[outside()])).SerializeToString()
    assert onnx.ModelProto.FromString(content).graph.initializer
    with pytest.raises(ValueError, match="not an ONNX file"):
        has_external_data(content)
