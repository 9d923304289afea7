"""What is exported is what was trained: branches and batch norms folded away without changing a result."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from personsearch.core.model_recipes import HdlRecipe, ModelRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.export.to_onnx import DETECTION_OUTPUTS, SEARCH_OUTPUTS, write_search_graph
from personsearch.models import SearchModel, build_model
from personsearch.models.backbones.branched import BranchedConv
from personsearch.models.fold import ChannelAffine, folded

WIDTH, HEIGHT = 128, 96
THIN = {"stem_channels": 8, "channels": [8, 16, 16, 24], "blocks": [1, 2, 2, 1], "neck_channels": 16}
TRUNKS = {
    "resnet": {"kind": "resnet_c4", "depth": 26, "width": 8},
    "depthwise": {"kind": "depthwise", "stem_channels": 8, "channels": [8, 16, 24], "person_channels": 32},
    "shufflenet": {"kind": "shufflenet", "stride": 8, "neck_channels": 16, "person_channels": 32},
    "branched": {"kind": "family", **THIN, "person_channels": 32, "block": "branched"},
    "dense": {"kind": "family", **THIN, "person_channels": 32, "block": "dense", "stride": 16},
    "separable": {"kind": "family", **THIN, "person_channels": 32, "block": "separable"},
}
FROZEN = {**TRUNKS["depthwise"], "norm": "frozen"}
KINDS = ("faster_rcnn", "oim", "nae", "seqnet")
"""Kinds of networks beside HDL's that take any trunk."""


def shake(module: nn.Module) -> None:
    """Batch norms as after training: any scale, shift, mean and variance."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.3, 0.3)
            nn.init.uniform_(part.running_mean, -0.2, 0.2)
            nn.init.uniform_(part.running_var, 0.5, 2)


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d)


def frames(count: int) -> Tensor:
    return torch.randint(0, 256, (count, HEIGHT, WIDTH, 3), dtype=torch.uint8)


def trained(trunk: str) -> SearchModel:
    """A network after three steps on frames, in evaluation mode."""
    torch.manual_seed(4)
    recipe = HdlRecipe.model_validate(
        {
            "trunk": FROZEN if trunk == "frozen" else TRUNKS[trunk], "attention": "light", "rpn_channels": 16,
            "anchor_heights": [30, 60],
            "rois_per_image": 8, "train_proposals": 16, "pre_nms": 8, "proposals": 4, "embedding_dim": 24,
            "stripes": 2, "embed_refined": True, "score_threshold": 0,
        }
    )  # fmt: skip
    model = build_model(recipe, Preprocess(input_wh=(WIDTH, HEIGHT)), 5)
    optimiser = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.01)
    boxes = [torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80]])] * 2
    for _ in range(3):
        optimiser.zero_grad()
        losses = model.losses(frames(2), boxes, [torch.tensor([3, 1])] * 2)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    return model.eval()


def settled(kind: str, trunk: str) -> SearchModel:
    """A network of the Faster R-CNN family, its batch norms as after training, in evaluation mode."""
    torch.manual_seed(5)
    content: dict[str, object] = {
        "kind": kind, "trunk": TRUNKS[trunk], "anchors": {"kind": "grid", "sizes": [24, 48], "ratios": [2.0]},
        "rpn_channels": 16, "graph_pre_nms": 8, "graph_proposals": 4, "pool_size": 8,
    }  # fmt: skip
    if kind != "faster_rcnn":
        content |= {"embedding_dim": 16, "queue_size": 4}
    recipe: ModelRecipe = TypeAdapter(ModelRecipe).validate_python(content)
    model = build_model(recipe, Preprocess(input_wh=(WIDTH, HEIGHT)), 5)
    shake(model)
    return model.eval()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "groups"),
    [(6, 6, 1, 6), (6, 6, 2, 6), (6, 6, 1, 1), (6, 4, 1, 1), (6, 8, 2, 2), (6, 6, 1, 3)],
)
def test_branches_merge_into_one_convolution(kernel: int, inputs: int, outputs: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    branched = BranchedConv(inputs, outputs, kernel, stride=stride, groups=groups).double()
    shake(branched)
    branched.eval()
    x = torch.randn(2, inputs, 9, 7, dtype=torch.float64)
    merged = branched.merged()
    assert [type(layer) for layer in merged] == [nn.Conv2d, nn.ReLU]
    torch.testing.assert_close(merged(x), branched(x), atol=1e-12, rtol=0)
    single = copy.deepcopy(branched).float()
    torch.testing.assert_close(single.merged()(x.float()), single(x.float()), atol=1e-5, rtol=0)


def test_a_branched_convolution_is_the_sum_of_its_branches() -> None:
    branched = BranchedConv(4, 4, 3)
    shake(branched)
    branched.eval()
    x = torch.randn(1, 4, 5, 5)
    assert branched.point is not None
    assert branched.identity is not None
    expected = torch.relu(branched.main(x) + branched.point(x) + branched.identity(x))
    torch.testing.assert_close(branched(x), expected)
    assert sum(parameter.numel() for parameter in branched.parameters()) == 4 * 4 * (9 + 1) + 3 * 2 * 4
    assert BranchedConv(4, 4, 3, branches=False).identity is None


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_trained_network_does_the_same_folded(trunk: str) -> None:
    model = trained(trunk)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    images, crops = frames(1), torch.randn(3, *model.person_input_shape[1:])
    with torch.no_grad():
        for part, given in ((model.scene_module(), images), (model.person_module(), crops)):
            ready = folded(part)
            assert not any(is_norm(layer) or isinstance(layer, BranchedConv) for layer in ready.modules())
            for found, expected in zip(ready(given), part(given), strict=True):
                largest = max(1.0, float(expected.abs().max()))  # 1 for embeddings and small logits
                torch.testing.assert_close(found, expected, atol=1e-5 * largest, rtol=0)
            exact = folded(part.double())
            given = given if given.dtype == torch.uint8 else given.double()
            for found, expected in zip(exact(given), part(given), strict=True):
                torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
            part.float()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items()), "the model is untouched"


@pytest.mark.parametrize(
    ("kind", "trunk"),
    [*(("hdl", trunk) for trunk in TRUNKS), ("hdl", "frozen"), *((kind, "separable") for kind in KINDS)],
)
def test_an_exported_graph_has_no_batch_norm_and_no_branch(kind: str, trunk: str, tmp_path: Path) -> None:
    """Every trunk under one kind of network, every other kind of network on one trunk."""
    model, path = trained(trunk) if kind == "hdl" else settled(kind, trunk), tmp_path / "search.onnx"
    deployable = model.deployable()
    outputs = SEARCH_OUTPUTS if model.embedding_dim else DETECTION_OUTPUTS
    write_search_graph(deployable, path, input_wh=(WIDTH, HEIGHT), opset=18, outputs=outputs)
    graph = onnx.load(str(path)).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["BatchNormalization"] == 0
    plain = folded(deployable)
    assert operators["Conv"] == sum(isinstance(layer, nn.Conv2d) for layer in plain.modules())
    # Nothing is left of a norm behind a convolution either: no factor or shift of a constant a channel.
    constants = {tensor.name for tensor in graph.initializer}
    convolved = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    behind = [node for node in graph.node if node.op_type in ("Mul", "Add") and convolved & set(node.input)]
    assert not [node.name for node in behind if constants & set(node.input)]
    image = frames(1)
    with torch.no_grad():
        expected = deployable(image)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for found, wanted in zip(session.run(None, {"frames": image.numpy()}), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("trunk", ["resnet", "branched"])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_every_kind_fold(kind: str, trunk: str) -> None:
    deployable = settled(kind, trunk).double().deployable()
    ready = folded(deployable)
    assert not any(is_norm(layer) or isinstance(layer, BranchedConv) for layer in ready.modules())
    image = frames(1)
    with torch.no_grad():
        for found, expected in zip(ready(image), deployable(image), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_branches_cost_nothing_at_run_time() -> None:
    counts = {}
    for trunk in ("branched", "separable"):
        ready = folded(trained(trunk).scene_module())
        counts[trunk] = [
            (tuple(layer.weight.shape), layer.stride) for layer in ready.modules() if isinstance(layer, nn.Conv2d)
        ]
    assert counts["branched"] == counts["separable"]


def test_a_part_that_is_used_twice_is_folded_once() -> None:
    shared = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3))
    both = nn.ModuleList([nn.Sequential(shared, nn.ReLU()), shared])
    shake(both)
    both.eval()
    ready, x = folded(both), torch.randn(1, 3, 2, 2)
    assert ready[0][0] is ready[1]
    for one, other in zip(ready, both, strict=True):
        torch.testing.assert_close(one(x), other(x))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.BatchNorm2d(4, affine=False), FrozenBatchNorm2d(4)])
def test_a_norm_without_a_convolution_becomes_a_scale_and_a_shift(norm: nn.Module) -> None:
    torch.manual_seed(0)
    # A module knows its attributes as tensors or modules.
    norm.running_mean.uniform_(-1, 1)  # type: ignore[operator,union-attr]
    # A module knows its attributes as tensors or modules.
    norm.running_var.uniform_(0.5, 2)  # type: ignore[operator,union-attr]
    x = torch.randn(3, 4) if isinstance(norm, nn.BatchNorm1d) else torch.randn(3, 4, 2, 5)
    ready = folded(norm)
    assert isinstance(ready, ChannelAffine)
    torch.testing.assert_close(ready(x), norm.eval()(x))


def test_a_linear_layer_and_a_frozen_norm_fold_too() -> None:
    layers = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    shake(layers)
    ready, x = folded(layers), torch.randn(3, 5)
    assert isinstance(ready[1], nn.Identity)
    torch.testing.assert_close(ready(x), layers.eval()(x))
    assert not any(parameter.requires_grad for parameter in ready.parameters())


def test_a_norm_of_the_batch_at_hand_cannot_be_folded() -> None:
    with pytest.raises(ValueError, match="keeps no running statistics"):
        folded(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)))
