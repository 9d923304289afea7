"""Networks: shapes, losses, convention facts and agreement of the exported graph with the trained one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_contract import (
    assert_graph_equals_detect,
    assert_query_graph_equals_embed,
    assert_taps_repeat,
    train_on_nobody,
)
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipes import DepthwiseTrunk, HdlRecipe, ResNetTrunk, ShuffleTrunk
from personsearch.models import SearchModel, build_model
from personsearch.models.boxes import decode, encode, person_anchors

INPUT_WH = (128, 96)
TRUNKS = {
    "teacher": ResNetTrunk(depth=26, width=8),
    "student": DepthwiseTrunk(stem_channels=8, channels=(8, 16, 24), person_channels=32),
    "shuffle8": ShuffleTrunk(stride=8, neck_channels=32, person_channels=32),
    "shuffle16": ShuffleTrunk(stride=16, neck_channels=32, person_channels=32),
}


def small_recipe(trunk: str, **fields: object) -> HdlRecipe:
    return HdlRecipe.model_validate(
        {
            "trunk": TRUNKS[trunk],
            "attention": "light",
            "rpn_channels": 16,
            "anchor_heights": (30, 50, 70),
            "rois_per_image": 8,
            "train_proposals": 16,
            "pre_nms": 24,
            "proposals": 8,
            **fields,
        }
    )


def tiny_model(trunk: str, **fields: object) -> SearchModel:
    torch.manual_seed(1)
    return build_model(small_recipe(trunk, **fields), Preprocess(input_wh=INPUT_WH), person_count=5)


def frames(count: int = 2, seed: int = 0) -> Tensor:
    """Coarse patches under noise: white noise alone averages out in the trunk and leaves every anchor alike."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 7, 9, generator=generator)
    patches = F.interpolate(coarse, size=(INPUT_WH[1], INPUT_WH[0]), mode="bilinear")
    noise = torch.rand(patches.shape, generator=generator)
    return (255 * (0.7 * patches + 0.3 * noise)).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


BOXES = [torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [100, 5, 120, 50]]), torch.zeros((0, 4))]
IDS = [torch.tensor([3, -1, -2]), torch.zeros(0, dtype=torch.int64)]


def warmed(model: SearchModel) -> SearchModel:
    """The model in evaluation mode, with batch statistics of a few frames and logits that differ between anchors."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # plain averages: three batches are enough for running statistics
    for seed in range(3):
        model(frames(seed=seed), BOXES, IDS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "class_logits.weight" in name or "box_deltas.weight" in name:
                parameter.mul_(20)
    model.score_threshold = 0.0
    return model.eval()


@pytest.mark.parametrize("trunk", TRUNKS)
def test_training_output_has_every_loss_and_aligned_rows(trunk: str) -> None:
    output = tiny_model(trunk)(frames(), BOXES, IDS)
    assert set(output.losses) == {"rpn_class", "rpn_box", "refine_class", "refine_box", "identity"}
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in output.losses.values())
    rows = sum(len(rois) for rois in output.rois)
    assert output.taps["identity_logits"].shape == (rows, 5)
    assert output.taps["embedding"].shape[0] == rows
    assert output.taps["feature.person"].shape[0] == rows
    assert set(output.roi_person_ids.tolist()) <= {-1, 3}
    assert output.roi_person_ids[0] == 3, "the labelled person's true box always takes part"


@pytest.mark.parametrize("trunk", ["teacher", "student"])
def test_every_parameter_gets_a_gradient(trunk: str) -> None:
    model = tiny_model(trunk)
    torch.stack(list(model.losses(frames(), BOXES, IDS).values())).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_levels_of_teacher_and_student_have_equal_sizes() -> None:
    rois = [torch.tensor([[8.0, 8, 30, 60]]), torch.tensor([[20.0, 8, 40, 60]])]
    taps = [tiny_model(trunk).taps(frames(), rois) for trunk in ("teacher", "student")]
    assert set(taps[0]) == set(taps[1])
    for name in taps[0]:
        if taps[0][name].ndim == 4:
            assert taps[0][name].shape[2:] == taps[1][name].shape[2:], name


def test_taps_at_the_trained_rois_equal_the_training_taps() -> None:
    assert_taps_repeat(tiny_model("student"), frames(), BOXES, IDS)


def test_a_batch_without_people_trains_without_nan() -> None:
    assert train_on_nobody(tiny_model("student"), frames()).losses["rpn_box"] == 0


@pytest.mark.parametrize("embed_refined", [False, True])
@pytest.mark.parametrize("trunk", TRUNKS)
def test_deployable_graph_equals_detect(trunk: str, embed_refined: bool) -> None:
    assert_graph_equals_detect(warmed(tiny_model(trunk, embed_refined=embed_refined)), frames(3, seed=9))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_detect_and_the_graph_propose_from_the_same_peaks(trunk: str) -> None:
    model, images = warmed(tiny_model(trunk, proposal_peaks=3)), frames(3, seed=9)
    assert_graph_equals_detect(model, images)
    found = model.detect(images)
    model.settings = replace(model.settings, proposal_peaks=1)
    others = model.detect(images)
    assert any(len(a) != len(b) or (a.scores != b.scores).any() for a, b in zip(found, others, strict=True))


def test_with_fewer_peaks_than_proposals_nothing_else_is_proposed() -> None:
    fields = {"pre_nms": 144, "proposals": 100, "rpn_nms_iou": 0.999, "nms_iou": 0.999, "proposal_peaks": 5}
    model, images = warmed(tiny_model("student", **fields)), frames(2, seed=3)
    assert_graph_equals_detect(model, images)
    # Two peaks of a shape are three cells apart: 2 x 3 of them on 6x8 cells, three times, one for each shape.
    assert all(0 < len(found) <= 18 for found in model.detect(images))


def test_peaks_change_nothing_in_training() -> None:
    losses = []
    for side in (1, 5):
        model = tiny_model("student", proposal_peaks=side)
        torch.manual_seed(0)
        losses.append(model.losses(frames(), BOXES, IDS))
    assert losses[0] == losses[1]


def test_a_refined_box_is_embedded_like_a_query_of_the_same_box() -> None:
    model = warmed(tiny_model("teacher", embed_refined=True))
    images = frames(1, seed=5)
    found = model.detect(images)[0]
    query = model.embed(images, [torch.from_numpy(found.boxes_xyxy)])[0]
    np.testing.assert_allclose(found.embeddings, query, atol=1e-5)


def test_deployable_graph_keeps_fewer_rows_when_asked() -> None:
    model = warmed(tiny_model("student"))
    boxes, scores, embeddings = model.deployable(3)(frames(2))
    assert (boxes.shape, scores.shape, embeddings.shape) == ((2, 3, 4), (2, 3), (2, 3, 32))


def test_query_graph_equals_embed() -> None:
    boxes = torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [0, 0, 128, 96]])
    assert_query_graph_equals_embed(warmed(tiny_model("teacher")), frames(1), boxes)


def test_stripes_tell_the_same_clothes_worn_upside_down_apart() -> None:
    model = tiny_model("student", stripes=4).eval()
    assert model.embedding_dim == 4 * 32
    assert model.embed(frames(1), [torch.tensor([[10.0, 10, 34, 70]])])[0].shape == (1, 128)


@pytest.mark.parametrize("embed_refined", [False, True])
def test_crops_may_be_taller_than_wide(embed_refined: bool) -> None:
    model = warmed(tiny_model("student", pool_size=(8, 3), stripes=4, refine_bins=2, embed_refined=embed_refined))
    assert model.person_input_shape[2:] == (8, 3)
    assert_graph_equals_detect(model, frames(3, seed=9))
    assert_query_graph_equals_embed(model, frames(1), torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stripes": 3}, r"`model.stripes` is 3, and a person's map has 4x4 cells; expected a divisor of 4"),
        ({"pool_size": (8, 5), "refine_bins": 2}, r"`model.refine_bins` is 2.*4x3 cells; .*divisor of 4 and 3"),
    ],
)
def test_parts_that_a_persons_map_cannot_be_cut_into_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_model("student", **changes)


def test_anchors_are_centred_and_person_shaped() -> None:
    anchors = person_anchors((61.0,), 2.44, 16, (2, 3))
    assert anchors.shape == (6, 4)
    torch.testing.assert_close(anchors[0], torch.tensor([8 - 12.5, 8 - 30.5, 8 + 12.5, 8 + 30.5]))
    torch.testing.assert_close(anchors[1, 0] - anchors[0, 0], torch.tensor(16.0))


def test_box_code_round_trip() -> None:
    anchors = person_anchors((40.0, 80.0), 2.44, 16, (3, 3))
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(len(anchors), 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 5 + torch.rand(len(anchors), 2, generator=generator) * 60], dim=1)
    weights = (10.0, 10.0, 5.0, 5.0)
    torch.testing.assert_close(decode(encode(boxes, anchors, weights), anchors, weights), boxes, atol=1e-3, rtol=0)


def test_an_input_size_off_the_stride_is_refused() -> None:
    recipe = HdlRecipe(trunk=TRUNKS["student"])
    with pytest.raises(InputError, match="multiples of 16"):
        build_model(recipe, Preprocess(input_wh=(130, 96)), 5)


def test_wrong_frames_are_refused_with_their_shape() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(B, 96, 128, 3\)"):
        tiny_model("student")(frames().float(), BOXES, IDS)


@pytest.mark.parametrize("trunk", ["teacher", "student"])
def test_multi_scale_training_is_that_of_a_model_of_the_batch_s_size(trunk: str) -> None:
    small = tiny_model(trunk)
    large = build_model(small_recipe(trunk), Preprocess(input_wh=(192, 160)), person_count=5)
    large.load_state_dict(small.state_dict())
    wide = F.pad(frames().permute(0, 3, 1, 2), (40, 24, 10, 54)).permute(0, 2, 3, 1).contiguous()
    boxes = [box + torch.tensor([40.0, 10, 40, 10]) for box in BOXES]
    outputs = []
    for model in (small, large):
        torch.manual_seed(3)
        outputs.append(model(wide, boxes, IDS))
    for name, loss in outputs[0].losses.items():
        torch.testing.assert_close(loss, outputs[1].losses[name])
    for one, other in zip(outputs[0].rois, outputs[1].rois, strict=True):
        torch.testing.assert_close(one, other)


def test_a_training_input_off_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="other multiples of 16"):
        tiny_model("student")(frames()[:, :90], BOXES, IDS)
