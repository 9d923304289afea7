"""Whether rows stand in the paper's order, and whether the seeds are enough to say that they do not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import combinations

from pydantic import Field

from personsearch.core.recipe import StrictModel


class Spread(StrictModel):
    """One figure over the seeds of a row."""

    mean: float
    std: float | None = Field(description="sample standard deviation; none for one seed")
    low: float
    high: float
    seeds: int


class Swap(StrictModel):
    """Two rows that stand the other way round than in the paper."""

    above: str = Field(description="the row that the paper has above")
    below: str
    apart: bool = Field(description="the ranges of their seeds, two at least, do not overlap")


class Order(StrictModel):
    """The order of rows by one figure, beside the paper's."""

    metric: str
    kendall_tau: float = Field(description="(pairs as in the paper - pairs swapped) / pairs, over those it tells apart")
    pairs: int
    swaps: tuple[Swap, ...]

    @property
    def differs(self) -> tuple[Swap, ...]:
        """Swaps that the spread of the seeds does not explain."""
        return tuple(swap for swap in self.swaps if swap.apart)


def spread_of(values: Sequence[float]) -> Spread | None:
    """Mean and spread of a figure's values, one a seed; none of no values."""
    if not values:
        return None
    return Spread(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        low=min(values),
        high=max(values),
        seeds=len(values),
    )


def compare_order(metric: str, paper: Mapping[str, float], found: Mapping[str, Spread]) -> Order | None:
    """The order of the rows that both have; none where the paper tells no two of them apart.

    Args:
        metric: what the figures are.
        paper: printed figure by row, larger is better.
        found: measured figure by row.
    """
    swaps, as_printed, pairs = [], 0, 0
    for one, other in combinations([name for name in paper if name in found], 2):
        if paper[one] == paper[other]:
            continue
        pairs += 1
        above, below = (one, other) if paper[one] > paper[other] else (other, one)
        if found[above].mean > found[below].mean:
            as_printed += 1
        elif found[above].mean < found[below].mean:
            enough = found[above].seeds > 1 and found[below].seeds > 1
            swaps.append(Swap(above=above, below=below, apart=enough and found[above].high < found[below].low))
    if not pairs:
        return None
    tau = (as_printed - len(swaps)) / pairs
    return Order(metric=metric, kendall_tau=tau, pairs=pairs, swaps=tuple(swaps))
