"""Operation counts against counts by hand, and the module's against the exported graph's."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from pydantic import TypeAdapter
from tiny_networks import save
from torch import nn

from personsearch.benchmarks.flops import FlopsResult, count_graph, count_model, count_path, module_macs, train_recipe
from personsearch.benchmarks.flops_graph import trace_graph
from personsearch.benchmarks.flops_module import trace_module
from personsearch.benchmarks.flops_trace import Step, Trace, peak_bytes, traffic_by_part
from personsearch.core.errors import InputError
from personsearch.core.manifest import Pooling
from personsearch.core.model_recipes import ModelRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import HdlRecipe, ResNetTrunk
from personsearch.export.to_onnx import DETECTION_OUTPUTS, SEARCH_OUTPUTS, write_search_graph
from personsearch.models.build import build_model
from personsearch.models.deployable import pool_by, suppress_in
from personsearch.models.fold import folded
from personsearch.models.search_model import SearchModel


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


RESNET = {"kind": "resnet_c4", "depth": 10, "width": 4}
REGION = {"trunk": RESNET, "pool_size": 8, "rpn_channels": 8, "graph_pre_nms": 8, "graph_proposals": 4}
HDL = {"rpn_channels": 8, "anchor_heights": [30, 50], "pre_nms": 8, "proposals": 4}
KINDS = {
    "hdl resnet": {**HDL, "trunk": RESNET, "attention": "full"},
    "hdl depthwise": {
        **HDL, "attention": "light",
        "trunk": {
            "kind": "depthwise", "stem_channels": 8, "channels": [8, 16, 16], "modules": 1, "person_channels": 16
        },
    },
    "hdl shufflenet": {
        **HDL, "attention": "none",
        "trunk": {"kind": "shufflenet", "stride": 8, "neck_channels": 16, "person_channels": 16},
    },
    "family": {
        **HDL, "attention": "light", "trunk": {"kind": "family", "size": "tiny"}, "rpn_separable": True,
        "embed_refined": True, "stripes": 2, "refine_bins": 2, "embedding_dim": 16,
    },
    "faster_rcnn": {**REGION, "kind": "faster_rcnn"},
    "oim": {**REGION, "kind": "oim", "embedding_dim": 16},
    "nae": {**REGION, "kind": "nae", "embedding_dim": 16},
    "seqnet": {**REGION, "kind": "seqnet", "embedding_dim": 16},
}  # fmt: skip


def tiny(kind: str) -> SearchModel:
    """A network with weights as after training: exporters leave out biases of 0 and merge layers that are equal."""
    torch.manual_seed(0)
    recipe = TypeAdapter(ModelRecipe).validate_python(KINDS[kind])
    model = build_model(recipe, Preprocess(input_wh=(96, 64)), 3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    return model


@lru_cache
def whole_graph(kind: str, pooling: Pooling = "matrix") -> FlopsResult:
    """The count of the kind's search graph; exporting is what takes time here."""
    with tempfile.TemporaryDirectory() as folder:
        return count_graph(write_graph(tiny(kind), Path(folder) / "search.onnx", pooling), subject="one")


def write_graph(model: SearchModel, path: Path, pooling: Pooling = "matrix", rows: int | None = None) -> Path:
    outputs = SEARCH_OUTPUTS if model.embedding_dim else DETECTION_OUTPUTS
    graph = model.deployable(rows)
    pool_by(graph, pooling)
    write_search_graph(graph, path, input_wh=model.preprocess.input_wh, opset=18, outputs=outputs)
    return path


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("kind", KINDS)
def test_module_and_graph_agree_exactly(kind: str, pooling: Pooling) -> None:
    model = tiny(kind)
    module, graph = count_model(model, subject="one", pooling=pooling), whole_graph(kind, pooling)
    assert module.pooling == graph.pooling == pooling
    assert graph.model_dump(exclude={"source"}) == module.model_dump(exclude={"source"})
    assert module.persons == 4
    # torch's own counter as the slow twin.
    frames = torch.empty(1, 64, 96, 3, dtype=torch.uint8, device="meta")
    whole = folded(model.deployable())
    pool_by(whole, pooling)
    assert module_macs(whole, frames) == module.total_macs
    scene, person = folded(model.scene_module()), folded(model.person_module())
    assert module_macs(scene, frames) == module.scene_macs
    assert module_macs(person, torch.empty(model.person_input_shape, device="meta")) == module.person_macs


def test_selection_counted_by_hand() -> None:
    graph = whole_graph("hdl depthwise")
    # The fixed-step NMS: n - 1 products of n x n with a column, before (8) and after (4) the person head.
    suppression = 7 * 8 * 8 + 3 * 4 * 4
    # RoI pooling of 4 boxes on a 4 x 6 map of 16 channels: 7 rows each, then 7 columns of each row.
    pooling = 4 * 7 * 4 * (6 * 16) + 4 * 7 * 7 * 6 * 16
    assert graph.selection_macs == suppression + pooling

    operator = whole_graph("hdl depthwise", "roi_align")
    assert operator.selection_macs == suppression
    moved = 4 * (16 * 4 * 6 + 4 * 16 * 7 * 7)  # its map and its crops, in bytes
    suppressing = 4 * (7 * (8 * 8 + 8 + 8) + 3 * (4 * 4 + 4 + 4))  # a matrix, a column and the result of every step
    assert operator.selection_traffic_bytes == suppressing + moved
    assert operator.scene_macs == graph.scene_macs
    assert operator.persons_macs == graph.persons_macs


def test_fewer_steps_of_suppression_are_counted(tmp_path: Path) -> None:
    """Three suppressions of SeqNet's: of 8 candidates, 4 proposals and 4 refined boxes."""
    graph = tiny("seqnet").deployable()
    pool_by(graph, "roi_align")
    suppress_in(graph, 3)
    write_search_graph(graph, tmp_path / "search.onnx", input_wh=(96, 64), opset=18, outputs=SEARCH_OUTPUTS)
    counted = count_graph(tmp_path / "search.onnx", subject="seqnet")
    assert counted.selection_macs == 3 * 8 * 8 + 3 * 4 * 4 + 3 * 4 * 4
    assert whole_graph("seqnet", "roi_align").selection_macs == 7 * 8 * 8 + 3 * 4 * 4 + 3 * 4 * 4


def test_a_module_is_counted_as_its_graph_for_cpus() -> None:
    model = tiny("hdl depthwise")
    assert count_model(model, subject="one") == count_model(model, subject="one", pooling="roi_align")


def test_fewer_rows_leave_no_work_out_of_the_second_head(tmp_path: Path) -> None:
    """SeqNet's second suppression needs all boxes: a graph of fewer rows has them pass its second head too."""
    model = tiny("seqnet")
    whole = count_model(model, subject="seqnet")
    fewer = count_graph(write_graph(model, tmp_path / "search.onnx", "roi_align", rows=2), subject="seqnet")
    assert (fewer.persons, fewer.person_macs) == (4, whole.person_macs)
    assert fewer.persons_macs == whole.persons_macs


def test_a_copied_block_is_the_same_weights() -> None:
    one = {**KINDS["family"], "embed_refined": False}
    single = build_model(TypeAdapter(ModelRecipe).validate_python(one), Preprocess(input_wh=(96, 64)), 3).eval()
    twice, once = count_model(tiny("family"), subject="twice"), count_model(single, subject="once")
    assert twice.parameters == once.parameters
    assert once.person_macs < twice.person_macs < 2 * once.person_macs


class Branches(nn.Module):
    """Two convolutions side by side and their sum: 8 x 8, 2 channels in, 4 and 4 out."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(2, 4, 3, padding=1)
        self.right = nn.Conv2d(2, 4, 1)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.last(torch.relu(self.left(x)) + self.right(x).transpose(2, 3))
        return result


def test_peak_and_traffic_by_hand(tmp_path: Path) -> None:
    x = 2 * 64 * 4  # bytes of the input, channels x positions x 4
    wide = 4 * 64 * 4
    weights = 4 * ((72 + 4) + (8 + 4) + (4 + 1))
    module = Branches().eval()
    torch.onnx.export(module, (torch.zeros(1, 2, 8, 8),), str(tmp_path / "b.onnx"), opset_version=18, dynamo=True,
                      external_data=False, verbose=False)  # fmt: skip
    for trace in (trace_module(module, torch.empty(1, 2, 8, 8, device="meta")), trace_graph(tmp_path / "b.onnx")):
        # At the second convolution: input, the first one's map (its ReLU in place), its own map.
        assert peak_bytes(trace) == {"scene": x + 2 * wide, "person": 0}
        moved = (x + wide) + (x + wide) + (wide + 64 * 4) + weights
        assert traffic_by_part(trace) == {"scene": moved, "person": 0, "selection": 0}
        assert sum(trace.weights.values()) * 4 == weights


def test_what_is_quantised_lies_in_memory_as_bytes(tmp_path: Path) -> None:
    scale, zero = np.float32(0.1), np.uint8(0)
    constants = {
        "s": scale, "z": zero, "w": np.ones((4, 3, 1, 1), np.int8), "wz": np.int8(0), "b": np.ones(4, np.float32)
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["wf"]),
        helper.make_node("Conv", ["x", "wf", "b"], ["y"]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["rx"]),
        helper.make_node("Conv", ["rx", "wf2", "b2"], ["out"]),
    ]
    constants |= {"wf2": np.ones((2, 4, 1, 1), np.float32), "b2": np.ones(2, np.float32)}
    path = save(tmp_path / "q.onnx", nodes, constants, [1, 3, 8, 8], ["out"])
    trace = trace_graph(path)
    first = 3 * 64 + 4 * 64 + (4 * 3 + 4 * 4)  # bytes in, bytes out; weights of a byte, bias of four
    second = 4 * 64 + 2 * 64 * 4 + (2 * 4 * 4 + 2 * 4)
    assert traffic_by_part(trace)["scene"] == first + second
    # The last convolution: its input in bytes and its output in floats; the image is its reader's bytes too.
    assert peak_bytes(trace)["scene"] == max(3 * 64 + 4 * 64, 4 * 64 + 2 * 64 * 4)


@given(st.data())
def test_peak_against_a_simulation(data: st.DataObject) -> None:
    """Every memory's life written out as a set of steps; element-wise steps left out, they have examples above."""
    count = data.draw(st.integers(1, 8))
    steps, known, sizes = [], [0], {0: data.draw(st.integers(1, 9))}
    for number in range(1, count + 1):
        reads = tuple(data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True)))
        sizes[number] = data.draw(st.integers(1, 9))
        steps.append(Step(reads, (number,), "scene"))
        known.append(number)
    outputs = (count,)
    lives = {0: {-1}} | {number: {number - 1} for number in range(1, count + 1)}
    for number in range(count + 1):
        ends = [at for at, step in enumerate(steps) if number in step.reads] + [count] * (number in outputs)
        # An input lies there from the start, whether or not it is read; what is never read is never written.
        lives[number] = set(range(-1 if number == 0 else number - 1, max(ends) + 1)) if ends else set()
    if not lives[0]:
        lives[0] = set(range(count + 1))
    expected = max(sum(sizes[one] for one, life in lives.items() if at in life) for at in range(count))
    trace = Trace(tuple(steps), sizes, (0,), outputs)
    assert peak_bytes(trace)["scene"] == expected


def test_counting_leaves_the_model_where_it_was() -> None:
    model = tiny("hdl depthwise")
    count_model(model, subject="module")
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", ["missing.yaml", "missing.pt", "empty"])
def test_what_is_not_a_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        count_path(tmp_path / name)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(InputError, match="is not an ONNX file"):
        count_graph(path, subject="x")


def test_every_kind_of_shipped_recipe_can_be_counted() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    paths = sorted([*recipes.glob("teacher/*.yaml"), *recipes.glob("student/**/*.yaml")])
    networks: dict[str, Path] = {}  # most recipes train a network that another one trains too
    for path in paths:
        model = train_recipe(path).model
        kind = f"{model.kind} {model.trunk.kind} {getattr(model.trunk, 'depth', '')}"
        networks.setdefault(kind, path)
    assert len(networks) >= 8
    for path in networks.values():
        counted = count_path(path)
        assert counted.scene_macs > counted.person_macs > 0
