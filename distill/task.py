"""A student and its teacher on the same images and the same RoIs, compared tap by tap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.models import SearchModel
from personsearch.train.task import Task, TaskBatch, weighted_sum

TapLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``loss(student tap, teacher tap, roi_person_ids)``: a scalar."""


@dataclass(frozen=True)
class Criteria:
    """One kind of knowledge: what is compared with what, and how much it counts.

    Attributes:
        weight: of the sum of ``pairs`` in the total loss.
        pairs: ``{(student tap, teacher tap): loss}``.
    """

    weight: float
    pairs: Mapping[tuple[str, str], TapLoss]


class DistillationTask(Task):
    """Weighted losses of the labels plus weighted criteria against a frozen teacher.

    Person taps and identity logits can be compared only on the same RoIs: the student samples them, the teacher
    is asked for its taps there.

    Args:
        student: is trained.
        teacher: stays in evaluation mode, gets no gradient and is no part of the checkpoint.
        loss_weights: weight of a named loss of the student; 1 where absent.
        criteria: by the name that each sum is logged under.

    Raises:
        ValueError: no criterion, or one named as a loss weight.
    """

    def __init__(
        self,
        student: SearchModel,
        teacher: SearchModel,
        *,
        loss_weights: Mapping[str, float],
        criteria: Mapping[str, Criteria],
    ) -> None:
        super().__init__()
        if not criteria or any(not kind.pairs for kind in criteria.values()):
            raise ValueError("a distillation needs at least one criterion of each kind")
        self.student = student
        self.teacher = teacher.eval().requires_grad_(False)
        self._loss_weights, self._criteria = dict(loss_weights), dict(criteria)

    @property
    def trained(self) -> nn.Module:
        return self.student

    def train(self, mode: bool = True) -> DistillationTask:
        """Switches the student; the teacher's batch statistics and dropout stay fixed."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        output = self.student(batch.images, batch.boxes, batch.person_ids)
        with torch.no_grad():
            known = self.teacher.taps(batch.images, output.rois)
        learnt = {
            name: torch.stack(
                [_compare(pair, loss, output.taps, known, output.roi_person_ids) for pair, loss in kind.pairs.items()]
            ).sum()
            for name, kind in self._criteria.items()
        }
        total = weighted_sum(output.losses, self._loss_weights)
        total = total + weighted_sum(learnt, {name: kind.weight for name, kind in self._criteria.items()})
        return {"loss": total, **output.losses, **learnt}

    def after_step(self) -> None:
        self.student.update_memories()


def _compare(
    pair: tuple[str, str],
    loss: TapLoss,
    student_taps: Mapping[str, Tensor],
    teacher_taps: Mapping[str, Tensor],
    person_ids: Tensor,
) -> Tensor:
    for name, taps, whose in ((pair[0], student_taps, "student"), (pair[1], teacher_taps, "teacher")):
        if name not in taps:
            raise InputError(
                f"the {whose} has no tap `{name}`",
                where="distillation",
                expected="one of " + ", ".join(taps),
                remedy="leave it out of the recipe or choose a model that has it",
            )
    try:
        return loss(student_taps[pair[0]], teacher_taps[pair[1]], person_ids)
    except ValueError as error:
        raise InputError(
            f"`{pair[0]}` of the student does not fit `{pair[1]}` of the teacher",
            where="distillation",
            remedy=str(error),
        ) from error
