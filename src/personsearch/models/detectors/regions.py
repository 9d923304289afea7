"""What every two-stage network does: proposals on a trunk's map, RoIs from them, a head on each RoI.

`RegionSearch` is Faster R-CNN with the one class person (Ren et al., NeurIPS 2015); what is learnt of identities is
left to the networks derived from it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms

from personsearch.core.detections import Detections
from personsearch.core.preprocess import Preprocess
from personsearch.core.split import SplitSettings
from personsearch.losses.detection import box_loss, class_loss
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.boxes import anchor_grid, clip, decode
from personsearch.models.deployable import (
    PersonGraph,
    PersonPart,
    QueryGraph,
    SceneGraph,
    ScenePart,
    SearchGraph,
    margins_of,
    operator_pool,
)
from personsearch.models.detectors.sampling import (
    PROPOSAL_WEIGHTS,
    REFINE_WEIGHTS,
    Labels,
    RoiSample,
    rows_at,
    sample_anchors,
    sample_rois,
)
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.person_head import PersonOutput
from personsearch.models.peaks import DROPPED, peaks_only
from personsearch.models.search_model import FrameNormaliser, SearchModel, SplitParts, TrainOutput

ANCHOR_SAMPLES = 256
MIN_SIDE_PX = 1.0


@dataclass(frozen=True)
class RegionSettings:
    """Counts and thresholds of a two-stage network.

    Attributes:
        pool_hw: height and width of a pooled crop.
        pre_nms: proposals before the first NMS at test.
        proposals: and after it.
        proposal_peaks: side of the window, in cells, in which an anchor must score highest among its shape's to propose
            at test and in graphs; 1 for all anchors, as in training.
        graph_pre_nms: ``pre_nms`` of the exported graph.
        graph_proposals: ``proposals`` of the exported graph, and people reported a frame at most anywhere.
        rpn_nms_iou: of the first NMS.
        nms_iou: of the NMS of refined boxes.
        score_threshold: what is below is not reported.
        train_pre_nms: proposals before NMS in training.
        train_proposals: and after it.
        rois_per_image: sampled in training.
        positive_fraction: at most this share of them is positive.
        roi_negative_iou: a RoI below it is background.
        refine_beta: of the second stage's smooth L1, where the square turns into a line.
        embed_refined: embed each person from the refined box, as a query is from its true one, at the price of the
            person block a second time.
    """

    pool_hw: tuple[int, int]
    pre_nms: int
    proposals: int
    graph_pre_nms: int
    graph_proposals: int
    rpn_nms_iou: float
    nms_iou: float
    score_threshold: float
    train_pre_nms: int
    train_proposals: int
    rois_per_image: int
    positive_fraction: float
    roi_negative_iou: float
    refine_beta: float
    embed_refined: bool = False
    proposal_peaks: int = 1


class RegionSearch(SearchModel):
    """Detects people in two stages (what HDL, section 3.2, leaves open is Faster R-CNN's).

    Anchors: positive at IoU 0.7, negative below 0.3, 256 a frame. RoIs: the proposals and the true boxes, positive
    at IoU 0.5, negative below ``roi_negative_iou``. The true boxes always take part in the second stage, also where
    sampling would have left them out: they are what queries are embedded from.

    Args:
        preprocess: of the frames.
        trunk: once a frame.
        subnet: proposals on its map.
        head: pooled crops ``(R, C, h, w)`` and a dictionary for taps, to a `PersonOutput`; what is deployed needs
            ``person_map``, ``refine`` and ``embed`` of it, see `PersonHead`.
        embedding_dim: D of the head, 0 for a detector without embeddings.
        person_count: identities of the training set.
        anchor_shapes: ``(A, 2)`` width and height in input pixels.
        settings: counts and thresholds.

    Raises:
        ValueError: the input is not a multiple of the trunk's stride.
    """

    anchors: Tensor
    anchor_shapes: Tensor

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        trunk: Trunk,
        subnet: DetectionSubnet,
        head: nn.Module,
        embedding_dim: int,
        person_count: int,
        anchor_shapes: Tensor,
        settings: RegionSettings,
    ) -> None:
        super().__init__()
        width, height = preprocess.input_wh
        if width % trunk.stride or height % trunk.stride:
            raise ValueError(f"input {width}x{height} is not a multiple of the trunk's stride {trunk.stride}")
        self.preprocess, self.person_count, self.embedding_dim = preprocess, person_count, embedding_dim
        self.settings = settings
        self.score_threshold = settings.score_threshold
        self.normalise = FrameNormaliser(preprocess)
        self.trunk, self.subnet, self.head = trunk, subnet, head
        self.map_hw = (height // trunk.stride, width // trunk.stride)
        self.register_buffer("anchor_shapes", anchor_shapes, persistent=False)
        self.register_buffer("anchors", anchor_grid(anchor_shapes, trunk.stride, self.map_hw), persistent=False)
        # A small frame has fewer anchors than a graph has rows.
        self.max_detections = min(settings.graph_proposals, settings.graph_pre_nms, len(self.anchors))

    # -- training ---------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> TrainOutput:
        self._check(images, boxes, person_ids)
        taps: dict[str, Tensor] = {}
        feature, logits, deltas = self._scene(images, taps)
        return self._train(feature, logits, deltas, Labels.of(boxes, person_ids), taps)

    def _train(
        self,
        feature: Tensor,
        logits: Tensor,
        deltas: Tensor,
        labels: Labels,
        taps: dict[str, Tensor],
        *,
        ranking: Tensor | None = None,
    ) -> TrainOutput:
        """Both stages on the trunk's map; proposals are ranked by ``ranking`` (B, A, 2), by ``logits`` without it."""
        anchors = self._anchors_of(feature)
        chosen = sample_anchors(anchors, labels, ANCHOR_SAMPLES)
        taps["rpn_logits"], taps["rpn_deltas"] = chosen.rows(logits), chosen.rows(deltas)
        losses = {
            "rpn_class": class_loss(taps["rpn_logits"], chosen.positive),
            "rpn_box": box_loss(
                taps["rpn_deltas"][chosen.positive], chosen.targets[chosen.positive], len(chosen.positive)
            ),
        }
        settings = self.settings
        input_wh = feature.shape[3] * self.trunk.stride, feature.shape[2] * self.trunk.stride
        with torch.no_grad():
            proposals = self._propose(
                margins_of(logits if ranking is None else ranking),
                deltas,
                anchors,
                input_wh,
                settings.train_proposals,
                pre_nms=settings.train_pre_nms,
            )
        rois = sample_rois(
            proposals,
            labels,
            count=settings.rois_per_image,
            positive_fraction=settings.positive_fraction,
            negative_iou=settings.roi_negative_iou,
        )
        person_losses, rois = self._person_losses(feature, rois, labels, taps)
        losses |= person_losses
        targets = {
            "rpn_positive": chosen.positive,
            "rpn_deltas": chosen.targets,
            "rcn_positive": rois.positive,
            "rcn_deltas": rois.targets,
        }
        return TrainOutput(losses, taps, rois.boxes, rois.person_ids, chosen.indices, targets)

    def _person_losses(
        self, feature: Tensor, rois: RoiSample, labels: Labels, taps: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], RoiSample]:
        """Losses of what comes after the proposals, its taps noted, and the RoIs that the taps are of."""
        output = self._people(feature, rois.boxes, taps)
        losses = {
            "refine_class": class_loss(output.class_logits, rois.positive),
            "refine_box": box_loss(
                output.box_deltas[rois.positive],
                rois.targets[rois.positive],
                len(rois.positive),
                beta=self.settings.refine_beta,
            ),
        }
        return losses | self._identity_losses(output, rois, taps), rois

    @abstractmethod
    def _identity_losses(self, output: PersonOutput, rois: RoiSample, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is learnt of identities; nothing for a detector. Taps are noted by `_people` already."""

    def _people(self, feature: Tensor, rois: list[Tensor], taps: dict[str, Tensor]) -> PersonOutput:
        """The head's answer to RoIs, and the second stage's taps."""
        output: PersonOutput = self.head(self._pool(feature, rois), taps)
        taps["rcn_logits"], taps["rcn_deltas"] = output.class_logits, output.box_deltas
        if self.embedding_dim:
            taps["embedding"] = output.raw_embedding
        return output

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
        if map_hw == self.map_hw:
            return self.anchors
        return anchor_grid(self.anchor_shapes.cpu(), self.trunk.stride, map_hw).to(self.anchors)

    # -- inference --------------------------------------------------------------------------------------------

    def taps(self, images: Tensor, rois: list[Tensor], anchors: list[Tensor] | None = None) -> dict[str, Tensor]:
        taps: dict[str, Tensor] = {}
        feature, logits, deltas = self._scene(images, taps)
        if anchors is not None:
            taps["rpn_logits"], taps["rpn_deltas"] = rows_at(logits, anchors), rows_at(deltas, anchors)
        self._people(feature, rois, taps)
        return taps

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[Detections]:
        feature, logits, deltas = self._scene(images, {})
        found = [self._finish(*row) for row in self._answers(feature, logits, deltas)]
        if not self.settings.embed_refined:
            return found
        refined = [torch.from_numpy(one.boxes_xyxy).to(feature.device) for one in found]
        embeddings = F.normalize(self.head(self._pool(feature, refined)).raw_embedding)
        parts = torch.split(embeddings, [len(one) for one in found])
        return [
            Detections(one.boxes_xyxy, one.scores, part.cpu().numpy()) for one, part in zip(found, parts, strict=True)
        ]

    def _answers(self, feature: Tensor, ranking: Tensor, deltas: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each image its proposals' refined boxes ``(N, 4)``, margins ``(N,)`` and unit embeddings ``(N, D)``."""
        proposals = self._proposals(ranking, deltas)
        output: PersonOutput = self.head(self._pool(feature, proposals))
        margins = margins_of(output.class_logits)
        boxes = clip(decode(output.box_deltas, torch.cat(proposals), REFINE_WEIGHTS), self.preprocess.input_wh)
        counts = [len(found) for found in proposals]
        parts = (torch.split(part, counts) for part in (boxes, margins, F.normalize(output.raw_embedding)))
        return list(zip(*parts, strict=True))

    def _finish(self, boxes: Tensor, margins: Tensor, embeddings: Tensor) -> Detections:
        kept = self._kept(boxes, margins)
        found = Detections(
            boxes[kept].cpu().numpy(), margins[kept].sigmoid().cpu().numpy(), embeddings[kept].cpu().numpy()
        )
        return found.above(self.score_threshold)

    def _kept(self, boxes: Tensor, margins: Tensor) -> Tensor:
        """Rows of possible boxes that NMS leaves, by descending margin."""
        possible = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= MIN_SIDE_PX).nonzero().flatten()
        return possible[nms(boxes[possible], margins[possible], self.settings.nms_iou)][: self.max_detections]

    @torch.no_grad()
    def embed(self, images: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        feature = self.trunk(self.normalise(images), {})
        output: PersonOutput = self.head(self._pool(feature, boxes))
        return list(torch.split(F.normalize(output.raw_embedding), [len(box) for box in boxes]))

    def _scene(self, images: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Frames to the trunk's map, logits ``(B, A, 2)`` and deltas ``(B, A, 4)`` of the anchors."""
        feature = self.trunk(self.normalise(images), taps)
        logits, deltas = self.subnet(feature)
        return feature, logits, deltas

    def _proposals(self, ranking: Tensor, deltas: Tensor) -> list[Tensor]:
        """Each image's proposals at test, by descending score: of peaks alone where the settings say so."""
        settings, input_wh = self.settings, self.preprocess.input_wh
        margins = peaks_only(margins_of(ranking), self.map_hw, settings.proposal_peaks)
        return self._propose(margins, deltas, self.anchors, input_wh, settings.proposals, pre_nms=settings.pre_nms)

    def _propose(
        self,
        margins: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        input_wh: tuple[int, int],
        count: int,
        *,
        pre_nms: int,
    ) -> list[Tensor]:
        top = margins.topk(min(pre_nms, margins.shape[1]), dim=1)
        found = []
        for row in range(len(margins)):
            indices = top.indices[row]
            boxes = decode(deltas[row, indices], anchors[indices], PROPOSAL_WEIGHTS)
            boxes = clip(boxes, input_wh)
            sides = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1)
            possible = ((sides >= MIN_SIDE_PX) & (top.values[row] > DROPPED)).nonzero().flatten()
            kept = nms(boxes[possible], top.values[row][possible], self.settings.rpn_nms_iou)[:count]
            found.append(boxes[possible][kept])
        return found

    def _pool(self, feature: Tensor, boxes: list[Tensor]) -> Tensor:
        return operator_pool(feature, boxes, self.settings.pool_hw, self.trunk.stride)  # (R, C, h, w)

    # -- deployment -------------------------------------------------------------------------------------------

    def deployable(self, max_detections: int | None = None) -> nn.Module:
        return SearchGraph(self, min(max_detections or self.max_detections, self.max_detections)).eval()

    def deployable_query(self, query_boxes: int) -> nn.Module:
        return QueryGraph(self, query_boxes).eval()

    def deployable_split(self, person_boxes: int, floor: float) -> SplitParts:
        settings = SplitSettings(
            person_boxes=person_boxes,
            floor=floor,
            nms_iou=self.settings.nms_iou,
            embed_refined=self.settings.embed_refined,
        )
        return SplitParts(SceneGraph(self).eval(), PersonGraph(self).eval(), settings)

    def scene_module(self) -> nn.Module:
        return ScenePart(self)

    def person_module(self) -> PersonPart:
        return PersonPart(self)

    @property
    def person_input_shape(self) -> tuple[int, int, int, int]:
        return (1, self.trunk.out_channels, *self.settings.pool_hw)
