"""A student and its teachers on the same images, anchors and RoIs, compared tap by tap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from personsearch.core.errors import InputError
from personsearch.distill.teachers import Teacher
from personsearch.models import SearchModel
from personsearch.models.search_model import TrainOutput
from personsearch.train.task import Task, TaskBatch, weighted_sum

TapLoss = Callable[[Tensor, Tensor, TrainOutput], Tensor]
"""``loss(student tap, teacher tap, student's output)``: a scalar.

The output has what the labels say of the rows: ``roi_person_ids`` and ``targets``. A loss may be a module with weights
of its own, an adaptation layer: they are trained and saved with the student and are no part of it.
"""


@dataclass(frozen=True)
class Criteria:
    """One kind of knowledge: what is compared with what, and how much it counts.

    Attributes:
        weight: of the sum of ``pairs`` in the total loss.
        pairs: ``{(student tap, teacher tap): loss}``.
    """

    weight: float
    pairs: Mapping[tuple[str, str], TapLoss]


@dataclass(frozen=True)
class Knowledge:
    """What a method of distillation takes from one teacher.

    Attributes:
        teacher: who knows it; none where the method changed the student itself and nobody is to be asked.
        criteria: by the name that each sum is logged under.
        loss_weights: factors of the student's own losses, 1 where absent: what the teacher takes over.
    """

    teacher: Teacher | None
    criteria: Mapping[str, Criteria]
    loss_weights: Mapping[str, float] = field(default_factory=dict)


class DistillationTask(Task):
    """Weighted losses of the labels plus weighted criteria against frozen teachers.

    Boxes, person taps and identity logits can be compared only at the same anchors and RoIs: the student samples
    them, each teacher is asked for its taps there, once a batch.

    Args:
        student: is trained.
        knowledge: what it learns from others; several methods add up, and their factors of one loss multiply.
        loss_weights: weight of a named loss of the student; 1 where absent.

    Raises:
        ValueError: there is no knowledge, a kind of it compares nothing, or two have the same name.
    """

    def __init__(
        self, student: SearchModel, knowledge: Sequence[Knowledge], *, loss_weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        names = [name for part in knowledge for name in part.criteria]
        if not knowledge or any(not kind.pairs for part in knowledge for kind in part.criteria.values()):
            raise ValueError("a distillation needs some knowledge, with at least one criterion of each kind")
        if len(set(names)) != len(names):
            raise ValueError(f"criteria {', '.join(names)}: one name is there twice")
        self.student = student
        self._knowledge = tuple(knowledge)
        teachers = {id(part.teacher): part.teacher for part in knowledge if part.teacher is not None}
        self.teachers = nn.ModuleList(teachers.values())
        self._teachers = teachers
        self._wanted = {key: self.wanted(teacher) for key, teacher in teachers.items()}
        self._loss_weights = _product([loss_weights, *(part.loss_weights for part in knowledge)])
        losses = [loss for part in knowledge for kind in part.criteria.values() for loss in kind.pairs.values()]
        modules = {id(loss): loss for loss in losses if isinstance(loss, nn.Module)}
        self._adaptation = nn.ModuleList(modules.values())

    @property
    def trained(self) -> nn.Module:
        return self.student

    @property
    def auxiliary(self) -> nn.Module | None:
        return self._adaptation if any(True for _ in self._adaptation.parameters()) else None

    def wanted(self, teacher: Teacher) -> frozenset[str]:
        """Names of the taps that ``teacher`` is asked for."""
        kinds = [kind for part in self._knowledge if part.teacher is teacher for kind in part.criteria.values()]
        return frozenset(name for kind in kinds for _, name in kind.pairs)

    def forward(self, batch: TaskBatch) -> dict[str, Tensor]:
        for teacher in self._teachers.values():
            teacher.begin(batch)
        output: TrainOutput = self.student(batch.images, batch.boxes, batch.person_ids)
        known = {key: teacher.taps(batch, output, self._wanted[key]) for key, teacher in self._teachers.items()}
        learnt: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for part in self._knowledge:
            taps = {} if part.teacher is None else known[id(part.teacher)]
            for name, kind in part.criteria.items():
                terms = [_compare(pair, loss, output, taps) for pair, loss in kind.pairs.items()]
                learnt[name], weights[name] = torch.stack(terms).sum(), kind.weight
        total = weighted_sum(output.losses, self._loss_weights)
        if learnt:
            total = total + weighted_sum(learnt, weights)
        return {"loss": total, **output.losses, **learnt}

    def after_step(self) -> None:
        self.student.update_memories()


def missing_tap(name: str, taps: Mapping[str, Tensor], whose: str) -> InputError:
    """The error for a criterion that names a tap which ``whose`` network does not have; lists those it has."""
    return InputError(
        f"the {whose} has no tap `{name}`",
        where="distillation",
        expected="one of " + ", ".join(taps),
        remedy="leave it out of the recipe or choose a model that has it",
    )


def _product(factors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    product: dict[str, float] = {}
    for weights in factors:
        for name, weight in weights.items():
            product[name] = product.get(name, 1.0) * weight
    return product


def _compare(pair: tuple[str, str], loss: TapLoss, output: TrainOutput, teacher_taps: Mapping[str, Tensor]) -> Tensor:
    for name, taps, whose in ((pair[0], output.taps, "student"), (pair[1], teacher_taps, "teacher")):
        if name not in taps:
            raise missing_tap(name, taps, whose)
    try:
        return loss(output.taps[pair[0]], teacher_taps[pair[1]], output)
    except ValueError as error:
        raise InputError(
            f"`{pair[0]}` of the student does not fit `{pair[1]}` of the teacher",
            where="distillation",
            remedy=str(error),
        ) from error
