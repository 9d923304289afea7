"""SeqNet: one head refines the boxes, a second one reads the refined boxes (Li and Miao, AAAI 2021)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from personsearch.core.detections import Detections
from personsearch.core.errors import InputError
from personsearch.losses.detection import box_loss, class_loss
from personsearch.models.boxes import clip, decode
from personsearch.models.deployable import PersonPart, SearchGraph, fixed_nms, gather_rows, margins_of
from personsearch.models.detectors.oim import MemorySearch
from personsearch.models.detectors.regions import MIN_SIDE_PX
from personsearch.models.detectors.sampling import REFINE_WEIGHTS, Labels, RoiSample, sample_rois
from personsearch.models.heads.norm_aware import NormAwareHead
from personsearch.models.heads.region_head import RegionHead
from personsearch.models.search_model import SplitParts


class MaxRegionHead(RegionHead):
    """Faster R-CNN's head on the maximum over conv5's map, where OIM takes the average."""

    def refine(self, person_map: Tensor) -> tuple[Tensor, Tensor]:
        top = person_map.amax(dim=(2, 3))
        return self.class_logits(top), self.box_deltas(top)


class SeqNet(MemorySearch):
    """Faster R-CNN's head on the proposals, then a norm-aware head on the boxes that it refined.

    Both heads draw their RoIs alike: positive at IoU 0.5, negative below ``roi_negative_iou`` (0.5 as published), the
    second one from the first one's boxes. Its block starts as a copy of the first one's. Losses: ``first_class`` and
    ``first_box`` (published weight 10) of the first head, ``refine_class``, ``refine_box`` and ``identity`` of the
    second.

    A detection's score is the first head's (first classification score): the second one's, trained on better boxes,
    serves the embedding only. The second head refines the boxes again, and the NMS after it is laxer. Queries are
    embedded by the second head. Published figures weight similarities by the score: ``personsearch evaluate --cws``.

    RoIs and taps of a training step (``TrainOutput``) are those of the second head; so are `taps` at given RoIs.

    Differs from the published code: four deltas a person, not eight; the first head's layers start at N(0, 0.01) and
    N(0, 0.001); a refined box that is thinner than a pixel is no RoI; true boxes are never left out by sampling.

    Args:
        first: Faster R-CNN's head, without embedding.
        second_nms_iou: of the NMS after the second head.
        memory_search: arguments of `MemorySearch`; ``head`` is the second head.
    """

    head: NormAwareHead

    def __init__(self, *, first: RegionHead, second_nms_iou: float, **memory_search: Any) -> None:
        super().__init__(**memory_search)
        self.first = first
        self.second_nms_iou = second_nms_iou

    def _person_losses(
        self, feature: Tensor, rois: RoiSample, labels: Labels, taps: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], RoiSample]:
        settings = self.settings
        output = self.first(self._pool(feature, rois.boxes))
        losses = {
            "first_class": class_loss(output.class_logits, rois.positive),
            "first_box": box_loss(
                output.box_deltas[rois.positive],
                rois.targets[rois.positive],
                len(rois.positive),
                beta=settings.refine_beta,
            ),
        }
        refined = self._refined(feature, rois.boxes, output.box_deltas.detach())
        second = sample_rois(
            [boxes[_possible(boxes)] for boxes in refined],
            labels,
            count=settings.rois_per_image,
            positive_fraction=settings.positive_fraction,
            negative_iou=settings.roi_negative_iou,
        )
        second_losses, second = super()._person_losses(feature, second, labels, taps)
        return losses | second_losses, second

    def _refined(self, feature: Tensor, boxes: list[Tensor], deltas: Tensor) -> list[Tensor]:
        """Each image's boxes moved by their rows of ``deltas``, inside the frame."""
        input_wh = feature.shape[3] * self.trunk.stride, feature.shape[2] * self.trunk.stride
        moved = clip(decode(deltas.float(), torch.cat(boxes), REFINE_WEIGHTS), input_wh)
        return list(torch.split(moved, [len(one) for one in boxes]))

    # -- inference --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        feature, logits, deltas = self._scene(images, {})
        settings = self.settings
        proposals = self._proposals(logits, deltas)
        first = self.first(self._pool(feature, proposals))
        margins = torch.split(margins_of(first.class_logits), [len(found) for found in proposals])
        boxes = self._refined(feature, proposals, first.box_deltas)
        # What is below the threshold neither is reported nor suppresses what is above: it need not be read again.
        kept = [self._suppress(*one, settings.nms_iou) for one in zip(boxes, margins, strict=True)]
        boxes = [one[rows] for one, rows in zip(boxes, kept, strict=True)]
        kept_margins = [one[rows] for one, rows in zip(margins, kept, strict=True)]
        second = self.head(self._pool(feature, boxes))
        embeddings = torch.split(F.normalize(second.raw_embedding), [len(one) for one in boxes])
        boxes = self._refined(feature, boxes, second.box_deltas)
        found = []
        for box, margin, embedding in zip(boxes, kept_margins, embeddings, strict=True):
            rows = self._suppress(box, margin, self.second_nms_iou)
            parts = box[rows], margin[rows].sigmoid(), embedding[rows]
            found.append(Detections(*(part.cpu().numpy() for part in parts)))
        return found

    def _suppress(self, boxes: Tensor, margins: Tensor, nms_iou: float) -> Tensor:
        """Rows that NMS leaves of what is a box and reaches the score threshold, by descending score."""
        rows = (_possible(boxes) & (margins.sigmoid() >= self.score_threshold)).nonzero().flatten()
        return rows[nms(boxes[rows], margins[rows], nms_iou)][: self.max_detections]

    # -- deployment -------------------------------------------------------------------------------------------

    def deployable(self, max_detections: int | None = None) -> nn.Module:
        return SequentialGraph(self, min(max_detections or self.max_detections, self.max_detections)).eval()

    def deployable_split(self, person_boxes: int, floor: float) -> SplitParts:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise InputError(
            "SeqNet's second head reads the boxes that the first one's suppression leaves: its graph cannot be split",
            where="layout split",
            expected="layout joined",
        )

    def person_module(self) -> SequentialPart:
        return SequentialPart(self)


class SequentialPart(PersonPart):
    """What runs once a person: the first head's margin and deltas on a proposal, the second's embedding on a box.

    Called on one crop, as whoever counts operations does, both heads read that crop.
    """

    def __init__(self, model: SeqNet) -> None:
        super().__init__(model)
        self.first = model.first

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        margins, _ = self.refine(pooled)
        embeddings, deltas = self.read(pooled)
        return margins, deltas, embeddings

    def refine(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """The first head's margins ``(R,)`` and deltas ``(R, 4)``."""
        logits, deltas = self.first.refine(self.first.person_map(pooled))
        return margins_of(logits), deltas

    def read(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """The second head's unit embeddings ``(R, D)`` and deltas ``(R, 4)``."""
        answers = self.head.person_map(pooled)
        _, deltas = self.head.refine(answers)
        return F.normalize(self.head.embed(answers)), deltas


class SequentialGraph(SearchGraph):
    """As `SearchGraph`, with the second head between two non-maximum suppressions.

    The second one may drop any of the first head's people, so that all of them pass through the second head, however
    few rows are asked for.
    """

    person: SequentialPart

    def __init__(self, model: SeqNet, max_detections: int) -> None:
        super().__init__(model, max_detections)
        self.rows, self.max_detections = max_detections, self.proposals  # of the second selection, and of the first
        self.second_nms_iou = model.second_nms_iou

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        feature, margins, deltas = self.scene(frames)
        boxes, valid, _ = self._propose(margins, deltas)
        margins, deltas = self.person.refine(self.pool(feature, boxes))
        boxes, scores, _ = self._select(boxes, valid, margins, deltas)
        embeddings, deltas = self.person.read(self.pool(feature, boxes))
        boxes = clip(decode(deltas.reshape(boxes.shape), boxes, REFINE_WEIGHTS), self.input_wh)
        # Rows descend by score, unused ones, of score 0, at the end: kept ones move up in their order.
        used = (scores > 0) & _possible(boxes)
        kept = fixed_nms(boxes, used.to(boxes.dtype), self.second_nms_iou, self.suppression_steps)
        count = self.max_detections
        order = torch.arange(count, 0, -1, device=kept.device, dtype=kept.dtype) + kept * count
        rank = order.topk(self.rows, dim=1).indices
        embeddings = embeddings.reshape(*scores.shape, -1)
        scores = scores.gather(1, rank) * kept.gather(1, rank)
        return gather_rows(boxes, rank), scores, gather_rows(embeddings, rank)


def _possible(boxes: Tensor) -> Tensor:
    """Which boxes ``(..., 4)`` are a pixel wide and high, ``(...)`` bool."""
    return (boxes[..., 2:] - boxes[..., :2]).amin(dim=-1) >= MIN_SIDE_PX
