"""Which anchors may propose: those that score highest among their neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DROPPED = -1e4
"""A margin below every real one, finite in fp16."""


def peaks_only(margins: Tensor, map_hw: tuple[int, int], side: int) -> Tensor:
    """Margins with `DROPPED` in the place of every anchor that a neighbour of its own shape outscores.

    The anchors of one person score alike over many cells: the best hundred of a frame may all be of a few people, whom
    suppression then thins out to a few boxes, and everybody else has none. CenterNet (Zhou et al., Objects as Points,
    section 4) takes local maxima in the place of suppression; here they come before it, as anchors of other shapes
    still propose the same person.

    Args:
        margins: ``(B, h * w * S)`` in the order of `anchor_grid`, S shapes a cell.
        map_hw: h and w.
        side: of the window, in cells, odd; 1 changes nothing. Equal neighbours both stay.

    Returns:
        As ``margins``.
    """
    if side == 1:
        return margins
    grid = margins.reshape(len(margins), *map_hw, -1).permute(0, 3, 1, 2)  # (B, S, h, w)
    highest = F.max_pool2d(grid, side, stride=1, padding=side // 2)
    kept = torch.where(grid >= highest, grid, DROPPED)
    return kept.permute(0, 2, 3, 1).reshape(margins.shape)
