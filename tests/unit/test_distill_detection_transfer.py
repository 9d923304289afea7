"""KD_det's three losses against plain loops, at their limits, and their gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from personsearch.distill.detection_transfer import HintLoss, bounded_box_loss, hint_loss, soft_class_loss


def values(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- hint -----------------------------------------------------------------------------------------------------------


def test_hint_equals_slow_twin() -> None:
    student, teacher = values(0, 2, 3, 2, 4), values(1, 2, 5, 2, 4)
    loss = HintLoss(3, 5).double()
    weight, bias = (parameter.detach() for parameter in loss.adaptation.parameters())
    total, count = 0.0, 0
    for image in range(2):
        for row in range(2):
            for column in range(4):
                for channel in range(5):
                    adapted = float(bias[channel])
                    adapted += sum(float(weight[channel, c, 0, 0] * student[image, c, row, column]) for c in range(3))
                    total += (adapted - float(teacher[image, channel, row, column])) ** 2
                    count += 1
    assert float(loss(student, teacher).detach()) == pytest.approx(total / count)


def test_relative_hint_is_the_same_under_a_teacher_of_another_scale() -> None:
    student, teacher = values(0, 2, 3, 4, 4), values(1, 2, 3, 4, 4, scale=15)
    found = float(hint_loss(student, teacher, relative=True))
    assert found == pytest.approx(float(hint_loss(student, teacher)) / float(teacher.square().mean()))
    assert float(hint_loss(50 * student, 50 * teacher, relative=True)) == pytest.approx(found)
    assert float(hint_loss(0 * student, teacher, relative=True)) == pytest.approx(1), "knowing nothing costs 1"
    assert float(hint_loss(teacher, teacher, relative=True)) == 0
    assert math.isfinite(float(hint_loss(student, 0 * teacher, relative=True)))


def test_hint_trains_student_and_adaptation_but_not_the_teacher() -> None:
    student, teacher = values(0, 1, 2, 3, 3).float().requires_grad_(), values(1, 1, 4, 3, 3).float().requires_grad_()
    loss = HintLoss(2, 4)
    loss(student, teacher).backward()
    assert student.grad is not None
    assert float(student.grad.abs().sum()) > 0
    assert teacher.grad is None
    assert all(parameter.grad is not None for parameter in loss.parameters())
    assert torch.autograd.gradcheck(
        lambda x: hint_loss(x, values(3, 1, 2, 2, 2)), (values(2, 1, 2, 2, 2).requires_grad_(),)
    )


def test_hint_can_be_learnt_away() -> None:
    student, teacher = values(0, 4, 6, 5, 5).float(), values(1, 4, 3, 5, 5).float()
    teacher = torch.einsum("bchw,dc->bdhw", student, values(2, 3, 6).float()) + 2
    loss = HintLoss(6, 3)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        loss(student, teacher).backward()
        optimiser.step()
    assert float(loss(student, teacher).detach()) < 1e-3


def test_hint_of_nothing_and_of_other_sizes() -> None:
    nothing = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss = HintLoss(3, 5)(nothing, torch.zeros(0, 5, 4, 4))
    assert loss.item() == 0
    assert loss.requires_grad
    with pytest.raises(ValueError, match=r"\(1, 5, 4, 4\) after adaptation, the teacher's \(1, 5, 2, 2\)"):
        HintLoss(3, 5)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, 2, 2))


def test_hint_in_half_precision_does_not_overflow() -> None:
    student = torch.full((1, 2, 2, 2), 300.0, dtype=torch.float16)  # its square is above float16's 65504
    assert float(hint_loss(student, torch.zeros(1, 2, 2, 2))) == 90000


# -- classes --------------------------------------------------------------------------------------------------------


def slow_soft(student: Tensor, teacher: Tensor, temperature: float, background_weight: float) -> float:
    def softmax(logits: list[float]) -> list[float]:
        parts = [math.exp(value / temperature) for value in logits]
        return [part / sum(parts) for part in parts]

    total = 0.0
    for row_s, row_t in zip(student.tolist(), teacher.tolist(), strict=True):
        for index, (p_s, p_t) in enumerate(zip(softmax(row_s), softmax(row_t), strict=True)):
            total -= (background_weight if index == 0 else 1.0) * p_t * math.log(p_s)
    return total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 10.0])
@pytest.mark.parametrize("background_weight", [1.0, 1.5])
@pytest.mark.parametrize("classes", [2, 3])
def test_soft_class_equals_slow_twin(temperature: float, background_weight: float, classes: int) -> None:
    student, teacher = values(0, 6, classes, scale=4), values(1, 6, classes, scale=4)
    expected = slow_soft(student, teacher, temperature, background_weight)
    given_settings = {"temperature": temperature, "background_weight": background_weight}
    assert float(soft_class_loss(student, teacher, **given_settings)) == pytest.approx(expected)
    squared = soft_class_loss(student, teacher, squared_temperature=True, **given_settings)
    assert float(squared) == pytest.approx(expected * temperature**2)


def test_soft_class_by_hand() -> None:
    # Softened by 10, logits (0, 10 ln 3) are (1/4, 3/4) and (0, 0) are (1/2, 1/2).
    teacher, student = torch.tensor([[0.0, 10 * math.log(3)]]), torch.zeros(1, 2)
    assert float(soft_class_loss(student, teacher)) == pytest.approx(math.log(2))
    assert float(soft_class_loss(teacher, teacher)) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    # 1.5 of the background adds half of its term.
    assert float(soft_class_loss(student, teacher, background_weight=1.5)) == pytest.approx(1.125 * math.log(2))


def test_soft_class_gradient() -> None:
    student, teacher = values(0, 3, 2).requires_grad_(), values(1, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: soft_class_loss(x, teacher, temperature=2.0, background_weight=1.5), (student,)
    )
    soft_class_loss(student, teacher).backward()
    assert teacher.grad is None


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6), temperature=st.floats(0.5, 20))
def test_soft_class_is_least_where_the_student_is_the_teacher(seed: int, count: int, temperature: float) -> None:
    student, teacher = values(seed, count, 2, scale=5), values(seed + 1, count, 2, scale=5)
    least = float(soft_class_loss(teacher, teacher, temperature=temperature))
    assert float(soft_class_loss(student, teacher, temperature=temperature)) >= least - 1e-12


def test_soft_class_of_nothing_and_of_other_shapes() -> None:
    nothing = torch.zeros(0, 2, requires_grad=True)
    loss = soft_class_loss(nothing, torch.zeros(0, 2))
    assert loss.item() == 0
    assert loss.requires_grad
    for shape in ((3, 2), (4, 3)):
        with pytest.raises(ValueError, match=r"expected \(S, C\) twice"):
            soft_class_loss(torch.zeros(4, 2), torch.zeros(shape))


# -- boxes ----------------------------------------------------------------------------------------------------------


def slow_bounded(student: Tensor, teacher: Tensor, targets: Tensor, positive: Tensor, margin: float) -> float:
    total = 0.0
    for row in range(len(targets)):
        of_student = sum((float(student[row, k]) - float(targets[row, k])) ** 2 for k in range(4))
        of_teacher = sum((float(teacher[row, k]) - float(targets[row, k])) ** 2 for k in range(4))
        if bool(positive[row]) and of_student + margin > of_teacher:
            total += of_student
    return total / max(1, len(targets))


@pytest.mark.parametrize("margin", [0.0, 0.7])
def test_bounded_box_equals_slow_twin(margin: float) -> None:
    parts = [values(seed, 12, 4) for seed in range(3)]
    positive = values(3, 12) > 0
    expected = slow_bounded(*parts, positive, margin)
    assert expected > 0
    assert float(bounded_box_loss(*parts, positive, margin=margin)) == pytest.approx(expected)


def test_bounded_box_by_hand() -> None:
    targets = torch.zeros(4, 4)
    student = torch.tensor([[1.0, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], [4, 0, 0, 0]])
    teacher = torch.tensor([[2.0, 0, 0, 0], [1, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    positive = torch.tensor([True, True, True, False])
    # Better than the teacher; worse, 4; equal, and so not better by a margin of 0: not counted; background.
    assert float(bounded_box_loss(student, teacher, targets, positive)) == 4 / 4
    # A margin of 1 wants the equal one (9) better, and 3.5 the first (1), too.
    assert float(bounded_box_loss(student, teacher, targets, positive, margin=1.0)) == (4 + 9) / 4
    assert float(bounded_box_loss(student, teacher, targets, positive, margin=3.5)) == (1 + 4 + 9) / 4


def test_bounded_box_gradient_is_towards_the_truth() -> None:
    student, teacher, targets = (values(seed, 5, 4).requires_grad_() for seed in range(3))
    positive = torch.tensor([True, False, True, True, True])
    assert torch.autograd.gradcheck(
        lambda x: bounded_box_loss(x, teacher.detach(), targets.detach(), positive), (student,)
    )
    bounded_box_loss(student, teacher, targets.detach(), positive).backward()
    assert student.grad is not None
    assert teacher.grad is None
    worse = (student - targets).square().sum(dim=1) > (teacher - targets).square().sum(dim=1)
    expected = 2 * (student - targets) / 5 * (worse & positive).unsqueeze(1)
    torch.testing.assert_close(student.grad, expected.detach())


@pytest.mark.parametrize("samples", [0, 3])
def test_bounded_box_without_people(samples: int) -> None:
    student = torch.ones(samples, 4, requires_grad=True)
    rows = torch.zeros(samples, 4)
    loss = bounded_box_loss(student, rows, rows, torch.zeros(samples, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert float(student.grad.abs().sum()) == 0


@pytest.mark.parametrize("changes", [{"teacher": (3, 4)}, {"targets": (2, 5)}, {"positive": (3,)}])
def test_boxes_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    shapes = {"student": (2, 4), "teacher": (2, 4), "targets": (2, 4), "positive": (2,), **changes}
    parts = [torch.zeros(shapes[name]) for name in ("student", "teacher", "targets")]
    with pytest.raises(ValueError, match=r"expected \(S, 4\) three times"):
        bounded_box_loss(*parts, torch.zeros(shapes["positive"], dtype=torch.bool))
