"""The graphs that are exported: fixed shapes, no plugin, nothing that depends on data.

Every operator here passes TensorRT's parser without a GPU (tests put it through): top-k instead of thresholds,
non-maximum suppression as a fixed number of matrix steps, RoI pooling as ``grid_sample``, padded outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.models.boxes import clip, decode

if TYPE_CHECKING:
    from personsearch.models.detectors.two_stage import TwoStageSearch

SAMPLES_PER_BIN = 2
MIN_SIDE_PX = 1.0


def pairwise_iou(boxes: Tensor) -> Tensor:
    """``(B, K, K)`` overlaps of ``(B, K, 4)``; empty boxes overlap nothing."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    sides = (high - low).clamp(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    area = size[..., 0] * size[..., 1]
    return overlap / (area[:, :, None] + area[:, None, :] - overlap).clamp(min=1e-6)


def fixed_nms(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression over K sorted boxes as K - 1 matrix steps.

    Each step keeps a box unless a kept higher-scored one overlaps it. After t steps the first t + 1 boxes are
    settled, because each depends only on those before it; so K - 1 steps give exactly the greedy result for
    every input, with no data-dependent shape and no loop operator.

    Args:
        boxes: ``(B, K, 4)`` xyxy by descending score.
        valid: ``(B, K)``, 1 or 0; a box of 0 neither is kept nor suppresses.
        iou_threshold: a box that overlaps a kept one by more is dropped.

    Returns:
        ``(B, K)`` of 1 (kept) and 0, in the dtype of ``valid``.
    """
    count = boxes.shape[1]
    order = torch.arange(count, device=boxes.device)
    before = (order[None, :] < order[:, None]).to(valid.dtype)  # (K, K): column outranks row
    suppresses = (pairwise_iou(boxes) > iou_threshold).to(valid.dtype) * before  # (B, K, K)
    kept = valid.unsqueeze(-1)  # (B, K, 1)
    start = kept
    for _ in range(count - 1):
        kept = F.relu(start - suppresses @ kept)
    return kept.squeeze(-1)


def grid_pool(feature: Tensor, boxes: Tensor, pool_size: int, stride: int) -> Tensor:
    """RoIAlign (aligned, sampling ratio 2) as bilinear ``grid_sample`` and a 2x2 average.

    Equal to ``torchvision.ops.roi_align`` for boxes inside the frame, and made of operators that every engine
    has; RoIAlign itself is a plugin in TensorRT.

    Args:
        feature: ``(B, C, h, w)``.
        boxes: ``(B, K, 4)`` xyxy input pixels, inside the frame.
        pool_size: side of the output.
        stride: input pixels for one step on the map.

    Returns:
        ``(B * K, C, pool_size, pool_size)``.
    """
    batch, count = boxes.shape[:2]
    channels, height, width = feature.shape[1:]
    points = pool_size * SAMPLES_PER_BIN
    step = (torch.arange(points, device=feature.device, dtype=feature.dtype) + 0.5) / points
    x = boxes[..., 0:1] + (boxes[..., 2:3] - boxes[..., 0:1]) * step  # (B, K, points), input pixels
    y = boxes[..., 1:2] + (boxes[..., 3:4] - boxes[..., 1:2]) * step
    x = x * (2 / (width * stride)) - 1
    y = y * (2 / (height * stride)) - 1
    grid = torch.stack(
        [x[:, :, None, :].expand(-1, -1, points, -1), y[:, :, :, None].expand(-1, -1, -1, points)], dim=-1
    ).reshape(batch, count * points, points, 2)
    sampled = F.grid_sample(feature, grid, mode="bilinear", padding_mode="border", align_corners=False)
    pooled = F.avg_pool2d(sampled, SAMPLES_PER_BIN)  # (B, C, K * pool, pool)
    pooled = pooled.reshape(batch, channels, count, pool_size, pool_size).permute(0, 2, 1, 3, 4)
    return pooled.reshape(batch * count, channels, pool_size, pool_size)


def gather_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Rows ``indices`` ``(B, K)`` of ``(B, N, D)``, as ``(B, K, D)``."""
    return values.gather(1, indices.unsqueeze(-1).expand(-1, -1, values.shape[2]))


def _valid(boxes: Tensor) -> Tensor:
    return ((boxes[..., 2:] - boxes[..., :2]).amin(dim=-1) >= MIN_SIDE_PX).to(boxes.dtype)


class ScenePart(nn.Module):
    """What runs once a frame: frames to feature map, anchor margins ``(B, A)`` and deltas ``(B, A, 4)``."""

    def __init__(self, model: TwoStageSearch) -> None:
        super().__init__()
        self.normalise, self.trunk, self.subnet = model.normalise, model.trunk, model.subnet

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature = self.trunk(self.normalise(frames), {})
        logits, deltas = self.subnet(feature)
        return feature, logits[..., 1] - logits[..., 0], deltas


class PersonPart(nn.Module):
    """What runs once a person: a pooled crop to score, deltas and embedding; no identity layer."""

    def __init__(self, model: TwoStageSearch) -> None:
        super().__init__()
        self.head = model.head

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.head(pooled)
        score = torch.sigmoid(output.class_logits[:, 1] - output.class_logits[:, 0])
        return score, output.box_deltas, F.normalize(output.raw_embedding)


class SearchGraph(nn.Module):
    """uint8 frames to boxes (B, K, 4), scores (B, K) and embeddings (B, K, D), rows by descending score."""

    anchors: Tensor

    def __init__(self, model: TwoStageSearch, max_detections: int) -> None:
        super().__init__()
        self.scene, self.person = ScenePart(model), PersonPart(model)
        self.register_buffer("anchors", model.anchors.unsqueeze(0), persistent=False)
        self.input_wh = model.preprocess.input_wh
        self.stride, self.pool_size = model.trunk.stride, model.pool_size
        self.pre_nms, self.proposals, self.max_detections = model.pre_nms, model.proposals, max_detections
        self.rpn_nms_iou, self.nms_iou = model.rpn_nms_iou, model.nms_iou

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature, margins, deltas = self.scene(frames)
        boxes, valid = self._propose(margins, deltas)
        score, refinement, embedding = self.person(grid_pool(feature, boxes, self.pool_size, self.stride))
        batch, count = valid.shape
        boxes = clip(decode(refinement.reshape(batch, count, 4), boxes, (10.0, 10.0, 5.0, 5.0)), self.input_wh)
        scores = score.reshape(batch, count) * valid * _valid(boxes)
        scores, order = scores.topk(count, dim=1)
        boxes = gather_rows(boxes, order)
        kept = fixed_nms(boxes, (scores > 0).to(scores.dtype), self.nms_iou)
        scores, rank = (scores * kept).topk(self.max_detections, dim=1)
        embeddings = gather_rows(embedding.reshape(batch, count, -1), order.gather(1, rank))
        return gather_rows(boxes, rank), scores, embeddings

    def _propose(self, margins: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        margins, indices = margins.topk(self.pre_nms, dim=1)
        anchors = gather_rows(self.anchors.expand(margins.shape[0], -1, -1), indices)
        boxes = clip(decode(gather_rows(deltas, indices), anchors, (1.0, 1.0, 1.0, 1.0)), self.input_wh)
        kept = fixed_nms(boxes, _valid(boxes), self.rpn_nms_iou)
        # Kept boxes first, in their order: a rank that falls by one a row, plus a jump for the kept.
        order = torch.arange(self.pre_nms, 0, -1, device=kept.device, dtype=kept.dtype) + kept * self.pre_nms
        count = min(self.proposals, self.pre_nms)
        rank = order.topk(count, dim=1).indices
        return gather_rows(boxes, rank), kept.gather(1, rank)


class QueryGraph(nn.Module):
    """A frame and boxes on it to embeddings: the same trunk and head, without detection."""

    def __init__(self, model: TwoStageSearch, query_boxes: int) -> None:
        super().__init__()
        self.normalise, self.trunk, self.person = model.normalise, model.trunk, PersonPart(model)
        self.stride, self.pool_size = model.trunk.stride, model.pool_size
        self.query_boxes, self.input_wh = query_boxes, model.preprocess.input_wh

    def forward(self, frames: Tensor, boxes: Tensor) -> Tensor:
        feature = self.trunk(self.normalise(frames), {})
        pooled = grid_pool(feature, clip(boxes, self.input_wh), self.pool_size, self.stride)
        _, _, embeddings = self.person(pooled)
        result: Tensor = embeddings.reshape(1, self.query_boxes, -1)
        return result
