"""Anchors that propose: local maxima among their own shape."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from personsearch.models.peaks import DROPPED, peaks_only


def slow_peaks(margins: Tensor, map_hw: tuple[int, int], side: int) -> Tensor:
    """Anchor by anchor, each beside its neighbours."""
    (height, width), reach = map_hw, side // 2
    shapes = margins.shape[1] // (height * width)
    kept = margins.clone()
    for image in range(len(margins)):
        grid = margins[image].reshape(height, width, shapes)
        for y in range(height):
            for x in range(width):
                for shape in range(shapes):
                    near = grid[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1, shape]
                    if grid[y, x, shape] < near.max():
                        kept[image, (y * width + x) * shapes + shape] = DROPPED
    return kept


@given(
    batch=st.integers(1, 2), height=st.integers(1, 6), width=st.integers(1, 6), shapes=st.integers(1, 3),
    side=st.sampled_from([1, 3, 5]), seed=st.integers(0, 1000), whole=st.booleans(),
)  # fmt: skip
def test_peaks_equal_their_slow_twin(
    batch: int, height: int, width: int, shapes: int, side: int, seed: int, whole: bool
) -> None:
    margins = 4 * torch.randn(batch, height * width * shapes, generator=torch.Generator().manual_seed(seed))
    if whole:
        margins = margins.round()  # equal neighbours
    found = peaks_only(margins, (height, width), side)
    torch.testing.assert_close(found, slow_peaks(margins, (height, width), side), rtol=0, atol=0)
    best = margins.argmax(dim=1)
    assert (found.gather(1, best[:, None]) == margins.gather(1, best[:, None])).all(), "the best anchor always stays"


def test_a_person_of_many_anchors_leaves_room_for_another() -> None:
    """Two people, the first with the 25 best anchors of the frame, and eight anchors that may propose."""
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    first, second = ((x - cx) ** 2 + (y - 6) ** 2 for cx in (4, 12))
    margins = torch.maximum(9 - first / 4, 4 - second / 4).reshape(1, -1)
    places = {side: peaks_only(margins, (12, 16), side).topk(8).indices[0] % 16 for side in (1, 3)}
    assert (places[1] < 8).all()
    assert 12 in places[3].tolist()
