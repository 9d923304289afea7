"""Every exported graph through NVIDIA's own parser and builder; needs TensorRT for RTX, but no GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import HdlRecipe
from personsearch.export.tensorrt_rtx import builds_with_tensorrt_rtx
from personsearch.export.to_onnx import write_query_graph, write_search_graph
from personsearch.models import build_model

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None, reason="TensorRT for RTX is not installed: pip install 'edge-person-search[rtx]'"
)
INPUT_WH = (96, 64)
TRUNKS = {
    "resnet_c4": ({"kind": "resnet_c4", "depth": 18, "width": 8}, "full"),
    "depthwise": (
        {"kind": "depthwise", "stem_channels": 8, "channels": [8, 12, 16], "modules": 1, "person_channels": 32}, "light"
    ),
    "shufflenet": ({"kind": "shufflenet", "stride": 8, "neck_channels": 32, "person_channels": 32}, "none"),
}  # fmt: skip


@pytest.mark.parametrize("trunk", sorted(TRUNKS))
def test_both_graphs_become_engines(trunk: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    part, attention = TRUNKS[trunk]
    recipe = HdlRecipe.model_validate(
        {
            "trunk": part, "attention": attention, "rpn_channels": 8, "anchor_heights": [30, 50],
            "pre_nms": 12, "proposals": 4,
        }
    )  # fmt: skip
    model = build_model(recipe, Preprocess(input_wh=INPUT_WH), person_count=3).eval()
    search, query = tmp_path / "search.onnx", tmp_path / "query.onnx"
    write_search_graph(model.deployable(), search, input_wh=INPUT_WH, opset=18)
    write_query_graph(model.deployable_query(2), query, input_wh=INPUT_WH, query_boxes=2, opset=18)
    for path in (search, query):
        report = builds_with_tensorrt_rtx(path)
        assert report.errors == ()
        assert report.built
        assert report.layers > 10


def test_a_graph_the_parser_refuses_is_reported_in_its_words(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("Unique", ["x"], ["y"])], "g", [value], [result])
    path = tmp_path / "unique.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    report = builds_with_tensorrt_rtx(path)
    assert not report.built
    assert any("Unique" in line for line in report.errors)


class LateCast(nn.Module):
    """Transposes before it casts, which TensorRT refuses for uint8."""

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        images = frames.permute(0, 3, 1, 2).contiguous().float()
        return images.mean(dim=(1, 2)), images.mean(dim=(2, 3)), images


def test_why_the_cast_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "late.onnx"
    write_search_graph(LateCast().eval(), path, input_wh=(32, 32), opset=18)
    assert not builds_with_tensorrt_rtx(path).built
