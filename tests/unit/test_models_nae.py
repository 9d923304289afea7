"""NAE: its losses and samples as published, its taps, and agreement of training, search and exported graphs."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

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
from norm_aware_material import BOXES, IDS, PERSON_COUNT, frames, small_model, small_recipe, warmed
from torchvision.ops import box_iou

from personsearch.benchmarks.flops import count_model
from personsearch.core.model_recipes import GridAnchors, NaeRecipe
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import TrainRecipe
from personsearch.models.detectors.nae import NAESearch

RECIPES = Path(str(files("personsearch.recipes"))) / "teacher"


def nae(**fields: object) -> NAESearch:
    model = small_model("nae", **fields)
    assert isinstance(model, NAESearch)
    return model


@pytest.mark.parametrize(("name", "queue"), [("nae_r50_cuhk", 5000), ("nae_r50_prw", 500)])
def test_the_recipes_hold_the_published_values(name: str, queue: int) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", TrainRecipe)
    model = recipe.model
    assert isinstance(model, NaeRecipe)
    assert model.anchors == GridAnchors(sizes=(32, 64, 128, 256, 512), ratios=(0.5, 1, 2))
    assert (model.roi_negative_iou, model.positive_fraction, model.rois_per_image) == (0.1, 0.5, 128)
    assert (model.train_pre_nms, model.train_proposals, model.pre_nms, model.proposals) == (12000, 2000, 6000, 300)
    assert (model.scale, model.momentum, model.queue_size, model.embedding_dim) == (30, 0.5, queue, 256)
    assert (model.pool_size, model.nms_iou, model.score_threshold) == (14, 0.4, 0.5)
    assert recipe.loss_weights == {"refine_box": 10}
    assert (recipe.batch_images, recipe.epochs, recipe.optimiser.lr, recipe.optimiser.milestones) == (
        5,
        22,
        0.003,
        (16,),
    )
    assert recipe.optimiser.clip_norm == 10


def test_training_output_has_every_loss_and_aligned_rows() -> None:
    output = nae()(frames(), BOXES, IDS)
    assert set(output.losses) == {"rpn_class", "rpn_box", "refine_class", "refine_box", "identity"}
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in output.losses.values())
    rows = sum(len(rois) for rois in output.rois)
    assert output.taps["embedding"].shape == (rows, 12)
    assert output.taps["rcn_logits"].shape == (rows, 2)
    assert output.taps["rcn_deltas"].shape == (rows, 4)
    assert output.taps["identity_logits"].shape == (rows, PERSON_COUNT)
    assert output.taps["feature.person"].shape[0] == rows
    assert output.roi_person_ids[0] == 3, "the labelled person's true box always takes part"


def test_the_class_loss_is_the_binary_cross_entropy_of_the_embedding_s_length() -> None:
    model = nae().eval()
    output = model(frames(), BOXES, IDS)
    scale = model.head.embedding.rescale
    loss = 0.0
    for row, positive in zip(output.taps["embedding"].tolist(), output.targets["rcn_positive"].tolist(), strict=True):
        length = math.sqrt(sum(value * value for value in row))
        margin = (length - scale.running_mean.item()) / math.sqrt(scale.running_var.item() + scale.eps)
        score = 1 / (1 + math.exp(-(margin * scale.weight.item() + scale.bias.item())))
        loss -= math.log(score if positive else 1 - score)
    rows = len(output.taps["embedding"])
    assert output.losses["refine_class"].item() == pytest.approx(loss / rows, rel=1e-5)


def test_what_overlaps_a_person_a_little_is_neither_positive_nor_background() -> None:
    people = BOXES[0][:2]
    overlaps = []
    for negative_iou in (0.1, 0.5):
        model = nae(roi_negative_iou=negative_iou, rois_per_image=64, train_proposals=64, anchors=dense_anchors())
        output = model(frames(), BOXES, IDS)
        first = output.rois[0][~output.targets["rcn_positive"][: len(output.rois[0])]]
        overlaps.append(box_iou(first, people).max(dim=1).values)
    assert overlaps[0].max() < 0.1
    assert 0.1 < overlaps[1].max() < 0.5


def dense_anchors() -> dict[str, object]:
    return {"kind": "grid", "sizes": [20, 32, 48], "ratios": [1.5, 2.5, 4]}


def test_identity_loss_is_that_of_the_unit_embeddings_of_people() -> None:
    model = nae()
    with torch.no_grad():
        model.memory.table.rows.copy_(F.normalize(torch.randn(PERSON_COUNT, 12)))
    output = model(frames(), BOXES, IDS)
    losses = []
    for embedding, person_id in zip(output.taps["embedding"], output.roi_person_ids.tolist(), strict=True):
        if person_id >= 0:
            cosines = torch.cat([model.memory.table.rows, model.memory.queue.rows]) @ (embedding / embedding.norm())
            losses.append(-(30 * cosines).log_softmax(dim=0)[person_id])
    torch.testing.assert_close(output.losses["identity"], torch.stack(losses).mean())


def test_memories_change_when_told_to_and_not_before() -> None:
    model = nae()
    model(frames(), BOXES, IDS)
    assert not model.memory.table.rows.any()
    model.update_memories()
    table, queue = model.memory.table.rows, model.memory.queue.rows
    assert table.any(dim=1).tolist() == [False, False, False, True, False]
    torch.testing.assert_close(table[3].norm(), torch.tensor(1.0))
    assert queue.any(dim=1)[0], "the person without identity"


def test_every_parameter_gets_a_gradient() -> None:
    model = nae()
    output = model(frames(), BOXES, IDS)
    torch.stack(list(output.losses.values())).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_taps_at_the_trained_rois_and_anchors_equal_the_training_taps() -> None:
    assert_taps_repeat(nae(), frames(), BOXES, IDS)


def test_a_batch_without_people_trains_without_nan() -> None:
    model = nae()
    train_on_nobody(model, frames())
    model.update_memories()
    assert not model.memory.queue.rows.any(), "background is nobody"


def test_the_longer_embedding_is_the_surer_detection() -> None:
    model = warmed(nae())
    before = model.detect(frames(1, seed=4))[0]
    with torch.no_grad():
        model.head.embedding.rescale.bias.add_(1)
    after = model.detect(frames(1, seed=4))[0]
    np.testing.assert_allclose(
        np.log(after.scores / (1 - after.scores)), np.log(before.scores / (1 - before.scores)) + 1, atol=1e-3
    )
    np.testing.assert_allclose(np.linalg.norm(after.embeddings, axis=1), 1, atol=1e-5)


def test_deployable_graph_equals_detect() -> None:
    assert_graph_equals_detect(warmed(nae()), frames(3, seed=9))


def test_query_graph_equals_embed() -> None:
    boxes = torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [0, 0, 128, 96]])
    assert_query_graph_equals_embed(warmed(nae()), frames(1), boxes)


def test_operations_of_a_person_are_conv5_and_the_head_s_three_layers() -> None:
    model = nae()
    counted = count_model(model, subject="nae")
    # ResNet-18 of width 8: conv5 takes a 6x6 crop of 32 channels to 3x3 of 64.
    block = 9 * 9 * (32 * 64 + 3 * 64 * 64) + 9 * 32 * 64
    assert counted.person_macs == block + 32 * 6 + 64 * 6 + 64 * 4
    assert counted.persons == 8


def test_fewer_than_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        small_recipe("nae", embedding_dim=1)
