"""Where people can stand in a picture, and how tall they are there.

A level camera at height c above flat ground sees the ground's points at distance d at ``f c / d`` rows below its
horizon and someone of height m as ``f m / d`` rows: a person's height in pixels is ``m / c`` times the distance of
the feet from the horizon. Hoiem et al., "Putting objects in perspective", CVPR 2006, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.data.sample import FloatArray

PERSON_M = 1.7
# What people stand for a fitted line is too uncertain beyond these.
_MIN_PEOPLE, _RISES, _MAX_MISFIT = 5, (0.08, 4.0), 0.25


@dataclass(frozen=True)
class Perspective:
    """A camera's view of flat ground.

    Attributes:
        horizon_y: row of the horizon, pixels; may lie above the picture.
        rise: a person's pixels for each pixel of the feet below the horizon.
    """

    horizon_y: float
    rise: float

    def height_at(self, feet_y: float) -> float:
        """Pixels of a person of `PERSON_M` whose feet are at row ``feet_y``; not positive above the horizon."""
        return self.rise * (feet_y - self.horizon_y)

    def feet_of(self, height_px: float) -> float:
        """Row of the feet of a person of `PERSON_M` who measures ``height_px``."""
        return self.horizon_y + height_px / self.rise

    def seen_through(self, top: float, scale: float) -> Perspective:
        """The same in a window whose first row was row ``top``, magnified by ``scale``."""
        return Perspective((self.horizon_y - top) * scale, self.rise)


def fit_perspective(boxes_xyxy: FloatArray) -> Perspective | None:
    """The perspective in which the boxes of whole standing people agree.

    Args:
        boxes_xyxy: ``(N, 4)`` pixels of one still camera.

    Returns:
        None where there are few of them, or they do not lie near one plane.
    """
    feet, heights = boxes_xyxy[:, 3].astype(np.float64), (boxes_xyxy[:, 3] - boxes_xyxy[:, 1]).astype(np.float64)
    if len(feet) < _MIN_PEOPLE or np.ptp(feet) < 0.5 * np.median(heights):
        return None
    design = np.stack([feet, np.ones_like(feet)], axis=1)
    weights = np.ones_like(feet)
    rise, offset = 0.0, 0.0
    for _ in range(8):
        # Iterated weights: people who sit or whose feet are hidden must not tilt the plane.
        (rise, offset), *_ = np.linalg.lstsq(design * weights[:, None], heights * weights, rcond=None)
        misfit = np.abs(design @ (rise, offset) - heights) / heights
        weights = 1 / np.maximum(misfit, 0.02)
    if not _RISES[0] <= rise <= _RISES[1] or float(np.median(misfit)) > _MAX_MISFIT:
        return None
    return Perspective(-offset / rise, rise)


def horizon_of_ground(ground: NDArray[np.bool_]) -> float | None:
    """Row at which the ground of a label map ends; none where the map shows hardly any ground.

    The furthest ground that a map marks is still below the horizon, by little where a street is open.
    """
    rows = ground.sum(axis=1)
    seen = np.flatnonzero(rows >= max(2, 0.01 * ground.shape[1]))
    if len(seen) < 0.1 * len(rows):
        return None
    return float(seen[0]) - 0.02 * len(rows)


def bottom_of_things(things: NDArray[np.bool_]) -> NDArray[np.int16]:
    """For each pixel of a thing the row where it ends below, in its column; -1 where there is nothing.

    Who stands above that row on the picture stands behind the thing.

    Args:
        things: ``(H, W)`` what can hide somebody.
    """
    height, width = things.shape
    ends = np.full((height, width), -1, dtype=np.int16)
    below = np.full(width, -1, dtype=np.int16)
    for row in range(height - 1, -1, -1):
        below = np.where(things[row], np.where(below < 0, row, below), -1).astype(np.int16)
        ends[row] = below
    return ends
