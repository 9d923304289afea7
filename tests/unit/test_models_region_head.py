"""Where a fresh network's embeddings lie: why learning from scratch against a look-up table wants a norm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from personsearch.models.heads.region_head import RegionHead


def mean_cosine(norm_embedding: bool) -> float:
    """Of all pairs of 64 different people, described by a fresh head on positive maps, as ReLU leaves them."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand((64, 48, 7, 7), generator=generator)
    torch.manual_seed(0)
    head = RegionHead(nn.Identity(), 48, 16, norm_embedding=norm_embedding).train()
    rows = F.normalize(head.embed(maps).detach())
    return float((rows @ rows.T)[~torch.eye(64, dtype=torch.bool)].mean())


def test_without_a_norm_everybody_has_one_direction_and_with_it_nobody() -> None:
    assert mean_cosine(False) > 0.95
    assert abs(mean_cosine(True)) < 0.05


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_of_hardly_anybody_is_no_error(rows: int) -> None:
    head = RegionHead(nn.Identity(), 8, 4, norm_embedding=True).train()
    found = head.embed(torch.rand(rows, 8, 3, 3))
    assert found.shape == (rows, 4)
    assert found.isfinite().all()


def test_a_detector_has_neither() -> None:
    head = RegionHead(nn.Identity(), 8)
    assert head.embed(torch.rand(3, 8, 2, 2)).shape == (3, 0)
    assert not any("norm_out" in name for name in head.state_dict())
