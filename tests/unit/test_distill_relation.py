"""The relation loss against plain loops, and who takes part."""

from __future__ import annotations

import math

import pytest
import torch

from personsearch.distill.relation import relation_loss


def rows(seed: int, count: int, width: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def slow_cosine(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True)) / math.hypot(*first) / math.hypot(*second)


@pytest.mark.parametrize("person_ids", [[0, 1], [2, -1, 0, -1, 2], [1, 1, 1]])
def test_equals_slow_twin(person_ids: list[int]) -> None:
    student, teacher = rows(0, len(person_ids), 5), rows(1, len(person_ids), 3)
    kept = [row for row, person_id in enumerate(person_ids) if person_id >= 0]
    terms = [
        (slow_cosine(student[a].tolist(), student[b].tolist()) - slow_cosine(teacher[a].tolist(), teacher[b].tolist()))
        ** 2
        for a in kept
        for b in kept
        if a != b
    ]
    found = relation_loss(student, teacher, torch.tensor(person_ids))
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_neither_length_nor_a_turn_of_the_space_matters() -> None:
    student, teacher, ids = rows(0, 6, 4), rows(1, 6, 4), torch.arange(6)
    turn = torch.linalg.qr(rows(2, 4, 4)).Q
    plain = float(relation_loss(student, teacher, ids))
    assert float(relation_loss(student * torch.arange(1, 7)[:, None], 5 * teacher @ turn, ids)) == pytest.approx(plain)
    assert float(relation_loss(7 * teacher @ turn, teacher, ids)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("person_ids", [[], [-1, -1], [-1, 3, -2]])
def test_fewer_than_two_people_cost_nothing(person_ids: list[int]) -> None:
    student = rows(0, len(person_ids), 4).requires_grad_()
    loss = relation_loss(student, rows(1, len(person_ids), 4), torch.tensor(person_ids, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_gradient() -> None:
    student, teacher, ids = rows(0, 4, 3).requires_grad_(), rows(1, 4, 2), torch.tensor([0, 1, -1, 1])
    assert torch.autograd.gradcheck(lambda student: relation_loss(student, teacher, ids), (student,))
    frozen = teacher.clone().requires_grad_()
    relation_loss(student, frozen, ids).backward()
    assert frozen.grad is None


def test_half_precision_is_raised() -> None:
    student, teacher, ids = rows(0, 5, 4), rows(1, 5, 4), torch.arange(5)
    low = relation_loss(student.to(torch.bfloat16), teacher.to(torch.bfloat16), ids)
    assert low.dtype == torch.float32
    assert float(low) == pytest.approx(float(relation_loss(student, teacher, ids)), rel=0.05)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rows of the student, 3 of the teacher, 4 person ids"):
        relation_loss(rows(0, 4, 2), rows(1, 3, 2), torch.zeros(4, dtype=torch.int64))
