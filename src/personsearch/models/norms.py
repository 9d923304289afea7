"""What normalises a trunk's maps and a head's rows: the batch, frozen statistics, or groups of channels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from personsearch.core.student_trunk import NormKind

NormMaker = Callable[[int], nn.Module]
"""From a number of channels to a new norm."""
GROUPS = 32
"""Wu and He, "Group Normalization", ECCV 2018."""


class RowNorm(nn.BatchNorm1d):
    """Batch norm over the RoIs ``(R, C)`` of a batch, which may be none or a single one.

    Batch statistics of fewer than two rows do not exist: such a batch is normalised by the running statistics and
    leaves them as they are, where torch would stop.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) > 1:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def map_norm(kind: NormKind) -> NormMaker:
    """Norms of maps ``(B, C, h, w)``: group norm, or batch norm, which a trunk may freeze (`Trunk.freeze_norms`)."""
    return group_norm if kind == "group" else nn.BatchNorm2d


def row_norm(kind: NormKind) -> NormMaker:
    """Norms of rows ``(R, C)``: with ``group`` one group, that is layer norm, or batch norm over the rows.

    More groups would make the parts of a row equally long, and it is their lengths that tell people apart.
    """
    return _layer_norm if kind == "group" else RowNorm


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, fewer where less than two channels would be in one: a group of one forgets how strong it was."""
    return nn.GroupNorm(math.gcd(GROUPS, channels // 2) if channels % 2 == 0 else 1, channels)


def _layer_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)
