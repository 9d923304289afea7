"""QEEPS: gates, query-guided proposals and similarity by hand, pairs of a batch, losses, and its two ways to answer."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from test_models import INPUT_WH, frames
from test_models_oim import SMALL
from torch import Tensor, nn

from personsearch.benchmarks.flops import count_model, module_macs
from personsearch.benchmarks.pair_cost import count_pair
from personsearch.core.errors import InputError
from personsearch.core.model_recipes import OimRecipe, QeepsRecipe
from personsearch.core.preprocess import Preprocess
from personsearch.core.recipe import validate
from personsearch.core.recipes import TrainRecipe
from personsearch.models import SearchModel, build_model
from personsearch.models.backbones.resnet_c4 import ResNetC4
from personsearch.models.backbones.siamese import SiameseTrunk
from personsearch.models.detectors.qeeps import QEEPS
from personsearch.models.detectors.sampling import Labels, match
from personsearch.models.heads.query_proposals import QueryProposalNet
from personsearch.models.heads.query_similarity import QuerySimilarityNet
from personsearch.models.query_attention import QuerySqueezeExcitation
from personsearch.models.query_pairs import choose_queries

BOXES = [torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80], [100, 5, 120, 50]]), torch.tensor([[40.0, 12, 66, 74]])]
IDS = [torch.tensor([3, -1, -2]), torch.tensor([3])]
TRUNK = {"kind": "resnet_c4", "depth": 10, "width": 8}


def qeeps(**fields: object) -> QEEPS:
    torch.manual_seed(1)
    recipe = QeepsRecipe.model_validate({**SMALL, "trunk": TRUNK, "embedding_dim": 16, "queue_size": 7, **fields})
    model = build_model(recipe, Preprocess(input_wh=INPUT_WH), person_count=5)
    assert isinstance(model, QEEPS)
    return model


def steady(model: SearchModel) -> SearchModel:
    """Evaluation mode, every detection reported."""
    model.score_threshold = 0.0
    return model.eval()


def without_gates(model: QEEPS) -> QEEPS:
    """A copy whose query has no say: gates are 1, and QRPN answers 0."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "channel_out" in name or name.startswith("query_proposals.class_logits"):
                parameter.zero_()
    return model


def boxes_of(count: int) -> Tensor:
    return torch.tensor([[12.0, 8, 40, 80]]).repeat(count, 1)


# -- the parts ------------------------------------------------------------------------------------------------


def test_the_gate_by_hand() -> None:
    block = QuerySqueezeExcitation(2, reduction=1, kind="sigmoid")
    hidden, out = block.gate.channel_in, block.gate.channel_out
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        # The first hidden unit adds query channel 0 and gallery channel 1, the second sees minus query channel 1.
        hidden.weight[0, [0, 3]] = 1
        hidden.weight[1, 1] = -1
        out.weight[0, 0] = 1
        out.weight[1, 1] = 1
        out.bias[1] = 0.5
    query = torch.tensor([[1.0, 3.0], [4.0, 4.0]]).view(1, 2, 1, 2)  # means 2 and 4
    gallery = torch.tensor([[9.0, 9.0], [-1.0, 0.0]]).view(1, 2, 1, 2)  # means 9 and -0.5
    expected = torch.tensor([1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(-0.5))])  # relu(2 - 0.5), relu(-4) + 0.5
    torch.testing.assert_close(block(query, gallery).flatten(), expected)
    neutral = QuerySqueezeExcitation(2, reduction=1, kind="neutral")
    neutral.load_state_dict(block.state_dict())
    torch.testing.assert_close(neutral(query, gallery).flatten(), 2 * expected)


def slow_pair(trunk: SiameseTrunk, gallery: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """One pair, stage by stage, both images on their own, gates written out."""
    maps = [trunk.stem(gallery), trunk.stem(query)]
    for index in range(3):
        maps = [trunk.stage(index, one) for one in maps]
        if index in trunk.levels:
            gate = getattr(trunk, f"qsse{index}").gate
            context = torch.cat([maps[1].mean(dim=(2, 3)), maps[0].mean(dim=(2, 3))], dim=1)[:, :, None, None]
            gates = 2 / (1 + torch.exp(-gate.channel_out(gate.channel_in(context).clamp(min=0))))
            maps = [one * gates for one in maps]
    return maps[0], maps[1]


@pytest.mark.parametrize("levels", [(0, 1, 2), (2,)])
def test_the_siamese_trunk_against_pairs_one_by_one(levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    trunk = SiameseTrunk(depth=10, width=8, levels=levels).eval()
    images = torch.randn(4, 3, 64, 96)
    taps: dict[str, Tensor] = {}
    both = trunk(images, taps, paired=True)
    for pair in range(2):
        gallery, query = slow_pair(trunk, images[pair : pair + 1], images[2 + pair : 3 + pair])
        torch.testing.assert_close(both[pair : pair + 1], gallery)
        torch.testing.assert_close(both[2 + pair : 3 + pair], query)
    assert {name: len(tap) for name, tap in taps.items()} == {f"feature.{level}": 2 for level in range(3)}
    alone = trunk(images[:2], {})
    twice = trunk(torch.cat([images[:2], images[:2]]), {}, paired=True)
    torch.testing.assert_close(alone, twice[:2])


def test_the_siamese_trunk_takes_an_oim_trunks_weights_and_starts_near_it() -> None:
    torch.manual_seed(0)
    plain = ResNetC4(depth=10, width=8, attention="none").eval()
    siamese = SiameseTrunk(depth=10, width=8).eval()
    left = siamese.load_state_dict(plain.state_dict(), strict=False)
    assert left.unexpected_keys == []
    assert {name.split(".")[0] for name in left.missing_keys} == {"qsse0", "qsse1", "qsse2"}
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = plain(images, {}), siamese(images, {})
    assert 0.5 < float(found.norm() / expected.norm()) < 2, "three plain sigmoids would leave an eighth"


def test_query_guided_proposals_by_hand() -> None:
    net = QueryProposalNet(1, 1, anchor_count=2, reduction=1, gate="sigmoid")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.gate.channel_in.weight[0, 0] = 1
        net.gate.channel_out.weight[0, 0] = 1
        net.conv.weight[0, 0, 1, 1] = 1  # the cell itself
        net.class_logits.weight[:, 0, 0, 0] = torch.tensor([1.0, 2.0, 0.0, 0.0])
        net.class_logits.bias[3] = 5
    feature = torch.tensor([[[[1.0, -1.0]]]])
    crops = torch.tensor([[[[0.0, 2.0], [4.0, 2.0]]]])  # mean 2
    gate = 1 / (1 + math.exp(-2))
    expected = torch.tensor([[[gate, 2 * gate], [0, 5], [0, 0], [0, 5]]])  # cell by cell, two anchors each
    torch.testing.assert_close(net(feature, crops), expected)


def test_similarity_by_hand() -> None:
    net = QuerySimilarityNet(2).eval()
    with torch.no_grad():
        net.norm.running_mean.copy_(torch.tensor([0.5, 0.0]))
        net.norm.running_var.copy_(torch.tensor([4.0, 1.0]) - net.norm.eps)
        net.logits.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        net.logits.bias.copy_(torch.tensor([0.0, 3.0]))
    found = net(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [0.6, 0.8]]))
    # Squared differences (1, 1) and (0, 0); normalised (0.25, 1) and (-0.25, 0).
    torch.testing.assert_close(found, torch.tensor([[0.25, 2.0], [-0.25, 3.0]]))
    assert net.train()(torch.zeros(1, 2), torch.zeros(1, 2)).isfinite().all(), "one row has no batch statistics"


# -- pairs ----------------------------------------------------------------------------------------------------


def labels(*ids: list[int]) -> Labels:
    boxes = [torch.arange(4 * len(rows), dtype=torch.float32).view(-1, 4) + 100 * n for n, rows in enumerate(ids)]
    return Labels.of(boxes, [torch.tensor(rows, dtype=torch.int64) for rows in ids])


def test_queries_are_seen_in_another_image_where_there_is_one() -> None:
    batch = labels([-2, 4, -1, 7], [7, 2], [2], [-1, 9], [-1], [])
    seen: list[set[tuple[int, int, float]]] = [set() for _ in range(6)]
    for seed in range(60):
        torch.manual_seed(seed)
        pairs = choose_queries(batch, (64, 48))
        for image, (there, person, box) in enumerate(zip(pairs.images, pairs.person_ids, pairs.boxes, strict=True)):
            seen[image].add((int(there), int(person), float(box[0])))
    assert seen[0] == {(1, 7, 100.0)}, "person 7, as the second image shows them"
    assert seen[1] == {(0, 7, 12.0), (2, 2, 200.0)}, "either of two, each in the other's image"
    assert seen[2] == {(1, 2, 104.0)}
    assert seen[3] == {(3, 9, 304.0)}, "nobody of the batch: the image itself"
    everybody = {(0, 4, 4.0), (0, 7, 12.0), (1, 7, 100.0), (1, 2, 104.0), (2, 2, 200.0), (3, 9, 304.0)}
    assert seen[4] == seen[5] == everybody, "without an identity: anybody, who is not there"


def test_a_batch_without_identities_asks_for_nobody() -> None:
    pairs = choose_queries(labels([-1], []), (64, 48))
    assert pairs.person_ids.tolist() == [-1, -1]
    assert pairs.images.tolist() == [0, 1]
    assert pairs.boxes.tolist() == [[0, 0, 64, 48], [0, 0, 64, 48]]


# -- training -------------------------------------------------------------------------------------------------


def test_losses_and_gradients_of_one_step_reach_every_part() -> None:
    model = qeeps().train()
    model(frames(), BOXES, IDS)
    model.update_memories()  # against rows of zeros nothing is learnt
    output = model(frames(), BOXES, IDS)
    assert list(output.losses) == [
        "rpn_class", "rpn_box", "refine_class", "refine_box", "identity", "query_class", "similarity",
    ]  # fmt: skip
    assert output.taps["feature.2"].shape[0] == 2, "of the gallery images alone"
    for part, names in (
        ("query_class", ("query_proposals.", "trunk.qsse")),
        ("similarity", ("similarity.", "head.embedding", "trunk.qsse")),
        ("identity", ("head.embedding", "trunk.qsse")),
    ):
        model.zero_grad()
        output.losses[part].backward(retain_graph=True)
        for name in names:
            grads = [p.grad for key, p in model.named_parameters() if key.startswith(name) and p.grad is not None]
            assert any(grad.abs().sum() > 0 for grad in grads), (part, name)
    torch.stack(list(output.losses.values())).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_query_class_calls_other_people_negative() -> None:
    model = qeeps().train()
    asked = {}

    class Loud(nn.Module):
        def forward(self, feature: Tensor, crops: Tensor) -> Tensor:
            asked["crops"] = crops
            logits = torch.zeros(len(feature), len(model.anchors), 2)
            # Sure of every anchor that lies on the query's person, of no other: the loss is nearly 0.
            for image, boxes in enumerate((BOXES[0][:1], BOXES[1])):
                nobody = torch.zeros(0, 4)
                on = match(
                    model.anchors, boxes, nobody, positive_iou=0.7, negative_iou=0.3, best_for_each=True
                ).positive
                logits[image, on, 1], logits[image, ~on, 1] = 30, -30
            return logits

    model.query_proposals = Loud()  # type: ignore[assignment]  # stands in for the network
    assert float(model(frames(), BOXES, IDS).losses["query_class"]) < 1e-6
    assert asked["crops"].shape == (2, 32, 6, 6)


@pytest.mark.parametrize("rows", ["both", "gallery", "query"])
def test_whose_rows_the_memory_gets(rows: str) -> None:
    model = qeeps(identity_rows=rows).train()
    written: list[Tensor] = []
    model.memory.remember = lambda embeddings, ids: written.append(ids)  # type: ignore[method-assign]
    output = model(frames(), BOXES, IDS)
    gallery = output.roi_person_ids[output.targets["rcn_positive"]].tolist()
    assert {3, -1} <= set(gallery)
    expected = {"both": [*gallery, 3, 3], "gallery": gallery, "query": [3, 3]}[rows]
    assert written[0].tolist() == expected
    assert output.losses["identity"].requires_grad


def test_a_batch_without_people_has_losses_of_zero() -> None:
    model = qeeps().train()
    output = model(frames(), [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    for name in ("identity", "query_class", "similarity"):
        assert float(output.losses[name].detach()) == 0
    torch.stack(list(output.losses.values())).sum().backward()
    grads = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_ten_steps_lower_the_loss() -> None:
    model = qeeps().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.003)
    losses = []
    for _ in range(10):
        torch.manual_seed(0)
        parts = model.losses(frames(), BOXES, IDS)
        losses.append({name: float(value) for name, value in parts.items()})
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        optimiser.step()
        model.update_memories()
    assert sum(losses[-1].values()) < 0.7 * sum(losses[0].values())
    for name in ("query_class", "similarity"):
        assert losses[-1][name] < losses[0][name]


# -- the two ways to answer -----------------------------------------------------------------------------------


def test_a_query_without_say_leaves_the_answers_of_no_query() -> None:
    model = steady(without_gates(qeeps()))
    assert isinstance(model, QEEPS)
    alone = model.detect(frames())
    pairs = model.detect_pairs(frames(), frames(seed=5), boxes_of(2))
    for one, other in zip(alone, pairs, strict=True):
        assert len(one) == len(other) > 0
        torch.testing.assert_close(torch.from_numpy(one.boxes_xyxy), torch.from_numpy(other.detections.boxes_xyxy))
        torch.testing.assert_close(torch.from_numpy(one.embeddings), torch.from_numpy(other.detections.embeddings))
    query = model.embed(frames(seed=5)[:1], [boxes_of(1)])[0]
    logits = model.similarity(query.expand(len(alone[0]), -1), torch.from_numpy(alone[0].embeddings))
    expected = F.softmax(logits, dim=1)[:, 1]
    torch.testing.assert_close(torch.from_numpy(pairs[0].similarities), expected)


def test_another_query_gets_other_answers() -> None:
    model = steady(qeeps())
    assert isinstance(model, QEEPS)
    one = model.detect_pairs(frames()[:1], frames(seed=5)[:1], boxes_of(1))[0]
    other = model.detect_pairs(frames()[:1], frames(seed=6)[:1], boxes_of(1))[0]
    shared = min(len(one), len(other))
    assert shared > 0
    assert abs(one.detections.embeddings[:shared] - other.detections.embeddings[:shared]).max() > 1e-6


def test_a_pair_costs_its_parts() -> None:
    model = qeeps().eval()
    found, frame = count_pair(model), torch.empty((1, INPUT_WH[1], INPUT_WH[0], 3), dtype=torch.uint8, device="meta")
    assert found is not None
    crop = torch.empty(model.person_input_shape, device="meta")
    once = module_macs(model.scene_module(), frame)
    cells, channels = (INPUT_WH[0] // 16) * (INPUT_WH[1] // 16), model.trunk.out_channels
    anchors = len(model.anchor_shapes)
    gates = sum(3 * c * max(4, 2 * c // 16) for c in (8, 16, 32))
    subnet = cells * (9 * channels * 16 + 16 * 6 * anchors)
    guided = cells * (9 * channels * 16 + 16 * 2 * anchors) + 2 * channels * max(4, channels // 16)
    # Both images through the trunk, gates once, one region proposal network, one QRPN.
    assert found.scene_macs == 2 * (once - subnet - gates) + gates + subnet + guided
    assert found.person_macs == module_macs(model.person_module(), crop)
    assert found.similarity_macs == 2 * 16
    assert (found.people, found.macs) == (8, found.scene_macs + 9 * found.person_macs + 8 * 32)
    assert count_model(model, subject="qeeps").pair == found
    torch.manual_seed(1)
    oim = OimRecipe.model_validate({**SMALL, "trunk": TRUNK})
    assert count_pair(build_model(oim, Preprocess(input_wh=INPUT_WH), 5)) is None


# -- bad input ------------------------------------------------------------------------------------------------


def test_impossible_recipes_are_one_line() -> None:
    recipe = {
        "name": "x", "model": {"kind": "qeeps", "trunk": TRUNK}, "preprocess": {"input_wh": INPUT_WH},
        "data": {"root": "nowhere"},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"set data\.images_per_identity to 2 or more") as caught:
        validate(TrainRecipe, recipe, where="test")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="a stage is there twice"):
        validate(QeepsRecipe, {"trunk": TRUNK, "query_levels": [1, 1]}, where="test")
    with pytest.raises(InputError, match="trunk"):
        validate(QeepsRecipe, {"trunk": {"kind": "depthwise"}}, where="test")
