"""QEEPS: OIM's network that is shown the query and looks for that person (Munjal et al., CVPR 2019)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.detections import Detections, GuidedDetections
from personsearch.losses.detection import class_loss
from personsearch.models.backbones.siamese import SiameseTrunk
from personsearch.models.detectors.oim import MemorySearch
from personsearch.models.detectors.regions import ANCHOR_SAMPLES
from personsearch.models.detectors.sampling import Labels, RoiSample, sample_anchors
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.person_head import PersonOutput
from personsearch.models.heads.query_proposals import QueryProposalNet
from personsearch.models.heads.query_similarity import QuerySimilarityNet
from personsearch.models.heads.region_head import RegionHead
from personsearch.models.query_guided import QueryGuided
from personsearch.models.query_pairs import NOBODY, QueryPairs, choose_queries
from personsearch.models.search_model import TrainOutput

IdentityRows = Literal["both", "gallery", "query"]
SimilarityRois = Literal["people", "all"]


class QEEPS(MemorySearch, QueryGuided):
    """OIM with three parts that depend on the query, all trained together.

    - QSSE (`SiameseTrunk`): whole gallery frame and whole image of the query go through one trunk and gate each other.
    - QRPN (`QueryProposalNet`): its margins are added to the region proposal network's, so that the query's person is
      among the proposals. Loss ``query_class``: anchors on the query's person against all others, other people too.
    - QSimNet (`QuerySimilarityNet`): the search score of each person in place of a cosine. Loss ``similarity``: RoIs on
      the query's person against the others.

    Queries in training are people of the same batch (`choose_queries`). The identity loss has a row for each positive
    RoI of the gallery and for each query (``identity_rows``); the figure draws it at the identity net, which both
    branches share. The look-up table is of both.

    **Without a query** the network is OIM's, its trunk gating every frame by itself (`SiameseTrunk`): so are
    ``detect``, ``embed``, ``taps`` and everything exported. QRPN and QSimNet play no part in it.

    No code was published. What the paper leaves open is said in docs/adr/0013 and in `QeepsRecipe`.

    Args:
        query_proposals: QRPN.
        similarity: QSimNet.
        identity_rows: whose embeddings the identity loss and the memories see.
        similarity_rois: RoIs that QSimNet learns from: on people, or all sampled ones.
        memory_search: arguments of `MemorySearch`; ``trunk`` is a `SiameseTrunk`, ``head`` a `RegionHead`.
    """

    trunk: SiameseTrunk
    subnet: DetectionSubnet
    head: RegionHead
    training_frames = 2

    def __init__(
        self,
        *,
        query_proposals: QueryProposalNet,
        similarity: QuerySimilarityNet,
        identity_rows: IdentityRows = "both",
        similarity_rois: SimilarityRois = "people",
        **memory_search: Any,
    ) -> None:
        super().__init__(**memory_search)
        self.query_proposals, self.similarity = query_proposals, similarity
        self._identity_rows: IdentityRows = identity_rows
        self._similarity_rois: SimilarityRois = similarity_rois

    # -- training ---------------------------------------------------------------------------------------------

    def forward(self, images: Tensor, boxes: list[Tensor], person_ids: list[Tensor]) -> TrainOutput:
        self._check(images, boxes, person_ids)
        taps: dict[str, Tensor] = {}
        labels = Labels.of(boxes, person_ids)
        pairs = choose_queries(labels, (images.shape[2], images.shape[1]))
        feature, query_feature = self._pair(images, images[pairs.images], taps)
        logits, deltas = self.subnet(feature)
        crops = self._pool(query_feature, list(torch.split(pairs.boxes, 1)))
        guided = self.query_proposals(feature, crops)
        output = self._train(feature, logits, deltas, labels, taps, ranking=logits + guided)
        queries: Tensor = self.head(crops).raw_embedding  # (B, D)
        losses = {
            **output.losses,
            "identity": self._rows_loss(output, queries, pairs),
            "query_class": self._query_class_loss(feature, guided, labels, pairs),
            "similarity": self._similarity_loss(output, queries, pairs),
        }
        return replace(output, losses=losses)

    def _pair(self, images: Tensor, query_images: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Maps of frames ``(B, H, W, 3)`` and of their queries' images, gated by each other."""
        both = self.trunk(self.normalise(torch.cat([images, query_images])), taps, paired=True)
        return both[: len(images)], both[len(images) :]

    def _identity_losses(self, output: PersonOutput, rois: RoiSample, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}  # of the queries too, which this does not know: see `_rows_loss`

    def _rows_loss(self, output: TrainOutput, queries: Tensor, pairs: QueryPairs) -> Tensor:
        """OIM's loss of the positive RoIs, the queries, or both, whose rows are left to be written."""
        rows, ids = [], []
        if self._identity_rows != "query":
            positive = output.targets["rcn_positive"]
            rows.append(output.taps["embedding"][positive])
            ids.append(output.roi_person_ids[positive])
        if self._identity_rows != "gallery":
            asked = pairs.person_ids != NOBODY
            rows.append(queries[asked])
            ids.append(pairs.person_ids[asked])
        return self._memory_loss(torch.cat(rows), torch.cat(ids))

    def _query_class_loss(self, feature: Tensor, guided: Tensor, labels: Labels, pairs: QueryPairs) -> Tensor:
        """Cross-entropy of QRPN's logits ``(B, A, 2)`` at anchors drawn as the region proposal network's are."""
        asked = (pairs.person_ids != NOBODY).nonzero().flatten().tolist()
        if not asked:
            return guided.sum() * 0
        wanted = [labels.person_ids[image] == pairs.person_ids[image] for image in asked]
        query_labels = Labels(
            [labels.people[image][rows] for image, rows in zip(asked, wanted, strict=True)],
            [labels.person_ids[image][rows] for image, rows in zip(asked, wanted, strict=True)],
            [labels.ignored[image] for image in asked],
        )
        chosen = sample_anchors(self._anchors_of(feature), query_labels, ANCHOR_SAMPLES)
        return class_loss(chosen.rows(guided[asked]), chosen.positive)

    def _similarity_loss(self, output: TrainOutput, queries: Tensor, pairs: QueryPairs) -> Tensor:
        """Cross-entropy of QSimNet's logits at the gallery's RoIs."""
        counts = torch.tensor([len(rois) for rois in output.rois], device=queries.device)
        image = torch.repeat_interleave(torch.arange(len(counts), device=queries.device), counts)
        rows = pairs.person_ids[image] != NOBODY
        if self._similarity_rois == "people":
            rows = rows & output.targets["rcn_positive"]
        image = image[rows]
        people = F.normalize(output.taps["embedding"][rows].float())
        logits = self.similarity(F.normalize(queries.float())[image], people)
        return class_loss(logits, output.roi_person_ids[rows] == pairs.person_ids[image])

    # -- inference --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def detect_pairs(self, images: Tensor, query_images: Tensor, query_boxes: Tensor) -> list[GuidedDetections]:
        feature, query_feature = self._pair(images, query_images, {})
        crops = self._pool(query_feature, list(torch.split(query_boxes, 1)))
        queries = F.normalize(self.head(crops).raw_embedding)
        logits, deltas = self.subnet(feature)
        answers = self._answers(feature, logits + self.query_proposals(feature, crops), deltas)
        found = []
        for query, (boxes, margins, embeddings) in zip(queries, answers, strict=True):
            rows = self._kept(boxes, margins)
            rows = rows[margins[rows].sigmoid() >= self.score_threshold]
            same = self.similarity(query.expand(len(rows), -1), embeddings[rows]).softmax(dim=1)[:, 1]
            parts = boxes[rows], margins[rows].sigmoid(), embeddings[rows]
            found.append(GuidedDetections(Detections(*(part.cpu().numpy() for part in parts)), same.cpu().numpy()))
        return found

    @property
    def pair_people(self) -> int:
        return self.settings.proposals

    def pair_module(self) -> PairPart:
        return PairPart(self)

    def similarity_module(self) -> QuerySimilarityNet:
        return self.similarity


class PairPart(nn.Module):
    """What runs once a pair: both images through the trunk, both proposal networks on the frame's map."""

    def __init__(self, model: QEEPS) -> None:
        super().__init__()
        self.normalise, self.trunk, self.subnet = model.normalise, model.trunk, model.subnet
        self.query_proposals = model.query_proposals

    def forward(self, frames: Tensor, query_frames: Tensor, crops: Tensor) -> tuple[Tensor, ...]:
        """Frames and query frames ``(B, H, W, 3)``, crops ``(B, C, p, p)`` to both maps, logits and deltas."""
        both = self.trunk(self.normalise(torch.cat([frames, query_frames])), {}, paired=True)
        feature = both[: len(frames)]
        logits, deltas = self.subnet(feature)
        return both, logits + self.query_proposals(feature, crops), deltas
