"""Draws shaded solids of revolution with depth: the one primitive of people, poles, bins and tree trunks.

A solid has an axis between two points of the image, a half width along it and an elliptic cross-section turned about
it. Each covered pixel's surface point follows in closed form, so that cloth patterns turn with the body, normals give
shading and depths let limbs pass in front of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from personsearch.data.synthetic.texture import F32, Floats

Paint = Callable[[F32, F32], F32]
Colour = tuple[float, float, float]
_TABLE = 192


@dataclass(frozen=True)
class Light:
    """Where light comes from, in view axes (right, down, towards the camera), and how strong it is."""

    direction: tuple[float, float, float]
    ambient: float
    diffuse: float


@dataclass(frozen=True)
class Solid:
    """A solid of revolution.

    Attributes:
        start: x, y in canvas pixels and height towards the viewer in the same unit.
        end: as ``start``; for an upright part this is the lower end.
        profile: pairs of position along the axis and half width, both in pixels; positions ascend, and may lie
            before 0 and behind the axis' end, where caps are.
        paint: gives ``(N, 3)`` BGR 0..1 for positions along the axis (metres from the start) and angles about it
            (radians, 0 is the front, positive to the person's right); or one colour.
        flatness: depth of the cross-section over its width.
        yaw: how far the front is turned from facing the viewer, radians.
        px_per_m: scale, for the paint's metres.
        folds: strength of the folds of cloth, 0 for none.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    profile: Sequence[tuple[float, float]]
    paint: Paint | Colour
    px_per_m: float
    flatness: float = 1.0
    yaw: float = 0.0
    folds: float = 0.0

    def bounds(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in canvas pixels that hold the solid, not tight."""
        reach = max(radius for _, radius in self.profile) * max(1.0, self.flatness)
        length = float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))
        reach = float(max(reach, -self.profile[0][0], self.profile[-1][0] - length)) + 1
        xs, ys = (self.start[0], self.end[0]), (self.start[1], self.end[1])
        return min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach


class Canvas:
    """Colour, coverage and depth of what was drawn so far."""

    def __init__(self, width: int, height: int) -> None:
        self.bgr: F32 = np.zeros((height, width, 3), np.float32)
        self.covered = np.zeros((height, width), bool)
        self._depth: F32 = np.full((height, width), -1e9, np.float32)

    def draw(self, solid: Solid, light: Light) -> None:
        """Draws ``solid`` where it is nearer to the viewer than what is there."""
        surface = _surface(solid, *self.covered.shape)
        if surface is None:
            return
        visible = surface.depth > self._depth[surface.rows, surface.columns]
        if not visible.any():
            return
        rows, columns, angle = surface.rows[visible], surface.columns[visible], surface.angle[visible]
        metres = surface.along[visible] * np.float32(1 / solid.px_per_m)
        cos_angle, sin_angle = np.cos(angle), np.sin(angle)
        cos_yaw, sin_yaw = float(np.cos(solid.yaw)), float(np.sin(solid.yaw))
        normal_side = cos_angle * cos_yaw + sin_angle * (sin_yaw / solid.flatness)
        normal_near = sin_angle * (cos_yaw / solid.flatness) - cos_angle * sin_yaw
        shade = _shade(normal_side, normal_near, -surface.slope[visible], surface.axis, light)
        # Angle 0 is the front from here on, wrapped to -pi..pi.
        front = np.mod(angle + np.float32(np.pi / 2), np.float32(2 * np.pi)) - np.float32(np.pi)
        if solid.folds:
            wave = np.sin(metres * 41 + 2.2 * np.sin(front * 3 + metres * 9))
            shade *= (1 + solid.folds * wave).astype(np.float32)
        colour = solid.paint(metres, front) if callable(solid.paint) else np.asarray(solid.paint, np.float32)
        self._depth[rows, columns] = surface.depth[visible]
        self.covered[rows, columns] = True
        self.bgr[rows, columns] = colour * shade[:, None]


@dataclass(frozen=True)
class _Surface:
    """The pixels that a solid covers and, for each, the surface point seen there; ``angle`` is pi/2 in front."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    along: F32
    angle: F32
    slope: F32
    depth: F32
    axis: tuple[float, float]


def _surface(solid: Solid, height: int, width: int) -> _Surface | None:
    x1, y1, x2, y2 = solid.bounds()
    left, top = max(0, int(x1)), max(0, int(y1))
    right, bottom = min(width, int(x2) + 2), min(height, int(y2) + 2)
    if left >= right or top >= bottom:
        return None
    reach = (solid.end[0] - solid.start[0], solid.end[1] - solid.start[1])
    length = float(np.hypot(*reach))
    axis = (reach[0] / length, reach[1] / length) if length > 1e-3 else (0.0, 1.0)
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - solid.start[0])
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - solid.start[1])
    along = x * np.float32(axis[0]) + y * np.float32(axis[1])
    across = x * np.float32(axis[1]) - y * np.float32(axis[0])
    radii, slopes, first, step = _tables(solid.profile)
    index = np.clip((along - np.float32(first)) * np.float32(1 / step), 0, _TABLE - 1).astype(np.int32)
    cos_yaw, sin_yaw = float(np.cos(solid.yaw)), float(np.sin(solid.yaw))
    half_width = radii[index] * np.float32(np.hypot(cos_yaw, solid.flatness * sin_yaw))
    rows, columns = np.nonzero(np.abs(across) < half_width)
    if not rows.size:
        return None
    # The visible half of the ellipse: the angle whose projection is the pixel, on the viewer's side.
    turned = np.float32(np.arctan2(solid.flatness * sin_yaw, cos_yaw))
    angle = np.asarray(turned + np.arccos(across[rows, columns] / half_width[rows, columns]), np.float32)
    index, along = index[rows, columns], along[rows, columns]
    rise = (solid.end[2] - solid.start[2]) / max(length, 1.0)
    depth = radii[index] * (np.sin(angle) * (solid.flatness * cos_yaw) - np.cos(angle) * sin_yaw)
    depth = np.asarray(depth + np.float32(solid.start[2]) + along * np.float32(rise), np.float32)
    return _Surface(rows + top, columns + left, along, angle, slopes[index], depth, axis)


def _tables(profile: Sequence[tuple[float, float]]) -> tuple[F32, F32, float, float]:
    positions, radii = np.array(profile, dtype=np.float64).T
    samples = np.linspace(positions[0], positions[-1], _TABLE)
    table = np.interp(samples, positions, radii)
    step = max(float(samples[1] - samples[0]), 1e-6)
    slopes = np.clip(np.gradient(table, step), -3, 3)
    # Outside the solid the clipped index lands on these ends.
    table[0] = table[-1] = 0
    return table.astype(np.float32), slopes.astype(np.float32), float(positions[0]), step


def _shade(side: Floats, near: Floats, along: F32, axis: tuple[float, float], light: Light) -> F32:
    size = np.hypot(side, near)
    length = np.hypot(np.float32(1), along)
    across = side / size
    # `across` points along (axis_y, -axis_x), `along` along the axis.
    right = (across * axis[1] + along * axis[0]) / length
    down = (along * axis[1] - across * axis[0]) / length
    facing_viewer = near / size / length
    to_right, to_down, to_near = light.direction
    facing = right * to_right + down * to_down + facing_viewer * to_near
    # Half-wrapped Lambert: the sky lights what the sun does not reach; the ground darkens what looks down.
    diffuse = np.clip(0.25 + 0.75 * facing, 0, None)
    shade = light.ambient * (0.86 - 0.22 * down + 0.14 * facing_viewer) + light.diffuse * diffuse
    return np.asarray(shade, np.float32)


def capsule(length_px: float, start_radius: float, end_radius: float, middle: float = 0.0) -> list[tuple[float, float]]:
    """Profile of a limb: round caps, tapering; ``middle`` widens it halfway (a calf), all in pixels."""
    caps = ((1.0, 0.0), (0.96, 0.28), (0.8, 0.6), (0.5, 0.866), (0.0, 1.0))
    profile = [(-start_radius * back, start_radius * width) for back, width in caps]
    if length_px > 1e-3:
        profile.append((length_px * 0.4, (start_radius + end_radius) / 2 + middle))
        profile += [(length_px + end_radius * back, end_radius * width) for back, width in reversed(caps)]
    return profile


def lathe(length_px: float, scale_px: float, outline: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Profile from fractions of the length and half widths in any unit of ``scale_px`` pixels."""
    return [(share * length_px, radius * scale_px) for share, radius in outline]
