"""Which anchors and RoIs are positive, negative or left out, and which of them are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

IGNORE_OVERLAP = 0.5


@dataclass(frozen=True)
class Match:
    """For each of N candidates: the index of its person, and whether it is positive, negative or neither."""

    person: Tensor
    positive: Tensor
    negative: Tensor


def match(
    candidates: Tensor,
    people: Tensor,
    ignored: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    best_for_each: bool,
) -> Match:
    """Matches candidate boxes ``(N, 4)`` with people ``(G, 4)`` by overlap.

    A candidate is positive at ``positive_iou`` or more, negative below ``negative_iou``. With ``best_for_each``
    the candidates that overlap a person most are positive too, however little (Ren et al., section 3.1.2).
    A negative candidate that lies by half or more in an ``ignored`` region ``(I, 4)`` is left out.
    """
    if len(people) == 0:
        nobody = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
        inside = _inside(candidates, ignored)
        return Match(torch.zeros_like(nobody, dtype=torch.int64), nobody, ~inside)
    iou = box_iou(people, candidates)  # (G, N)
    best, person = iou.max(dim=0)
    positive = best >= positive_iou
    if best_for_each:
        most = iou.max(dim=1, keepdim=True).values
        forced = (iou == most) & (most > 0)
        positive = positive | forced.any(dim=0)
        # A forced candidate belongs to the person it is best for, even where another overlaps it more.
        person = torch.where(forced.any(dim=0), (iou * forced).argmax(dim=0), person)
    negative = (best < negative_iou) & ~positive & ~_inside(candidates, ignored)
    return Match(person, positive, negative)


def sample(found: Match, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Draws at most ``count`` candidates, at most the given fraction positive; returns both index vectors."""
    positive = found.positive.nonzero().flatten()
    negative = found.negative.nonzero().flatten()
    positive = _draw(positive, int(count * positive_fraction))
    return positive, _draw(negative, count - len(positive))


def _draw(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]


def _inside(candidates: Tensor, ignored: Tensor) -> Tensor:
    if len(ignored) == 0:
        return torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    low = torch.maximum(candidates[:, None, :2], ignored[None, :, :2])
    high = torch.minimum(candidates[:, None, 2:], ignored[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=2)
    area = (candidates[:, 2:] - candidates[:, :2]).clamp(min=0).prod(dim=1).clamp(min=1e-6)
    return overlap.max(dim=1).values / area >= IGNORE_OVERLAP
