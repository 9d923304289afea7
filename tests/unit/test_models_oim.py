"""OIM and the plain detector: losses, memories, taps, exported graphs and operation counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from model_contract import assert_graph_equals_detect
from test_flops import bottlenecks, conv
from test_models import BOXES, IDS, INPUT_WH, frames, warmed
from torch import Tensor, nn

from personsearch.benchmarks.flops import count_model
from personsearch.core.errors import InputError
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import FasterRCNNRecipe, OimRecipe, ResNetTrunk, TrainRecipe
from personsearch.export.graphs import OnnxGraphs, TorchGraphs, open_session, run
from personsearch.export.to_onnx import DETECTION_OUTPUTS, graph_problems, write_query_graph, write_search_graph
from personsearch.models import SearchModel, build_model
from personsearch.models.boxes import anchor_grid, grid_shapes
from personsearch.models.detectors.faster_rcnn import FasterRCNN
from personsearch.models.detectors.oim import OIMSearch

SMALL = {
    "trunk": {"kind": "resnet_c4", "depth": 18, "width": 8},
    "anchors": {"kind": "grid", "sizes": (30, 50), "ratios": (1, 2)},
    "rpn_channels": 16, "rois_per_image": 8, "train_proposals": 16, "train_pre_nms": 60, "pool_size": 6,
    "pre_nms": 24, "proposals": 8, "graph_pre_nms": 24, "graph_proposals": 8,
}  # fmt: skip
EXPORTED = {
    "trunk": {"kind": "resnet_c4", "depth": 10, "width": 8}, "graph_pre_nms": 8, "graph_proposals": 5,
    "pre_nms": 8, "proposals": 5,
}  # fmt: skip
QUERIES = torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [0, 0, 128, 96]])


def detector(**fields: object) -> FasterRCNN:
    torch.manual_seed(1)
    model = build_model(FasterRCNNRecipe.model_validate({**SMALL, **fields}), Preprocess(input_wh=INPUT_WH), 5)
    assert isinstance(model, FasterRCNN)
    return model


def oim(**fields: object) -> OIMSearch:
    torch.manual_seed(1)
    recipe = OimRecipe.model_validate({**SMALL, "embedding_dim": 16, "queue_size": 7, **fields})
    model = build_model(recipe, Preprocess(input_wh=INPUT_WH), person_count=5)
    assert isinstance(model, OIMSearch)
    return model


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def memories(model: OIMSearch) -> list[Tensor]:
    return [value.clone() for value in model.memory.buffers()]


def test_losses_taps_and_targets_of_one_step() -> None:
    model = oim()
    output = model(frames(), BOXES, IDS)
    assert set(output.losses) == {"rpn_class", "rpn_box", "refine_class", "refine_box", "identity"}
    assert output.anchors is not None
    samples, rows = sum(map(len, output.anchors)), sum(map(len, output.rois))
    shapes = {name: tuple(value.shape) for name, value in (output.taps | output.targets).items()}
    assert shapes["rpn_logits"] == (samples, 2)
    assert shapes["rpn_deltas"] == output.targets["rpn_deltas"].shape == (samples, 4)
    assert shapes["rpn_positive"] == (samples,)
    assert shapes["rcn_logits"] == (rows, 2)
    assert output.taps["rcn_deltas"].shape == output.targets["rcn_deltas"].shape == (rows, 4)
    assert shapes["embedding"] == (rows, 16)
    assert shapes["identity_logits"] == (rows, 5)
    assert shapes["feature.2"] == (2, 32, 6, 8)
    positive = output.targets["rpn_positive"]
    first = len(output.anchors[0])
    assert not positive[first:].any(), "nobody in the second image"
    assert positive[: int(positive.sum())].all(), "positive anchors first"
    assert not output.targets["rpn_deltas"][~positive].any()
    # Both people's own boxes are first: their deltas are 0.
    assert output.targets["rcn_positive"][:2].all()
    torch.testing.assert_close(output.targets["rcn_deltas"][:2], torch.zeros(2, 4))


def test_the_detector_has_the_same_taps_but_for_identities() -> None:
    theirs, ours = oim()(frames(), BOXES, IDS), detector()(frames(), BOXES, IDS)
    assert set(theirs.losses) - set(ours.losses) == {"identity"}
    assert set(theirs.taps) - set(ours.taps) == {"embedding", "identity_logits"}


@pytest.mark.parametrize("make", [detector, oim])
def test_taps_at_the_sampled_anchors_and_rois_are_those_of_the_step(make: type[SearchModel]) -> None:
    model = make().eval()
    output = model(frames(), BOXES, IDS)
    again = model.taps(frames(), output.rois, output.anchors)
    assert set(again) == set(output.taps)
    for name, value in output.taps.items():
        torch.testing.assert_close(again[name], value, msg=name)
    assert "rpn_logits" not in model.taps(frames(), output.rois)


def test_every_parameter_gets_a_gradient() -> None:
    model = oim()
    model.memory.table.rows.normal_()  # against empty memories an embedding has no gradient
    total(model.losses(frames(), BOXES, IDS)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert model.head.embedding.weight.grad.abs().sum() > 0


def test_memories_are_written_by_update_alone_once_for_all_forwards() -> None:
    model = oim()
    before = memories(model)
    outputs = [model(frames(seed=seed), BOXES, IDS) for seed in range(2)]
    total(outputs[0].losses).backward()
    assert all(torch.equal(one, other) for one, other in zip(before, memories(model), strict=True))
    model.update_memories()
    queue, table = model.memory.queue, model.memory.table
    # Positive RoIs without identity went to the queue, no background did.
    strangers = [
        (output.targets["rcn_positive"] & (output.roi_person_ids == -1)).nonzero().flatten() for output in outputs
    ]
    expected = torch.cat(
        [nn.functional.normalize(o.taps["embedding"][rows]) for o, rows in zip(outputs, strangers, strict=True)]
    )
    assert 2 <= len(expected) <= 7
    torch.testing.assert_close(queue.rows[: len(expected)], expected.detach())
    assert int(queue.pointer) == len(expected) % 7
    assert table.rows.any(dim=1).tolist() == [False, False, False, True, False]
    after = memories(model)
    model.update_memories()
    assert all(torch.equal(one, other) for one, other in zip(after, memories(model), strict=True)), "once"


def test_evaluation_leaves_nothing_to_be_written() -> None:
    model = oim().eval()
    before = memories(model)
    output = model(frames(), BOXES, IDS)
    model.taps(frames(), output.rois)
    model.detect(frames())
    model.update_memories()
    assert all(torch.equal(one, other) for one, other in zip(before, memories(model), strict=True))


@pytest.mark.parametrize(
    ("boxes", "ids"),
    [
        ([torch.zeros((0, 4))] * 2, [torch.zeros(0, dtype=torch.int64)] * 2),
        ([BOXES[0][:2], BOXES[0][:1]], [torch.tensor([-1, -1]), torch.tensor([-2])]),
    ],
    ids=["nobody", "nobody labelled"],
)
def test_a_batch_without_labelled_people_trains_without_nan(boxes: list[Tensor], ids: list[Tensor]) -> None:
    model = oim()
    losses = model.losses(frames(), boxes, ids)
    total(losses).backward()
    model.update_memories()
    assert losses["identity"] == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert not model.memory.table.rows.any()
    assert bool(model.memory.queue.rows.any()) == any(bool((one == -1).any()) for one in ids)


@pytest.mark.parametrize(
    "trunk",
    [
        {"kind": "depthwise", "stem_channels": 8, "channels": [8, 16, 24], "person_channels": 32},
        {"kind": "shufflenet", "stride": 8, "neck_channels": 32, "person_channels": 32},
    ],
    ids=lambda trunk: trunk["kind"],
)
def test_a_student_s_trunk_learns_against_the_memories(trunk: dict[str, object]) -> None:
    model = oim(trunk=trunk)
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=0.003), []
    for step in range(12):
        torch.manual_seed(step)
        output = model(frames(), BOXES, IDS)
        optimiser.zero_grad()
        total(output.losses).backward()
        optimiser.step()
        model.update_memories()
        losses.append(output.losses["identity"].item())
    assert losses[0] == pytest.approx(np.log(5 + 7), rel=1e-4), "empty memories: all rows alike"
    assert losses[-1] < 0.75 * losses[0]


def test_the_published_oddities_reach_the_memories() -> None:
    model = oim(queue_dims=4, renormalise=False, momentum=0.25)
    model(frames(), BOXES, IDS)
    model.update_memories()
    assert model.memory.queue.rows[:, :4].any()
    assert not model.memory.queue.rows[:, 4:].any()
    assert model.memory.table.rows[3].norm() < 1 - 1e-3


@pytest.mark.parametrize("make", [detector, oim])
def test_deployable_graph_equals_detect(make: type[SearchModel]) -> None:
    assert_graph_equals_detect(warmed(make()), frames(3, seed=9))


def test_the_exported_graph_may_have_fewer_proposals_than_the_test() -> None:
    model = warmed(oim(graph_pre_nms=10, graph_proposals=5))
    boxes, scores, embeddings = model.deployable()(frames(1))
    assert (boxes.shape, scores.shape, embeddings.shape) == ((1, 5, 4), (1, 5), (1, 5, 16))
    assert len(model.detect(frames(1))[0]) <= model.max_detections == 5


def test_the_exported_graph_looks_at_no_more_proposals_than_the_test() -> None:
    """With those of the recipe's graph it would find people whom the checkpoint does not."""
    model = warmed(oim(pre_nms=12, proposals=4, graph_pre_nms=256, graph_proposals=64))
    boxes, scores, _ = model.deployable()(frames(1))
    assert scores.shape == (1, 4)
    (found,) = model.detect(frames(1))
    above = scores[0] >= model.score_threshold
    np.testing.assert_allclose(scores[0][above].detach(), found.scores, atol=1e-5)
    np.testing.assert_allclose(boxes[0][above].detach(), found.boxes_xyxy, atol=1e-2)


def test_oim_in_onnx_runtime_answers_as_in_torch(tmp_path: Path) -> None:
    model = warmed(oim(**EXPORTED))
    search, query = model.deployable(), model.deployable_query(3)
    write_search_graph(search, tmp_path / "search.onnx", input_wh=INPUT_WH, opset=18)
    write_query_graph(query, tmp_path / "query.onnx", input_wh=INPUT_WH, query_boxes=3, opset=18)
    assert [graph_problems(path) for path in sorted(tmp_path.iterdir())] == [[], []]
    engine, reference = OnnxGraphs(tmp_path), TorchGraphs(search, query)
    frame = frames(1, seed=4)[0].numpy()
    ours, theirs = reference.search(frame), engine.search(frame)
    assert (ours.scores > 0).any()
    np.testing.assert_allclose(theirs.scores, ours.scores, atol=1e-4)
    np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=1e-2)
    np.testing.assert_allclose(theirs.embeddings, ours.embeddings, atol=1e-4)
    found = engine.query(frame, QUERIES.numpy())
    np.testing.assert_allclose(found, model.embed(frames(1, seed=4), [QUERIES])[0], atol=1e-4)


def test_a_detector_s_graph_answers_boxes_and_scores(tmp_path: Path) -> None:
    model, path = warmed(detector(**EXPORTED)), tmp_path / "search.onnx"
    write_search_graph(model.deployable(), path, input_wh=INPUT_WH, opset=18, outputs=DETECTION_OUTPUTS)
    session = open_session(path)
    assert tuple(output.name for output in session.get_outputs()) == DETECTION_OUTPUTS
    images = frames(1, seed=4)
    boxes, scores = run(session, frames=images.numpy())
    expected = model.detect(images)[0]
    assert len(expected) > 0
    np.testing.assert_allclose(scores[0, : len(expected)], expected.scores, atol=1e-4)
    np.testing.assert_allclose(boxes[0, : len(expected)], expected.boxes_xyxy, atol=1e-2)


def test_a_detector_cannot_be_asked_for_a_person() -> None:
    with pytest.raises(InputError, match="is a detector and embeds nobody"):
        detector().embed(frames(1), [QUERIES])
    with pytest.raises(InputError, match="expected a person-search network"):
        detector().deployable_query(3)


def test_oim_r50_at_800_by_800_counted_by_hand() -> None:
    scene = conv(400, 7, 3, 64) + bottlenecks(200, 200, 64, 64, 3) + bottlenecks(200, 100, 256, 128, 4)
    scene += bottlenecks(100, 50, 512, 256, 6) + conv(50, 3, 1024, 512) + conv(50, 1, 512, 9 * 6)
    assert round(scene / 1e9, 2) == 53.68  # the reference's figure
    person = bottlenecks(14, 7, 1024, 512, 3) + 2048 * (2 + 4 + 256)
    preprocess = Preprocess(input_wh=(800, 800))
    counted = count_model(build_model(OimRecipe(trunk=ResNetTrunk()), preprocess, 1), subject="oim")
    assert (counted.scene_macs, counted.person_macs, counted.persons) == (scene, person, 64)
    plain = count_model(build_model(FasterRCNNRecipe(trunk=ResNetTrunk()), preprocess, 1), subject="detector")
    assert (plain.scene_macs, plain.person_macs) == (scene, person - 2048 * 256)


def test_the_detection_convolution_is_the_recipe_s() -> None:
    model = oim(rpn_separable=True, rpn_kernel=5, rpn_channels=12)
    shapes = [tuple(part.weight.shape) for part in model.subnet.conv.modules() if isinstance(part, nn.Conv2d)]
    assert shapes == [(32, 1, 5, 5), (12, 32, 1, 1)]
    assert model.subnet.class_logits.out_channels == 2 * 4


def test_nine_anchors_by_hand() -> None:
    shapes = grid_shapes((128, 256), (0.5, 1, 2))
    root = 2**0.5
    expected = [
        [128 * root, 64 * root], [128, 128], [64 * root, 128 * root],
        [256 * root, 128 * root], [256, 256], [128 * root, 256 * root],
    ]  # fmt: skip
    torch.testing.assert_close(shapes, torch.tensor(expected))
    anchors = anchor_grid(shapes, 16, (2, 3))
    assert anchors.shape == (2 * 3 * 6, 4)
    torch.testing.assert_close(anchors[7], torch.tensor([24.0 - 64, 8 - 64, 24 + 64, 8 + 64]))  # second cell's square


def test_frozen_norms_keep_what_they_start_with_and_the_head_s_are_trained() -> None:
    model = oim(trunk={"kind": "resnet_c4", "depth": 18, "width": 8, "norm": "frozen", "frozen_stages": 1})
    before = {name: value.clone() for name, value in model.trunk.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    total(model.train().losses(frames(), BOXES, IDS)).backward()
    optimiser.step()
    changed = {name for name, value in model.trunk.state_dict().items() if not torch.equal(value, before[name])}
    norms = {name for name in before if "bn" in name or "downsample.1" in name}
    assert norms
    assert changed == set(before) - norms - {"conv1.weight"}
    assert int(next(m for m in model.head.modules() if isinstance(m, nn.BatchNorm2d)).num_batches_tracked) == 1


def test_group_norm_answers_one_image_as_it_does_in_a_batch() -> None:
    model = oim(trunk={"kind": "resnet_c4", "depth": 18, "width": 8, "norm": "group"}).train()
    assert not [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    rois = [QUERIES[:1], QUERIES[1:2]]
    together = model.taps(frames(), rois)["embedding"]
    alone = model.taps(frames()[:1], rois[:1])["embedding"]
    torch.testing.assert_close(together[:1], alone)


def train_content(**model: object) -> dict[str, object]:
    return {"name": "x", "model": model, "preprocess": {"input_wh": [96, 64]}, "data": {"root": "nowhere"}}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "yolo", "trunk": {}}, r"`model.kind` is 'yolo'; expected one of 'hdl', 'faster_rcnn', 'oim'"),
        ({"kind": "oim", "trunk": {"kind": "resnet_c4"}, "dropout": 0.1}, "unknown key `model.dropout`"),
        ({"trunk": {"kind": "resnet_c4"}, "queue_size": 5}, "unknown key `model.queue_size`"),
        ({"kind": "oim", "trunk": {"kind": "resnet_c4", "depth": 99}}, "`model.trunk.depth` is 99"),
        ({"kind": "oim", "trunk": {"kind": "resnet_c4"}, "anchors": {"sizes": [9]}}, "`model.anchors.kind` is missing"),
        ({"kind": "oim"}, "key `model.trunk` is missing"),
        ({"kind": "oim", "trunk": {"kind": "resnet_c4", "norm": "frozen"}}, "set model.trunk.pretrained, or init_from"),
    ],
)
def test_bad_model_parts_are_refused_in_the_recipe_s_own_words(model: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(TrainRecipe, train_content(**model), where="recipe.yaml")


def test_frozen_norms_may_start_from_another_run() -> None:
    content = train_content(kind="oim", trunk={"kind": "resnet_c4", "norm": "frozen"})
    assert validate(TrainRecipe, {**content, "init_from": "run/checkpoint.pt"}, where="x").model.kind == "oim"
