"""A fixed camera: a pinhole whose axis is level, with the principal point moved up instead of a tilt.

Such a lens shift keeps verticals vertical, as surveillance and architecture lenses do, and makes the projection of
the ground exact in two lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from personsearch.core.seeding import rng_for

REFERENCE_STATURE_M = 1.75


@dataclass(frozen=True)
class Camera:
    """Looks along +Z over the ground ``Y = 0``; X is to the right, Y up, metres; pixels as in a frame.

    Attributes:
        frame_wh: frame size, pixels.
        focal_px: focal length, pixels.
        height_m: of the lens over the ground.
        horizon_y: image row of the horizon (it can lie above the frame).
        near_m: nearest Z at which people walk; their feet are just inside the frame.
        far_m: farthest Z at which people walk.
    """

    frame_wh: tuple[int, int]
    focal_px: float
    height_m: float
    horizon_y: float
    near_m: float
    far_m: float

    def project(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel coordinates of points in metres; every ``z`` positive."""
        depth = np.asarray(z, dtype=np.float64)
        column = self.frame_wh[0] / 2 + self.focal_px * np.asarray(x) / depth
        row = self.horizon_y + self.focal_px * (self.height_m - np.asarray(y)) / depth
        return column, row

    def scale(self, z: float) -> float:
        """Pixels for one metre at depth ``z``."""
        return self.focal_px / z

    def ground_x(self, column: float, z: float) -> float:
        """X in metres of the ground point at depth ``z`` that is seen in a column."""
        return (column - self.frame_wh[0] / 2) * z / self.focal_px


def draw_camera(seed: int, name: str, frame_wh: tuple[int, int]) -> Camera:
    """The camera called ``name``: the same place and lens at whatever resolution.

    A person of average stature is 60 px (of a 224 px frame) high at the far end and 120 to 175 px at the near end.
    """
    rng = rng_for(seed, "camera", name)
    unit = frame_wh[1] / 224
    tallest = float(rng.uniform(120, 175)) * unit
    shortest = 60 * unit
    horizon = float(rng.uniform(4, 52)) * unit
    focal = float(rng.uniform(0.85, 1.35)) * frame_wh[0]
    height = REFERENCE_STATURE_M * (frame_wh[1] * 0.975 - horizon) / tallest
    return Camera(
        frame_wh,
        focal,
        height,
        horizon,
        near_m=focal * REFERENCE_STATURE_M / tallest,
        far_m=focal * REFERENCE_STATURE_M / shortest,
    )
