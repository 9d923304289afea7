"""Norms for small batches: what group norm and frozen batch norm change in every trunk, and what they must not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.model_recipes import ModelRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import TrainRecipe
from personsearch.models import SearchModel, build_model
from personsearch.models.backbones.branched import BranchedConv
from personsearch.models.norms import RowNorm, group_norm

WIDTH, HEIGHT = 96, 64
THIN = {"stem_channels": 8, "channels": [8, 16, 16, 24], "blocks": [1, 1, 1, 1], "neck_channels": 16}
TRUNKS: dict[str, dict[str, Any]] = {
    "resnet": {"kind": "resnet_c4", "depth": 18, "width": 8},
    "depthwise": {
        "kind": "depthwise", "stem_channels": 8, "channels": [8, 16, 24], "modules": 1, "person_channels": 16
    },
    "shufflenet": {"kind": "shufflenet", "stride": 8, "neck_channels": 16, "person_channels": 16},
    "branched": {"kind": "family", **THIN, "person_channels": 16, "block": "branched"},
    "dense": {"kind": "family", **THIN, "person_channels": 16, "block": "dense"},
    "separable": {"kind": "family", **THIN, "person_channels": 16, "block": "separable"},
}  # fmt: skip
BOXES = [torch.tensor([[10.0, 6, 34, 60], [50, 4, 72, 56]])]


def network(trunk: str, norm: str, **changes: Any) -> SearchModel:
    torch.manual_seed(3)
    content = {
        "trunk": {**TRUNKS[trunk], "norm": norm}, "attention": "none", "anchor_heights": [30, 60], "rpn_channels": 8,
        "rois_per_image": 8, "train_proposals": 16, "stripes": 2, "embedding_dim": 12, **changes,
    }  # fmt: skip
    recipe: ModelRecipe = TypeAdapter(ModelRecipe).validate_python(content)
    return build_model(recipe, Preprocess(input_wh=(WIDTH, HEIGHT)), 3)


def frame(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)


def take_step(model: SearchModel) -> None:
    """One optimiser step on one image."""
    optimiser = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=0.01)
    losses = model.train().losses(frame(), BOXES, [torch.tensor([1, -1])])
    torch.stack(list(losses.values())).sum().backward()
    optimiser.step()


def answers(model: SearchModel) -> dict[str, Tensor]:
    """Everything the network says of one other image and the people in it."""
    with torch.no_grad():
        return model.taps(frame(1), BOXES)


def batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_network_trained_on_single_images_answers_as_it_did_in_training(trunk: str) -> None:
    """With group norm; batch norm's running statistics are not those of one image, and the answers are others."""
    apart = {}
    for norm in ("group", "batch"):
        model = network(trunk, norm)
        assert bool(batch_norms(model)) == (norm == "batch")
        take_step(model)
        training, evaluation = answers(copy.deepcopy(model).train()), answers(model.eval())
        assert training.keys() == evaluation.keys()
        apart[norm] = max(
            float((value - evaluation[name]).abs().max() / evaluation[name].abs().max().clamp(min=1e-6))
            for name, value in training.items()
        )
    assert apart["group"] < 1e-4
    assert apart["batch"] > 0.1


@pytest.mark.parametrize("trunk", ["depthwise", "shufflenet", "dense"])
def test_frozen_norms_stay_and_those_of_the_person_block_and_head_are_trained(trunk: str) -> None:
    model = network(trunk, "frozen")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_step(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    trained = {name for name in batch_norms(model) if f"{name}.running_mean" in changed}
    expected = {name for name in batch_norms(model) if name.startswith("head.")}
    if trunk == "shufflenet":  # its neck has no weights to start from
        expected |= {name for name in batch_norms(model) if name.startswith("trunk.neck.")}
    assert trained == expected
    held = batch_norms(model).keys() - expected
    assert held
    assert not {name for name in changed if name.rpartition(".")[0] in held}
    assert "subnet.class_logits.weight" in changed


def test_nae_keeps_the_batch_norms_that_its_score_is_made_of() -> None:
    anchors = {"kind": "grid", "sizes": [24, 48], "ratios": [2.0]}
    content = {"kind": "nae", "trunk": {**TRUNKS["depthwise"], "norm": "group"}, "anchors": anchors, "queue_size": 4}
    recipe: ModelRecipe = TypeAdapter(ModelRecipe).validate_python(content)
    left = batch_norms(build_model(recipe, Preprocess(input_wh=(WIDTH, HEIGHT)), 3))
    assert left
    assert all(isinstance(part, RowNorm) for part in left.values())


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("people", [0, 1])
def test_hdl_s_head_trains_on_a_batch_of_nobody_or_of_one(people: int, norm: str) -> None:
    """Batch norm over one row has no statistics: torch would stop."""
    model = network("depthwise", norm).train()
    before = {name: value.clone() for name, value in model.head.norm_out.state_dict().items()}
    output = model.head(torch.randn(people, *model.person_input_shape[1:], requires_grad=True))
    loss = output.raw_embedding.square().sum() + output.class_logits.square().sum()
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert output.raw_embedding.shape == (people, 12)
    after = model.head.norm_out.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "nothing was learnt of one row"


@pytest.mark.parametrize(("inputs", "outputs", "stride", "groups"), [(8, 8, 1, 8), (8, 8, 2, 8), (8, 12, 1, 1)])
def test_branches_before_a_group_norm_merge_into_one_convolution(
    inputs: int, outputs: int, stride: int, groups: int
) -> None:
    torch.manual_seed(0)
    branched = BranchedConv(inputs, outputs, 3, stride=stride, groups=groups, norm="group").double()
    before = branched.main.conv1.weight.clone()
    x = torch.randn(2, inputs, 9, 7, dtype=torch.float64)
    merged = branched.merged()
    assert [type(layer) for layer in merged] == [nn.Conv2d, nn.GroupNorm, nn.ReLU]
    torch.testing.assert_close(merged(x), branched(x), atol=1e-12, rtol=0)
    assert torch.equal(branched.main.conv1.weight, before), "merging leaves what was trained as it is"


@pytest.mark.parametrize("channels", [*range(1, 40), 48, 64, 96, 120, 160, 256, 1024, 2048])
def test_groups_divide_the_channels_and_hold_two_at_least(channels: int) -> None:
    norm = group_norm(channels)
    assert channels % norm.num_groups == 0
    assert norm.num_groups <= 32
    assert norm.num_groups == 1 or channels // norm.num_groups >= 2
    assert norm(torch.randn(1, channels, 2, 2)).shape == (1, channels, 2, 2)


@pytest.mark.parametrize(
    ("trunk", "starts"),
    [
        ("resnet", "model.trunk.pretrained, or init_from"),
        ("shufflenet", "model.trunk.weights, or init_from"),
        ("depthwise", "init_from"),
        ("dense", "init_from"),
    ],
)
def test_frozen_norms_need_weights_to_start_from(trunk: str, starts: str) -> None:
    content: dict[str, Any] = {
        "name": "x", "model": {"trunk": {**TRUNKS[trunk], "norm": "frozen"}}, "preprocess": {"input_wh": [96, 64]},
        "data": {"root": "nowhere"},
    }  # fmt: skip
    with pytest.raises(InputError, match=rf"norm is frozen: set {starts} to start from"):
        validate(TrainRecipe, content, where="recipe.yaml")
    validate(TrainRecipe, {**content, "init_from": "run/checkpoint.pt"}, where="recipe.yaml")
