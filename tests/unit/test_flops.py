"""Operation counts against counts by hand, and the module's against the exported graph's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from personsearch.benchmarks.flops import count_graph, count_model, count_path, module_macs
from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DepthwiseTrunk, HdlRecipe, ResNetTrunk
from personsearch.models.build import build_model


def conv(side: int, kernel: int, inputs: int, outputs: int) -> int:
    """MACs of a dense convolution with a ``side`` x ``side`` output."""
    return side * side * kernel * kernel * inputs * outputs


def bottlenecks(side_in: int, side: int, inputs: int, width: int, count: int) -> int:
    """MACs of a ResNet stage with the stride in the first 3x3 (v1.5)."""
    outputs = 4 * width
    first = conv(side_in, 1, inputs, width) + conv(side, 3, width, width) + conv(side, 1, width, outputs)
    rest = conv(side, 1, outputs, width) + conv(side, 3, width, width) + conv(side, 1, width, outputs)
    return first + conv(side, 1, inputs, outputs) + (count - 1) * rest


def test_resnet_50_c4_at_800_by_800_counted_by_hand() -> None:
    stages = {
        "conv1": conv(400, 7, 3, 64),
        "conv2": bottlenecks(200, 200, 64, 64, 3),
        "conv3": bottlenecks(200, 100, 256, 128, 4),
        "conv4": bottlenecks(100, 50, 512, 256, 6),
    }
    assert {name: round(macs / 1e9, 3) for name, macs in stages.items()} == {
        "conv1": 1.505, "conv2": 8.520, "conv3": 13.107, "conv4": 18.678,
    }  # fmt: skip
    subnet = conv(50, 3, 1024, 512)
    with_nine_anchors = sum(stages.values()) + subnet + conv(50, 1, 512, 9 * 6)
    assert round(with_nine_anchors / 1e9, 2) == 53.68  # the reference's figure
    person = bottlenecks(7, 4, 1024, 512, 3)
    assert round(person / 1e6, 1) == 256.4

    recipe = HdlRecipe(trunk=ResNetTrunk(), attention="none")  # HDL's eleven anchors
    counted = count_model(build_model(recipe, Preprocess(input_wh=(800, 800)), 1), subject="teacher")
    assert counted.scene_macs == sum(stages.values()) + subnet + conv(50, 1, 512, 11 * 6)
    assert counted.person_macs == person + 2048 * 6  # class and box layers


def test_what_is_counted() -> None:
    layers = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=True), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    assert module_macs(layers, torch.empty(1, 8, 6, 6, device="meta")) == 4 * 4 * 9 * 8  # depthwise, no bias
    assert module_macs(nn.Linear(5, 3), torch.empty(2, 5, device="meta")) == 30


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    from personsearch.export.to_onnx import write_search_graph

    recipe = HdlRecipe(
        trunk=DepthwiseTrunk(stem_channels=8, channels=(16, 16, 32), modules=1, person_channels=32),
        attention="full",
        anchor_heights=(40.0, 80.0),
        rpn_channels=16,
        pre_nms=12,
        proposals=6,
    )
    model = build_model(recipe, Preprocess(input_wh=(160, 96)), 3).eval()
    path = tmp_path_factory.mktemp("graph") / "search.onnx"
    write_search_graph(model.deployable(), path, input_wh=(160, 96), opset=18)
    return model, path


def test_module_and_graph_agree_exactly(exported: tuple[nn.Module, Path]) -> None:
    model, path = exported
    module = count_model(model, subject="module")  # type: ignore[arg-type]  # the fixture holds a SearchModel
    graph = count_graph(path, subject="graph")
    assert (graph.scene_macs, graph.person_macs, graph.persons) == (module.scene_macs, module.person_macs, 6)
    # The fixed-step NMS: n - 1 products of n x n with a column, before (12) and after (6) the person head.
    suppression = 11 * 12 * 12 + 5 * 6 * 6
    # RoI pooling of 6 boxes on a 6 x 10 map of 32 channels: 7 rows each, then 7 columns of each row.
    pooling = 6 * 7 * 6 * (10 * 32) + 6 * 7 * 7 * 10 * 32
    assert graph.selection_macs == suppression + pooling
    # A module knows its attributes as tensors or modules.
    whole = module_macs(model.deployable(), torch.empty(1, 96, 160, 3, dtype=torch.uint8, device="meta"))  # type: ignore[operator]
    assert graph.total_macs == whole
    assert graph.total_macs == module.total_macs + graph.selection_macs


def test_graph_parameters_are_the_modules_without_batch_norms(exported: tuple[nn.Module, Path]) -> None:
    model, path = exported
    graph = count_graph(path, subject="graph")
    weights = 0
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and name != "head.identity":
            weights += layer.weight.numel()
    module = count_model(model, subject="module")  # type: ignore[arg-type]  # the fixture holds a SearchModel
    assert weights <= graph.parameters <= module.parameters


def test_counting_leaves_the_model_where_it_was(exported: tuple[nn.Module, Path]) -> None:
    model, _ = exported
    count_model(model, subject="module")  # type: ignore[arg-type]  # the fixture holds a SearchModel
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["missing.yaml", "missing.pt", "empty"])
def test_what_is_not_a_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        count_path(tmp_path / name)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(InputError, match="ONNX graph"):
        count_graph(path, subject="x")


def test_every_teacher_and_student_recipe_can_be_counted() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    paths = sorted([*recipes.glob("teacher/*.yaml"), *recipes.glob("student/*.yaml")])
    assert paths
    for path in paths:
        counted = count_path(path)
        assert counted.scene_macs > counted.person_macs > 0
