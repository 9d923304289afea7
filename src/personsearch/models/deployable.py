"""The graphs that are exported: fixed shapes, no plugin, nothing that depends on data.

Every operator here passes TensorRT's parser without a GPU (tests put it through): top-k instead of thresholds,
non-maximum suppression as a fixed number of matrix steps, RoI pooling as two matrix products, padded outputs. Engines
for CPUs have RoIAlign and are faster with it: `pool_by` makes a graph theirs (docs/adr/0022).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from personsearch.core.manifest import Pooling
from personsearch.models.boxes import clip, decode
from personsearch.models.peaks import DROPPED, peaks_only

if TYPE_CHECKING:
    from personsearch.models.detectors.regions import RegionSearch

SAMPLES_PER_BIN = 2
MIN_SIDE_PX = 1.0


def margins_of(logits: Tensor) -> Tensor:
    """The logit of the person probability, ``(...)`` of class logits ``(..., 2)``."""
    return logits[..., 1] - logits[..., 0]


def pairwise_iou(boxes: Tensor) -> Tensor:
    """``(B, K, K)`` overlaps of ``(B, K, 4)``; empty boxes overlap nothing."""
    low = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    sides = (high - low).clamp(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    area = size[..., 0] * size[..., 1]
    return overlap / (area[:, :, None] + area[:, None, :] - overlap).clamp(min=1e-6)


def fixed_nms(boxes: Tensor, valid: Tensor, iou_threshold: float, steps: int | None = None) -> Tensor:
    """Greedy non-maximum suppression over K sorted boxes as matrix steps, without a shape or a loop that data decide.

    Each step keeps a box unless a kept higher-scored one overlaps it. It settles the boxes whose suppressors are
    settled, so K - 1 steps give exactly the greedy result for every input; T steps do so wherever no fate is handed on
    more than T times. In a queue of people, each overlapping the next alone, every one hands it on; around people
    it took up to 12 steps (docs/adr/0023).

    Beyond T steps: what is kept after an even number of steps holds everybody whom greedy suppression keeps, after an
    odd number nobody whom it drops (a step turns the one into the other). T is odd, therefore: a box that is not
    settled by then is dropped, and no person is reported twice for want of steps.

    Beyond the K boxes nothing is seen. What a graph cuts off before (``graph_pre_nms`` by score) is lost, but it
    changes nothing among the K: a box depends on no box of lower score.

    Args:
        boxes: ``(B, K, 4)`` xyxy by descending score.
        valid: ``(B, K)``, 1 or 0; a box of 0 neither is kept nor suppresses.
        iou_threshold: a box that overlaps a kept one by more is dropped.
        steps: T, odd, at most; none for K - 1.

    Returns:
        ``(B, K)`` of 1 (kept) and 0, in the dtype of ``valid``.

    Raises:
        ValueError: ``steps`` is even.
    """
    if steps is not None and steps % 2 == 0:
        raise ValueError(f"{steps} steps: an even number may keep a box beside the one that it is a copy of")
    count = boxes.shape[1]
    order = torch.arange(count, device=boxes.device)
    before = (order[None, :] < order[:, None]).to(valid.dtype)  # (K, K): column outranks row
    suppresses = (pairwise_iou(boxes) > iou_threshold).to(valid.dtype) * before  # (B, K, K)
    kept = valid.unsqueeze(-1)  # (B, K, 1)
    start = kept
    for _ in range(count - 1 if steps is None else min(count - 1, steps)):
        kept = F.relu(start - suppresses @ kept)
    return kept.squeeze(-1)


def matrix_pool(feature: Tensor, boxes: Tensor, pool_hw: tuple[int, int], stride: int) -> Tensor:
    """RoIAlign (aligned, sampling ratio 2) as two matrix products, rows first, then columns.

    Bilinear sampling on a grid of a box is separable, and so is the average over a bin: each output row is a
    weighted sum of the map's rows, each output column one of its columns. Equal to ``torchvision.ops.roi_align`` for
    boxes inside the frame, without a plugin (TensorRT's RoIAlign is one), and several times faster in ONNX
    Runtime than the same pooling by ``grid_sample`` (docs/adr/0004).

    Args:
        feature: ``(B, C, h, w)``.
        boxes: ``(B, K, 4)`` xyxy input pixels, inside the frame.
        pool_hw: height and width of the output.
        stride: input pixels for one step on the map.

    Returns:
        ``(B * K, C, *pool_hw)``.
    """
    batch, count = boxes.shape[:2]
    channels, height, width = feature.shape[1:]
    tall, wide = pool_hw
    across = _bin_weights(boxes[..., 0:1], boxes[..., 2:3], wide, width, stride)  # (B, K, wide, w)
    down = _bin_weights(boxes[..., 1:2], boxes[..., 3:4], tall, height, stride)  # (B, K, tall, h)
    lines = feature.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    rows = down.reshape(batch, count * tall, height) @ lines  # (B, K * tall, w * C)
    rows = rows.reshape(batch * count, tall, width, channels)
    pooled = across.reshape(batch * count, 1, wide, width) @ rows  # (B * K, tall, wide, C)
    return pooled.permute(0, 3, 1, 2)


def operator_pool(feature: Tensor, boxes: Tensor | list[Tensor], pool_hw: tuple[int, int], stride: int) -> Tensor:
    """RoIAlign as one operator, as in training: what `matrix_pool` computes, for engines that have it.

    ``boxes`` may be a list with another number of them, ``(N, 4)``, for each frame.
    """
    pooled: Tensor = roi_align(
        feature, list(boxes), pool_hw, spatial_scale=1 / stride, sampling_ratio=SAMPLES_PER_BIN, aligned=True
    )
    return pooled


class RoiPool(nn.Module):
    """Cuts boxes out of a map, as `pool_by` says.

    Attributes:
        pooling: by matrix products or by RoIAlign.
    """

    def __init__(self, model: RegionSearch) -> None:
        super().__init__()
        self.stride, self.pool_hw = model.trunk.stride, model.settings.pool_hw
        self.pooling: Pooling = "matrix"

    def forward(self, feature: Tensor, boxes: Tensor) -> Tensor:
        """``(B, C, h, w)`` and ``(B, K, 4)`` xyxy input pixels to ``(B * K, C, *pool_hw)``."""
        pool = matrix_pool if self.pooling == "matrix" else operator_pool
        return pool(feature, boxes, self.pool_hw, self.stride)


def pool_by(graph: nn.Module, pooling: Pooling) -> None:
    """Makes an exported graph pool by matrix products or by RoIAlign; the values are the same."""
    for part in graph.modules():
        if isinstance(part, RoiPool):
            part.pooling = pooling


def pooling_of(graph: nn.Module) -> Pooling:
    """What `pool_by` made of a graph; ``matrix`` where nothing in it pools."""
    return next((part.pooling for part in graph.modules() if isinstance(part, RoiPool)), "matrix")


def suppress_in(graph: nn.Module, steps: int | None) -> None:
    """Gives every suppression of an exported graph so many steps at most; see `fixed_nms`."""
    for part in graph.modules():
        if isinstance(part, SceneGraph):
            part.suppression_steps = steps


def _bin_weights(low: Tensor, high: Tensor, bins: int, cells: int, stride: int) -> Tensor:
    """``(B, K, bins, cells)``: what each map cell contributes to each bin of ``[low, high]``, ``(B, K, 1)`` each."""
    points = bins * SAMPLES_PER_BIN
    step = (torch.arange(points, device=low.device, dtype=low.dtype) + 0.5) / points
    position = ((low + (high - low) * step) / stride - 0.5).clamp(0, cells - 1)  # (B, K, points), in cells
    distance = position.unsqueeze(-1) - torch.arange(cells, device=low.device, dtype=low.dtype)
    weights = F.relu(1 - distance.abs())  # the bilinear hat
    return weights.reshape(*low.shape[:2], bins, SAMPLES_PER_BIN, cells).mean(dim=3)


def gather_rows(values: Tensor, indices: Tensor) -> Tensor:
    """Rows ``indices`` ``(B, K)`` of ``(B, N, D)``, as ``(B, K, D)``."""
    return values.gather(1, indices.unsqueeze(-1).expand(-1, -1, values.shape[2]))


def _valid(boxes: Tensor) -> Tensor:
    return ((boxes[..., 2:] - boxes[..., :2]).amin(dim=-1) >= MIN_SIDE_PX).to(boxes.dtype)


class ScenePart(nn.Module):
    """What runs once a frame: frames to feature map, anchor margins ``(B, A)`` and deltas ``(B, A, 4)``."""

    def __init__(self, model: RegionSearch) -> None:
        super().__init__()
        self.normalise, self.trunk, self.subnet = model.normalise, model.trunk, model.subnet

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature = self.trunk(self.normalise(frames), {})
        logits, deltas = self.subnet(feature)
        return feature, margins_of(logits), deltas


class MapHead(Protocol):
    """A head that answers from one map of a crop, so that what is not asked for is not computed."""

    def person_map(self, pooled: Tensor) -> Tensor: ...

    def refine(self, person_map: Tensor) -> tuple[Tensor, Tensor]: ...

    def embed(self, person_map: Tensor) -> Tensor: ...


class PersonPart(nn.Module):
    """What runs once a person: a pooled crop to margin, deltas and embedding; no identity layer.

    The margin is the logit of the person probability: it still ranks people where that saturates at 1. With
    ``embed_refined`` the crop goes through the block twice, as in the search graph, once from the proposal and
    once from the refined box; called on one crop this only matters to whoever counts operations.

    For a `MapHead`; a network with another head has a person part of its own, with the same three methods.
    """

    def __init__(self, model: RegionSearch) -> None:
        super().__init__()
        self.head = cast(MapHead, model.head)
        self.embed_refined = model.settings.embed_refined

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(R, C, h, w)`` to margins ``(R,)``, deltas ``(R, 4)`` and unit embeddings ``(R, D)``."""
        if self.embed_refined:
            return *self.refine(pooled), self.embed(pooled)
        return self.once(pooled)

    def once(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, all of it from one pass of the crop."""
        person_map = self.head.person_map(pooled)
        logits, deltas = self.head.refine(person_map)
        return margins_of(logits), deltas, F.normalize(self.head.embed(person_map))

    def refine(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Margins ``(R,)`` and deltas ``(R, 4)`` alone."""
        logits, deltas = self.head.refine(self.head.person_map(pooled))
        return margins_of(logits), deltas

    def embed(self, pooled: Tensor) -> Tensor:
        """Unit embeddings ``(R, D)`` alone."""
        return F.normalize(self.head.embed(self.head.person_map(pooled)))


class SceneGraph(nn.Module):
    """uint8 frames to proposals (B, N, 4) by descending objectness (B, N), and the feature map (B, h, w, C).

    The map's channels are last, as `matrix_pool` reads them: turned once here, not in every run of the person graph.
    What a person costs is not in it: `PersonGraph` answers for each proposal, or for those that are worth it. An unused
    row has objectness 0.
    """

    anchors: Tensor

    def __init__(self, model: RegionSearch) -> None:
        super().__init__()
        settings = model.settings
        self.scene = model.scene_module()
        self.register_buffer("anchors", model.anchors.unsqueeze(0), persistent=False)
        self.input_wh = model.preprocess.input_wh
        self.pre_nms = min(settings.graph_pre_nms, len(model.anchors))
        self.proposals = min(settings.graph_proposals, self.pre_nms)
        self.map_hw, self.proposal_peaks = model.map_hw, settings.proposal_peaks
        self.rpn_nms_iou = settings.rpn_nms_iou
        self.suppression_steps: int | None = None  # `suppress_in` changes it

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        feature, margins, deltas = self.scene(frames)
        boxes, valid, margins = self._propose(margins, deltas)
        return boxes, torch.sigmoid(margins) * valid, feature.permute(0, 2, 3, 1)

    def _propose(self, margins: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Proposals ``(B, N, 4)``, which of them are any, ``(B, N)`` of 1 and 0, and their margins ``(B, N)``."""
        margins, indices = peaks_only(margins, self.map_hw, self.proposal_peaks).topk(self.pre_nms, dim=1)
        anchors = gather_rows(self.anchors.expand(margins.shape[0], -1, -1), indices)
        boxes = clip(decode(gather_rows(deltas, indices), anchors, (1.0, 1.0, 1.0, 1.0)), self.input_wh)
        valid = _valid(boxes)
        if self.proposal_peaks > 1:  # a map may have fewer peaks than rows
            valid = valid * (margins > DROPPED).to(valid.dtype)
        kept = fixed_nms(boxes, valid, self.rpn_nms_iou, self.suppression_steps)
        # Kept boxes first, in their order: a rank that falls by one a row, plus a jump for the kept.
        order = torch.arange(self.pre_nms, 0, -1, device=kept.device, dtype=kept.dtype) + kept * self.pre_nms
        rank = order.topk(self.proposals, dim=1).indices
        return gather_rows(boxes, rank), kept.gather(1, rank), margins.gather(1, rank)


class PersonGraph(nn.Module):
    """A feature map (1, h, w, C) and P boxes (1, P, 4) to margins (1, P), refined boxes and unit embeddings.

    Margins, not scores: the host orders people by them, and a score of float32 saturates at 1. A detector answers
    margins and refined boxes alone. Everything of a crop comes from one pass through the person block, whatever
    ``embed_refined`` says; where it is set the host asks again for the boxes that survive.
    """

    def __init__(self, model: RegionSearch) -> None:
        super().__init__()
        self.person, self.pool = model.person_module(), RoiPool(model)
        self.embeds, self.input_wh = model.embedding_dim > 0, model.preprocess.input_wh

    def forward(self, feature: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        boxes = clip(boxes, self.input_wh)
        feature = feature.permute(0, 3, 1, 2)
        margins, deltas, embeddings = self.person.once(self.pool(feature, boxes))
        count = boxes.shape[1]
        refined = clip(decode(deltas.reshape(1, count, 4), boxes, (10.0, 10.0, 5.0, 5.0)), self.input_wh)
        answers = margins.reshape(1, count), refined
        return (*answers, embeddings.reshape(1, count, -1)) if self.embeds else answers


class SearchGraph(SceneGraph):
    """uint8 frames to boxes (B, K, 4), scores (B, K) and embeddings (B, K, D), rows by descending score.

    A detector, whose embeddings are of width 0, gives boxes and scores only. Scene and person parts are the model's
    own ``scene_module`` and ``person_module``.
    """

    def __init__(self, model: RegionSearch, max_detections: int) -> None:
        super().__init__(model)
        settings = model.settings
        self.person, self.pool = model.person_module(), RoiPool(model)
        # A copy, not the head again: exporters fold a batch norm only into a convolution that is used once.
        self.embedder = copy.deepcopy(self.person) if settings.embed_refined else None
        self.embeds, self.max_detections = model.embedding_dim > 0, max_detections
        self.nms_iou = settings.nms_iou

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        feature, margins, deltas = self.scene(frames)
        boxes, valid, _ = self._propose(margins, deltas)
        pooled = self.pool(feature, boxes)
        if self.embedder is None:
            margins, deltas, embeddings = self.person(pooled)
        else:
            margins, deltas = self.person.refine(pooled)
        boxes, scores, rank = self._select(boxes, valid, margins, deltas)
        if not self.embeds:
            return boxes, scores
        if self.embedder is not None:
            embeddings = self.embedder.embed(self.pool(feature, boxes))
            return boxes, scores, embeddings.reshape(*scores.shape, -1)
        return boxes, scores, gather_rows(embeddings.reshape(*valid.shape, -1), rank)

    def _select(self, boxes: Tensor, valid: Tensor, margins: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refined boxes ``(B, K, 4)`` that survive NMS, their scores ``(B, K)`` and which proposals they come from."""
        batch, count = valid.shape
        boxes = clip(decode(deltas.reshape(batch, count, 4), boxes, (10.0, 10.0, 5.0, 5.0)), self.input_wh)
        valid = valid * _valid(boxes)
        margins = torch.where(valid > 0, margins.reshape(batch, count), DROPPED)
        margins, order = margins.topk(count, dim=1)
        boxes = gather_rows(boxes, order)
        kept = fixed_nms(boxes, valid.gather(1, order), self.nms_iou, self.suppression_steps)
        margins, rank = torch.where(kept > 0, margins, DROPPED).topk(self.max_detections, dim=1)
        scores = torch.sigmoid(margins) * kept.gather(1, rank)
        return gather_rows(boxes, rank), scores, order.gather(1, rank)


class QueryGraph(nn.Module):
    """A frame and boxes on it to embeddings: the same trunk and head, without detection."""

    def __init__(self, model: RegionSearch, query_boxes: int) -> None:
        super().__init__()
        self.normalise, self.trunk, self.pool = model.normalise, model.trunk, RoiPool(model)
        # Named as in the search graph, whose calibrated ranges this graph takes over by the weights' names.
        self.part = "embedder" if model.settings.embed_refined else "person"
        self.add_module(self.part, model.person_module())
        self.query_boxes, self.input_wh = query_boxes, model.preprocess.input_wh

    def forward(self, frames: Tensor, boxes: Tensor) -> Tensor:
        feature = self.trunk(self.normalise(frames), {})
        pooled = self.pool(feature, clip(boxes, self.input_wh))
        part: PersonPart = getattr(self, self.part)
        return part.embed(pooled).reshape(1, self.query_boxes, -1)
