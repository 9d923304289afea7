"""What every search network keeps to, whatever its kind; the tests of each kind call these."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from personsearch.models import SearchModel
from personsearch.models.search_model import TrainOutput


def assert_graph_equals_detect(model: SearchModel, images: Tensor) -> None:
    """`SearchModel.deployable` finds in ``(N, H, W, 3)`` frames whom `SearchModel.detect` finds, somebody in each."""
    with torch.no_grad():
        boxes, scores, *embeddings = model.deployable()(images)
    assert len(embeddings) == (0 if model.embedding_dim == 0 else 1)
    for row, expected in enumerate(model.detect(images)):
        count = len(expected)
        assert count > 0
        assert int((scores[row] > 0).sum()) == count
        np.testing.assert_allclose(scores[row, :count], expected.scores, atol=1e-5)
        np.testing.assert_allclose(boxes[row, :count], expected.boxes_xyxy, atol=1e-2)
        for part in embeddings:
            np.testing.assert_allclose(part[row, :count], expected.embeddings, atol=1e-4)


def assert_query_graph_equals_embed(model: SearchModel, image: Tensor, boxes_xyxy: Tensor) -> None:
    """`SearchModel.deployable_query` on ``(1, H, W, 3)`` and ``(N, 4)`` says what `SearchModel.embed` does."""
    with torch.no_grad():
        found = model.deployable_query(len(boxes_xyxy))(image, boxes_xyxy.unsqueeze(0))[0]
    torch.testing.assert_close(found, model.embed(image, [boxes_xyxy])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(boxes_xyxy)))


def assert_taps_repeat(model: SearchModel, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> None:
    """At the RoIs and anchors that were trained on, a network in evaluation mode has the training's taps."""
    output = model.eval()(images, boxes, person_ids)
    again = model.taps(images, output.rois, output.anchors)
    assert set(again) == set(output.taps)
    for name, value in output.taps.items():
        torch.testing.assert_close(again[name], value, msg=name)


def train_on_nobody(model: SearchModel, images: Tensor) -> TrainOutput:
    """Forward and backward without a person: no identity loss, and every gradient is finite."""
    output: TrainOutput = model(
        images, [torch.zeros((0, 4))] * len(images), [torch.zeros(0, dtype=torch.int64)] * len(images)
    )
    torch.stack(list(output.losses.values())).sum().backward()
    assert output.losses["identity"] == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    return output
