"""The host's part of a split search: every kind of network answers as its joined graph does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from export_models import PREPROCESS, scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn

from personsearch.core.errors import InputError
from personsearch.core.model_recipes import ModelRecipe
from personsearch.core.split import PERSON_INPUTS, PERSON_OUTPUTS, SCENE_OUTPUTS, RunGraph, SplitSearch, selected
from personsearch.models import SearchModel, build_model
from personsearch.models.deployable import fixed_nms

RESNET = {"kind": "resnet_c4", "depth": 18, "width": 8}
COMMON = {
    "trunk": RESNET, "rpn_channels": 8, "pool_size": 4, "rois_per_image": 8, "train_proposals": 8, "proposals": 10,
    "pre_nms": 24,
}  # fmt: skip
REGION = {
    **COMMON, "anchors": {"kind": "person", "heights": [24, 40]}, "train_pre_nms": 32, "graph_pre_nms": 24,
    "graph_proposals": 10,
}  # fmt: skip
MEMORY = {**REGION, "embedding_dim": 12, "queue_size": 4}
HDL = {"kind": "hdl", "anchor_heights": [24, 40], "attention": "none", **COMMON}
MODELS: dict[str, dict[str, object]] = {
    "hdl": HDL,
    "hdl, embedded once refined": {**HDL, "embed_refined": True},
    "faster_rcnn": {"kind": "faster_rcnn", **REGION},
    "oim": {"kind": "oim", **MEMORY},
    "nae": {"kind": "nae", **MEMORY},
}
SEQNET = {"kind": "seqnet", **MEMORY}


def network(recipe: dict[str, object]) -> SearchModel:
    """In evaluation mode; batch norm has seen frames, and boxes differ in score, as after training."""
    torch.manual_seed(0)
    checked: ModelRecipe = TypeAdapter(ModelRecipe).validate_python(recipe)
    model = build_model(checked, PREPROCESS, person_count=3)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    images = torch.stack([torch.from_numpy(frame) for frame in scenes(3)])
    boxes = [torch.tensor([[10.0, 10, 34, 70], [60, 20, 84, 80]])] * 3
    with torch.no_grad():
        model(images, boxes, [torch.tensor([0, 1])] * 3)
        for name, parameter in model.named_parameters():
            if name.endswith(("class_logits.weight", "box_deltas.weight")):
                parameter.mul_(20 if name.startswith("subnet") else 4)
    return model.eval()


class Counted:
    """A module as a graph; ``runs`` counts."""

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.module, self.inputs, self.outputs, self.runs = module, inputs, outputs, 0

    @torch.no_grad()
    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.runs += 1
        answers = self.module(*(torch.from_numpy(np.ascontiguousarray(feeds[name])) for name in self.inputs))
        return {name: answer.numpy() for name, answer in zip(self.outputs, answers, strict=False)}


def split(model: SearchModel, person_boxes: int, floor: float = 0.0, threshold: float = 0.0) -> SplitSearch:
    parts = model.deployable_split(person_boxes, floor)
    scene: RunGraph = Counted(parts.scene, ("frames",), SCENE_OUTPUTS)  # type: ignore[assignment]  # plain dicts
    person: RunGraph = Counted(parts.person, PERSON_INPUTS, PERSON_OUTPUTS)  # type: ignore[assignment]
    rows, dim = model.max_detections, model.embedding_dim
    return SplitSearch(scene, person, parts.settings, model.preprocess.input_wh, rows, dim, threshold)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_network_answers_as_its_joined_graph(kind: str) -> None:
    model = network(MODELS[kind])
    joined, people = model.deployable(), 0
    searches = [split(model, person_boxes) for person_boxes in (1, 4, 16)]
    for frame in scenes(3):
        with torch.no_grad():
            boxes, scores, *rest = (part[0].numpy() for part in joined(torch.from_numpy(frame)[None]))
        used = scores > 0
        people += int(used.sum())
        for search in searches:
            found_boxes, found_scores, embeddings = search.search(frame[None])
            np.testing.assert_allclose(found_scores, scores, atol=1e-5)
            np.testing.assert_allclose(found_boxes[used], boxes[used], atol=1e-3)
            if rest:
                np.testing.assert_allclose(embeddings[used], rest[0][used], atol=1e-5)
            else:
                assert embeddings.shape == (len(scores), 0)
    assert people > 6


def test_boxes_on_a_frame_are_embedded_as_by_the_query_graph() -> None:
    model, frame = network(MODELS["hdl, embedded once refined"]), scenes(1)[0]
    boxes = np.array([[-9, 5, 30, 70], [40, 20, 62, 90], [90, 30, 140, 95]], np.float32)
    with torch.no_grad():
        expected = model.deployable_query(3)(torch.from_numpy(frame)[None], torch.from_numpy(boxes)[None])[0].numpy()
    np.testing.assert_allclose(split(model, 2).embed(frame[None], boxes), expected, atol=1e-5)


def test_floor_and_threshold_save_runs_and_change_no_one_above_them() -> None:
    model = network(MODELS["hdl, embedded once refined"])
    everything, frame = split(model, 1), scenes(1)[0][None]
    boxes, scores, embeddings = everything.search(frame)
    threshold = float(np.median(scores[scores > 0]))
    strict = split(model, 1, threshold=threshold)
    above = scores >= threshold
    for found, expected in zip(strict.search(frame), (boxes, scores, embeddings), strict=True):
        np.testing.assert_array_equal(found[: above.sum()], expected[above])
        assert not found[above.sum() :].any()
    objectness = everything.scene({"frames": frame})["objectness"][0]
    floored = split(model, 1, floor=float(np.sort(objectness)[-2]))
    floored.search(frame)
    looked_at = int((objectness >= np.sort(objectness)[-2]).sum())
    assert looked_at <= floored.person.runs <= 2 * looked_at < everything.person.runs  # type: ignore[attr-defined]


def test_seqnet_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be split"):
        network(SEQNET).deployable_split(4, 0.0)


@given(st.integers(0, 10_000), st.integers(0, 40), st.floats(1, 200), st.sampled_from([0.3, 0.4, 0.5, 0.7]))
@settings(max_examples=60)
def test_selection_is_the_graphs(seed: int, count: int, spread: float, nms_iou: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, spread, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.2, 60, (count, 2))], axis=1).astype(np.float32)
    margins = rng.choice(np.linspace(-9, 30, 50), count).astype(np.float32)  # ties among them
    possible = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1
    order = np.argsort(-margins, kind="stable")
    kept = fixed_nms(
        torch.from_numpy(boxes[order])[None], torch.from_numpy(possible[order].astype(np.float32))[None], nms_iou
    )[0]
    assert selected(boxes, margins, nms_iou).tolist() == order[kept.numpy() > 0].tolist()


def test_selection_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [50, 0, 50.5, 10]], np.float32)
    # The second overlaps the first by 9/11 and is the better one; the last is half a pixel wide.
    assert selected(boxes, np.array([1, 2, -1, 9], np.float32), 0.5).tolist() == [1, 2]
    assert selected(boxes, np.array([1, 2, -1, 9], np.float32), 0.5, 0.3).tolist() == [1]
    assert selected(boxes, np.array([1, 2, np.nan, 9], np.float32), 0.5, 0.3).tolist() == [1, 2]
