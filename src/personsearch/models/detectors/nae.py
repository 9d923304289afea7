"""NAE: a person's score and features from one embedding (Chen et al., CVPR 2020)."""

from __future__ import annotations

from personsearch.models.detectors.oim import MemorySearch
from personsearch.models.heads.norm_aware import NormAwareHead


class NAESearch(MemorySearch):
    """OIM's network with a norm-aware head: the embedding's length is the score, its direction the re-ID feature.

    The loss ``refine_class`` is the binary cross-entropy of the score. Published with it: negatives below IoU 0.1 (what
    lies between it and 0.5 is left out), weight 10 on ``refine_box``, cosines times 30.

    Published figures weight a gallery person's similarity by the score (confidence weighted similarity). That is done
    when searching, ``personsearch evaluate --cws``; detections come with unit embeddings, as everybody's.

    Differs from the published code: four deltas a person, not eight; true boxes are never left out by sampling; where
    fewer than two RoIs are there to train on, running statistics stand in for the batch's. NAE+, its pixel-wise
    variant, is not here.
    """

    head: NormAwareHead
