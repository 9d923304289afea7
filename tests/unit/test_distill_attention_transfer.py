"""The attention-transfer loss against plain loops, at its limits, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personsearch.distill.attention_transfer import attention_transfer_loss, spatial_vectors


def slow_loss(student: torch.Tensor, teacher: torch.Tensor, reduction: str) -> float:
    """Equations 4 and 5, number by number."""

    def unit(image: torch.Tensor) -> list[float]:
        channels, height, width = image.shape
        energy = [sum(float(image[c, y, x]) ** 2 for c in range(channels)) for y in range(height) for x in range(width)]
        length = math.sqrt(sum(value**2 for value in energy))
        return [value / length for value in energy]

    total = 0.0
    for image_s, image_t in zip(student, teacher, strict=True):
        squared = [(a - b) ** 2 for a, b in zip(unit(image_s), unit(image_t), strict=True)]
        total += sum(squared) / len(squared) if reduction == "mean" else 0.5 * math.sqrt(sum(squared))
    return total / len(student)


def maps(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("reduction", ["mean", "norm"])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 2, 3, 4), (5, 4, 4, 2)])
def test_equals_slow_twin(shape: tuple[int, ...], reduction: str) -> None:
    student, teacher = maps(0, *shape), maps(1, shape[0], shape[1] + 3, *shape[2:])
    expected = slow_loss(student, teacher, reduction)
    assert float(attention_transfer_loss(student, teacher, reduction=reduction)) == pytest.approx(expected, abs=1e-12)


def test_the_two_reductions_differ_by_what_the_docstring_says() -> None:
    student, teacher = maps(0, 1, 4, 5, 6), maps(1, 1, 4, 5, 6)
    norm = float(attention_transfer_loss(student, teacher, reduction="norm"))
    mean = float(attention_transfer_loss(student, teacher, reduction="mean"))
    assert mean == pytest.approx((2 * norm) ** 2 / 30)


@pytest.mark.parametrize("reduction", ["mean", "norm"])
def test_gradient(reduction: str) -> None:
    student, teacher = maps(0, 3, 2, 3, 2).requires_grad_(), maps(1, 3, 4, 3, 2)
    assert torch.autograd.gradcheck(lambda x: attention_transfer_loss(x, teacher, reduction=reduction), (student,))


@pytest.mark.parametrize("reduction", ["mean", "norm"])
def test_equal_maps_give_zero_and_a_zero_gradient(reduction: str) -> None:
    student = maps(0, 2, 3, 4, 4).requires_grad_()
    loss = attention_transfer_loss(student, student.detach().clone(), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("reduction", ["mean", "norm"])
@pytest.mark.parametrize("dark", ["student", "teacher", "both"])
def test_a_map_of_zeros_is_finite(reduction: str, dark: str) -> None:
    zero = torch.zeros(1, 2, 3, 3)
    student = (zero if dark != "teacher" else maps(0, 1, 2, 3, 3).float()).clone().requires_grad_()
    teacher = zero if dark != "student" else maps(1, 1, 2, 3, 3).float()
    loss = attention_transfer_loss(student, teacher, reduction=reduction)
    loss.backward()
    assert student.grad is not None
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(student.grad).all())


@pytest.mark.parametrize("reduction", ["mean", "norm"])
def test_no_rows_give_zero_with_a_graph(reduction: str) -> None:
    student = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss = attention_transfer_loss(student, torch.zeros(0, 5, 4, 4), reduction=reduction)
    assert loss.item() == 0
    assert loss.requires_grad


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    scale_s=st.floats(1e-15, 1e15),
    scale_t=st.floats(1e-15, 1e15),
    reduction=st.sampled_from(["mean", "norm"]),
)
def test_scale_does_not_matter(seed: int, scale_s: float, scale_t: float, reduction: str) -> None:
    # In float32: squares of 1e-15 and 1e15 and their squares leave its range.
    student, teacher = maps(seed, 2, 3, 4, 3).float(), maps(seed + 1, 2, 6, 4, 3).float()
    plain = attention_transfer_loss(student, teacher, reduction=reduction)
    scaled = attention_transfer_loss(student * scale_s, teacher * scale_t, reduction=reduction)
    torch.testing.assert_close(scaled, plain, rtol=1e-4, atol=1e-7)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 4), height=st.integers(1, 5), width=st.integers(1, 5))
def test_bounds_and_symmetry(seed: int, rows: int, height: int, width: int) -> None:
    first, second = maps(seed, rows, 3, height, width), maps(seed + 1, rows, 3, height, width)
    norm = float(attention_transfer_loss(first, second, reduction="norm"))
    assert 0 <= norm <= math.sqrt(2) / 2 + 1e-9
    assert norm == pytest.approx(float(attention_transfer_loss(second, first, reduction="norm")))
    assert torch.allclose(spatial_vectors(first).norm(dim=1), torch.ones(rows, dtype=torch.float64))


def test_channel_order_does_not_matter() -> None:
    student, teacher = maps(0, 2, 5, 3, 3), maps(1, 2, 4, 3, 3)
    shuffled = student[:, [4, 2, 0, 3, 1]]
    plain = attention_transfer_loss(student, teacher, reduction="norm")
    torch.testing.assert_close(attention_transfer_loss(shuffled, teacher, reduction="norm"), plain)


def test_half_precision_is_computed_in_float32() -> None:
    student = (maps(0, 1, 8, 4, 4) * 300).to(torch.float16)  # its squares are above float16's 65504
    loss = attention_transfer_loss(student, student * 0.5, reduction="norm")
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 3, 4, 4), (2, 3, 4, 5), r"\(2, 3, 4, 5\)"),
        ((2, 3, 4, 4), (1, 3, 4, 4), "rows, height and width"),
        ((2, 3, 4), (2, 3, 4), r"expected \(N, C, h, w\)"),
    ],
)
def test_maps_that_do_not_fit_are_refused(student: tuple[int, ...], teacher: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_transfer_loss(torch.zeros(student), torch.zeros(teacher), reduction="mean")
