"""The pairing of rows with columns that gains most, exactly, with nothing but NumPy and lists.

The shortest augmenting path method of Jonker and Volgenant, "A shortest augmenting path algorithm for dense and
sparse linear assignment problems", Computing 38, 1987, in the rectangular form of Crouse, "On implementing 2D
rectangular assignment algorithms", 2016. Differs from them: the problem is first cut into parts that share no
possible pair. In a tracker nearly every part is a single pair, and the rest is too small for arrays to pay.
"""

from __future__ import annotations

import math

import numpy as np

from personsearch.core.detections import FloatArray


def most_gaining_pairs(gains: FloatArray) -> list[tuple[int, int]]:
    """The one-to-one pairs of rows and columns whose gains add up to the most.

    Args:
        gains: ``(N, M)``, finite; a pair without gain, 0 or below, is never made.

    Returns:
        Pairs ``(row, column)`` by row; rows and columns that are better left alone are in none.

    Raises:
        ValueError: a gain is not finite.
    """
    if not np.isfinite(gains).all():
        raise ValueError("gains must be finite")
    rows, columns = np.nonzero(gains > 0)
    pairs = []
    for part_rows, part_columns in _parts(rows.tolist(), columns.tolist()):
        if len(part_rows) == 1 or len(part_columns) == 1:
            part = gains[np.ix_(part_rows, part_columns)]
            row, column = divmod(int(np.argmax(part)), len(part_columns))
            pairs.append((part_rows[row], part_columns[column]))
            continue
        costs = -np.maximum(gains[np.ix_(part_rows, part_columns)], 0).astype(np.float64)
        flipped = len(part_rows) > len(part_columns)
        for row, column in enumerate(_assign((costs.T if flipped else costs).tolist())):
            pair = (part_rows[column], part_columns[row]) if flipped else (part_rows[row], part_columns[column])
            if gains[pair] > 0:
                pairs.append(pair)
    return sorted(pairs)


def _parts(rows: list[int], columns: list[int]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns of each connected part of the graph whose edges are ``rows[i]``, ``columns[i]``."""
    columns_of: dict[int, list[int]] = {}
    rows_of: dict[int, list[int]] = {}
    for row, column in zip(rows, columns, strict=True):
        columns_of.setdefault(row, []).append(column)
        rows_of.setdefault(column, []).append(row)
    parts = []
    seen_rows: set[int] = set()
    for first in columns_of:
        if first in seen_rows:
            continue
        seen_rows.add(first)
        part_rows, seen_columns = [first], dict[int, None]()
        for row in part_rows:  # grows while it is gone through
            for column in columns_of[row]:
                if column not in seen_columns:
                    seen_columns[column] = None
                    new = [other for other in rows_of[column] if other not in seen_rows]
                    seen_rows.update(new)
                    part_rows += new
        parts.append((sorted(part_rows), sorted(seen_columns)))
    return parts


def _assign(costs: list[list[float]]) -> list[int]:
    """The column of each row at the least total cost; no more rows than columns."""
    width = len(costs[0])
    # Dual prices: no cost is below the sum of its row's and its column's, and none is above it where they are paired.
    row_price, column_price = [min(row) for row in costs], [0.0] * width
    row_of, column_of = [-1] * width, [-1] * len(costs)
    for start in range(len(costs)):
        column, length, via, reached = _nearest_free_column(start, costs, row_price, column_price, row_of)
        row_price[start] += length
        for other, distance in reached:
            row_price[row_of[other]] += length - distance
            column_price[other] -= length - distance
        while column >= 0:
            row = via[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of


def _nearest_free_column(
    start: int, costs: list[list[float]], row_price: list[float], column_price: list[float], row_of: list[int]
) -> tuple[int, float, list[int], list[tuple[int, float]]]:
    """Dijkstra's algorithm from row ``start``, on costs above the prices.

    Returns:
        The column, its distance, the row before each column on the way, and the taken columns that are nearer, with
        their distances.
    """
    width = len(column_price)
    distances, via = [math.inf] * width, [-1] * width
    left = list(range(width))
    reached: list[tuple[int, float]] = []
    row, length = start, 0.0
    while True:
        row_costs, base = costs[row], length - row_price[row]
        nearest, best = math.inf, -1
        for column in left:
            reduced = base + row_costs[column] - column_price[column]
            if reduced < distances[column]:
                distances[column], via[column] = reduced, row
            # Among equals a free column ends the search.
            if distances[column] < nearest or (distances[column] == nearest and row_of[column] < 0 <= row_of[best]):
                nearest, best = distances[column], column
        length = nearest
        if row_of[best] < 0:
            return best, length, via, reached
        reached.append((best, length))
        left.remove(best)
        row = row_of[best]
