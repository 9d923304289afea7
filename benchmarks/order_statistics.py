"""Percentiles, and how far they can be trusted, without an assumption about the distribution of times.

The interval of a percentile is that of order statistics: of n independent values the number below the true
q-percentile is binomial (n, q), so two of the sorted values enclose it with a known confidence, whatever the
distribution (David and Nagaraja, Order Statistics, section 7.1). Values that drift together are not independent; the
spread between processes, told beside it, is what shows that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from personsearch.core.recipe import StrictModel

CONFIDENCE = 0.95


class Quantile(StrictModel):
    """A percentile of measured values, and the interval that holds the true one in 95 of 100 measurements."""

    value: float
    low: float | None = Field(description="none: too few values to bound it from below")
    high: float | None = Field(description="none: too few values to bound it from above")


def quantile(values: Sequence[float], share: float, confidence: float = CONFIDENCE) -> Quantile:
    """The percentile ``share`` as a value that occurred (nearest rank above), with its interval.

    Args:
        values: at least one.
        share: in (0, 1); 0.9 is p90.
        confidence: of the two-sided interval; each side misses by at most half of the rest.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("a percentile of no values")
    ordered = np.sort(np.asarray(values, np.float64))
    low, high = ranks(len(ordered), share, confidence)
    return Quantile(
        value=float(np.percentile(ordered, 100 * share, method="higher")),
        low=None if low is None else float(ordered[low - 1]),
        high=None if high is None else float(ordered[high - 1]),
    )


def ranks(count: int, share: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Ranks, from 1, of the sorted values that enclose the percentile; none where there is no such value.

    The lower is the largest l with P(B < l) <= (1 - confidence) / 2, the upper the smallest u with P(B < u) >=
    (1 + confidence) / 2, for B binomial (count, share).
    """
    if count < 1 or not 0 < share < 1 or not 0 < confidence < 1:
        raise ValueError(f"{count} values, share {share}, confidence {confidence}")
    below = np.concatenate([[0.0], np.cumsum(_binomial(count, share))])  # below[r] = P(B < r), r from 0 to count + 1
    miss = (1 - confidence) / 2
    low = int(np.searchsorted(below, miss, side="right")) - 1
    high = int(np.searchsorted(below, 1 - miss, side="left"))
    return low if low >= 1 else None, high if high <= count else None


def needed(share: float, confidence: float = CONFIDENCE) -> int:
    """Values from which on the percentile is bounded from above: 6 for p50, 36 for p90, 368 for p99."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(share))


def ratio(first: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE) -> Quantile:
    """How many times faster ``other`` is than ``first``: the median of ratios of turns that stood side by side.

    What the machine did to both in a turn cancels out in its ratio, which is why these are not medians divided.

    Args:
        first: milliseconds of each turn.
        other: of the same turns.
        confidence: of the interval.

    Raises:
        ValueError: different numbers of turns, or none.
    """
    if len(first) != len(other):
        raise ValueError(f"{len(first)} turns beside {len(other)}")
    return quantile([one / two for one, two in zip(first, other, strict=True)], 0.5, confidence)


def _binomial(count: int, share: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Probabilities of 0 to ``count``; in logarithms, as the coefficients of a thousand values overflow."""
    log_factorial = np.cumsum(np.log(np.maximum(np.arange(count + 1), 1)))
    number = np.arange(count + 1)
    log_ways = log_factorial[-1] - log_factorial - log_factorial[::-1]
    return np.asarray(np.exp(log_ways + number * math.log(share) + (count - number) * math.log1p(-share)))
