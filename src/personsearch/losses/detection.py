"""Classification and box losses of a two-stage detector (Faster R-CNN, Ren et al., NeurIPS 2015, equation 1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def class_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Softmax cross-entropy between background (class 0) and person (class 1), mean over the samples.

    Args:
        logits: ``(S, 2)``.
        positive: ``(S,)`` bool.

    Returns:
        A scalar; 0 with a gradient path when ``S`` is 0.
    """
    if len(logits) == 0:
        return logits.sum() * 0
    return F.cross_entropy(logits, positive.long())


def box_loss(deltas: Tensor, targets: Tensor, sample_count: int, beta: float = 1 / 9) -> Tensor:
    """Smooth L1 over the positive samples' four deltas, summed and divided by all samples.

    Dividing by the number of sampled anchors or RoIs, not by the positives, is Faster R-CNN's choice: it keeps
    an image with one person from outweighing an image with ten.

    Args:
        deltas: ``(P, 4)`` of the positive samples.
        targets: ``(P, 4)``.
        sample_count: positive and negative samples together.
        beta: where the square turns into a line.

    Returns:
        A scalar; 0 with a gradient path when there is no positive sample.
    """
    if deltas.shape != targets.shape:
        raise ValueError(f"deltas {tuple(deltas.shape)} and targets {tuple(targets.shape)} differ in shape")
    return F.smooth_l1_loss(deltas, targets, beta=beta, reduction="sum") / max(1, sample_count)
