"""The exported graph's own operators against torchvision's, over random scenes."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms, roi_align

from personsearch.models.deployable import fixed_nms, matrix_pool


def crowd(seed: int, count: int, spread: float) -> Tensor:
    """Boxes of ``count`` people around a few places, so that long chains of overlaps arise."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread
    size = 10 + torch.rand(count, 2, generator=generator) * torch.tensor([20.0, 50.0])
    return torch.cat([corner, corner + size], dim=1)


@given(st.integers(0, 10_000), st.integers(1, 60), st.floats(1, 300), st.sampled_from([0.3, 0.4, 0.5, 0.7]))
@settings(max_examples=80, deadline=None)
def test_fixed_nms_equals_greedy_nms(seed: int, count: int, spread: float, threshold: float) -> None:
    boxes = crowd(seed, count, spread)
    scores = torch.linspace(1, 0.1, count)
    expected = nms(boxes, scores, threshold)
    kept = fixed_nms(boxes.unsqueeze(0), torch.ones(1, count), threshold)[0]
    assert kept.nonzero().flatten().tolist() == expected.tolist()


def test_fixed_nms_follows_the_longest_possible_chain() -> None:
    # Each box overlaps only its neighbours, so the last one's fate takes every step to settle.
    count = 40
    left = torch.arange(count) * 4.0
    boxes = torch.stack([left, torch.zeros(count), left + 10, torch.full((count,), 20.0)], dim=1)
    kept = fixed_nms(boxes.unsqueeze(0), torch.ones(1, count), 0.4)[0]
    assert kept.tolist() == [float(i % 2 == 0) for i in range(count)]


@given(st.integers(0, 10_000), st.integers(2, 30))
@settings(max_examples=30, deadline=None)
def test_an_invalid_box_neither_stays_nor_suppresses(seed: int, count: int) -> None:
    boxes = crowd(seed, count, 40)
    valid = (torch.rand(count, generator=torch.Generator().manual_seed(seed)) > 0.4).float()
    kept = fixed_nms(boxes.unsqueeze(0), valid.unsqueeze(0), 0.5)[0]
    rows = valid.nonzero().flatten()
    expected = rows[nms(boxes[rows], torch.linspace(1, 0.1, count)[rows], 0.5)]
    assert kept.nonzero().flatten().tolist() == expected.tolist()


@given(st.integers(0, 10_000), st.sampled_from([8, 16]), st.sampled_from([1, 5, 7]))
@settings(max_examples=40, deadline=None)
def test_matrix_pool_equals_roi_align(seed: int, stride: int, pool_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    feature = torch.randn(2, 3, 6, 9, generator=generator)
    width, height = 9 * stride, 6 * stride
    ends = torch.rand(2, 4, 2, 2, generator=generator).sort(dim=2).values  # (B, K, end, axis)
    boxes = (ends * torch.tensor([width, height])).reshape(2, 4, 4)
    boxes[..., 2:] = torch.minimum(boxes[..., 2:] + 1, torch.tensor([width, height], dtype=torch.float32))
    expected = roi_align(feature, list(boxes), pool_size, 1 / stride, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(matrix_pool(feature, boxes, pool_size, stride), expected, atol=1e-4, rtol=1e-4)
