"""What normalises a trunk's maps and a head's rows: the batch, frozen statistics, or groups of channels."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from personsearch.core.student_trunk import NormKind

NormMaker = Callable[[int], nn.Module]
"""From a number of channels to a new norm."""
GROUPS = 32
"""Wu and He, "Group Normalization", ECCV 2018."""


def map_norm(kind: NormKind) -> NormMaker:
    """Norms of maps ``(B, C, h, w)``: group norm, or batch norm, which a trunk may freeze (`Trunk.freeze_norms`)."""
    return group_norm if kind == "group" else nn.BatchNorm2d


def row_norm(kind: NormKind) -> NormMaker:
    """Norms of rows ``(R, C)``: with ``group`` one group, that is layer norm, or batch norm over the rows.

    More groups would make the parts of a row equally long, and it is their lengths that tell people apart.
    """
    return _layer_norm if kind == "group" else nn.BatchNorm1d


def group_norm(channels: int) -> nn.GroupNorm:
    """32 groups, fewer where less than two channels would be in one: a group of one forgets how strong it was."""
    return nn.GroupNorm(math.gcd(GROUPS, channels // 2) if channels % 2 == 0 else 1, channels)


def _layer_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)
