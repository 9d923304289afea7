"""The prediction loss against plain loops, both directions, and who takes part."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.distill.prediction import prediction_loss


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def slow_loss(
    student: torch.Tensor, teacher: torch.Tensor, person_ids: list[int], temperature: float, direction: str
) -> float:
    """Equations 7 and 8, number by number, mean over the labelled rows."""
    terms = []
    for row, person_id in enumerate(person_ids):
        if person_id < 0:
            continue
        first, second = softmax(student[row].tolist(), temperature), softmax(teacher[row].tolist(), temperature)
        if direction == "teacher_first":
            first, second = second, first
        terms.append(sum(p * math.log(p / q) for p, q in zip(first, second, strict=True)))
    return temperature**2 * sum(terms) / len(terms)


def logits(seed: int, rows: int, people: int) -> torch.Tensor:
    return torch.randn(rows, people, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


@pytest.mark.parametrize("direction", ["teacher_first", "student_first"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("person_ids", [[0], [2, -1, 0, -1], [1, 1, 1]])
def test_equals_slow_twin(person_ids: list[int], temperature: float, direction: str) -> None:
    student, teacher = logits(0, len(person_ids), 5), logits(1, len(person_ids), 5)
    expected = slow_loss(student, teacher, person_ids, temperature, direction)
    found = prediction_loss(student, teacher, torch.tensor(person_ids), temperature=temperature, direction=direction)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_the_directions_differ() -> None:
    student, teacher, ids = logits(0, 3, 4), logits(1, 3, 4), torch.tensor([0, 1, 2])
    first = prediction_loss(student, teacher, ids, temperature=2.0, direction="teacher_first")
    second = prediction_loss(student, teacher, ids, temperature=2.0, direction="student_first")
    swapped = prediction_loss(teacher, student, ids, temperature=2.0, direction="student_first")
    assert float(first) != pytest.approx(float(second))
    assert float(first) == pytest.approx(float(swapped))


@pytest.mark.parametrize("direction", ["teacher_first", "student_first"])
def test_gradient(direction: str) -> None:
    student, teacher = logits(0, 4, 3).requires_grad_(), logits(1, 4, 3)
    ids = torch.tensor([1, -1, 0, 2])
    assert torch.autograd.gradcheck(
        lambda x: prediction_loss(x, teacher, ids, temperature=4.0, direction=direction), (student,)
    )


def test_only_labelled_rows_and_only_the_student_get_a_gradient() -> None:
    student, teacher = logits(0, 3, 4).requires_grad_(), logits(1, 3, 4).requires_grad_()
    prediction_loss(student, teacher, torch.tensor([-1, 2, -2]), temperature=4.0, direction="teacher_first").backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum(dim=1).gt(0).tolist() == [False, True, False]


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("direction", ["teacher_first", "student_first"])
def test_nobody_labelled_gives_zero_with_a_graph(rows: int, direction: str) -> None:
    student = torch.zeros(rows, 4, requires_grad=True)
    ids = torch.full((rows,), -1)
    loss = prediction_loss(student, torch.zeros(rows, 4), ids, temperature=4.0, direction=direction)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    shift=st.floats(-50, 50),
    direction=st.sampled_from(["teacher_first", "student_first"]),
    temperature=st.floats(0.5, 20),
)
def test_not_negative_and_blind_to_a_shift(seed: int, shift: float, direction: str, temperature: float) -> None:
    student, teacher, ids = logits(seed, 3, 6), logits(seed + 1, 3, 6), torch.tensor([0, 3, 5])
    plain = float(prediction_loss(student, teacher, ids, temperature=temperature, direction=direction))
    moved = float(prediction_loss(student + shift, teacher, ids, temperature=temperature, direction=direction))
    own = float(prediction_loss(student, student, ids, temperature=temperature, direction=direction))
    assert plain >= 0
    assert moved == pytest.approx(plain, rel=1e-6, abs=1e-9)
    assert own == pytest.approx(0, abs=1e-9)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    loss = prediction_loss(
        student, torch.tensor([[-1e4, 0.0, 1e4]]), torch.tensor([0]), temperature=1.0, direction="teacher_first"
    )
    loss.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize(("teacher", "ids"), [((3, 5), 3), ((2, 4), 3), ((3, 4), 2)])
def test_shapes_that_do_not_fit_are_refused(teacher: tuple[int, int], ids: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        prediction_loss(
            torch.zeros(3, 4),
            torch.zeros(teacher),
            torch.zeros(ids, dtype=torch.int64),
            temperature=4.0,
            direction="teacher_first",
        )
