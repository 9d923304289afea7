"""Boxes that reach over the edge of their frame: cut there, and told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from personsearch.core.geometry import Boxes
from personsearch.data.index import Problem
from personsearch.data.sample import FloatArray, IntArray


def cut_at_frames(boxes_xyxy: Boxes, frame_wh: IntArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Boxes cut at the edges of each one's frame.

    Args:
        boxes_xyxy: ``(N, 4)`` source pixels.
        frame_wh: ``(N, 2)``; 0, 0 where unknown, then only the left and the upper edge count.

    Returns:
        ``(N, 4)`` float32 boxes, and ``(N,)`` which of them have an area left.
    """
    limit = np.where(frame_wh > 0, frame_wh, np.inf)
    cut = np.clip(boxes_xyxy, 0, np.concatenate([limit, limit], axis=1)).astype(np.float32)
    inside: NDArray[np.bool_] = np.all(cut[:, 2:] > cut[:, :2], axis=1)
    return cut, inside


def edge_problems(file: str, boxes_xyxy: Boxes, cut_xyxy: FloatArray, inside: NDArray[np.bool_]) -> list[Problem]:
    """What `cut_at_frames` changed, as problems of the file that states the boxes."""
    problems = []
    changed = int((inside & (boxes_xyxy.astype(np.float32) != cut_xyxy).any(axis=1)).sum())
    if changed:
        problems.append(Problem("noted", file, "boxes reach over an edge of their frame", "cut there", changed))
    if not inside.all():
        problems.append(
            Problem(
                "dropped", file, "boxes have no area in their frame", "correct or remove them", int((~inside).sum())
            )
        )
    return problems
