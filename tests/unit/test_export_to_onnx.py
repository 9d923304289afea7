"""Exported graphs: fixed shapes, standard operators, one file, no trace of the machine they were made on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_models import QUERY_BOXES, ROWS, TRUNKS, exported, scenes, tiny_model
from onnx import TensorProto, helper
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.export.graphs import OnnxGraphs, TorchGraphs, open_session
from personsearch.export.openvino_graphs import OpenVinoGraphs
from personsearch.export.to_onnx import (
    FORBIDDEN_OPERATORS,
    graph_problems,
    operator_counts,
    write_query_graph,
    write_search_graph,
)

WIDTH, HEIGHT = 128, 96


@pytest.fixture(params=sorted(TRUNKS))
def trunk(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def shapes(values: object) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in values  # type: ignore[attr-defined]  # protobuf fields are made at run time
    }


def test_graphs_have_the_contract_s_names_shapes_and_types(trunk: str) -> None:
    folder = exported(trunk)
    dim = tiny_model(trunk).embedding_dim
    search, query = (onnx.load(str(folder / f"{name}.onnx")).graph for name in ("search", "query"))
    assert shapes(search.input) == {"frames": (1, HEIGHT, WIDTH, 3)}
    assert search.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert shapes(search.output) == {"boxes": (1, ROWS, 4), "scores": (1, ROWS), "embeddings": (1, ROWS, dim)}
    assert shapes(query.input) == {"frames": (1, HEIGHT, WIDTH, 3), "boxes": (1, QUERY_BOXES, 4)}
    assert shapes(query.output) == {"embeddings": (1, QUERY_BOXES, dim)}


def test_every_shape_is_fixed_and_every_operator_allowed(trunk: str) -> None:
    for path in sorted(exported(trunk).iterdir()):
        assert graph_problems(path) == []
        assert not FORBIDDEN_OPERATORS & set(operator_counts(path))


def test_batch_norm_is_folded_into_every_convolution_that_feeds_one(trunk: str) -> None:
    for path in sorted(exported(trunk).iterdir()):
        graph = onnx.load(str(path)).graph
        convolved = {name for node in graph.node if node.op_type == "Conv" for name in node.output}
        norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
        assert not [node.name for node in norms if node.input[0] in convolved]


def test_one_file_each_without_local_paths(trunk: str) -> None:
    folder = exported(trunk)
    assert sorted(path.name for path in folder.iterdir()) == ["query.onnx", "search.onnx"]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in content
        assert b".py" not in content


def test_onnx_runtime_agrees_with_torch_on_the_same_frame(trunk: str) -> None:
    model = tiny_model(trunk)
    reference = TorchGraphs(model.deployable(ROWS), model.deployable_query(QUERY_BOXES))
    engine = OnnxGraphs(exported(trunk))
    frame = scenes(6)[5]
    ours, theirs = reference.search(frame), engine.search(frame)
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-4)
    np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=1e-2)
    boxes = np.array([[5, 5, 40, 80], [0, 0, 128, 96], [100, 20, 127.5, 90.25]], dtype=np.float32)
    np.testing.assert_allclose(engine.query(frame, boxes), reference.query(frame, boxes), atol=1e-4)


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    write_search_graph(tiny_model("depthwise").deployable(ROWS), tmp_path / "again", input_wh=(WIDTH, HEIGHT), opset=18)
    assert (tmp_path / "again").read_bytes() == (exported("depthwise") / "search.onnx").read_bytes()


def test_the_newest_operator_set_of_the_recipe_can_be_written(tmp_path: Path) -> None:
    module = tiny_model("depthwise").deployable_query(QUERY_BOXES)
    path = tmp_path / "query.onnx"
    write_query_graph(module, path, input_wh=(WIDTH, HEIGHT), query_boxes=QUERY_BOXES, opset=20)
    assert [(item.domain, item.version) for item in onnx.load(str(path)).opset_import] == [("", 20)]


class DataDependent(nn.Module):
    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = torch.nonzero(frames.float().mean(dim=3)[0] > 200).float()
        return found, found, found


def test_a_shape_that_depends_on_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be deployed"):
        write_search_graph(DataDependent().eval(), tmp_path / "x.onnx", input_wh=(32, 32), opset=18)


def test_a_module_in_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training mode"):
        write_search_graph(DataDependent().train(), tmp_path / "x", input_wh=(32, 32), opset=18)


def one_node(operator: str, *, domain: str = "", side: int | str = 4) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [side])
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    graph = helper.make_graph([node], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [side])])
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (one_node("Relu"), None),
        (one_node("Relu", side="n"), "fixed shape"),
        (one_node("Gelu", domain="com.microsoft"), "operators of com.microsoft"),
        (one_node("NonZero"), "forbidden operators NonZero"),
    ],
)
def test_graph_problems_names_what_is_wrong(tmp_path: Path, model: onnx.ModelProto, problem: str | None) -> None:
    path = tmp_path / "g.onnx"
    onnx.save(model, str(path))
    found = graph_problems(path)
    assert (found == []) if problem is None else any(problem in line for line in found)


def test_weights_in_another_file_are_a_problem(tmp_path: Path) -> None:
    model = onnx.load(str(exported("depthwise") / "query.onnx"))
    onnx.save(model, str(tmp_path / "split.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert graph_problems(tmp_path / "split.onnx") == ["weights lie in another file"]
    for opener in (open_session, OpenVinoGraphs):
        folder = tmp_path / "artifact"
        folder.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "split.onnx", folder / "search.onnx")
        with pytest.raises(InputError, match="another file, which no hash covers"):
            opener(folder / "search.onnx" if opener is open_session else folder)
