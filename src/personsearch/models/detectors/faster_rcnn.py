"""Plain Faster R-CNN on C4 with the one class person: the specialised detector that KD_det learns from."""

from __future__ import annotations

from torch import Tensor

from personsearch.models.detectors.regions import RegionSearch
from personsearch.models.detectors.sampling import RoiSample
from personsearch.models.heads.person_head import PersonOutput


class FasterRCNN(RegionSearch):
    """A `RegionSearch` that learns no identities; its embeddings are of width 0 and it cannot be asked for anybody."""

    def _identity_losses(self, output: PersonOutput, rois: RoiSample, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}
