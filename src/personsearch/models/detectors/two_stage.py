"""HDL's network: person-anchor proposals on a trunk, then one head that refines, scores and embeds each person."""

from __future__ import annotations

from torch import Tensor

from personsearch.core.preprocess import Preprocess
from personsearch.losses.identity import identity_loss
from personsearch.models.backbones.trunk import Trunk
from personsearch.models.detectors.regions import RegionSearch, RegionSettings
from personsearch.models.detectors.sampling import RoiSample
from personsearch.models.heads.detection_subnet import DetectionSubnet
from personsearch.models.heads.person_head import PersonHead, PersonOutput


class TwoStageSearch(RegionSearch):
    """A `RegionSearch` that learns identities as classes (HDL, section 3.2; equations 1 and 2)."""

    head: PersonHead

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        trunk: Trunk,
        subnet: DetectionSubnet,
        head: PersonHead,
        person_count: int,
        anchor_shapes: Tensor,
        settings: RegionSettings,
    ) -> None:
        super().__init__(
            preprocess=preprocess,
            trunk=trunk,
            subnet=subnet,
            head=head,
            embedding_dim=head.embedding_dim,
            person_count=person_count,
            anchor_shapes=anchor_shapes,
            settings=settings,
        )

    def _people(self, feature: Tensor, rois: list[Tensor], taps: dict[str, Tensor]) -> PersonOutput:
        output = super()._people(feature, rois, taps)
        taps["identity_logits"] = self.head.identity_logits(output.raw_embedding)
        return output

    def _identity_losses(self, output: PersonOutput, rois: RoiSample, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"identity": identity_loss(taps["identity_logits"], rois.person_ids)}
