"""Prediction distillation: the student's identity distribution follows the teacher's (HDL, equations 7 and 8)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

KLDirection = Literal["teacher_first", "student_first"]


def prediction_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    person_ids: Tensor,
    *,
    temperature: float,
    direction: KLDirection,
) -> Tensor:
    """``t^2 * KL`` between the softened identity distributions, mean over RoIs on a labelled person.

    The paper's sum runs over identities for one person; it is silent about which RoIs take part. Only those on a
    labelled person do: the teacher's identity logits mean nothing on background, and on a person without
    identity they name somebody else.

    ``student_first`` is ``KL(student || teacher)``, equation 7 as printed. ``teacher_first`` is
    ``KL(teacher || student)``, the direction of Hinton et al., arXiv:1503.02531.

    Args:
        student_logits: ``(R, P)``.
        teacher_logits: ``(R, P)``, of the same RoIs; no gradient is taken through it.
        person_ids: ``(R,)`` int64; negative rows do not count.
        temperature: t, divides both logits.
        direction: see above.

    Returns:
        A scalar; exactly 0, with a gradient path, where no RoI is labelled.

    Raises:
        ValueError: shapes do not fit, or the direction is unknown.
    """
    if student_logits.shape != teacher_logits.shape or person_ids.shape != student_logits.shape[:1]:
        raise ValueError(
            f"logits are {tuple(student_logits.shape)} (student) and {tuple(teacher_logits.shape)} (teacher) "
            f"with {tuple(person_ids.shape)} person ids, expected (R, P) twice and (R,)"
        )
    labelled = person_ids >= 0
    if not bool(labelled.any()):
        return student_logits.sum() * 0
    student = _log_distribution(student_logits[labelled], temperature)
    teacher = _log_distribution(teacher_logits[labelled].detach(), temperature)
    if direction == "teacher_first":
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    elif direction == "student_first":
        divergence = F.kl_div(teacher, student, reduction="batchmean", log_target=True)
    else:
        raise ValueError(f"direction is {direction!r}, expected 'teacher_first' or 'student_first'")
    return divergence * temperature**2


def _log_distribution(logits: Tensor, temperature: float) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.log_softmax(wide / temperature, dim=1)
