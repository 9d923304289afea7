"""Plain Faster R-CNN on C4 with the one class person: the specialised detector that KD_det learns from."""

from __future__ import annotations

from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.models.detectors.regions import RegionSearch
from personsearch.models.detectors.sampling import RoiSample
from personsearch.models.heads.person_head import PersonOutput


class FasterRCNN(RegionSearch):
    """A `RegionSearch` that learns no identities.

    Its embeddings are of width 0: it detects, and its search graph answers boxes and scores, but it cannot be asked
    for anybody.
    """

    def _identity_losses(self, output: PersonOutput, rois: RoiSample, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def embed(self, images: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise _no_embeddings()

    def deployable_query(self, query_boxes: int) -> nn.Module:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise _no_embeddings()


def _no_embeddings() -> InputError:
    return InputError(
        "the network is a detector and embeds nobody",
        where="model.kind faster_rcnn",
        expected="a person-search network",
        remedy="it can teach (KD_det) and be evaluated as a detector",
    )
