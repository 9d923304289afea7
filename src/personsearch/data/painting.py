"""Pasting cut-outs on a canvas, with everything that would give a paste away also done to what is no person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from personsearch.data.sample import Frame

FloatImage = NDArray[np.float32]
NOBODY = -1


@dataclass(frozen=True, eq=False)
class Patch:
    """Something to paste.

    Attributes:
        bgr: ``(h, w, 3)`` float32, 0..255.
        alpha: ``(h, w)`` float32, 0..1.
        surround_bgr: ``(3,)`` mean colour of what lay around it where it came from.
    """

    bgr: FloatImage
    alpha: FloatImage
    surround_bgr: NDArray[np.float32]

    def extent(self) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom of the part that shows, in the patch's pixels; none where nothing shows."""
        rows = np.flatnonzero((self.alpha > 0.5).any(axis=1))
        columns = np.flatnonzero((self.alpha > 0.5).any(axis=0))
        if not len(rows):
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class Finish:
    """How a patch meets its surroundings; drawn alike for people and for what is none.

    Attributes:
        softness: factor by which detail is reduced before pasting, at least 1.
        feather_px: standard deviation of the blur of the edge.
        edge: shift of the edge in alpha, negative is tighter.
        tone: 0 keeps the patch's colours, 1 takes over the light of the place.
        contrast: factor around the patch's mean.
        shadow: darkness of the contact shadow, 0..1.
    """

    softness: float
    feather_px: float
    edge: float
    tone: float
    contrast: float
    shadow: float

    @classmethod
    def draw(cls, softness: float, rng: np.random.Generator) -> Finish:
        """A finish for one patch in an image whose own detail is reduced by ``softness``."""
        draws = rng.random(6)
        return cls(
            softness=max(1.0, softness * (0.6 + 0.9 * draws[0])),
            feather_px=0.3 + 0.9 * draws[1] ** 2,
            edge=-0.25 + 0.3 * draws[2],
            tone=0.4 + 0.55 * draws[3],
            contrast=0.75 + 0.35 * draws[4],
            shadow=0.0 if draws[5] < 0.25 else 0.7 * draws[5],
        )


def scaled_patch(bgr: Frame, alpha: Frame, target_wh: tuple[int, int], finish: Finish) -> Patch:
    """A cut-out resized, softened and feathered.

    Args:
        bgr: ``(H, W, 3)`` uint8.
        alpha: ``(H, W)`` uint8.
        target_wh: size on the canvas, pixels.
        finish: see `Finish`.
    """
    outside = (alpha < 8).astype(np.uint8)
    surround = np.array(cv2.mean(bgr, outside if outside.any() else None)[:3], dtype=np.float32)
    stacked = np.dstack([bgr, alpha])
    shrinks = target_wh[0] < bgr.shape[1]
    coarse_wh = (max(2, round(target_wh[0] / finish.softness)), max(4, round(target_wh[1] / finish.softness)))
    resized: Any = cv2.resize(stacked, coarse_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if coarse_wh != target_wh:
        resized = cv2.resize(resized, target_wh, interpolation=cv2.INTER_LINEAR)
    pixels = resized.astype(np.float32)
    edge = cv2.GaussianBlur(pixels[..., 3], (0, 0), finish.feather_px) * np.float32(1 / 255)
    return Patch(pixels[..., :3], np.clip(edge + finish.edge * 4 * edge * (1 - edge), 0, 1), surround)


class Canvas:
    """An image in the making, and who owns each of its pixels.

    Args:
        image_bgr: ``(H, W, 3)`` uint8; painted on.

    Attributes:
        owner: ``(H, W)`` int16, the number of the paste that shows, `NOBODY` for the background, -2 for a
            paste without number.
    """

    def __init__(self, image_bgr: Frame) -> None:
        self.image_bgr = image_bgr
        self.owner = np.full(image_bgr.shape[:2], NOBODY, dtype=np.int16)

    def _overlap(self, left: int, top: int, width: int, height: int) -> tuple[slice, slice, slice, slice] | None:
        """Rows and columns on the canvas, then on the patch; none where they do not meet."""
        canvas_h, canvas_w = self.image_bgr.shape[:2]
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, canvas_w), min(top + height, canvas_h)
        if x1 >= x2 or y1 >= y2:
            return None
        return slice(y1, y2), slice(x1, x2), slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)

    def paste(self, patch: Patch, left: int, top: int, finish: Finish, owner: int) -> None:
        """Blends ``patch`` in, its top left corner at ``(left, top)``; it may reach over the edges."""
        height, width = patch.alpha.shape
        place = self._overlap(left, top, width, height)
        if place is None:
            return
        rows, columns, patch_rows, patch_columns = place
        region = self.image_bgr[rows, columns]
        bgr, alpha = patch.bgr[patch_rows, patch_columns], patch.alpha[patch_rows, patch_columns]
        local = np.array(cv2.mean(region)[:3], dtype=np.float32)
        # The light changes by what lies around, so clothes keep their colour relative to it.
        gain = np.clip((local + 25) / (patch.surround_bgr + 25), 0.3, 2.2) ** np.float32(finish.tone)
        mean = np.array(cv2.mean(bgr)[:3], dtype=np.float32) * gain
        toned = (bgr * gain - mean) * np.float32(finish.contrast) + mean
        blended = region + alpha[..., None] * (toned - region)
        self.image_bgr[rows, columns] = np.clip(blended, 0, 255).astype(np.uint8)
        self.owner[rows, columns][alpha > 0.5] = owner

    def shade(self, centre_xy: tuple[float, float], radius_xy: tuple[float, float], strength: float) -> None:
        """Darkens a soft ellipse: a contact shadow."""
        if strength <= 0 or min(radius_xy) < 1:
            return
        left, top = int(centre_xy[0] - 2 * radius_xy[0]), int(centre_xy[1] - 2 * radius_xy[1])
        width, height = int(4 * radius_xy[0]), int(4 * radius_xy[1])
        place = self._overlap(left, top, width, height)
        if place is None:
            return
        rows, columns, patch_rows, patch_columns = place
        dark = np.asarray(cv2.resize(_BLOB, (width, height)))[patch_rows, patch_columns, None]
        region = self.image_bgr[rows, columns]
        self.image_bgr[rows, columns] = (region * (1 - np.float32(strength) * dark)).astype(np.uint8)


def _blob() -> FloatImage:
    axis = np.linspace(-2, 2, 32, dtype=np.float32)
    blob: FloatImage = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2)) * (np.hypot(axis[:, None], axis[None, :]) < 2)
    return blob.astype(np.float32)


_BLOB = _blob()


def shape_mask(kind: str, target_wh: tuple[int, int], rng: np.random.Generator) -> Frame:
    """``(h, w)`` uint8 alpha of an occluder: ``block``, ``pole`` or ``bush``."""
    width, height = target_wh
    mask = np.zeros((height, width), dtype=np.uint8)
    if kind == "bush":
        for _ in range(int(rng.integers(4, 9))):
            centre = (int(rng.uniform(0.25, 0.75) * width), int(rng.uniform(0.3, 0.8) * height))
            radius = (max(1, int(rng.uniform(0.15, 0.35) * width)), max(1, int(rng.uniform(0.15, 0.35) * height)))
            cv2.ellipse(mask, centre, radius, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        return mask
    tilt = rng.uniform(-0.06, 0.06) * width if kind == "block" else rng.uniform(-0.3, 0.3) * width
    corners = np.array([[2 + tilt, 2], [width - 2 + tilt, 2], [width - 2, height - 2], [2, height - 2]])
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    return mask
