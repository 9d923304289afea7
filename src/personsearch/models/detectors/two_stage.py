"""HDL's network: person-anchor proposals on a trunk, then one head that refines, scores and embeds each person."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from personsearch.core.detections import Detections
from personsearch.core.preprocess import Preprocess
from personsearch.losses.detection import box_loss, class_loss
from personsearch.losses.identity import identity_loss
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.boxes import clip, decode, encode, person_anchors
from personsearch.models.deployable import PersonPart, QueryGraph, ScenePart, SearchGraph
from personsearch.models.detectors.sampling import match, sample
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.person_head import PersonHead
from personsearch.models.search_model import FrameNormaliser, SearchModel, TrainOutput

PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
REFINE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
ANCHOR_SAMPLES = 256
MIN_SIDE_PX = 1.0


class TwoStageSearch(SearchModel):
    """Detects and embeds people in two stages (HDL, section 3.2; what the paper leaves open is Faster R-CNN's).

    Anchors: positive at IoU 0.7, negative below 0.3, 256 a frame. RoIs: the proposals and the true boxes,
    positive at IoU 0.5, negative below ``roi_negative_iou``. NMS, counts and thresholds are keyword arguments.

    The true boxes always take part in the second stage, also where sampling would have left them out: they are
    what queries are embedded from. With ``embed_refined`` a person is embedded from the refined box instead of
    the proposal, as a query is from its true box, at the price of the person block a second time.
    """

    anchors: Tensor

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        trunk: Trunk,
        subnet: DetectionSubnet,
        head: PersonHead,
        person_count: int,
        anchor_heights: Sequence[float],
        anchor_ratio: float = 2.44,
        pool_size: int = 7,
        pre_nms: int = 128,
        proposals: int = 32,
        rpn_nms_iou: float = 0.7,
        nms_iou: float = 0.4,
        score_threshold: float = 0.5,
        train_proposals: int = 256,
        rois_per_image: int = 64,
        positive_fraction: float = 0.5,
        roi_negative_iou: float = 0.5,
        embed_refined: bool = False,
    ) -> None:
        super().__init__()
        width, height = preprocess.input_wh
        if width % trunk.stride or height % trunk.stride:
            raise ValueError(f"input {width}x{height} is not a multiple of the trunk's stride {trunk.stride}")
        self.preprocess, self.person_count = preprocess, person_count
        self.embedding_dim, self.max_detections = head.embedding_dim, proposals
        self.score_threshold, self.pool_size = score_threshold, pool_size
        self.pre_nms, self.proposals = pre_nms, proposals
        self.rpn_nms_iou, self.nms_iou = rpn_nms_iou, nms_iou
        self.train_proposals, self.rois_per_image = train_proposals, rois_per_image
        self.embed_refined = embed_refined
        self.positive_fraction, self.roi_negative_iou = positive_fraction, roi_negative_iou
        self.normalise = FrameNormaliser(preprocess)
        self.trunk, self.subnet, self.head = trunk, subnet, head
        self._anchor_shape = tuple(anchor_heights), anchor_ratio
        self._map_hw = (height // trunk.stride, width // trunk.stride)
        anchors = person_anchors(*self._anchor_shape, trunk.stride, self._map_hw)
        self.register_buffer("anchors", anchors, persistent=False)
        self.pre_nms = min(pre_nms, len(anchors))

    # -- training ---------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> TrainOutput:
        self._check(images, boxes, person_ids)
        taps: dict[str, Tensor] = {}
        feature = self.trunk(self.normalise(images), taps)
        logits, deltas = self.subnet(feature)
        people = [box[ids != -2] for box, ids in zip(boxes, person_ids, strict=True)]
        ignored = [box[ids == -2] for box, ids in zip(boxes, person_ids, strict=True)]
        kept_ids = [ids[ids != -2] for ids in person_ids]
        anchors, input_wh = self._anchors_of(feature), (images.shape[2], images.shape[1])
        losses = self._proposal_losses(logits, deltas, anchors, people, ignored)
        with torch.no_grad():
            count = self.train_proposals
            proposals = self._propose(logits, deltas, anchors, input_wh, count, pre_nms=4 * count)
        rois, targets, positive, ids = self._sample_rois(proposals, people, ignored, kept_ids)
        output = self.head(self._pool(feature, rois), taps)
        taps["embedding"] = output.raw_embedding
        taps["identity_logits"] = self.head.identity_logits(output.raw_embedding)
        losses["refine_class"] = class_loss(output.class_logits, positive)
        losses["refine_box"] = box_loss(output.box_deltas[positive], targets[positive], len(positive))
        losses["identity"] = identity_loss(taps["identity_logits"], ids)
        return TrainOutput(losses, taps, rois, ids)

    def _check(self, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> None:
        width, height = self.preprocess.input_wh
        stride = self.trunk.stride
        shaped = images.ndim == 4 and images.shape[3] == 3 and not any(side % stride for side in images.shape[1:3])
        if images.dtype != torch.uint8 or not shaped:
            raise ValueError(
                f"images are {images.dtype} {tuple(images.shape)}, expected uint8 (B, {height}, {width}, 3), or in "
                f"multi-scale training other multiples of {stride}"
            )
        if not len(images) == len(boxes) == len(person_ids):
            raise ValueError(f"{len(images)} images, {len(boxes)} box tensors, {len(person_ids)} id tensors")

    def _anchors_of(self, feature: Tensor) -> Tensor:
        """Anchors of a training batch's map, which multi-scale training makes another than the deployed one."""
        map_hw = (feature.shape[2], feature.shape[3])
        if map_hw == self._map_hw:
            return self.anchors
        return person_anchors(*self._anchor_shape, self.trunk.stride, map_hw).to(self.anchors)

    def _proposal_losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, people: list[Tensor], ignored: list[Tensor]
    ) -> dict[str, Tensor]:
        class_logits, labels, box_deltas, targets = [], [], [], []
        for row, (found_people, found_ignored) in enumerate(zip(people, ignored, strict=True)):
            found = match(anchors, found_people, found_ignored, positive_iou=0.7, negative_iou=0.3, best_for_each=True)
            positive, negative = sample(found, ANCHOR_SAMPLES, 0.5)
            class_logits.append(logits[row, torch.cat([positive, negative])])
            labels.append(torch.arange(len(positive) + len(negative), device=logits.device) < len(positive))
            box_deltas.append(deltas[row, positive])
            if len(positive):
                targets.append(encode(found_people[found.person[positive]], anchors[positive], PROPOSAL_WEIGHTS))
            else:
                targets.append(anchors.new_zeros((0, 4)))
        samples = torch.cat(labels)
        return {
            "rpn_class": class_loss(torch.cat(class_logits), samples),
            "rpn_box": box_loss(torch.cat(box_deltas), torch.cat(targets), len(samples)),
        }

    def _sample_rois(
        self, proposals: list[Tensor], people: list[Tensor], ignored: list[Tensor], person_ids: list[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        rois, targets, positives, ids = [], [], [], []
        for candidates, found_people, found_ignored, found_ids in zip(
            proposals, people, ignored, person_ids, strict=True
        ):
            found = match(
                candidates,
                found_people,
                found_ignored,
                positive_iou=0.5,
                negative_iou=self.roi_negative_iou,
                best_for_each=False,
            )
            chosen, negative = sample(found, max(0, self.rois_per_image - len(found_people)), self.positive_fraction)
            person = torch.cat([torch.arange(len(found_people), device=candidates.device), found.person[chosen]])
            kept = torch.cat([found_people, candidates[chosen], candidates[negative]])
            is_positive = torch.arange(len(kept), device=kept.device) < len(person)
            target = kept.new_zeros((len(kept), 4))
            row_ids = torch.full((len(kept),), -1, dtype=torch.int64, device=kept.device)
            if len(person):
                target[: len(person)] = encode(found_people[person], kept[: len(person)], REFINE_WEIGHTS)
                row_ids[: len(person)] = found_ids[person].clamp(min=-1)
            rois.append(kept)
            targets.append(target)
            positives.append(is_positive)
            ids.append(row_ids)
        return rois, torch.cat(targets), torch.cat(positives), torch.cat(ids)

    # -- inference --------------------------------------------------------------------------------------------

    def taps(self, images: Tensor, rois: list[Tensor], anchors: list[Tensor] | None = None) -> dict[str, Tensor]:
        taps: dict[str, Tensor] = {}
        feature = self.trunk(self.normalise(images), taps)
        output = self.head(self._pool(feature, rois), taps)
        taps["embedding"] = output.raw_embedding
        taps["identity_logits"] = self.head.identity_logits(output.raw_embedding)
        return taps

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        feature = self.trunk(self.normalise(images), {})
        logits, deltas = self.subnet(feature)
        input_wh = self.preprocess.input_wh
        proposals = self._propose(logits, deltas, self.anchors, input_wh, self.proposals, pre_nms=self.pre_nms)
        counts = [len(found) for found in proposals]
        output = self.head(self._pool(feature, proposals))
        margins = output.class_logits[:, 1] - output.class_logits[:, 0]
        boxes = clip(decode(output.box_deltas, torch.cat(proposals), REFINE_WEIGHTS), input_wh)
        embeddings = F.normalize(output.raw_embedding)
        rows = zip(*(torch.split(part, counts) for part in (boxes, margins, embeddings)), strict=True)
        found = [self._finish(*row) for row in rows]
        if not self.embed_refined:
            return found
        refined = [torch.from_numpy(one.boxes_xyxy).to(feature.device) for one in found]
        embeddings = F.normalize(self.head(self._pool(feature, refined)).raw_embedding)
        parts = torch.split(embeddings, [len(one) for one in found])
        return [
            Detections(one.boxes_xyxy, one.scores, part.cpu().numpy()) for one, part in zip(found, parts, strict=True)
        ]

    def _finish(self, boxes: Tensor, margins: Tensor, embeddings: Tensor) -> Detections:
        possible = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MIN_SIDE_PX).nonzero().flatten()
        kept = possible[nms(boxes[possible], margins[possible], self.nms_iou)][: self.max_detections]
        found = Detections(
            boxes[kept].cpu().numpy(), margins[kept].sigmoid().cpu().numpy(), embeddings[kept].cpu().numpy()
        )
        return found.above(self.score_threshold)

    @torch.no_grad()
    def embed(self, images: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        feature = self.trunk(self.normalise(images), {})
        output = self.head(self._pool(feature, boxes))
        return list(torch.split(F.normalize(output.raw_embedding), [len(box) for box in boxes]))

    def _propose(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        input_wh: tuple[int, int],
        count: int,
        *,
        pre_nms: int,
    ) -> list[Tensor]:
        margins = logits[..., 1] - logits[..., 0]  # (B, A); monotone in the person probability
        top = margins.topk(min(pre_nms, margins.shape[1]), dim=1)
        found = []
        for row in range(len(margins)):
            indices = top.indices[row]
            boxes = decode(deltas[row, indices], anchors[indices], PROPOSAL_WEIGHTS)
            boxes = clip(boxes, input_wh)
            possible = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MIN_SIDE_PX).nonzero().flatten()
            kept = nms(boxes[possible], top.values[row][possible], self.rpn_nms_iou)[:count]
            found.append(boxes[possible][kept])
        return found

    def _pool(self, feature: Tensor, boxes: list[Tensor]) -> Tensor:
        pooled: Tensor = roi_align(
            feature, boxes, self.pool_size, spatial_scale=1 / self.trunk.stride, sampling_ratio=2, aligned=True
        )
        return pooled  # (R, C, pool, pool)

    # -- deployment -------------------------------------------------------------------------------------------

    def deployable(self, max_detections: int | None = None) -> nn.Module:
        return SearchGraph(self, min(max_detections or self.proposals, self.proposals)).eval()

    def deployable_query(self, query_boxes: int) -> nn.Module:
        return QueryGraph(self, query_boxes).eval()

    def scene_module(self) -> nn.Module:
        return ScenePart(self)

    def person_module(self) -> nn.Module:
        return PersonPart(self)

    @property
    def person_input_shape(self) -> tuple[int, int, int, int]:
        return (1, self.trunk.out_channels, self.pool_size, self.pool_size)
