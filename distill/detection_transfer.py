"""KD_det: a detector's maps, classes and boxes teach the student's (Munjal, Galasso, Amin, BMVC 2019, section 4.1).

The three losses are those of Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation",
NeurIPS 2017. Neither paper states the reductions: here each is that of the labels' loss beside it, a mean over the
map, over the samples, or a sum over people divided by the samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_MEAN_SQUARE = 1e-6
"""A map of zeros has no size to divide by."""


def hint_loss(student: Tensor, teacher: Tensor, *, relative: bool = False) -> Tensor:
    """Mean squared difference between two maps (equation 1).

    Printed is the sum. Over a map of 38 x 63 x 1024 values it would swamp every other loss at the printed weight of
    0.5, so the mean is taken. The mean still has the size of the teacher's squared activations, from 1 to hundreds.

    Args:
        student: ``(B, C, h, w)``, after the adaptation layer.
        teacher: the same shape; no gradient is taken through it.
        relative: whether it is divided by the mean of the teacher's squares, so that answering 0 everywhere costs 1.

    Returns:
        A scalar; exactly 0, with a gradient path, where ``B`` is 0.

    Raises:
        ValueError: shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's map is {tuple(student.shape)} after adaptation, the teacher's {tuple(teacher.shape)}"
        )
    if student.numel() == 0:
        return student.sum() * 0
    wanted = _wide(teacher.detach())
    loss = F.mse_loss(_wide(student), wanted)
    return loss / wanted.square().mean().clamp(min=MIN_MEAN_SQUARE) if relative else loss


class HintLoss(nn.Module):
    """`hint_loss` behind an adaptation layer, a trained 1x1 convolution from the student's channels to the teacher's.

    It is there where the widths are equal too: Romero et al. and Chen et al. find that it helps. The layer is trained
    with the student and thrown away with the teacher.

    Args:
        student_channels: of the student's map.
        teacher_channels: of the teacher's.
        relative: see `hint_loss`.
    """

    def __init__(self, student_channels: int, teacher_channels: int, *, relative: bool = False) -> None:
        super().__init__()
        self._relative = relative
        self.adaptation = nn.Conv2d(student_channels, teacher_channels, 1)
        nn.init.kaiming_normal_(self.adaptation.weight, nonlinearity="linear")
        if self.adaptation.bias is not None:
            nn.init.zeros_(self.adaptation.bias)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``(B, C_s, h, w)`` and ``(B, C_t, h, w)`` to a scalar."""
        return hint_loss(self.adaptation(student), teacher, relative=self._relative)


def soft_class_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 10.0,
    background_weight: float = 1.0,
    squared_temperature: bool = False,
) -> Tensor:
    """Cross-entropy ``-sum P_t log P_s`` of softened classes, mean over the samples (L_t,cls of equation 2).

    Args:
        student_logits: ``(S, C)``, class 0 the background.
        teacher_logits: ``(S, C)``, of the same anchors or RoIs; no gradient is taken through it.
        temperature: divides both logits.
        background_weight: of class 0's term; 1 for the others. Chen et al. take 1.5, this paper says nothing.
        squared_temperature: whether the loss is multiplied by the temperature's square, which keeps the gradient's
            size as the temperature grows (Hinton et al.); the paper mentions no such factor.

    Returns:
        A scalar; exactly 0, with a gradient path, where ``S`` is 0.

    Raises:
        ValueError: shapes differ or are not ``(S, C)``.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"logits are {tuple(student_logits.shape)} (student) and {tuple(teacher_logits.shape)} (teacher), "
            "expected (S, C) twice"
        )
    if len(student_logits) == 0:
        return student_logits.sum() * 0
    wanted = F.softmax(_wide(teacher_logits.detach()) / temperature, dim=1)
    terms = wanted * F.log_softmax(_wide(student_logits) / temperature, dim=1)  # (S, C)
    loss = -(terms.sum(dim=1) + (background_weight - 1) * terms[:, 0]).mean()
    return loss * temperature**2 if squared_temperature else loss


def bounded_box_loss(
    student_deltas: Tensor,
    teacher_deltas: Tensor,
    targets: Tensor,
    positive: Tensor,
    *,
    margin: float = 0.0,
) -> Tensor:
    """Squared distance to the truth wherever the student is no better than the teacher (L_t,reg of equation 2).

    ``||R_s - y||^2`` where ``||R_s - y||^2 + m > ||R_t - y||^2``, else 0; summed over the positive samples and divided
    by all of them, as `personsearch.losses.detection.box_loss` does. The teacher is a bound, not an aim: a box that it
    puts badly teaches nothing.

    Args:
        student_deltas: ``(S, 4)``.
        teacher_deltas: ``(S, 4)``, of the same anchors or RoIs in the same box code; no gradient is taken through it.
        targets: ``(S, 4)``, y; rows that are not positive do not count.
        positive: ``(S,)`` bool, samples that lie on a person.
        margin: m.

    Returns:
        A scalar; exactly 0, with a gradient path, where no sample is positive.

    Raises:
        ValueError: shapes do not fit.
    """
    if not student_deltas.shape == teacher_deltas.shape == targets.shape or positive.shape != targets.shape[:1]:
        raise ValueError(
            f"deltas are {tuple(student_deltas.shape)} (student) and {tuple(teacher_deltas.shape)} (teacher), targets "
            f"{tuple(targets.shape)}, positive {tuple(positive.shape)}: expected (S, 4) three times and (S,)"
        )
    truth = _wide(targets[positive])
    of_student = (_wide(student_deltas[positive]) - truth).square().sum(dim=1)
    of_teacher = (_wide(teacher_deltas[positive].detach()) - truth).square().sum(dim=1)
    counted = of_student * (of_student.detach() + margin > of_teacher)
    return counted.sum() / max(1, len(targets))


def _wide(tensor: Tensor) -> Tensor:
    # Half precision overflows on squares of activations and rounds small differences of logits away.
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
