"""SeqNet: which head reads what, the first score as the last word, and agreement of search and exported graphs."""

from __future__ import annotations

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
from norm_aware_material import BOXES, IDS, PERSON_COUNT, frames, small_model, warmed
from torch import Tensor
from torchvision.ops import box_iou

from personsearch.benchmarks.flops import count_model
from personsearch.core.model_recipes import GridAnchors, SeqNetRecipe
from personsearch.core.recipe import load_recipe
from personsearch.core.recipes import TrainRecipe
from personsearch.models.boxes import clip, decode
from personsearch.models.detectors.seqnet import SeqNet

RECIPES = Path(str(files("personsearch.recipes"))) / "teacher"
LOSSES = {"rpn_class", "rpn_box", "first_class", "first_box", "refine_class", "refine_box", "identity"}


def seqnet(**fields: object) -> SeqNet:
    model = small_model("seqnet", **fields)
    assert isinstance(model, SeqNet)
    return model


@pytest.mark.parametrize(("name", "queue", "epochs"), [("seqnet_r50_cuhk", 5000, 20), ("seqnet_r50_prw", 500, 18)])
def test_the_recipes_hold_the_published_values(name: str, queue: int, epochs: int) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml", TrainRecipe)
    model = recipe.model
    assert isinstance(model, SeqNetRecipe)
    assert model.anchors == GridAnchors(sizes=(32, 64, 128, 256, 512), ratios=(0.5, 1, 2))
    assert (model.roi_negative_iou, model.positive_fraction, model.rois_per_image) == (0.5, 0.5, 128)
    assert (model.train_pre_nms, model.train_proposals, model.pre_nms, model.proposals) == (12000, 2000, 6000, 300)
    assert (model.scale, model.momentum, model.queue_size, model.embedding_dim) == (30, 0.5, queue, 256)
    assert (model.pool_size, model.nms_iou, model.second_nms_iou, model.score_threshold) == (14, 0.4, 0.5, 0.5)
    assert recipe.loss_weights == {"first_box": 10}
    assert (recipe.batch_images, recipe.epochs, recipe.optimiser.lr) == (5, epochs, 0.003)
    assert (recipe.optimiser.milestones, recipe.optimiser.clip_norm) == ((16,), 10)


def test_training_output_has_every_loss_and_aligned_rows() -> None:
    output = seqnet()(frames(), BOXES, IDS)
    assert set(output.losses) == LOSSES
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in output.losses.values())
    rows = sum(len(rois) for rois in output.rois)
    shapes = {name: tuple(output.taps[name].shape) for name in ("embedding", "rcn_logits", "rcn_deltas")}
    assert shapes == {"embedding": (rows, 12), "rcn_logits": (rows, 2), "rcn_deltas": (rows, 4)}
    assert output.taps["identity_logits"].shape == (rows, PERSON_COUNT)
    assert output.targets["rcn_deltas"].shape == (rows, 4)
    assert output.roi_person_ids[0] == 3, "the labelled person's true box always takes part"


def test_the_second_block_starts_as_a_copy_of_the_first_and_goes_its_own_way() -> None:
    model = seqnet()
    first, second = dict(model.first.block.named_parameters()), dict(model.head.block.named_parameters())
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) and first[name] is not second[name] for name in first)
    output = model(frames(), BOXES, IDS)
    (output.losses["first_class"] + output.losses["first_box"]).backward()
    assert all(parameter.grad is not None for parameter in first.values())
    assert all(parameter.grad is None for parameter in model.head.parameters())


def test_the_second_head_teaches_the_first_nothing() -> None:
    model = seqnet()
    losses = model.losses(frames(), BOXES, IDS)
    (losses["refine_class"] + losses["refine_box"] + losses["identity"]).backward()
    assert all(parameter.grad is None for parameter in model.first.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    assert all(parameter.grad is not None for parameter in model.trunk.parameters())


def test_the_second_head_trains_on_the_first_one_s_boxes_and_the_true_ones() -> None:
    model = seqnet()
    with torch.no_grad():  # every box moves 0.3 of its width to the right and shrinks by a fifth in height
        model.first.box_deltas.weight.zero_()
        model.first.box_deltas.bias.copy_(torch.tensor([3.0, 0, 0, 5 * float(np.log(0.8))]))
    seen: list[list[Tensor]] = []
    pool = model._pool
    # Watches what the method is given.
    model._pool = lambda feature, boxes: (seen.append(boxes), pool(feature, boxes))[1]  # type: ignore[method-assign]
    output = model(frames(), BOXES, IDS)
    given, read = seen
    assert all(torch.equal(one, other) for one, other in zip(read, output.rois, strict=True))
    delta = model.first.box_deltas.bias.detach()
    for image, people in enumerate((2, 0)):
        assert torch.equal(read[image][:people], BOXES[image][:people])
        moved = clip(decode(delta.expand(len(given[image]), 4), given[image], (10, 10, 5, 5)), (128, 96))
        nearest = box_iou(read[image][people:], moved).max(dim=1).values
        torch.testing.assert_close(nearest, torch.ones_like(nearest))


def test_taps_at_the_trained_rois_and_anchors_equal_the_training_taps() -> None:
    assert_taps_repeat(seqnet(), frames(), BOXES, IDS)


def test_a_batch_without_people_trains_without_nan() -> None:
    model = seqnet()
    train_on_nobody(model, frames())
    model.update_memories()
    assert not model.memory.queue.rows.any(), "background is nobody"


def test_a_first_head_that_leaves_no_box_leaves_the_true_ones_to_the_second() -> None:
    model = seqnet()
    with torch.no_grad():
        model.first.box_deltas.weight.zero_()
        model.first.box_deltas.bias.copy_(torch.tensor([0.0, 0, -60, -60]))  # nothing is a pixel wide any more
    output = model(frames(), BOXES, IDS)
    assert [len(rois) for rois in output.rois] == [2, 0]
    torch.stack(list(output.losses.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert warmed(model).detect(frames(1))[0].boxes_xyxy.shape == (0, 4)


def test_in_multi_scale_training_refined_boxes_end_at_the_batch_s_own_frame() -> None:
    model = seqnet(rois_per_image=64, train_proposals=64)
    wide = F.pad(frames().permute(0, 3, 1, 2), (0, 64, 0, 64)).permute(0, 2, 3, 1).contiguous()
    with torch.no_grad():
        model.first.box_deltas.weight.zero_()
        model.first.box_deltas.bias.copy_(torch.tensor([0.0, 0, 10, 10]))  # boxes grow past every edge
    output = model(wide, BOXES, IDS)
    rois = torch.cat(output.rois)
    assert [*rois.amin(dim=0)[:2].tolist(), *rois.amax(dim=0)[2:].tolist()] == [0, 0, 192, 160]


def test_the_score_is_the_first_head_s() -> None:
    model = warmed(seqnet())
    before = model.detect(frames(1, seed=4))[0]
    with torch.no_grad():
        model.head.embedding.rescale.bias.add_(3)
    np.testing.assert_array_equal(model.detect(frames(1, seed=4))[0].scores, before.scores)
    with torch.no_grad():
        model.first.class_logits.bias[1] += 1
    after = model.detect(frames(1, seed=4))[0]
    logit = np.log(before.scores / (1 - before.scores))
    np.testing.assert_allclose(np.log(after.scores / (1 - after.scores)), logit + 1, atol=1e-3)


def test_queries_are_embedded_by_the_second_head() -> None:
    model = warmed(seqnet())
    boxes = [torch.tensor([[10.0, 10, 34, 70]])]
    before = model.embed(frames(1), boxes)[0]
    with torch.no_grad():
        for parameter in model.first.parameters():
            parameter.mul_(2)
    assert torch.equal(model.embed(frames(1), boxes)[0], before)
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if name.startswith("block"):
                parameter.mul_(1.2)
    assert not torch.allclose(model.embed(frames(1), boxes)[0], before, atol=1e-4)


def slow_detect(model: SeqNet, image: Tensor) -> list[tuple[list[float], float, list[float]]]:
    """One box after another: first head, suppression, second head, suppression."""
    feature, logits, deltas = model._scene(image, {})
    proposals = model._proposals(logits, deltas)[0]

    def suppress(found: list[tuple[Tensor, float, Tensor]], limit: float) -> list[tuple[Tensor, float, Tensor]]:
        kept: list[tuple[Tensor, float, Tensor]] = []
        for one in sorted(found, key=lambda one: -one[1]):
            sides = one[0][2:] - one[0][:2]
            if sides.min() >= 1 and all(float(box_iou(one[0][None], other[0][None])) <= limit for other in kept):
                kept.append(one)
        return kept

    first = []
    for box in proposals:
        output = model.first(model._pool(feature, [box[None]]))
        moved = clip(decode(output.box_deltas, box[None], (10, 10, 5, 5)), (128, 96))[0]
        first.append((moved, float(output.class_logits.softmax(dim=1)[0, 1]), moved))
    second = []
    for box, score, _ in suppress(first, model.settings.nms_iou):
        output = model.head(model._pool(feature, [box[None]]))
        moved = clip(decode(output.box_deltas, box[None], (10, 10, 5, 5)), (128, 96))[0]
        second.append((moved, score, F.normalize(output.raw_embedding)[0]))
    return [(box.tolist(), score, e.tolist()) for box, score, e in suppress(second, model.second_nms_iou)]


def test_detect_equals_the_slow_twin() -> None:
    model = warmed(seqnet(nms_iou=0.8, second_nms_iou=0.3))
    removed = 0
    for seed in range(4):
        with torch.no_grad():
            expected = slow_detect(model, frames(1, seed))
        found = model.detect(frames(1, seed))[0]
        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(found.boxes_xyxy, [box for box, _, _ in expected], atol=1e-3)
        np.testing.assert_allclose(found.scores, [score for _, score, _ in expected], atol=1e-5)
        np.testing.assert_allclose(found.embeddings, [embedding for _, _, embedding in expected], atol=1e-4)
        model.second_nms_iou = 1.0
        removed += len(model.detect(frames(1, seed))[0]) - len(found)
        model.second_nms_iou = 0.3
    assert removed > 0, "the second suppression had something to do"


@pytest.mark.parametrize("proposal_peaks", [1, 3])
@pytest.mark.parametrize("second_nms_iou", [0.05, 0.5])
def test_deployable_graph_equals_detect(second_nms_iou: float, proposal_peaks: int) -> None:
    model = warmed(seqnet(nms_iou=0.8, second_nms_iou=second_nms_iou, proposal_peaks=proposal_peaks))
    assert_graph_equals_detect(model, frames(3, seed=9))


@pytest.mark.parametrize("rows", [2, 6])
def test_a_graph_of_fewer_rows_than_proposals_has_the_best_of_all(rows: int) -> None:
    """Also where the second suppression removes one of the first head's best: the next one takes its row."""
    model, made_room = warmed(seqnet(nms_iou=0.8, second_nms_iou=0.05)), 0
    for seed in range(4):
        images = frames(1, seed=seed)
        with torch.no_grad():
            boxes, scores, embeddings = (output[0] for output in model.deployable(rows)(images))
        assert (boxes.shape, scores.shape, embeddings.shape) == ((rows, 4), (rows,), (rows, 12))
        best = model.detect(images)[0][:rows]
        np.testing.assert_allclose(scores[: len(best)], best.scores, atol=1e-5)
        np.testing.assert_allclose(boxes[: len(best)], best.boxes_xyxy, atol=1e-2)
        np.testing.assert_allclose(embeddings[: len(best)], best.embeddings, atol=1e-4)
        assert not scores[len(best) :].any()
        model.second_nms_iou = 1.0
        made_room += not np.isin(model.detect(images)[0][:rows].scores, best.scores).all()
        model.second_nms_iou = 0.05
    assert made_room or rows == 2, "the second suppression took a row from one of the best"


def test_query_graph_equals_embed() -> None:
    boxes = torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [0, 0, 128, 96]])
    assert_query_graph_equals_embed(warmed(seqnet()), frames(1), boxes)


def test_detections_below_the_threshold_are_not_reported() -> None:
    model = warmed(seqnet())
    everybody = model.detect(frames(1, seed=3))[0]
    model.score_threshold = float(np.median(everybody.scores))
    found = model.detect(frames(1, seed=3))[0]
    assert 0 < len(found) < len(everybody)
    np.testing.assert_array_equal(found.scores, everybody.scores[everybody.scores >= model.score_threshold])


def test_operations_of_a_person_are_both_heads() -> None:
    counted = count_model(seqnet(), subject="seqnet")
    block = 9 * 9 * (32 * 64 + 3 * 64 * 64) + 9 * 32 * 64
    assert counted.person_macs == 2 * block + 64 * (2 + 4) + 32 * 6 + 64 * 6 + 64 * 4
