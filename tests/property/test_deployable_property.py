"""The exported graph's own operators against torchvision's, over random scenes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms, roi_align

from personsearch.core.export_recipes import ExportRecipe
from personsearch.models.deployable import fixed_nms, matrix_pool, operator_pool, pairwise_iou


def crowd(seed: int, count: int, spread: float) -> Tensor:
    """Boxes of ``count`` people around a few places, so that long chains of overlaps arise."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread
    size = 10 + torch.rand(count, 2, generator=generator) * torch.tensor([20.0, 50.0])
    return torch.cat([corner, corner + size], dim=1)


@given(st.integers(0, 10_000), st.integers(1, 60), st.floats(1, 300), st.sampled_from([0.3, 0.4, 0.5, 0.7]))
@settings(max_examples=80)
def test_fixed_nms_equals_greedy_nms(seed: int, count: int, spread: float, threshold: float) -> None:
    boxes = crowd(seed, count, spread)
    scores = torch.linspace(1, 0.1, count)
    expected = nms(boxes, scores, threshold)
    kept = fixed_nms(boxes.unsqueeze(0), torch.ones(1, count), threshold)[0]
    assert kept.nonzero().flatten().tolist() == expected.tolist()


def street(seed: int, count: int) -> Tensor:
    """``count`` detections of a street in perspective: a few people, near ones large, each detected many times over."""
    generator = torch.Generator().manual_seed(seed)
    people = max(1, count // 6)
    foot = 0.3 + 0.7 * torch.rand(people, generator=generator)
    height = 40 + 400 * foot
    who = torch.randint(0, people, (count,), generator=generator)
    tall = height[who] * (1 + 0.15 * torch.randn(count, generator=generator))
    wide = tall / 2.44 * (1 + 0.1 * torch.randn(count, generator=generator))
    x = (torch.rand(people, generator=generator) * 900)[who] + 0.1 * tall * torch.randn(count, generator=generator)
    y = 600 * foot[who] + 0.05 * tall * torch.randn(count, generator=generator)
    return torch.stack([x - wide / 2, y - tall, x + wide / 2, y], dim=1)


@given(st.integers(0, 10_000), st.integers(2, 256), st.sampled_from([0.4, 0.5, 0.7]))
@settings(max_examples=30)
def test_fixed_nms_equals_greedy_nms_at_the_graphs_sizes_in_crowded_streets(
    seed: int, count: int, threshold: float
) -> None:
    boxes = street(seed, count)
    kept = fixed_nms(boxes.unsqueeze(0), torch.ones(1, count), threshold)[0]
    assert kept.nonzero().flatten().tolist() == nms(boxes, torch.linspace(1, 0.1, count), threshold).tolist()


@given(st.integers(0, 10_000), st.integers(33, 256), st.sampled_from([0.4, 0.5, 0.7]))
@settings(max_examples=60)
def test_the_steps_of_a_graph_by_default_are_enough_for_crowded_streets(
    seed: int, count: int, threshold: float
) -> None:
    steps = ExportRecipe().suppression_steps
    assert steps is not None
    for boxes in (street(seed, count), crowd(seed, count, 1 + seed % 300)):
        kept = fixed_nms(boxes.unsqueeze(0), torch.ones(1, count), threshold, steps)[0]
        assert kept.nonzero().flatten().tolist() == nms(boxes, torch.linspace(1, 0.1, count), threshold).tolist()


@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(0, 20), st.booleans())
@settings(max_examples=60)
def test_an_odd_number_of_steps_keeps_nobody_whom_greedy_suppression_drops(
    seed: int, count: int, half: int, in_line: bool
) -> None:
    boxes = queue(count) if in_line else crowd(seed, count, 1 + seed % 100)
    greedy = set(nms(boxes, torch.linspace(1, 0.1, count), 0.4).tolist())
    kept = fixed_nms(boxes.unsqueeze(0), torch.ones(1, count), 0.4, 2 * half + 1)[0].nonzero().flatten().tolist()
    assert set(kept) <= greedy
    settled = 2 * half + 2  # boxes whose fate is right after so many steps, whatever they look like
    assert [box for box in kept if box < settled] == sorted(box for box in greedy if box < settled)


def test_an_even_number_of_steps_is_refused() -> None:
    # It would keep the last of three people in a queue and the one before.
    assert after(0, queue(3), 0.4) == [1, 1, 1]
    with pytest.raises(ValueError, match="even"):
        fixed_nms(queue(3).unsqueeze(0), torch.ones(1, 3), 0.4, 2)


@given(st.integers(0, 10_000), st.integers(2, 120), st.integers(1, 119))
@settings(max_examples=30)
def test_what_the_graph_cuts_off_changes_nothing_among_what_it_keeps(seed: int, count: int, rows: int) -> None:
    boxes, rows = street(seed, count), min(rows, count)
    whole = nms(boxes, torch.linspace(1, 0.1, count), 0.5)
    kept = fixed_nms(boxes[:rows].unsqueeze(0), torch.ones(1, rows), 0.5)[0]
    assert kept.nonzero().flatten().tolist() == whole[whole < rows].tolist()


def queue(count: int) -> Tensor:
    """Boxes of which each overlaps only its neighbours: the last one's fate takes every step to settle."""
    left = torch.arange(count) * 4.0
    return torch.stack([left, torch.zeros(count), left + 10, torch.full((count,), 20.0)], dim=1)


def test_fixed_nms_follows_the_longest_possible_chain() -> None:
    count = 40
    kept = fixed_nms(queue(count).unsqueeze(0), torch.ones(1, count), 0.4)[0]
    assert kept.tolist() == [float(i % 2 == 0) for i in range(count)]


def after(steps: int, boxes: Tensor, threshold: float) -> list[float]:
    """The recurrence stopped early: what a graph with fewer steps would keep."""
    suppresses = torch.tril((pairwise_iou(boxes.unsqueeze(0))[0] > threshold).float(), -1)
    kept = torch.ones(len(boxes))
    for _ in range(steps):
        kept = (1 - suppresses @ kept).clamp(min=0)
    answer: list[float] = kept.tolist()
    return answer


def test_one_step_less_fails_in_a_queue_and_the_first_boxes_are_right_after_any_number() -> None:
    count = 12
    right = after(count - 1, queue(count), 0.4)
    assert right == fixed_nms(queue(count).unsqueeze(0), torch.ones(1, count), 0.4)[0].tolist()
    assert after(count - 2, queue(count), 0.4) != right
    for steps in range(count):
        assert after(steps, queue(count), 0.4)[: steps + 1] == right[: steps + 1]


@given(st.integers(0, 10_000), st.integers(2, 30))
@settings(max_examples=30)
def test_an_invalid_box_neither_stays_nor_suppresses(seed: int, count: int) -> None:
    boxes = crowd(seed, count, 40)
    valid = (torch.rand(count, generator=torch.Generator().manual_seed(seed)) > 0.4).float()
    kept = fixed_nms(boxes.unsqueeze(0), valid.unsqueeze(0), 0.5)[0]
    rows = valid.nonzero().flatten()
    expected = rows[nms(boxes[rows], torch.linspace(1, 0.1, count)[rows], 0.5)]
    assert kept.nonzero().flatten().tolist() == expected.tolist()


@given(st.integers(0, 10_000), st.sampled_from([8, 16]), st.sampled_from([(1, 1), (7, 7), (5, 2), (3, 8)]))
@settings(max_examples=40)
def test_matrix_pool_equals_roi_align(seed: int, stride: int, pool_hw: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(2, 3, 6, 9, generator=generator)
    width, height = 9 * stride, 6 * stride
    ends = torch.rand(2, 4, 2, 2, generator=generator).sort(dim=2).values  # (B, K, end, axis)
    boxes = (ends * torch.tensor([width, height])).reshape(2, 4, 4)
    boxes[..., 2:] = torch.minimum(boxes[..., 2:] + 1, torch.tensor([width, height], dtype=torch.float32))
    expected = roi_align(feature, list(boxes), pool_hw, 1 / stride, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(matrix_pool(feature, boxes, pool_hw, stride), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(operator_pool(feature, boxes, pool_hw, stride), expected, atol=0, rtol=0)
