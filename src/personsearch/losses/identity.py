"""Softmax cross-entropy over the training identities (HDL, equations 1 and 2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def identity_loss(logits: Tensor, person_ids: Tensor) -> Tensor:
    """Cross-entropy of each labelled person's identity, mean over the labelled ones.

    The paper does not say what becomes of people without identity; they have no class in equation 1, so they
    are left out. A batch without a labelled person is normal and gives exactly 0, not NaN.

    Args:
        logits: ``(R, P)``, one column an identity.
        person_ids: ``(R,)`` int64; negative where there is no identity.

    Returns:
        A scalar with a gradient path to ``logits``.

    Raises:
        ValueError: an id is not below ``P``.
    """
    labelled = person_ids >= 0
    if not bool(labelled.any()):
        return logits.sum() * 0
    largest = int(person_ids.max())
    if largest >= logits.shape[1]:
        raise ValueError(f"person id {largest} with only {logits.shape[1]} identity logits")
    return F.cross_entropy(logits[labelled], person_ids[labelled])
