"""OIM: Faster R-CNN whose head also embeds, trained against memories of everybody seen (Xiao et al., CVPR 2017)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from personsearch.losses.oim import IdentityMemory
from personsearch.models.detectors.regions import RegionSearch
from personsearch.models.detectors.sampling import RoiSample
from personsearch.models.heads.person_head import PersonOutput


class MemorySearch(RegionSearch):
    """A `RegionSearch` that learns identities against a look-up table and a queue.

    All positive RoIs take part: with an identity in the loss and the table, without one in the queue; background in
    neither. The tap ``identity_logits`` holds the scaled cosines to the table's rows.

    Args:
        memory: table, queue and loss; the rows to be written wait in it for `update_memories`.
        region: arguments of `RegionSearch`.
    """

    def __init__(self, *, memory: IdentityMemory, **region: Any) -> None:
        super().__init__(**region)
        self.memory = memory

    def _people(self, feature: Tensor, rois: list[Tensor], taps: dict[str, Tensor]) -> PersonOutput:
        output = super()._people(feature, rois, taps)
        taps["identity_logits"] = self.memory.identity_logits(F.normalize(output.raw_embedding.float()))
        return output

    def _identity_losses(self, output: PersonOutput, rois: RoiSample, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"identity": self._memory_loss(output.raw_embedding[rois.positive], rois.person_ids[rois.positive])}

    def _memory_loss(self, raw_embedding: Tensor, person_ids: Tensor) -> Tensor:
        """OIM's loss of people's embeddings ``(R, D)``, whose rows are left to be written."""
        embeddings = F.normalize(raw_embedding.float())
        if self.training:
            self.memory.remember(embeddings, person_ids)
        loss: Tensor = self.memory(embeddings, person_ids)
        return loss

    def update_memories(self) -> None:
        self.memory.update()


class OIMSearch(MemorySearch):
    """OIM on a C4 trunk.

    The Caffe network divides ResNet-50 between conv4_3 and conv4_4; here, as in every later re-implementation, the
    trunk is conv1 to conv4 and the head conv5. RoIs are pooled by RoIAlign, not RoIPool.
    """
