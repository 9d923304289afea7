"""Which anchors and RoIs are positive, negative or left out, which are trained on, and what they should answer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from personsearch.models.boxes import encode

IGNORE_OVERLAP = 0.5
PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
"""Of the box code between anchors and people."""
REFINE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of the box code between RoIs and people."""


@dataclass(frozen=True)
class Labels:
    """The labels of a batch, for each image: people ``(G, 4)``, their ids ``(G,)`` and regions to ignore ``(I, 4)``."""

    people: list[Tensor]
    person_ids: list[Tensor]
    ignored: list[Tensor]

    @classmethod
    def of(cls, boxes: list[Tensor], person_ids: list[Tensor]) -> Labels:
        """Parts boxes ``(N, 4)`` by their id ``(N,)``: -2 is a region to ignore."""
        pairs = list(zip(boxes, person_ids, strict=True))
        return cls(
            [box[ids != -2] for box, ids in pairs],
            [ids[ids != -2] for _, ids in pairs],
            [box[ids == -2] for box, ids in pairs],
        )


@dataclass(frozen=True)
class AnchorSample:
    """The anchors trained on, S of them in a batch.

    Attributes:
        indices: for each image, positive ones first.
        positive: ``(S,)`` bool.
        targets: ``(S, 4)`` deltas to the person, 0 where not positive.
    """

    indices: list[Tensor]
    positive: Tensor
    targets: Tensor

    def rows(self, values: Tensor) -> Tensor:
        """The sampled rows ``(S, D)`` of ``(B, A, D)``."""
        return rows_at(values, self.indices)


@dataclass(frozen=True)
class RoiSample:
    """The RoIs trained on, R of them in a batch.

    Attributes:
        boxes: for each image ``(R_i, 4)``: its people, then other positive ones, then negative ones.
        positive: ``(R,)`` bool.
        targets: ``(R, 4)`` deltas to the person, 0 where not positive.
        person_ids: ``(R,)`` the identity, -1 for a person without one and on background.
    """

    boxes: list[Tensor]
    positive: Tensor
    targets: Tensor
    person_ids: Tensor


def rows_at(values: Tensor, indices: list[Tensor]) -> Tensor:
    """Rows of ``(B, A, D)`` at each image's indices, one image after the other, ``(S, D)``."""
    return torch.cat([values[image, chosen] for image, chosen in enumerate(indices)])


def sample_anchors(anchors: Tensor, labels: Labels, count: int) -> AnchorSample:
    """Draws ``count`` anchors an image: positive at IoU 0.7 or where a person has none better, negative below 0.3."""
    indices, positives, targets = [], [], []
    for people, ignored in zip(labels.people, labels.ignored, strict=True):
        found = match(anchors, people, ignored, positive_iou=0.7, negative_iou=0.3, best_for_each=True)
        positive, negative = sample(found, count, 0.5)
        chosen = torch.cat([positive, negative])
        target = anchors.new_zeros((len(chosen), 4))
        if len(positive):
            target[: len(positive)] = encode(people[found.person[positive]], anchors[positive], PROPOSAL_WEIGHTS)
        indices.append(chosen)
        positives.append(torch.arange(len(chosen), device=anchors.device) < len(positive))
        targets.append(target)
    return AnchorSample(indices, torch.cat(positives), torch.cat(targets))


def sample_rois(
    proposals: list[Tensor], labels: Labels, *, count: int, positive_fraction: float, negative_iou: float
) -> RoiSample:
    """Draws ``count`` RoIs an image, positive at IoU 0.5; all people take part, also beyond ``positive_fraction``.

    Args:
        proposals: for each image ``(N, 4)``.
        labels: of the batch.
        count: an image.
        positive_fraction: at most this share of those that are not people's own boxes is positive.
        negative_iou: background is below it; between it and 0.5 lies what is left out.
    """
    rois, targets, positives, ids = [], [], [], []
    parts = zip(proposals, labels.people, labels.ignored, labels.person_ids, strict=True)
    for candidates, people, ignored, person_ids in parts:
        found = match(candidates, people, ignored, positive_iou=0.5, negative_iou=negative_iou, best_for_each=False)
        chosen, negative = sample(found, max(0, count - len(people)), positive_fraction)
        person = torch.cat([torch.arange(len(people), device=candidates.device), found.person[chosen]])
        kept = torch.cat([people, candidates[chosen], candidates[negative]])
        target = kept.new_zeros((len(kept), 4))
        row_ids = torch.full((len(kept),), -1, dtype=torch.int64, device=kept.device)
        if len(person):
            target[: len(person)] = encode(people[person], kept[: len(person)], REFINE_WEIGHTS)
            row_ids[: len(person)] = person_ids[person]
        rois.append(kept)
        targets.append(target)
        positives.append(torch.arange(len(kept), device=kept.device) < len(person))
        ids.append(row_ids)
    return RoiSample(rois, torch.cat(positives), torch.cat(targets), torch.cat(ids))


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
