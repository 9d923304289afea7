"""The student family: its table, what it saves, and that it trains and runs like every other trunk."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from model_contract import assert_graph_equals_detect
from torch import Tensor, nn

from personsearch.benchmarks.flops import FlopsResult, count_model
from personsearch.core.model_recipes import HdlRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.core.student_trunk import FamilyTrunk
from personsearch.models import SearchModel, build_model
from personsearch.models.students import SIZES, student_size

RECIPES = Path(str(files("personsearch.recipes")))
SCENE_SAVING, PERSON_SAVING = 11.4, 27.0  # what HDL prints for its student; see docs/adr/0010
INPUTS = [(800, 800), (640, 480)]
KINDS = ("feature", "attention")


@cache
def cost(path: str, input_wh: tuple[int, int], **fields: str) -> FlopsResult:
    """Operations of a recipe's network on frames of another size."""
    kind = TrainRecipe if path.startswith("teacher") else DistillRecipe
    model = load_recipe(RECIPES / path, kind).model
    assert isinstance(model, HdlRecipe)
    trunk = model.trunk.model_copy(update={"pretrained": False} if hasattr(model.trunk, "pretrained") else {})
    model = model.model_copy(update={"trunk": trunk, **fields})
    return count_model(build_model(model, Preprocess(input_wh=input_wh), 1), subject=path)


@pytest.mark.parametrize("input_wh", INPUTS)
@pytest.mark.parametrize("size", SIZES)
def test_every_size_truly_saves_what_hdl_prints(size: str, input_wh: tuple[int, int]) -> None:
    student = cost(f"student/family/{size}.yaml", input_wh)
    teacher = cost("teacher/hdl_r50_cuhk.yaml", input_wh)
    bare = cost("teacher/hdl_r50_cuhk.yaml", input_wh, attention="none")  # the cheaper reading of the teacher
    assert bare.scene_macs < teacher.scene_macs
    assert bare.scene_macs / student.scene_macs >= SCENE_SAVING
    # Both passes of `embed_refined` are in a person's cost.
    assert bare.person_macs / student.person_macs >= PERSON_SAVING


def test_hdls_own_student_saves_a_fraction_of_that_and_stays_as_it_is() -> None:
    teacher, student = (cost(path, (800, 800)) for path in ("teacher/hdl_r50_cuhk.yaml", "student/hdl_cuhk.yaml"))
    assert round(student.scene_macs / 1e9, 2) == 38.52  # section 6.3 of the reference, attention with c x c
    assert round(student.person_macs / 1e6, 1) == 70.0
    assert 1.5 < teacher.scene_macs / student.scene_macs < 1.7
    assert 4 < teacher.person_macs / student.person_macs < 5


def test_costs_of_a_unit_by_hand() -> None:
    """A trunk of one unit a stage at 64 x 64: two dense convolutions, then depthwise 3x3 and 1x1 each time."""
    fields = {
        "stem_channels": 4, "channels": [8, 16, 16, 16], "blocks": [0, 1, 1, 0], "neck_channels": 8,
        "person_channels": 8, "person_blocks": 1, "block": "branched",
    }  # fmt: skip
    model = build(trunk={"kind": "family", **fields}, attention="none", rpn_channels=4, anchor_heights=[40])
    stem = 32 * 32 * 27 * 4 + 16 * 16 * 9 * 4 * 8
    stages = 8 * 8 * (9 * 8 + 8 * 16) + 4 * 4 * (9 * 16 + 16 * 16)
    neck = 8 * 8 * 16 * 8 + 4 * 4 * 16 * 8 + 8 * 8 * (9 * 8 + 8 * 8)
    subnet = 8 * 8 * (9 * 8 + 8 * 4 + 4 * 6)
    counted = count_model(model, subject="unit")
    assert counted.scene_macs == stem + stages + neck + subnet
    assert counted.person_macs == 4 * 4 * (9 * 8 + 8 * 8) + 8 * 6  # 7 x 7 to 4 x 4; class and box layers


def build(input_wh: tuple[int, int] = (64, 64), **fields: object) -> SearchModel:
    torch.manual_seed(2)
    recipe = HdlRecipe.model_validate(
        {"rpn_separable": True, "pre_nms": 12, "proposals": 4, "rois_per_image": 8, "train_proposals": 16, **fields}
    )
    return build_model(recipe, Preprocess(input_wh=input_wh), 5)


def test_the_table_grows_and_fits_vector_registers() -> None:
    rows = list(SIZES.values())
    for row in rows:
        widths = (row.stem_channels, *row.channels, row.neck_channels, row.person_channels)
        assert all(width % 16 == 0 for width in widths)
    for small, large in pairwise(rows):
        assert all(a <= b for a, b in zip(small.channels, large.channels, strict=True))
    costs = [cost(f"student/family/{size}.yaml", (640, 480)) for size in SIZES]
    for one, next_larger in pairwise(costs):
        assert one.scene_macs < next_larger.scene_macs
        assert one.person_macs < next_larger.person_macs
    for size, row in SIZES.items():
        recipe = load_recipe(RECIPES / "student" / "family" / f"{size}.yaml", DistillRecipe).model
        assert isinstance(recipe, HdlRecipe)
        assert isinstance(recipe.trunk, FamilyTrunk)
        assert student_size(recipe.trunk) == row
        assert recipe.rpn_channels == row.neck_channels


def test_a_recipe_replaces_single_entries_of_the_table() -> None:
    row = student_size(FamilyTrunk(size="tiny", block="separable", person_channels=32))
    assert (row.block, row.person_channels) == ("separable", 32)
    assert row.channels == SIZES["tiny"].channels


def frames(input_wh: tuple[int, int]) -> Tensor:
    return torch.randint(0, 256, (2, input_wh[1], input_wh[0], 3), dtype=torch.uint8)


@pytest.mark.parametrize("block", ["separable", "branched", "dense"])
@pytest.mark.parametrize(("stride", "attention"), [(8, "light"), (16, "none")])
def test_levels_losses_and_gradients(block: str, stride: int, attention: str) -> None:
    input_wh = (112, 80)  # multiples of 16 that stride 32 does not divide
    trunk = {"kind": "family", "size": "tiny", "block": block, "stride": stride}
    model = build(input_wh, trunk=trunk, attention=attention, rpn_channels=16, embedding_dim=24, stripes=4)
    boxes = [torch.tensor([[10.0, 10, 34, 70]]), torch.zeros((0, 4))]
    output = model(frames(input_wh), boxes, [torch.tensor([3]), torch.zeros(0, dtype=torch.int64)])
    sides = {name: tuple(tap.shape[2:]) for name, tap in output.taps.items() if name.startswith("feature")}
    scene = (80 // stride, 112 // stride)
    assert sides == {"feature.0": (20, 28), "feature.1": (10, 14), "feature.2": scene, "feature.person": (4, 4)}
    assert ("attention.0" in output.taps) == (attention == "light")
    assert output.taps["embedding"].shape[1] == model.embedding_dim == 24
    torch.stack(list(output.losses.values())).sum().backward()
    assert [name for name, part in model.named_parameters() if part.grad is None] == []


@pytest.mark.parametrize("size", SIZES)
def test_the_recipe_s_levels_are_those_that_hdls_teacher_has_in_the_same_size(size: str) -> None:
    recipe = load_recipe(RECIPES / "student" / "family" / f"{size}.yaml", DistillRecipe)
    levels = recipe.hierarchical
    assert levels is not None
    given = {"attention": "light", "rpn_channels": 16}
    rois = [torch.tensor([[8.0, 8, 30, 60]]), torch.tensor([[20.0, 8, 40, 60]])]
    teacher, student = (
        build((96, 64), trunk=trunk, **given).eval().taps(frames((96, 64)), rois)
        for trunk in ({"kind": "resnet_c4", "depth": 10, "width": 8}, {"kind": "family", "size": size})
    )
    fitting = {
        level
        for level in ("0", "1", "2", "person")
        if all(student[f"{kind}.{level}"].shape[2:] == teacher[f"{kind}.{level}"].shape[2:] for kind in KINDS)
    }
    assert set(levels.levels) == fitting


@pytest.mark.parametrize("dim", [64, 128, 256, 512])
def test_the_embedding_has_any_width(dim: int) -> None:
    model = build(trunk={"kind": "family", "size": "tiny"}, attention="none", rpn_channels=16, embedding_dim=dim).eval()
    embedded = model.embed(frames((64, 64))[:1], [torch.tensor([[10.0, 10, 34, 60]])])[0]
    assert embedded.shape == (1, dim)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(1))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("separable", [False, True])
def test_the_detection_convolution_keeps_the_map_and_costs_its_kernel(kernel: int, separable: bool) -> None:
    from personsearch.benchmarks.flops import module_macs
    from personsearch.models.heads.detection_subnet import DetectionSubnet

    subnet = DetectionSubnet(16, 8, 3, separable=separable, kernel=kernel)
    logits, deltas = subnet(torch.randn(2, 16, 4, 5))
    assert (logits.shape, deltas.shape) == ((2, 60, 2), (2, 60, 4))
    own = kernel**2 * 16 + 16 * 8 if separable else kernel**2 * 16 * 8
    assert module_macs(subnet, torch.empty(1, 16, 4, 5, device="meta")) == 20 * (own + 8 * 18)


def test_the_deployable_graph_equals_detect() -> None:
    trunk = {"kind": "family", "size": "tiny"}
    model = build((96, 64), trunk=trunk, attention="none", rpn_channels=16, embed_refined=True, score_threshold=0)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None
    for _ in range(2):
        boxes = [torch.tensor([[10.0, 10, 34, 50]])] * 2
        model(frames((96, 64)), boxes, [torch.tensor([1])] * 2)
    model.eval()
    assert_graph_equals_detect(model, frames((96, 64)))
